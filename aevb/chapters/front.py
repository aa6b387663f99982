"""Figures and tables of the chapter on the front page."""

"""Figures and tables of the chapter on the published curves, examined."""

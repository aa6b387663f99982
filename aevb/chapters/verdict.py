"""Figures and tables of the chapter on the verdict."""

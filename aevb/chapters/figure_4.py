"""Figures and tables of the chapter on figure 4."""

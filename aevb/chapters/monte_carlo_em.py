"""Figures and tables of the chapter on Monte Carlo EM."""

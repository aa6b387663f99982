"""Figures and tables of the chapter on full variational Bayes at full length."""

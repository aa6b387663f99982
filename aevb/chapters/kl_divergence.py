"""Figures and tables of the chapter on the KL divergence."""

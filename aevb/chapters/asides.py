"""Figures and tables of the chapter on the paper's asides."""

"""Figures and tables of the chapter on what the paper does not say."""

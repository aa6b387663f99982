"""Figures and tables of the chapter on one digit, carried through."""

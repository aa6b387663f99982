"""Figures and tables of the chapter on the SGVB estimators."""

"""Figures and tables of the chapter on wake-sleep."""

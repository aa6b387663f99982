"""Figures and tables of the chapter on the estimator of Appendix D."""

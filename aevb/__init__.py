"""Auto-Encoding Variational Bayes (Kingma and Welling, arXiv:1312.6114), reproduced.

One idea per module; each imports only those before it: files, arithmetic, checks, data, networks, model, bounds,
objectives, hmc, mcem, full_vb, marginal_likelihood, optimizer, measures, colours, algorithms, run, trainer, ensemble,
fit, curves, settings, readings, experiments, provenance, results, grid, recording, verdicts, leads, rules, claims,
plots, widgets, site, guard, kernels, book, execution, pages, suite, terminal.
"""

"""Auto-Encoding Variational Bayes (Kingma and Welling, arXiv:1312.6114), reproduced.

One idea a module; each imports only those before it: files, arithmetic, checks, data, networks, model, bounds,
objectives, hmc, mcem, full_vb, marginal_likelihood, optimizer, ensemble, training, curves, results, experiments,
readings, claims, plots, widgets, site, guard, kernels, book, execution, pages, suite, terminal.
"""

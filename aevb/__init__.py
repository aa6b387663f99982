"""Auto-Encoding Variational Bayes (Kingma and Welling, arXiv:1312.6114): the library.

The core, which knows of no figure. `aevb.reproduction` reproduces the paper with it, `aevb.book` makes
the book, and `aevb.chapters` draws for its chapters.
One idea per module; each imports only those before it: files, checks, batches, data, networks, model, datasets,
own_data, bounds, objectives, importance, flows, backward, priors, weighted_kl, aggregated, hmc, mcem, full_vb,
densities, marginal_likelihood, gaps, flow_gaps, optimizer, measures, colours, algorithms, run, trainer, ensemble, fit.
"""

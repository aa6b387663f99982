"""What one chapter alone draws and tabulates, a module per chapter, so that its cells hold the mathematics.

The modules, in the order of the book:
front, one_digit, the_problem, variational_bound, sgvb_estimators, reparameterization, vae, kl_divergence, mlps,
wake_sleep, marginal_likelihood, monte_carlo_em, full_vb, figure_2, figure_3, figure_4, figure_5, verdict, readings,
appendix_d_estimator, full_vb_at_last, published_curves, asides, authors_curves, speed, notation,
overfitting, where_the_gap_is, more_samples, a_better_q, a_better_prior, explore_the_manifold, train_in_the_page.
"""

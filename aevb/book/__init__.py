"""The making of the book.

One idea per module; each imports the core, the reproduction and only those before it: widgets, diagram, choices,
sources, api, extension, train, guard, kernels, notebooks, density, execution, refresh, pages, suite, terminal.
"""

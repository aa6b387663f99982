"""The making of the book.

One idea per module; each imports the core, the reproduction and only those before it: widgets, choices, sources,
api, extension, guard, kernels, notebooks, density, execution, refresh, pages, suite, terminal.
"""

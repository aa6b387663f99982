"""The book: how its chapters are executed, compared and built into pages, and what a reader can drag in them.

One idea per module; each imports the core, the reproduction and only those before it: widgets, sources, api,
extension, guard, kernels, notebooks, execution, pages, suite, terminal.
"""

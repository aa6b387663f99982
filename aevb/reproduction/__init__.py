"""The reproduction: the paper's experiments, their results, and the verdicts on its claims.

One idea per module; each imports the core and only those before it: checkout, arithmetic, settings, curves, readings,
effects, after, experiments, provenance, stored, results, burda, grid, recording, verdicts, leads, rules, claims,
figures, tables, training.
"""

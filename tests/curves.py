"""Curves written out: of figure 2 by the bound at a few samples, of figure 3 by where they end."""

import pandas as pd

from aevb.reproduction.curves import FIGURE_2, FIGURE_3, Curves, concat


def curve(algorithm, bounds, split="test", latent_dim=3, dataset="mnist", **more):
    """`bounds` maps samples to the bound."""
    name = {"dataset": dataset, "latent_dim": latent_dim, "algorithm": algorithm, "split": split, **more}
    rows = [{**name, "samples": samples, "bound": bound} for samples, bound in bounds.items()]
    return Curves(pd.DataFrame(rows), FIGURE_2)


def both(aevb, wake_sleep, **name):
    return concat([curve("aevb", aevb, **name), curve("wake-sleep", wake_sleep, **name)])


def likelihoods(**ends):
    """Test curves of figure 3, straight lines in log samples, that end at the values given, `algorithm_n_train`."""
    rows = []
    for name, end in ends.items():
        algorithm, n_train = name.rsplit("_", 1)
        for samples, value in ((1e6, end - 10), (1e7, end)):
            rows.append((int(n_train), algorithm.replace("_", "-"), "test", samples, value))
    columns = ["n_train", "algorithm", "split", "samples", "log_px"]
    return Curves(pd.DataFrame(rows, columns=columns), FIGURE_3)


def changed(curves, **columns):
    """The same curves with other columns."""
    return Curves(curves.table.assign(**columns), curves.kind)

"""Figures and tables of the chapter on overfitting with few latents."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aevb.colours import BLUE, GREY
from aevb.reproduction.curves import COMPARABLE_FROM, Curves, values_at
from aevb.reproduction.figures import SPLITS
from aevb.reproduction.settings import FIGURE2


def differences(published: Curves, ours: Curves, latent_dims: tuple[int, ...]) -> Figure:
    """Our AEVB minus the published curve on MNIST, in nats per datapoint: a panel per latent dimension.

    One line per seed, test solid and train dashed; the band is what `settings.FIGURE2` counts as met.
    """
    figure, axes = plt.subplots(1, len(latent_dims), figsize=(8.5, 3.0), sharey=True)
    for axis, latent_dim in zip(axes, latent_dims, strict=True):
        where: dict[str, Any] = {"dataset": "mnist", "algorithm": "aevb", "latent_dim": latent_dim}
        allowed = FIGURE2["mnist"].nats
        axis.axhspan(-allowed, allowed, color=GREY, alpha=0.2, linewidth=0)
        for split in SPLITS:
            _difference(axis, published.select(**where, split=split), ours.select(**where, split=split), split)
        axis.set(xscale="log", xlabel="samples", title=f"{latent_dim} latents")
    axes[0].set_ylabel("ours minus published, nats")
    axes[-1].legend()
    return figure


def _difference(axis: Axes, published: Curves, ours: Curves, split: str) -> None:
    theirs, first = published.mean(), True
    for _, part in ours.seeds():
        curve = part.mean()
        curve = curve[curve.index >= COMPARABLE_FROM]
        label = split if first else None
        axis.plot(curve.index, curve - values_at(theirs, curve.index), SPLITS[split], color=BLUE, label=label)
        first = False

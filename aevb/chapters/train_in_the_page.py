"""The figure of the page on which readers train: the library's runs on the digits that the page carries."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from aevb.book import train
from aevb.colours import BLUE, GREY, ORANGE
from aevb.reproduction import results
from aevb.reproduction.settings import PAGE_HIDDEN, PAGE_LATENT_DIMS

UNTIL = 1e6  # samples


def on_ten_thousand_digits() -> Figure:
    """Draw AEVB's training bound on 10,000 digits, five seeds, over the paper's curves and the record's."""
    ours, record = results.recorded("ten-thousand-digits"), train.curves_of_record()
    published = results.published("figure2")
    figure, axes = plt.subplots(1, len(PAGE_LATENT_DIMS), figsize=(10.0, 3.3), sharey=True, layout="constrained")
    for axis, latent_dim in zip(axes, PAGE_LATENT_DIMS, strict=True):
        where: dict[str, Any] = {"dataset": "mnist", "algorithm": "aevb", "latent_dim": latent_dim}
        if len(paper := published.select(split="train", until=UNTIL, **where)):
            axis.plot(paper.mean(), color=GREY, linewidth=5, alpha=0.4, label="the paper")
        if len(recorded := record.select(split="running", until=UNTIL, **where)):
            axis.plot(recorded.mean(), color="black", linewidth=1, label="50,000 digits, 500 units")
        for hidden, colour in zip(PAGE_HIDDEN, (ORANGE, BLUE), strict=True):
            part = ours.select(split="running", hidden=hidden, **where)
            seeds = part.table.groupby("samples")[part.kind.value]
            label = f"10,000 digits, {hidden} units"
            axis.fill_between(seeds.min().index, seeds.min(), seeds.max(), color=colour, alpha=0.6, label=label)
        axis.set(xscale="log", ylim=(-220, -90), title=f"{latent_dim} latents", xlabel="training samples")
    axes[0].set_ylabel("training bound (nats)")
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    return figure

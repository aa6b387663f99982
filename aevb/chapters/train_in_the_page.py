"""The figure of the page on which readers train: the library's runs on the digits that the page carries."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from aevb.book.train import Train
from aevb.colours import BLUE, GREY, ORANGE
from aevb.reproduction import figures
from aevb.reproduction.settings import PAGE_HIDDEN, PAGE_LATENT_DIMS


def at_rest(panel: Train) -> Figure:
    """Draw what the panel shows of its algorithm before anybody trains: the paper, the record, the seeds' ranges."""
    figures.use_style()
    shown = [curves for curves in panel.curves if curves["algorithm"] == panel.algorithm]
    figure, axes = plt.subplots(1, len(PAGE_LATENT_DIMS), figsize=(10.0, 3.3), sharey=True, layout="constrained")
    for axis, curves in zip(axes, shown, strict=True):
        paper, record = curves["paper"], curves["record"]
        axis.plot(paper["samples"], paper["mean"], color=GREY, linewidth=5, alpha=0.4, label="the paper")
        axis.plot(record["samples"], record["mean"], color="black", linewidth=1, label="50,000 digits, 500 units")
        for hidden, colour in zip(PAGE_HIDDEN, (ORANGE, BLUE), strict=True):
            seeds, label = curves["ours"][str(hidden)], f"10,000 digits, {hidden} units"
            axis.fill_between(seeds["samples"], seeds["low"], seeds["high"], color=colour, alpha=0.6, label=label)
        axis.set(xscale="log", ylim=(-220, -90), title=f"{curves['latents']} latents", xlabel="training samples")
    axes[0].set_ylabel("training bound (nats)")
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    return figure

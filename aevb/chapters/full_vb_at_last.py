"""Figures and tables of the chapter on full variational Bayes at full length."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from torch import Tensor

from aevb.colours import BLUE, GREY, ORANGE
from aevb.reproduction import figures
from aevb.reproduction.curves import Curves
from aevb.reproduction.tables import markdown_table

# the tensors of the decoder, by what they connect
TITLES = {
    "hidden.weight": "latents to hidden units",
    "hidden.bias": "biases of hidden units",
    "logit.weight": "hidden units to pixels",
    "logit.bias": "biases of pixels",
}
LINES = {"aevb": "MAP (AEVB)", "full-vb": "full VB"}
Pairs = Mapping[tuple[int, str], float]  # by size of the training set and algorithm
Tensors = Mapping[int, Mapping[str, Tensor]]  # by size of the training set and name: means, deviations, divergences


def constant_image(images: Tensor) -> float:
    """The log-likelihood of `images` `(N, D)` under one mean per pixel, fitted to them, in nats per image."""
    mean = images.double().mean(0)
    return float((torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean)).sum())


def overfitting_table(at_end: pd.Series, best: Pairs) -> Markdown:
    """The bound at the end, and by how much the test bound fell from its `best`, in nats; then full VB minus MAP.

    `at_end` is the bound there by size of the training set, algorithm and split.
    """
    rows: list[tuple] = []
    for n in at_end.index.unique(0):
        for algorithm, name in LINES.items():
            train, test = at_end[n, algorithm, "train"], at_end[n, algorithm, "test"]
            values = train, test, train - test, best[n, algorithm], best[n, algorithm] - test
            rows.append((f"{n:,}", name, *(f"{value:.1f}" for value in values)))
        ahead = (at_end[n, "full-vb", "test"] - at_end[n, "aevb", "test"], best[n, "full-vb"] - best[n, "aevb"])
        at_last, at_best = (f"{value:+.1f}" for value in ahead)
        rows.append((f"{n:,}", "full VB minus MAP", "", at_last, "", at_best, ""))
    header = ["digits", "nats per digit", "train", "test", "train minus test", "best test", "fell since"]
    return markdown_table(header, rows)


def settings_table(tried: pd.DataFrame) -> Markdown:
    """The trial of the settings of full VB: per training set the bound on log p(X)/N, and that of test digits, in nats.

    `tried` has a row per size of the training set, step size and initial sigma, and a column per split.
    """
    sizes = tried.index.unique("n_train")
    rows = [
        (step, sigma, *(f"{tried.loc[(n, step, sigma), split]:.0f}" for n in sizes for split in ("evidence", "test")))
        for step, sigma in tried.index.droplevel("n_train").unique()
    ]
    measured = [f"{split}, {n:,}" for n in sizes for split in ("log p(X)/N", "test")]
    return markdown_table(["step size", "initial sigma", *measured], rows)


def bounds(recorded: Curves, live: Curves) -> None:
    """Draw the bound of MAP and full VB against training samples, a panel for each training set; dots are live."""
    _, axes = plt.subplots(1, 2, figsize=(9.2, 3.9), sharey=True)
    for axis, n in zip(axes, (1000, 50_000), strict=True):
        for algorithm, name in LINES.items():
            colour = figures.COLOURS[algorithm]
            for split, line in figures.SPLITS.items():
                points = recorded.select(n_train=n, algorithm=algorithm, split=split).mean()
                label = f"{name}, {split}" if n == 1000 else None
                axis.plot(points, line, color=colour, label=label, **figures.SOURCES["recorded"])
            now = live.select(n_train=n, algorithm=algorithm, split="test").mean()
            axis.plot(now, "o", color=colour, markersize=3.2)
        axis.set(xscale="log", xlim=(2e4, None), ylim=(-220, -100), xlabel="training samples seen")
        axis.set_title(f"$N$ = {n:,}")
    axes[0].set_ylabel("bound (nats per digit)")
    axes[0].legend(loc="lower right")
    plt.show()


def evidence(recorded: Curves, constant: Mapping[int, float]) -> None:
    """Draw the bound on log p(X)/N and its data term, in nats per digit; `constant` is the constant image's."""
    _, axes = plt.subplots(1, 2, figsize=(9.2, 3.9), sharey=True)
    colour = figures.COLOURS["full-vb"]
    for axis, (n, level) in zip(axes, constant.items(), strict=True):
        of_n = recorded.select(n_train=n, algorithm="full-vb")
        term, bound = (of_n.select(split=split).mean() for split in ("data", "evidence"))
        axis.plot(term, "--", color=colour, label="data term")
        axis.plot(bound, color=colour, label="bound on $\\log p(X)/N$")
        axis.fill_between(term.index, bound, term, color=colour, alpha=0.15, label="price")
        axis.axhline(level, color=GREY, linestyle=":", label="constant image")
        axis.set(xscale="log", xlim=(2e4, None), ylim=(-420, -100), xlabel="training samples seen")
        axis.set_title(f"$N$ = {n:,}")
    axes[0].set_ylabel("nats per digit")
    axes[0].legend(loc="lower right")
    plt.show()


def tensors_table(posterior: Tensors, keeps: float) -> Markdown:
    """What a weight of each tensor costs, in nats, how wide q is, and how many weights cost less than `keeps`."""
    rows = []
    for name, title in TITLES.items():
        _, sigmas, costs = zip(*(tensors[name] for tensors in posterior.values()), strict=True)
        kl = (f"{cost.mean():.2f}" for cost in costs)
        median = (f"{sigma.median():.2f}" for sigma in sigmas)
        kept = (f"{(cost < keeps).float().mean():.0%}" for cost in costs)
        rows.append((title, f"{costs[0].numel():,}", *kl, *median, *kept))
    header = [f"{what}, {n:,}" for what in ("KL of each", "median sigma", "keep the prior") for n in posterior]
    return markdown_table(["parameters", "number", *header], rows)


def widths(posterior: Tensors, initial: Mapping[int, float]) -> None:
    """Draw a histogram of the standard deviations of each tensor, a panel for each training set."""
    bins = np.geomspace(2e-3, 1.5, 60)
    _, axes = plt.subplots(1, 2, figsize=(9.2, 3.6), sharex=True)
    for axis, (n, tensors) in zip(axes, posterior.items(), strict=True):
        for name, (_, sigma, _) in tensors.items():
            counts, _ = np.histogram(sigma.flatten(), bins)
            axis.stairs(counts / sigma.numel(), bins, label=TITLES[name], linewidth=1.3)
        axis.axvline(1, color="black", linestyle=":", linewidth=1)
        axis.axvline(initial[n], color="black", linestyle="--", linewidth=1)
        axis.set(xscale="log", xlabel="$\\sigma$", yticks=[], title=f"$N$ = {n:,}")
    axes[0].legend(loc="upper left", fontsize=8)
    plt.show()


def units(posterior: Tensors, off: float) -> None:
    """Draw the cost of each hidden unit, incoming against outgoing, and of the weights into each pixel, in nats."""
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.3), width_ratios=(1.35, 1, 1))
    for (n, tensors), colour, axis in zip(posterior.items(), (ORANGE, BLUE), axes[1:], strict=True):
        kl = {name: tensor[2] for name, tensor in tensors.items()}
        incoming, outgoing = kl["hidden.weight"].sum(1) + kl["hidden.bias"], kl["logit.weight"].sum(0)
        axes[0].scatter(incoming, outgoing, s=12, color=colour, label=f"$N$ = {n:,}")
        of_pixels = kl["logit.weight"].sum(1) + kl["logit.bias"]
        image = axis.imshow(of_pixels.view(28, 28), vmin=0)
        axis.set_title(f"$N$ = {n:,}")
        axis.axis("off")
        figure.colorbar(image, ax=axis, shrink=0.75)
    axes[0].set(yscale="log", xlabel="incoming (nats)", ylabel="outgoing (nats)")
    axes[0].axhline(off, color="black", linestyle=":", linewidth=1)
    axes[0].legend(loc="lower right")
    plt.show()


def held(
    fell: Pairs, closed: Mapping[int, float], evidences: Mapping[int, float], tolerance: float
) -> list[tuple[str, str, str]]:
    """The rows of the closing box, all in nats per digit.

    `fell` is by how much the test bound fell from its best, `closed` full VB minus MAP at the best of each, `evidences`
    the bound on log p(X)/N.
    """
    falls = f"1,000 digits: test falls by {fell[1000, 'full-vb']:.1f} nats, MAP's by {fell[1000, 'aevb']:.1f}"
    ahead, bound = (
        "; ".join(f"{n:,} digits: {value:{form}} nats" for n, value in values.items())
        for values, form in ((closed, "+.1f"), (evidences, ".0f"))
    )
    return [
        (
            "future work: VB of $\\theta$ (sec. 7)",
            "it trains",
            "price of the weights: between the record's at half and at twice the samples",
        ),
        ("(ours) it memorises less", falls, "2 nats"),
        ("(ours) its bound on test digits is higher, at each one's best", ahead, f"{tolerance:.0f} nats, one seed"),
        ("a bound on $\\log p(X)/N$ (eq. 24)", bound, "one draw of $\\theta$"),
    ]

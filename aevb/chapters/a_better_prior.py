"""Figures and tables of the chapter on priors and bent objectives."""

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure
from torch import Tensor

from aevb.aggregated import Surgery, log_aggregated
from aevb.chapters import more_samples
from aevb.chapters.where_the_gap_is import by_place, in_order, spread, table_of_methods
from aevb.colours import BLUE, GREEN, GREY, ORANGE
from aevb.model import VAE
from aevb.reproduction import claims
from aevb.reproduction.figures import COLOURS, NAMES, levels
from aevb.reproduction.tables import markdown_table

SHARES = (0.5, 0.9)  # of the prior's mass within its contours


@torch.no_grad()
def beside(models: dict[str, VAE], x: Tensor) -> Figure:
    """The aggregated posterior of `x` `(N, D)`, dark where it is high, and contours of the prior: a panel per model.

    The models have two latents; each panel shows where nearly all of both densities is.
    """
    figure, axes = plt.subplots(1, len(models), figsize=(9.6, 3.4))
    for axis, (name, model) in zip(axes, models.items(), strict=True):
        noise = torch.Generator().manual_seed(0)
        z = torch.cat(
            [model.sample_joint(2000, generator=noise)[1], model.sample_posterior(x, 1, generator=noise)[0][0]]
        )
        low, high = (z.quantile(q, 0) for q in (0.002, 0.998))
        across, up = (torch.linspace(a, b, 150) for a, b in zip(low.tolist(), high.tolist(), strict=True))
        grid = torch.cartesian_prod(across, up)
        q, p = (
            torch.softmax(log, 0).view(150, 150).T
            for log in (log_aggregated(model, x, grid), model.log_prior(grid[None])[0])
        )
        extent = low[0].item(), high[0].item(), low[1].item(), high[1].item()
        axis.imshow(q.sqrt(), origin="lower", extent=extent, aspect="auto", cmap="Greys")
        axis.contour(across, up, p, levels=levels(p, SHARES), colors=COLOURS[name], linewidths=1.4)
        axis.set(title=NAMES[name], xlabel="$z_1$")
        axis.grid(visible=False)
    axes[0].set_ylabel("$z_2$")
    return figure


def surgery_table(found: dict[str, Surgery], still: dict[str, float]) -> Markdown:
    """The rate of each model and its two parts, nats per digit, and the share of hidden units that stand still."""
    rows = [
        (NAMES[name], *(f"{round(v, 2) + 0.0:.2f}" for v in (s.rate, s.information, s.marginal)), f"{still[name]:.0%}")
        for name, s in found.items()
    ]
    return markdown_table(["prior", "rate", "information", "q(z) to p(z)", "units still"], rows)


def collapse(found: dict[float, Tensor], variances: Tensor, noise: float) -> Figure:
    """The divergence of each latent by beta, trained (dots), over the closed form log(variance / (beta noise)) / 2."""
    figure, axis = plt.subplots(figsize=(6.2, 3.2))
    betas = torch.logspace(-0.5, 1.5, 200)
    for latent, (variance, colour) in enumerate(zip(variances.tolist(), (BLUE, ORANGE, GREEN), strict=True)):
        line = (0.5 * (variance / (betas * noise)).log()).clamp(min=0)
        axis.plot(betas, line, color=colour, label=f"eigenvalue {variance:g}")
        axis.plot(list(found), [kl[latent].item() for kl in found.values()], "o", color=colour)
    axis.set(xscale="log", xlabel=r"$\beta$", ylabel="divergence of a latent (nats)")
    axis.legend()
    return figure


def methods_table(accounts: pd.DataFrame) -> Markdown:
    """log p(x), both gaps and the rate with its parts, of each method on test digits; means over seeds, half ranges."""
    columns = ["log p(x)", "amortization", "family", "rate", "marginal"]
    rows = [
        (*place, f"`{name}` ({_seeds(part)})", *(spread(part[column]) for column in columns))
        for *place, name, part in by_place(accounts)
    ]
    return markdown_table(["digits", "samples", "trained by (seeds)", *columns[:-1], "q(z) to p(z)"], rows)


def every_method() -> Markdown:
    """What was recorded of each method of Part V on test digits: means over seeds and half their range, nats.

    AEVB is that of the chapter on the gap; the one that was trained beside the priors has its row in `methods_table`.
    """
    columns = ["log p(x)", "bound", "amortization", "family"]
    parts = claims.recorded_accounts()
    parts["after-priors"] = parts["after-priors"].drop(index="aevb", level="algorithm")
    accounts = pd.concat(part[columns].xs("test", level="split", drop_level=False) for part in parts.values())
    return table_of_methods(accounts, dict.fromkeys(columns, 1))


def _seeds(part: pd.DataFrame) -> str:
    """The number of seeds, and of how many log p(x) is known where that is not all."""
    known = part["log p(x)"].count()
    return f"{len(part)}" if known == len(part) else f"{len(part)}, log p(x) of {known}"


def rates(accounts: pd.DataFrame) -> Figure:
    """The rate of each method in its two parts, means over seeds: a panel per training set, at its first place."""
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.2), sharex=True, sharey=True)
    names = in_order(accounts)[::-1]
    for axis, (n_train, part) in zip(axes, accounts.groupby("n_train"), strict=True):
        samples = part.index.get_level_values("samples").min()
        found = part.xs(samples, level="samples").groupby("algorithm")[["information", "marginal"]].mean()
        found = found.reindex(names)
        axis.barh(range(len(names)), found["information"], color=[COLOURS[name] for name in names])
        axis.barh(range(len(names)), found["marginal"], left=found["information"], color=GREY, alpha=0.4, hatch="//")
        axis.set_yticks(range(len(names)), [NAMES[name] for name in names])
        axis.set(title=f"{n_train:,} training digits, {samples:,} samples", xlabel="nats per digit")
    return figure


def leads(accounts: pd.DataFrame) -> Figure:
    """`more_samples.leads` over AEVB, with few ticks, for leads that differ much."""
    figure = more_samples.leads(accounts)
    for axis in figure.axes:
        axis.locator_params(axis="x", nbins=6)
    return figure

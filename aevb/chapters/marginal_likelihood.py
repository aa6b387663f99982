"""Figures and tables of the chapter on the marginal likelihood."""

import math

import matplotlib.pyplot as plt
import torch
from IPython.display import Markdown
from matplotlib.axes import Axes
from torch import Tensor

from aevb import hmc
from aevb.colours import BLUE, GREEN, GREY, ORANGE, SKY
from aevb.model import VAE
from aevb.reproduction import figures, tables


def _effective_draws(times: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    """The effective sample size of z^2 out of 1000 draws from a standard normal in one dimension, `(T,)`.

    Trajectories of four leapfrog steps last `times` `(T,)`, one datapoint each; step sizes vary by `jitter`.
    """

    def normal(z: Tensor) -> Tensor:
        return -0.5 * z.square().sum(-1)

    state = hmc.init(normal, torch.randn(10, len(times), 1, generator=generator, dtype=torch.float64))
    draws = []
    for _ in range(100):
        state, _ = hmc.step(normal, state, times / 4, 4, generator=generator, jitter=jitter)
        draws.append(state.z)
    return hmc.effective_sample_size(torch.stack(draws).square())[:, 0]


def closed_orbits(times: Tensor, generator: torch.Generator) -> None:
    """Draw effective draws of z^2 out of 1000 against trajectories' `times` `(T,)`, step sizes fixed and varied."""
    _, axis = plt.subplots(figsize=(6, 3))
    for jitter, colour, label in ((0.0, ORANGE, "one step size"), (hmc.JITTER, BLUE, "varied")):
        axis.plot(times / math.pi, _effective_draws(times, jitter, generator), color=colour, label=label)
    axis.set(xlabel=r"trajectory time, in units of $\pi\sigma$", ylabel="effective draws of 1000", yscale="log")
    axis.legend()
    plt.show()


def diagnostics(draws: hmc.Draws) -> Markdown:
    """The table of the draws' diagnostics: the median over datapoints, and the middle nine tenths of them."""
    n_draws, n_chains, n_datapoints = draws.z.shape[:3]
    rows = []
    for name, values, shown in (
        ("acceptance", draws.acceptance, 2),
        (f"effective sample size out of {n_draws * n_chains}", draws.ess, 0),
        ("split R-hat", draws.split_rhat, 2),
    ):
        low, middle, high = (f"{v:.{shown}f}" for v in values.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist())
        rows.append((name, middle, f"{low} to {high}"))
    rows.append(("divergences, in all", f"{draws.divergences.sum():.0f}", ""))
    return tables.markdown_table([f"{n_datapoints} digits", "median", "5 to 95 % of digits"], rows)


def posterior_chains(model: VAE, x: Tensor, draws: hmc.Draws, chosen: list[int]) -> None:
    """Draw p(z|x) of the `chosen` of the digits `x` `(M, D)`, a chain in it, and the encoder's q.

    `draws` are those of all M digits, with two latents. The chain is the first one's start, q is shown at two standard
    deviations.
    """
    digits, z, split_rhat = x[chosen], draws.z[:, :, chosen], draws.split_rhat[chosen]
    _, axes = plt.subplots(1, len(chosen), figsize=(9.6, 2.7))
    angles = torch.linspace(0, 2 * math.pi, 100)
    circle = torch.stack([torch.cos(angles), torch.sin(angles)])
    mu, log_var = model.posterior(digits)
    for i, axis in enumerate(axes):
        _density(axis, model, digits[i], z[:, :, i].flatten(0, 1))
        axis.plot(*z[:25, 0, i].T, "o-", color=BLUE, markersize=2.5, linewidth=0.7)
        axis.plot(*(mu[i, :, None] + 2 * torch.exp(0.5 * log_var[i, :, None]) * circle), color=ORANGE, linewidth=1.2)
        axis.set(xlabel="$z_1$", title=f"R-hat {split_rhat[i]:.2f}")
        figures.show_images(axis.inset_axes((0.02, 0.72, 0.26, 0.26)), digits[i : i + 1], 1, "mnist")
    axes[0].set_ylabel("$z_2$")
    plt.show()


def _density(axis: Axes, model: VAE, x: Tensor, cloud: Tensor) -> None:
    """The exact posterior of `x` `(D,)` on a lattice around the draws `cloud` `(n, 2)`."""
    centre = (cloud.amax(0) + cloud.amin(0)) / 2
    line = torch.linspace(-1, 1, 160) * 0.8 * (cloud.amax(0) - cloud.amin(0)).max()
    z = centre + torch.cartesian_prod(line, line)
    table = model.log_likelihood_table(x[None], z)[:, 0] + model.log_prior(z)
    density = torch.softmax(table, 0).reshape(160, 160).T
    levels = figures.levels(density, (0.5, 0.95))
    across, up = line + centre[0], line + centre[1]
    (left, right), (bottom, top) = across[[0, -1]].tolist(), up[[0, -1]].tolist()
    axis.imshow(density, origin="lower", extent=(left, right, bottom, top), cmap="Greys", aspect="auto")
    axis.contour(across, up, density, levels=levels, colors=GREY, linewidths=0.7)
    axis.set(xlim=(left, right), ylim=(bottom, top))
    axis.grid(False)


def against_quadrature(errors: dict[str, Tensor]) -> Markdown:
    """The table of each estimate's errors against quadrature, `(n,)` nats per digit."""
    return tables.markdown_table(
        ["minus quadrature, nats", "digits", "mean", "spread", "largest"],
        [
            (name, len(error), f"{error.mean():+.2f}", f"{error.std():.2f}", f"{error.abs().max():.1f}")
            for name, error in errors.items()
        ],
    )


def errors(found: dict[str, Tensor], bound: Tensor) -> None:
    """Draw histograms of the first three of `found`, and of the lower bound, each minus exact log p(x), nats."""
    panels = [*zip(found, found.values(), (BLUE, SKY, GREEN), strict=False)]
    panels.append(("lower bound (eq. 10)", bound, ORANGE))
    edges = torch.linspace(-6, 1.5, 61).tolist()
    _, axes = plt.subplots(len(panels), 1, figsize=(6.5, 4.6), sharex=True)
    for axis, (name, error, colour) in zip(axes, panels, strict=True):
        axis.hist(error.clamp(-6, 1.5).tolist(), bins=edges, color=colour)
        axis.axvline(0, color=GREY, linewidth=0.8)
        axis.text(0.01, 0.8, f"{name}: mean {error.mean():+.2f}", transform=axis.transAxes)
        axis.set_yticks([])
    axes[-1].set_xlabel("estimate minus exact log p(x), nats")
    plt.show()

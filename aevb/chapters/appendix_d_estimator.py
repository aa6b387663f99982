"""Figures and tables of the chapter on the estimator of Appendix D, and the estimator on draws that are kept.

Settings of the estimator are rows of a table indexed by density, number of samples and J, the latent dimensions.
"""

import math
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib.axes import Axes
from torch import Tensor

from aevb import hmc
from aevb.colours import BLUE, GREEN, GREY, ORANGE
from aevb.densities import DENSITIES
from aevb.marginal_likelihood import BATCH, Estimate, quadrature
from aevb.model import VAE, LatentVariableModel, LinearGaussian
from aevb.reproduction import figures, rules, tables

GOOD_RMS, GOOD_MEAN = rules.RELIABLE_WITHIN, 0.1  # nats
COLOURS = {"kernel": BLUE, "gaussian": ORANGE}
NAMES = {"kernel": "kernel", "gaussian": "Gaussian"}
STYLES = {50: "-", 200: "--", 500: ":", 1000: "-."}  # of lines, by samples
LIMIT, SIZE = 8.0, 321  # of the lattice in two dimensions: half its width, and points along an axis


def two_sets(
    model: LatentVariableModel, x: Tensor, n_samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws for the fit and draws for the mean, each `(T, 5, M, J)`, and log p(x, z) `(T, 5, M)` of the latter, nats.

    They are what `appendix_d` draws: `n_samples` in each set, by five chains per datapoint.
    """
    parts, n_draws = [], n_samples // 5
    for some in x.split(BATCH):
        log_joint = hmc.posterior(model, some)
        state = hmc.init(log_joint, hmc.start(model, some, 5, generator=generator))
        state, size = hmc.tune(log_joint, state, 4, 25, generator=generator)
        state, first = hmc.sample(log_joint, state, size, 4, n_draws, generator=generator)
        _, second = hmc.sample(log_joint, state, size, 4, n_draws, generator=generator)
        parts.append((first.z, second.z, second.log_density))
    z_fit, z_mean, log_density = (torch.cat(tensors, 2) for tensors in zip(*parts, strict=True))
    return z_fit, z_mean, log_density


def from_sets(first: Tensor, second: Tensor, log_joint: Tensor, density: str) -> tuple[Tensor, Tensor]:
    """Of `two_sets`, the estimate of log p(x) and its standard error, by the spread of chains, each `(M,)`, nats."""
    log_q = DENSITIES[density](first.flatten(0, 1), second.flatten(0, 1))
    log_r = log_q.view_as(log_joint) - log_joint
    of_chain = torch.logsumexp(log_r, 0) - math.log(len(log_r))
    log_mean = torch.logsumexp(of_chain, 0) - math.log(5)
    return -log_mean, torch.exp(of_chain - log_mean).std(0) / math.sqrt(5)


def errors(
    model: LatentVariableModel, x: Tensor, exact: Tensor, n_samples: int, generator: torch.Generator
) -> list[tuple[str, int, int, Tensor, Tensor]]:
    """Per density, on the same draws: the setting, the errors from `exact` and the stated errors, each `(M,)`, nats."""
    sets = two_sets(model, x, n_samples, generator)
    found = [(density, *from_sets(*sets, density)) for density in DENSITIES]
    return [(density, n_samples, model.latent_dim, estimate - exact, stated) for density, estimate, stated in found]


def lattice_error(model: VAE, x: Tensor, exact: Tensor, points: int) -> Tensor:
    """The error `(M,)` of `exact`, quadrature of `x` `(M, D)` on `points` per axis over [-LIMIT, LIMIT], nats.

    Half the difference from the lattice shifted by half a spacing along each axis, which reverses the sign of the
    leading error of a trapezoid sum.
    """
    moved = quadrature(model, x, points=points + 1, limit=LIMIT + LIMIT / (points - 1))
    return (exact - moved.log_px) / 2


def ratios(density: str, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """log of q(u) / N(u; 0, I) at `second`, with q fitted to `first`, each `(n, M, J)`: `(n, M)`; and of its mean."""
    log_p = -0.5 * (second.square() + math.log(2 * math.pi)).sum(-1)
    log_r = DENSITIES[density](first, second) - log_p
    return log_r, torch.logsumexp(log_r, 0) - math.log(len(second))


def independent(density: str, size: tuple[int, int, int], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The estimator on independent draws u ~ N(0, I) of `size` (samples n, repeats M, dimensions J).

    Its errors and stated errors, each `(M,)` nats, and the share of each term in the mean, `(n, M)`.
    """
    u = torch.randn((2, *size), generator=generator, dtype=torch.float64)
    log_r, log_mean = ratios(density, *u)
    stated = torch.exp(log_r - log_mean).std(0) / math.sqrt(size[0])
    return -log_mean, stated, torch.softmax(log_r, 0)


def linear_model(latent_dim: int, generator: torch.Generator) -> LinearGaussian:
    """A linear-Gaussian model of 20 observed dimensions, its weights drawn from N(0, 1), with s = 0.7."""
    W = torch.randn(20, latent_dim, generator=generator, dtype=torch.float64)
    return LinearGaussian(W, torch.zeros(20, dtype=torch.float64), s=0.7).requires_grad_(False)


def stretch(model: LinearGaussian) -> float:
    """The widest standard deviation of the model's posterior over the narrowest."""
    covariance = model.exact_posterior(torch.zeros(1, 20, dtype=torch.float64))[1]
    widths = torch.linalg.eigvalsh(covariance).sqrt()
    return (widths[-1] / widths[0]).item()


def settings(found: list[tuple[str, int, int, Tensor, Tensor]]) -> pd.DataFrame:
    """The table of settings, indexed by density, samples and J: bias and rms of all errors `found` for one, nats."""
    parts: dict[tuple[str, int, int], list[Tensor]] = {}
    for density, samples, J, error, stated in found:
        parts.setdefault((density, samples, J), []).append(torch.stack([error, stated]))
    index = pd.MultiIndex.from_tuples(parts, names=["density", "samples", "J"])
    return pd.DataFrame([_summary(*torch.cat(part, 1)) for part in parts.values()], index).sort_index()


def _summary(error: Tensor, stated: Tensor) -> dict[str, float]:
    squares, root = error.square(), math.sqrt(len(error))
    rms = squares.mean().sqrt()
    return {
        "bias": error.mean().item(),
        "error of mean": error.std().item() / root,
        "rms": rms.item(),
        "error of rms": (squares.std() / (2 * rms * root)).item(),
        "ratio": (stated.square().mean().sqrt() / rms).item(),
    }


def good_up_to(table: pd.DataFrame, rms: float = GOOD_RMS) -> int:
    """The largest J up to which a setting's errors, indexed by J, never fail: `rms` and `GOOD_MEAN`, nats."""
    passes = (table["rms"] <= rms) & (table["bias"].abs() <= GOOD_MEAN)
    failed = passes.index[~passes]
    return max(int(J) for J in (0, *table.index) if not (failed <= J).any())


def ranked(chains: pd.DataFrame, draws: pd.DataFrame) -> Markdown:
    """The table of settings, the best first, by the chains' and by independent `draws`."""
    rows = []
    for (density, n), part in chains.groupby(level=[0, 1]):
        part = part.droplevel([0, 1])
        asked = [good_up_to(part, rms) for rms in (GOOD_RMS / 2, GOOD_RMS, 2 * GOOD_RMS)]
        alone = good_up_to(draws.loc[density, n]) if (density, n) in draws.index.droplevel("J") else ""
        name = f"{NAMES[density]}, {n}" + " (paper)" * ((density, n) == ("kernel", 50))
        rows.append((name, asked[1], asked[0], asked[2], alone, f"{part['rms'].loc[10]:.2f}"))
    rows.sort(key=lambda row: (-row[1], float(row[5])))
    quarter, two = f"{GOOD_RMS / 2:.2f} nats", f"{2 * GOOD_RMS:.0f} nat"
    header = ["q, samples", "good up to J", quarter, two, "independent", "rms, J = 10"]
    return tables.markdown_table(header, rows)


def _dimension_axes(width: float, height: float) -> tuple[Axes, Axes]:
    _, (left, right) = plt.subplots(1, 2, figsize=(width, height))
    for axis in (left, right):
        axis.set(xlabel="latent dimensions", xticks=[1, 5, 10, 15, 20])
    return left, right


def by_dimension(chains: pd.DataFrame) -> None:
    """Draw the rms error and the mean error of all settings against J, what is good shaded."""
    left, right = _dimension_axes(9.2, 3.8)
    for density, n in sorted(set(chains.index.droplevel("J")), key=lambda s: (s[0] != "kernel", s[1])):
        part = chains.loc[density, n]
        style: dict[str, Any] = {"color": COLOURS[density], "linestyle": STYLES[n], "label": f"{NAMES[density]}, {n}"}
        if (density, n) == ("kernel", 50):
            style |= {"linewidth": 2.8, "marker": "o", "label": "kernel, 50 (paper)"}
        left.plot(part.index, part["rms"], **style)
        right.plot(part.index, part["bias"], **style)
    left.axhspan(1e-3, GOOD_RMS, color=GREEN, alpha=0.12, linewidth=0)
    right.axhspan(-GOOD_MEAN, GOOD_MEAN, color=GREEN, alpha=0.12, linewidth=0)
    left.set(yscale="log", ylim=(2e-3, 5), ylabel="rms error (nats)")
    right.set(ylabel="mean error (nats)")
    right.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), title="$q$, samples")
    plt.show()


def chain_and_independent(chains: pd.DataFrame, draws: pd.DataFrame) -> None:
    """Draw the errors of 50 samples from a chain and of 50 independent ones against J, and the derived line."""
    left, right = _dimension_axes(9.2, 3.8)
    for density, colour in COLOURS.items():
        for table, line, source in ((chains, "-", "chain"), (draws, "--", "independent")):
            part = table.loc[density, 50]
            style: dict[str, Any] = {"color": colour, "linestyle": line, "marker": ".", "markersize": 6}
            left.plot(part.index, part["rms"], **style)
            right.plot(part.index, part["bias"], label=f"{NAMES[density]}, {source}", **style)
    J = torch.arange(1, 21)
    left.plot(J, torch.sqrt(J * (J + 3) / 2) / 50, color=GREY, linewidth=1, label="derived, Gaussian $q$")
    left.set(yscale="log", ylabel="rms error (nats)")
    left.legend(loc="lower right")
    right.set(ylabel="mean error (nats)")
    right.legend(loc="upper left")
    plt.show()


def terms_and_errors(terms: dict[tuple[int, str, int], float], chains: pd.DataFrame, draws: pd.DataFrame) -> None:
    """Draw the effective `terms` out of 50, by samples, density and J, and the stated error over the true one."""
    left, right = _dimension_axes(8.6, 3.5)
    for density, colour in COLOURS.items():
        of_density = {J: number for (n, name, J), number in terms.items() if (n, name) == (50, density)}
        left.plot(list(of_density), list(of_density.values()), ".-", color=colour, label=NAMES[density])
        for table, line, source in ((chains, "-", "chain"), (draws, "--", "independent")):
            part = table.loc[density, 50]["ratio"]
            right.plot(part, line, marker=".", color=colour, label=f"{NAMES[density]}, {source}")
    left.set(ylim=(0, 52), ylabel="effective terms out of 50")
    right.axhline(1, color=GREY, linewidth=0.8)
    right.set(ylim=(0, 1.1), ylabel="stated over true error")
    left.legend()
    right.legend(loc="lower left")
    plt.show()


def digit_by_digit(difference: dict[int, Tensor]) -> None:
    """Draw histograms of the estimates minus quadrature, `(n,)` nats per number of latents."""
    _, axes = plt.subplots(1, len(difference), figsize=(8.6, 3.0), sharey=True)
    for axis, (latent_dim, error) in zip(axes, difference.items(), strict=True):
        low, mid, high = error.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
        axis.hist(error.clamp(min=-2).tolist(), bins=torch.linspace(-2, 1.5, 71).tolist())
        axis.axvline(0, color=GREY, linewidth=0.8)
        axis.set(title=f"{latent_dim} latents", xlabel="estimate minus quadrature (nats)")
        text = f"mean {error.mean():+.2f}\nmedian {mid:+.2f}\ns.d. {error.std():.2f}\n"
        text += f"90 % in {low:+.2f} to {high:+.2f}\nlowest {error.min():.1f}"
        axis.text(0.04, 0.95, text, transform=axis.transAxes, va="top")
    axes[0].set_ylabel("digits")
    plt.show()


def _error_of_shares(table: Tensor, draws: Tensor) -> float:
    """-log of the sum of a_k^2 / w_k: the error where chains are divided among modes otherwise than the mass, nats.

    `table` `(SIZE, SIZE)` is log p(x, z) on the lattice; w are the masses of its modes, found by walking uphill from
    every point; a are the shares of `draws` `(n, 2)`.
    """
    uphill = torch.nn.functional.max_pool2d(table[None, None], 3, 1, 1, return_indices=True)[1].flatten()
    for _ in range(10):
        uphill = uphill[uphill]  # twice as far each time
    mass = torch.softmax(table.flatten(), 0)
    w = torch.zeros_like(mass).index_add(0, uphill, mass)
    cell = ((draws + LIMIT) / (2 * LIMIT) * (SIZE - 1)).round().long()
    k, count = uphill[cell[:, 0] * SIZE + cell[:, 1]].unique(return_counts=True)
    return -torch.log(((count / len(draws)) ** 2 / w[k]).sum()).item()


def worst_digits(model: VAE, digits: Tensor, draws: Tensor, error: Tensor) -> None:
    """Draw the posteriors of the four of the `digits` `(M, D)` with the lowest `error` `(M,)`, nats, and their draws.

    `draws` `(T, C, M, 2)` are those of all M, with two latents; the formula's error stands beside the estimate's.
    """
    worst = error.argsort()[:4]
    digits, draws, error = digits[worst], draws[:, :, worst].flatten(0, 1), error[worst]
    _, axes = plt.subplots(2, 4, figsize=(9.6, 3.9), gridspec_kw={"height_ratios": [1, 3]})
    line = torch.linspace(-LIMIT, LIMIT, SIZE)
    lattice = torch.cartesian_prod(line, line)
    tables_ = (model.log_likelihood_table(digits, lattice) + model.log_prior(lattice)[:, None]).T
    for i, (top, axis) in enumerate(axes.T):
        figures.show_images(top, digits[i : i + 1], 1, "mnist")
        table, z = tables_[i].view(SIZE, SIZE), draws[:, i]
        shades = (table - table.max()).T.clamp(min=-25)
        axis.imshow(shades, origin="lower", extent=(-LIMIT, LIMIT, -LIMIT, LIMIT), cmap="Greys")
        axis.plot(*z.T, ".", color=ORANGE, markersize=3)
        formula = _error_of_shares(table, z)
        axis.set(title=f"error {error[i]:.1f}\nformula {formula:.1f}", xlabel="$z_1$")
        seen = torch.cat([z, lattice[table.flatten() > table.max() - 12]])
        half = 0.7 * (seen.amax(0) - seen.amin(0)).max().item()
        across, up = ((seen.amax(0) + seen.amin(0)) / 2).tolist()
        axis.set(xlim=(across - half, across + half), ylim=(up - half, up + half))
        axis.grid(False)
    axes[1, 0].set_ylabel("$z_2$")
    plt.show()


def sandwich(deep: pd.DataFrame, bounds: dict[int, tuple[Estimate, Estimate]]) -> None:
    """Draw settings, by J, minus the middle of the annealed `bounds`, a lower and an upper one per J."""
    _, axis = plt.subplots(figsize=(7, 3.4))
    for place, (J, pair) in enumerate(bounds.items()):
        (low, low_error), (high, high_error) = (bound.mean() for bound in pair)
        half, across = (high - low) / 2, [place - 0.4, place + 0.4]
        axis.fill_between(across, -half - low_error, half + high_error, color=GREY, alpha=0.35, linewidth=0)
        for k, (n, density) in enumerate((n, density) for n in (50, 500) for density in DENSITIES):
            row, colour = deep.loc[density, n, J], COLOURS[density]
            style: dict[str, Any] = {"color": colour, "markerfacecolor": colour if n == 50 else "white"}
            label = f"{NAMES[density]}, {n}" if place == 0 else None
            at = place - 0.24 + 0.16 * k
            axis.errorbar(at, row["bias"], row["error of mean"], fmt="o", label=label, **style)
    axis.set(xticks=range(len(bounds)), xticklabels=[f"{J} latents" for J in bounds])
    axis.set_ylabel("minus middle of bounds (nats)")
    axis.legend(loc="lower left")
    plt.show()


def held(
    paper: pd.DataFrame, below: float, above: float, minus_quadrature: float, tolerance: float
) -> list[tuple[str, str, str]]:
    """The rows of the closing box: `paper` has a row of `settings` per dimension, the rest is in nats."""
    ratio = f"at {paper.index[-1]} the stated error is {paper['ratio'].iloc[-1]:.1f} of the true"
    return [
        ("good below 5 dimensions (App. D)", f"rms error at most {below:.2f} nats", f"{GOOD_RMS} nat"),
        ('"unreliable" above', f"at least {above:.2f} nats; {ratio}", f"above {GOOD_RMS} nat"),
        ("(implied) good enough for figure 3", f"{minus_quadrature:+.2f} nats in a model's mean", f"{tolerance} nat"),
    ]

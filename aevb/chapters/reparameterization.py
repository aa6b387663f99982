"""Figures and tables of the chapter on the reparameterization trick."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import torch
from IPython.display import Markdown
from matplotlib.axes import Axes
from scipy import stats
from torch import Tensor

from aevb.colours import ORANGE
from aevb.reproduction.tables import markdown_table

FAMILIES = ("inverse CDF", "location and scale", "composition")

# where the nodes of a computation graph stand
PLACES = {"$f$": (1.5, 2.2), "$z$": (1.5, 1.2), r"$\phi$": (0.7, 0.2), r"$\epsilon$": (2.3, 0.2)}


class Density(NamedTuple):
    """A density of section 2.4: its g as a formula, samples that g made of noise, `(n,)`, and the exact density."""

    family: str
    name: str
    formula: str
    samples: Tensor
    exact: Any


class Noise:
    """The standard noise of which all samples are made, `(n,)` per call, in double precision."""

    def __init__(self, n: int, generator: torch.Generator):
        self.n, self.generator = n, generator

    def uniform(self) -> Tensor:
        """u, uniform on [0, 1)."""
        return torch.rand(self.n, generator=self.generator, dtype=torch.float64)

    def normal(self) -> Tensor:
        """epsilon, standard normal."""
        return torch.randn(self.n, generator=self.generator, dtype=torch.float64)

    def exponential(self) -> Tensor:
        """e = -log(1 - u), standard exponential."""
        return -torch.log1p(-self.uniform())

    def gamma(self, shape: int) -> Tensor:
        """A sum of `shape` exponentials: only for a whole number `shape`."""
        return torch.stack([self.exponential() for _ in range(shape)]).sum(0)

    def chi_squared(self, degrees: int) -> Tensor:
        """A sum of `degrees` squared normals."""
        return torch.stack([self.normal().square() for _ in range(degrees)]).sum(0)


def densities(n: int, *, generator: torch.Generator) -> list[Density]:
    """The 23 entries of the paper's three lists, each with `n` samples made of noise by its formula."""
    noise = Noise(n, generator)
    members = (_by_inverse_cdf(noise), _by_location_and_scale(noise), _by_composition(noise))
    return [Density(family, *one) for family, of in zip(FAMILIES, members, strict=True) for one in of]


def _by_inverse_cdf(noise: Noise) -> list[tuple[str, str, Tensor, Any]]:
    u = noise.uniform()
    minus_log = -torch.log1p(-u)
    return [
        ("Exponential", r"-\log(1 - u)/\lambda", minus_log / 2, stats.expon(scale=1 / 2)),
        ("Cauchy", r"\mu + s\tan\pi(u - \frac12)", 1 + 2 * torch.tan(math.pi * (u - 0.5)), stats.cauchy(1, 2)),
        ("Logistic", r"\mu + s\log\frac{u}{1 - u}", 1 + 2 * torch.logit(u), stats.logistic(1, 2)),
        ("Rayleigh", r"\sigma\sqrt{-2\log(1 - u)}", 2 * torch.sqrt(2 * minus_log), stats.rayleigh(scale=2)),
        ("Pareto", r"a\,(1 - u)^{-1/k}", (1 - u) ** (-1 / 3), stats.pareto(3)),
        ("Weibull", r"s\,(-\log(1 - u))^{1/k}", minus_log ** (1 / 3), stats.weibull_min(3)),
        ("Reciprocal", r"a\,(b/a)^u", 2 * (8 / 2) ** u, stats.loguniform(2, 8)),
        ("Gompertz", r"\log(1 - \frac1\eta\log(1 - u))", torch.log1p(minus_log / 0.5), stats.gompertz(0.5)),
        ("Gumbel", r"\mu - s\log(-\log u)", 1 - 2 * torch.log(-torch.log(u)), stats.gumbel_r(1, 2)),
        ("Erlang", r"(e_1 + \dots + e_k)/\lambda", noise.gamma(3) / 2, stats.erlang(3, scale=1 / 2)),
    ]


def _by_location_and_scale(noise: Noise) -> list[tuple[str, str, Tensor, Any]]:
    laplace = 1 + 2 * torch.sign(noise.uniform() - 0.5) * noise.exponential()
    elliptical = 3 * noise.normal() + noise.normal()  # the sum of a Gaussian's two correlated components
    student = 1 + 2 * noise.normal() / torch.sqrt(noise.chi_squared(5) / 5)
    return [
        ("Laplace", r"\mu \pm s\,e", laplace, stats.laplace(1, 2)),
        ("Elliptical", r"\mu + A\epsilon", elliptical, stats.norm(0, math.sqrt(10))),
        ("Student's t", r"\mu + s\,\epsilon/\sqrt{\chi^2_k/k}", student, stats.t(5, 1, 2)),
        ("Logistic", r"\mu + s\log\frac{u}{1 - u}", 1 + 2 * torch.logit(noise.uniform()), stats.logistic(1, 2)),
        ("Uniform", r"a + (b - a)\,u", 1 + 2 * noise.uniform(), stats.uniform(1, 2)),
        ("Triangular", r"a + s\,(u_1 + u_2)", 1 + 2 * (noise.uniform() + noise.uniform()), stats.triang(0.5, 1, 4)),
        ("Gaussian", r"\mu + \sigma\epsilon", 1 + 2 * noise.normal(), stats.norm(1, 2)),
    ]


def _by_composition(noise: Noise) -> list[tuple[str, str, Tensor, Any]]:
    a, b = noise.gamma(2), noise.gamma(3)
    log_normal, gamma = torch.exp(0.5 * noise.normal()), noise.gamma(4)
    dirichlet = a / (a + b + noise.gamma(4))  # its first component
    chi_squared = noise.chi_squared(4)
    ratio = (noise.chi_squared(4) / 4) / (noise.chi_squared(6) / 6)
    return [
        ("Log-Normal", r"\exp(\mu + \sigma\epsilon)", log_normal, stats.lognorm(0.5)),
        ("Gamma", r"\gamma_k = e_1 + \dots + e_k", gamma, stats.gamma(4)),
        ("Dirichlet", r"\gamma_{k_i}/\sum_j\gamma_{k_j}", dirichlet, stats.beta(2, 7)),
        ("Beta", r"\gamma_k/(\gamma_k + \gamma_m)", a / (a + b), stats.beta(2, 3)),
        ("Chi-Squared", r"\chi^2_k = \epsilon_1^2 + \dots + \epsilon_k^2", chi_squared, stats.chi2(4)),
        ("F", r"\frac{\chi^2_k}{k}\big/\frac{\chi^2_m}{m}", ratio, stats.f(4, 6)),
    ]


def formulas(entries: Sequence[Density], distances: Sequence[float]) -> Markdown:
    """A table of the g of each density, and of how far its samples are from the exact one (Kolmogorov-Smirnov)."""
    rows, family = [], ""
    for entry, distance in zip(entries, distances, strict=True):
        if entry.family != family:  # a row of its own: another column would be too much for a phone
            family = entry.family
            rows.append((f"**{family}**", "", ""))
        rows.append((entry.name, f"${entry.formula}$", f"{distance:.3f}"))
    return markdown_table(["density", "$g$", "distance"], rows)


def trick() -> None:
    """Draw two computation graphs: z is drawn, and no gradient passes it; epsilon is drawn, and gradients reach phi."""
    _, (before, after) = plt.subplots(1, 2, figsize=(7.5, 2.6))
    _graph(before, "before", "$z$", [(r"$\phi$", "$z$"), ("$z$", "$f$")])
    _graph(after, "after", r"$\epsilon$", [(r"$\phi$", "$z$"), (r"$\epsilon$", "$z$"), ("$z$", "$f$")])
    for start, end in (("$f$", "$z$"), ("$z$", r"$\phi$")):
        _arrow(after, start, end, connectionstyle="arc3,rad=0.35", linestyle="--", color=ORANGE)


def _graph(axis: Axes, title: str, random: str, edges: list[tuple[str, str]]) -> None:
    """The nodes of `edges`, the `random` one round and tinted, and an arrow for each of them."""
    for name, place in PLACES.items():
        if any(name in edge for edge in edges):
            box = {"boxstyle": "circle", "facecolor": "#cde"} if name == random else {"facecolor": "white"}
            axis.text(*place, name, ha="center", va="center", fontsize=12, bbox=box)
    for start, end in edges:
        _arrow(axis, start, end)
    axis.set(xlim=(0, 3), ylim=(-0.2, 2.6), title=title)
    axis.axis("off")


def _arrow(axis: Axes, start: str, end: str, **style: Any) -> None:
    arrow = {"arrowstyle": "-|>", "shrinkA": 14, "shrinkB": 14, **style}
    axis.annotate("", PLACES[end], PLACES[start], arrowprops=arrow)


def variances(dims: Tensor, measured: dict[str, list[Tensor]], closed: dict[str, Tensor]) -> None:
    """Draw the variance of one draw against the dimension, measured (dots) and in closed form (lines).

    `dims` is `(n,)`; both dictionaries hold n values per estimator.
    """
    _, axis = plt.subplots(figsize=(6.5, 3.2))
    for name, values in closed.items():
        (line,) = axis.plot(dims, values, label=name)
        axis.plot(dims, torch.stack(measured[name]), "o", color=line.get_color())
    axis.set(xscale="log", yscale="log", xlabel="dimensions $J$", ylabel="variance of one draw")
    axis.legend()

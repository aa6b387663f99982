"""Figures and tables of the chapter on full variational Bayes."""

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown
from torch import Tensor
from torch.distributions import Normal

from aevb.colours import BLUE, GREY, ORANGE
from aevb.full_vb import FullVB
from aevb.reproduction.tables import markdown_table

Pair = tuple[float, float]


def climbed(model: FullVB, bound: Callable[[], Tensor]) -> FullVB:
    """`model` with its parameters where `bound()`, `()`, is highest, found by L-BFGS from where they are.

    Asserts that the gradient vanishes there.
    """
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=1000, line_search_fn="strong_wolfe", tolerance_grad=1e-9, tolerance_change=1e-14
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -bound()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert all(parameter.grad is not None and parameter.grad.abs().max() < 1e-6 for parameter in model.parameters())
    return model


def normal_nodes(n: int) -> tuple[Tensor, Tensor]:
    """Nodes `(n * n, 2)` of Gauss-Hermite quadrature under two standard normals, and their weights, which sum to 1."""
    nodes, weights = map(torch.tensor, np.polynomial.hermite_e.hermegauss(n))
    return torch.cartesian_prod(nodes, nodes), torch.cartesian_prod(weights, weights).prod(1) / (2 * np.pi)


def width(grid: Tensor, density: Tensor) -> float:
    """The standard deviation of |w| where w has this density on a grid `(K,)`: of one of two mirror-image modes."""
    mass = density / density.sum()
    return float((mass @ grid**2 - (mass @ grid.abs()) ** 2).sqrt())


def variance_ratio(
    estimators: Sequence[Callable[..., Tensor]], network: FullVB, images: Tensor, seed: int
) -> tuple[float, float]:
    """The variance of the encoder's gradient by the second of two `estimators` over that by the first, and its error.

    Estimators are of the bound, as `aevb.full_vb.analytic_estimator` is. Both get the same 60 minibatches of 100
    `images` and the same noise.
    """
    first, second = (_deviations(estimator, network, images, seed) for estimator in estimators)
    ratio = second.sum() / first.sum()
    error = (second - ratio * first).std() * len(first) ** 0.5 / first.sum()
    return ratio.item(), error.item()


def _deviations(estimator: Callable[..., Tensor], network: FullVB, images: Tensor, seed: int) -> Tensor:
    """Squared deviations of the gradient in the encoder from its mean, `(60,)`, one per minibatch."""
    noise = torch.Generator().manual_seed(seed)
    encoder, found = list(network.get_submodule("model.encoder").parameters()), []
    for _ in range(60):
        x = images[torch.randint(len(images), (100,), generator=noise)]
        gradients = torch.autograd.grad(estimator(network, x, generator=noise), encoder)
        found.append(torch.nn.utils.parameters_to_vector(gradients))
    stacked = torch.stack(found)
    return (stacked - stacked.mean(0)).square().sum(1)


def must_agree(
    by_hand: Callable[..., Sequence[Tensor]],
    estimators: Sequence[Callable[..., Tensor]],
    model: FullVB,
    x: Tensor,
    *,
    seed: int,
) -> None:
    """Assert that each of the library's `estimators` gives, with the same noise, what `by_hand` gives in its place."""
    for place, estimator in enumerate(estimators):
        fresh, again = (torch.Generator().manual_seed(seed) for _ in range(2))
        zeta = torch.randn(len(model.mu), generator=fresh, dtype=x.dtype)
        eps = torch.randn(len(x), 1, generator=fresh, dtype=x.dtype)
        torch.testing.assert_close(by_hand(model, x, zeta, eps)[place], estimator(model, x, generator=again))


def two_variances(
    draws: Callable[[float, Tensor], Sequence[Tensor]],
    formulas: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]],
    posterior: float,
) -> None:
    """Draw the variance of each estimator of the bound, and of its gradient, against the variance of q.

    Dots are measured: `draws` of the variance of q and of means `(n,)` are `(n,)` of each estimator. Lines are
    `formulas`, which give both variances. Asserts that the two agree to five standard errors.
    """
    line, places = np.geomspace(0.01, 2, 200), np.array([0.01, 0.03, 0.1, 0.3, 1.0])
    measured = np.array([_variances(draws, sigma2, 100_000) for sigma2 in places])
    _, axes = plt.subplots(1, 2, figsize=(8.8, 3.3))
    for (name, formula), dots, colour in zip(
        formulas.items(), measured.transpose(1, 2, 0), (ORANGE, BLUE), strict=True
    ):
        # a variance of n draws of zeta^2 has a standard error of sqrt(14 / n)
        np.testing.assert_allclose(dots, np.array(formula(places)), rtol=5 * (14 / 100_000) ** 0.5)
        for part, axis in enumerate(axes):
            axis.plot(line, formula(line)[part], color=colour, linewidth=1)
            axis.plot(places, dots[part], "o", color=colour, label=name)
    for axis, what in zip(axes, ("the bound", "its gradient in $\\mu$"), strict=True):
        axis.axvline(posterior, color=GREY, linestyle=":")
        axis.set(xscale="log", yscale="log", xlabel="variance of $q$, $\\sigma^2$", title=f"variance of {what}")
    axes[0].set_ylim(1e-4, 100)
    axes[0].legend()
    plt.show()


def _variances(draws: Callable[[float, Tensor], Sequence[Tensor]], sigma2: float, n: int) -> list[Pair]:
    """The variances of each estimator of the bound and of its gradient in the mean, of `n` draws at mean 0."""
    mu, found = torch.zeros(n, dtype=torch.float64, requires_grad=True), []
    for value in draws(sigma2, mu):
        (gradient,) = torch.autograd.grad(value.sum(), mu, retain_graph=True)
        found.append((value.var().item(), gradient.var().item()))
    return found


def ascent(trace: Sequence[float], best: float, evidence: float, samples: int) -> None:
    """Draw the exact bound after each step of `samples` training samples, the best bound and the evidence, in nats."""
    _, axis = plt.subplots(figsize=(6.5, 3.2))
    axis.axhline(evidence, color="black", linewidth=1, label="$\\log p(X)$, exact")
    axis.axhline(best, color=GREY, linestyle="--", label="best bound")
    axis.plot(np.arange(len(trace)) * samples / 1000, trace, color=BLUE, label="Algorithm 2")
    axis.set(xlabel="training samples seen (thousands)", ylabel="nats for the dataset")
    axis.set_ylim(evidence - 25, evidence + 2)
    axis.legend(loc="lower right")
    plt.show()


def gaps_table(rows: list[tuple]) -> Markdown:
    """The evidence and the gaps of the best bound, in nats, and the width of q, a row per size of the dataset.

    The width is relative to that of the mode of the posterior that q covers.
    """
    header = ["N", "log p(X)", "gap of the parameters", "gap of the latents"]
    formatted = [(n, *(f"{value:.1f}" for value in values)) for n, *values in rows]
    return markdown_table([*header, "width of q over that of its mode"], formatted)


def posteriors(grid: Tensor, drawn: dict[int, tuple[Tensor, float, float]], truth: float) -> None:
    """Draw, for each size of the dataset, the posterior density on `grid` and q, given by its mean and deviation."""
    _, axes = plt.subplots(1, 3, figsize=(9.2, 2.8))
    for axis, (n, (density, mean, sigma)) in zip(axes, drawn.items(), strict=True):
        axis.fill_between(grid, density, color=GREY, alpha=0.35, label="exact")
        axis.plot(grid, Normal(mean, sigma).log_prob(grid).exp(), color=BLUE, label="best $q$")
        axis.axvline(truth, color="black", linestyle=":", linewidth=1)
        axis.set(xlabel="$w$", yticks=[], xlim=(-3, 3), title=f"$N$ = {n}")
    axes[0].legend(loc="upper left")
    plt.show()


def held(early: float, later: float, shortfall: float, at_start: float) -> list[tuple[str, str, str]]:
    """The rows of the closing box: `early` and `later` are ratios of variances on digits, the rest is in nats."""
    errors = "5 standard errors"
    return [
        ("a bound on $\\log p_\\alpha(X)$ (eqs 13-16)", "below it by two gaps", "rounding"),
        ("eqs 22 and 24 estimate it", "unbiased", errors),
        ("24 varies less than 22 (F.1)", "the value: not always; 22 has no variance at the posterior", "exact"),
        ("", "the gradient in the means: where $\\bar\\lambda_k > -\\frac12$", errors),
        (
            "",
            f"the encoder's gradient, on digits: {early:.2f} of 22's variance at the start, {later:.1f} later",
            errors,
        ),
        ("Algorithm 2 maximises it", f"{shortfall:.2f} nats below the best, from {at_start:.0f}", "a hundredth"),
    ]

"""Figures and tables of the chapter on Monte Carlo EM."""

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np

from aevb.colours import BLUE, GREEN, GREY, PINK, SKY, YELLOW
from aevb.reproduction import claims


def em_bounds(
    evidence: Callable[[float], float], bound: Callable[[float, float], float], places: Sequence[float], best: float
) -> None:
    """Draw the `evidence(w)` and the `bound(w, old)` after each of the first three E-steps, in nats per datapoint.

    `places` are the values of w at successive E-steps, four or more; `best` is the w of the highest evidence.
    """
    grid = np.linspace(0.15, 1.9, 150).tolist()
    _, axis = plt.subplots(figsize=(6.5, 3.4))
    axis.plot(grid, [evidence(w) for w in grid], color=GREY, linewidth=2.2, label="evidence, mean $\\log p(x)$")
    for step, colour in enumerate((SKY, YELLOW, PINK)):
        old, new = places[step : step + 2]
        axis.plot(grid, [bound(w, old) for w in grid], color=colour, label=f"bound after E-step {step + 1}")
        axis.plot(old, evidence(old), "o", color=colour)
        axis.plot(new, bound(new, old), "x", color=colour)
    axis.axvline(best, color=GREY, linestyle=":", label="maximum likelihood")
    axis.set(xlabel="$w$", ylabel="nats per datapoint", ylim=(-3.7, -1.75))
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    plt.show()


def staleness(stale: dict[str, Sequence[float]], behind: dict[str, Sequence[float]], samples: int, block: int) -> None:
    """Draw, against training samples, what each run measured at its E-steps, `samples` training samples apart.

    `stale` are the second moments of the whitened chains, averaged over every `block` of E-steps; `behind` the nats by
    which log p(x) is below its maximum.
    """
    _, axes = plt.subplots(1, 2, figsize=(8.8, 3.4))
    styles = zip(stale, ("-", "-", "-", "--"), (SKY, YELLOW, PINK, GREY), strict=True)
    for name, line, colour in styles:
        blocks = np.reshape(stale[name], (-1, block)).mean(1)
        thousands = samples / 1000 * block * np.arange(1, len(blocks) + 1)
        axes[0].plot(thousands, blocks, line, color=colour)
        axes[1].plot(thousands, behind[name][block - 1 :: block], line, color=colour, label=name)
    axes[0].set(yscale="log", ylabel="whitened second moment of the chains")
    axes[0].set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    axes[0].minorticks_off()
    axes[1].set(yscale="log", ylabel="$\\log p(x)$ below its maximum (nats)")
    for axis in axes:
        axis.set(xlabel="training samples seen (thousands)")
    axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    plt.show()


def bias(scales: Sequence[float], evidence: Sequence[float], bounds: Sequence[float]) -> None:
    """Draw the evidence and the bound at `scales`, nats per datapoint, and a dot on the evidence at each one's best."""
    _, axis = plt.subplots(figsize=(6.5, 3.3))
    axis.plot(scales, evidence, color=GREY, linewidth=2.0, label="evidence, mean $\\log p(x)$")
    axis.plot(scales, bounds, color=GREY, linestyle="--", label="best diagonal bound")
    for label, values, colour in (("MCEM ends here", evidence, GREEN), ("AEVB ends here", bounds, BLUE)):
        best = int(np.argmax(values))
        axis.plot(scales[best], evidence[best], "o", markersize=8, color=colour, label=label)
        axis.axvline(scales[best], color=colour, linewidth=0.8, linestyle=":")
    axis.set(xlabel="scale $w$ of the columns", ylabel="nats per datapoint", xlim=(0.2, 1.5))
    axis.set_ylim(max(evidence) - 3.2, max(evidence) + 0.2)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    plt.show()


def held(off: float, late: dict[str, float], at_start: float, at_end: float, lost: float) -> list[tuple[str, str, str]]:
    """The rows of the closing box, the last of them claim 11 by the record.

    `off` is in standard errors, `late` the second moments of the last E-steps by run; the rest are shortfalls in nats.
    """
    efficient = claims.of_record().set_index("number").loc[11]
    return [
        (
            "(implied) posterior samples give the gradient of $\\log p(x)$ (app. E)",
            f"at most {off:.1f} standard errors off",
            "5 standard errors",
        ),
        (
            "(implied) MCEM climbs the likelihood",
            f"{at_end:.2f} nats below its maximum, from {at_start:.0f}; a bound's maximum loses {lost:.1f}",
            "a hundredth of the start",
        ),
        ("is not an on-line algorithm (fig. 3)", f"holds: second moment {late['on-line']:.0f}, not 1", "above 1"),
        (
            f"{efficient.claim}: MCEM minus AEVB",
            f"{efficient.verdict}: {efficient.ours} nats; 95 % over {efficient.seeds}",
            "the seeds' interval",
        ),
    ]

"""Figures and tables of the chapter on wake-sleep."""

import matplotlib.pyplot as plt
import torch
from IPython.display import Markdown
from torch import Tensor

from aevb.colours import GREY
from aevb.reproduction import figures, tables


def variances(found: dict[str, Tensor], expected: dict[str, Tensor]) -> Markdown:
    """The table of q's variances per algorithm, `found` by training and `expected` in closed form, each `(J,)`."""
    return tables.markdown_table(
        ["trained by", "variances of q", "closed form"],
        [
            (figures.NAMES[name], *(", ".join(f"{v:.2f}" for v in each[name].tolist()) for each in (found, expected)))
            for name in found
        ],
    )


def two_divergences(covariance: Tensor, found: dict[str, Tensor]) -> None:
    """Draw the posterior's ellipse and that of each diagonal Gaussian, all at one standard deviation.

    `covariance` `(2, 2)` is the posterior's; `found` gives the variances `(2,)` of q per algorithm.
    """
    angles = torch.linspace(0, 2 * torch.pi, 200, dtype=covariance.dtype)
    circle = torch.stack([torch.cos(angles), torch.sin(angles)])
    _, axis = plt.subplots(figsize=(4.6, 3.8))
    axis.plot(*(torch.linalg.cholesky(covariance) @ circle), color=GREY, label="posterior")
    for name, each in found.items():
        ellipse = each.sqrt()[:, None] * circle
        axis.plot(*ellipse, color=figures.COLOURS[name], label=figures.NAMES[name])
    axis.set(aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    plt.show()

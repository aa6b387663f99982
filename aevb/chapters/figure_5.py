"""Figures and tables of the chapter on figure 5."""

import matplotlib.pyplot as plt
import torch
from IPython.display import Markdown
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from aevb.chapters.figure_4 import nearest
from aevb.model import VAE
from aevb.reproduction.figures import samples_grid, show_images
from aevb.reproduction.tables import markdown_table

Models = dict[int, VAE]  # by number of latents


@torch.no_grad()
def means_and_samples(models: Models, *, seed: int) -> None:
    """Draw for each model the means of p(x|z) at eight z from the prior, and below each a sample from it."""
    _, axes = plt.subplots(2, 2, figsize=(8.6, 2.5), layout=ConstrainedLayoutEngine(wspace=0.08))
    for axis, (latent_dim, model) in zip(axes.flat, models.items(), strict=True):
        noise = torch.Generator().manual_seed(seed)
        z = torch.randn(8, latent_dim, generator=noise)
        samples = model.sample_likelihood(z, generator=noise)
        show_images(axis, torch.cat([model.decoder.mean(z), samples]), 8, "mnist")
        axis.set_title(f"{latent_dim} latents")


def panels(models: Models, names: dict[int, str], *, seed: int) -> None:
    """Draw figure 5: 100 decoder means at draws from the prior for each model, with the model's name in its title."""
    _, axes = plt.subplots(2, 2, figsize=(8.4, 9.0))
    for axis, (latent_dim, model) in zip(axes.flat, models.items(), strict=True):
        noise = torch.Generator().manual_seed(seed + latent_dim)
        samples_grid(axis, model, "mnist", 10, generator=noise)
        axis.set_title(f"{latent_dim} latents\n{names[latent_dim]}")


@torch.no_grad()
def draw_means(model: VAE, *, seed: int) -> Tensor:
    """The decoder's means at 500 draws from the prior: `(500, D)`."""
    z = torch.randn(500, model.latent_dim, generator=torch.Generator().manual_seed(seed))
    return model.decoder.mean(z)


def merit(x: Tensor, train: Tensor) -> dict[str, float]:
    """The figures of merit of images `x` `(n, 784)`, given `train`: distance, spread and unsure (see the chapter)."""
    mean = x.mean(0)
    return {
        "distance": nearest(x, train)[0].mean().item(),
        "spread": torch.pdist(x).mean().item(),
        "unsure": ((x * (1 - x)).mean() / (mean * (1 - mean)).mean()).item(),
    }


def merits_table(merits: dict[str, dict[str, float]]) -> Markdown:
    """The figures of merit, one row per name: distance and spread, and the share that is unsure."""
    forms = {"distance": ".1f", "spread": ".1f", "unsure": ".0%"}
    rows = [(name, *(format(merit[of], form) for of, form in forms.items())) for name, merit in merits.items()]
    return markdown_table(["", *forms], rows)


def excess_table(drawn: dict[int, Tensor], encoded: dict[int, Tensor]) -> Markdown:
    """Mean distances `drawn` from the prior and `encoded`, by number of latents, the difference and its error."""
    rows = []
    for latent_dim, a in drawn.items():
        b = encoded[latent_dim]
        error = (a.var() / len(a) + b.var() / len(b)).sqrt()
        rows.append((latent_dim, f"{a.mean():.1f}", f"{b.mean():.1f}", f"{a.mean() - b.mean():+.1f} ± {error:.1f}"))
    return markdown_table(["latents", "from the prior", "from test digits", "difference"], rows)


@torch.no_grad()
def traversals(model: VAE, x: Tensor, latents: list[int]) -> None:
    """Draw a row for each of `latents`: the digit `x` `(1, D)`, its reconstruction, then the latent at nine values."""
    mu = model.posterior(x)[0]
    strip = []
    for latent in latents:
        z = mu.repeat(9, 1)
        z[:, latent] = torch.special.ndtri(torch.linspace(0.05, 0.95, 9))
        strip += [x, model.decoder.mean(mu), model.decoder.mean(z)]
    _, axis = plt.subplots(figsize=(6.6, 2.5))
    show_images(axis, torch.cat(strip), 11, "mnist")

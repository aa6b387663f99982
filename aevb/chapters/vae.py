"""Figures and tables of the chapter on the VAE."""

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from aevb.reproduction.figures import show_images


def reconstructions(x: Tensor, reconstructed: Tensor) -> None:
    """Draw twenty digits in two rows of ten, `(20, D)`, each with its reconstruction below it."""
    rows = torch.cat([x[:10], reconstructed[:10], x[10:], reconstructed[10:]])
    _, axis = plt.subplots(figsize=(7.0, 2.9))
    show_images(axis, rows, columns=10, dataset="mnist")


def draws(means: Tensor) -> None:
    """Draw digits that a model made up, `(n, D)`, in rows of twenty."""
    _, axis = plt.subplots(figsize=(7.0, 1.6))
    show_images(axis, means, columns=20, dataset="mnist")

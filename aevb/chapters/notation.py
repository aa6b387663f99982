"""The table of letters of the chapter on notation, and the sizes from which a shape is told."""

from typing import NamedTuple

import torch
from IPython.display import Markdown
from torch import Tensor

from aevb import bounds
from aevb.datasets import BERNOULLI, Dataset, Images, Splits
from aevb.model import VAE, LinearGaussian
from aevb.reproduction.tables import markdown_table

# different primes, so that each size is one letter
N, M, L, D, J = 13, 5, 3, 7, 2
SIZES = {N: "N", M: "M", L: "L", D: "D", J: "J"}


class Letter(NamedTuple):
    """A letter of the paper: what it means, its name in the code, its unit and sign."""

    paper: str
    meaning: str
    code: str
    unit: str = ""


LETTERS = (
    Letter("$X$", "the dataset, grey levels in $[0, 1]$", "X"),
    Letter("$X^M$, of $x^{(i)}$", "a minibatch", "x"),
    Letter("$z^{(i,l)}$", "latent variables", "z"),
    Letter(r"$\epsilon^{(i,l)}$", r"noise, free of $\phi$", "eps"),
    Letter(r"$\mu^{(i)}$", r"mean of $q_\phi(z\mid x^{(i)})$", "mu"),
    Letter(r"$\log(\sigma^{(i)})^2$", "its log variance", "log_var"),
    Letter("$y$", "pixels' means (eq. 11)", "decoder.mean(z)"),
    Letter(r"$\log p_\theta(z)$", "prior", "log_prior(z)", "nats"),
    Letter(r"$\log p_\theta(x\mid z)$", "likelihood", "log_likelihood(x, z)", "nats"),
    Letter(r"$\log p_\theta(x, z)$", "joint density", "log_joint(x, z)", "nats"),
    Letter(r"$\log q_\phi(z\mid x)$", "recognition model, *not* the true posterior", "log_posterior(z, x)", "nats"),
    Letter(
        r"$D_{KL}$",
        r"divergence of $q_\phi(z\mid x)$ from the prior",
        "kl_to_prior(mu, log_var)",
        "nats, never negative; the paper prints minus it",
    ),
    Letter(r"$\tilde{\mathcal L}^A$", "estimator A", "estimator_a", "nats, to maximise"),
    Letter(r"$\tilde{\mathcal L}^B$", "estimator B", "estimator_b", "nats, to maximise"),
    Letter(
        r"$\mathcal L$",
        "the lower bound itself, where it is known",
        "exact_bound(x)",
        r"nats, at most $\log p_\theta(x)$",
    ),
    Letter(r"$\log p_\theta(x)$", "evidence, where it is known", "log_evidence(x)", "nats"),
)


def letters_table(vae: VAE, known: LinearGaussian, x_all: Tensor, z: Tensor) -> Markdown:
    """The table of letters, each computed and its shape read off: of a `vae`, and of a model whose evidence is `known`.

    `x_all` `(N, D)` are the data, the first M of them a minibatch, and `z` `(L, M, J)` its latents.
    """
    x, generator = x_all[:M], torch.Generator().manual_seed(0)
    mu, log_var = vae.posterior(x)
    values = {
        "X": x_all,
        "x": x,
        "z": z,
        "eps": (z - mu) / torch.exp(0.5 * log_var),
        "mu": mu,
        "log_var": log_var,
        "decoder.mean(z)": vae.decoder.mean(z),
        "log_prior(z)": vae.log_prior(z),
        "log_likelihood(x, z)": vae.log_likelihood(x, z),
        "log_joint(x, z)": vae.log_joint(x, z),
        "log_posterior(z, x)": vae.log_posterior(z, x),
        "kl_to_prior(mu, log_var)": bounds.kl_to_prior(mu, log_var),
        "estimator_a": bounds.estimator_a(vae, x, L, generator=generator),
        "estimator_b": bounds.estimator_b(vae, x, L, generator=generator),
        "exact_bound(x)": known.exact_bound(x),
        "log_evidence(x)": known.log_evidence(x),
    }
    rows = [(paper, meaning, f"`{code}`", f"`{_shape(values[code])}`", unit) for paper, meaning, code, unit in LETTERS]
    return markdown_table(["paper", "meaning", "in the code", "shape", "unit and sign"], rows)


def _shape(tensor: Tensor) -> str:
    """The shape of a tensor, its sizes in the letters of the paper."""
    letters = [SIZES[size] for size in tensor.shape]
    return f"({', '.join(letters)}{',' * (len(letters) == 1)})"


def images(x_all: Tensor) -> Images:
    """Pixels `(N, D)` in [0, 1], cut down to grey levels, as a dataset: the same for training and testing."""
    grey = (255 * x_all).to(torch.uint8)
    splits = Splits(grey, grey[:0], grey, {})
    return Images(Dataset("small", "Small", lambda: splits, (1, D), BERNOULLI), *splits)

"""Densities fitted to samples of a posterior, one per datapoint, for Appendix D."""

import math

import torch
from torch import Tensor

from aevb import batches

BANDWIDTHS = tuple(math.exp((k - 5) / 2) for k in range(10))  # times Scott's rule: the ten of the author's library


def fit_gaussian(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `(M, J)` and Cholesky factor of the covariance `(M, J, J)` of samples `z` `(S, M, J)`.

    Raises ValueError, naming datapoints, where the samples are too few or do not span the latent space.
    """
    enough_samples(len(z), z.shape[-1])
    mean = z.mean(0)
    centred = z - mean
    covariance = torch.einsum("smi,smj->mij", centred, centred) / (len(z) - 1)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if failed.any():
        raise ValueError(
            f"the samples of datapoints {batches.name(failed > 0)} do not span the latent space: take more"
        )
    return mean, factor


def enough_samples(n_samples: int, latent_dim: int) -> None:
    """Raise ValueError where a Gaussian cannot be fitted to so few samples."""
    if n_samples < (least := 2 * (latent_dim + 1)):
        raise ValueError(
            f"{n_samples} samples are too few to fit q(z) in {latent_dim} dimensions: take {least} or more"
        )


def gaussian_density(samples: Tensor, z: Tensor) -> Tensor:
    """log q(z), `(Q, M)` nats, at `z` `(Q, M, J)` for the Gaussian fitted to `samples` `(S, M, J)`, one per datapoint.

    Raises ValueError as `fit_gaussian` does.
    """
    mean, factor = fit_gaussian(samples)
    log_q: Tensor = torch.distributions.MultivariateNormal(mean, scale_tril=factor).log_prob(z)
    return log_q


def kernel_density(samples: Tensor, z: Tensor) -> Tensor:
    """log q(z), `(Q, M)` nats, at `z` `(Q, M, J)` for a kernel density fitted to `samples` `(S, M, J)` per datapoint.

    Gaussian kernels with the samples' covariance times a squared bandwidth: of ten around Scott's rule (Scott 1992,
    section 6.3), the one under which a model of one half of the samples gives the other half the highest score. The
    author's library fitted it. In many dimensions it needs far more samples than a Gaussian does. Raises ValueError as
    `fit_gaussian` does.
    """
    n_samples, _, latent_dim = samples.shape
    mean, factor = fit_gaussian(samples)
    log_det = torch.log(factor.diagonal(dim1=-2, dim2=-1)).sum(-1)  # (M,)

    def whiten(points: Tensor) -> Tensor:
        solved: Tensor = torch.linalg.solve_triangular(factor, (points - mean).permute(1, 2, 0), upper=False)
        return solved.transpose(1, 2)  # (M, points, J)

    def score(distances: Tensor, bandwidth: Tensor) -> Tensor:
        """log q at each of the queries `(M, Q)`, from squared distances `(M, Q, S)` and `bandwidth` `(M,)` or `()`."""
        log_kernel = -0.5 * distances / bandwidth[..., None, None].square()
        volume = latent_dim * (0.5 * math.log(2 * math.pi) + torch.log(bandwidth)) + log_det
        return torch.logsumexp(log_kernel, -1) - math.log(distances.shape[-1]) - volume[:, None]

    white, half = whiten(samples), n_samples // 2
    halves = torch.cdist(white[:, half:], white[:, :half]).square()
    scott = half ** (-1 / (latent_dim + 4))
    scales = torch.tensor(BANDWIDTHS, dtype=z.dtype, device=z.device)
    scores = torch.stack([score(halves, scott * scale).sum(-1) for scale in scales])  # (10, M)
    bandwidth = n_samples ** (-1 / (latent_dim + 4)) * scales[scores.argmax(0)]
    return score(torch.cdist(whiten(z), white).square(), bandwidth).T


DENSITIES = {"kernel": kernel_density, "gaussian": gaussian_density}  # by their names in `appendix_d`

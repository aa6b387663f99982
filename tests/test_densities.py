"""The densities of Appendix D: as scipy has them, normalised, and refused where they cannot be fitted."""

import pytest
import torch
from scipy import stats

from aevb import densities


def test_kernel_density_is_scipys(generator):
    """At the bandwidth it chose, and it chose the best of ten by the split-half score."""
    samples = (
        torch.randn(40, 3, 2, generator=generator, dtype=torch.float64) @ torch.tensor([[1.0, 0.5], [0, 0.3]]).double()
    )
    z = torch.randn(7, 3, 2, generator=generator, dtype=torch.float64)
    ours = densities.kernel_density(samples, z)
    for i in range(3):
        points, half = samples[:, i].T.numpy(), 20
        candidates = [k * half ** (-1 / 6) for k in densities.BANDWIDTHS]
        covariance = torch.cov(samples[:, i].T)
        scores = []
        for bandwidth in candidates:
            kernels = torch.distributions.MultivariateNormal(samples[:half, i], covariance * bandwidth**2)
            scores.append(torch.logsumexp(kernels.log_prob(samples[half:, None, i]), 1).sum())
        best = densities.BANDWIDTHS[int(torch.stack(scores).argmax())] * 40 ** (-1 / 6)
        expected = stats.gaussian_kde(points, bw_method=best).logpdf(z[:, i].T.numpy())
        torch.testing.assert_close(ours[:, i], torch.from_numpy(expected))


@pytest.mark.parametrize("density", densities.DENSITIES)
def test_densities_are_normalised(generator, density):
    samples = torch.randn(30, 1, 2, generator=generator, dtype=torch.float64)
    axis = torch.linspace(-12, 12, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)[:, None]
    assert densities.DENSITIES[density](samples, grid).exp().sum().item() * 0.1**2 == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("density", densities.DENSITIES)
def test_samples_in_a_plane_are_named(generator, density):
    flat = torch.randn(50, 3, 2, generator=generator, dtype=torch.float64)
    flat[:, 1, 1] = 0.0
    with pytest.raises(ValueError, match="samples of datapoints 1 do not span"):
        densities.DENSITIES[density](flat, flat)

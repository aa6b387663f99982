"""The gap between bound and log p(x), split in two."""

import math
import warnings

import pytest
import torch

from aevb import gaps
from aevb.checks import name_datapoints
from aevb.model import LinearGaussian, bernoulli_vae


@pytest.fixture
def tilted():
    """A linear-Gaussian model whose posterior is tilted, and data from it."""
    W = torch.tensor([[1.0, 0.8], [0.2, 1.0], [0.9, 0.7]], dtype=torch.float64)
    model = LinearGaussian(W, torch.zeros(3, dtype=torch.float64), 0.5)
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return model, x


def test_the_masses_are_those_of_a_standard_normal():
    nodes, masses = gaps.gauss_hermite(5)
    moments = torch.stack([(masses * nodes**k).sum() for k in range(9)])
    torch.testing.assert_close(moments, torch.tensor([1, 0, 1, 0, 3, 0, 15, 0, 105.0]).double(), atol=1e-12, rtol=0)


def test_a_bound_by_quadrature_is_exact_where_log_p_is_quadratic(tilted):
    model, x = tilted
    torch.testing.assert_close(gaps.bound_of(model, x, model.posterior(x), 3), model.exact_bound(x))


def test_log_px_is_that_of_the_closed_form(tilted):
    model, x = tilted
    log_px, starts = gaps.close_quadrature(model, x)
    torch.testing.assert_close(log_px.log_px, model.log_evidence(x), atol=1e-3, rtol=0)
    mean, covariance = model.exact_posterior(x)
    torch.testing.assert_close(starts[0][0], mean, atol=1e-3, rtol=0)
    torch.testing.assert_close(starts[0][1].exp(), covariance.diagonal().expand(6, 2), rtol=1e-2, atol=0)


def test_a_lattice_that_is_too_coarse_is_refined(tilted, monkeypatch):
    model, x = tilted
    asked = []
    lattice = gaps.lattice
    monkeypatch.setattr(gaps, "lattice", lambda model, x, points: (asked.append(points), lattice(model, x, points))[1])
    log_px, _ = gaps.close_quadrature(model, x, points=7)
    assert asked[:2] == [7, 13]
    assert (log_px.standard_error < gaps.SIZES[2].still).all()
    torch.testing.assert_close(log_px.log_px, model.log_evidence(x), atol=gaps.SIZES[2].still, rtol=0)


def test_an_exact_encoder_leaves_the_family_gap_alone(tilted):
    """Its q starts at the best diagonal Gaussian: mean of the posterior, precisions of its diagonal (Bishop 10.13)."""
    model, x = tilted
    found = gaps.split(model, x)
    precision = torch.linalg.inv(model.exact_posterior(x)[1])
    family = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
    assert family > 0.1
    torch.testing.assert_close(found.family, family.expand(6), atol=2e-3, rtol=0)
    torch.testing.assert_close(found.amortization, torch.zeros(6).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.q[1], -precision.diagonal().log().expand(6, 2), atol=0.01, rtol=0)


@torch.no_grad()
def test_a_displaced_encoder_costs_its_divergence_from_the_best(tilted):
    """With q's mean off by d, the bound falls by d' Lambda d / 2, and the family's gap stays."""
    model, x = tilted
    before = gaps.split(model, x)
    model.V += 0.3
    precision = torch.linalg.inv(model.exact_posterior(x)[1])
    off = model.posterior(x)[0] - model.exact_posterior(x)[0]
    cost = 0.5 * torch.einsum("mi,ij,mj->m", off, precision, off)
    after = gaps.split(model, x)
    torch.testing.assert_close(after.amortization, cost, atol=2e-3, rtol=0)
    torch.testing.assert_close(after.family, before.family, atol=1e-3, rtol=0)


def test_both_gaps_make_up_the_whole_and_neither_is_negative():
    generator = torch.Generator().manual_seed(1)
    model = bernoulli_vae(12, 8, 2, generator=generator).double().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    x = torch.rand(5, 12, generator=generator, dtype=torch.float64)
    found = gaps.split(model, x)
    torch.testing.assert_close(found.bound + found.amortization + found.family, found.log_px)
    assert (found.amortization > -1e-3).all() and (found.family > -1e-3).all()
    assert found.log_px.isfinite().all()


def test_one_latent_will_do():
    model = LinearGaussian(torch.ones(2, 1).double(), torch.zeros(2).double(), 1.0)
    x = torch.tensor([[1.0, -0.5]]).double()
    found = gaps.split(model, x)
    assert abs(found.family.item()) < 1e-3  # its posterior is a Gaussian
    assert math.isclose(found.log_px.item(), model.log_evidence(x).item(), abs_tol=1e-3)


def test_three_latents_will_do_and_four_are_refused():
    """Its posterior and its best diagonal Gaussian are known: those of `tilted`, in one more dimension."""
    generator = torch.Generator().manual_seed(2)
    W = torch.randn(5, 1, generator=generator).double() + 0.5 * torch.randn(5, 3, generator=generator).double()
    model = LinearGaussian(W, torch.zeros(5).double(), 0.6)
    x = torch.randn(3, 5, generator=generator).double()
    found, precision = gaps.split(model, x), torch.linalg.inv(model.exact_posterior(x)[1])
    torch.testing.assert_close(found.log_px, model.log_evidence(x), atol=1e-3, rtol=0)
    family = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
    assert family > 0.1
    torch.testing.assert_close(found.family, family.expand(3), atol=2e-3, rtol=0)
    torch.testing.assert_close(found.amortization, torch.zeros(3).double(), atol=1e-3, rtol=0)
    four = bernoulli_vae(4, 3, 4, generator=generator)
    with pytest.raises(ValueError, match="at most three latents, not 4"):
        gaps.split(four, torch.zeros(1, 4))


# ---- trouble


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("s", [1.0, 0.5, 0.1, 0.03])
def test_a_posterior_across_the_edge_of_the_lattice_is_named(latent_dim, s):
    """Wherever log p(x) is more than `Sizes.still` off, by the closed form: from well within LIMIT to beyond it."""
    W = torch.eye(latent_dim).double()
    model = LinearGaussian(W, torch.zeros(latent_dim).double(), s)
    means = torch.linspace(0, 7, 57).double()[:, None] * W[0]
    x = means * (1 + s * s)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        log_px, _ = gaps.close_quadrature(model, x)
        gaps.split(model, x)
    wrong = (log_px.log_px - model.log_evidence(x)).abs() > gaps.SIZES[latent_dim].still
    unsure = log_px.standard_error > gaps.SIZES[latent_dim].still
    assert wrong.any()
    assert not (wrong & ~unsure).any()
    assert not unsure[means[:, 0] < 2].any()
    (warning,) = caught
    said = f"log p(x) is not sure to 0.01 nats for datapoints {name_datapoints(unsure)}"
    assert str(warning.message) == said


@pytest.mark.parametrize("part", ["decoder", "encoder"])
@pytest.mark.parametrize("latent_dim", [1, 2])
def test_a_model_that_is_not_a_number_is_named(generator, part, latent_dim):
    model = bernoulli_vae(5, 4, latent_dim, generator=generator).requires_grad_(False)
    getattr(model, part).hidden.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"^the log-density is not a number for datapoints 0, 1, 2$"):
        gaps.split(model, torch.rand(3, 5, generator=generator))


def test_a_datapoint_that_is_not_a_number_is_named_alone(tilted):
    model, x = tilted
    likelihood = model.log_likelihood
    model.log_likelihood = lambda x, z: torch.where(x[..., 0] == 9, torch.nan, likelihood(x, z))
    x[4, 0] = 9
    with pytest.raises(ValueError, match=r"^the log-density is not a number for datapoints 4$"):
        gaps.split(model, x)


@torch.no_grad()
def test_sizes_that_make_no_lattice_are_refused(tilted, generator):
    model, x = tilted
    for points in (0, -1):
        with pytest.raises(ValueError, match=rf"^points must be 1 or more, not {points}$"):
            gaps.bound_of(model, x, model.posterior(x), points)
    for points in (0, 1, 2):
        for door in (gaps.close_quadrature, gaps.lattice):
            with pytest.raises(ValueError, match=rf"^points must be 3 or more, not {points}$"):
                door(model, x, points)
    assert gaps.close_quadrature(model, x, 3)[0].log_px.isfinite().all()
    four = bernoulli_vae(4, 3, 4, generator=generator)
    for door in (gaps.close_quadrature, gaps.lattice):
        with pytest.raises(ValueError, match="at most three latents, not 4"):
            door(four, torch.zeros(1, 4), 5)


def test_torchs_default_device_changes_nothing(tilted):
    model, x = tilted
    expected = gaps.split(model, x)
    with torch.device("meta"):
        found = gaps.split(model, x)
    for ours, theirs in zip([*found[:3], *found.q], [*expected[:3], *expected.q], strict=True):
        assert torch.equal(ours, theirs)

"""The aggregated posterior and the parts of the rate, where they are known."""

import math

import pytest
import torch
from conftest import assert_unbiased

from aevb import aggregated, gaps, hmc
from aevb.model import LinearGaussian, bernoulli_vae
from aevb.networks import log_normal
from aevb.priors import MixturePrior


@pytest.fixture
def line() -> LinearGaussian:
    """One latent that is nearly one of two numbers."""
    return LinearGaussian(torch.tensor([[1.0], [0.4]]).double(), torch.zeros(2).double(), 0.5)


@torch.no_grad()
def test_its_density_is_the_mean_over_the_data(linear_gaussian, x, monkeypatch):
    monkeypatch.setattr(aggregated, "ROWS", 3)
    z = torch.randn(7, 2, generator=torch.Generator().manual_seed(1)).double()
    mu, log_var = linear_gaussian.posterior(x)
    densities = sum(log_normal(z, *q).exp() for q in zip(mu, log_var, strict=True)) / 4
    torch.testing.assert_close(aggregated.log_aggregated(linear_gaussian, x, z), densities.log())


@torch.no_grad()
def test_the_parts_are_those_of_quadrature(line, monkeypatch):
    """Three datapoints, and each of them 1,000 times: the parts for three, but for the draws' own shares."""
    monkeypatch.setattr(aggregated, "ROWS", 700)
    three = torch.tensor([[2.0, 1.0], [-1.0, 0.0], [0.3, -0.5]]).double()
    z = torch.linspace(-12, 12, 4801).double()[:, None, None]  # (K, 1, 1)
    step = 24 / 4800
    log_q = line.log_posterior(z, three)  # (K, 3)
    log_mean = aggregated.log_aggregated(line, three, z[:, 0])[:, None]
    rate = (log_q.exp() * (log_q - line.log_prior(z))).sum() * step / 3
    information = (log_q.exp() * (log_q - log_mean)).sum() * step / 3
    marginal = (log_mean.exp() * (log_mean - line.log_prior(z))).sum() * step
    torch.testing.assert_close(rate, information + marginal)
    found = aggregated.surgery(line, three.repeat(2000, 1), generator=torch.Generator().manual_seed(0))
    error = 1.5 / math.sqrt(6000)  # a draw's log-densities spread by less than 1.5 nats
    assert 4 * error < 0.1
    assert abs(found.rate - rate) < 4 * error
    assert abs(found.information - information) < 4 * error
    assert abs(found.marginal - marginal) < 4 * error
    assert abs(found.at_most - found.information) < 2e-3
    assert found.rate == pytest.approx(found.information + found.marginal)


@torch.no_grad()
def test_its_two_bounds_enclose_the_information_of_the_population(line, generator):
    """For data of the model with its exact posterior, I(x; z) = log(1 + W'W / s^2) / 2, and q(z) is the prior."""
    exact = 0.5 * math.log(1 + 1.16 / 0.25)
    low, high = [], []
    for _ in range(200):
        x, _ = line.sample_joint(30, generator=generator)
        parts = aggregated.surgery(line, x, generator=generator)
        low.append(parts.information)
        high.append(parts.at_most)
        assert parts.information <= math.log(30)
    for values, sign in ((torch.tensor(low), 1), (torch.tensor(high), -1)):
        mean, error = values.mean().item(), values.std().item() / math.sqrt(200)
        assert sign * (exact - mean) > 3 * error


@torch.no_grad()
def test_a_q_that_ignores_x_has_no_information_and_its_rate_is_all_marginal(line, generator):
    line.V.zero_()
    x, _ = line.sample_joint(100, generator=generator)
    parts = aggregated.surgery(line, x, generator=generator)
    assert parts.information == pytest.approx(0, abs=1e-12) == parts.at_most
    assert parts.marginal == pytest.approx(parts.rate, rel=1e-12)
    with pytest.raises(ValueError, match="datapoints must be 2 or more"):
        aggregated.surgery(line, x[:1], generator=generator)


@torch.no_grad()
def test_in_other_units_a_model_is_the_same(linear_gaussian, x):
    """Far from the origin its lattice finds nothing; in the units of its posteriors it finds the closed form."""
    m = linear_gaussian
    shift, scale = torch.tensor([30.0, -20.0]).double(), torch.tensor([3.0, 0.1]).double()
    away = aggregated.Rescaled(m, -shift / scale, 1 / scale)  # whose latents lie around `shift`
    z = torch.randn(5, 4, 2, generator=torch.Generator().manual_seed(1)).double()
    log_scale = scale.log().sum()
    torch.testing.assert_close(away.log_joint(x, shift + scale * z) + log_scale, m.log_joint(x, z))
    torch.testing.assert_close(away.log_posterior(shift + scale * z, x) + log_scale, m.log_posterior(z, x))
    torch.testing.assert_close(
        away.log_likelihood_table(x, (shift + scale * z)[:, 0]), m.log_likelihood_table(x, z[:, 0])
    )
    back = aggregated.rescaled(away, x, gaps.LIMIT)
    mu, log_var = back.posterior(x)
    edges = torch.stack([(mu - 6 * (0.5 * log_var).exp()).amin(0), (mu + 6 * (0.5 * log_var).exp()).amax(0)])
    torch.testing.assert_close(edges, torch.tensor([[-6.0, -6.0], [6.0, 6.0]]).double())
    found, expected = gaps.split(back, x), gaps.split(m, x)
    torch.testing.assert_close(found.log_px, m.log_evidence(x), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.bound, expected.bound)
    torch.testing.assert_close(found.family, expected.family, atol=2e-3, rtol=0)
    with pytest.raises(AssertionError), pytest.warns(UserWarning, match="not sure"):
        torch.testing.assert_close(gaps.split(away, x).log_px, m.log_evidence(x), atol=1.0, rtol=0)


@pytest.fixture
def mixture(generator) -> MixturePrior:
    vae = bernoulli_vae(6, 5, 2, generator=generator).double()
    return MixturePrior(vae, 3, generator=generator).requires_grad_(False)


def in_units(model: MixturePrior) -> aggregated.Rescaled:
    return aggregated.Rescaled(model, torch.tensor([30.0, -20.0]).double(), torch.tensor([3.0, 0.1]).double())


@torch.no_grad()
def test_in_other_units_its_dreams_are_those_of_the_model(mixture, linear_gaussian, generator):
    """Draw for draw under a learned prior; under N(0, I) by their moments."""
    model = in_units(mixture)
    x, z = model.sample_joint(50, generator=torch.Generator().manual_seed(1))
    theirs, own = mixture.sample_joint(50, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model.centre + model.scale * z, own)
    assert torch.equal(x, theirs)
    x, z = in_units(linear_gaussian).sample_joint(100_000, generator=generator)
    shifted = model.centre + model.scale * z
    assert_unbiased(torch.cat([shifted, shifted.square()], -1), torch.tensor([0.0, 0.0, 1.0, 1.0]).double(), 0.02)
    assert_unbiased(x - (shifted @ linear_gaussian.W.T + linear_gaussian.b), torch.zeros(3).double(), 0.02)
    with pytest.raises(ValueError, match=r"^n must be 1 or more, not 0$"):
        model.sample_joint(0, generator=generator)


def test_its_units_go_where_the_model_goes(mixture):
    model = in_units(mixture).float()
    assert {model.centre.dtype, model.scale.dtype, model.log_prior(torch.zeros(1, 1, 2)).dtype} == {torch.float32}
    assert {model.to("meta").centre.device.type, model.scale.device.type} == {"meta"}


def test_its_gradient_is_known_where_its_units_were_made_without(mixture):
    x = torch.rand(4, 6, generator=torch.Generator().manual_seed(1)).double()
    z = torch.zeros(1, 4, 2).double()
    with torch.inference_mode():
        model = aggregated.rescaled(mixture, x, 6.0)
    expected = hmc.evaluate(hmc.posterior(aggregated.rescaled(mixture, x, 6.0), x), z)
    assert torch.equal(hmc.evaluate(hmc.posterior(model, x), z).gradient, expected.gradient)


def test_torchs_default_device_changes_nothing(linear_gaussian, x):
    expected = aggregated.surgery(linear_gaussian, x, generator=torch.Generator().manual_seed(0))
    with torch.device("meta"):
        found = aggregated.surgery(linear_gaussian, x, generator=torch.Generator("cpu").manual_seed(0))
    assert found == expected


def test_nothing_and_what_is_not_a_number_are_refused(linear_gaussian, x, generator):
    z = torch.zeros(1, 2).double()
    calls = {
        1: (
            lambda x: aggregated.log_aggregated(linear_gaussian, x, z),
            lambda x: aggregated.rescaled(linear_gaussian, x, 6.0),
        ),
        2: (lambda x: aggregated.surgery(linear_gaussian, x, generator=generator),),
    }
    broken = x.clone()
    broken[2] = torch.nan
    for least, each in calls.items():
        for call in each:
            with pytest.raises(ValueError, match=rf"^datapoints must be {least} or more, not 0$"):
                call(x[:0])
            with pytest.raises(ValueError, match=r"^the data are not a number for datapoints 2$"):
                call(broken)
    with torch.no_grad():
        linear_gaussian.V[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"^the log-density is not a number for datapoints 0, 1, 2, 3$"):
        aggregated.surgery(linear_gaussian, x, generator=generator)


@pytest.mark.parametrize("reach", [0.0, -6.0, math.inf, math.nan])
def test_a_reach_of_nothing_is_refused(linear_gaussian, x, reach):
    with pytest.raises(ValueError, match=rf"^reach must be finite and above 0, not {reach}$"):
        aggregated.rescaled(linear_gaussian, x, reach)

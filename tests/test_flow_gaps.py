"""The gaps of a q that goes through a flow, on models whose answers are known."""

import pytest
import torch

from aevb import flow_gaps, gaps
from aevb.flows import Autoregressive, FlowVAE, Planar, Q
from aevb.model import LinearGaussian, bernoulli_vae

FAMILIES = pytest.mark.parametrize("family", [Planar, Autoregressive])


@pytest.fixture
def tilted():
    """A linear-Gaussian model whose posterior is strongly tilted, its best diagonal Gaussian, and data from it."""
    W = torch.tensor([[1.0, 0.9], [0.2, 0.4], [0.9, 0.9]], dtype=torch.float64)
    model = LinearGaussian(W, torch.zeros(3, dtype=torch.float64), 0.5).requires_grad_(False)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return model, x, model.posterior(x)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@FAMILIES
def test_the_bound_of_steps_that_do_nothing_is_the_gaussians(tilted, family):
    model, x, gaussian = tilted
    flow = family(2, 3)
    q = flow_gaps.start_at(flow, gaussian, generator=seeded())
    torch.testing.assert_close(flow_gaps.bound_of(model, flow, x, q), model.exact_bound(x))


@FAMILIES
def test_the_bound_of_a_flow_is_what_sampling_says(tilted, family):
    model, x, gaussian = tilted
    flow = family(2, 2)
    q = flow_gaps.start_at(flow, gaussian, generator=seeded())
    q = q._replace(steps=q.steps + 0.1 * torch.randn(q.steps.shape, generator=seeded(), dtype=q.steps.dtype))
    draws = torch.cat([flow_gaps._log_weights(model, flow, x, q, seed) for seed in [seeded()] * 1000])
    error = draws.std(0) / len(draws) ** 0.5
    assert ((flow_gaps.bound_of(model, flow, x, q) - draws.mean(0)).abs() < 4 * error).all()
    assert error.max() < 0.02


@pytest.mark.parametrize(("flow", "share"), [(Planar(2, 1), 0.9), (Planar(2, 4), 0.5), (Autoregressive(2, 1), 0.1)])
def test_the_best_of_a_flow_is_nearer_to_a_tilted_posterior_than_any_diagonal(tilted, flow, share):
    """The best diagonal lacks a known number of nats; a flow lacks at most a share of them, and never less than none.

    One planar step bends the noise in one direction. An autoregressive one can tilt it as far as tanh is straight.
    """
    model, x, gaussian = tilted
    lacks = model.log_evidence(x) - model.exact_bound(x)
    assert (lacks > 0.5).all()
    _, bound = flow_gaps.best(model, flow, x, [flow_gaps.start_at(flow, gaussian, generator=seeded())])
    left = model.log_evidence(x) - bound
    assert (left > -1e-3).all()
    assert (left < share * lacks).all()


@FAMILIES
def test_the_best_is_no_worse_than_where_it_starts(tilted, family, monkeypatch):
    monkeypatch.setattr(flow_gaps, "RATE", 10.0)  # which ruins every step
    model, x, gaussian = tilted
    flow = family(2, 2)
    _, bound = flow_gaps.best(model, flow, x, [flow_gaps.start_at(flow, gaussian, generator=seeded())])
    assert (bound > model.exact_bound(x) - 1e-9).all()


def test_the_moments_are_those_of_the_posterior(tilted):
    model, x, _ = tilted
    mean, log_var = flow_gaps.moments(model, x)
    exact, covariance = model.exact_posterior(x)
    torch.testing.assert_close(mean, exact, atol=1e-3, rtol=0)
    torch.testing.assert_close(log_var.exp(), covariance.diagonal().expand(4, 2), rtol=0.02, atol=0)


def test_log_px_is_that_of_the_closed_form(tilted):
    model, x, (mu, log_var) = tilted
    q = Q(mu, log_var + 1.5, torch.zeros(4, 0, 5, dtype=torch.float64))
    log_px, error = flow_gaps.log_evidence(model, Planar(2, 0), x, q, generator=seeded())
    assert ((log_px - model.log_evidence(x)).abs() < 4 * error).all()
    assert error.max() < 0.05


@FAMILIES
def test_both_gaps_make_up_the_whole(family):
    """With a decoder of weights so large that no posterior is Gaussian; against the gaps of the VAE."""
    vae = bernoulli_vae(12, 8, 2, generator=torch.Generator().manual_seed(1)).double().requires_grad_(False)
    for parameter in vae.decoder.parameters():
        parameter *= 100
    x = torch.rand(4, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64).round()
    plain = gaps.split(vae, x)
    model = FlowVAE(vae, family(2, 4), generator=seeded()).requires_grad_(False)
    found = flow_gaps.split(model, x)
    torch.testing.assert_close(found.log_px, plain.log_px, atol=0.05, rtol=0)
    torch.testing.assert_close(found.bound, plain.bound)  # it starts as the VAE
    assert (found.best >= plain.best - 0.01).all()
    assert (found.log_px > found.best - 0.05).all()
    assert (found.log_px - found.best).mean() < plain.family.mean()


# ---- trouble


def small(family, latent_dim: int = 2) -> tuple[FlowVAE, torch.Tensor]:
    vae = bernoulli_vae(6, 5, latent_dim, generator=seeded())
    return FlowVAE(vae, family(latent_dim, 2), generator=seeded()), torch.rand(3, 6, generator=seeded())


def plain(found: flow_gaps.Gaps) -> torch.Tensor:
    return torch.stack(found).detach().clone()


@FAMILIES
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("inside", ["the call", "everything"])
def test_modes_without_gradients_change_nothing(family, mode, inside):
    ready = small(family)
    expected = plain(flow_gaps.split(*ready))
    with mode():
        found = plain(flow_gaps.split(*(small(family) if inside == "everything" else ready)))
    assert torch.equal(found, expected)


@FAMILIES
@pytest.mark.parametrize("setting", ["type", "device"])
def test_torchs_defaults_change_nothing(family, setting):
    ready = small(family)
    expected = plain(flow_gaps.split(*ready))
    torch.set_default_dtype(torch.float64 if setting == "type" else torch.float32)
    torch.set_default_device("meta" if setting == "device" else None)
    try:
        found = plain(flow_gaps.split(*ready))
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("part", ["decoder", "encoder"])
def test_a_model_that_is_not_a_number_is_named(part):
    model, x = small(Planar)
    getattr(model.requires_grad_(False), part).hidden.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"^the log-density is not a number for datapoints 0, 1, 2$"):
        flow_gaps.split(model, x)


def test_four_latents_are_refused():
    model, x = small(Planar, 4)
    for door in (flow_gaps.split, flow_gaps.moments, lambda m, x: flow_gaps.bound_of(m, m.flow, x, m.q(x))):
        with pytest.raises(ValueError, match="at most three latents, not 4"):
            door(model, x)

"""Objectives that weigh the divergence from the prior, on models whose answers are known."""

import math

import pytest
import torch
from conftest import assert_unbiased
from torch import Tensor

from aevb import objectives, weighted_kl
from aevb.bounds import kl_to_prior
from aevb.model import LinearGaussian
from aevb.networks import log_normal


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def parameters(model: LinearGaussian) -> tuple[Tensor, ...]:
    return model.V, model.log_var, model.W, model.b


def exact_terms(model: LinearGaussian, x: Tensor) -> tuple[Tensor, Tensor]:
    """E_q[log p(x|z)] `(M,)` and the divergence of each latent from the prior `(M, J)`, nats, differentiable.

    The mean of a quadratic under a Gaussian: that of its mean, minus half the trace of W'W times the variances.
    """
    mu, log_var = model.posterior(x)
    noise = torch.full_like(model.b, model.s**2).log()
    spread = (model.W.square().sum(0) * log_var.exp()).sum(-1)
    log_px = log_normal(x, mu @ model.W.T + model.b, noise) - 0.5 * spread / model.s**2
    return log_px, 0.5 * (mu.square() + log_var.exp() - 1 - log_var)


def gradients(objective, model: LinearGaussian, x: Tensor, generator: torch.Generator) -> Tensor:
    grads = torch.autograd.grad(objective(model, x, generator=generator).loss, parameters(model))
    return torch.cat([grad.flatten() for grad in grads])


@pytest.mark.parametrize("same", [weighted_kl.beta(1), weighted_kl.free_bits(0)])
def test_unbent_they_are_aevb_at_the_same_noise(linear_gaussian, x, same):
    ours, theirs = (f(linear_gaussian, x, generator=seeded()) for f in (same, objectives.aevb))
    torch.testing.assert_close(ours.loss, theirs.loss)
    torch.testing.assert_close(ours.bound, theirs.bound)
    ours, theirs = (gradients(f, linear_gaussian, x, seeded()) for f in (same, objectives.aevb))
    torch.testing.assert_close(ours, theirs)


def test_the_divergence_of_each_latent_sums_to_that_of_all(linear_gaussian, x):
    q = linear_gaussian.posterior(x)
    torch.testing.assert_close(weighted_kl.kl_per_latent(*q).sum(-1), kl_to_prior(*q))
    torch.testing.assert_close(weighted_kl.kl_per_latent(*q), exact_terms(linear_gaussian, x)[1])


@pytest.mark.parametrize("weight", [0.0, 0.5, 4.0])
def test_beta_is_unbiased_and_so_is_its_gradient_while_its_bound_stays_that_of_eq_3(
    linear_gaussian, x, generator, weight
):
    m, many, n = linear_gaussian, x.repeat(200, 1), 400
    log_px, kl = exact_terms(m, x)
    exact = (weight * kl.sum(-1) - log_px).mean()
    slope = torch.cat([g.flatten() for g in torch.autograd.grad(exact, parameters(m))])
    updates = [weighted_kl.beta(weight)(m, many, generator=generator) for _ in range(n)]
    assert_unbiased(torch.stack([u.loss.detach() / 800 for u in updates])[:, None], exact.detach()[None], 0.01)
    found = torch.stack([torch.cat([g.flatten() for g in torch.autograd.grad(u.loss, parameters(m))]) for u in updates])
    assert_unbiased(found / 800, slope, precision=0.02)
    bound = torch.stack([u.bound.view(-1, 4).mean(0) for u in updates])
    assert_unbiased(bound, m.exact_bound(x).detach(), precision=0.02)


@pytest.mark.parametrize("weight", [0.3, 1.0, 2.5])
def test_the_best_q_of_beta_is_that_of_a_likelihood_that_is_as_much_noisier(linear_gaussian, x, weight):
    """Precisions 1 + (W'W)_jj / (weight s^2), means those of the posterior where s^2 is weight s^2: no gradient there.

    Derived by setting the derivatives of E_q[log p(x|z)] / weight minus the divergence to zero.
    """
    m = linear_gaussian
    with torch.no_grad():
        noisier = LinearGaussian(m.W.detach(), m.b.detach(), weight**0.5 * m.s)
        m.V.copy_(noisier.V)
        m.log_var.copy_(-torch.log(1 + m.W.square().sum(0) / (weight * m.s**2)))
        torch.testing.assert_close(m.posterior(x)[0], noisier.exact_posterior(x)[0])

    def loss() -> Tensor:
        log_px, kl = exact_terms(m, x)
        return (weight * kl.sum(-1) - log_px).sum()

    best, slopes = loss().detach(), torch.autograd.grad(loss(), parameters(m)[:2])
    for slope in slopes:
        torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-10, rtol=0)
    with torch.no_grad():
        m.log_var += 0.1
    assert loss() > best


def test_a_latent_collapses_where_beta_exceeds_its_eigenvalue_over_the_noise():
    """Trained through to its optimum, each latent's mean divergence is log(lambda / (beta s^2)) / 2, or nothing.

    Data of known variances, a decoder of fixed noise: probabilistic PCA (Tipping and Bishop 1999) at noise beta s^2.
    """
    variances, s = torch.tensor([4.0, 2.0, 0.5]).double(), 0.5
    axes = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    x = axes * (3 * variances).sqrt().repeat(2)[:, None]  # their second moments are the variances
    for weight in (1.0, 4.0, 10.0, 17.0):
        m = LinearGaussian(0.5 * torch.eye(3).double() + 0.1, torch.zeros(3).double(), s)
        optimizer = torch.optim.LBFGS(parameters(m)[:3], max_iter=1000, line_search_fn="strong_wolfe")

        def loss(m=m, weight=weight, optimizer=optimizer) -> Tensor:
            optimizer.zero_grad()
            log_px, kl = exact_terms(m, x)
            value = (weight * kl.sum(-1) - log_px).mean()
            value.backward()
            m.V.grad = m.V.grad.contiguous()  # as the optimiser wants it
            return value

        optimizer.step(loss)
        kl = exact_terms(m, x)[1].mean(0).sort(descending=True).values.detach()
        expected = (0.5 * (variances / (weight * s**2)).log()).clamp(min=0)
        torch.testing.assert_close(kl, expected, atol=1e-3, rtol=0)
    assert kl.max() < 1e-3  # of the last, above 4 / s^2 = 16: all have collapsed


def test_free_bits_charge_a_latent_for_what_is_above_its_floor_alone(linear_gaussian, x):
    """The mean over the minibatch counts, not each datapoint: by hand, with a floor between the latents."""
    m = linear_gaussian
    kl = exact_terms(m, x)[1]
    low, high = kl.mean(0).sort().values.tolist()
    floor = (low + high) / 2
    assert (kl.amax(0) > floor).all()  # single datapoints of the lower latent are above the floor too
    update, free = (f(m, x, generator=seeded()) for f in (weighted_kl.free_bits(floor), weighted_kl.beta(0)))
    above = kl.mean(0).argmax()
    torch.testing.assert_close(update.loss, free.loss + 4 * (floor + high))
    torch.testing.assert_close(update.bound, objectives.aevb(m, x, generator=seeded()).bound)
    charged = torch.autograd.grad(kl[:, above].sum(), parameters(m)[:2], allow_unused=True)
    ours = gradients(weighted_kl.free_bits(floor), m, x, seeded()) - gradients(weighted_kl.beta(0), m, x, seeded())
    expected = torch.cat([*(part.flatten() for part in charged), torch.zeros(9).double()])
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("objective", [weighted_kl.beta, weighted_kl.free_bits])
def test_what_is_negative_or_not_finite_is_refused(objective):
    for value in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"finite and not negative, not {value}$"):
            objective(value)

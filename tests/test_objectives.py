import pytest
import torch
from conftest import assert_unbiased

from aevb.model import bernoulli_vae, gaussian_vae
from aevb.objectives import aevb, score_function, wake_sleep


def seeded():
    return torch.Generator().manual_seed(3)


def gradients(loss, parameters):
    """The gradient in each parameter, zero where the loss does not depend on it."""
    return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)


def flat_gradient(objective, model, x, generator):
    """The gradient of the bound per datapoint, V, log_var, W and b in one vector."""
    parameters = (model.V, model.log_var, model.W, model.b)
    grads = gradients(-objective(model, x, generator=generator).loss / len(x), parameters)
    return torch.cat([g.flatten() for g in grads])


def test_aevb_pathwise_gradient_by_hand(linear_gaussian, x):
    m = linear_gaussian
    grad = gradients(aevb(m, x, generator=seeded()).loss, (m.W, m.b, m.V, m.log_var))
    eps = torch.randn(1, 4, 2, generator=seeded(), dtype=torch.float64)[0]
    with torch.no_grad():
        sigma, mu = torch.exp(0.5 * m.log_var), (x - m.b) @ m.V.T
        z = mu + sigma * eps
        e = (x - z @ m.W.T - m.b) / m.s**2  # d log p(x|z) / d(Wz + b)
        d_z = e @ m.W  # d log p(x|z) / dz
        d_mu = d_z - mu
        d_log_var = d_z * 0.5 * sigma * eps - 0.5 * (m.log_var.exp() - 1)
        expected = e.T @ z, e.sum(0), d_mu.T @ (x - m.b), d_log_var.sum(0)
    for ours, by_hand in zip(grad, expected, strict=True):
        torch.testing.assert_close(ours, -by_hand)


def test_wake_and_sleep_gradients_by_hand(linear_gaussian, x):
    m = linear_gaussian
    grad = gradients(wake_sleep(m, x, generator=seeded()).loss, (m.W, m.b, m.V, m.log_var))
    again = seeded()
    with torch.no_grad():
        sigma = torch.exp(0.5 * m.log_var)
        z = (x - m.b) @ m.V.T + sigma * torch.randn(1, 4, 2, generator=again, dtype=torch.float64)[0]
        z_dream = torch.randn(4, 2, generator=again, dtype=torch.float64)
        x_dream = torch.normal(z_dream @ m.W.T + m.b, m.s, generator=again)
        e = (x - z @ m.W.T - m.b) / m.s**2
        miss = (z_dream - (x_dream - m.b) @ m.V.T) / sigma
        wake = e.T @ z, e.sum(0)
        sleep = (miss / sigma).T @ (x_dream - m.b), 0.5 * (miss**2 - 1).sum(0)
    for ours, by_hand in zip(grad, wake + sleep, strict=True):
        torch.testing.assert_close(ours, -by_hand)


@pytest.mark.parametrize("kind", ["linear-gaussian", "bernoulli", "gaussian"])
def test_wake_reaches_only_theta_and_sleep_only_phi(linear_gaussian, x, generator, kind):
    """Taken apart, each half has no gradient in the other's parameters; together they are the two halves."""
    if kind == "linear-gaussian":
        model = linear_gaussian
        theta, phi = (model.W, model.b), (model.V, model.log_var)
    else:
        model = (bernoulli_vae if kind == "bernoulli" else gaussian_vae)(3, 5, 2, generator=generator).double()
        theta, phi = tuple(model.decoder.parameters()), tuple(model.encoder.parameters())
        x = x.sigmoid()
    again = seeded()
    with torch.no_grad():
        z, _ = model.sample_posterior(x, 1, generator=again)
        x_dream, z_dream = model.sample_joint(len(x), generator=again)
    both = theta + phi
    wake = torch.autograd.grad(-model.log_joint(x, z).sum(), both, allow_unused=True)
    sleep = torch.autograd.grad(-model.log_posterior(z_dream, x_dream).sum(), both, allow_unused=True)
    total = torch.autograd.grad(wake_sleep(model, x, generator=seeded()).loss, both)
    assert all(g is None for g in wake[len(theta) :]), "wake reaches phi"
    assert all(g is None for g in sleep[: len(theta)]), "sleep reaches theta"
    for ours, part in zip(total, wake[: len(theta)] + sleep[len(theta) :], strict=True):
        torch.testing.assert_close(ours, part)


@pytest.mark.parametrize("objective", [aevb, score_function])
def test_their_gradients_are_unbiased_for_that_of_the_bound(linear_gaussian, x, generator, objective):
    """From 200 batches of 200 draws."""
    batches = [flat_gradient(objective, linear_gaussian, x.repeat(50, 1), generator) for _ in range(200)]
    parameters = (linear_gaussian.V, linear_gaussian.log_var, linear_gaussian.W, linear_gaussian.b)
    exact = gradients(linear_gaussian.exact_bound(x).mean(), parameters)
    assert_unbiased(torch.stack(batches), torch.cat([g.flatten() for g in exact]), precision=0.3)


def test_score_function_has_the_larger_variance(linear_gaussian, x, generator):
    """In V and log_var, summed, at the same number of draws; the ratio is far from 1 (section 2.2)."""
    spread = {
        objective: torch.stack([flat_gradient(objective, linear_gaussian, x, generator) for _ in range(500)]).var(0)
        for objective in (aevb, score_function)
    }
    assert spread[score_function][:8].sum() > 3 * spread[aevb][:8].sum()


def test_wake_gradient_is_unbiased_for_that_of_the_bound_in_theta(linear_gaussian, x, generator):
    """In W alone, which q does not depend on."""
    W = linear_gaussian.W
    batches = [
        gradients(-wake_sleep(linear_gaussian, x.repeat(50, 1), generator=generator).loss / 200, [W])[0]
        for _ in range(200)
    ]
    assert_unbiased(torch.stack(batches), gradients(linear_gaussian.exact_bound(x).mean(), [W])[0], precision=0.05)


@pytest.mark.parametrize("objective", [aevb, wake_sleep, score_function])
def test_the_bound_that_comes_along(linear_gaussian, x, generator, objective):
    n = 10_000
    update = objective(linear_gaussian, x.repeat(n, 1), generator=generator)
    assert update.loss.shape == ()
    assert update.bound.shape == (4 * n,)
    assert not update.bound.requires_grad
    assert_unbiased(update.bound.view(n, 4), linear_gaussian.exact_bound(x).detach(), precision=0.05)


@pytest.mark.parametrize("objective", [aevb, wake_sleep, score_function])
def test_randomness_is_the_generators_alone(linear_gaussian, x, objective):
    before = torch.get_rng_state()
    first, second = (objective(linear_gaussian, x, generator=seeded()) for _ in range(2))
    assert torch.equal(first.loss, second.loss)
    assert torch.equal(first.bound, second.bound)
    assert torch.equal(torch.get_rng_state(), before)

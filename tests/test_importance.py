"""The importance-weighted objective and its doubly reparameterized gradient, on models whose answers are known."""

import dataclasses

import pytest
import torch
from conftest import assert_unbiased
from torch import Tensor

from aevb import importance
from aevb.bounds import estimator_a, estimator_b, importance_weighted, log_weights
from aevb.fit import fit, fit_ensemble
from aevb.gaps import gauss_hermite
from aevb.model import LinearGaussian
from aevb.networks import log_normal
from aevb.objectives import Update
from tests.runs import RUN, seeds

BOTH = pytest.mark.parametrize("objective", [importance.weighted, importance.doubly])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def parameters(model: LinearGaussian) -> tuple[Tensor, ...]:
    return model.V, model.log_var, model.W, model.b


def flat(grads: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([grad.flatten() for grad in grads])


def batches(objective, model: LinearGaussian, x: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """`n` gradients of the bound of one datapoint, each the mean over 200 draws: V, log_var, W and b in one vector."""
    many = x.repeat(200, 1)
    losses = (objective(model, many, generator=generator).loss / 200 for _ in range(n))
    return torch.stack([-flat(torch.autograd.grad(loss, parameters(model))) for loss in losses])


@pytest.fixture
def line() -> tuple[LinearGaussian, Tensor]:
    """One latent and two numbers, with a q that is off in mean and variance, and one datapoint."""
    model = LinearGaussian(torch.tensor([[1.0], [0.6]]).double(), torch.tensor([0.2, -0.1]).double(), 0.8)
    with torch.no_grad():
        model.V += torch.tensor([[0.2, -0.1]])
        model.log_var += 0.5
    return model, torch.tensor([[1.2, -0.4]]).double()


def exact_of_two(model: LinearGaussian, x: Tensor) -> Tensor:
    """L_2 of the one datapoint under `line`, `()`, nats: by Gauss-Hermite over both draws, and differentiable."""
    nodes, masses = gauss_hermite(80)
    mu, log_var = model.posterior(x)
    z = mu + torch.exp(0.5 * log_var) * nodes[:, None, None]
    log_w = (model.log_joint(x, z) - log_normal(z, mu, log_var))[:, 0]
    both = torch.logaddexp(log_w[:, None], log_w[None]) - torch.log(torch.tensor(2.0))
    return (masses[:, None] * masses * both).sum()


# the bound


def test_it_rises_with_k_from_the_bound_to_the_evidence(linear_gaussian, x, generator):
    """Means of 10,000 draws, in standard errors; every step from one k to the next is many of them."""
    m, n = linear_gaussian, 10_000
    draws = {
        k: importance_weighted(m, x.repeat(n, 1), k, generator=generator).detach().view(n, 4) for k in (1, 2, 5, 50)
    }
    assert_unbiased(draws[1], m.exact_bound(x).detach(), precision=0.05)
    for fewer, more in zip((1, 2, 5), (2, 5, 50), strict=True):
        error = ((draws[fewer].var(0) + draws[more].var(0)) / n).sqrt()
        assert (draws[more].mean(0) - draws[fewer].mean(0) > 5 * error).all()
    error = draws[50].std(0) / n**0.5
    assert (draws[50].mean(0) < m.log_evidence(x) + 4 * error).all()


def test_of_two_samples_it_is_what_quadrature_says(line, generator):
    model, x = line
    draws = importance_weighted(model, x.repeat(200_000, 1), 2, generator=generator).detach()
    exact = exact_of_two(model, x).detach()
    assert model.exact_bound(x) < exact < model.log_evidence(x)
    assert_unbiased(draws[:, None], exact[None], precision=0.005)


@BOTH
def test_with_one_sample_it_is_estimator_a_and_not_b(linear_gaussian, x, objective):
    update = objective(1)(linear_gaussian, x, generator=seeded())
    torch.testing.assert_close(-update.loss, estimator_a(linear_gaussian, x, generator=seeded()).sum())
    assert abs(-update.loss - estimator_b(linear_gaussian, x, generator=seeded()).sum()) > 0.1


@BOTH
@pytest.mark.parametrize("k", [1, 5])
def test_the_loss_and_the_bound_that_comes_along(linear_gaussian, x, generator, objective, k):
    loss = -importance_weighted(linear_gaussian, x, k, generator=seeded()).sum()
    torch.testing.assert_close(objective(k)(linear_gaussian, x, generator=seeded()).loss, loss)
    update = objective(k)(linear_gaussian, x.repeat(10_000, 1), generator=generator)
    assert update.loss.shape == ()
    assert not update.bound.requires_grad
    assert_unbiased(update.bound.view(-1, 4), linear_gaussian.exact_bound(x).detach(), precision=0.05)


# its gradient


@pytest.mark.parametrize("k", [1, 3])
def test_both_gradients_by_hand(linear_gaussian, x, k):
    """The sum of normalized weights times grad log w, and in phi that of their squares times the pathwise part."""
    m = linear_gaussian
    eps = torch.randn(k, 4, 2, generator=seeded(), dtype=torch.float64)
    with torch.no_grad():
        sigma, mu = torch.exp(0.5 * m.log_var), (x - m.b) @ m.V.T
        z = mu + sigma * eps
        log_w = m.log_joint(x, z) - log_normal(z, mu, m.log_var.expand_as(mu))
        share = torch.softmax(log_w, 0)[..., None]
        e = (x - z @ m.W.T - m.b) / m.s**2  # d log p(x|z) / d(Wz + b)
        d_joint = e @ m.W - z  # d log p(x, z) / dz
        theta = torch.einsum("kmd,kmj->dj", share * e, z), (share * e).sum((0, 1))
        naive = share * d_joint, share * (d_joint * 0.5 * sigma * eps + 0.5)
        d_weight = d_joint + eps / sigma  # d log w / dz
        doubly = share**2 * d_weight, share**2 * d_weight * 0.5 * sigma * eps
    for objective, (d_mu, d_log_var) in ((importance.weighted, naive), (importance.doubly, doubly)):
        found = torch.autograd.grad(objective(k)(m, x, generator=seeded()).loss, parameters(m))
        expected = d_mu.sum(0).T @ (x - m.b), d_log_var.sum((0, 1)), *theta
        for ours, by_hand in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, -by_hand)


@BOTH
def test_both_gradients_are_unbiased_for_that_of_the_bound(line, generator, objective):
    """Against the derivative of the bound of two samples by quadrature: 400 batches of 200 draws."""
    model, x = line
    exact = flat(torch.autograd.grad(exact_of_two(model, x), parameters(model)))
    assert_unbiased(batches(objective(2), model, x, 400, generator), exact, precision=0.02)


@pytest.mark.parametrize("k", [1, 5, 50])
def test_both_gradients_have_one_mean(linear_gaussian, x, generator, k):
    """In phi, where their draws differ; in theta they are the same to rounding."""
    one, first, second = x[:1], *(torch.Generator().manual_seed(seed) for seed in (5, 5))
    naive = batches(importance.weighted(k), linear_gaussian, one, 100, first)
    doubly = batches(importance.doubly(k), linear_gaussian, one, 100, second)
    assert_unbiased((naive - doubly)[:, :8], torch.zeros(8).double(), precision=0.5)
    torch.testing.assert_close(naive[:, 8:], doubly[:, 8:])


def test_weights_that_are_not_squared_are_found_out(line, generator):
    """A planted error: the doubly reparameterized gradient with its weights but once."""
    model, x = line

    def once(model, x, *, generator):
        mu, log_var = model.posterior(x)
        z, _ = model.sample_posterior(x, 2, generator=generator)
        log_w = model.log_joint(x, z) - log_normal(z, mu.detach(), log_var.detach())
        return Update(-torch.logsumexp(log_w, 0).sum(), log_w.detach().mean(0))

    exact = flat(torch.autograd.grad(exact_of_two(model, x), parameters(model)))
    found = batches(once, model, x, 400, generator)
    assert_unbiased(found[:, 3:], exact[3:], precision=0.02)  # theta, which is right all the same
    with pytest.raises(AssertionError):
        assert_unbiased(found[:, :3], exact[:3], precision=0.02)


def signal(objective, model: LinearGaussian, x: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """|mean| over deviation of one draw's gradient in the mu and log_var of q for one datapoint, `(2 J,)`."""
    q = tuple(part.detach().expand(n, -1).clone().requires_grad_() for part in model.posterior(x))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "posterior", lambda x: q)  # each draw has a q of its own
        grads = torch.autograd.grad(objective(model, x.expand(n, -1), generator=generator).loss, q)
    return torch.cat([grad.mean(0).abs() / grad.std(0) for grad in grads])


def test_the_signal_in_phi_falls_with_k_and_doubly_reparameterized_it_rises(line, generator):
    """By the square root of k, each way, where q is wider than the posterior: from 4 samples to 64, a factor of 4."""
    naive, doubly = (
        [signal(objective(k), *line, 10_000, generator) for k in (4, 64)]
        for objective in (importance.weighted, importance.doubly)
    )
    assert (naive[1] < 0.6 * naive[0]).all()
    assert (doubly[1] / doubly[0] > 3).all()


# as an algorithm


@BOTH
def test_randomness_is_the_generators_alone(linear_gaussian, x, objective):
    before = torch.get_rng_state()
    first, second = (objective(5)(linear_gaussian, x, generator=seeded()) for _ in range(2))
    assert torch.equal(first.loss, second.loss)
    assert torch.equal(first.bound, second.bound)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(log_weights(linear_gaussian, x, 5, generator=seeded()).mean(0).detach(), first.bound)


@BOTH
def test_no_samples_are_refused(objective):
    with pytest.raises(ValueError, match="k"):
        objective(0)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("algorithm", ["iwae-5", "dreg-5"])
def test_its_runs_train_together_as_alone(algorithm):
    runs = seeds(dataclasses.replace(RUN, algorithm=algorithm))
    for run, member in zip(runs, fit_ensemble(runs, 12_600), strict=True):
        for ours, theirs in zip(member.curve, fit(run, 12_600).curve, strict=True):
            assert dataclasses.astuple(ours) == pytest.approx(dataclasses.astuple(theirs), abs=2e-3)

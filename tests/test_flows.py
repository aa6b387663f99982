"""Flows: their Jacobians, their inverses, their densities, and the bounds of the q that goes through one."""

import dataclasses
import functools
import math

import pytest
import torch
from conftest import assert_unbiased
from torch import Tensor

from aevb import bounds, importance, objectives
from aevb.algorithms import ALGORITHMS
from aevb.fit import fit
from aevb.flows import Autoregressive, FlowVAE, Planar, Q, log_density, push
from aevb.measures import mean_sampled_bound
from aevb.model import VAE, LinearGaussian, bernoulli_vae
from aevb.networks import log_normal
from tests.runs import RUN

FAMILIES = pytest.mark.parametrize("family", [Planar, Autoregressive])
FLOWS = [name for name, algorithm in ALGORITHMS.items() if name.startswith(("planar", "iaf"))]


def some_q(flow, m: int = 4, scale: float = 1.0) -> Q:
    """A q of each of m datapoints, far from the identity, in double precision."""
    source = torch.Generator().manual_seed(5)
    start = flow.start(generator=source).double()
    mu, log_var = torch.randn(2, m, flow.latent_dim, generator=source, dtype=torch.float64)
    steps = start + scale * torch.randn(m, *start.shape, generator=source, dtype=torch.float64)
    return Q(mu, log_var, steps)


def noise(n: int, *shape: int) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


# the steps


@FAMILIES
@pytest.mark.parametrize("latent_dim", [1, 2, 3, 5])
def test_the_log_determinant_is_that_of_autograds_jacobian(family, latent_dim):
    """Of each step by itself, odd ones too, and of all of them with mu and sigma behind them."""
    flow = family(latent_dim, 3)
    q = some_q(flow)
    y = noise(1, 4, latent_dim)
    for k in range(flow.n_steps):
        numbers = q.steps[:, k]
        jacobian = torch.autograd.functional.jacobian(lambda y, k=k, n=numbers: flow.step(k, y, n)[0].sum((0, 1)), y)
        log_det = torch.linalg.slogdet(jacobian[:, 0].transpose(0, 1))[1]
        torch.testing.assert_close(flow.step(k, y, numbers)[1][0], log_det)
    whole = torch.autograd.functional.jacobian(lambda eps: push(flow, q, eps)[0].sum((0, 1)), y)
    log_det = torch.linalg.slogdet(whole[:, 0].transpose(0, 1))[1]
    standard = log_normal(y[0], torch.zeros(latent_dim), torch.zeros(latent_dim))
    torch.testing.assert_close(push(flow, q, y)[1][0], standard - log_det)


@FAMILIES
@pytest.mark.parametrize("latent_dim", [1, 3])
def test_what_is_undone_comes_from_where_it_began(family, latent_dim):
    flow = family(latent_dim, 4)
    q = some_q(flow)
    eps = noise(200, 4, latent_dim)
    y = eps
    for k in range(4):
        led, _ = flow.step(k, y, q.steps[:, k])
        torch.testing.assert_close(flow.undo(k, led, q.steps[:, k]), y, rtol=1e-9, atol=1e-9)
        y = led
    z, log_q = push(flow, q, eps)
    torch.testing.assert_close(log_density(flow, q, z), log_q, rtol=1e-7, atol=1e-7)


def test_a_planar_step_is_invertible_whatever_its_numbers():
    """With u against w as far as it goes, log |det| is finite and the way along w rises: no plane folds over."""
    flow = Planar(2, 1)
    w = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    for size in (0.5, 2.0, 8.0, 20.0):
        numbers = torch.cat([-size * w, w, torch.tensor([[0.3]])], -1)
        y = torch.linspace(-3, 3, 2001, dtype=torch.float64)[:, None, None] * w
        led, log_det = flow.step(0, y, numbers)
        assert torch.isfinite(log_det).all()
        assert ((led @ w[0]).diff(dim=0) > 0).all()
    u, _, _, wu = flow._parts(torch.cat([-0.5 * w, w, torch.tensor([[0.3]])], -1))
    torch.testing.assert_close((u * w).sum(-1), wu)
    torch.testing.assert_close(wu, torch.expm1(torch.tensor([-0.5])).double())


def test_u_stays_as_it_is_where_it_may():
    numbers = torch.tensor([[0.5, -0.2, 1.0, 0.4, 0.0]], dtype=torch.float64)
    assert torch.equal(Planar(2, 1)._parts(numbers)[0], numbers[:, :2])


@pytest.mark.parametrize("k", [0, 1])
def test_an_autoregressive_step_looks_only_back(k):
    """Each m and s changes with the dimensions before, in the step's order, and with no other."""
    flow = Autoregressive(3, 2)
    numbers = some_q(flow).steps[:1, k]
    y = noise(1, 1, 3)
    for part in (0, 1):
        slopes = torch.autograd.functional.jacobian(lambda y, p=part: flow._network(k, y, numbers)[p][0, 0], y)
        seen = slopes[:, 0, 0] != 0
        before = torch.ones(3, 3).tril(-1).bool()
        assert torch.equal(seen, before.flip(0, 1) if k else before)


@FAMILIES
@pytest.mark.parametrize("n_steps", [1, 4])
def test_it_starts_as_the_identity(family, n_steps):
    flow = family(3, n_steps)
    steps = flow.start(generator=torch.Generator().manual_seed(0)).double().expand(4, -1, -1)
    y = noise(50, 4, 3)
    for k in range(n_steps):
        led, log_det = flow.step(k, y, steps[:, k])
        assert torch.equal(led, y)
        assert (log_det == 0).all()


def test_planar_steps_before_mu_and_sigma_are_planar_steps_after_them():
    """The family of Rezende and Mohamed: u times sigma, w over sigma, b less w'mu over sigma."""
    flow = Planar(3, 1)
    q = some_q(flow, scale=0.3)
    eps, sigma = noise(20, 4, 3), torch.exp(0.5 * q.log_var)
    ours, log_q = push(flow, q, eps)
    u, w, b, _ = flow._parts(q.steps[:, 0])
    after = torch.cat([sigma * u, w / sigma, (b - (w / sigma * q.mu).sum(-1))[:, None]], -1)
    z0 = q.mu + sigma * eps
    h = torch.tanh((after[:, 3:6] * z0).sum(-1) + after[:, -1])
    theirs = z0 + after[:, :3] * h[..., None]
    torch.testing.assert_close(theirs, ours)
    log_det = torch.log1p((1 - h.square()) * (after[:, :3] * after[:, 3:6]).sum(-1))
    torch.testing.assert_close(log_normal(z0, q.mu, q.log_var) - log_det, log_q)


# the density


@FAMILIES
@pytest.mark.parametrize("latent_dim", [1, 2])
def test_the_density_integrates_to_one(family, latent_dim):
    """On a lattice of 301 nodes in each dimension, to 12 either way: little of these q's is outside."""
    flow = family(latent_dim, 3)
    q = some_q(flow, m=2, scale=0.3)
    axis = torch.linspace(-12, 12, 301, dtype=torch.float64)
    z = torch.cartesian_prod(*[axis] * latent_dim).reshape(-1, 1, latent_dim)
    mass = log_density(flow, q, z).exp().sum(0) * (axis[1] - axis[0]) ** latent_dim
    torch.testing.assert_close(mass, torch.ones(2).double(), atol=2e-3, rtol=0)


@FAMILIES
def test_the_density_where_it_is_asked_has_the_gradient_of_the_whole(family):
    """In z and in every number, against differences: what wake-sleep and the score function would descend."""
    flow = family(2, 2)
    q = some_q(flow, m=1, scale=0.3)
    z = noise(1, 1, 2)
    assert torch.autograd.gradcheck(
        lambda z, *parts: log_density(flow, Q(*parts), z), [part.clone().requires_grad_() for part in (z, *q)]
    )


# the model


@pytest.fixture
def vae() -> VAE:
    return bernoulli_vae(12, 6, 2, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def digits() -> Tensor:
    return torch.rand(5, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def flowing(vae: VAE, flow, scale: float = 0.5) -> FlowVAE:
    """The model with that flow, away from where it starts."""
    source = torch.Generator().manual_seed(2)
    model = FlowVAE(vae, flow, generator=source)
    with torch.no_grad():
        for parameter in (model.shared, model.own):
            parameter += scale * torch.randn(parameter.shape, generator=source, dtype=parameter.dtype)
    return model


@FAMILIES
def test_at_the_start_its_weights_are_the_vaes(vae, digits, family):
    model = FlowVAE(vae, family(2, 3), generator=torch.Generator().manual_seed(0))
    ours, theirs = (bounds.log_weights(m, digits, 7, generator=torch.Generator().manual_seed(3)) for m in (model, vae))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@FAMILIES
def test_each_datapoint_has_its_own_numbers_and_the_density_agrees_with_the_draws(vae, digits, family):
    model = flowing(vae, family(2, 3))
    own = model.q(digits).steps[..., : model.flow.n_own]
    assert (own.std(0) > 0).all()
    z, log_q = model.sample_posterior(digits, 9, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(model.log_posterior(z, digits), log_q, rtol=1e-8, atol=1e-8)


@FAMILIES
def test_every_parameter_has_a_gradient_and_randomness_is_the_generators_alone(vae, digits, family):
    model = flowing(vae, family(2, 2))
    before = torch.get_rng_state()
    objective = importance.weighted(1)
    first, second = (objective(model, digits, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first.loss, second.loss)
    assert torch.equal(torch.get_rng_state(), before)
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"decoder", "encoder", "shared", "own"}
    for slope in torch.autograd.grad(first.loss, list(model.parameters())):
        assert (slope != 0).any()


@FAMILIES
def test_what_takes_q_for_a_gaussian_is_refused(vae, digits, family):
    model = flowing(vae, family(2, 2))
    for wrong in (bounds.estimator_b, objectives.aevb, importance.doubly(5)):
        with pytest.raises(TypeError, match="no Gaussian"):
            wrong(model, digits, generator=torch.Generator().manual_seed(0))


def test_no_steps_and_no_samples_are_refused(vae, digits, generator):
    with pytest.raises(ValueError, match="n_steps"):
        FlowVAE(vae, Planar(2, 0), generator=generator)
    with pytest.raises(ValueError, match="n_samples"):
        flowing(vae, Planar(2, 1)).sample_posterior(digits, 0, generator=generator)


# on a model whose answers are known


class Flowing(LinearGaussian):
    """The linear-Gaussian model whose q goes through a flow with fixed numbers."""

    def through(self, flow, scale: float = 0.3) -> "Flowing":
        self.flow, self.numbers = flow, some_q(flow, m=1, scale=scale).steps
        return self

    def sample_posterior(self, x, n_samples, *, generator):
        mu, log_var = self.posterior(x)
        eps = torch.randn(n_samples, *mu.shape, generator=generator, dtype=mu.dtype)
        return push(self.flow, Q(mu, log_var, self.numbers.expand(len(mu), -1, -1)), eps)


@pytest.fixture
def tilted() -> Flowing:
    W = torch.tensor([[1.0, 0.8], [0.2, 1.0], [0.9, 0.7]], dtype=torch.float64)
    model = Flowing(W, torch.zeros(3, dtype=torch.float64), 0.8)
    with torch.no_grad():
        model.log_var += 0.6  # so wide that the weights have a variance
    return model


@FAMILIES
def test_the_weights_average_to_the_evidence(tilted, x, family, generator):
    """E_q[w] = p(x), whatever the flow: in standard errors of 400 means of 250 draws."""
    model = tilted.through(family(2, 3))
    log_w = bounds.log_weights(model, x, 100_000, generator=generator).detach()
    exact = torch.ones(4, dtype=torch.float64)
    assert_unbiased(torch.exp(log_w - model.log_evidence(x).detach()), exact, precision=0.02)


@FAMILIES
def test_the_bound_is_below_the_evidence_by_the_divergence(tilted, x, family, generator):
    """Of q from the posterior, which quadrature gives: estimator A is unbiased for it."""
    model = tilted.through(family(2, 3))
    draws = bounds.estimator_a(model, x.repeat(100_000, 1), generator=generator).detach().view(-1, 4)
    q = Q(*(part.detach() for part in model.posterior(x)), model.numbers.expand(4, -1, -1))
    axis = torch.linspace(-9, 9, 241, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)[:, None]
    log_q, mean_cov = log_density(model.flow, q, z), model.exact_posterior(x)
    p = torch.distributions.MultivariateNormal(*(part.detach() for part in mean_cov)).log_prob(z)
    divergence = (log_q.exp() * (log_q - p)).sum(0) * (axis[1] - axis[0]) ** 2
    assert (divergence > 0.1).all()
    assert_unbiased(draws, (model.log_evidence(x) - divergence).detach(), precision=0.05)


# as an algorithm


@functools.cache
def range_over_seeds() -> float:
    """The range of where RUN ends, over five seeds."""
    ends = [fit(dataclasses.replace(RUN, seed=seed), 16_000).curve[-1].test for seed in range(5)]
    return max(ends) - min(ends)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", FLOWS)
def test_it_trains_from_the_weights_of_the_others_and_is_measured_by_estimator_a(name, tiny):
    run = dataclasses.replace(RUN, algorithm=name)
    trained, aevb = fit(run, 16_000), fit(RUN, 16_000)
    assert trained.curve[-1].test == pytest.approx(aevb.curve[-1].test, abs=range_over_seeds())
    again = mean_sampled_bound(trained.model, tiny, tiny.test, generator=torch.Generator().manual_seed(RUN.seed))
    assert trained.curve[-1].test == again
    assert trained.curve[-1].test < 20 * math.log(2)
    assert trained.model.shared.detach().sub(ALGORITHMS[name].model(aevb.model, 64, 0.0).shared).abs().max() > 0.01


def test_the_sampled_bound_is_the_vaes_own_where_q_is_a_gaussian(vae, tiny):
    """By another estimator: within standard errors of 32 datapoints, 2,000 times over."""
    model = bernoulli_vae(20, 6, 2, generator=torch.Generator().manual_seed(0))
    many = tiny.test.repeat(500, 1)
    ours = mean_sampled_bound(model, tiny, many, generator=torch.Generator().manual_seed(1))
    b = bounds.estimator_b(model, tiny.unit(many), generator=torch.Generator().manual_seed(2))
    a = bounds.estimator_a(model, tiny.unit(many), generator=torch.Generator().manual_seed(3))
    assert abs(ours - b.mean().item()) < 5 * (a.std().item() + b.std().item()) / len(many) ** 0.5


# ---- where they end


@pytest.mark.parametrize(("width", "reached"), [(1, 0), (2, 1), (3, 2), (4, 3), (8, 3)])
def test_a_narrow_network_sees_the_first_dimensions_alone(width, reached, monkeypatch):
    """Of four dimensions the last is never looked at; with a width below four, none past the width - 1 first."""
    monkeypatch.setattr(Autoregressive, "width", width)
    flow = Autoregressive(4, 2)
    numbers = torch.randn(1, sum(flow.sizes), generator=torch.Generator().manual_seed(0)).double()
    for k in range(2):
        jacobian = torch.func.jacrev(lambda y, k=k: flow.step(k, y[None, None], numbers)[0][0, 0])(
            torch.ones(4).double()
        )
        off_diagonal = jacobian - jacobian.diagonal().diag()
        looked_at = (off_diagonal != 0).any(0)
        assert (looked_at.flip(0) if k % 2 else looked_at).tolist() == [True] * reached + [False] * (4 - reached)


@pytest.mark.parametrize(("dtype", "enough", "too_far"), [(torch.float32, -16, -18), (torch.float64, -36, -38)])
def test_a_planar_step_is_flat_where_elu_rounds_to_minus_one(dtype, enough, too_far):
    flow = Planar(1, 1)
    for wu, invertible in ((enough, True), (too_far, False)):
        numbers = torch.tensor([[wu, 1.0, 0.0]], dtype=dtype)  # u, w and b: the plane is at zero
        log_det = flow.step(0, torch.zeros(1, 1, 1, dtype=dtype), numbers)[1]
        assert log_det.isfinite().item() == invertible
        assert invertible or log_det == -torch.inf

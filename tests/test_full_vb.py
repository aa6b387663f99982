"""Full VB against Bayesian factor analysis: its bound is a closed form, its evidence a closed form or an integral."""

import itertools
import math

import pytest
import torch
from conftest import assert_unbiased
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from aevb.bounds import estimator_b, kl_to_prior
from aevb.full_vb import (
    FullVB,
    analytic_estimator,
    evidence_bound,
    full_vb,
    general_estimator,
    held_out_bound,
    kl_theta,
)
from aevb.model import LatentVariableModel, LinearGaussian, bernoulli_vae, gaussian_vae
from aevb.networks import INITIAL_STD, log_normal

ESTIMATORS = [general_estimator, analytic_estimator]
S = 0.7  # standard deviation of the noise


class FactorAnalysis(LatentVariableModel):
    """p(x|z) = N(x; Wz + b, S^2 I) with theta = (W, b), and q(z|x) = N(z; Vx + c, diag(exp(log_var)))."""

    def __init__(self, n_dims: int, latent_dim: int, *, generator: torch.Generator):
        super().__init__()
        self.latent_dim = latent_dim

        def normal(*shape):
            return nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))

        self.decoder = nn.ParameterDict([("W", normal(n_dims, latent_dim)), ("b", normal(n_dims))])
        self.encoder = nn.ParameterDict({"V": normal(latent_dim, n_dims), "c": normal(latent_dim)})
        self.encoder["log_var"] = nn.Parameter(torch.full((latent_dim,), -0.5, dtype=torch.float64))

    def log_likelihood(self, x, z):
        mean = z @ self.decoder["W"].T + self.decoder["b"]
        return log_normal(x, mean, torch.full_like(mean, 2 * math.log(S)))

    def posterior(self, x):
        mu = x @ self.encoder["V"].T + self.encoder["c"]
        return mu, self.encoder["log_var"].expand_as(mu)


def exact_data_term(model: FullVB, x):
    """E over q(theta) q(z|x) of log p(x|z), minus KL(q(z|x) || p(z)), `(M,)`: products of first and second moments."""
    n_dims, latent_dim = model.model.decoder["W"].shape
    W, b = model.mu.split([n_dims * latent_dim, n_dims])
    var_W, var_b = model.log_var.exp().split([n_dims * latent_dim, n_dims])
    W, var_W = W.view(n_dims, latent_dim), var_W.view(n_dims, latent_dim)
    mu, log_var = model.model.posterior(x)
    var = log_var.exp()
    spread = var_b + mu.square() @ var_W.T + var @ (W.square() + var_W).T  # of Wz + b, each dimension
    square = (x - mu @ W.T - b).square() + spread
    log_likelihood = -0.5 * (math.log(2 * math.pi * S**2) + square / S**2).sum(-1)
    return log_likelihood - kl_to_prior(mu, log_var)


def exact_bound(model: FullVB, x):
    """The expectation of eqs 22 and 24 over minibatches of `x`, which are all the data, `()`: exact."""
    return exact_data_term(model, x).sum() - kl_theta(model)


@pytest.fixture
def model(generator) -> FullVB:
    """N = 6, D = 3, J = 2, at a q that is not optimal in any part."""
    model = FullVB(FactorAnalysis(3, 2, generator=generator), n_train=6)
    with torch.no_grad():
        model.log_var.copy_(torch.randn(9, generator=generator, dtype=torch.float64) - 2)
    return model


@pytest.fixture
def data() -> torch.Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def minibatch(data, size, generator):
    return data[torch.randint(len(data), (size,), generator=generator)]


# the estimators


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_both_estimators_are_unbiased_for_the_bound(model, data, generator, estimator, size):
    with torch.no_grad():
        draws = [estimator(model, minibatch(data, size, generator), generator=generator) for _ in range(5000)]
    exact = exact_bound(model, data).detach()
    assert_unbiased(torch.stack(draws), exact, precision=0.02 * exact.abs())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_their_gradients_are_unbiased(model, data, generator, estimator):
    """In mu, in log_var and in phi."""
    parameters = list(model.parameters())

    def gradient(value):
        return torch.cat([part.flatten() for part in torch.autograd.grad(value, parameters)])

    draws = [gradient(estimator(model, minibatch(data, 2, generator), generator=generator)) for _ in range(2000)]
    exact = gradient(exact_bound(model, data))
    assert len(exact) == 9 + 9 + 6 + 2 + 2
    assert_unbiased(torch.stack(draws), exact, precision=0.1 * exact.abs().max())


class OneWeight(LatentVariableModel):
    """A log-likelihood -2 theta^2 without z: with q = N(0, v), eq. 22 varies as (1 - 5v)^2 / 2 and eq. 24 as 8 v^2."""

    latent_dim = 1

    def __init__(self):
        super().__init__()
        self.decoder = nn.ParameterDict({"theta": nn.Parameter(torch.zeros(1, dtype=torch.float64))})

    def log_likelihood(self, x, z):
        return -2 * self.decoder["theta"].square().expand(z.shape[:-1])

    def posterior(self, x):
        return torch.zeros_like(x), torch.zeros_like(x)


@pytest.mark.parametrize("variance", [0.01, 0.2])
def test_where_eq_24_has_less_variance_than_eq_22(generator, variance):
    """It has less in a narrow q, and more at the exact posterior, v = 1/5. The gradient's in mu is less at both."""
    model, n = FullVB(OneWeight(), n_train=1), 1000
    with torch.no_grad():
        model.log_var.fill_(math.log(variance))
    x, mean = torch.zeros(1, 1, dtype=torch.float64), model.model.decoder["theta"]
    found = {}
    for estimator in ESTIMATORS:
        values = [estimator(model, x, generator=generator) for _ in range(n)]
        gradients = torch.stack([torch.autograd.grad(value, mean)[0] for value in values])
        found[estimator] = torch.stack(values).detach().var().item(), gradients.var().item()
    error = 4 * math.sqrt(14 / n)  # relative, of the variance of a zeta^2; that of a zeta has less
    general, analytic = found[general_estimator], found[analytic_estimator]
    assert general[0] == pytest.approx((1 - 5 * variance) ** 2 / 2, rel=error, abs=1e-20)
    assert analytic[0] == pytest.approx(8 * variance**2, rel=error)
    assert general[1] == pytest.approx(25 * variance, rel=error)
    assert analytic[1] == pytest.approx(16 * variance, rel=error)


def test_the_gradients_in_mu_differ_by_the_noise_and_their_variances_by_the_curvature(model, data, generator):
    """Var(22) - Var(24) = sigma^2 (1 + 2 lambda), lambda the mean curvature of minus the data term."""
    both, means = [], list(model.model.decoder.parameters())
    for seed in range(2000):
        grads = []
        for estimator in ESTIMATORS:
            value = estimator(model, data, generator=torch.Generator().manual_seed(seed))
            grads.append(torch.cat([part.flatten() for part in torch.autograd.grad(value, means)]))
        theta = model.sample_theta(generator=torch.Generator().manual_seed(seed)).detach()
        torch.testing.assert_close(grads[0] - grads[1], model.mu.detach() - theta)
        both.append(grads)
    general, analytic = (torch.stack(part) for part in zip(*both, strict=True))
    squares = (general - general.mean(0)).square() - (analytic - analytic.mean(0)).square()
    mu, log_var = (part.detach() for part in model.model.posterior(data))
    second = (mu.square() + log_var.exp()).sum(0)  # of z, summed over the data
    curvature = torch.cat([second.repeat(3), torch.full((3,), 6.0, dtype=second.dtype)]) / S**2
    exact = model.log_var.detach().exp() * (1 + 2 * curvature)
    assert_unbiased(squares, exact, precision=0.1 * exact.max())
    assert (exact > 0).all()


def test_one_theta_and_one_noise_by_hand(model, data):
    """Eqs 21 and 24 written out, with the generator's own numbers."""
    again = torch.Generator().manual_seed(3)
    zeta = torch.randn(9, generator=again, dtype=torch.float64)
    eps = torch.randn(4, 2, generator=again, dtype=torch.float64)
    theta = model.mu + torch.exp(0.5 * model.log_var) * zeta
    W, b = theta[:6].view(3, 2), theta[6:]
    mu, log_var = model.model.posterior(data[:4])
    z = mu + torch.exp(0.5 * log_var) * eps
    log_p_x = Normal(z @ W.T + b, S).log_prob(data[:4]).sum(-1)
    log_p_z, log_q_z = (d.log_prob(z).sum(-1) for d in (Normal(0, 1), Normal(mu, torch.exp(0.5 * log_var))))
    log_p_theta = Normal(0, 1).log_prob(theta).sum()
    log_q_theta = Normal(model.mu, torch.exp(0.5 * model.log_var)).log_prob(theta).sum()
    f = 6 * (log_p_x + log_p_z - log_q_z) + log_p_theta - log_q_theta  # eq. 21
    minus_kl_z = 0.5 * (1 + log_var - mu**2 - log_var.exp()).sum(-1)
    minus_kl_theta = 0.5 * (1 + model.log_var - model.mu**2 - model.log_var.exp()).sum()
    eq_24 = 6 * (minus_kl_z + log_p_x) + minus_kl_theta
    for estimator, by_hand in zip(ESTIMATORS, (f.mean(), eq_24.mean()), strict=True):
        ours = estimator(model, data[:4], generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(ours, by_hand)


# the objective


def test_the_loss_is_minus_eq_24_per_datapoint_times_the_minibatch(model, data):
    update, bound = (f(model, data[:4], generator=torch.Generator().manual_seed(3)) for f in (full_vb, ESTIMATORS[1]))
    torch.testing.assert_close(update.loss, -4 / 6 * bound)
    torch.testing.assert_close(update.loss.detach(), 4 / 6 * kl_theta(model).detach() - update.bound.sum())
    assert update.bound.shape == (4,)
    assert not update.bound.requires_grad


def test_its_bound_is_unbiased_for_the_data_term(model, data, generator):
    bounds = torch.stack([full_vb(model, data, generator=generator).bound for _ in range(5000)])
    exact = exact_data_term(model, data).detach()
    assert_unbiased(bounds, exact, precision=0.02 * exact.abs().max())


def without_noise(model):
    """q(theta) and q(z|x) so narrow that every draw is the mean, to the last digit."""
    with torch.no_grad():
        model.log_var.fill_(-90)
        model.model.encoder["log_var"].fill_(-90)
    return model


def test_the_losses_of_all_minibatches_average_to_that_of_all_the_data(model, data, generator):
    """Without noise exactly; on average over noise the estimators' tests show it."""
    model = without_noise(model)
    pairs = [data[list(rows)] for rows in itertools.combinations(range(6), 2)]
    losses = torch.stack([full_vb(model, pair, generator=generator).loss for pair in pairs])
    torch.testing.assert_close(losses.mean(), 2 / 6 * full_vb(model, data, generator=generator).loss)
    torch.testing.assert_close(6 / 2 * losses.mean(), -exact_bound(model, data))


def test_without_noise_in_theta_its_gradient_is_that_of_map(model, data):
    """It is that of the AEVB loss plus M/N theta, the weight decay of section 5, on all parameters."""
    with torch.no_grad():
        model.log_var.fill_(-90)
    inner = list(model.model.parameters())
    theirs = torch.Generator().manual_seed(3)
    torch.randn(9, generator=theirs, dtype=torch.float64)  # zeta
    aevb_loss = -estimator_b(model.model, data[:2], generator=theirs).sum()
    prior = sum(p.square().sum() for p in model.model.decoder.parameters()) / 2
    expected = torch.autograd.grad(aevb_loss + 2 / 6 * prior, inner)
    loss = full_vb(model, data[:2], generator=torch.Generator().manual_seed(3)).loss
    for ours, by_map in zip(torch.autograd.grad(loss, inner), expected, strict=True):
        torch.testing.assert_close(ours, by_map)


# the evidence


class Separable(LatentVariableModel):
    """x = (z, theta) + noise: the posterior of theta and all z is a product of Gaussians, so q can be exact."""

    latent_dim = 1

    def __init__(self):
        super().__init__()
        self.decoder = nn.ParameterDict({"theta": nn.Parameter(torch.zeros(1, dtype=torch.float64))})
        self.encoder = nn.ParameterDict({"v": nn.Parameter(torch.tensor([[1 / (1 + S**2)]], dtype=torch.float64))})

    def log_likelihood(self, x, z):
        mean = torch.cat([z, self.decoder["theta"].expand_as(z)], dim=-1)
        return log_normal(x, mean, torch.full_like(mean, 2 * math.log(S)))

    def posterior(self, x):
        mu = x[:, :1] @ self.encoder["v"].T
        return mu, torch.full_like(mu, math.log(S**2 / (1 + S**2)))


@pytest.fixture
def at_the_exact_posterior(data) -> tuple[FullVB, torch.Tensor]:
    """A `Separable` at p(theta|X) and p(z|x), and the log evidence of the first two columns of `data`."""
    x = data[:, :2]
    model = FullVB(Separable(), n_train=6)
    precision = 1 + 6 / S**2
    with torch.no_grad():
        model.model.decoder["theta"].fill_(x[:, 1].sum() / S**2 / precision)
        model.log_var.fill_(-math.log(precision))
    first = Normal(0, math.sqrt(1 + S**2)).log_prob(x[:, 0]).sum()
    covariance = S**2 * torch.eye(6, dtype=x.dtype) + 1
    return model, first + MultivariateNormal(torch.zeros(6, dtype=x.dtype), covariance).log_prob(x[:, 1])


def test_at_the_exact_posterior_eq_22_is_the_evidence_without_variance(at_the_exact_posterior, data, generator):
    """On the full batch f is log p(X, Z, theta) - log q(Z, theta), a constant there; eq. 24 keeps its variance."""
    model, log_evidence = at_the_exact_posterior
    x = data[:, :2]
    with torch.no_grad():
        general = torch.stack([general_estimator(model, x, generator=generator) for _ in range(100)])
    torch.testing.assert_close(general, log_evidence.expand(100))
    with torch.no_grad():
        analytic = torch.stack([analytic_estimator(model, x, generator=generator) for _ in range(5000)])
    assert_unbiased(analytic, log_evidence, precision=0.05)
    assert analytic.std() > 1


def test_away_from_the_exact_posterior_the_bound_is_below_the_evidence(at_the_exact_posterior, data, generator):
    """By the KL divergence of the q(theta) that is off, and by that of each q(z|x)."""
    model, log_evidence = at_the_exact_posterior
    x = data[:, :2]
    right = Normal(model.mu.detach(), torch.exp(0.5 * model.log_var.detach()))
    with torch.no_grad():
        model.model.decoder["theta"] += 0.3
        model.log_var += 0.5
        model.model.encoder["v"] += 0.2
    off = Normal(model.mu.detach(), torch.exp(0.5 * model.log_var.detach()))
    gap = torch.distributions.kl_divergence(off, right) + (0.2 * x[:, 0]).square().sum() / (2 * S**2 / (1 + S**2))
    with torch.no_grad():
        draws = torch.tensor([evidence_bound(model, x, 1, generator=generator).total for _ in range(2000)])
    assert_unbiased(draws.double(), log_evidence - gap.squeeze(), precision=0.1)


def exact_evidence(x):
    """log p(X) of factor analysis with D = J = 1: b is integrated out by hand, W on a grid."""
    n, total = len(x), x.sum()
    w = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    v = w**2 + S**2  # of x given w and b; given w alone X ~ N(0, v I + 11')
    quadratic = x.square().sum() / v - total**2 / (v * (v + n))
    log_joint = -0.5 * (n * math.log(2 * math.pi) + (n - 1) * v.log() + (v + n).log() + quadratic)
    return torch.logsumexp(log_joint + Normal(0, 1).log_prob(w) + math.log(24 / 24_000), 0)


def test_the_evidence_here_is_the_mean_of_the_likelihood_under_the_prior(generator):
    x = torch.tensor([[0.4], [-0.8], [1.1]], dtype=torch.float64)
    w, b = torch.randn(2, 200_000, generator=generator, dtype=torch.float64)
    likelihood = torch.exp(Normal(b, (w**2 + S**2).sqrt()).log_prob(x).sum(0))
    exact = exact_evidence(x).exp()
    assert_unbiased(likelihood, exact, precision=0.01 * exact)


def test_the_best_bound_is_below_the_evidence_by_the_mirror_image_at_least(generator):
    """W and -W are equally probable, and a Gaussian q covers one of them: log 2 nats, and q's other errors."""
    inner = FactorAnalysis(1, 1, generator=generator)
    x = torch.randn(20, 1, generator=generator, dtype=torch.float64) * 1.7 + 0.5
    model = FullVB(inner, n_train=20)
    with torch.no_grad():
        inner.decoder["W"].fill_(1.5)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = -exact_bound(model, x)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert max(p.grad.abs().max() for p in model.parameters()) < 1e-4  # a maximum of the bound
    assert model.mu[0].abs() > 8 * torch.exp(0.5 * model.log_var[0])  # that covers one of the two
    assert math.log(2) < exact_evidence(x) - exact_bound(model, x)


# the held-out bound


def test_held_out_bounds_are_unbiased(model, data, generator):
    held_out = torch.stack([held_out_bound(model, data[:2], 3, generator=generator) for _ in range(2000)])
    exact = exact_data_term(model, data).detach()
    assert_unbiased(held_out, exact[:2], precision=0.02 * exact.abs().max())


def test_evidence_bounds_are_unbiased(model, data, generator):
    found = [evidence_bound(model, data, 3, generator=generator) for _ in range(1000)]
    exact = exact_data_term(model, data).sum().detach()
    assert_unbiased(torch.tensor([bound.data for bound in found]).double(), exact, precision=0.02 * exact.abs())
    assert {bound.kl for bound in found} == {kl_theta(model).item()}


def test_evidence_bound_in_its_units(model, data, generator):
    bound = evidence_bound(without_noise(model), data, 1, generator=generator)
    assert bound.total == pytest.approx(exact_bound(model, data).item())
    assert bound.per_datapoint == pytest.approx(bound.total / 6)


def test_the_evidence_is_of_all_the_training_data(model, data, generator):
    with pytest.raises(ValueError, match=r"all 6 training points: got 5"):
        evidence_bound(model, data[:5], 1, generator=generator)


def test_one_theta_serves_all_batches_of_a_large_set(model, data, generator, monkeypatch):
    """With q(z|x) narrow, equal datapoints have equal bounds only at the same theta."""
    with torch.no_grad():
        model.model.encoder["log_var"].fill_(-90)
    monkeypatch.setattr("aevb.full_vb.EVALUATION_BATCH", 2)
    bounds = held_out_bound(model, data[:1].expand(5, 3), 1, generator=generator)
    torch.testing.assert_close(bounds, bounds[:1].expand(5))


# the model


@pytest.mark.parametrize("build", [bernoulli_vae, gaussian_vae])
def test_a_vae_keeps_its_means_and_learns_everything(build, generator):
    vae = build(7, 4, 2, generator=generator)
    before = [p.clone() for p in vae.parameters()]
    model = FullVB(vae, n_train=100)
    n_theta = sum(p.numel() for p in vae.decoder.parameters())
    assert model.mu.shape == model.log_var.shape == (n_theta,)
    torch.testing.assert_close(torch.exp(0.5 * model.log_var), torch.full((n_theta,), INITIAL_STD))
    x = torch.rand(5, 7, generator=generator)
    full_vb(model, x, generator=generator).loss.backward()
    assert len(list(model.parameters())) == len(before) + 1
    assert all(p.grad.abs().max() > 0 for p in model.parameters())
    assert all(torch.equal(p, q) for p, q in zip(vae.parameters(), before, strict=True))  # drawing changes nothing


def test_at_puts_theta_where_it_belongs(model, data):
    theta = torch.arange(9.0, dtype=torch.float64)
    W, b = model.at(theta, lambda inner: (inner.decoder["W"], inner.decoder["b"]))
    assert W.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert b.tolist() == [6, 7, 8]


@pytest.mark.parametrize("function", [*ESTIMATORS, full_vb])
def test_randomness_is_the_generators_alone(model, data, function):
    before = torch.get_rng_state()
    first, second = (function(model, data, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    if function is full_vb:
        first, second = first.loss, second.loss
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_without_a_decoder_is_refused():
    with pytest.raises(ValueError, match="a LinearGaussian has no decoder"):
        FullVB(LinearGaussian(torch.ones(3, 2), torch.zeros(3), 1.0), 10)

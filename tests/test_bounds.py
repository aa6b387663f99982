import pytest
import torch
from conftest import assert_unbiased
from torch.distributions import Normal, kl_divergence

from aevb import aggregated, gaps, importance, objectives, weighted_kl
from aevb.bounds import estimator_a, estimator_b, importance_weighted, kl_to_prior
from aevb.model import VAE, LinearGaussian, bernoulli_vae
from aevb.networks import log_normal
from aevb.priors import MixturePrior, VampPrior

ESTIMATORS = pytest.mark.parametrize("estimator", [estimator_a, estimator_b])


def moments(generator):
    return (torch.randn(6, 4, generator=generator).double() for _ in range(2))


def test_kl_is_that_of_torch_distributions(generator):
    mu, log_var = moments(generator)
    q = Normal(mu, torch.exp(0.5 * log_var))
    p = Normal(torch.zeros_like(mu), torch.ones_like(mu))
    torch.testing.assert_close(kl_to_prior(mu, log_var), kl_divergence(q, p).sum(-1))


def test_kl_by_monte_carlo(generator):
    mu, log_var = moments(generator)
    z = mu + torch.exp(0.5 * log_var) * torch.randn(50_000, *mu.shape, generator=generator).double()
    zero = torch.zeros_like(mu)
    assert_unbiased(log_normal(z, mu, log_var) - log_normal(z, zero, zero), kl_to_prior(mu, log_var), precision=0.05)


def test_kl_is_zero_at_the_prior_and_positive_elsewhere(generator):
    mu, log_var = moments(generator)
    assert torch.equal(kl_to_prior(0 * mu, 0 * log_var), torch.zeros(6).double())
    assert (kl_to_prior(mu, log_var) > 0).all()


@ESTIMATORS
@pytest.mark.parametrize("n_samples", [1, 4])
def test_estimators_are_unbiased_for_the_exact_bound(linear_gaussian, x, generator, estimator, n_samples):
    n = 40_000 // n_samples
    with torch.no_grad():
        estimates = estimator(linear_gaussian, x.repeat(n, 1), n_samples, generator=generator).view(n, 4)
        assert_unbiased(estimates, linear_gaussian.exact_bound(x), precision=0.02)


@ESTIMATORS
def test_their_gradients_are_unbiased_for_its_gradient(linear_gaussian, x, generator, estimator):
    """In V, log_var, W and b, from 100 batches of 200 draws."""
    parameters = list(linear_gaussian.parameters())

    def gradient(bound):
        return torch.cat([g.flatten() for g in torch.autograd.grad(bound.mean(), parameters)])

    batches = [gradient(estimator(linear_gaussian, x.repeat(200, 1), generator=generator)) for _ in range(100)]
    assert_unbiased(torch.stack(batches), gradient(linear_gaussian.exact_bound(x)), precision=0.05)


@ESTIMATORS
def test_more_samples_divide_the_variance(linear_gaussian, x, generator, estimator):
    """At L = 4 it is a quarter, so the samples are independent and averaged; 10 % is 5 standard errors."""
    with torch.no_grad():
        one, four = (
            estimator(linear_gaussian, x.repeat(10_000, 1), n, generator=generator).view(-1, 4) for n in (1, 4)
        )
    torch.testing.assert_close(four.var(0), one.var(0) / 4, rtol=0.1, atol=0)


def test_bound_is_tight_at_the_exact_posterior(x, generator):
    """There log p(x, z) - log q(z|x) is log p(x) at every z: estimator A has no variance, at any L."""
    W = torch.tensor([[1.0, 2.0], [2.0, -1.0], [0.0, 0.5]]).double()
    model = LinearGaussian(W, torch.tensor([0.1, 0.2, 0.3]).double(), 0.7)
    for n_samples in (1, 1, 5):
        estimate = estimator_a(model, x, n_samples, generator=generator)
        torch.testing.assert_close(estimate, model.log_evidence(x))
        torch.testing.assert_close(importance_weighted(model, x, n_samples, generator=generator), estimate)


def test_importance_weighted_rises_from_the_bound_to_the_evidence(linear_gaussian, x, generator):
    n, means, errors = 8000, [linear_gaussian.exact_bound(x)], [torch.zeros(4)]
    with torch.no_grad():
        for n_samples in (2, 20):
            estimates = importance_weighted(linear_gaussian, x.repeat(n, 1), n_samples, generator=generator).view(n, 4)
            means.append(estimates.mean(0))
            errors.append(estimates.std(0) / n**0.5)
    for k in range(2):
        assert (means[k] + 4 * (errors[k] ** 2 + errors[k + 1] ** 2).sqrt() < means[k + 1]).all()
    assert (means[-1] < linear_gaussian.log_evidence(x) + 4 * errors[-1]).all()


def test_importance_weights_average_to_the_evidence(linear_gaussian, x, generator):
    """exp of the estimate is unbiased for p(x); q is widened so that the weights are bounded."""
    n = 20_000
    with torch.no_grad():
        linear_gaussian.log_var += 1
        estimates = importance_weighted(linear_gaussian, x.repeat(n, 1), 5, generator=generator).view(n, 4)
        ratio = (estimates - linear_gaussian.log_evidence(x)).exp()
        assert_unbiased(ratio, torch.ones(4).double(), precision=0.02)


def test_importance_weighted_is_estimator_a_at_one_sample(linear_gaussian, x):
    a, weighted = (
        bound(linear_gaussian, x, 1, generator=torch.Generator().manual_seed(5))
        for bound in (estimator_a, importance_weighted)
    )
    torch.testing.assert_close(weighted, a)


def test_importance_weighted_is_literally_its_equation(linear_gaussian, x):
    z, log_q = linear_gaussian.sample_posterior(x, 7, generator=torch.Generator().manual_seed(5))
    weights = linear_gaussian.log_joint(x, z).exp() / log_q.exp()
    weighted = importance_weighted(linear_gaussian, x, 7, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(weighted, weights.mean(0).log())


# a narrow q


def narrow(log_var: float) -> VAE:
    """A VAE of two latents whose q(z|x) is N(1, exp(log_var)) for every x, in float32."""
    model = bernoulli_vae(10, 3, 2, generator=torch.Generator().manual_seed(0)).requires_grad_(False)
    for layer, value in ((model.encoder.mu, 1.0), (model.encoder.log_var, log_var)):
        layer.weight.zero_()
        layer.bias.fill_(value)
    return model.requires_grad_(True)


BOUNDS = {  # what estimates the bound of eq. 2 at each of many x
    "estimator A": estimator_a,
    "weighted": lambda m, x, generator: importance.weighted(1)(m, x, generator=generator).bound,
    "doubly": lambda m, x, generator: importance.doubly(1)(m, x, generator=generator).bound,
    "wake-sleep": lambda m, x, generator: objectives.wake_sleep(m, x, generator=generator).bound,
    "score function": lambda m, x, generator: objectives.score_function(m, x, generator=generator).bound,
    "quadrature": lambda m, x, generator: gaps.bound_of(m, x, m.posterior(x)),
}


@pytest.mark.parametrize("log_var", [-20.0, -34.0, -40.0, -100.0])
@pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
def test_a_q_narrower_than_the_rounding_of_its_mean_has_the_right_bound(bound, log_var, generator):
    """log q is of the noise: z, in float32, has lost it. Each log q has a variance of J / 2 = 1 in eps."""
    model, x = narrow(log_var), torch.rand(1, 10, generator=generator).repeat(10_000, 1)
    found = bound(model, x, generator=generator).detach().double().mean()
    exact = estimator_b(model.double(), x[:1].double(), generator=generator).item()  # z hardly moves
    assert abs(found - exact) < 5 * 10_000**-0.5


@pytest.mark.parametrize("log_var", [-20.0, -40.0])
def test_the_rate_of_a_narrow_q_is_its_divergence(log_var, generator):
    model, x = narrow(log_var), torch.rand(500, 10, generator=generator)
    exact = kl_to_prior(*model.posterior(x[:1])).item()
    assert abs(aggregated.surgery(model, x, generator=generator).rate - exact) < 5 * 500**-0.5


# another prior


@pytest.mark.parametrize("build", [MixturePrior, VampPrior, "rescaled"])
def test_estimator_b_refuses_a_prior_that_is_not_standard(build, generator):
    vae, x = bernoulli_vae(10, 3, 2, generator=generator), torch.rand(4, 10, generator=generator)
    model = aggregated.rescaled(vae, x, 6.0) if build == "rescaled" else build(vae, 2, generator=generator)
    for take in (estimator_b, objectives.aevb, weighted_kl.beta(1.0)):
        with pytest.raises(TypeError, match=r"^the prior of a \w+ is not N\(0, I\): take estimator A"):
            take(model, x, generator=generator)
    assert estimator_a(model, x, generator=generator).isfinite().all()

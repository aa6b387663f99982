import functools
import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from aevb.bounds import estimator_a, estimator_b
from aevb.flows import FlowVAE, Planar
from aevb.full_vb import FullVB
from aevb.marginal_likelihood import appendix_d, quadrature
from aevb.model import (
    VAE,
    Decoder,
    LatentVariableModel,
    LinearGaussian,
    bernoulli_vae,
    gaussian_vae,
    reparameterize,
    stack,
)
from aevb.networks import BernoulliMLP, GaussianMLP
from aevb.priors import MixturePrior, VampPrior

GRID = torch.linspace(-10, 10, 4001, dtype=torch.float64)  # the trapezoidal rule is exact to rounding here


@pytest.fixture
def one_latent():
    """D = 2, J = 1, with a q that is off its optimum."""
    model = LinearGaussian(torch.tensor([[0.8], [-0.5]]).double(), torch.tensor([0.3, -0.2]).double(), 0.6)
    with torch.no_grad():
        model.V += 0.2
        model.log_var += 0.5
    return model


def orthogonal():
    """A model whose W has orthogonal columns: its q can be, and starts as, the exact posterior."""
    W = torch.tensor([[1.0, 2.0], [2.0, -1.0], [0.0, 0.5]]).double()
    return LinearGaussian(W, torch.tensor([0.1, 0.2, 0.3]).double(), 0.7)


def test_reparameterize_has_the_mean_and_variance_it_is_given(generator):
    mu, log_var = torch.tensor([[0.5, -2.0], [3.0, 0.0]]), torch.tensor([[0.0, 1.0], [-1.0, -3.0]])
    n, variance = 100_000, log_var.exp()
    z = reparameterize(mu, log_var, n, generator=generator)
    assert z.shape == (n, 2, 2)
    assert ((z.mean(0) - mu).abs() < 4 * (variance / n).sqrt()).all()
    assert ((z.var(0) - variance).abs() < 4 * variance * (2 / n) ** 0.5).all()


def test_reparameterize_draws_fresh_noise_for_every_datapoint_and_dimension(generator):
    n = 50_000
    eps = reparameterize(torch.zeros(3, 2), torch.zeros(3, 2), n, generator=generator).reshape(n, 6)
    correlation = eps.T.corrcoef() - torch.eye(6)
    assert correlation.abs().max() < 4 / n**0.5
    assert abs((eps[1:] * eps[:-1]).mean()) < 4 / (6 * n) ** 0.5  # and for every sample


def test_reparameterize_is_differentiable(generator):
    mu, log_var = torch.randn(3, 2, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    z = reparameterize(mu, log_var, 1, generator=generator)
    grad_mu, grad_log_var = torch.autograd.grad(z.sum(), (mu, log_var))
    torch.testing.assert_close(grad_mu, torch.ones(3, 2))
    torch.testing.assert_close(grad_log_var, 0.5 * (z[0] - mu))


@pytest.mark.parametrize("build", [bernoulli_vae, gaussian_vae])
def test_shapes_and_the_density_of_a_vae(generator, build):
    model, x = build(7, 6, 2, generator=generator), torch.rand(5, 7, generator=generator)
    z, log_q = model.sample_posterior(x, 3, generator=generator)
    mu, log_var = model.posterior(x)
    assert z.shape == (3, 5, 2)
    assert mu.shape == log_var.shape == (5, 2)
    assert model.log_joint(x, z).shape == log_q.shape == (3, 5)
    torch.testing.assert_close(log_q, Normal(mu, torch.exp(0.5 * log_var)).log_prob(z).sum(-1))
    torch.testing.assert_close(model.log_posterior(z, x), log_q)
    torch.testing.assert_close(model.log_joint(x, z), model.log_prior(z) + model.decoder.log_prob(x, z))
    x_dream, z_dream = model.sample_joint(4, generator=generator)
    assert (x_dream.shape, z_dream.shape) == ((4, 7), (4, 2))


@pytest.mark.parametrize(
    ("build", "decoder"),
    [(bernoulli_vae, BernoulliMLP), (gaussian_vae, functools.partial(GaussianMLP, unit_mean=True))],
)
def test_the_models_of_section_5(build, decoder):
    """A decoder of the data's kind and a Gaussian encoder, on the same draws of weights and of noise."""
    model, source = build(7, 6, 2, generator=torch.Generator().manual_seed(0)), torch.Generator().manual_seed(0)
    by_hand = VAE(decoder(2, 6, 7, generator=source), GaussianMLP(7, 6, 2, generator=source))
    for one in (model, by_hand):
        for parameter in one.parameters():
            parameter.data *= 100  # so that means differ from 1/2
    x = torch.rand(5, 7, generator=source)
    noise = [torch.Generator().manual_seed(3) for _ in range(2)]
    ours, expected = (estimator_a(one, x, generator=g) for one, g in zip((model, by_hand), noise, strict=True))
    assert torch.equal(ours, expected)


def test_the_joint_density_is_prior_times_likelihood(linear_gaussian, x, generator):
    z, log_q = linear_gaussian.sample_posterior(x, 3, generator=generator)
    prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
    likelihood = Normal(z @ linear_gaussian.W.T + linear_gaussian.b, linear_gaussian.s).log_prob(x).sum(-1)
    torch.testing.assert_close(linear_gaussian.log_prior(z), prior)
    torch.testing.assert_close(linear_gaussian.log_joint(x, z), prior + likelihood)
    mu, log_var = linear_gaussian.posterior(x)
    torch.testing.assert_close(log_q, Normal(mu, torch.exp(0.5 * log_var)).log_prob(z).sum(-1))


def test_dreams_have_the_moments_of_the_joint(linear_gaussian, generator):
    n, W, b, s = 100_000, linear_gaussian.W, linear_gaussian.b, linear_gaussian.s
    dreams = torch.cat(linear_gaussian.sample_joint(n, generator=generator), dim=-1)
    cov_x = W @ W.T + s**2 * torch.eye(3)
    cov = torch.cat([torch.cat([cov_x, W], 1), torch.cat([W.T, torch.eye(2)], 1)], 0)
    mean = torch.cat([b, torch.zeros(2)])
    variance = cov.diagonal()
    assert ((dreams.mean(0) - mean).abs() < 4 * (variance / n).sqrt()).all()
    error = ((variance[:, None] * variance + cov.square()) / n).sqrt()
    assert ((dreams.T.cov() - cov).abs() < 4 * error).all()


def test_evidence_by_quadrature(one_latent, x):
    joint = one_latent.log_joint(x[:, :2], GRID[:, None, None]).exp()
    torch.testing.assert_close(one_latent.log_evidence(x[:, :2]), torch.trapezoid(joint, GRID, dim=0).log())


def test_bound_by_quadrature(one_latent, x):
    """Equation 2 as an integral, at a q that is off its optimum."""
    z = GRID[:, None, None]
    log_q = one_latent.log_posterior(z, x[:, :2])
    integrand = log_q.exp() * (one_latent.log_joint(x[:, :2], z) - log_q)
    torch.testing.assert_close(one_latent.exact_bound(x[:, :2]), torch.trapezoid(integrand, GRID, dim=0))


def test_posterior_by_bayes_rule_on_a_grid(linear_gaussian, x):
    axis = torch.linspace(-8, 8, 321, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)[:, None]  # (321^2, 1, 2)
    weight = (linear_gaussian.log_joint(x, z) - linear_gaussian.log_evidence(x)).exp() * (axis[1] - axis[0]) ** 2
    mean, covariance = linear_gaussian.exact_posterior(x)
    torch.testing.assert_close(weight.sum(0), torch.ones(4).double())
    torch.testing.assert_close((weight[..., None] * z).sum(0), mean)
    second = torch.einsum("gm,gi,gj->mij", weight, z[:, 0], z[:, 0])
    torch.testing.assert_close(second - mean[:, :, None] * mean[:, None], covariance.expand(4, 2, 2))


def test_bound_meets_the_evidence_where_the_columns_are_orthogonal(x):
    model = orthogonal()
    torch.testing.assert_close(model.exact_bound(x), model.log_evidence(x))
    with torch.no_grad():
        model.log_var += 0.1
    assert (model.exact_bound(x) < model.log_evidence(x) - 1e-3).all()


def test_bound_is_below_the_evidence_where_they_are_not(linear_gaussian, x):
    at_its_best = LinearGaussian(linear_gaussian.W.detach(), linear_gaussian.b.detach(), linear_gaussian.s)
    assert (at_its_best.exact_bound(x) < at_its_best.log_evidence(x) - 1e-3).all()
    assert (linear_gaussian.exact_bound(x).mean() < at_its_best.exact_bound(x).mean() - 1e-3).all()


def test_q_starts_where_the_bound_is_tightest(linear_gaussian, x):
    model = LinearGaussian(linear_gaussian.W.detach(), linear_gaussian.b.detach(), linear_gaussian.s)
    for gradient in torch.autograd.grad(model.exact_bound(x).sum(), (model.V, model.log_var)):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


def test_closed_forms_are_where_the_weights_are(linear_gaussian, x):
    """At any default device and type of torch, and for data of less precision."""
    forms = ("exact_bound", "log_evidence", "exact_posterior", "posterior")
    plain = [getattr(linear_gaussian, form)(x) for form in forms]
    torch.set_default_device("meta")
    try:
        again = LinearGaussian(linear_gaussian.W.detach(), linear_gaussian.b.detach(), linear_gaussian.s)
        there = [getattr(linear_gaussian, form)(x) for form in forms]
    finally:
        torch.set_default_device(None)
    assert again.V.device == x.device
    torch.testing.assert_close(there, plain, rtol=0, atol=0)
    rounded = [getattr(linear_gaussian, form)(x.float()) for form in forms]
    torch.testing.assert_close(rounded, [getattr(linear_gaussian, form)(x.float().double()) for form in forms])


@pytest.mark.parametrize("build", [bernoulli_vae, gaussian_vae])
def test_the_default_type_is_the_models_and_not_the_seeds(build):
    plain = build(7, 6, 2, generator=torch.Generator().manual_seed(0))
    torch.set_default_dtype(torch.float64)
    try:
        double = build(7, 6, 2, generator=torch.Generator().manual_seed(0))
    finally:
        torch.set_default_dtype(torch.float32)
    for name, parameter in double.named_parameters():
        assert parameter.dtype == torch.float64
        assert torch.equal(parameter, plain.get_parameter(name).double()), name


@pytest.mark.parametrize("build", [bernoulli_vae, gaussian_vae])
def test_the_weights_decide_the_type(build, generator):
    double, x = build(7, 6, 2, generator=generator).double(), torch.rand(5, 7, generator=generator)
    noise = [torch.Generator().manual_seed(3) for _ in range(2)]
    found, expected = (
        estimator_b(double, data, 2, generator=g) for data, g in zip((x, x.double()), noise, strict=True)
    )
    assert found.dtype == torch.float64
    assert torch.equal(found, expected)


def test_evidence_is_that_of_the_marginal_gaussian(x):
    """By hand where WW' is diagonal: N(x; b, diag(w^2 + s^2))."""
    w, b, s = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([0.1, 0.2, 0.3]).double(), 0.5
    model = LinearGaussian(torch.diag(w), b, s)
    expected = MultivariateNormal(b, torch.diag(w**2 + s**2)).log_prob(x)
    torch.testing.assert_close(model.log_evidence(x), expected)
    assert math.isclose(model.log_evidence(b[None]).item(), -0.5 * torch.log(2 * math.pi * (w**2 + s**2)).sum().item())


# refusals


def of(build=bernoulli_vae, n_pixels=7, n_hidden=6, latent_dim=2, **options):
    return build(n_pixels, n_hidden, latent_dim, generator=torch.Generator().manual_seed(0), **options)


def faces(unit_mean):
    source = torch.Generator().manual_seed(0)
    return Decoder(GaussianMLP(2, 6, 7, generator=source, unit_mean=unit_mean))


@pytest.mark.parametrize(
    "pair",
    [
        (of(), of(gaussian_vae)),
        (of(gaussian_vae), of()),
        (of(), of(slow_log_var=True)),
        (faces(True), faces(False)),
        (Decoder(of().decoder), of()),
        (of(), Decoder(of().decoder)),
        (of(n_pixels=2, latent_dim=2), of(n_pixels=3, latent_dim=3)),
        (of(n_hidden=2, latent_dim=2), of(n_hidden=3, latent_dim=3)),
        (of(), of().double()),
    ],
)
def test_models_that_differ_in_more_than_their_latents_are_not_stacked(pair):
    with pytest.raises(ValueError, match=r"^only models of one kind and one shape can be stacked, but for"):
        stack(pair)


def each_that_does_not_stack():
    source = torch.Generator().manual_seed(0)
    learned = [prior(of(), 3, generator=source) for prior in (MixturePrior, VampPrior)]
    flow = FlowVAE(of(), Planar(2, 1), generator=source)
    return [*learned, flow, FullVB(of(), 10), orthogonal(), stack([of(), of()])]


@pytest.mark.parametrize("model", each_that_does_not_stack(), ids=lambda model: type(model).__name__)
def test_a_model_that_says_it_cannot_be_stacked_is_refused(model):
    with pytest.raises(
        ValueError, match=r"^an? \w+ cannot be stacked: (only a Decoder and a VAE can|stack its members)$"
    ):
        stack([model, model])


@pytest.mark.parametrize("s", [0.0, -0.7, math.nan, math.inf])
def test_a_deviation_that_is_none_is_refused(s):
    with pytest.raises(ValueError, match=rf"^s must be finite and above 0, not {s}$"):
        LinearGaussian(torch.ones(3, 2), torch.zeros(3), s)


@pytest.mark.parametrize("shape", [(), (1,), (2,), (3, 1)])
def test_a_mean_of_another_length_than_the_data_is_refused(shape):
    with pytest.raises(ValueError, match=r"^b of shape .* does not fit W of \(3, 2\): it has one value per row$"):
        LinearGaussian(torch.ones(3, 2), torch.zeros(shape), 0.7)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("weights", [torch.float32, torch.float64])
def test_data_and_latents_are_converted_to_the_type_of_the_weights(linear_gaussian, x, weights, kind):
    model = LinearGaussian(linear_gaussian.W.detach().to(weights), linear_gaussian.b.detach().to(weights), 0.7)
    x, z = x.to(kind), torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(3)).to(kind)
    methods = {
        "log_likelihood": (x, z), "log_likelihood_table": (x, z[0]), "log_prior": (z,), "log_joint": (x, z),
        "log_posterior": (z, x), "posterior": (x,), "exact_posterior": (x,), "log_evidence": (x,), "exact_bound": (x,),
    }  # fmt: skip
    for name, arguments in methods.items():
        found = getattr(model, name)(*arguments)
        expected = getattr(model, name)(*(argument.to(weights) for argument in arguments))
        for ours, theirs in zip(*((v if isinstance(v, tuple) else (v,)) for v in (found, expected)), strict=True):
            assert ours.dtype == weights and torch.equal(ours, theirs), name
    drawn = [model.sample_likelihood(u, generator=torch.Generator().manual_seed(4)) for u in (z[0], z[0].to(weights))]
    assert drawn[0].dtype == weights and torch.equal(*drawn)


@pytest.mark.parametrize("width", [1, 6])
@pytest.mark.parametrize("model", [of(), of(gaussian_vae), Decoder(of().decoder), faces(True)])
def test_data_of_another_width_are_refused_and_do_not_broadcast(model, width, generator):
    x, z = torch.rand(4, width, generator=generator), torch.zeros(3, 4, 2)
    refused = pytest.raises(ValueError, match=rf"^data of shape \(4, {width}\) are not rows of 7 values, as this model")
    with refused:
        model.log_likelihood(x, z)
    with refused:
        model.log_likelihood_table(x, z[:, 0])
    with refused:
        quadrature(model, x, points=5)
    with refused:
        appendix_d(Decoder(model.decoder), x, generator=generator)


@pytest.mark.parametrize("width", [1, 2])
def test_the_known_model_refuses_data_of_another_width_everywhere(linear_gaussian, x, width):
    x, z = x[:, :width], torch.zeros(3, 4, 2)
    refused = pytest.raises(ValueError, match=rf"^data of shape \(4, {width}\) are not rows of 3 values")
    for name in ("posterior", "exact_posterior", "log_evidence", "exact_bound"):
        with refused:
            getattr(linear_gaussian, name)(x)
    for arguments in ((linear_gaussian.log_likelihood, x, z), (linear_gaussian.log_posterior, z, x)):
        with refused:
            arguments[0](*arguments[1:])


class Convolved(LatentVariableModel):
    """A model whose first parameter, if it has one, is no matrix."""

    latent_dim = 2

    def __init__(self, *sizes: int):
        super().__init__()
        if sizes:
            self.kernel = torch.nn.Parameter(torch.ones(sizes))

    def sample_likelihood(self, z, *, generator):
        return z


@pytest.mark.parametrize("sizes", [(), (3,), (4, 1, 3, 3)])
def test_any_model_dreams_whatever_its_parameters(sizes, generator):
    x, z = Convolved(*sizes).sample_joint(5, generator=generator)
    assert torch.equal(x, z)
    assert torch.equal(z, torch.randn(5, 2, generator=torch.Generator().manual_seed(0)))

"""Every estimator of log p(x) against a model whose evidence is exact, and its stated error against repetition."""

import math
import re

import pytest
import torch
from torch import Tensor

from aevb import aggregated, bounds, densities, hmc
from aevb import marginal_likelihood as ml
from aevb.model import Decoder, LinearGaussian, bernoulli_vae
from aevb.priors import MixturePrior

M = 60


def model_and_data(latent_dim: int, generator: torch.Generator) -> tuple[LinearGaussian, Tensor, Tensor]:
    W = torch.randn(8, latent_dim, generator=generator, dtype=torch.float64)
    model = LinearGaussian(W, torch.randn(8, generator=generator, dtype=torch.float64), 0.8)
    return model, *model.sample_joint(M, generator=generator)


def exact_draws(model: LinearGaussian, x: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """z ~ p(z|x), `(n, M, J)`."""
    mean, covariance = (part.detach() for part in model.exact_posterior(x))
    noise = torch.randn(n, *mean.shape, generator=generator, dtype=x.dtype)
    return mean + noise @ torch.linalg.cholesky(covariance).T


ESTIMATORS = {
    "appendix D, gaussian": lambda m, x, g: ml.appendix_d(
        m, x, generator=g, n_samples=250, n_chains=10, density="gaussian"
    ),
    "appendix D, kernel": lambda m, x, g: ml.appendix_d(m, x, generator=g, n_samples=250, n_chains=10),
    "importance": lambda m, x, g: ml.importance_weighted(m, x, generator=g, n_samples=2000),
    "annealed": lambda m, x, g: ml.annealed_importance(
        m, x, generator=g, n_chains=32, n_temperatures=100, z=exact_draws(m, x, 32, g)
    ),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_agrees_with_the_exact_evidence_and_states_its_error(generator, name):
    """The mean over datapoints within 3 of its standard errors; the stated error, root mean square, that of repetition.

    Standard deviations over 10 repetitions of 60 datapoints are known to 3 %; the stated ones are those of
    an asymptotic formula at 250 draws. 15 % leaves room for both. A mean's logarithm is off by half its squared error.
    """
    model, x, _ = model_and_data(2, generator)
    exact, found = model.log_evidence(x).detach(), ESTIMATORS[name](model, x.repeat(10, 1), generator)
    for estimate in [found] if isinstance(found, ml.Estimate) else found:  # annealing has a lower and an upper one
        wrong, stated = (part.detach().view(10, M) for part in estimate)
        wrong, stated = wrong - exact, stated.square().mean().sqrt()
        assert stated / wrong.var(0).mean().sqrt() == pytest.approx(1, abs=0.15)
        assert abs(wrong.mean()) < 3 * stated / math.sqrt(wrong.numel()) + stated**2 / 2
        mean, error = ml.Estimate(*(part[:M] for part in estimate)).mean()
        assert abs(mean - exact.mean().item()) < 3 * error


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_quadrature_is_exact(generator, latent_dim):
    model, x, _ = model_and_data(latent_dim, generator)
    points = {1: 601, 2: 201, 3: 61}[latent_dim]
    estimate = ml.quadrature(model, x[:20], points=points)
    exact = model.log_evidence(x[:20]).detach()
    assert estimate.standard_error.max() < 0.02
    assert ((estimate.log_px - exact).abs() <= estimate.standard_error + 1e-9).all()


def test_quadrature_says_how_coarse_it_is(generator):
    """On lattices a little too coarse for the posterior the stated error, up to a nat or two, covers the true one."""
    model, x, _ = model_and_data(2, generator)
    exact = model.log_evidence(x).detach()
    for points in (25, 31, 41):
        estimate = ml.quadrature(model, x, points=points)
        wrong = (estimate.log_px - exact).abs()
        assert wrong.max() > 1e-6
        assert (wrong <= estimate.standard_error).all()


def test_quadrature_warns_of_what_lies_outside(generator):
    model, x, _ = model_and_data(1, generator)
    x = torch.stack([x[0], 40 * model.W[:, 0].detach() + model.b.detach()])
    with pytest.warns(UserWarning, match="cuts off the posterior of datapoints 1: raise limit"):
        ml.quadrature(model, x, points=301)


def test_quadrature_refuses_more_than_three_dimensions(generator):
    model, x, _ = model_and_data(4, generator)
    with pytest.raises(ValueError, match="at most 3 latent dimensions, not 4"):
        ml.quadrature(model, x, points=11)


def test_a_perfect_q_leaves_no_error(generator):
    """With q the posterior every term of Appendix D's mean is 1/p(x): what is left is q's fit, and it shrinks."""
    model, x, _ = model_and_data(2, generator)
    z = exact_draws(model, x, 1000, generator)
    log_joint = model.log_joint(x, z).detach()
    mean, covariance = (part.detach() for part in model.exact_posterior(x))
    exact_q = torch.distributions.MultivariateNormal(mean, covariance).log_prob(z)
    torch.testing.assert_close(log_joint - exact_q, model.log_evidence(x).detach().expand(1000, M))
    for density in densities.DENSITIES.values():
        errors = [(density(z[:n], z) - exact_q).std(0).mean() for n in (50, 500)]
        assert errors[1] < 0.6 * errors[0]


def test_batches_are_only_batches(generator, monkeypatch):
    """Exact methods give the same whatever the batch, the others within their errors."""
    model, x, _ = model_and_data(2, generator)
    x = x[:20]
    short = {"generator": generator, "n_temperatures": 100}  # bounds may lie anywhere if batches agree
    whole, (low, up) = ml.quadrature(model, x, points=101), ml.annealed_importance(model, x, **short)
    monkeypatch.setattr(ml, "BATCH", 7)
    monkeypatch.setattr(ml, "TABLE_ELEMENTS", 1000)
    torch.testing.assert_close(ml.quadrature(model, x, points=101), whole)
    for ours, theirs in zip(ml.annealed_importance(model, x, **short), (low, up), strict=True):
        (a, da), (b, db) = ours.mean(), theirs.mean()
        assert abs(a - b) < 4 * math.hypot(da, db)
    assert ml.appendix_d(model, x, generator=generator).log_px.shape == (20,)


def test_annealing_bounds_meet_as_the_path_gets_finer(generator):
    model, x, _ = model_and_data(3, generator)
    gaps = []
    for n in (10, 40, 160):
        lower, upper = ml.annealed_importance(
            model, x, generator=generator, n_temperatures=n, n_chains=8, z=exact_draws(model, x, 8, generator)
        )
        gaps.append(upper.log_px.mean().item() - lower.log_px.mean().item())
    assert gaps[0] > 3 * gaps[1]
    assert gaps[1] > 3 * abs(gaps[2])
    assert abs(gaps[2]) < 0.1


def test_table_is_the_broadcast(generator):
    """Every datapoint at every z, by the matrix product and by the definition."""
    vae = bernoulli_vae(12, 5, 3, generator=generator).double()
    x, z = torch.rand(6, 12, generator=generator).double(), torch.randn(4, 3, generator=generator).double()
    for model, data in ((vae, x), (Decoder(vae.decoder), x)):
        torch.testing.assert_close(model.log_likelihood_table(data, z), model.log_likelihood(data, z[:, None]))


def test_importance_weighting_is_the_bound_with_many_samples(generator):
    model, x, _ = model_and_data(2, generator)
    ours = ml.importance_weighted(model, x[:20], n_samples=50, generator=torch.Generator().manual_seed(4))
    theirs = bounds.importance_weighted(model, x[:20], 50, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(ours.log_px, theirs.detach())


# ---- trouble


def test_mistakes_are_named(generator):
    model, x, _ = model_and_data(2, generator)
    with pytest.raises(ValueError, match="unknown density 'histogram': choose one of kernel, gaussian"):
        ml.appendix_d(model, x, generator=generator, density="histogram")
    with pytest.raises(ValueError, match="n_samples=50 does not divide over n_chains=7"):
        ml.appendix_d(model, x, generator=generator, n_chains=7)
    with pytest.raises(ValueError, match="4 samples are too few to fit q"):
        ml.appendix_d(model, x, generator=generator, n_samples=4, n_chains=2)
    decoder = Decoder(bernoulli_vae(8, 5, 2, generator=generator).decoder)
    with pytest.raises(TypeError, match="a Decoder has no recognition model"):
        ml.importance_weighted(decoder, torch.rand(3, 8), generator=generator)


@pytest.mark.parametrize(
    "estimate",
    [
        lambda m, x, g: ml.appendix_d(m, x, generator=g),
        lambda m, x, g: ml.quadrature(m, x, points=21),
        lambda m, x, g: ml.importance_weighted(m, x, generator=g, n_samples=10),
        lambda m, x, g: ml.annealed_importance(m, x, generator=g, n_temperatures=5),
    ],
)
def test_a_datapoint_that_is_not_a_number_is_named(generator, estimate):
    model, x, _ = model_and_data(2, generator)
    x[3, 1] = torch.nan
    with pytest.raises(ValueError, match=r"not a number for datapoints 3$"):
        estimate(model, x, generator)


def test_latents_of_other_datapoints_are_refused(generator):
    """Two batches of data, and latents for one of them: once cut silently to what both had."""
    model = model_and_data(2, generator)[0]
    x, _ = model.sample_joint(500, generator=generator)
    for shape in ((2, 250, 2), (2, 501, 2), (2, 500, 3), (500, 2)):
        z = torch.zeros(shape, dtype=torch.float64)
        said = rf"^z is {re.escape(str(shape))} in size, but x has 500 datapoints and the model 2 latents$"
        with pytest.raises(ValueError, match=said):
            ml.annealed_importance(model, x, generator=generator, n_temperatures=2, z=z)


BATCHED = [
    lambda m, x, g: ml.appendix_d(m, x, generator=g),
    lambda m, x, g: ml.importance_weighted(m, x, generator=g, n_samples=10),
    lambda m, x, g: ml.annealed_importance(m, x, generator=g, n_temperatures=3),
    lambda m, x, g: ml.annealed_importance(m, x, generator=g, n_temperatures=3, z=torch.zeros(2, len(x), 2).double()),
]


class Broken(LinearGaussian):
    """Of no density where a datapoint's first number is above 50."""

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.where(x[..., 0] > 50, torch.nan, super().log_likelihood(x, z))


class Rough(LinearGaussian):
    """There of one that jumps by up to 6 nats between neighbours, where a trajectory ends as if anywhere."""

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        jumps = -6 * (1e5 * z.detach().sum(-1)).frac().abs()
        return torch.where(x[..., 0] > 50, jumps, super().log_likelihood(x, z))


@pytest.mark.parametrize("estimate", BATCHED)
@pytest.mark.parametrize("trouble", ["data", "density"])
def test_a_datapoint_of_a_later_batch_is_named_by_its_row(generator, estimate, trouble):
    model = Broken(torch.ones(3, 2).double(), torch.zeros(3).double(), 1.0)
    x = torch.randn(530, 3, generator=generator).double()
    x[503, 0] = {"data": torch.nan, "density": 99.0}[trouble]
    with pytest.raises(ValueError, match=r"not a number for datapoints 503$"):
        estimate(model, x, generator)


def test_a_warning_of_hmc_names_the_row_too(generator):
    model = Rough(torch.ones(3, 1).double(), torch.zeros(3).double(), 1.0)
    x = torch.randn(530, 3, generator=generator).double()
    x[503, 0] = 99.0
    with pytest.warns(UserWarning, match="accepts less than 50% at datapoints 503: distrust"):
        ml.appendix_d(model, x, generator=generator)


@pytest.mark.parametrize("limit", [0.0, -6.0, math.inf, math.nan])
def test_a_lattice_of_no_extent_is_refused(generator, limit):
    model, x, _ = model_and_data(2, generator)
    with pytest.raises(ValueError, match=rf"^limit must be finite and above 0, not {limit}$"):
        ml.quadrature(model, x, points=5, limit=limit)


# ---- other priors


@pytest.fixture
def apart() -> tuple[MixturePrior, Tensor]:
    """A prior of two narrow components, at -6 with a weight of 0.9 and at 6, and data that both could have made."""
    source = torch.Generator().manual_seed(3)
    model = MixturePrior(bernoulli_vae(6, 5, 1, generator=source).double(), 2, generator=source).requires_grad_(False)
    for parameter in model.decoder.parameters():
        parameter *= 40
    model.mu.copy_(torch.tensor([-6.0, 6.0]))
    model.log_var.fill_(-2.0)
    model.logits.copy_(torch.tensor([0.9, 0.1]).log())
    return model, torch.rand(10, 6, generator=source).double()


@pytest.mark.parametrize("units", ["its own", "others"])
def test_a_model_with_its_own_prior_is_estimated_under_it(apart, generator, units):
    """Chains that began at N(0, I) would come to both components alike, and stay there."""
    model, x = apart
    if units == "others":
        model = aggregated.Rescaled(model, torch.tensor([2.0]).double(), torch.tensor([0.5]).double())
    exact = ml.quadrature(model, x, points=4001, limit=40.0).log_px
    for estimate in ml.annealed_importance(model, x, generator=generator, n_temperatures=20, n_chains=400):
        error = estimate.standard_error
        assert error.max() < 0.1
        assert ((estimate.log_px - exact).abs() < 4 * error + error.square() / 2).all()


def test_chains_start_under_a_models_own_prior(apart, generator):
    """As many at each component as the posterior has of its mass there; Appendix D's chains do not change sides."""
    model, x = apart
    z = torch.linspace(-12, 12, 2401).double()[:, None]
    log_px = ml.quadrature(model, x, points=2401, limit=12.0).log_px
    table, right = model.log_likelihood_table(x, z), z > 0
    mass = torch.softmax(table + model.log_prior(z[:, None]), 0)
    share = (mass * right).sum(0)
    assert (share > 0.02).all() and share.std() > 0.05
    starts = hmc.start(model, x, 5000, generator=generator)
    of_draws = (mass * torch.exp(table - log_px) * (right.double() - share).square()).sum(0) / hmc.PRIOR_DRAWS
    error = (of_draws + share * (1 - share) / 5000).sqrt()  # drawn from the prior, then chosen among those
    assert (((starts > 0).double().mean(0)[:, 0] - share).abs() < 4 * error).all()


def test_appendix_d_uses_hmc_as_section_5_does(generator, monkeypatch):
    """50 samples twice, 4 leapfrog steps, and the step size frozen for both."""
    model, x, _ = model_and_data(2, generator)
    calls, sample = [], hmc.sample
    monkeypatch.setattr(hmc, "sample", lambda *args, **kwargs: calls.append(args[2:]) or sample(*args, **kwargs))
    ml.appendix_d(model, x, generator=generator)
    (size, n_leapfrog, n_draws), again = calls
    assert (n_leapfrog, n_draws * 5) == (4, 50) == (again[1], again[2] * 5)
    assert size is again[0]


# ---- torch's settings


SHORT = {
    "appendix D": lambda m, x, g: ml.appendix_d(m, x, generator=g),
    "quadrature": lambda m, x, g: ml.quadrature(m, x, points=21),
    "importance": lambda m, x, g: ml.importance_weighted(m, x, generator=g, n_samples=50),
    "annealed, lower": lambda m, x, g: ml.annealed_importance(m, x, generator=g, n_temperatures=5)[0],
    "annealed, upper": lambda m, x, g: ml.annealed_importance(m, x, generator=g, n_temperatures=5)[1],
}
every = pytest.mark.parametrize("estimate", SHORT.values(), ids=SHORT)


@pytest.fixture
def untrained():
    """A small VAE of digits, three datapoints, and a generator, the same at every call."""

    def make():
        source = torch.Generator().manual_seed(0)
        vae = bernoulli_vae(7, 6, 2, generator=source)
        return vae, torch.rand(3, 7, generator=source, dtype=torch.float32), source

    return make


def plain(estimate):
    """Two numbers per datapoint, as values."""
    return torch.stack(estimate).detach()


@every
@pytest.mark.filterwarnings("ignore:the lattice cuts off")
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("inside", ["the call", "everything"])
def test_modes_without_gradients_change_nothing(untrained, estimate, mode, inside):
    """Also where model and data were made in `torch.inference_mode`, whose tensors autograd does not take."""
    expected = plain(estimate(*untrained()))
    ready = untrained()
    with mode():
        found = plain(estimate(*(untrained() if inside == "everything" else ready)))
    assert torch.equal(found.clone(), expected)


@every
@pytest.mark.filterwarnings("ignore:the lattice cuts off")
@pytest.mark.parametrize("setting", ["type", "device"])
def test_torchs_defaults_change_nothing(untrained, estimate, setting):
    expected, arguments = plain(estimate(*untrained())), untrained()
    torch.set_default_dtype(torch.float64 if setting == "type" else torch.float32)
    torch.set_default_device("meta" if setting == "device" else None)
    try:
        found = plain(estimate(*arguments))
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert torch.equal(found, expected)


@every
@pytest.mark.filterwarnings("ignore:the lattice cuts off")
def test_a_more_precise_model_takes_data_as_they_are_loaded(untrained, estimate):
    vae, x, source = untrained()
    found = estimate(vae.double(), x, source)
    vae, x, source = untrained()
    expected = estimate(vae.double(), x.double(), source)
    assert found.log_px.dtype == torch.float64
    assert torch.equal(plain(found), plain(expected))

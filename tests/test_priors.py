"""Learned priors: normalized, with right gradients, and with a p(x) that is known for a linear-Gaussian likelihood."""

import copy
import dataclasses
import math

import pytest
import torch
from conftest import assert_unbiased
from torch import Tensor

from aevb import gaps, importance, priors
from aevb.algorithms import ALGORITHMS
from aevb.bounds import estimator_a, estimator_b
from aevb.fit import fit
from aevb.model import VAE, LinearGaussian, bernoulli_vae
from aevb.networks import log_normal
from aevb.priors import Components, MixturePrior, VampPrior
from aevb.trainer import Trainer
from tests.runs import RUN, assert_identical

BOTH = pytest.mark.parametrize("prior", [MixturePrior, VampPrior])
OF_EACH = pytest.mark.parametrize("name", ["mixture", "vamp"])


def model_of(prior: type[priors.LearnedPrior], latent_dim: int = 2) -> priors.LearnedPrior:
    """Three components, well apart, in a VAE of six pixels with large weights."""
    generator = torch.Generator().manual_seed(5)
    model = prior(bernoulli_vae(6, 5, latent_dim, generator=generator).double(), 3, generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.7 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


@pytest.fixture
def known() -> tuple[LinearGaussian, Components, Tensor]:
    """A linear-Gaussian likelihood of two latents, three components of its prior, and four datapoints."""
    generator = torch.Generator().manual_seed(6)
    W, b = torch.randn(3, 2, generator=generator).double(), torch.randn(3, generator=generator).double()
    components = Components(
        torch.tensor([0.5, 0.3, 0.2]).double().log(),
        torch.tensor([[-1.5, 0.5], [1.0, 1.0], [0.5, -1.0]]).double(),
        torch.tensor([[0.3, 0.6], [0.5, 0.2], [0.8, 0.4]]).double().log(),
    )
    model = LinearGaussian(W, b, 0.7)
    model.log_prior = lambda z: priors.log_mixture(z, components)
    return model, components, torch.randn(4, 3, generator=generator).double()


def log_evidence(model: LinearGaussian, components: Components, x: Tensor) -> Tensor:
    """log p(x): a mixture of Gaussians N(W mu_k + b, W diag(sigma_k^2) W' + s^2 I), with the prior's weights."""
    noise = model.s**2 * torch.eye(len(model.b)).double()
    of_each = torch.stack(
        [
            torch.distributions.MultivariateNormal(
                model.W @ mu + model.b, (model.W * var) @ model.W.T + noise
            ).log_prob(x)
            for mu, var in zip(components.mu, components.log_var.exp(), strict=True)
        ]
    )
    return torch.logsumexp(components.log_weight[:, None] + of_each, 0)


# the density


@BOTH
@pytest.mark.parametrize("latent_dim", [1, 2])
@torch.no_grad()
def test_it_integrates_to_one(prior, latent_dim):
    model = model_of(prior, latent_dim)
    mu = model.components().mu
    assert mu.std(0).min() > 0.1
    axis = torch.linspace(-15, 15, 601).double()
    z = torch.cartesian_prod(*[axis] * latent_dim).reshape(-1, 1, latent_dim)
    total = torch.logsumexp(model.log_prior(z), 0) + latent_dim * math.log(30 / 600)
    assert abs(total.exp().item() - 1) < 1e-6


@BOTH
@torch.no_grad()
def test_it_is_the_sum_over_its_components(prior):
    model = model_of(prior)
    z = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(1)).double()
    log_weight, mu, log_var = model.components()
    densities = [w.exp() * log_normal(z, m, v).exp() for w, m, v in zip(log_weight, mu, log_var, strict=True)]
    torch.testing.assert_close(model.log_prior(z), sum(densities).log())
    assert model.log_prior(z).shape == (2, 4)


@torch.no_grad()
def test_the_vamp_prior_is_the_mean_of_q_at_its_pseudo_inputs():
    model = model_of(VampPrior)
    inputs = model.pseudo_inputs()
    assert inputs.shape == (3, 6)
    assert (inputs > 0).all() and (inputs < 1).all()
    z = torch.randn(7, 1, 2, generator=torch.Generator().manual_seed(1)).double()
    of_each = torch.stack([model.log_posterior(z, u[None]) for u in inputs])
    torch.testing.assert_close(model.log_prior(z), torch.logsumexp(of_each, 0) - math.log(3))


@BOTH
def test_its_gradients_are_those_of_finite_differences(prior):
    """In z and in every parameter of the model: the VampPrior's reaches the encoder."""
    model = model_of(prior)
    z = torch.randn(3, 1, 2, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    own = dict(model.named_parameters())

    def value(z: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(model, dict(zip(own, values, strict=True)), (model.log_prior, z))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prior, "forward", lambda self, function, *args: function(*args))
        assert torch.autograd.gradcheck(value, (z, *own.values()))
    reached = torch.autograd.grad(model.log_prior(z).sum(), list(own.values()), allow_unused=True)
    of_encoder = [g is not None for name, g in zip(own, reached, strict=True) if name.startswith("encoder")]
    assert all(of_encoder) if prior is VampPrior else not any(of_encoder)


def test_the_gradient_of_the_mixture_by_hand():
    """In a mean: the share of its component times (z - mu) / sigma^2; in a logit: that share minus the weight."""
    model, z = model_of(MixturePrior), torch.tensor([[[0.3, -0.8]]]).double()
    log_weight, mu, log_var = model.components()
    with torch.no_grad():
        share = torch.softmax(log_weight + log_normal(z, mu, log_var), -1)[0]
        by_hand = (share[:, None] * (z[0] - mu) / log_var.exp()).flatten(), share - log_weight.exp()
    found = torch.autograd.grad(model.log_prior(z).sum(), (model.mu, model.logits))
    for ours, theirs in zip(found, by_hand, strict=True):
        torch.testing.assert_close(ours, theirs)


@BOTH
@torch.no_grad()
def test_its_dreams_begin_with_draws_of_it(prior, generator):
    model = model_of(prior)
    log_weight, mu, log_var = model.components()
    x, z = model.sample_joint(100_000, generator=generator)
    assert x.shape == (100_000, 6) and set(x.unique().tolist()) == {0.0, 1.0}
    mean = (log_weight.exp()[:, None] * mu).sum(0)
    second = (log_weight.exp()[:, None] * (mu.square() + log_var.exp())).sum(0)
    assert_unbiased(torch.cat([z, z.square()], -1), torch.cat([mean, second]), precision=0.2)
    assert_unbiased(x, model.decoder.mean(z).mean(0), precision=0.01)
    with pytest.raises(ValueError, match="n"):
        model.sample_joint(0, generator=generator)


@BOTH
@torch.no_grad()
def test_draws_of_a_models_prior_are_its_own(prior, generator):
    """Of a learned one, the draws that dreams begin with; of any other model N(0, I)'s, as torch draws them."""
    model, like = model_of(prior), torch.empty(0, dtype=torch.float32)
    z = model.sample_prior((4, 5), like=like, generator=torch.Generator().manual_seed(1))
    dreamt = model.sample_joint(20, generator=torch.Generator().manual_seed(1))[1]
    assert z.dtype == torch.float32
    assert torch.equal(z.view(20, 2), dreamt.float())
    plain = VAE(model.decoder, model.encoder)
    z = plain.sample_prior((4, 5), like=like, generator=torch.Generator().manual_seed(1))
    assert torch.equal(z, torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(1)))


# p(x) and the bound


@torch.no_grad()
def test_log_px_by_quadrature_is_that_of_the_closed_form(known):
    model, components, x = known
    found, exact = gaps.split(model, x), log_evidence(model, components, x)
    torch.testing.assert_close(found.log_px, exact, atol=1e-3, rtol=0)
    assert (model.log_evidence(x) - exact).abs().min() > 0.05  # under N(0, I) it is another
    assert (found.family > 0.01).all()  # a posterior of three humps is no Gaussian


def test_estimator_a_is_unbiased_for_its_bound_and_estimator_b_is_not(known, generator):
    model, _, x = known
    exact = gaps.bound_of(model, x, model.posterior(x), 40)
    a, b = (f(model, x.repeat(20_000, 1), generator=generator).detach().view(-1, 4) for f in (estimator_a, estimator_b))
    assert_unbiased(a, exact, precision=0.02)
    assert ((b.mean(0) - exact).abs() > 0.1).all()


def test_the_objective_has_the_gradient_of_the_bound(known, generator):
    """By Gauss-Hermite over the noise, differentiated: 400 batches of 1,000 draws of one datapoint."""
    model, _, x = known
    parameters = model.V, model.log_var, model.W, model.b
    nodes, masses = gaps.noise_rule(model.posterior(x)[0].detach(), 40)
    mu, log_var = model.posterior(x[:1])
    z = mu + torch.exp(0.5 * log_var) * nodes
    bound = (masses * (model.log_joint(x[:1], z) - log_normal(z, mu, log_var))).sum()
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(bound, parameters)])
    many = x[:1].repeat(1000, 1)
    losses = (importance.weighted(1)(model, many, generator=generator).loss / 1000 for _ in range(400))
    found = torch.stack([torch.cat([-g.flatten() for g in torch.autograd.grad(loss, parameters)]) for loss in losses])
    assert_unbiased(found, exact, precision=0.02)


# as algorithms


@OF_EACH
@pytest.mark.usefixtures("tiny")
def test_a_run_starts_at_the_weights_of_the_others_and_all_its_seeds_at_one_prior(name):
    ours, theirs = Trainer(dataclasses.replace(RUN, algorithm=name), 0.1).model, Trainer(RUN, 0.1).model
    another = Trainer(dataclasses.replace(RUN, algorithm=name, seed=1), 0.1).model
    for key, parameter in ours.named_parameters():
        if key in dict(theirs.named_parameters()):
            assert torch.equal(parameter, theirs.get_parameter(key))
        else:
            assert torch.equal(parameter, another.get_parameter(key))
    assert isinstance(ours, VAE)
    z = torch.randn(1, 1000, 2, generator=torch.Generator().manual_seed(0))
    assert (ours.log_prior(z) - theirs.log_prior(z)).mean().abs() < 0.3  # about N(0, I)


@OF_EACH
@pytest.mark.usefixtures("tiny")
def test_the_weight_prior_leaves_the_learned_prior_alone(name):
    optimizer = Trainer(dataclasses.replace(RUN, algorithm=name), 0.1).optimizer
    covered = optimizer.names[: optimizer.n_covered]
    assert covered and all(key.endswith("weight") for key in covered)
    assert {"mixture": {"mu", "log_var", "logits"}, "vamp": {"pixels"}}[name] <= set(optimizer.names)


@OF_EACH
def test_the_curve_shows_the_bound_under_its_own_prior(name, tiny):
    run = dataclasses.replace(RUN, algorithm=name)
    trainer = fit(run, 10_000)
    x, noise = tiny.unit(tiny.test), torch.Generator().manual_seed(run.seed)
    expected = estimator_a(trainer.model, x, generator=noise).mean().item()
    assert trainer.curve[-1].test == pytest.approx(expected, abs=1e-4)
    moved = trainer.model.components(), Trainer(run, 0.05).model.components()
    assert (moved[0].mu - moved[1].mu).abs().max() > 0.1


@OF_EACH
@pytest.mark.usefixtures("tiny")
def test_a_run_goes_on_where_it_stopped_bit_for_bit(name):
    run = dataclasses.replace(RUN, algorithm=name, warm_up=3)
    whole, part, rest = (Trainer(run, 0.1) for _ in range(3))
    whole.advance(650)
    part.advance(350)
    rest.restore(copy.deepcopy(part.state()))
    rest.advance(650)
    assert_identical(rest, whole)


@BOTH
def test_no_components_are_refused(prior, generator):
    with pytest.raises(ValueError, match="n_components"):
        prior(bernoulli_vae(4, 3, 2, generator=generator), 0, generator=generator)


def test_each_is_an_algorithm_of_its_own():
    assert not any(ALGORITHMS[name].stacks for name in ("mixture", "vamp"))

"""The backward pass by hand is autograd's, whatever the decoder, the encoder and the company."""

import pytest
import torch

from aevb.backward import PASSES, by_hand
from aevb.model import bernoulli_vae, gaussian_vae, stack

BUILD = {"bernoulli": bernoulli_vae, "gaussian": gaussian_vae}
every_pass = pytest.mark.parametrize("objective", PASSES, ids=lambda objective: objective.__name__)
every_decoder = pytest.mark.parametrize("decoder", [*BUILD, "gaussian without a sigmoid"])
M, D, H = 7, 11, 6


def model_of(decoder, latent_dim, seed=0, slow_log_var=False):
    """A model far from its start: every weight and bias of the size of one, in double precision."""
    source = torch.Generator().manual_seed(seed)
    build = BUILD[decoder.split()[0]]
    model = build(D, H, latent_dim, generator=source, slow_log_var=slow_log_var).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=source))
    if "without" in decoder:
        model.decoder.unit_mean = False
    return model


def data(*shape):
    return torch.rand(*shape, D, generator=torch.Generator().manual_seed(9)).double()


def autograd(objective, model, x, generator):
    update = objective(model, x, generator=generator)
    return torch.autograd.grad(update.loss, list(model.parameters())), update.bound


def noise(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("slow_log_var", [False, True])
@every_decoder
@every_pass
def test_it_is_autograds_gradient_and_bound_at_the_same_noise(objective, decoder, slow_log_var):
    model, x = model_of(decoder, 3, slow_log_var=slow_log_var), data(M)
    expected, bound = autograd(objective, model, x, noise(5))
    ours, again = by_hand(objective, model, M), noise(5)
    drawn = ours.draw([again])
    found = ours(x, drawn, list(model.parameters()))
    torch.testing.assert_close(list(found.gradients), list(expected))
    torch.testing.assert_close(found.bound, bound)
    after = noise(5)
    objective(model, x, generator=after)
    assert torch.equal(again.get_state(), after.get_state())  # nothing more was drawn


@every_decoder
@every_pass
def test_a_second_step_owes_nothing_to_the_first(objective, decoder):
    model = model_of(decoder, 3)
    ours, parameters = by_hand(objective, model, M), list(model.parameters())
    for k, x in enumerate(data(3, M)):
        drawn = ours.draw([noise(k)])
        found = ours(x, drawn, parameters)
        expected, bound = autograd(objective, model, x, noise(k))
        torch.testing.assert_close(list(found.gradients), list(expected))
        torch.testing.assert_close(found.bound, bound)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, found.gradients, strict=True):
                parameter -= 0.01 * gradient


@pytest.mark.parametrize("slow_log_var", [False, True])
@every_decoder
@every_pass
def test_members_of_other_latent_dimensions_have_their_own_gradients(objective, decoder, slow_log_var):
    """And what pads them has none."""
    dims = (3, 1, 5)
    models = [model_of(decoder, dim, seed, slow_log_var) for seed, dim in enumerate(dims)]
    x, ensemble = data(len(dims), M), stack(models)
    ours = by_hand(objective, ensemble, M)
    drawn = ours.draw([noise(seed) for seed in range(len(dims))])
    found = ours(x, drawn, list(ensemble.parameters()))
    for e, model in enumerate(models):
        expected, bound = autograd(objective, model, x[e], noise(e))
        torch.testing.assert_close(found.bound[e], bound)
        for together, gradient in zip(found.gradients, expected, strict=True):
            inside = torch.zeros_like(together[e], dtype=torch.bool)
            inside[tuple(slice(size) for size in gradient.shape)] = True
            torch.testing.assert_close(together[e][inside], gradient.flatten())
            assert (together[e][~inside] == 0).all()


@every_pass
def test_a_member_draws_what_it_would_alone_whatever_its_company(objective):
    dims = (2, 4)
    models = [model_of("bernoulli", dim, seed) for seed, dim in enumerate(dims)]
    together = by_hand(objective, stack(models), M).draw([noise(0), noise(1)])
    for e, model in enumerate(models):
        for name, values in by_hand(objective, model, M).draw([noise(e)]).items():
            assert torch.equal(together[name][e, :, : values.shape[-1]], values)
            assert (together[name][e, :, values.shape[-1] :] == 0).all()


@every_pass
def test_what_nobody_derived_is_left_to_autograd(objective):
    class Other(type(model_of("bernoulli", 2).decoder)):
        pass

    model = model_of("bernoulli", 2)
    assert by_hand(objective, model, M)
    assert by_hand(lambda *_: None, model, M) is None
    model.decoder.__class__ = Other
    assert by_hand(objective, model, M) is None


@pytest.mark.parametrize("x", [torch.full((M, D), 1.5).double(), torch.full((M, D), torch.nan).double()])
@every_pass
def test_data_outside_the_domain_are_refused(objective, x):
    ours = by_hand(objective, model_of("bernoulli", 2), M)
    with pytest.raises(ValueError, match="data"):
        ours(x, ours.draw([noise(0)]), [])

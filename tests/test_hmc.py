"""The sampler: reversible, volume-preserving, and right about posteriors that are known."""

import math

import pytest
import torch
from torch import Tensor

from aevb import hmc
from aevb.model import LinearGaussian

COVARIANCE = torch.tensor([[1.0, 0.9], [0.9, 1.5]], dtype=torch.float64)
PRECISION = torch.linalg.inv(COVARIANCE)
MEAN = torch.tensor([2.0, -1.0], dtype=torch.float64)


def gaussian(z: Tensor) -> Tensor:
    return -0.5 * torch.einsum("...i,ij,...j->...", z - MEAN, PRECISION, z - MEAN)


def quartic(z: Tensor) -> Tensor:
    """Not a Gaussian: leapfrog is not linear here."""
    return -(z.square().sum(-1) + 0.3 * z[..., 0] * z[..., 1]).square() - gaussian(z).exp()


def tuned(log_density, z, generator, n_leapfrog=4):
    state = hmc.init(log_density, z)
    return hmc.tune(log_density, state, n_leapfrog, 100, generator=generator)


# ---- leapfrog


def test_leapfrog_is_reversible(generator):
    """There and back with the momentum turned round: the start, to rounding."""
    z, momentum = torch.randn(2, 5, 7, 2, generator=generator, dtype=torch.float64)
    there, turned = hmc.leapfrog(quartic, hmc.init(quartic, z), momentum, 0.05, 9)
    back, end = hmc.leapfrog(quartic, there, -turned, 0.05, 9)
    assert (there.z - z).abs().max() > 0.1
    torch.testing.assert_close(back.z, z)
    torch.testing.assert_close(end, -momentum)


def test_leapfrog_preserves_volume(generator):
    """The Jacobian of (z, r) -> (z', r') has determinant one, to rounding."""
    start = torch.randn(4, generator=generator, dtype=torch.float64)

    def flow(point: Tensor) -> Tensor:
        size, z, r = 0.1, point[:2], point[2:]
        for _ in range(6):  # hmc.leapfrog, whose states are detached, written to be differentiated
            r = r + 0.5 * size * torch.func.grad(quartic)(z)
            z = z + size * r
            r = r + 0.5 * size * torch.func.grad(quartic)(z)
        return torch.cat([z, r])

    state, momentum = hmc.leapfrog(quartic, hmc.init(quartic, start[None, None, :2]), start[None, None, 2:], 0.1, 6)
    torch.testing.assert_close(flow(start), torch.cat([state.z.flatten(), momentum.flatten()]))
    jacobian = torch.func.jacrev(flow)(start)
    assert abs(torch.linalg.det(jacobian).item() - 1) < 1e-12
    assert (jacobian - torch.eye(4)).abs().max() > 0.1


def test_energy_error_shrinks_with_the_square_of_the_step(generator):
    z, momentum = torch.randn(2, 1, 50, 2, generator=generator, dtype=torch.float64)

    def error(size: float) -> float:
        state = hmc.init(gaussian, z)
        end, r = hmc.leapfrog(gaussian, state, momentum, size, round(0.4 / size))
        change = end.log_density - 0.5 * r.square().sum(-1) - state.log_density + 0.5 * momentum.square().sum(-1)
        return change.abs().mean().item()

    assert error(0.02) / error(0.01) == pytest.approx(4, rel=0.05)


# ---- known targets


def assert_moments(draws: Tensor, mean: Tensor, covariance: Tensor):
    """Mean and covariance of `draws` `(T, C, M, J)` per datapoint, to 4 standard errors over independent chains."""
    chain_means = draws.mean(0)  # (C, M, J)
    second = torch.einsum("tcmi,tcmj->cmij", draws - mean, draws - mean) / len(draws)
    for estimates, exact in ((chain_means, mean), (second, covariance)):
        error = estimates.std(0) / len(estimates) ** 0.5
        scale = covariance.diagonal(dim1=-2, dim2=-1).max()
        assert error.max() < 0.05 * scale.sqrt(), "too few draws to prove anything"
        assert ((estimates.mean(0) - exact).abs() < 4 * error).all()


def test_recovers_a_correlated_gaussian(generator):
    z = torch.randn(100, 3, 2, generator=generator, dtype=torch.float64)
    state, size = tuned(gaussian, z, generator)
    assert size.shape == (3,)
    _, draws = hmc.sample(gaussian, state, size, 4, 400, generator=generator)
    assert draws.z.shape == (400, 100, 3, 2)
    assert_moments(draws.z, MEAN, COVARIANCE)


def test_recovers_linear_gaussian_posteriors(linear_gaussian, x, generator):
    log_density = hmc.posterior(linear_gaussian, x)
    state, size = tuned(log_density, hmc.start(linear_gaussian, x, 200, generator=generator), generator)
    _, draws = hmc.sample(log_density, state, size, 4, 300, generator=generator)
    mean, covariance = linear_gaussian.exact_posterior(x)
    assert_moments(draws.z, mean.detach(), covariance.detach())


@pytest.mark.parametrize("latent_dim", [1, 3, 10])
def test_tuned_acceptance_is_within_three_points_of_ninety_percent(generator, latent_dim):
    W = torch.randn(15, latent_dim, generator=generator, dtype=torch.float64)
    model = LinearGaussian(W, torch.zeros(15, dtype=torch.float64), 0.8)
    x, _ = model.sample_joint(100, generator=generator)
    log_density = hmc.posterior(model, x)
    state, size = tuned(log_density, hmc.start(model, x, 5, generator=generator), generator)
    _, draws = hmc.sample(log_density, state, size, 4, 100, generator=generator)
    assert abs(draws.acceptance.mean().item() - 0.9) < 0.03


def test_the_step_size_is_frozen_while_samples_count(linear_gaussian, x, generator):
    log_density = hmc.posterior(linear_gaussian, x)
    state = hmc.init(log_density, hmc.start(linear_gaussian, x, 3, generator=generator))
    size = torch.full((4,), 0.3, dtype=torch.float64)
    _, draws = hmc.sample(log_density, state, size, 4, 10, generator=torch.Generator().manual_seed(5))
    again, by_hand = torch.Generator().manual_seed(5), []
    for _ in range(10):
        state, _ = hmc.step(log_density, state, 0.3, 4, generator=again)
        by_hand.append(state.z)
    torch.testing.assert_close(draws.z, torch.stack(by_hand), rtol=0, atol=0)


# ---- Geweke (2004): sampler and model together


def geweke_statistics(generator: torch.Generator, n: int = 200_000) -> tuple[Tensor, Tensor]:
    """Two ways to draw (z, x) from a model: z ~ p(z), x ~ p(x|z); and that, followed by HMC moves of z given x.

    If HMC leaves p(z|x) invariant both have one distribution. Returned: z, z^2 and z x of each, `(n, 9)`.
    """
    W = torch.tensor([[1.0, 0.4], [0.3, -0.8], [0.9, 0.2]], dtype=torch.float64)
    model = LinearGaussian(W, torch.zeros(3, dtype=torch.float64), 0.6)
    x, z = model.sample_joint(n, generator=generator)
    state = hmc.init(hmc.posterior(model, x), z[None])
    for _ in range(5):
        state, _ = hmc.step(hmc.posterior(model, x), state, 0.45, 4, generator=generator)

    def statistics(z: Tensor) -> Tensor:
        return torch.cat([z, z.square(), z[:, :1] * z[:, 1:], z[:, :1] * x, z[:, 1:] * x[:, :1]], dim=1)

    return statistics(z), statistics(state.z[0])


def largest_z_score(generator: torch.Generator) -> float:
    """Over the statistics, the largest difference of means in standard errors (the two draws share x: paired)."""
    difference = torch.sub(*geweke_statistics(generator))
    return (difference.mean(0) / (difference.std(0) / len(difference) ** 0.5)).abs().max().item()


def test_geweke(generator):
    assert largest_z_score(generator) < 4


def missing_half_step(log_density, state, momentum, step_size, n_leapfrog):
    """The last half step of the momentum left out."""
    size = torch.as_tensor(step_size)[..., None]
    for _ in range(n_leapfrog):
        momentum = momentum + 0.5 * size * state.gradient
        state = hmc.evaluate(log_density, state.z + size * momentum)
    return state, momentum


def wrong_sign(log_density, state, momentum, step_size, n_leapfrog):
    """Downhill in the log-density, so that nearly everything is rejected but what is accepted is still right."""
    size = torch.as_tensor(step_size)[..., None]
    for _ in range(n_leapfrog):
        momentum = momentum - 0.5 * size * state.gradient
        state = hmc.evaluate(log_density, state.z + size * momentum)
        momentum = momentum + 0.5 * size * state.gradient
    return state, momentum


@pytest.mark.parametrize("planted", [missing_half_step, wrong_sign])
def test_geweke_sees_planted_errors(generator, monkeypatch, planted):
    monkeypatch.setattr(hmc, "leapfrog", planted)
    assert largest_z_score(generator) > 6


def test_geweke_sees_a_wrong_acceptance(generator, monkeypatch):
    """The present density taken 0.3 nats too high: it stays too often where it is, which is no constant's fault."""
    step = hmc.step

    def reluctant(log_density, state, step_size, n_leapfrog, *, generator):
        flattered = state._replace(log_density=state.log_density + 0.3)
        return step(log_density, flattered, step_size, n_leapfrog, generator=generator)

    monkeypatch.setattr(hmc, "step", reluctant)
    assert largest_z_score(generator) > 6


# ---- diagnostics


def autoregressive(correlation: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    draws = [noise[0]]
    for step in noise[1:]:
        draws.append(correlation * draws[-1] + math.sqrt(1 - correlation**2) * step)
    return torch.stack(draws)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, -0.4])
def test_effective_sample_size_of_an_autoregression(generator, correlation):
    """For x' = a x + noise it is T C (1 - a) / (1 + a)."""
    draws = autoregressive(correlation, (10_000, 4, 40), generator)
    exact = 40_000 * (1 - correlation) / (1 + correlation)
    assert hmc.effective_sample_size(draws).mean().item() == pytest.approx(exact, rel=0.05)


def test_split_rhat_by_hand_and_what_it_sees(generator):
    draws = torch.randn(100, 3, 2, generator=generator, dtype=torch.float64)
    halves = torch.stack([draws[:50], draws[50:]], 1).reshape(50, 6, 2)
    within = halves.var(0).mean(0)
    between = 50 * halves.mean(0).var(0)
    torch.testing.assert_close(hmc.split_rhat(draws), ((49 / 50 * within + between / 50) / within).sqrt())
    assert (hmc.split_rhat(draws) < 1.05).all()
    assert (hmc.split_rhat(draws + torch.arange(3.0)[:, None]) > 1.2).all()  # chains apart
    assert (hmc.split_rhat(draws + torch.arange(100.0)[:, None, None] / 20) > 1.2).all()  # chains on the move


def test_chains_of_one_datapoint_do_not_touch_anothers(linear_gaussian, x, generator):
    """A datapoint's density and gradient depend on its own z alone, so sampling many at once is sampling each."""
    log_density = hmc.posterior(linear_gaussian, x)
    z = torch.randn(2, 4, 2, generator=generator, dtype=torch.float64)
    together = hmc.init(log_density, z)
    for i in range(4):
        alone = hmc.init(hmc.posterior(linear_gaussian, x[i : i + 1]), z[:, i : i + 1])
        torch.testing.assert_close(together.gradient[:, i], alone.gradient[:, 0])


def test_starts_lie_where_the_posterior_is(generator):
    """Resampled from 1000 prior draws, starts sit nearer to the posterior mean than prior draws do."""
    W = 3 * torch.eye(2, dtype=torch.float64)
    model = LinearGaussian(W, torch.zeros(2, dtype=torch.float64), 0.5)
    x, _ = model.sample_joint(100, generator=generator)
    mean, covariance = model.exact_posterior(x)
    starts = hmc.start(model, x, 4, generator=generator)
    assert starts.shape == (4, 100, 2)
    spread = ((starts - mean).square().sum(-1) / covariance.diagonal().sum()).mean().item()
    assert spread < 1.5


# ---- trouble


def nan_at(rows: list[int]):
    def log_density(z: Tensor) -> Tensor:
        value = gaussian(z)
        mask = torch.zeros(z.shape[1])
        mask[rows] = torch.nan
        return value + mask

    return log_density


def test_a_density_that_is_not_a_number_is_named(generator):
    with pytest.raises(ValueError, match=r"not finite at the start of datapoints 1, 4$"):
        hmc.init(nan_at([1, 4]), torch.randn(2, 6, 2, generator=generator, dtype=torch.float64))
    model = LinearGaussian(torch.ones(3, 1, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 1.0)
    x = torch.zeros(12, 3, dtype=torch.float64)
    x[1:] = torch.nan
    with pytest.raises(ValueError, match=r"datapoints 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 1 more"):
        hmc.start(model, x, 2, generator=generator)


def test_a_proposal_that_is_not_a_number_is_rejected_and_counted(generator):
    def walled(z: Tensor) -> Tensor:
        return torch.where(z[..., 0] > 0, gaussian(z), torch.nan)

    z = torch.full((1, 1000, 2), 0.1, dtype=torch.float64)
    state, info = hmc.step(walled, hmc.init(walled, z), 0.3, 3, generator=generator)
    assert torch.isfinite(state.log_density).all()
    assert (state.z[..., 0] > 0).all()
    assert info.divergent.any()
    assert not (info.divergent & info.accepted).any()


def test_a_posterior_it_cannot_move_in_is_named(generator):
    z = torch.zeros(2, 3, 2, dtype=torch.float64)
    size = torch.tensor([0.5, 1e3, 0.5], dtype=torch.float64)
    with pytest.raises(ValueError, match="did not move in 5 steps at datapoints 1: tune"):
        hmc.sample(gaussian, hmc.init(gaussian, z), size, 4, 5, generator=generator)
    size[1] = 1.9
    with pytest.warns(UserWarning, match="accepts less than 50% at datapoints 1: distrust"):
        hmc.sample(gaussian, hmc.init(gaussian, z), size, 4, 200, generator=generator)


def test_diagnostics_of_few_draws_are_not_numbers(generator):
    one = torch.randn(1, 5, 3, generator=generator)
    assert hmc.effective_sample_size(one).isnan().all() and hmc.split_rhat(one).isnan().all()
    assert hmc.effective_sample_size(one).shape == hmc.split_rhat(one).shape == (3,)


@pytest.mark.parametrize("stuck", [[0], [0, 1, 2, 3]])
def test_a_chain_that_stands_still_has_no_effective_sample_size(generator, stuck):
    """One of four, or all of them at four places; the other latent, whose chains move, keeps its number."""
    draws = torch.randn(50, 4, 3, 2, generator=generator, dtype=torch.float64)
    moving = hmc.effective_sample_size(draws)
    draws[:, stuck, 1, 0] = torch.arange(4.0, dtype=torch.float64)[stuck]
    found = hmc.effective_sample_size(draws)
    assert found[1, 0].isnan()
    assert found.isnan().sum() == 1
    assert torch.equal(found[0], moving[0]) and torch.equal(found[1, 1], moving[1, 1])
    assert hmc.effective_sample_size(draws[:, :1, 1, 0]).isnan() == (0 in stuck)  # of one chain alone


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_draws_that_are_not_numbers_have_no_effective_sample_size(generator, value):
    draws = torch.randn(50, 4, 2, generator=generator)
    draws[3, 1, 0] = value
    found = hmc.effective_sample_size(draws)
    assert found[0].isnan() and found[1].isfinite()
    assert hmc.effective_sample_size(torch.full((50, 4, 2), value)).isnan().all()


@pytest.mark.parametrize(("shape", "name"), [((0, 3, 2), "chains"), ((2, 0, 2), "datapoints")])
def test_nothing_to_sample_is_refused(generator, shape, name):
    z = torch.zeros(shape, dtype=torch.float64)
    nowhere = hmc.State(z, z[..., 0], z)
    calls = [
        lambda: hmc.init(gaussian, z),
        lambda: hmc.step(gaussian, nowhere, 0.1, 2, generator=generator),
        lambda: hmc.tune(gaussian, nowhere, 2, 3, generator=generator),
        lambda: hmc.sample(gaussian, nowhere, 0.1, 2, 3, generator=generator),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=rf"^{name} must be 1 or more, not 0$"):
            call()


@pytest.mark.parametrize("size", [0.0, -0.1, math.inf, math.nan])
def test_a_step_size_that_leads_nowhere_is_refused(generator, size):
    state = hmc.init(gaussian, torch.zeros(2, 3, 2, dtype=torch.float64))
    said = rf"^step_size must be finite and above 0, not {size}$"
    for of_all in (size, torch.tensor([0.1, size, 0.1], dtype=torch.float64)):
        with pytest.raises(ValueError, match=said):
            hmc.sample(gaussian, state, of_all, 4, 5, generator=generator)


def test_a_step_size_that_is_a_number_has_the_type_of_the_chains(generator):
    z = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
    state, momentum = hmc.init(gaussian, z), torch.ones_like(z)
    by_number, _ = hmc.leapfrog(gaussian, state, momentum, 0.1, 3)
    by_tensor, _ = hmc.leapfrog(gaussian, state, momentum, torch.tensor(0.1, dtype=torch.float64), 3)
    assert torch.equal(by_number.z, by_tensor.z)


@pytest.mark.parametrize("jitter", [-0.1, 1.0, math.nan])
def test_a_jitter_that_would_turn_a_step_round_is_refused(generator, jitter):
    state = hmc.init(gaussian, torch.zeros(1, 1, 2).double())
    with pytest.raises(ValueError, match=f"^jitter must be at least 0 and below 1, not {jitter}$"):
        hmc.step(gaussian, state, 0.1, 2, generator=generator, jitter=jitter)


def test_without_jitter_a_chain_traces_a_closed_orbit(generator):
    """Of a standard normal in one dimension half a turn leads from z to -z: z^2 never changes (Neal 2011, 3.2)."""

    def normal(z):
        return -0.5 * z.square().sum(-1)

    state = hmc.init(normal, torch.randn(50, 1, 1, generator=generator, dtype=torch.float64))
    for jitter, turns in ((0.0, True), (hmc.JITTER, False)):
        moved, info = hmc.step(normal, state, math.pi / 100, 100, generator=generator, jitter=jitter)
        assert info.accepted.all()
        assert torch.allclose(moved.z, -state.z, atol=1e-3) == turns

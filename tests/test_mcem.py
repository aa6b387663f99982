"""Monte Carlo EM: its gradient, its chains, and that it climbs log p(x)."""

import pytest
import torch

from aevb import hmc, mcem
from aevb.model import LinearGaussian


def test_m_step_gradient_at_posterior_samples_is_that_of_the_evidence(linear_gaussian, x, generator):
    """Fisher's identity: grad log p(x) = E[grad log p(x, z)] over p(z|x), here with exact posterior samples."""
    m, n = linear_gaussian, 20_000
    exact = torch.autograd.grad(m.log_evidence(x).sum(), (m.W, m.b))
    mean, covariance = (part.detach() for part in m.exact_posterior(x))
    noise = torch.randn(n, 4, 2, generator=generator, dtype=x.dtype)
    z = mean + noise @ torch.linalg.cholesky(covariance).T
    batches = []
    for part in z.split(500):
        gradient = torch.autograd.grad(-m.log_joint(x, part).mean(0).sum(), (m.W, m.b))
        batches.append(torch.cat([g.flatten() for g in gradient]))
    batches = -torch.stack(batches)
    error = batches.std(0) / len(batches) ** 0.5
    expected = torch.cat([g.flatten() for g in exact])
    assert ((batches.mean(0) - expected).abs() < 4 * error).all()
    assert error.max() < 0.1 * expected.abs().max()


def test_m_step_is_minus_the_joint(linear_gaussian, x, generator):
    z = torch.randn(1, 4, 2, generator=generator, dtype=x.dtype)
    update = mcem.m_step(linear_gaussian, x, z)
    torch.testing.assert_close(-update.loss, linear_gaussian.log_joint(x, z).sum())
    torch.testing.assert_close(update.bound, linear_gaussian.log_joint(x, z)[0].detach())
    assert not update.bound.requires_grad
    phi = torch.autograd.grad(update.loss, (linear_gaussian.V, linear_gaussian.log_var), allow_unused=True)
    assert phi == (None, None)  # no encoder in it


def test_chains_reach_the_posterior_and_the_target_acceptance(generator):
    """Each datapoint's persistent chain, moved in minibatches, samples its own posterior."""
    W = torch.tensor([[1.0, 0.5], [-0.3, 1.2], [0.4, 0.4]])
    model = LinearGaussian(W, torch.zeros(3), 0.5)
    x, _ = model.sample_joint(4000, generator=generator)
    chains = mcem.Chains(4000, 2, generator=generator)
    late = []
    for _ in range(20):  # epochs
        for rows in torch.randperm(4000, generator=generator).split(100):
            late.append(chains.move(model, x[rows], rows, generator=generator).acceptance.mean())
    assert abs(torch.stack(late[-400:]).mean().item() - hmc.TARGET) < 0.03
    mean, covariance = (part.detach() for part in model.exact_posterior(x))
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (chains.z - mean).T, upper=False).T
    error = 1 / 4000**0.5  # of a mean of independent standard normals
    assert (white.mean(0).abs() < 4 * error).all()
    second = white.T @ white / 4000
    assert ((second - torch.eye(2)).abs() < 4 * 2**0.5 * error).all()


def test_only_the_rows_of_a_minibatch_move(generator):
    model = LinearGaussian(torch.ones(3, 2), torch.zeros(3), 1.0)
    chains = mcem.Chains(10, 2, generator=generator)
    before, rows = chains.z.clone(), torch.tensor([7, 2])
    info = chains.move(model, torch.zeros(2, 3), rows, generator=generator)
    moved = (chains.z != before).any(1)
    assert moved.nonzero().flatten().tolist() == sorted(rows[info.accepted[0]].tolist())


def test_a_density_that_is_not_a_number_moves_nothing_and_shows_in_the_loss(generator):
    model = LinearGaussian(torch.full((3, 2), torch.nan), torch.zeros(3), 1.0)
    chains = mcem.Chains(5, 2, generator=generator)
    before = chains.z.clone()
    chains.move(model, torch.zeros(5, 3), torch.arange(5), generator=generator)
    torch.testing.assert_close(chains.z, before)
    assert mcem.m_step(model, torch.zeros(5, 3), chains.z[None]).loss.isnan()


def test_em_climbs_the_evidence(generator):
    """On data from a linear-Gaussian model MCEM takes log p(x) from a random start to 0.05 nats from the truth's."""
    truth = LinearGaussian(torch.tensor([[2.0], [-1.0], [0.5], [1.5]]), torch.tensor([1.0, 0.0, -1.0, 0.5]), 0.5)
    x, _ = truth.sample_joint(2000, generator=generator)
    model = LinearGaussian(0.1 * torch.randn(4, 1, generator=generator), torch.zeros(4), 0.5)
    chains = mcem.Chains(2000, 1, generator=generator)
    optimizer = torch.optim.Adagrad([model.W, model.b], lr=0.1)
    start = model.log_evidence(x).mean().item()
    for _ in range(300):
        rows = torch.randint(2000, (200,), generator=generator)
        chains.move(model, x[rows], rows, generator=generator)
        for _ in range(mcem.UPDATES_PER_SAMPLE):
            optimizer.zero_grad()
            (mcem.m_step(model, x[rows], chains.z[rows][None]).loss / 200).backward()
            optimizer.step()
    best = truth.log_evidence(x).mean().item()
    assert start < best - 2
    assert model.log_evidence(x).mean().item() == pytest.approx(best, abs=0.05)

import math

import pytest
import torch

from aevb.networks import Affine, BernoulliMLP, GaussianMLP, SlowAffine, log_normal


def widened(net):
    """In float64, with weights a hundred times larger: at 0.01 every mean is nearly 1/2 and hides mistakes."""
    net.double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(100)
    return net


def affine(layer, values):
    """Wv + b, entry by entry, on lists of numbers."""
    W, b = layer.weight.tolist(), layer.bias.tolist()
    return [b[i] + sum(W[i][j] * values[j] for j in range(len(values))) for i in range(len(b))]


def sigmoid(a):
    return 1 / (1 + math.exp(-a))


def equation_11(net, v, u):
    y = [sigmoid(a) for a in affine(net.logit, [math.tanh(a) for a in affine(net.hidden, u)])]
    return sum(v[i] * math.log(y[i]) + (1 - v[i]) * math.log(1 - y[i]) for i in range(len(v)))


def equation_12(net, v, u):
    h = [math.tanh(a) for a in affine(net.hidden, u)]
    mu, log_var = affine(net.mu, h), affine(net.log_var, h)
    mu = [sigmoid(a) for a in mu] if net.unit_mean else mu
    densities = [
        math.exp(-((v[i] - mu[i]) ** 2) / (2 * math.exp(log_var[i]))) / math.sqrt(2 * math.pi * math.exp(log_var[i]))
        for i in range(len(v))
    ]
    return sum(math.log(density) for density in densities)


def test_log_normal_is_that_of_torch_distributions(generator):
    v, mu, log_var = (torch.randn(5, 4, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    expected = torch.distributions.Normal(mu, torch.exp(0.5 * log_var)).log_prob(v).sum(-1)
    torch.testing.assert_close(log_normal(v, mu, log_var), expected)


def test_log_normal_broadcasts(generator):
    v, mu = torch.randn(5, 1, 3, generator=generator), torch.randn(4, 3, generator=generator)
    log_var = torch.randn(3, generator=generator)
    expected = torch.distributions.Normal(mu, torch.exp(0.5 * log_var)).log_prob(v).sum(-1)
    assert expected.shape == (5, 4)
    torch.testing.assert_close(log_normal(v, mu, log_var), expected)


@pytest.mark.parametrize("grey", [False, True])
def test_equation_11_literally(generator, grey):
    net = widened(BernoulliMLP(3, 5, 4, generator=generator))
    u, v = torch.randn(6, 3, generator=generator).double(), torch.rand(6, 4, generator=generator).double()
    v = v if grey else v.round()
    expected = torch.tensor([equation_11(net, *pair) for pair in zip(v.tolist(), u.tolist(), strict=True)]).double()
    torch.testing.assert_close(net.log_prob(v, u), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("unit_mean", [False, True])
def test_equation_12_literally(generator, unit_mean):
    net = widened(GaussianMLP(3, 5, 4, generator=generator, unit_mean=unit_mean))
    u, v = torch.randn(6, 3, generator=generator).double(), torch.randn(6, 4, generator=generator).double()
    expected = [equation_12(net, *pair) for pair in zip(v.tolist(), u.tolist(), strict=True)]
    torch.testing.assert_close(net.log_prob(v, u), torch.tensor(expected, dtype=torch.float64))


def test_slow_layers_start_at_zero_and_count_a_tenth(generator):
    layer, u = SlowAffine(5, 3, generator=generator), torch.randn(4, 5, generator=generator)
    assert not layer(u).any()
    with torch.no_grad():
        layer.weight.normal_(generator=generator)
        layer.bias.normal_(generator=generator)
    torch.testing.assert_close(layer(u), 0.1 * u @ layer.weight.T + layer.bias)
    gradient = torch.autograd.grad(layer(u).sum(), layer.weight)[0]
    torch.testing.assert_close(gradient, 0.1 * u.sum(0).expand(3, 5))


def test_a_slow_log_variance_changes_nothing_else_at_the_start():
    slow, plain = (
        GaussianMLP(4, 5, 3, generator=torch.Generator().manual_seed(0), slow_log_var=slow) for slow in (True, False)
    )
    for name, parameter in plain.named_parameters():
        expected = torch.zeros_like(parameter) if name.startswith("log_var") else parameter
        assert torch.equal(slow.get_parameter(name), expected), name
    assert isinstance(slow.log_var, SlowAffine) and type(plain.log_var) is Affine


@pytest.mark.parametrize("kind", [BernoulliMLP, GaussianMLP])
def test_every_sample_of_every_datapoint_is_scored_alone(generator, kind):
    """Latents `(L, M, J)` against data `(M, D)`: entry (l, m) is that pair's own log-density."""
    net = widened(kind(3, 5, 4, generator=generator))
    z, x = torch.randn(2, 6, 3, generator=generator).double(), torch.rand(6, 4, generator=generator).double()
    alone = torch.stack([torch.stack([net.log_prob(x[m], z[i, m]) for m in range(6)]) for i in range(2)])
    torch.testing.assert_close(net.log_prob(x, z), alone)


def test_a_saturated_bernoulli_stays_finite(generator):
    net = BernoulliMLP(1, 1, 2, generator=generator)
    with torch.no_grad():
        net.logit.weight.zero_()
        net.logit.bias.copy_(torch.tensor([-1000.0, 1000.0]))
    assert net.log_prob(torch.tensor([1.0, 1.0]), torch.zeros(1)).item() == -1000.0


@pytest.mark.parametrize("kind", [BernoulliMLP, GaussianMLP])
def test_every_initial_parameter_has_standard_deviation_one_hundredth(generator, kind):
    net = kind(300, 400, 500, generator=generator)
    for name, parameter in net.named_parameters():
        n = parameter.numel()
        assert abs(parameter.mean()) < 4 * 0.01 / n**0.5, name
        assert abs(parameter.std() - 0.01) < 4 * 0.01 / (2 * n) ** 0.5, name


def test_initial_parameters_come_from_the_generator_alone():
    before = torch.get_rng_state()
    draw = [Affine(4, 5, generator=torch.Generator().manual_seed(seed)).weight for seed in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])


def test_bernoulli_samples_have_their_means(generator):
    net = widened(BernoulliMLP(3, 5, 4, generator=generator))
    u, n = torch.randn(3, generator=generator).double(), 20_000
    samples, y = net.sample(u.expand(n, 3), generator=generator), net.mean(u)
    assert set(samples.unique().tolist()) == {0.0, 1.0}
    assert ((samples.mean(0) - y).abs() < 4 * (y * (1 - y) / n).sqrt()).all()


def test_gaussian_samples_have_their_means_and_variances(generator):
    net = widened(GaussianMLP(3, 5, 4, generator=generator))
    u, n = torch.randn(3, generator=generator).double(), 20_000
    samples, (mu, log_var) = net.sample(u.expand(n, 3), generator=generator), net(u)
    variance = log_var.exp()
    assert ((samples.mean(0) - mu).abs() < 4 * (variance / n).sqrt()).all()
    assert ((samples.var(0) - variance).abs() < 4 * variance * (2 / n) ** 0.5).all()
    assert not samples.requires_grad


def test_unit_means_lie_between_zero_and_one(generator):
    net = widened(GaussianMLP(3, 50, 40, generator=generator, unit_mean=True))
    mean = net.mean(torch.randn(100, 3, generator=generator).double())
    assert 0 < mean.min() < 0.1
    assert 0.9 < mean.max() < 1

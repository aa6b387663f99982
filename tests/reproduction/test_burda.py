"""The network, the schedule and the measure of Burda et al., on pixels few enough to know the answers."""

import math

import pytest
import torch
from torch import Tensor

from aevb import marginal_likelihood
from aevb.reproduction import burda


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pixels() -> Tensor:
    """The grey levels of forty images of five pixels, of two kinds."""
    kinds = torch.tensor([[0.9, 0.9, 0.1, 0.1, 0.5], [0.1, 0.2, 0.9, 0.8, 0.5]])
    return kinds.repeat(20, 1)


def test_the_decoder_starts_at_the_means_of_the_pixels(pixels):
    model = burda.TwoLayers(pixels.mean(0), generator=seeded())
    torch.testing.assert_close(model.pixels.mean(model.from_latents(torch.zeros(50))), pixels.mean(0))
    assert all(
        (layer.bias == 0).all() for layer in (model.from_pixels[0], model.mu, model.log_sigma, model.from_latents[0])
    )


def test_importance_sampling_agrees_with_quadrature(pixels, monkeypatch):
    monkeypatch.setattr(burda, "LATENT_DIM", 1)
    monkeypatch.setattr(burda, "WIDTH", 7)
    narrow = burda.TwoLayers(pixels.mean(0), generator=seeded())
    with torch.no_grad():
        narrow.from_latents[0].weight *= 20  # so that z matters
    x = burda.black_and_white(pixels[:6], generator=seeded())
    ours = marginal_likelihood.importance_weighted(narrow, x, generator=seeded()).log_px
    exact = marginal_likelihood.quadrature(narrow, x, points=400).log_px
    torch.testing.assert_close(ours, exact, atol=0.1, rtol=0)


def test_black_and_white_has_the_grey_level_as_its_mean():
    grey = torch.tensor([0.0, 0.2, 0.7, 1.0]).expand(10_000, 4)
    drawn = burda.black_and_white(grey, generator=seeded())
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    error = 5 * (grey[0] * (1 - grey[0]) / 10_000).sqrt()
    assert ((drawn.mean(0) - grey[0]).abs() <= error).all()


def test_the_stages_make_one_three_and_nine_passes_and_learn_the_two_kinds(pixels):
    x = burda.black_and_white(pixels, generator=seeded())
    stages = list(burda.train(pixels.repeat(40, 1), 1, 0, 3))
    assert [passes for passes, _ in stages] == [1, 4, 13]
    learned = -marginal_likelihood.importance_weighted(stages[-1][1], x, generator=seeded()).log_px.mean()

    def of(p: Tensor) -> Tensor:
        return (x * p.log() + (1 - x) * (1 - p).log()).sum(-1)

    mixture = -torch.logaddexp(of(pixels[0]), of(pixels[1])).mean() + math.log(2)  # what the pixels came from
    assert -of(pixels.mean(0)).mean() > mixture + 0.25  # without latents
    assert abs(learned - mixture) < 0.1


def test_no_samples_are_refused(pixels):
    with pytest.raises(ValueError, match="k"):
        next(burda.train(pixels, 0, 0, 1))

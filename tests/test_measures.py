"""The measures that a curve can show."""

import dataclasses
import math

import pytest
import torch

from aevb.marginal_likelihood import appendix_d
from aevb.measures import mean_bound
from aevb.trainer import Trainer
from tests.runs import RUN

pytestmark = pytest.mark.usefixtures("tiny")


def test_the_bound_is_a_mean_over_datapoints_whatever_the_batches(tiny, generator, monkeypatch):
    """With q's variance put to nothing the noise has no effect; 7 does not divide 32."""
    model = Trainer(RUN, 0.05).model
    with torch.no_grad():
        model.encoder.log_var.bias.fill_(-40.0)
        z, _ = model.posterior(tiny.unit(tiny.test))
        kl = 0.5 * (z.square() + math.exp(-40) - 1 + 40).sum(-1)  # log_var's weights add less than 1 %
        expected = (model.decoder.log_prob(tiny.unit(tiny.test), z) - kl).mean().item()
    values = []
    for size in (7, 32, 1000):
        monkeypatch.setattr("aevb.measures.EVALUATION_BATCH", size)
        values.append(mean_bound(model, tiny, tiny.test, generator=generator))
    assert values == pytest.approx([values[0]] * 3, rel=1e-5)
    assert values[0] == pytest.approx(expected, rel=0.01)


def test_a_likelihood_curve_shows_appendix_d(tiny, monkeypatch):
    """Train is the first training points, test the first test points, as many as figure 3 takes."""
    monkeypatch.setattr("aevb.measures.LIKELIHOOD_POINTS", 6)
    run = dataclasses.replace(RUN, measure="marginal-likelihood")
    trainer = Trainer(run, 0.1)
    trainer.step()
    trainer.add_point()
    point, noise = trainer.curve[-1], torch.Generator().manual_seed(run.seed)
    for pixels, value in ((tiny.test, point.test), (trainer.train_pixels, point.train)):
        assert value == appendix_d(trainer.model, tiny.unit(pixels[:6]), generator=noise).log_px.mean().item()

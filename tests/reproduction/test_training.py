import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from aevb.__main__ import main
from aevb.algorithms import ALGORITHMS
from aevb.fit import fit
from aevb.reproduction import training


@pytest.fixture
def blobs(tmp_path, root, forgotten, noise):
    """The path of images of your own."""
    np.savez(tmp_path / "blobs.npz", noise[:120])
    return tmp_path / "blobs.npz"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_command_trains_and_draws_what_the_model_learned(blobs, capsys, algorithm):
    sizes = {"aevb": ("--latent-dim", "3"), "full-vb": ("--likelihood", "gaussian")}.get(algorithm, ())
    samples = "100000" if algorithm == "mcem" else "12600"
    assert main(["train", str(blobs), "--algorithm", algorithm, "--hidden", "4", "--samples", samples, *sizes]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "blobs: 108 + 12 images of 4 x 6 pixels"
    assert lines[1].split() == ["samples", "train", "test"]
    assert float(lines[-2].split()[0]) == float(samples)
    picture = plt.imread(re.search(r"The picture: (.*)$", lines[-1])[1])
    assert picture[..., :3].std() > 0.05  # something is drawn


def test_a_picture_of_a_model_that_is_further_than_the_table_says_so(blobs, capsys):
    for samples, said in (("15800", "The picture: "), ("10000", "The picture of the model at 15,800 samples: ")):
        assert main(["train", str(blobs), "--hidden", "4", "--samples", samples]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert float(lines[-2].split()[0]) == float(samples)
        assert f"per datapoint. {said}" in lines[-1]


def test_a_picture_shows_the_decoders_means(blobs, tmp_path, monkeypatch):
    """Of the model as it was trained, at the grid of two latents."""
    trainer = fit(training.plan(training.find(str(blobs)), "aevb", 2, hidden=5), 10_000)
    drawn = []
    monkeypatch.setattr(training.figures, "show_images", lambda axis, images, columns, name: drawn.append(images))
    training.write_picture(trainer, tmp_path / "picture.png")
    tests, means = drawn
    assert torch.equal(tests, trainer.images.unit(trainer.images.test))
    assert torch.equal(means, trainer.model.decoder.mean(training.figures.latent_grid(10)))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["mnist", "--likelihood", "gaussian"],
            "mnist is described already: leave out --likelihood, --scale and --light",
        ),
        (["mnist", "--light"], "mnist is described already"),
        (["{blobs}", "--scale", "2"], "data from 0.0 to 1"),
        (["{blobs}", "--hidden", "0"], "hidden must be 1 or more, not 0"),
        (["nothing.npz"], "is neither an .npz file nor a folder of images"),
        (["mnist", "--algorithm", "em"], "unknown algorithm 'em': choose one of aevb"),
        (["{blobs}", "--likelihood", "poisson"], "unknown likelihood 'poisson': choose one of bernoulli, gaussian"),
        (["{blobs}", "--samples", "10"], "ask for more"),
        (["{blobs}", "--latent-dim", "0"], "latent_dim must be 1 or more, not 0"),
    ],
)
def test_what_cannot_be_trained_is_one_line(blobs, capsys, words, said):
    assert main(["train", *(word.format(blobs=blobs) for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1

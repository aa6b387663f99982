import numpy as np
import pytest
import torch

from aevb import data, datasets
from aevb.datasets import BERNOULLI, FREY_FILES, GAUSSIAN, MNIST_FILES, Images
from aevb.networks import log_normal


@pytest.fixture(scope="session")
def frey() -> Images:
    if not datasets.available("frey"):
        pytest.skip("Frey Face is not here: set AEVB_DATA to a folder that holds frey_rawface.mat")
    return datasets.load("frey")


def raw(originals: data.Originals) -> dict[str, np.ndarray]:
    """The bytes of the original files, by name."""
    return {file.name: np.frombuffer(data.payload(originals, file), np.uint8) for file in originals.files}


# loading


def test_mnist_is_split_and_scaled_as_in_the_paper():
    digits, files = datasets.load("mnist"), raw(MNIST_FILES)
    train, labels = files["train-images-idx3-ubyte"][16:].reshape(60_000, 784), files["train-labels-idx1-ubyte"][8:]
    assert np.array_equal(digits.train.numpy(), train[:50_000])
    assert np.array_equal(digits.valid.numpy(), train[50_000:])
    assert np.array_equal(digits.test.numpy(), files["t10k-images-idx3-ubyte"][16:].reshape(10_000, 784))
    assert np.array_equal(digits.labels["train"].numpy(), labels[:50_000])
    assert np.array_equal(digits.labels["valid"].numpy(), labels[50_000:])
    assert digits.labels["test"][:5].tolist() == [7, 2, 1, 0, 4]
    unit = digits.unit(digits.test)
    assert (unit.min(), unit.max(), unit.dtype) == (0, 1, torch.float32)
    assert torch.equal(unit, digits.test.float() / 255)


def test_frey_face_is_split_and_scaled_as_in_the_paper(frey):
    faces = raw(FREY_FILES)["frey_rawface.mat"].reshape(1965, 560)
    order = np.random.RandomState(0).permutation(1965)
    assert np.array_equal(frey.train.numpy(), faces[order[:1600]])
    assert np.array_equal(frey.test.numpy(), faces[order[1600:]])
    assert (frey.valid.shape, frey.labels) == ((0, 560), {})
    assert torch.equal(frey.unit(frey.test), frey.test.float() / 256)


def test_one_constant_gaussian_a_pixel_scores_the_published_plateau(frey):
    train, test = frey.unit(frey.train).double(), frey.unit(frey.test).double()
    mean, log_var = train.mean(0), train.var(0, correction=0).log()
    assert log_normal(train, mean, log_var).mean().item() == pytest.approx(578.62, abs=0.01)
    assert log_normal(test, mean, log_var).mean().item() == pytest.approx(569.34, abs=0.01)


def test_unknown_datasets_are_refused():
    with pytest.raises(ValueError, match=r"^unknown dataset 'cifar': choose one of mnist, frey, or add your own$"):
        datasets.load("cifar")


def test_digits_have_the_bernoulli_likelihood_and_faces_the_gaussian():
    assert datasets.get("mnist").likelihood is BERNOULLI
    assert datasets.get("frey").likelihood is GAUSSIAN

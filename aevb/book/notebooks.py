"""The chapters of the book, pairs of a text and a notebook that stay in step.

A chapter is `book/NN_name.md`, which people write, and `book/NN_name.ipynb`, which is that text executed. The
committed notebook holds nothing that changes from one execution to the next; that is in `book/executions/`.
"""

import json
import re
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from aevb.book import extension, sources
from aevb.files import write_text
from aevb.reproduction import checkout

ROOT = checkout.ROOT  # the project's folder
BOOK = ROOT / "book"  # the folder of the chapters
DEFAULT_PROFILE = "quick"  # the one in the parameters cells
# metadata of one execution, which are not committed
TRANSIENT = ("papermill", "execution", "jupyter", "widgets", "ExecuteTime")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  # the MIME type of a widget in an output
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"  # the MIME type of the widgets' state in a notebook


def chapters() -> list[Path]:
    """The text of every chapter, in the book's order."""
    return extension.chapters(BOOK)


def to_notebook(text: Path) -> NotebookNode:
    """The notebook that a chapter's text describes, not executed, in the form that is committed."""
    return normalise(jupytext.read(text))


def tidy(text: Path) -> None:
    """Write a chapter's text as JupyterLab saves it, so that saving it there changes nothing.

    It would execute as before, so the note of its execution stays true.
    """
    _write_text(text, to_notebook(text))


def _write_text(text: Path, notebook: NotebookNode) -> None:
    """Write a chapter's text, of whose execution the note stays true."""
    before, kept = extension.text_hash(text), extension.execution(text)
    notebook = nbformat.reads(nbformat.writes(notebook), as_version=4)  # which sorts the metadata
    write_text(text, jupytext.writes(notebook, "md:myst"))
    if kept.exists():
        write_text(kept, kept.read_text(encoding="utf-8").replace(before, extension.text_hash(text)))


def normalise(notebook: NotebookNode) -> NotebookNode:
    """The same notebook without what differs between two executions: ids, times, machine, versions."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:03d}"
        for name in TRANSIENT:
            cell.metadata.pop(name, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]  # papermill adds empty ones
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "caption" in figure:
            figure["caption"] = figure["caption"].strip()  # YAML's | ends it with a line break
        if cell.cell_type == "code":
            cell.outputs = [] if "remove-output" in cell.metadata.get("tags", []) else _merged(cell.outputs)
            for output in cell.outputs:
                output.get("metadata", {}).clear()
    widgets = _widgets(notebook)
    notebook.metadata = nbformat.from_dict(
        {
            # this, and the kernel's name, as Jupyter would write them
            "jupytext": {"default_lexer": "ipython3"},
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            **widgets,
        }
    )
    return notebook


def _widgets(notebook: NotebookNode) -> dict:
    """The metadata of the widgets that outputs show, and of the models that these refer to, with steady ids.

    A kernel's ids are random. Here models are numbered in the order of the outputs, and all others are dropped.
    """
    views = [
        output.data[WIDGET_VIEW]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if WIDGET_VIEW in output.get("data", {})
    ]
    models = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    order = [view["model_id"] for view in views if view["model_id"] in models]
    for model in order:  # grows on the way
        named = re.findall(r'"IPY_MODEL_([\w-]+)"', json.dumps(models[model]["state"], sort_keys=True))
        order += [other for other in named if other not in order]
    ids = {model: f"widget-{number:03d}" for number, model in enumerate(dict.fromkeys(order))}
    if not ids:
        return {}
    for view in views:
        view["model_id"] = ids[view["model_id"]]
    state = json.dumps({ids[model]: models[model] for model in ids})
    state = json.loads(re.sub(r'"IPY_MODEL_([\w-]+)"', lambda found: f'"IPY_MODEL_{ids[found[1]]}"', state))
    for model in state.values():
        if "buffers" in model:
            model["buffers"].sort(key=lambda buffer: buffer["path"])
    return {"widgets": {WIDGET_STATE: {"state": state, "version_major": 2, "version_minor": 0}}}


def _merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The same outputs with neighbouring pieces of one stream joined: a kernel flushes at random places."""
    merged: list[NotebookNode] = []
    for output in outputs:
        if merged and output.output_type == "stream" == merged[-1].output_type and output.name == merged[-1].name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def differences(text: Path, notebook: Path) -> list[str]:
    """The differences between a committed notebook and its text, one line each; empty where it is in step."""
    written = to_notebook(text).cells
    committed = nbformat.read(notebook, as_version=4).cells
    found = []
    if len(written) != len(committed):
        found.append(f"{text.name} has {len(written)} cells, {notebook.name} has {len(committed)}")
    for number, (mine, theirs) in enumerate(zip(written, committed, strict=False)):
        for part in ("cell_type", "source", "metadata"):
            if mine[part] != theirs[part]:
                found.append(f"{notebook.name}, cell {number}: its {part} differs from {text.name}")
    return found


def add_colab_cell() -> None:
    """Let every text and notebook begin with the cell that Colab needs, before they are published. Nothing is executed.

    The cell names the repository, so the committed ones go without. Raises ValueError where its address is unknown.
    """
    cell = _colab_cell()
    for text in chapters():
        written, executed = to_notebook(text), nbformat.read(text.with_suffix(".ipynb"), as_version=4)
        if executed.cells[0].id == cell.id:
            continue
        for notebook in (written, executed):
            notebook.cells.insert(0, cell)
        _write_text(text, written)
        write_text(text.with_suffix(".ipynb"), nbformat.writes(executed) + "\n")


def _colab_cell() -> NotebookNode:
    """The cell that makes a chapter run on Colab, which fetches the notebook alone."""
    if not sources.address():
        raise ValueError("set AEVB_REPOSITORY to the public address from which Colab is to fetch the book")
    source = f"""\
import os
import subprocess
import sys

if "google.colab" in sys.modules:  # fetch the book and what it needs
    if not os.path.exists("/content/aevb"):
        clone = ["git", "clone", "--depth=1", "--branch={sources.BRANCH}"]
        subprocess.run([*clone, "{sources.address()}", "/content/aevb"], check=True)
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--editable"]
        subprocess.run([*install, "/content/aevb[book]"], check=True)
    sys.path.insert(0, "/content/aevb")
    os.chdir("/content/aevb/book")"""
    return nbformat.v4.new_code_cell(source, id="colab", metadata={"tags": ["remove-cell"]})

"""Building the page, whatever became of its chapters."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml

from aevb.book import extension, kernels, notebooks, train
from aevb.book.execution import MARKER, ChapterOutcome, execute_all, literal
from aevb.files import write_text

STAGE = notebooks.ROOT / "_build" / "reproduce"  # the folder in which `stage` lays out the book
PAGE = notebooks.ROOT / "_build" / "html" / "index.html"  # the front of the built page


def stage(profile: str) -> list[ChapterOutcome]:
    """Lay out a copy of the book in STAGE and execute its chapters at `profile`; a failed one begins with a notice."""
    shutil.rmtree(STAGE, ignore_errors=True)
    left = shutil.ignore_patterns("*.ipynb", ".ipynb_checkpoints", "executions")
    shutil.copytree(notebooks.BOOK, STAGE / "book", ignore=left)
    tests = notebooks.ROOT / "tests"  # pages link to them
    shutil.copytree(tests, STAGE / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(notebooks.ROOT / name, STAGE)
    jobs = min(2, os.cpu_count() or 1)  # two need memory enough
    outcomes = execute_all(notebooks.chapters(), STAGE / "book", profile, jobs=jobs)
    for outcome in outcomes:
        if outcome.error:
            add_notice(STAGE / "book" / f"{outcome.chapter}.ipynb", outcome)
    return outcomes


def add_notice(notebook: Path, outcome: ChapterOutcome) -> None:
    """Let a notebook that failed begin with a notice of its error, in place of papermill's."""
    failed = nbformat.read(notebook, as_version=4)
    failed.cells = [cell for cell in failed.cells if MARKER not in cell.metadata.get("tags", [])]
    parts = ["What follows is what this chapter had executed when it failed.", literal(outcome.error)]
    if outcome.cell is not None:
        number = sum(cell.cell_type == "code" for cell in failed.cells[: outcome.cell + 1])
        parts += [f"The error is of its code cell {number}:", literal(failed.cells[outcome.cell].source)]
    body = "\n\n".join(parts)
    notice = f"::::::{{admonition}} This chapter failed\n:class: danger\n\n{body}\n::::::"
    failed.cells.insert(0, nbformat.v4.new_markdown_cell(notice, id="notice"))
    write_text(notebook, nbformat.writes(failed))


def build(source: Path = notebooks.ROOT, output: Path = notebooks.ROOT, strict: bool = True) -> int:
    """Build the HTML book of `source` into `output/_build/html`; the exit status. With `strict` a warning fails it."""
    for leftover in (output / "_build" / "html", output / "_build" / ".doctrees"):
        shutil.rmtree(leftover, ignore_errors=True)
    static = source / "book" / "_static"
    extension.serve(static)
    train.pack_digits(static)
    program = Path(sys.executable).with_name("jupyter-book")
    command: list[str | Path] = [program, "build", source, *["-W", "-n"] * strict]
    command += ["--keep-going", "-q", "--path-output", output]
    return subprocess.run(command, cwd=notebooks.ROOT, env=kernels.environment()).returncode


def build_anyhow(source: Path = STAGE, output: Path = notebooks.ROOT) -> str:
    """`build` even where there are faults. Returns what is wrong with the page, empty where nothing is.

    Sphinx goes on after a warning; only where it stopped all the same is the page built again without strictness.
    """
    if not build(source, output):
        return ""
    if whole(source, output):
        return "the page has faults, named above"
    build(source, output, strict=False)
    if whole(source, output):
        return "the page has faults, named above, and was built again without regard to them"
    return "the page, for the reasons above"


def whole(source: Path, output: Path) -> bool:
    """True where `output` has a front and a page for every entry of the table of contents of `source`."""
    toc = yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))
    groups = (toc, *toc.get("parts", []))
    files = [toc["root"], *(entry["file"] for group in groups for entry in group.get("chapters", []))]
    names = ["index", *(file.removesuffix(".ipynb") for file in files)]
    return all((output / "_build" / "html" / f"{name}.html").exists() for name in names)

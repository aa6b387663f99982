"""The density of the chapters: words of prose, lines of code, the longest cell, and words in all.

    python -m aevb.book.density

Prose is the text of markdown cells without displayed formulas and the options of directives; a formula in the line, a
role or a name of code counts as one word. Code is every line of a code cell that is neither blank nor a comment. Words
in all are those of text, code and printed outputs as they stand in the notebook, however they are set.
"""

import re
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode
from tabulate import tabulate

from aevb.book import notebooks

# what is no prose: a displayed formula, an option or the fence of a directive, a label
DISPLAYED = re.compile(r"^\$\$.*?\$\$|^ *:[\w-]+:[^\n]*|^[`:]{3,}[^\n]*|^\([\w-]+\)=$", re.DOTALL | re.MULTILINE)
# what counts as one word: a role, a name of code, a formula in the line
ONE_WORD = re.compile(r"\{[\w:]+\}`[^`]*`|`[^`]*`|\$[^$]*\$")

MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL)


class Density(NamedTuple):
    """The counts of one chapter."""

    chapter: str
    words: int
    lines: int
    longest: int
    in_all: int

    @property
    def words_per_line(self) -> float:
        """Words of prose per line of code."""
        return self.words / max(self.lines, 1)


def words(markdown: str) -> int:
    """The words of prose in a markdown cell."""
    return _count(ONE_WORD.sub("x", DISPLAYED.sub(" ", markdown)))


def _count(text: str) -> int:
    return sum(any(letter.isalnum() for letter in word) for word in text.split())


def lines(code: str) -> int:
    """The lines of a code cell that are neither blank nor a comment."""
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in code.splitlines())


def printed(cell: NotebookNode) -> str:
    """The text that a code cell shows, without pictures, widgets and their scripts."""
    shown = (output.get("data", {}) for output in cell.get("outputs", []))
    texts = [data.get("text/markdown", "") or data.get("text/html", "") for data in shown]
    streams = [output["text"] for output in cell.get("outputs", []) if output.output_type == "stream"]
    return MARKUP.sub(" ", " ".join([*texts, *streams]))


def of_chapter(path: Path) -> Density:
    """The counts of the chapter whose text is at `path`, its notebook beside it."""
    cells = notebooks.to_notebook(path).cells
    executed = path.with_suffix(".ipynb")
    shown = nbformat.read(executed, as_version=4).cells if executed.exists() else cells
    prose = sum(words(cell.source) for cell in cells if cell.cell_type == "markdown")
    code = [lines(cell.source) for cell in cells if cell.cell_type == "code"]
    in_all = sum(_count(f"{cell.source} {printed(cell)}") for cell in shown)
    return Density(path.stem, prose, sum(code), max(code, default=0), in_all)


def main() -> None:
    """Print a row per chapter, and the sums."""
    chapters = [of_chapter(path) for path in notebooks.chapters()]
    sums = sum(c.words for c in chapters), sum(c.lines for c in chapters)
    total = Density("all", *sums, max(c.longest for c in chapters), sum(c.in_all for c in chapters))
    rows = [(*chapter, f"{chapter.words_per_line:.1f}") for chapter in (*chapters, total)]
    print(
        tabulate(rows, ["chapter", "words of prose", "lines of code", "longest cell", "words in all", "words per line"])
    )


if __name__ == "__main__":
    main()

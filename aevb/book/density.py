"""The density of the chapters: words of prose, lines of code, the longest cell.

    python -m aevb.book.density

Prose is the text of markdown cells without displayed formulas and the options of directives; a formula in the line, a
role or a name of code counts as one word. Code is every line of a code cell that is neither blank nor a comment.
"""

import re
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from aevb.book import notebooks

# what is no prose: a displayed formula, an option or the fence of a directive, a label
DISPLAYED = re.compile(r"^\$\$.*?\$\$|^ *:[\w-]+:[^\n]*|^[`:]{3,}[^\n]*|^\([\w-]+\)=$", re.DOTALL | re.MULTILINE)
# what counts as one word: a role, a name of code, a formula in the line
ONE_WORD = re.compile(r"\{[\w:]+\}`[^`]*`|`[^`]*`|\$[^$]*\$")


class Density(NamedTuple):
    """The counts of one chapter."""

    chapter: str
    words: int
    lines: int
    longest: int

    @property
    def words_per_line(self) -> float:
        """Words of prose per line of code."""
        return self.words / max(self.lines, 1)


def words(markdown: str) -> int:
    """The words of prose in a markdown cell."""
    text = ONE_WORD.sub("x", DISPLAYED.sub(" ", markdown))
    return sum(any(letter.isalnum() for letter in word) for word in text.split())


def lines(code: str) -> int:
    """The lines of a code cell that are neither blank nor a comment."""
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in code.splitlines())


def of_chapter(path: Path) -> Density:
    """The counts of the chapter whose text is at `path`."""
    cells = notebooks.to_notebook(path).cells
    prose = sum(words(cell.source) for cell in cells if cell.cell_type == "markdown")
    code = [lines(cell.source) for cell in cells if cell.cell_type == "code"]
    return Density(path.stem, prose, sum(code), max(code, default=0))


def main() -> None:
    """Print a row per chapter, and the sums."""
    chapters = [of_chapter(path) for path in sorted(notebooks.BOOK.glob("[0-9][0-9]_*.md"))]
    sums = sum(c.words for c in chapters), sum(c.lines for c in chapters)
    total = Density("all", *sums, max(c.longest for c in chapters))
    rows = [(*chapter, f"{chapter.words_per_line:.1f}") for chapter in (*chapters, total)]
    print(tabulate(rows, ["chapter", "words of prose", "lines of code", "longest cell", "words per line"]))


if __name__ == "__main__":
    main()

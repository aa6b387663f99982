"""The equation index is whole, and what it names exists: the place in a chapter, the function, the test."""

import ast
import csv
import pydoc
import re

import nbformat
import pytest

from aevb.book import notebooks

ITEMS = [
    *(f"({number})" for number in range(1, 25)),
    "section 2.2",  # its gradient has no number
    "Algorithm 1", "Algorithm 2",
    *(f"Figure {number}" for number in range(1, 6)),
    *(f"Appendix {letter}" for letter in "ABCDEF"),
]  # fmt: skip

with open(notebooks.BOOK / "equation_index.csv", encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))


def faults(row: dict[str, str]) -> list[str]:
    """What a row names that does not exist."""
    found = []
    chapter = notebooks.BOOK / f"{row['chapter']}.md"
    if not chapter.exists():
        found.append("no such chapter")
    elif not re.search(anchor(row["anchor"]), chapter.read_text(encoding="utf-8"), re.MULTILINE):
        found.append("no such anchor")
    function = pydoc.locate(row["function"]) if row["function"].startswith("aevb.") else None
    if not callable(function):
        found.append("no such function")
    file, _, name = row["test"].partition("::")
    path = notebooks.ROOT / "tests" / file
    source = path.read_text(encoding="utf-8") if path.is_file() else ""
    tests = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    if not name.startswith("test_") or name not in tests:
        found.append("no such test")
    elif callable(function) and not re.search(rf"\b{function.__name__}\b", source):
        found.append("the test's file does not name the function")
    return found


def anchor(name: str) -> str:
    """How a place is named in a text: a target, a directive's label or a figure's name."""
    return rf"^(\({re.escape(name)}\)=|:label: {re.escape(name)}|    name: {re.escape(name)})$"


def test_every_item_of_the_paper_is_there_once():
    assert sorted(row["item"] for row in ROWS) == sorted(ITEMS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["item"])
def test_what_a_row_names_exists(row):
    assert row["what"]
    assert faults(row) == []


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ({"chapter": "99_nowhere"}, ["no such chapter"]),
        ({"chapter": "07_vae"}, ["no such anchor"]),
        ({"anchor": "eq-99"}, ["no such anchor"]),
        ({"anchor": "eq-"}, ["no such anchor"]),
        ({"anchor": ""}, ["no such anchor"]),
        ({"function": "aevb.bounds.estimator_c"}, ["no such function"]),
        ({"function": "aevb.nothing.estimator_a"}, ["no such function"]),
        ({"function": "aevb.bounds"}, ["no such function"]),
        ({"function": "os.path.join"}, ["no such function"]),
        ({"function": ""}, ["no such function"]),
        ({"test": "test_bounds.py::test_nothing"}, ["no such test"]),
        ({"test": "test_bounds.py::moments"}, ["no such test"]),
        ({"test": "test_nothing.py::test_kl_by_monte_carlo"}, ["no such test"]),
        ({"test": ""}, ["no such test"]),
        ({"function": "aevb.mcem.m_step"}, ["the test's file does not name the function"]),
        ({"anchor": "x", "function": "x", "test": "x"}, ["no such anchor", "no such function", "no such test"]),
    ],
)
def test_a_broken_row_is_noticed(broken, expected):
    (row,) = [row for row in ROWS if row["item"] == "(6)"]
    assert faults(row) == []
    assert faults(row | broken) == expected


@pytest.mark.parametrize("item", ITEMS)
def test_a_missing_item_is_noticed(item, monkeypatch):
    monkeypatch.setitem(globals(), "ROWS", [row for row in ROWS if row["item"] != item])
    with pytest.raises(AssertionError):
        test_every_item_of_the_paper_is_there_once()


def test_the_committed_page_shows_the_table_as_it_is():
    cells = nbformat.read(notebooks.BOOK / "23_equation_index.ipynb", as_version=4).cells
    (table,) = [output.data["text/markdown"] for cell in cells for output in cell.get("outputs", [])]
    shown = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert [re.sub(r"^\[|\].*", "", line[0]) for line in shown] == [row["item"] for row in ROWS]
    for line, row in zip(shown, ROWS, strict=True):
        assert line[1].startswith(f"{row['what']} (")
        links = re.findall(r"\]\(([^)]*)\)", " ".join(line))
        file, test = row["test"].split("::")
        expected = [f"#{row['anchor']}", f"{row['chapter']}.ipynb", f"#{row['function']}", f'../tests/{file} "{test}"']
        assert links == expected


def test_the_page_leads_to_functions_and_tests(page):
    """It was built here, so the tests are in source pages of its own."""
    content = (page / "book" / "23_equation_index.html").read_text(encoding="utf-8")
    for row in ROWS:
        assert f'href="api.html#{row["function"]}"' in content
        file, test = row["test"].split("::")
        link = rf'href="\.\./source/tests/{file.removesuffix(".py")}\.html#L-(\d+)" title="{test}"'
        (number,) = set(re.findall(link, content))
        source = (notebooks.ROOT / "tests" / file).read_text(encoding="utf-8")
        assert source.splitlines()[int(number) - 1].startswith(f"def {test}(")

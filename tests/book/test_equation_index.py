"""The equation index is whole: each row leads to a place in a chapter, and its test proves its function."""

import csv
import json
import re
import subprocess
import sys

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

LATER = ("32_where_the_gap_is", "33_more_samples_a_tighter_bound", "35_a_better_q", "36_a_better_prior")


def rows_of(name: str) -> list[dict[str, str]]:
    with open(notebooks.BOOK / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


OF_PAPER, OF_LATER_ONES = rows_of("equation_index.csv"), rows_of("equation_index_after.csv")
ROWS = OF_PAPER + OF_LATER_ONES


def test_every_item_of_the_paper_is_there_once():
    assert sorted(row["item"] for row in OF_PAPER) == sorted(ITEMS)


def test_every_named_equation_of_part_v_is_there_once():
    texts = [(notebooks.BOOK / f"{name}.md").read_text(encoding="utf-8") for name in LATER]
    named = [name for text in texts for name in re.findall(r"^\((eq-.*)\)=$", text, re.MULTILINE)]
    assert sorted(row["anchor"] for row in OF_LATER_ONES) == sorted(named)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["anchor"])
def test_a_row_leads_to_a_place_in_its_chapter(row):
    """To a target, a directive's label or a figure's name."""
    text, anchor = (notebooks.BOOK / f"{row['chapter']}.md").read_text(encoding="utf-8"), re.escape(row["anchor"])
    assert re.search(rf"^(\({anchor}\)=|:label: {anchor}|    name: {anchor})$", text, re.MULTILINE)


PAIRS = list(dict.fromkeys((row["function"], row["test"]) for row in ROWS))
STRANGERS = ("aevb.mcem.m_step", "test_model.py::test_bound_by_quadrature")


@pytest.fixture(scope="module")
def raised(tmp_path_factory) -> dict[tuple[str, str], list[str]]:
    """The errors of each pair's test with its function broken, all from one other process."""
    file = tmp_path_factory.mktemp("broken") / "pairs.json"
    file.write_text(json.dumps([*PAIRS, STRANGERS]), encoding="utf-8")
    tests = dict.fromkeys(f"tests/{test}" for _, test in [*PAIRS, STRANGERS])
    options = ["-p", "no:cacheprovider", "-p", "tests.broken", f"--pairs={file}", "--tb=no"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    done = subprocess.run(command, cwd=notebooks.ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return {(function, test): errors for function, test, *errors in json.loads(file.read_text(encoding="utf-8"))}


@pytest.mark.parametrize(("function", "test"), PAIRS)
def test_its_test_fails_where_a_function_is_broken(raised, function, test):
    assert raised[function, test] == ["AssertionError"]


def test_a_test_of_something_else_does_not(raised):
    assert raised[STRANGERS] == []


def test_the_committed_page_shows_the_table_as_it_is():
    cells = nbformat.read(notebooks.BOOK / "23_equation_index.ipynb", as_version=4).cells
    both = [output.data["text/markdown"] for cell in cells for output in cell.get("outputs", [])]
    assert len(both) == 2
    shown = [line.strip("| ").split(" | ") for table in both for line in table.splitlines()[2:]]
    assert [re.sub(r"^\[|\].*", "", line[0]) for line in shown] == [row["item"] for row in ROWS]
    for line, row in zip(shown, ROWS, strict=True):
        assert line[1] == row["what"]
        links = re.findall(r"\]\(([^)]*)\)", " ".join(line))
        file, test = row["test"].split("::")
        expected = [f"#{row['anchor']}", f"#{row['function']}", f'../tests/{file} "{test}"']
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

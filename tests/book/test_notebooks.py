import html
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import jupytext
import nbformat
import pytest
import yaml

from aevb.book import extension, notebooks, sources
from aevb.book.execution import execute
from aevb.book.notebooks import chapters, differences, normalise
from aevb.files import write_text
from tests.written import PARAMETERS, printed, write

TEXTS = chapters()
NOTEBOOKS = [path.with_suffix(".ipynb") for path in TEXTS]
each_chapter = pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)


def committed(text: Path) -> nbformat.NotebookNode:
    notebook = text.with_suffix(".ipynb")
    assert notebook.exists(), f"execute it: python -m aevb notebooks {text.stem}"
    return nbformat.read(notebook, as_version=4)


# text and notebook in step


@each_chapter
def test_every_chapter_is_committed_as_it_is_written(text):
    committed(text)
    assert differences(text, text.with_suffix(".ipynb")) == []


@each_chapter
def test_every_committed_notebook_is_normal(text):
    """Nothing committed is anything that `normalise` would drop or change."""
    before = nbformat.writes(committed(text))
    assert nbformat.writes(normalise(committed(text))) == before


@each_chapter
def test_no_committed_notebook_warns(text):
    """As one does that was executed where a dataset could not be fetched."""
    outputs = [output for cell in committed(text).cells for output in cell.get("outputs", [])]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []


def test_there_are_no_other_notebooks():
    assert sorted(notebooks.BOOK.glob("*.ipynb")) == NOTEBOOKS


def test_the_table_of_contents_names_every_page_once():
    toc = yaml.safe_load((notebooks.ROOT / "_toc.yml").read_text(encoding="utf-8"))
    named = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    assert sorted(name for name in named if name.endswith(".ipynb")) == [f"book/{path.name}" for path in NOTEBOOKS]
    assert len(set(named)) == len(named)
    pages = {f"book/{path.stem}" for path in notebooks.BOOK.glob("*.md")}
    assert {name.removesuffix(".ipynb") for name in named} == pages


def test_nothing_committed_names_the_repository_or_colab(checkout):
    """A fork's page is its own: the workflow that builds it has the address, and adds the cell for Colab."""
    words = ["-e", "AEVB_REPOSITORY=https", "-e", "google\\.colab", "-e", "github\\.com/[A-Za-z]*/aevb"]
    found = subprocess.run(["git", "grep", "-l", *words, "--", "book"], cwd=checkout, capture_output=True, text=True)
    assert found.stdout == ""


@pytest.fixture
def published(tmp_path, monkeypatch) -> Path:
    """The text of an executed chapter, the only one of a book, as a workflow publishes it."""
    text = write(tmp_path / "03_a.md", "print(1)")
    notebook = text.with_suffix(".ipynb")
    execute(text, notebook, "quick")
    write_text(notebook, nbformat.writes(normalise(nbformat.read(notebook, as_version=4))) + "\n")
    monkeypatch.setattr(notebooks, "chapters", lambda: [text])
    monkeypatch.setenv("AEVB_REPOSITORY", "https://example.org/me/fork")
    notebooks.add_colab_cell()
    return text


def test_a_published_notebook_begins_with_the_cell_for_colab_and_is_otherwise_the_same(published):
    notebook = published.with_suffix(".ipynb")
    cell, *others = nbformat.read(notebook, as_version=4).cells
    assert '"https://example.org/me/fork"' in cell.source
    assert cell.metadata["tags"] == ["remove-cell"]
    assert [other["id"] for other in others] == ["cell-000", "cell-001"]
    assert printed(notebook) == "1\n"
    assert differences(published, notebook) == []
    assert "| current" in extension.executions(published.parent)


def test_the_cell_for_colab_does_nothing_here(published):
    cell = nbformat.read(published.with_suffix(".ipynb"), as_version=4).cells[0]
    before, folder = list(sys.path), Path.cwd()
    exec(cell.source, {})
    assert (sys.path, Path.cwd()) == (before, folder)


def test_on_colab_the_cell_fetches_the_book_it_is_of(published, monkeypatch):
    commands, places = [], []
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
    monkeypatch.setattr("os.chdir", places.append)
    exec(nbformat.read(published.with_suffix(".ipynb"), as_version=4).cells[0].source, {})
    assert commands[0] == [
        "git", "clone", "--depth=1", f"--branch={sources.BRANCH}", "https://example.org/me/fork", "/content/aevb",
    ]  # fmt: skip
    assert commands[1][-2:] == ["--editable", "/content/aevb[book]"]
    assert (sys.path[0], places) == ("/content/aevb", ["/content/aevb/book"])


def test_without_an_address_nothing_is_published(published, monkeypatch):
    before = published.read_text(encoding="utf-8")
    monkeypatch.delenv("AEVB_REPOSITORY")
    with pytest.raises(ValueError, match="set AEVB_REPOSITORY"):
        notebooks.add_colab_cell()
    assert published.read_text(encoding="utf-8") == before


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    text = write(tmp_path / "03_a.md", PARAMETERS, "print(1)", ("print(2)", "hide-input"))
    notebook = tmp_path / "03_a.ipynb"
    notebook.write_text(nbformat.writes(notebooks.to_notebook(text)), encoding="utf-8")
    assert differences(text, notebook) == []
    return text, notebook


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("print(1)", "print(3)", ["03_a.ipynb, cell 2: its source differs from 03_a.md"]),
        ("# A chapter", "# A chapter!", ["03_a.ipynb, cell 0: its source differs from 03_a.md"]),
        ("hide-input", "remove-cell", ["03_a.ipynb, cell 3: its metadata differs from 03_a.md"]),
        (":tags: [parameters]\n\n", "", ["03_a.ipynb, cell 1: its metadata differs from 03_a.md"]),
        ("print(1)\n```", "print(1)\n```\n\nMore.\n\n```{code-cell} ipython3\n1\n```", ["03_a.md has 6 cells"]),
    ],
)
def test_an_edited_text_is_reported(pair, old, new, found):
    text, notebook = pair
    before = text.read_text(encoding="utf-8")
    assert before.count(old) == 1
    text.write_text(before.replace(old, new), encoding="utf-8")
    lines = differences(text, notebook)
    assert lines[0].startswith(found[0])
    assert "6 cells" in lines[0] or lines == found


def test_a_missing_cell_is_reported(pair):
    text, notebook = pair
    cut = nbformat.read(notebook, as_version=4)
    del cut.cells[-1]
    notebook.write_text(nbformat.writes(cut), encoding="utf-8")
    assert differences(text, notebook) == ["03_a.md has 4 cells, 03_a.ipynb has 3"]


def test_outputs_are_no_difference(pair):
    text, notebook = pair
    execute(text, notebook, "quick")
    notebook.write_text(nbformat.writes(normalise(nbformat.read(notebook, as_version=4))), encoding="utf-8")
    assert printed(notebook) == "1\n2\n"
    assert differences(text, notebook) == []


# executing


def test_executing_twice_leaves_no_diff(tmp_path):
    """Of a chapter with all kinds of outputs: the traces of papermill and the kernel would differ."""
    text = write(
        tmp_path / "03_a.md",
        PARAMETERS,
        "import matplotlib.pyplot as plt\nprint('one')\nsize + 1",
        "plt.plot([1, size]);",
        "from IPython.display import Markdown\nMarkdown('| a |')",
    )
    written = []
    for number in range(2):
        outcome = execute(text, tmp_path / f"{number}.ipynb", "quick")
        assert outcome.error == ""
        raw = nbformat.read(tmp_path / f"{number}.ipynb", as_version=4)
        assert "papermill" in raw.metadata
        written.append(nbformat.writes(normalise(raw)))
    assert written[0] == written[1]
    for kind in ("image/png", "text/markdown", '"execute_result"', '"stream"'):
        assert kind in written[0]
    assert "papermill" not in written[0]


WIDGETS = """
import ipywidgets
thrown_away = ipywidgets.FloatText()
slider = ipywidgets.IntSlider(3, description='dragged')
ipywidgets.HBox([slider, ipywidgets.Label('beside')])
"""


def test_widgets_are_kept_without_a_diff_and_what_no_output_shows_is_dropped(tmp_path):
    text = write(tmp_path / "03_a.md", WIDGETS, "slider", ("ipywidgets.Checkbox()", "remove-output"))
    written = []
    for number in range(2):
        assert execute(text, tmp_path / f"{number}.ipynb", "quick").error == ""
        raw = nbformat.read(tmp_path / f"{number}.ipynb", as_version=4)
        assert "FloatTextModel" in nbformat.writes(raw)
        written.append(nbformat.writes(normalise(raw)))
        assert nbformat.writes(normalise(nbformat.reads(written[-1], as_version=4))) == written[-1]
    assert written[0] == written[1]
    kept = nbformat.reads(written[0], as_version=4)
    models = kept.metadata["widgets"][notebooks.WIDGET_STATE]["state"]
    assert list(models) == [f"widget-{number:03d}" for number in range(len(models))]
    shown = [output.data[notebooks.WIDGET_VIEW]["model_id"] for cell in kept.cells[1:] for output in cell.outputs]
    box, slider = (models[model] for model in shown)
    assert [models[child.removeprefix("IPY_MODEL_")].state["description"] for child in box.state["children"]] == [
        "dragged", "",
    ]  # fmt: skip
    assert box.state["children"][0] == f"IPY_MODEL_{shown[1]}"
    assert slider.state["value"] == 3
    assert "FloatTextModel" not in written[0]  # no output shows it
    assert "CheckboxModel" not in written[0]  # no page does
    assert kept.cells[3].outputs == []


def test_normalising_keeps_what_matters_and_nothing_of_the_machine(pair):
    notebook = nbformat.read(pair[1], as_version=4)
    notebook.metadata["language_info"]["version"] = "3.11.7"
    notebook.cells[1].metadata |= {"papermill": {"duration": 1.5}, "execution": {"start": "now"}, "ExecuteTime": {}}
    notebook.cells[2].metadata |= {"tags": [], "mystnb": {"image": {"alt": "words"}}}
    notebook.cells[3]["id"] = "0d3fa2b1"
    notebook.cells[3].outputs = [nbformat.v4.new_output("display_data", {"text/plain": "2"}, metadata={"width": 640})]
    kept = normalise(notebook)
    assert kept.metadata["language_info"] == {"name": "python"}
    assert [cell.metadata for cell in kept.cells] == [
        {}, {"tags": ["parameters"]}, {"mystnb": {"image": {"alt": "words"}}}, {"tags": ["hide-input"]},
    ]  # fmt: skip
    assert [cell["id"] for cell in kept.cells] == ["cell-000", "cell-001", "cell-002", "cell-003"]
    assert (kept.cells[3].outputs[0].data, kept.cells[3].outputs[0].metadata) == ({"text/plain": "2"}, {})
    nbformat.validate(kept)


def test_where_a_kernel_flushes_does_not_matter(pair):
    notebook = nbformat.read(pair[1], as_version=4)
    pieces = [("stdout", "a"), ("stdout", "\n"), ("stdout", "b\n"), ("stderr", "c"), ("stdout", "d")]
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", name=name, text=text) for name, text in pieces]
    found = [(output.name, output.text) for output in normalise(notebook).cells[1].outputs]
    assert found == [("stdout", "a\nb\n"), ("stderr", "c"), ("stdout", "d")]


# the committed notebooks


def outputs(text):
    return [(cell, output) for cell in committed(text).cells for output in cell.get("outputs", [])]


@each_chapter
def test_every_figure_has_a_caption_a_name_and_a_text(text):
    for cell, output in outputs(text):
        if "image/png" in output.get("data", {}):
            mystnb = cell.metadata.get("mystnb", {})
            where = cell.source.splitlines()[0]
            assert mystnb.get("figure", {}).get("caption", "").strip(), f"{text.stem}: no caption at {where}"
            assert mystnb["figure"].get("name", "").startswith("fig-"), f"{text.stem}: no name at {where}"
            assert len(mystnb.get("image", {}).get("alt", "")) > 20, f"{text.stem}: no alt text at {where}"


def test_no_two_figures_share_a_name():
    cells = [cell for text in TEXTS for cell in jupytext.read(text).cells]
    names = [cell.metadata["mystnb"]["figure"]["name"] for cell in cells if "figure" in cell.metadata.get("mystnb", {})]
    assert len(names) > 10
    assert len(set(names)) == len(names)


@each_chapter
def test_no_numbered_equation_breaks_its_lines_as_sphinx_would(text):
    r"""Sphinx puts what has a `\\` into `split`, where MathJax refuses a `\tag`: `\cr` breaks those lines."""
    equations = re.findall(r"\$\$.*?\$\$", text.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not [equation for equation in equations if r"\tag" in equation and r"\\" in equation]


@each_chapter
def test_committed_outputs_are_fit_to_be_read(text):
    """Executed from top to bottom, without errors, warnings, paths of a machine or progress bars."""
    code = [cell for cell in committed(text).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for _, output in outputs(text):
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        words = output.get("text", "") + "".join(v for k, v in output.get("data", {}).items() if k.startswith("text/"))
        assert not re.search(r"(?<![\w.~:/)])/(home|root|work|Users|tmp|usr|opt|var)\b", words)
        assert not re.search(r"\d%\||it/s|\r|0x[0-9a-f]{6,}", words)


def test_nbval_notices_one_changed_digit(tmp_path):
    text = write(tmp_path / "03_a.md", "print(f'bound: {-1 / 8:.3f}')")
    good, bad = tmp_path / "good.ipynb", tmp_path / "bad.ipynb"
    assert execute(text, good, "quick").error == ""
    content = nbformat.writes(normalise(nbformat.read(good, as_version=4)))
    assert content.count("bound: -0.125") == 1
    good.write_text(content, encoding="utf-8")
    bad.write_text(content.replace("bound: -0.125", "bound: -0.126"), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--nbval", "--nbval-current-env"]
    result = subprocess.run([*command, good, bad], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1, result.stdout[-2000:]
    assert re.search(r"1 failed, 1 passed", result.stdout), result.stdout[-2000:]
    assert "bad.ipynb" in result.stdout.split("short test summary")[-1]


# the page


def test_the_page_has_a_front(page):
    assert (page / "index.html").exists()
    assert "00_what_this_is" in (page / "index.html").read_text(encoding="utf-8")


@each_chapter
def test_every_chapter_is_a_page_with_its_title_and_its_figures(page, text):
    content = (page / "book" / f"{text.stem}.html").read_text(encoding="utf-8")
    title = re.search(r"^# (.*)$", text.read_text(encoding="utf-8"), re.MULTILINE).group(1)
    headings = [html.unescape(re.sub("<[^>]*>", "", found)) for found in re.findall("<h1>(.*?)</h1>", content, re.S)]
    straight = [heading.replace("\u2019", "'").removesuffix("#").strip() for heading in headings]  # Sphinx curls them
    assert any(heading.endswith(title) for heading in straight)
    assert "Traceback" not in content
    for cell, output in outputs(text):
        if "image/png" in output.get("data", {}):
            name = cell.metadata["mystnb"]["figure"]["name"]
            (figure,) = re.findall(rf'<figure [^>]*id="{name}".*?</figure>', content, re.S)
            assert re.search(r'<img alt="[^"]{20,}"', figure)
            assert 'class="caption-number"' in figure

"""The book: executing chapters, keeping each notebook in step with its text, building the page.

A chapter is `book/NN_name.md`, which people write, and `book/NN_name.ipynb`, which is that text executed. The
committed notebook holds nothing that changes from one execution to the next; that is in `book/executions/`.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import joblib
import jupytext
import nbformat
import papermill
from jupyter_core.utils import ensure_event_loop
from nbformat import NotebookNode
from tqdm import tqdm

from aevb import results, site
from aevb.files import write_text

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
STAGE = ROOT / "_build" / "reproduce"
PAGE = ROOT / "_build" / "html" / "index.html"
DEFAULT_PROFILE = "quick"  # the one the parameters cells carry
SUMMARIES = ("00_", "18_")  # pages that show what the other chapters measured
LONG = ("14_", "15_", "20_")  # chapters that take minutes where nothing was trained before
COLAB = "colab"  # the id of the cell every notebook begins with
ON_COLAB = 'if "google.colab" in sys.modules:'  # what tells it from others in a text, where cells have no ids
TRANSIENT = ("papermill", "execution", "jupyter", "widgets", "ExecuteTime")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"


@dataclass(frozen=True)
class Outcome:
    """How the execution of one chapter went; `error` is empty where it went well."""

    chapter: str
    seconds: float
    error: str


def chapters(folder: Path = BOOK) -> list[Path]:
    """The text of every chapter, in the book's order."""
    return sorted(folder.glob("[0-9][0-9]_*.md"))


def to_notebook(text: Path) -> NotebookNode:
    """The notebook that a chapter's text describes, not executed, in the form that is committed."""
    return normalise(jupytext.read(text))


def tidy(text: Path) -> None:
    """Write a chapter's text as JupyterLab saves it, the cell for Colab in front: saving it there is then no change.

    Nothing of it would execute otherwise than before, so what is known of its execution stays true of it.
    """
    before, kept = site.fingerprint(text), site.execution(text)
    notebook = nbformat.reads(nbformat.writes(to_notebook(text)), as_version=4)  # which sorts the metadata
    write_text(text, jupytext.writes(notebook, "md:myst"))
    if kept.exists():
        write_text(kept, kept.read_text(encoding="utf-8").replace(before, site.fingerprint(text)))


def normalise(notebook: NotebookNode) -> NotebookNode:
    """The same notebook without what differs between two executions: ids, times, machine, versions.

    It begins with the cell for Colab, which is no part of an execution here.
    """
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.cells = [cell for cell in notebook.cells if ON_COLAB not in cell.source]
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
            # this and the kernel's name as Jupyter would write them
            "jupytext": {"default_lexer": "ipython3"},
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            **widgets,
        }
    )
    notebook.cells.insert(0, _colab_cell())
    return notebook


def _widgets(notebook: NotebookNode) -> dict:
    """The metadata that holds the widgets which outputs show, and the models these refer to; their ids made steady.

    A kernel's ids are random. Here models are numbered as the outputs come to them, and the others are dropped.
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


def _colab_cell() -> NotebookNode:
    """What makes a chapter run on Colab, which fetches the notebook alone."""
    source = f"""\
import os
import subprocess
import sys

{ON_COLAB}  # fetch the book and what it needs
    if not os.path.exists("/content/aevb"):
        address = "{site.address()}"
        subprocess.run(["git", "clone", "--depth=1", address, "/content/aevb"])
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--editable"]
        subprocess.run([*install, "/content/aevb"], check=True)
    sys.path.insert(0, "/content/aevb")
    os.chdir("/content/aevb/book")"""
    return nbformat.v4.new_code_cell(source, id=COLAB, metadata={"tags": ["remove-cell"]})


def _merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The same outputs with neighbouring pieces of one stream joined: where a kernel flushes is chance."""
    merged = []
    for output in outputs:
        if merged and output.output_type == "stream" == merged[-1].output_type and output.name == merged[-1].name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def differences(text: Path, notebook: Path) -> list[str]:
    """Where a committed notebook is out of step with its text, a line each; empty where it is in step."""
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


def execute(text: Path, notebook: Path, profile: str) -> Outcome:
    """Execute a chapter through papermill at `profile` and write it to `notebook`, also where it fails halfway.

    When, how long and on what is kept beside it (`site.execution`).
    """
    source = to_notebook(text)
    del source.cells[0]  # the one for Colab
    has_parameters = any("parameters" in cell.metadata.get("tags", []) for cell in source.cells)
    parameters = {"profile": profile} if has_parameters and profile != DEFAULT_PROFILE else {}
    notebook.parent.mkdir(parents=True, exist_ok=True)
    write_text(notebook, nbformat.writes(source))
    start, error = time.perf_counter(), ""
    try:
        with contextlib.closing(ensure_event_loop()):  # papermill would leave one open in every thread
            papermill.execute_notebook(
                notebook,
                notebook,
                parameters=parameters,
                kernel_name="python3",
                cwd=text.parent,
                progress_bar=False,
                extra_arguments=["--IPKernelApp.log_level=ERROR"],  # its warnings would break the bar
            )
    except papermill.PapermillExecutionError as failure:
        error = f"{failure.ename}: {failure.evalue}"
    except Exception as failure:  # a kernel that dies, above all for want of memory
        error = f"{type(failure).__name__}: {failure}"
    outcome = Outcome(text.stem, time.perf_counter() - start, error.splitlines()[0] if error else "")
    _note(text, notebook, profile if has_parameters else "", outcome)
    return outcome


def _note(text: Path, notebook: Path, profile: str, outcome: Outcome) -> None:
    """Keep, in a file a chapter beside the notebooks, what papermill says of an execution and where it took place."""
    said = nbformat.read(notebook, as_version=4).metadata.get("papermill", {})
    about = {
        "start": said.get("start_time", ""),
        "seconds": round(said.get("duration") or outcome.seconds, 1),
        "profile": profile,
        "error": outcome.error,
        "text": site.fingerprint(text),
        "papermill": papermill.__version__,
        **results.provenance(),
    }
    del about["date"]  # the start has it
    write_text(site.execution(notebook), json.dumps(about, indent=1) + "\n")


def execute_all(texts: list[Path], folder: Path, profile: str, jobs: int = 1) -> list[Outcome]:
    """Execute chapters into `folder`, `jobs` of them at once and the longest first, with a bar in the terminal.

    A chapter that fails keeps its half-executed notebook, and the others still run.
    """
    # threads, not processes: within one process no two kernels are given the same port
    pool = joblib.Parallel(n_jobs=jobs, backend="threading", return_as="generator_unordered")
    work = (joblib.delayed(execute)(text, folder / f"{text.stem}.ipynb", profile) for text in longest_first(texts))
    outcomes = []
    with contextlib.ExitStack() as around:
        bar = around.enter_context(tqdm(total=len(texts), unit="chapter", disable=not texts))
        around.enter_context(_ticking(bar))
        around.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # papermill's own, about its input lacking a parameters cell
        around.enter_context(contextlib.chdir(BOOK))  # papermill goes elsewhere and back, in whichever thread
        for outcome in pool(work):
            outcomes.append(outcome)
            bar.set_description(f"{outcome.chapter:<24}")
            bar.update()
    return sorted(outcomes, key=lambda outcome: outcome.chapter)


def longest_first(paths: list[Path]) -> list[Path]:
    """The same chapters, LONG ones before the others: side by side, none of them is left to run alone at the end."""
    return sorted(paths, key=lambda path: not path.name.startswith(LONG))


@contextlib.contextmanager
def _ticking(bar: tqdm):
    """Redraw `bar` every second in a terminal: a chapter may take minutes, and its clock should be seen to run."""
    if not sys.stderr.isatty():
        yield
        return
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(1.0):
            bar.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def update_notebooks(names: list[str]) -> list[Outcome]:
    """Execute chapters (all, or those named) at the default profile; commit-ready notebooks of those that succeed.

    What they measured is recorded, and SUMMARIES, which show it, come last. Raises ValueError for a
    name that no chapter has.
    """
    texts = chapters()
    if names:
        known = {text.stem: text for text in texts}
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"no chapter called {', '.join(unknown)}: choose among {', '.join(known)}")
        texts = [known[name] for name in names]
    for text in texts:
        tidy(text)
    stage = ROOT / "_build" / "notebooks"
    summaries = [text for text in texts if text.name.startswith(SUMMARIES)]
    outcomes = execute_all([text for text in texts if text not in summaries], stage, DEFAULT_PROFILE)
    results.record_measurements(DEFAULT_PROFILE)
    outcomes += execute_all(summaries, stage, DEFAULT_PROFILE)
    for outcome in outcomes:
        if not outcome.error:
            executed = nbformat.read(stage / f"{outcome.chapter}.ipynb", as_version=4)
            write_text(BOOK / f"{outcome.chapter}.ipynb", nbformat.writes(normalise(executed)) + "\n")
            write_text(site.execution(BOOK / outcome.chapter), site.execution(stage / outcome.chapter).read_text())
    return outcomes


def write_address() -> None:
    """Bring the committed texts and notebooks in line with the public address, without executing them."""
    for text in chapters():
        tidy(text)
        notebook = text.with_suffix(".ipynb")
        write_text(notebook, nbformat.writes(normalise(nbformat.read(notebook, as_version=4))) + "\n")


def write_headline() -> None:
    """Bring the README's lines on how the record meets the published points in line with `results.headline`."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    write_text(readme, re.sub(r"(?s)(<!-- headline -->\n).*?(<!-- end -->)", rf"\g<1>{results.headline()}\n\2", text))


def stage(profile: str) -> list[Outcome]:
    """Lay out a copy of the book in STAGE with every chapter executed afresh at `profile`."""
    shutil.rmtree(STAGE, ignore_errors=True)
    shutil.copytree(BOOK, STAGE / "book", ignore=shutil.ignore_patterns("*.ipynb", ".ipynb_checkpoints", "executions"))
    for name in ("aevb", "tests"):  # pages show their source
        shutil.copytree(ROOT / name, STAGE / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, STAGE)
    return execute_all(chapters(), STAGE / "book", profile, jobs=min(2, os.cpu_count() or 1))  # 2: for memory


def build(source: Path = ROOT, output: Path = ROOT) -> int:
    """Build the HTML book of `source` into `output/_build/html`, warnings being errors; the exit status."""
    for leftover in (output / "_build" / "html", output / "_build" / ".doctrees"):
        shutil.rmtree(leftover, ignore_errors=True)
    site.serve(source / "book" / "_static")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", source, "-W", "-n", "--keep-going", "-q"]
    return subprocess.run([*command, "--path-output", output], cwd=ROOT).returncode

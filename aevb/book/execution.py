"""The execution of chapters, one or many side by side.

papermill executes them on the book's own kernel (`aevb.book.kernels`). A chapter that fails keeps what it had executed;
its ChapterOutcome has the error.
"""

import ast
import contextlib
import json
import math
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import joblib
import nbformat
import papermill
from jupyter_core.utils import ensure_event_loop
from nbformat import NotebookNode
from tqdm import tqdm

from aevb.book import extension, kernels, notebooks
from aevb.book.notebooks import DEFAULT_PROFILE, normalise, to_notebook
from aevb.files import write_text
from aevb.reproduction import provenance, results

START_TIMEOUT = 300  # seconds a kernel may take to answer: on a busy machine a minute is too short
MARKER = "papermill-error-cell-tag"  # of the cells that papermill adds to a notebook that fails


@dataclass(frozen=True)
class ChapterOutcome:
    """The outcome of executing one chapter; `error` is empty where it went well.

    `cell` is the place in the notebook of the cell that failed, None where no cell did.
    """

    chapter: str
    seconds: float
    error: str
    cell: int | None = None


def execute(text: Path, notebook: Path, profile: str, seed: int | None = None) -> ChapterOutcome:
    """Execute a chapter through papermill at `profile` and write it to `notebook`, also where it fails halfway.

    A chapter that has the parameter `seed` takes it, where one is given. A note of the time and the machine is kept
    beside the notebook (`extension.execution`).
    """
    try:
        source, problem = to_notebook(text), ""
    except Exception as failure:  # jupytext raises many kinds for a text that is no chapter
        source, problem = _as_it_stands(text), f"cannot be read as a chapter, {type(failure).__name__}: {failure}"
    names = parameters(source)
    asked = {"profile": None if profile == DEFAULT_PROFILE else profile, "seed": seed}
    given: dict[str, object] = {name: value for name, value in asked.items() if name in names and value is not None}
    write_text(notebook, nbformat.writes(source))
    start = time.perf_counter()
    error, cell = (problem, None) if problem else _run(notebook, given, text.parent)
    outcome = ChapterOutcome(text.stem, time.perf_counter() - start, error.splitlines()[0] if error else "", cell)
    _note(text, notebook, profile if "profile" in names else "", outcome)
    return outcome


def parameters(notebook: NotebookNode) -> set[str]:
    """The names assigned in a notebook's cell tagged `parameters`; papermill can give them other values."""
    tagged = (cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    statements = (statement for source in tagged for statement in ast.parse(source).body)
    targets = (target for s in statements if isinstance(s, ast.Assign) for target in s.targets)
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _as_it_stands(text: Path) -> NotebookNode:
    """A notebook that shows the words of a text that cannot be read as a chapter."""
    content = text.read_bytes().decode("utf-8", errors="replace")
    title = re.search(r"^# (.+)$", content, re.MULTILINE)
    cells = [f"# {title[1] if title else text.stem}", literal(content)]
    return normalise(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(cell) for cell in cells]))


def literal(content: str) -> str:
    """Markdown that shows `content` as it stands, fences included."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", content)), 3)
    return f"{fence}text\n{content.strip()}\n{fence}"


def _run(notebook: Path, given: dict[str, object], folder: Path) -> tuple[str, int | None]:
    """Execute a notebook in place. Returns the error, empty where all is well, and the place of its cell."""
    try:
        with contextlib.closing(ensure_event_loop()):  # papermill would leave one open in every thread
            papermill.execute_notebook(
                notebook,
                notebook,
                parameters=given,
                kernel_name=kernels.NAME,
                kernel_manager_class=kernels.Manager,
                cwd=folder,
                progress_bar=False,
                start_timeout=START_TIMEOUT,
                extra_arguments=["--IPKernelApp.log_level=ERROR"],  # its warnings would break the bar
            )
    except papermill.PapermillExecutionError as failure:
        return f"{failure.ename}: {failure.evalue}", failure.cell_index
    except Exception as failure:  # a kernel that dies, mostly for want of memory
        reason = str(failure).strip().splitlines() or ["no reason given"]
        return f"{type(failure).__name__}: {reason[0]} (the kernel of {sys.executable})", _last_begun(notebook)
    return "", None


def _last_begun(notebook: Path) -> int | None:
    """The place of the code cell that was running when a kernel died; None where it died before the first."""
    cells = enumerate(nbformat.read(notebook, as_version=4).cells)
    code = [(place, cell.metadata.get("papermill", {})) for place, cell in cells if cell.cell_type == "code"]
    return max((place for place, said in code if said.get("start_time")), default=None)


def _note(text: Path, notebook: Path, profile: str, outcome: ChapterOutcome) -> None:
    """Keep papermill's account of an execution, with its machine: one file per chapter, beside the notebooks."""
    said = nbformat.read(notebook, as_version=4).metadata.get("papermill", {})
    about = {
        "start": said.get("start_time", ""),
        "seconds": round(said.get("duration") or outcome.seconds, 1),
        "profile": profile,
        "error": outcome.error,
        "text": extension.text_hash(text),
        "papermill": papermill.__version__,
        **provenance.here(),
    }
    del about["date"]  # the start has it
    write_text(extension.execution(notebook), json.dumps(about, indent=1) + "\n")


def execute_all(
    texts: list[Path], folder: Path, profile: str, jobs: int = 1, seed: int | None = None
) -> list[ChapterOutcome]:
    """Execute chapters into `folder`, `jobs` of them at once and the longest first, with a bar in the terminal.

    A chapter that fails keeps its half-executed notebook, and the others still run.
    """
    # threads, not processes: within one process no two kernels are given the same port
    pool = joblib.Parallel(n_jobs=jobs, backend="threading", return_as="generator_unordered")
    work = (
        joblib.delayed(execute)(text, folder / f"{text.stem}.ipynb", profile, seed) for text in longest_first(texts)
    )
    outcomes = []
    with contextlib.ExitStack() as around:
        bar = around.enter_context(tqdm(total=len(texts), unit="chapter", disable=not texts))
        around.enter_context(_ticking(bar))
        around.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # papermill's own, about its input lacking a parameters cell
        around.enter_context(contextlib.chdir(notebooks.BOOK))  # papermill changes folders and back, in any thread
        for outcome in pool(work):
            outcomes.append(outcome)
            bar.set_description(f"{outcome.chapter:<24}")
            bar.update()
    return sorted(outcomes, key=lambda outcome: outcome.chapter)


def longest_first(paths: list[Path]) -> list[Path]:
    """The same chapters, those that last took longest first, so that none of them is left to run alone at the end.

    A chapter of which the book has no note comes before all others: it may take long.
    """

    def seconds(path: Path) -> float:
        kept = extension.execution(path)
        return json.loads(kept.read_text(encoding="utf-8"))["seconds"] if kept.exists() else math.inf

    return sorted(paths, key=seconds, reverse=True)


@contextlib.contextmanager
def _ticking(bar: tqdm) -> Iterator[None]:
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


def try_seeds(seeds: list[int]) -> dict[int, list[ChapterOutcome]]:
    """Execute the chapters that draw random numbers with other seeds, at the default profile: their outcomes by seed.

    Only the notebooks are kept, in `_build/seeds/`: the measurements are of a seed that no table shows.
    """
    texts = [text for text in notebooks.chapters() if "seed" in parameters(to_notebook(text))]
    outcomes = {}
    for seed in seeds:
        outcomes[seed] = execute_all(texts, notebooks.ROOT / "_build" / "seeds" / str(seed), DEFAULT_PROFILE, 2, seed)
        results.forget(DEFAULT_PROFILE)
    return outcomes

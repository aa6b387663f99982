"""The steps of `test` and of `check`, and how each of them went."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import nbformat
from tabulate import tabulate

from aevb.book import execution, kernels, notebooks
from aevb.reproduction import arithmetic

PYTHON = (sys.executable, "-m")  # what runs a module in this environment
CELL_TIMEOUT = 1800  # seconds
# the unit tests of the core that `check` runs
CORE = ("files", "networks", "model", "bounds", "objectives", "hmc", "full_vb", "run")
# tests of theirs that take long
SLOW = (
    "test_hmc.py::test_geweke",
    "test_full_vb.py::test_the_gradients_in_mu_differ",
    "test_full_vb.py::test_their_gradients_are_unbiased",
)


class Step(NamedTuple):
    """One thing to run: its name in the summary, and its command."""

    name: str
    command: list[str]


# the steps that look at the code alone
LINT = Step("lint", [*PYTHON, "ruff", "check", "."])
FORMAT = Step("format", [*PYTHON, "ruff", "format", "--check", "."])
TYPES = Step("types", [*PYTHON, "mypy"])


def everything() -> list[Step]:
    """The steps of `test`."""
    more = ["-n", str(min(3, _cores() + 1)), "--dist", "worksteal"]  # one that tries pages in a browser mostly waits
    return [LINT, FORMAT, TYPES, compared(committed()), Step("unit tests", [*PYTHON, "pytest", *more, "tests"])]


def live() -> list[Step]:
    """The steps of `test --live`: only the chapters that train."""
    return [compared([path for path in committed() if _has_parameters(path)])]


def quick() -> list[Step]:
    """The steps of `check`, a minute in all."""
    core = [f"tests/test_{name}.py" for name in CORE] + [f"--deselect=tests/{name}" for name in SLOW]
    parallel = ["-n", str(min(2, _cores()))]
    pairs = ["tests/book/test_notebooks.py", "-k", "committed_as_it_is_written or committed_notebook_is_normal"]
    return [
        LINT,
        FORMAT,
        TYPES,
        Step("pairs in step", [*PYTHON, "pytest", "-q", *pairs]),
        Step("the core", [*PYTHON, "pytest", "-q", *parallel, *core]),
    ]


def committed() -> list[Path]:
    """The committed notebooks, in the order in which they are best executed."""
    return execution.longest_first([text.with_suffix(".ipynb") for text in notebooks.chapters()])


def compared(paths: list[Path]) -> Step:
    """Execute notebooks and compare what comes out with what is committed."""
    nbval = ["--nbval", f"--nbval-kernel-name={kernels.NAME}", f"--nbval-cell-timeout={CELL_TIMEOUT}"]
    parallel = ["-n", str(min(2, _cores())), "--dist", "loadscope", "--no-loadscope-reorder"]
    return Step(
        "notebooks", [*PYTHON, "pytest", *parallel, *nbval, "-p", "no:cacheprovider", *(str(path) for path in paths)]
    )


def run(steps: list[Step], arithmetic_name: str | None = None) -> int:
    """Run all steps, whatever the first one says, in the book's own environment; 1 where one failed, else 0.

    With `arithmetic_name`, all of them and what they start compute by it. Raises ValueError for an unknown one.
    """
    variables = kernels.environment()
    if arithmetic_name is not None:
        variables = arithmetic.environment(arithmetic_name, variables)
        print(arithmetic.description(arithmetic_name), flush=True)
    rows = []
    for step in steps:
        start = time.perf_counter()
        status = subprocess.run(step.command, cwd=notebooks.ROOT, env=variables).returncode
        rows.append((step.name, f"{time.perf_counter() - start:.0f} s", "ok" if not status else f"FAILED ({status})"))
    print(f"\n{tabulate(rows, ['step', 'time', ''])}")
    return int(any(row[-1] != "ok" for row in rows))


def _cores() -> int:
    return os.cpu_count() or 1


def _has_parameters(notebook: Path) -> bool:
    cells = nbformat.read(notebook, as_version=4).cells
    return any("parameters" in cell.metadata.get("tags", []) for cell in cells)

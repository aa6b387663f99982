"""A chapter's outputs under a reader's settings that would change every one of them."""

import json
import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pytest

from aevb.book import kernels, suite
from aevb.book.execution import execute
from aevb.book.notebooks import normalise
from aevb.reproduction import arithmetic, figures
from tests.written import write

DRAWS = (
    "import matplotlib.pyplot as plt\nfrom aevb.reproduction import figures\nfigures.use_style()\n_ = plt.plot([1, 2])"
)
PLAIN = "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])"
WHERE = "import sys\nprint(sys.executable)\nassert __debug__"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A function that makes this process's environment a reader's, full of settings, and without a home."""
    parts = {
        "ipython/profile_default/ipython_config.py": "get_config().InlineBackend.figure_formats = {'svg'}",
        "matplotlib/matplotlibrc": "figure.dpi: 300\nfont.size: 20\nlines.linewidth: 9\nsavefig.facecolor: red\n",
        "jupyter/kernels/python3/kernel.json": json.dumps(
            {"argv": ["false"], "display_name": "broken", "language": "python"}
        ),
        "startup.py": "print('a startup file')",
    }
    for name, text in parts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    nowhere = tmp_path / "a file"
    nowhere.touch()
    variables = {
        "IPYTHONDIR": tmp_path / "ipython",
        "MPLBACKEND": "agg",
        "MATPLOTLIBRC": tmp_path / "matplotlib" / "matplotlibrc",
        "MPLCONFIGDIR": tmp_path / "matplotlib",
        "JUPYTER_PATH": tmp_path / "jupyter",
        "JUPYTER_CONFIG_DIR": tmp_path / "jupyter",
        "JUPYTER_RUNTIME_DIR": nowhere / "runtime",
        "HOME": nowhere / "home",
        "PYTHONSTARTUP": tmp_path / "startup.py",
        "PYTHONOPTIMIZE": "1",
    }
    return lambda: [monkeypatch.setenv(name, str(value)) for name, value in variables.items()]


def executed(text, notebook) -> str:
    assert execute(text, notebook, "quick").error == ""
    return nbformat.writes(normalise(nbformat.read(notebook, as_version=4)))


def test_a_chapter_gives_the_same_bytes_under_any_settings(tmp_path, settings):
    text = write(tmp_path / "03_a.md", PLAIN, DRAWS, WHERE)
    without = executed(text, tmp_path / "without.ipynb")
    settings()
    assert executed(text, tmp_path / "with.ipynb") == without
    assert without.count("image/png") == 2
    assert "image/svg" not in without
    assert sys.executable in without


def test_nbval_compares_in_the_same_environment(tmp_path, settings):
    notebook = tmp_path / "03_a.ipynb"
    notebook.write_text(executed(write(tmp_path / "03_a.md", PLAIN, DRAWS, WHERE), notebook), encoding="utf-8")
    settings()
    command = [word for word in suite.compared([notebook]).command if word != "--no-loadscope-reorder"]
    done = subprocess.run(command, cwd=tmp_path, env=kernels.environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_kernel_that_never_answers_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(kernels.SPECIFICATION, "argv", ["python", "-c", "raise SystemExit(1)", "{connection_file}"])
    monkeypatch.setattr(kernels, "FOLDER", tmp_path / "kernel")
    outcome = execute(write(tmp_path / "03_a.md", "1"), tmp_path / "a.ipynb", "quick")
    assert "Kernel died before replying" in outcome.error
    assert outcome.error.endswith(f"(the kernel of {sys.executable})")
    assert outcome.cell is None


def test_an_environment_keeps_what_is_no_setting_of_the_readers(monkeypatch):
    monkeypatch.setenv("AEVB_DATA", "a folder")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    variables = kernels.environment()
    assert (variables["AEVB_DATA"], variables["ATEN_CPU_CAPABILITY"]) == ("a folder", "avx2")


def test_the_books_style_is_the_same_whatever_was_set_before():
    with matplotlib.rc_context():
        figures.use_style()
        style = dict(plt.rcParams)
        plt.rcParams.update({"font.size": 30, "savefig.facecolor": "red", "lines.linewidth": 9})
        figures.use_style()
        assert dict(plt.rcParams) == style


def test_kernels_compute_by_the_arithmetic_of_the_process_that_starts_them(tmp_path, monkeypatch):
    for name, value in arithmetic.SETTINGS["plain"].items():
        monkeypatch.setenv(name, value)
    text = write(tmp_path / "03_a.md", "import torch\nprint(torch.backends.cpu.get_cpu_capability())")
    assert "DEFAULT" in executed(text, tmp_path / "a.ipynb")

"""The kernels that execute chapters: of this interpreter, in a configuration of the book's own.

The output of a chapter must not depend on who executes it. Its kernel therefore sees nothing of the reader's settings
of IPython, matplotlib and Jupyter, and is not chosen among the reader's kernels. `aevb.book.guard` ends it with all
that it started.
"""

import json
import os
from pathlib import Path

import matplotlib.font_manager  # builds its list of fonts where there is none
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from traitlets import default

from aevb.book import guard
from aevb.files import write_text
from aevb.reproduction.checkout import ROOT

FOLDER = ROOT / "_build" / "kernel"  # the folder of the kernels' own settings
NAME = "python3"  # the name of the kernel
# the variables through which the reader's own set-up would reach a kernel
DROPPED = ("MATPLOTLIBRC", "MPLBACKEND", "JUPYTER_CONFIG_PATH", "JUPYTER_NO_CONFIG", "PYTHONOPTIMIZE", "PYTHONSTARTUP")
# the configuration of IPython
CONFIGURATION = """\
c = get_config()
c.InlineBackend.figure_formats = {"png"}
c.HistoryManager.enabled = False
"""
# Jupyter puts its own interpreter in place of a bare "python"
SPECIFICATION = {
    "argv": ["python", "-P", guard.__file__, "-f", "{connection_file}"],
    "display_name": "Python 3",
    "language": "python",
}


def environment() -> dict[str, str]:
    """The environment that executes chapters and builds their page: this one's, without the reader's settings.

    The folders that it names are filled on the way. Raises OSError with one line where that fails.
    """
    _write(FOLDER / "ipython" / "profile_default" / "ipython_config.py", CONFIGURATION)
    _write(FOLDER / "jupyter" / "kernels" / NAME / "kernel.json", json.dumps(SPECIFICATION, indent=1) + "\n")
    _share_fonts(FOLDER / "matplotlib")
    kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
    own = {
        "IPYTHONDIR": FOLDER / "ipython",
        "MPLCONFIGDIR": FOLDER / "matplotlib",
        "JUPYTER_PATH": FOLDER / "jupyter",
        "JUPYTER_DATA_DIR": FOLDER / "jupyter",
        "JUPYTER_CONFIG_DIR": FOLDER / "jupyter" / "config",
        "JUPYTER_RUNTIME_DIR": FOLDER / "jupyter" / "runtime",
    }
    return kept | {name: str(folder) for name, folder in own.items()}


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _share_fonts(folder: Path) -> None:
    """Give kernels this process's list of fonts: matplotlib says in a cell's output that it builds one."""
    for fonts in Path(matplotlib.get_cachedir()).glob("fontlist-*.json"):
        if not (folder / fonts.name).exists():
            write_text(folder / fonts.name, fonts.read_text(encoding="utf-8"))


class Manager(AsyncKernelManager):
    """Starts the book's kernel in the book's environment, whatever kernels and settings the reader has."""

    @default("kernel_spec_manager")
    def _own_specifications(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[str(FOLDER / "jupyter" / "kernels")], ensure_native_kernel=False)

    async def start_kernel(self, **options: object) -> None:  # type: ignore[override] # as in AsyncKernelManager
        """Start it; `options` as Jupyter's, but for the environment."""
        await super().start_kernel(**options | {"env": environment()})

"""The Sphinx extension of the book, named in `_config.yml`: all that its pages have beyond Jupyter Book.

It adds scripts served with the book, buttons that launch a chapter elsewhere, and the table of what ran when.

The scripts come from npm, at the versions and checksums of `package-lock.json`. The lock names the packages alone:
those that have dependencies ship them bundled.
"""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from tabulate import tabulate

from aevb.book import api, sources
from aevb.reproduction.checkout import ROOT

LOCK = ROOT / "package-lock.json"  # the versions and checksums of the npm packages
# the files that a page can ask for, by package, with those that MathJax's menu offers
SERVED = {
    "mathjax": ("LICENSE", "es5/tex-chtml.js", "es5/a11y", "es5/sre", "es5/input/tex/extensions", "es5/output/chtml"),
    "requirejs": ("require.js",),
    "@jupyter-widgets/html-manager": ("dist/embed-amd.js",),
    "anywidget": ("LICENSE", "dist/index.js"),
    "@tensorflow/tfjs-core": ("dist/tf-core.min.js",),
    "@tensorflow/tfjs-backend-cpu": ("dist/tf-backend-cpu.min.js",),
    "@tensorflow/tfjs-backend-wasm": (
        "dist/tf-backend-wasm.min.js",
        "dist/tfjs-backend-wasm.wasm",
        "dist/tfjs-backend-wasm-simd.wasm",
    ),
    "@tensorflow/tfjs-backend-webgpu": ("dist/tf-backend-webgpu.min.js",),
}
CDN = "the pages will ask public CDNs for their scripts"  # said where no scripts are served


def packages() -> Path | None:
    """The folder of the packages that `package-lock.json` names, installed if they were not.

    None, after a line that says so, where npm is missing or fails.
    """
    folder = ROOT / "_build" / "npm" / sha256(LOCK.read_bytes()).hexdigest()[:12]
    if folder.exists():
        return folder / "node_modules"
    if not (npm := shutil.which("npm")):
        print(f"No npm here: {CDN}.")
        return None
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        half = Path(name) / "half"
        half.mkdir()
        for file in (LOCK.with_name("package.json"), LOCK):
            shutil.copy(file, half)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1"]
        try:
            subprocess.run(command, cwd=half, check=True, capture_output=True, text=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[0]
            print(f"npm failed ({reason}): {CDN}.")
            return None
        with contextlib.suppress(OSError):  # another process may have been faster
            os.replace(half, folder)
    return folder / "node_modules"


def serve(static: Path) -> bool:
    """Lay the scripts out in `static/vendor`; False, after a line that says so, where there are none."""
    vendor = static / "vendor"
    if _served(vendor):
        return True
    shutil.rmtree(vendor, ignore_errors=True)
    if not (source := packages()):
        return False
    for package, parts in SERVED.items():
        for part in parts:
            target = vendor / package / part
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (source / package / part).is_dir() else shutil.copy)(source / package / part, target)
    shutil.copy(LOCK, vendor)  # last: a folder that has it is whole
    return True


def _served(vendor: Path) -> bool:
    lock = vendor / LOCK.name
    return lock.exists() and lock.read_bytes() == LOCK.read_bytes()


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("config-inited", use_served_scripts)
    app.connect("config-inited", use_address)
    app.connect("source-read", add_executions)
    app.connect("source-read", add_reference)
    app.connect("autodoc-process-docstring", api.as_it_stands)
    app.connect("autodoc-skip-member", api.skip)
    app.connect("doctree-read", sources.link_tests, priority=400)  # before Sphinx would copy their targets
    app.connect("html-collect-pages", sources.pages)
    app.config.linkcode_resolve = lambda domain, about: source(app, about)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def use_served_scripts(app: Any, config: Any) -> None:
    """Name the served scripts, or leave the CDNs' that Sphinx and MyST-NB name where none are served."""
    if not _served(Path(app.srcdir) / config.html_static_path[0] / "vendor"):
        return
    config.mathjax_path = "vendor/mathjax/es5/tex-chtml.js"
    last = {"loading_method": "defer"}  # after the scripts that would take require.js for their own loader
    config.nb_ipywidgets_js = {
        "vendor/requirejs/require.js": last,
        "widgets.js": last,
        "vendor/@jupyter-widgets/html-manager/dist/embed-amd.js": last,
    }


def use_address(app: Any, config: Any) -> None:
    """Let the launch buttons open the repository that builds the page; where none does, leave them out."""
    options = config.html_theme_options
    options |= {"repository_url": sources.address(), "repository_branch": sources.BRANCH}
    if not sources.address():
        options.pop("launch_buttons", None)


def chapters(folder: Path) -> list[Path]:
    """The text of every chapter in `folder`, in the book's order."""
    return sorted(folder.glob("[0-9][0-9]_*.md"))


def execution(notebook: Path) -> Path:
    """The path of the file about the execution of this notebook."""
    return notebook.parent / "executions" / f"{notebook.stem}.json"


def text_hash(text: Path) -> str:
    """A hash that tells one state of a chapter's text from another, whatever ends its lines."""
    return sha256(text.read_text(encoding="utf-8").encode()).hexdigest()[:12]


def add_executions(app: Any, page: str, content: list[str]) -> None:
    """Let the status page end with the table; the parameters are those of Sphinx's event."""
    if page == "book/execution_status":
        content[0] += f"\n{executions(Path(app.srcdir) / 'book')}\n"


def add_reference(app: Any, page: str, content: list[str]) -> None:
    """Let the page of the API end with its lists; the parameters are those of Sphinx's event."""
    if page == "book/api":
        content[0] += f"\n{api.reference()}\n"


def source(app: Any, about: dict[str, str]) -> str:
    """A link to where the name that `about` describes is defined, as `sphinx.ext.linkcode` asks for it."""
    return sources.place(app, f"{about['module'].replace('.', '/')}.py", about["fullname"])


def executions(folder: Path) -> str:
    """Tables in Markdown of the chapters in `folder`: the start, seconds and profile of each; the machines."""
    headers = ["chapter", "", "started (UTC)", "seconds", "profile", "on", "commit"]
    places: dict[tuple[str, str], int] = {}  # each with its number
    rows = [_execution(text, places) for text in chapters(folder)]
    tables = [tabulate(rows, headers, "pipe", disable_numparse=True)]
    if places:
        tables.append(
            tabulate([(number, *place) for place, number in places.items()], ["on", "machine", "with"], "pipe")
        )
    return "\n\n".join(tables)


def _execution(text: Path, places: dict[tuple[str, str], int]) -> list[str]:
    name = f"{{doc}}`{text.stem}`"
    kept = execution(text)
    if not kept.exists():
        return [name, "no record", *[""] * 5]
    about = json.loads(kept.read_text(encoding="utf-8"))
    state = "current" if about["text"] == text_hash(text) else "text changed since"
    if about["error"]:
        state = "failed: " + about["error"].replace("|", "/")
    start = about["start"][:16].replace("T", " ")
    versions = ", ".join(f"{part} {about[part]}" for part in ("python", "torch", "numpy", "papermill"))
    place = places.setdefault((about["machine"], versions), len(places) + 1)
    return [name, state, start, f"{about['seconds']:.0f}", about["profile"], str(place), about["commit"]]

"""The provenance of a number: commit, versions, machine, hash of the code that decides it."""

import ast
import hashlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from aevb.reproduction.checkout import ROOT


def _numerical() -> tuple[str, ...]:
    """The modules whose code decides the numbers of a run: `fit` and its imports, but for writing and drawing."""
    found, rest = set(), {"fit"}
    while rest:
        name = rest.pop()
        found.add(name)
        nodes = ast.walk(ast.parse((ROOT / "aevb" / f"{name}.py").read_text(encoding="utf-8")))
        for node in (node for node in nodes if isinstance(node, ast.ImportFrom)):
            package, _, module = (node.module or "").partition(".")
            if package == __name__.split(".")[0]:
                rest |= {module} if module else {alias.name for alias in node.names}
        rest -= found | {"files", "colours"}
    return tuple(sorted(found))


NUMERICAL = _numerical()  # the modules that `fingerprint` reads


class Code(NamedTuple):
    """The code of this project at one moment: what `fingerprint` and `commit` say of it, "unknown" without a commit."""

    fingerprint: str
    commit: str


def here() -> dict:
    """The commit, versions and machine of the present computation; no names, no paths."""
    return {
        "commit": LOADED.commit,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "system": platform.system(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def commit() -> str:
    """The commit of this tree, with a plus sign where the code differs from it.

    Raises ValueError, with the reason in one line, where git knows none: there is no git or no checkout, git does not
    trust its owner, or this is a folder inside another repository.
    """
    environment = dict(os.environ)

    def git(*words: str) -> str:
        command = ["git", *words]
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    try:
        for name in git("rev-parse", "--local-env-vars").split():
            if not name.startswith("GIT_CONFIG_"):  # which may say that the owner of this tree is trusted
                environment.pop(name, None)  # a hook, for one, sets it for its own repository
        if git("rev-parse", "--show-prefix"):
            raise ValueError(f"{ROOT} is no checkout, but a folder inside one")
        changed = git("status", "--porcelain", "--", "aevb", "benchmarks", "requirements.txt")
        return git("rev-parse", "--short=12", "HEAD") + "+" * bool(changed)
    except subprocess.CalledProcessError as error:
        raise ValueError(" ".join(error.stderr.split())) from error
    except OSError as error:
        raise ValueError(f"git does not run here ({error.strerror})") from error


def as_it_stands() -> Code:
    """The code in the files of this moment."""
    try:
        return Code(fingerprint(), commit())
    except ValueError:
        return Code(fingerprint(), "unknown")


def announce_commit() -> None:
    """Warn on standard error, before a long record starts, where its manifest can name no commit, and say why."""
    try:
        commit()
    except ValueError as error:
        print(f"The record will say of its commit: unknown. {error}", file=sys.stderr)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in cpuinfo.read_text(encoding="utf-8").splitlines()
            if "model name" in line
        ]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def fingerprint() -> str:
    """A hash of the code that decides a run's numbers, blind to comments, docstrings and layout.

    The other values in those modules count too, such as the title of an algorithm.

    Live results are kept under it, so that a reader who changes an objective sees new curves, not old ones.
    """
    digest = hashlib.sha256()
    for name in NUMERICAL:
        tree = ast.parse((ROOT / "aevb" / f"{name}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:8]


LOADED = as_it_stands()  # what this process runs, whatever becomes of the files while it trains

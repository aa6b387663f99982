"""The page of every public name, by autodoc, in the documented order."""

import ast
import inspect
import re
from importlib import import_module
from typing import Any

from aevb.book import sources

# the packages, by the titles of the page's parts
PACKAGES = {
    "The core": "aevb",
    "The reproduction": "aevb.reproduction",
    "The book": "aevb.book",
    "The chapters": "aevb.chapters",
}


def modules(package: str) -> list[str]:
    """The dotted names of a package's modules, in the order that its docstring gives: each imports those before it."""
    names = inspect.cleandoc(str(import_module(package).__doc__)).rsplit(":", 1)[1]
    return [f"{package}.{name}" for name in re.findall(r"\w+", names)]


def reference() -> str:
    """The page's lists, in Markdown around the directives of autodoc: a part per package, a section per module."""
    parts = []
    for title, package in PACKAGES.items():
        parts += [f"## {title}", _directives(package)]
        for name in modules(package):
            parts += [f"### {name}", _directives(name)]
    return "\n\n".join(parts)


def _directives(module: str) -> str:
    parts = [f".. automodule:: {module}\n   :members:"]
    for name, comment in constants(inspect.getsource(import_module(module))).items():
        parts.append(f".. py:data:: {name}\n   :module: {module}\n\n   {_escaped(comment)}")
    return "\n\n".join(["```{eval-rst}", *parts, "```"])


def constants(source: str) -> dict[str, str]:
    """The public names that a module's `source` assigns, each with the comment beside it, or else above it."""
    statements = [node for node in ast.parse(source).body if isinstance(node, ast.Assign | ast.AnnAssign)]
    names = [name for node in statements for name in sources.defined(node) if not name.startswith("_")]
    return {name: _comment(source, name) for name in names}


def _comment(source: str, name: str) -> str:
    found = re.search(rf"^((?:# (?!fmt:).*\n)*)(?:.*, )?{name}\b(?:.*?  # (.*))?", source, re.MULTILINE)
    if found is None:
        raise ValueError(f"{name} is not assigned at the beginning of a line")
    return found[2] or " ".join(re.findall(r"^# (.*)", found[1], re.MULTILINE))


def skip(app: Any, kind: str, name: str, member: object, skipped: bool, options: object) -> bool | None:
    """True for a member without a docstring of ours: a field of a named tuple, a module's `forward`; else None.

    The parameters are those of autodoc's event.
    """
    inherited = name == "forward" and not member.__doc__
    return True if inherited or str(member.__doc__).startswith("Alias for field number") else None


def as_it_stands(app: Any, kind: str, name: str, member: object, options: object, lines: list[str]) -> None:
    """Escape all markup in a docstring but its backticks; the parameters are those of autodoc's event."""
    lines[:] = _escaped("\n".join(lines)).split("\n")


def _escaped(text: str) -> str:
    pieces = text.split("`")
    pieces[::2] = [re.sub(r"[\\*|_]", r"\\\g<0>", piece) for piece in pieces[::2]]
    return "`".join(pieces)

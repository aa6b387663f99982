"""Chapters that tests write."""

from pathlib import Path

import nbformat

HEADER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

"""
PARAMETERS = ("profile = 'quick'\nsize = 2", "parameters")


def write(path: Path, *cells: str | tuple[str, str], title="A chapter") -> Path:
    """A chapter's text: code cells, each with its tag where it is a pair."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [f"{HEADER}# {title}\n"]
    for cell in cells:
        source, tag = cell if isinstance(cell, tuple) else (cell, "")
        options = f":tags: [{tag}]\n\n" if tag else ""
        parts.append(f"```{{code-cell}} ipython3\n{options}{source}\n```\n")
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


def printed(notebook: Path) -> str:
    cells = nbformat.read(notebook, as_version=4).cells
    return "".join(o.get("text", "") for cell in cells for o in cell.get("outputs", []))

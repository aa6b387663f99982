"""The places of functions and tests: lines of the repository that builds the page, or of source pages of its own.

The workflow gives the repository's address; nothing that is committed names it.
"""

import ast
import os
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx import addnodes

from aevb.reproduction.checkout import ROOT

BRANCH = "page"  # the sources of the page, with the cell for Colab: the workflow that builds the page writes it


def address() -> str:
    """The public address of the repository, as the workflow that builds the page gives it; empty where none does."""
    return os.environ.get("AEVB_REPOSITORY", "")


def place(app: Any, path: str, name: str) -> str:
    """A link from the page that Sphinx reads to where `path`, a file of this tree, defines `name`."""
    number = line((ROOT / path).read_text(encoding="utf-8"), name)
    if address():
        return f"{address()}/blob/{BRANCH}/{path}#L{number}"
    return f"{app.builder.get_relative_uri(app.env.docname, _page(path))}#L-{number}"


def line(source: str, name: str) -> int:
    """The number of the line of `source` that defines `name`, which may be `Class.method`.

    Raises ValueError where none does.
    """
    body = ast.parse(source).body
    for part in name.split("."):
        found = [node for node in body if part in defined(node)]
        if not found:
            raise ValueError(f"{name} is not defined")
        body = getattr(found[0], "body", [])
    return found[0].lineno


def defined(node: ast.stmt) -> list[str]:
    """The names that a statement defines: a function, a class, or what is assigned."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]


def link_tests(app: Any, document: nodes.document) -> None:
    """Let a link such as `[words](../tests/test_a.py "test_name")` lead to the test, not to a copy of its file."""
    for node in list(document.findall(addnodes.download_reference)):
        path, _ = app.env.relfn2path(node["reftarget"], app.env.docname)
        if path.startswith("tests/") and node.get("title"):
            where = {"refuri": place(app, path, node["title"]), "reftitle": node["title"]}
            node.replace_self(nodes.reference("", "", *node.children, **where))


def pages(app: Any) -> Iterator[tuple[str, dict, str]]:
    """The source pages of a book that no repository builds: the name, content and template of each, for Sphinx."""
    if address() or "book/api" not in app.env.found_docs:
        return
    for path in sorted(path for folder in ("aevb", "tests") for path in (ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        code = app.builder.highlighter.highlight_block(path.read_text(encoding="utf-8"), "python", lineanchors="L")
        yield _page(name), {"title": name, "body": f"<h1>{name}</h1>{code}"}, "page.html"


def _page(path: str) -> str:
    return f"source/{path.removesuffix('.py')}"

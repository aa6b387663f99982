import ast
import re

import pytest

from aevb.book import api, notebooks

MODULES = [name for package in api.PACKAGES.values() for name in api.modules(package)]


def test_every_module_is_in_the_documented_order():
    files = [path for path in (notebooks.ROOT / "aevb").rglob("*.py") if not path.name.startswith("__")]
    names = [".".join(path.relative_to(notebooks.ROOT).with_suffix("").parts) for path in files]
    assert sorted(MODULES) == sorted(names)


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_on_the_page(page, name):
    """Functions, classes, assigned names, and the methods with a docstring; each once."""
    content = (page / "book" / "api.html").read_text(encoding="utf-8")
    shown = re.findall(rf'id="{re.escape(name)}\.([\w.]+)"', content)
    source = (notebooks.ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.parse(source).body if isinstance(node, functions | ast.ClassDef)]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    methods = {f"{c.name}.{f.name}": f for c in classes for f in c.body if isinstance(f, functions)}
    documented = {method for method, node in methods.items() if ast.get_docstring(node)}
    alone = {node.name for node in nodes} | set(api.constants(source))
    assert public(alone | documented) <= set(shown) <= public(alone | set(methods))
    assert len(set(shown)) == len(shown)


def public(names: set[str]) -> set[str]:
    return {name for name in names if not re.search(r"(^|\.)_", name)}


def test_a_constant_has_the_comment_beside_it_or_else_above_it():
    source = "A = 1  # beside\n# of both,\n# in two lines\nB, C = 1, 2\nD = 3\n# fmt: off\nE: int = 4\n_F = 5\n"
    both = "of both, in two lines"
    assert api.constants(source) == {"A": "beside", "B": both, "C": both, "D": "", "E": ""}


def test_nothing_in_a_docstring_is_markup_but_its_backticks(page):
    lines = ["|a| *b* c_ \\d", "`e_f` of `*g`"]
    api.as_it_stands(None, "", "", None, None, lines)
    assert lines == [r"\|a\| \*b\* c\_ \\d", "`e_f` of `*g`"]
    content = (page / "book" / "api.html").read_text(encoding="utf-8")
    assert "L^A of eq. 6: the mean over samples of log p(x, z) - log q(z|x), <code" in content
    assert "Alias for field number" not in content

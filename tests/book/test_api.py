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
    """Functions, classes, their methods, and what a module assigns; each once."""
    content = (page / "book" / "api.html").read_text(encoding="utf-8")
    shown = re.findall(rf'id="{re.escape(name)}\.([\w.]+)"', content)
    source = (notebooks.ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.parse(source).body if isinstance(node, functions | ast.ClassDef)]
    methods = [(c, f) for c in nodes if isinstance(c, ast.ClassDef) for f in c.body if isinstance(f, functions)]
    names = [node.name for node in nodes] + list(api.constants(source))
    names += [f"{c.name}.{f.name}" for c, f in methods if f.name != "forward" or ast.get_docstring(f)]
    assert sorted(shown) == sorted(name for name in names if not re.search(r"(^|\.)_", name))


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

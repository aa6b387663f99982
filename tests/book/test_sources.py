import re
import shutil

import pytest

from aevb.book import notebooks, pages, sources

SOURCE = """\
A, B = 1, 2
C: int = 3


@decorated
def f():
    inner = 1


class D:
    def method(self):
        pass

    async def later(self):
        pass
"""


@pytest.mark.parametrize(
    ("name", "number"), [("A", 1), ("B", 1), ("C", 2), ("f", 6), ("D", 10), ("D.method", 11), ("D.later", 14)]
)
def test_a_name_is_found_on_the_line_that_defines_it(name, number):
    assert sources.line(SOURCE, name) == number


@pytest.mark.parametrize("name", ["inner", "method", "D.f", "f.inner.x", "A.x"])
def test_what_is_not_defined_is_refused(name):
    with pytest.raises(ValueError, match="is not defined"):
        sources.line(SOURCE, name)


LINKS = '[`a`](#aevb.bounds.estimator_a), [its test](../tests/test_bounds.py "test_kl_by_monte_carlo")'


@pytest.fixture
def linking_book(small_book):
    """A book whose one page links to a function and a test, and its page of every public name."""
    (small_book / "book" / "page.md").write_text(f"# Front\n\n{LINKS}.\n", encoding="utf-8")
    shutil.copy(notebooks.BOOK / "api.md", small_book / "book")
    (small_book / "tests").mkdir()
    shutil.copy(notebooks.ROOT / "tests" / "test_bounds.py", small_book / "tests")
    toc = "format: jb-book\nroot: book/page\nchapters:\n- file: book/api\n"
    (small_book / "_toc.yml").write_text(toc, encoding="utf-8")
    return small_book


def test_where_a_repository_builds_the_book_its_links_lead_there(linking_book, tmp_path, monkeypatch):
    monkeypatch.setenv("AEVB_REPOSITORY", "https://github.com/me/fork")
    assert pages.build(linking_book, tmp_path) == 0
    built = tmp_path / "_build" / "html"
    front, api = ((built / "book" / f"{name}.html").read_text(encoding="utf-8") for name in ("page", "api"))
    assert 'href="api.html#aevb.bounds.estimator_a"' in front
    for content, path, name in (
        (front, "tests/test_bounds.py", "test_kl_by_monte_carlo"),
        (api, "aevb/bounds.py", "estimator_a"),
    ):
        number = sources.line((notebooks.ROOT / path).read_text(encoding="utf-8"), name)
        assert f'href="https://github.com/me/fork/blob/{sources.BRANCH}/{path}#L{number}"' in content
    assert not (built / "source").exists()


def test_built_elsewhere_its_source_pages_show_the_lines(page):
    """Every link to source of the page of every public name has its place."""
    api = (page / "book" / "api.html").read_text(encoding="utf-8")
    links = set(re.findall(r'href="\.\./(source/[^"#]*)#([^"]*)"', api))
    assert len(links) > 400
    shown = {path: (page / path).read_text(encoding="utf-8") for path, _ in links}
    assert not [(path, anchor) for path, anchor in links if f'id="{anchor}"' not in shown[path]]
    assert "github.com" not in re.search("(?s)<article.*</article>", api)[0]

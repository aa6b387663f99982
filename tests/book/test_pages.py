from aevb.book import pages
from aevb.book.pages import build


def test_a_warning_fails_the_build(small_book, tmp_path):
    assert build(small_book, tmp_path) == 0
    assert (tmp_path / "_build" / "html" / "book" / "page.html").exists()
    (small_book / "book" / "page.md").write_text("# Front\n\nText, {doc}`nowhere`.\n", encoding="utf-8")
    assert build(small_book, tmp_path) != 0


def test_what_tools_leave_beside_the_book_is_no_part_of_it(small_book, tmp_path):
    """The notes and copies of pytest, ruff and Jupyter are no pages; nor are README and the like."""
    for name in (".pytest_cache", ".ruff_cache", ".venv/lib", "book/.ipynb_checkpoints", "_build/old", "."):
        (small_book / name).mkdir(parents=True, exist_ok=True)
        (small_book / name / "README.md").write_text("# A note\n", encoding="utf-8")
    assert build(small_book, tmp_path) == 0


PICKY = """
def setup(app):
    if app.keep_going:
        raise RuntimeError("not like this")
"""


def test_where_a_strict_build_stops_the_page_is_built_without_strictness(small_book, tmp_path):
    assert pages.build_anyhow(small_book, tmp_path) == ""
    (small_book / "picky.py").write_text(PICKY, encoding="utf-8")
    settings = small_book / "_config.yml"
    settings.write_text(
        settings.read_text(encoding="utf-8").replace("sphinx:\n", "sphinx:\n  local_extensions: {picky: ./}\n"),
        encoding="utf-8",
    )
    assert pages.build_anyhow(small_book, tmp_path).endswith("was built again without regard to them")
    assert pages.whole(small_book, tmp_path)
    (small_book / "picky.py").write_text(PICKY.replace("app.keep_going", "True"), encoding="utf-8")
    assert pages.build_anyhow(small_book, tmp_path) == "the page, for the reasons above"
    assert not pages.whole(small_book, tmp_path)


def test_a_page_that_lacks_a_chapter_is_not_whole(tmp_path):
    (tmp_path / "_toc.yml").write_text("root: book/a.ipynb\nparts:\n- chapters:\n  - file: book/b\n", encoding="utf-8")
    for name in ("index", "book/a", "book/b"):
        assert not pages.whole(tmp_path, tmp_path)
        path = tmp_path / "_build" / "html" / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert pages.whole(tmp_path, tmp_path)

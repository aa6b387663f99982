"""Every page in a browser: what it asks for, what it logs, how it fits a phone, whether everyone can read it.

Chromium shows the built book, served locally; every other host is out of reach.
"""

import contextlib
import functools
import json
import re
import shutil
import sys
import tomllib
from dataclasses import dataclass, field
from types import SimpleNamespace

import anywidget
import nbformat
import pytest
import yaml
from playwright.sync_api import sync_playwright

from aevb.book import extension, notebooks, pages, sources
from tests.browser import CHROMIUM, KNOWN, served
from tests.written import write

PAGES = [f"book/{path.stem}" for path in sorted(notebooks.BOOK.glob("*.md"))]
each_page = pytest.mark.parametrize("name", PAGES)
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
# without formulas, which bring MathJax's own words for screen readers, and code, whose colours are tried on one page
VIOLATIONS = """({within, options}) => axe.run(within, {resultTypes: ['violations'], ...options})
  .then(({violations}) => violations.filter(rule => ['serious', 'critical'].includes(rule.impact))
    .flatMap(rule => rule.nodes.map(node => `${rule.id}: ${node.html.slice(0, 120)}`)))"""
TEXT = {"exclude": ["mjx-container", ".highlight"]}
COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"]}  # the rules that depend on the theme
# what reaches beyond the page's edge and does not scroll inside something that fits
TOO_WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('body *')]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 120))"""
# what a page weighs before compression: itself with its pictures, and scripts and styles, which pages share
WEIGHT = """() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
  .reduce((sum, {name, decodedBodySize}) => {
    sum[/[.](js|css|woff2?)([?]|$)/.test(name) ? 'shared' : 'own'] += decodedBodySize; return sum;
  }, {own: 0, shared: 0})"""


@dataclass
class Seen:
    """What a page did in the browser."""

    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    formulas: int = 0
    unread_formulas: list[str] = field(default_factory=list)
    violations: dict[str, list[str]] = field(default_factory=dict)
    too_wide: list[str] = field(default_factory=list)
    weight: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def serve():
    """A function that serves a folder and gives the address."""
    with contextlib.ExitStack() as servers:
        yield lambda folder: servers.enter_context(served(folder))


@pytest.fixture(scope="module")
def window():
    """A browser's window, of a reader who has set nothing."""
    if not CHROMIUM:
        pytest.skip("no chromium here: apt-get install chromium")
    if not extension.packages():
        pytest.skip("no npm here, which brings the pages their scripts")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", ALONE])
        yield browser.new_context(viewport=DESK, color_scheme="light")
        browser.close()


@pytest.fixture(scope="module")
def origin(page, serve):
    return serve(page)


def abroad(url, origin) -> bool:
    return not url.startswith((f"{origin}/", "data:", "blob:"))


def open_page(window, origin, name, seen):
    """A page, its formulas set, with what it logged and asked for noted in `seen`."""

    tab = window.new_page()
    tab.on("request", lambda request: seen.elsewhere.append(request.url) if abroad(request.url, origin) else None)
    tab.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: seen.errors.append(str(error)))
    tab.goto(f"{origin}/{name}.html", wait_until="load")
    tab.evaluate("() => window.MathJax?.startup?.promise")
    seen.errors = [error for error in seen.errors if KNOWN not in error]
    return tab


def violations(tab, theme, within=TEXT, **options) -> list[str]:
    """What axe finds serious or critical on a page in a theme, a line each."""
    tab.add_script_tag(path=extension.packages() / "axe-core" / "axe.min.js")
    tab.add_style_tag(content="* { transition: none !important }")
    tab.emulate_media(color_scheme=theme)
    tab.wait_for_function(f"document.documentElement.dataset.theme === '{theme}'")
    return tab.evaluate(VIOLATIONS, {"within": within, "options": options})


def visit(window, origin, name) -> Seen:
    seen = Seen()
    tab = open_page(window, origin, name, seen)
    seen.formulas = tab.locator("mjx-container").count()
    seen.unread_formulas = tab.locator("mjx-merror, [data-mjx-error]").all_text_contents()
    seen.weight = tab.evaluate(WEIGHT)
    seen.violations = {"light": violations(tab, "light"), "dark": violations(tab, "dark", **COLOURS)}
    tab.set_viewport_size(PHONE)
    seen.too_wide = tab.evaluate(TOO_WIDE)
    tab.close()
    return seen


# the pages


@pytest.fixture(scope="module")
def look(window, origin):
    """What a page did, visited once for all tests."""
    return functools.cache(lambda name: visit(window, origin, name))


@each_page
def test_a_page_logs_no_error(look, name):
    assert look(name).errors == []


@each_page
def test_a_page_asks_nothing_of_another_host(look, name):
    assert look(name).elsewhere == []


@each_page
def test_every_formula_is_set(look, page, name):
    content = (page / f"{name}.html").read_text(encoding="utf-8")
    assert look(name).formulas == len(re.findall(r'<(?:div|span) class="[^"]*\bmath notranslate', content))
    assert look(name).unread_formulas == []


@each_page
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everyone_can_read_a_page(look, name, theme):
    assert look(name).violations[theme] == []


@each_page
def test_a_page_fits_a_phone(look, name):
    assert look(name).too_wide == []


@each_page
def test_a_page_is_light(look, name):
    """At most 1.6 MB of its own, 3 MB where it carries models: else smaller pictures. `pytest -rP` shows each."""
    weight = look(name).weight
    print(f"{name}: {weight['own'] / 1e3:,.0f} kB, and {weight['shared'] / 1e3:,.0f} kB that pages share")
    assert 10e3 < weight["own"] < (3e6 if name.endswith("explore_the_manifold") else 1.6e6)
    assert 100e3 < weight["shared"] < 8e6  # the widgets' scripts are the heaviest, 3.6 MB


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everyone_can_read_code(window, origin, theme):
    tab = open_page(window, origin, "book/07_vae", Seen())
    assert tab.locator(".highlight").count() > 5
    assert violations(tab, theme, ".highlight", **COLOURS) == []


def test_the_search_finds_a_chapter(window, origin):
    seen = Seen()
    tab = open_page(window, origin, "search", seen)
    tab.goto(f"{origin}/search.html?q=reparameterization")
    tab.locator("#search-results a[href*='06_reparameterization']").first.wait_for()
    assert [error for error in seen.errors if KNOWN not in error] == seen.elsewhere == []


WRONG = {
    "errors": "<script>throw new Error('a mistake')</script>",
    "elsewhere": "<img src='https://example.org/a.png' alt='of another host'>",
    "unread_formulas": r"<div class='math notranslate nohighlight'>\[\begin{split}1 \tag{24}\end{split}\]</div>",
    "light": "<style>html[data-theme=light] p { color: #aaa }</style><p>pale</p>",
    "dark": "<style>html[data-theme=dark] p { color: #555 }</style><p>dark</p>",
    "too_wide": "<div style='width: 400px'>wide</div>",
}


@pytest.mark.parametrize("wrong", [("errors", "elsewhere", "unread_formulas", "too_wide"), ("light", "dark")])
def test_what_is_wrong_with_a_page_is_seen(page, serve, window, tmp_path, wrong):
    for folder in ("_static", "_images"):
        shutil.copytree(page / folder, tmp_path / folder)
    right = (page / "book" / "08_kl_divergence.html").read_text(encoding="utf-8")
    before, article, after = right.partition('<article class="bd-article">')
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "a.html").write_text(
        before + article + "".join(WRONG[name] for name in wrong) + after, encoding="utf-8"
    )
    seen = visit(window, serve(tmp_path), "book/a")
    found = vars(seen) | seen.violations
    assert [name for name in wrong if not found[name]] == []
    assert "errors" in wrong or not seen.errors + seen.elsewhere + seen.unread_formulas + seen.too_wide


# the scripts


def test_the_lock_names_versions_and_checksums_and_no_registry():
    lock = json.loads(extension.LOCK.read_text(encoding="utf-8"))
    wanted = json.loads(extension.LOCK.with_name("package.json").read_text(encoding="utf-8"))
    assert {name: wanted[name] for name in ("dependencies", "devDependencies")}.items() <= lock["packages"][""].items()
    packages = {name.removeprefix("node_modules/"): entry for name, entry in lock["packages"].items() if name}
    assert {name: entry["version"] for name, entry in packages.items()} == {
        **wanted["dependencies"],
        **wanted["devDependencies"],
    }
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert "resolved" not in extension.LOCK.read_text(encoding="utf-8")
    assert not re.search("https?://", extension.LOCK.read_text(encoding="utf-8"))
    assert packages["anywidget"]["version"] == anywidget.__version__  # a widget asks for the version that made it


def test_every_package_is_served_with_its_licence(tmp_path):
    if not extension.packages():
        pytest.skip("no npm here")
    assert extension.serve(tmp_path)
    assert (
        extension.SERVED.keys()
        == json.loads(extension.LOCK.with_name("package.json").read_text(encoding="utf-8"))["dependencies"].keys()
    )
    for package in extension.SERVED:
        texts = [tmp_path / "vendor" / package / "LICENSE", *(notebooks.BOOK / "_static" / "licences").glob("*")]
        names = {package, *package.split("/")}
        assert any(text.exists() and (text.stem in names or text.parent.name in names) for text in texts), package


def test_without_npm_a_line_says_so_and_the_pages_ask_cdns(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(extension, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", "")
    stale = tmp_path / "static" / "vendor"
    stale.mkdir(parents=True)
    (stale / extension.LOCK.name).write_text("of another version", encoding="utf-8")
    assert not extension.serve(tmp_path / "static")
    assert capsys.readouterr().out == "No npm here: the pages will ask public CDNs for their scripts.\n"
    assert not stale.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a shell script")
def test_where_npm_fails_a_line_says_so(tmp_path, monkeypatch, capsys):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'the first reason' >&2\necho 'and more' >&2\nexit 1\n", encoding="utf-8")
    npm.chmod(0o755)
    monkeypatch.setattr(extension, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert not extension.serve(tmp_path / "static")
    line = "npm failed (the first reason): the pages will ask public CDNs for their scripts.\n"
    assert capsys.readouterr().out == line
    assert [path.name for path in (tmp_path / "_build" / "npm").iterdir()] == []


@pytest.mark.parametrize("served", [True, False])
def test_a_build_names_the_served_scripts_where_they_are(tmp_path, served):
    config = SimpleNamespace(html_static_path=["static"], mathjax_path="CDN", nb_ipywidgets_js={"CDN": {}})
    if served:
        (tmp_path / "static" / "vendor").mkdir(parents=True)
        shutil.copy(extension.LOCK, tmp_path / "static" / "vendor")
    extension.use_served_scripts(SimpleNamespace(srcdir=tmp_path), config)
    named = [config.mathjax_path, *config.nb_ipywidgets_js]
    assert named == ["CDN", "CDN"] or served
    assert all(("vendor/" in name) or name == "widgets.js" for name in named) == served


# what a page offers


def test_a_page_that_a_repository_builds_is_launched_from_there(small_book, tmp_path, monkeypatch):
    monkeypatch.setenv("AEVB_REPOSITORY", "https://github.com/me/fork")
    nbformat.write(notebooks.to_notebook(write(tmp_path / "a.md")), small_book / "book" / "page.ipynb")
    (small_book / "book" / "page.md").unlink()
    assert pages.build(small_book, tmp_path) == 0
    content = (tmp_path / "_build" / "html" / "book" / "page.html").read_text(encoding="utf-8")
    assert f'href="https://colab.research.google.com/github/me/fork/blob/{sources.BRANCH}/book/page.ipynb"' in content
    assert f'href="https://mybinder.org/v2/gh/me/fork/{sources.BRANCH}?urlpath=lab/tree/book/page.ipynb"' in content


def test_the_workflow_says_its_repository_and_publishes_what_the_buttons_open():
    workflow = yaml.safe_load((notebooks.ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8"))
    assert workflow["env"]["AEVB_REPOSITORY"] == "${{ github.server_url }}/${{ github.repository }}"
    commands = "\n".join(step.get("run", "") for step in workflow["jobs"]["publish"]["steps"])
    assert re.search(rf"-m aevb colab\nmake book\n(?s:.*)git push --force origin HEAD:{sources.BRANCH}\n", commands)


@pytest.mark.parametrize("chapter", [path.stem for path in notebooks.chapters()])
def test_a_page_built_elsewhere_offers_a_chapter_to_be_downloaded_and_no_dead_button(page, chapter):
    content = (page / "book" / f"{chapter}.html").read_text(encoding="utf-8")
    assert not re.search("colab.research|mybinder.org", content)
    assert f'href="../_sources/book/{chapter}.ipynb"' in content
    download = (page / "_sources" / "book" / f"{chapter}.ipynb").read_bytes()
    assert download == (notebooks.BOOK / f"{chapter}.ipynb").read_bytes()


def test_the_status_page_has_a_row_a_chapter(page):
    content = (page / "book" / "execution_status.html").read_text(encoding="utf-8")
    table = content[content.index("<table") : content.index("</table>")]
    rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)[1:]
    assert len(rows) == len(notebooks.chapters())
    for text, row in zip(notebooks.chapters(), rows, strict=True):
        assert f'href="{text.stem}.html"' in row
        assert ("no record" in row) == (not extension.execution(text).exists())


def test_the_citation_names_the_package_and_the_paper():
    citation = yaml.safe_load((notebooks.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((notebooks.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:1312.6114"

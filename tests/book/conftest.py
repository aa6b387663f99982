"""What the tests of widgets share: a browser over the built book."""

import functools

import pytest
from playwright.sync_api import sync_playwright

from tests.browser import CHROMIUM, KNOWN, break_script, served


@pytest.fixture(scope="module")
def site(page):
    """The address of the built book."""
    with served(page) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("no chromium here: the widgets are not tried in a browser")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def visit(chromium, site):
    """Open a chapter's page with all other hosts blocked; its errors must be none but the known one."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, has_touch=True)
    context.add_init_script("localStorage.setItem('mode', 'light')")
    context.route(lambda url: not url.startswith(site), lambda route: route.abort())
    errors = []

    def open_page(name: str, n_widgets: int = 1, broken: tuple[str, str] | None = None):
        tab = context.new_page()
        if broken:
            tab.route(f"**/{name}.html", functools.partial(break_script, *broken))
        tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(f"{site}/book/{name}.html")
        tab.wait_for_selector(".aevb-widget [data-name]:not(:empty)")
        assert tab.locator(".aevb-widget").count() == n_widgets
        return tab

    yield open_page
    context.close()
    assert [error for error in errors if KNOWN not in error] == []

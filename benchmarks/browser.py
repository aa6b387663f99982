"""The built book in headless Chromium."""

import contextlib
import sys
from collections.abc import Iterator

from playwright.sync_api import Page, sync_playwright

from aevb.book import pages
from tests.browser import CHROMIUM, served


@contextlib.contextmanager
def opened_book() -> Iterator[tuple[Page, str]]:
    """A tab, and the address at which the built book is served to it.

    Exits with 2, after a line that says what to do, where there is no Chromium or no built book.
    """
    if CHROMIUM is None or not pages.PAGE.exists():
        print("this needs chromium and the built page: run make book first", file=sys.stderr)
        raise SystemExit(2)
    with served(pages.PAGE.parent) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser.new_page(viewport={"width": 1200, "height": 900}), address

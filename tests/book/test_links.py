"""Links within the built book: every one leads to a page, and to a place on it."""

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from aevb.book import notebooks

CHAPTERS = sorted(path.stem for path in notebooks.BOOK.glob("*.md"))


class Links(HTMLParser):
    """The targets and the places of a page: what its links lead to, and what a link to it may name."""

    def __init__(self, text: str):
        super().__init__()
        self.targets: list[str] = []
        self.places = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.places |= {name for name in (named.get("id"), named.get("name") if tag == "a" else None) if name}
        if tag == "a" and (target := named.get("href") or named.get("xlink:href")):
            self.targets.append(target)


@cache
def links(path: Path) -> Links:
    return Links(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_link_leads_to_a_place(page, chapter):
    here = page / "book" / f"{chapter}.html"
    for target in links(here).targets:
        address = urlsplit(target)
        if address.scheme or address.netloc:
            continue
        there = (here.parent / unquote(address.path)).resolve() if address.path else here
        assert there.exists(), target
        opens_panel = address.fragment.startswith("choice--")  # the page's own script reads it
        if there.suffix == ".html" and not opens_panel:
            assert unquote(address.fragment) in links(there).places, target

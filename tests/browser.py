"""Debian's or another Chromium, a server for the pages that it is shown, and what one does with widgets there."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"  # which is on no PATH
CHROMIUM = next(filter(None, map(shutil.which, (*NAMES, MACOS))), None)
# the one error a page may log: sphinx-thebe and the theme both declare it; nothing follows from it
KNOWN = "Identifier 'THEBE_JS_URL' has already been declared"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which `folder` is served on this machine."""
    handler = functools.partial(_Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def break_script(right: str, wrong: str, route: Route) -> None:
    """Serve a page whose widget's script has `wrong` in place of `right`, as the page's JSON writes them."""
    page = route.fetch()
    assert page.text().count(json.dumps(right)[1:-1]) == 1
    route.fulfill(response=page, body=page.text().replace(json.dumps(right)[1:-1], json.dumps(wrong)[1:-1]))


def drag(tab: Page, canvas: Locator, *points: tuple[float, float], steps: int = 8) -> None:
    """Press at the first point, move through the others, let go; in shares of the canvas's width and height."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None  # it is on the page
    places = [(box["x"] + a * box["width"], box["y"] + b * box["height"]) for a, b in points]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    for place in places[1:]:
        tab.mouse.move(*place, steps=steps)
    tab.mouse.up()
    frames(tab)


def frames(tab: Page) -> None:
    """Wait until the last change is drawn."""
    tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def shown(tab: Page, name: str) -> list[float]:
    """The numbers in the readout called `name`."""
    text = tab.locator(f'[data-name="{name}"]').inner_text().replace("\N{MINUS SIGN}", "-")
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]


def pixels(canvas: Locator) -> torch.Tensor:
    """The grey levels of a picture, `(height * width,)`, in [0, 1]."""
    values = canvas.evaluate("c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)")
    return torch.tensor(values).reshape(-1, 4)[:, 0] / 255

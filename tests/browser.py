"""Debian's or another Chromium, and a server for the pages that it is shown."""

import contextlib
import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

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

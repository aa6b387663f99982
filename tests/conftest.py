"""What the tests share: a seed, a model whose answers are known, small data, an empty record, a small book, the book,
and a browser.

And what "unbiased" and "anonymous" mean.
"""

import dataclasses
import functools
import getpass
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import Tensor

from aevb import datasets
from aevb.book import notebooks, pages
from aevb.datasets import BERNOULLI, Dataset, Images, Splits
from aevb.model import LinearGaussian
from aevb.reproduction import provenance, results
from tests.browser import CHROMIUM, KNOWN, break_script, served

if os.environ.get("AEVB_DATA"):
    os.environ["AEVB_DATA"] = str(Path(os.environ["AEVB_DATA"]).resolve())  # tests change folder
os.environ.pop("AEVB_REPOSITORY", None)  # the page is built as anywhere, not by the repository's workflow
torch.set_num_threads(1)
pytest.register_assert_rewrite("tests.runs")


@pytest.fixture
def checkout() -> Path:
    """This tree; what asks git about it is skipped where git does not know it."""
    try:
        provenance.commit()
    except ValueError as reason:
        pytest.skip(str(reason))
    return notebooks.ROOT


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """An empty results folder. It reaches this process alone: with jobs=1, joblib starts no other."""
    monkeypatch.setattr(results, "ROOT", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def linear_gaussian() -> LinearGaussian:
    """D = 3, J = 2, correlated posterior, and a q that is off its optimum in mean and in variance."""
    source = torch.Generator().manual_seed(1)
    W, b = torch.randn(3, 2, generator=source).double(), torch.randn(3, generator=source).double()
    model = LinearGaussian(W, b, 0.7)
    with torch.no_grad():
        model.V += 0.1 * torch.randn(2, 3, generator=source)
        model.log_var += torch.tensor([0.4, -0.3])
    return model


@pytest.fixture
def x() -> Tensor:
    """Four datapoints, `(4, 3)`, for `linear_gaussian`."""
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(2)).double()


@pytest.fixture
def tiny(monkeypatch) -> Images:
    """64 training and 32 test images of 20 random pixels, from dark to bright, in place of every dataset's."""
    random = torch.randint(0, 256, (96, 20), generator=torch.Generator().manual_seed(0))
    pixels = (random * torch.linspace(0, 1, 20)).to(torch.uint8)
    splits = Splits(pixels[:64], pixels[:0], pixels[64:], {})
    about = Dataset("tiny", "Tiny", lambda: splits, (4, 5), BERNOULLI)
    monkeypatch.setitem(datasets.DATASETS, "tiny", about)

    def load(name: str) -> Images:
        likelihood = datasets.get(name).likelihood
        return Images(dataclasses.replace(about, name=name, likelihood=likelihood), *splits)

    monkeypatch.setattr("aevb.trainer.load", load)
    return Images(about, *splits)


def assert_unbiased(estimates: Tensor, exact: Tensor, precision: float) -> None:
    """The mean over the first axis is within 4 standard errors of `exact`, and they are below `precision`."""
    error = estimates.std(0) / len(estimates) ** 0.5
    assert error.max() < precision, f"a standard error of {error.max():.2g} proves too little"
    rounding = 1e-12 * exact.abs().max()
    assert ((estimates.mean(0) - exact).abs() <= 4 * error + rounding).all()


def assert_anonymous(text: str) -> None:
    """It names neither this machine nor who uses it nor a folder."""
    for name in {platform.node(), getpass.getuser()} - {""}:
        assert not re.search(rf"\b{re.escape(name)}\b", text)
    assert not re.search(r"(?<![\w<])(/|[A-Z]:\\\\)\w+", text), "an absolute path"


@pytest.fixture
def small_book(tmp_path) -> Path:
    """A project with the book's own settings and one page."""
    source = tmp_path / "source"
    shutil.copytree(notebooks.BOOK / "_static", source / "book" / "_static")
    shutil.copy(notebooks.BOOK / "references.bib", source / "book")
    shutil.copy(notebooks.ROOT / "_config.yml", source)
    (source / "_toc.yml").write_text("format: jb-book\nroot: book/page\n", encoding="utf-8")
    (source / "book" / "page.md").write_text("# Front\n\nText.\n", encoding="utf-8")
    return source


@pytest.fixture(scope="session")
def page(tmp_path_factory) -> Path:
    """The book built from what is committed, warnings being errors: once, whichever process needs it first."""
    folder = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        folder = folder.parent  # what the processes of one session share
    folder = folder / "the-book"
    with FileLock(f"{folder}.lock"):
        done = folder / "status"
        if not done.exists():
            status = pages.build(output=folder)
            done.write_text(str(status), encoding="utf-8")
    assert done.read_text(encoding="utf-8") == "0"
    return folder / "_build" / "html"


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What a test adds to the datasets is unknown to the next."""
    yield
    for name in set(datasets.DATASETS) - set(datasets.TITLES):
        del datasets.DATASETS[name]  # in place: modules import it by name
        datasets._loaded.pop(name, None)


@pytest.fixture
def noise() -> np.ndarray:
    """200 images of 4 x 6 random bytes, from dark to bright, `(200, 4, 6)`."""
    ramp = np.linspace(0, 1, 24).reshape(4, 6)
    return (np.random.RandomState(0).randint(0, 256, (200, 4, 6)) * ramp).astype(np.uint8)


# a browser over the built book


@pytest.fixture(scope="module")
def site(page):
    """The address of the built book."""
    with served(page) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("no chromium here: the widgets are not tried in a browser")
    from playwright.sync_api import sync_playwright  # late: most tests have no use for it

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

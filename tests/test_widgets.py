"""The widgets: what they carry, and, in a browser over the built book, that they show the numbers Python computes."""

import functools
import http.server
import re
import shutil
import threading
import time

import numpy as np
import pytest
import torch
from playwright.sync_api import sync_playwright

from aevb import book, bounds, data, experiments, results, widgets

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
KNOWN = "THEBE_JS_URL"  # declared twice by the theme: the one error a page may log


# what they carry


def test_packed_numbers_are_half_precision_and_nothing_less():
    values = torch.cat([torch.randn(1000, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, 6e-8, 65504])])
    packed = widgets.pack(values)
    assert torch.equal(widgets.unpack(packed), values.half().float())
    with pytest.raises(ValueError, match="not finite in half precision"):
        widgets.pack(torch.tensor([1.0, 70000.0]))


@pytest.mark.parametrize("run", experiments.figure4("standard"), ids=lambda run: run.dataset)
def test_a_recorded_model_is_carried_without_loss(run):
    """Its record is in half precision already."""
    model = results.recorded_model(run)
    carried = widgets.unpack_network(widgets.pack_network(model, ("decoder", "encoder")))
    assert carried.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(carried[name], tensor), name


def test_quadrature_is_exact_for_polynomials():
    """Moments of N(0, 1): 1, 0, 1, 0, 3, 0, 15, 0, 105, and not the tenth, 945."""
    rule = widgets.quadrature(5)
    nodes, masses = np.array(rule["nodes"]), np.array(rule["masses"])
    np.testing.assert_allclose([masses @ nodes**k for k in range(9)], [1, 0, 1, 0, 3, 0, 15, 0, 105], atol=1e-12)
    assert abs(masses @ nodes**10 - 945) > 1


@pytest.mark.parametrize("name", sorted(path.stem for path in widgets.SCRIPTS.glob("*.js") if path.stem != "shared"))
def test_a_script_is_one_module_that_imports_nothing(name):
    text = widgets.script(name)
    assert not re.search(r"^\s*import\b|from \"", text, re.MULTILINE)
    assert text.count("export default") == 1
    assert "class Plane" in text


# in a browser


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(page):
    """The address of the built book, served from this machine."""
    handler = functools.partial(Quiet, directory=page)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("no chromium here: the widgets are not tried in a browser")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def visit(chromium, site):
    """Opens a chapter's page with all other hosts blocked; its errors must be none but the known one."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, has_touch=True)
    context.route(lambda url: not url.startswith(site), lambda route: route.abort())
    errors = []

    def open_page(name: str, n_widgets: int = 1):
        tab = context.new_page()
        tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(f"{site}/book/{name}.html")
        tab.wait_for_selector(".aevb-widget dd:not(:empty)")
        assert tab.locator(".aevb-widget").count() == n_widgets
        return tab

    yield open_page
    context.close()
    assert [error for error in errors if KNOWN not in error] == []


def drag(tab, canvas, *points: tuple[float, float], steps: int = 8) -> None:
    """Press at the first point, move through the others, let go; in shares of the canvas's width and height."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    places = [(box["x"] + a * box["width"], box["y"] + b * box["height"]) for a, b in points]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    for place in places[1:]:
        tab.mouse.move(*place, steps=steps)
    tab.mouse.up()
    frames(tab)


def frames(tab) -> None:
    """Wait until what was asked for is drawn."""
    tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def shown(tab, name: str) -> list[float]:
    """The numbers in the readout called `name`."""
    text = tab.locator(f'[data-name="{name}"]').inner_text().replace("\N{MINUS SIGN}", "-")
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]


def pixels(canvas) -> torch.Tensor:
    """The grey levels of a picture, `(height * width,)`, in [0, 1]."""
    values = canvas.evaluate("c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)")
    return torch.tensor(values).reshape(-1, 4)[:, 0] / 255


@pytest.fixture(scope="module")
def models():
    return {run.dataset: results.recorded_model(run).requires_grad_(False) for run in experiments.figure4("standard")}


EXPLORER = "22_explore_the_manifold"


def decoded(models, name: str, z: list[float]) -> torch.Tensor:
    """The picture of z as it should be shown: digits black on white."""
    mean = models[name].decoder.mean(torch.tensor(z))
    return mean if name == "frey" else 1 - mean


def plane(tab):
    return tab.get_by_role("application", name="Latent plane")


@pytest.mark.parametrize("name", ["mnist", "frey"])
def test_the_image_follows_the_point_that_is_dragged(visit, models, name):
    tab = visit(EXPLORER)
    tab.get_by_label(data.TITLES[name]).check()
    picture = tab.locator(".aevb-stack canvas:visible")
    seen = []
    for path in ([(0.5, 0.5), (0.3, 0.4)], [(0.6, 0.6), (0.8, 0.2)], [(0.5, 0.5), (0.45, 0.75)]):
        drag(tab, plane(tab), *path)
        z = shown(tab, "z")
        assert (pixels(picture) - decoded(models, name, z)).abs().max() <= 1 / 255
        seen.append(z)
    (left, above), (right, higher), (_, low) = seen
    assert left < 0 < right and low < 0 < above < higher

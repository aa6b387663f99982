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
    values = torch.cat(
        [torch.randn(1000, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, 6e-8, 65504])]
    )
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
    context.add_init_script("localStorage.setItem('mode', 'light')")
    context.route(lambda url: not url.startswith(site), lambda route: route.abort())
    errors = []

    def open_page(name: str, n_widgets: int = 1):
        tab = context.new_page()
        tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(f"{site}/book/{name}.html")
        tab.wait_for_selector(".aevb-widget [data-name]:not(:empty)")
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


def test_arrow_keys_move_the_point_and_stop_at_the_edge(visit, models):
    tab = visit(EXPLORER)
    plane(tab).focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowLeft", "Shift+ArrowDown"):
        plane(tab).press(key)
    frames(tab)
    assert shown(tab, "z") == [0.19, 0.09]
    assert (
        pixels(tab.locator(".aevb-stack canvas:visible")) - decoded(models, "mnist", [0.19, 0.09])
    ).abs().max() <= 1 / 255
    assert "0.19, 0.09" in plane(tab).get_attribute("aria-label")
    for _ in range(80):
        plane(tab).press("ArrowLeft")
    edge = shown(tab, "z")[0]
    assert edge <= -3 and 2 * edge == round(2 * edge)


def encoded(model, x: torch.Tensor) -> dict:
    """What the explorer says of `x` `(784,)`, by another rule of quadrature."""
    mu, log_var = (part[0] for part in model.posterior(x[None]))
    rule = {name: torch.tensor(values).float() for name, values in widgets.quadrature(12).items()}
    z = mu + torch.exp(0.5 * log_var) * torch.cartesian_prod(rule["nodes"], rule["nodes"])
    masses = torch.cartesian_prod(rule["masses"], rule["masses"]).prod(-1)
    reconstruction = (masses * model.decoder.log_prob(x, z)).sum()
    kl = bounds.kl_to_prior(mu, log_var)
    return {
        "mean": mu, "sd": torch.exp(0.5 * log_var), "reconstruction": reconstruction, "kl": kl,
        "elbo": reconstruction - kl,
    }  # fmt: skip


def assert_encoded(tab, model) -> None:
    """What stands there is what Python's encoder and decoder make of the picture that it shows."""
    x = 1 - pixels(tab.get_by_role("img", name="What the encoder sees"))
    wanted = encoded(model, x)
    for name, tolerance in (("mean", 1e-3), ("sd", 1e-3), ("kl", 0.01), ("reconstruction", 0.1), ("elbo", 0.15)):
        error = torch.tensor(shown(tab, name)) - wanted[name]
        assert error.abs().max() <= tolerance, name
    again = 1 - pixels(tab.get_by_role("img", name="Reconstruction"))
    assert (again - model.decoder.mean(wanted["mean"])).abs().max() <= 1 / 255


def pad(tab):
    return tab.get_by_role("application", name="Drawing pad")


def test_a_drawing_is_encoded(visit, models):
    tab = visit(EXPLORER)
    assert tab.locator('[data-name="mean"]').inner_text() == "draw a digit"
    drag(tab, pad(tab), (0.3, 0.2), (0.7, 0.2), (0.45, 0.8))  # a seven
    x = 1 - pixels(tab.get_by_role("img", name="What the encoder sees")).reshape(28, 28)
    rows, columns = (x.sum(axis) @ (torch.arange(28) + 0.5) / x.sum() for axis in (1, 0))
    assert abs(rows - 14) < 0.1 and abs(columns - 14) < 0.1  # centred by mass, as MNIST is
    assert 19 <= (x.sum(1) > 0).sum() <= 22
    assert_encoded(tab, models["mnist"])
    before = shown(tab, "mean")
    drag(tab, pad(tab), (0.35, 0.5), (0.7, 0.5))  # with a bar
    assert shown(tab, "mean") != before
    assert_encoded(tab, models["mnist"])
    tab.get_by_role("button", name="Clear").click()
    assert tab.locator('[data-name="mean"]').inner_text() == "draw a digit"


def test_where_and_how_large_one_draws_does_not_matter(visit):
    tab = visit(EXPLORER)
    seen = []
    for shift, scale in ((0.0, 1.0), (0.3, 0.6)):
        tab.get_by_role("button", name="Clear").click()
        drag(tab, pad(tab), *((shift + scale * a, shift + scale * b) for a, b in ((0.3, 0.2), (0.7, 0.2), (0.45, 0.8))))
        seen.append(pixels(tab.get_by_role("img", name="What the encoder sees")))
    assert (seen[0] - seen[1]).abs().mean() < 0.01


def test_a_test_digit_is_encoded(visit, models):
    tab = visit(EXPLORER)
    digits = data.load("mnist")
    for digit in (0, 7):
        tab.get_by_role("button", name=f"Encode a test digit {digit}").click()
        x = 1 - pixels(tab.get_by_role("img", name="What the encoder sees"))
        first = int((digits.labels["test"] == digit).nonzero()[0])
        assert torch.equal((255 * x).round().to(torch.uint8), digits.test[first])
        assert_encoded(tab, models["mnist"])


def test_one_can_draw_with_the_keyboard(visit, models):
    tab = visit(EXPLORER)
    pad(tab).focus()
    for key in ["ArrowUp"] * 5 + [" "] + ["ArrowDown"] * 10 + [" "]:
        pad(tab).press(key)
    frames(tab)
    assert_encoded(tab, models["mnist"])
    x = 1 - pixels(tab.get_by_role("img", name="What the encoder sees")).reshape(28, 28)
    assert 2 <= (x.sum(0) > 0).sum() <= 5 and (x.sum(1) > 0).sum() >= 19  # a one


def test_one_can_drag_by_touch(visit, models):
    tab = visit(EXPLORER)
    plane(tab).scroll_into_view_if_needed()
    box = plane(tab).bounding_box()
    session = tab.context.new_cdp_session(tab)
    for kind, share in (("touchStart", 0.5), ("touchMove", 0.6), ("touchMove", 0.7), ("touchEnd", None)):
        where = [{"x": box["x"] + share * box["width"], "y": box["y"] + 0.3 * box["height"]}] if share else []
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})
    frames(tab)
    z = shown(tab, "z")
    assert z[0] > 0.5
    assert (pixels(tab.locator(".aevb-stack canvas:visible")) - decoded(models, "mnist", z)).abs().max() <= 1 / 255


COUNT_FRAMES = """() => {
  window.painted = new Set();
  const put = CanvasRenderingContext2D.prototype.putImageData;
  CanvasRenderingContext2D.prototype.putImageData = function (...all) {
    window.painted.add(document.timeline.currentTime);
    return put.apply(this, all);
  };
}"""


def test_dragging_renders_at_thirty_frames_a_second(visit, record_property):
    tab = visit(EXPLORER)
    drag(tab, plane(tab), (0.5, 0.5), (0.4, 0.4))  # warm
    box = plane(tab).bounding_box()
    tab.evaluate(COUNT_FRAMES)
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.down()
    start = tab.evaluate("performance.now()")
    begun = time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < 2:
        angle = 6 * elapsed
        tab.mouse.move(
            *(box[a] + box[b] * (0.5 + 0.3 * f(angle)) for a, b, f in (("x", "width", np.cos), ("y", "height", np.sin)))
        )
    painted, end = tab.evaluate("[window.painted.size, performance.now()]")
    tab.mouse.up()
    rate = 1000 * painted / (end - start)
    record_property("frames_per_second", rate)
    print(f"{rate:.0f} frames a second")
    assert rate >= 30


def test_the_page_of_the_explorer_is_light(page):
    """With its own pictures; the scripts that all pages share come besides."""
    text = (page / "book" / f"{EXPLORER}.html").read_text(encoding="utf-8")
    pictures = {name for name in re.findall(r'src="\.\./(_images/[^"]+)"', text)}
    assert pictures
    assert len(text.encode()) + sum((page / name).stat().st_size for name in pictures) <= 3e6

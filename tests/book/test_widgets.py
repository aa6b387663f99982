"""The widgets: their contents, and in a browser over the built book, that their numbers are Python's."""

import base64
import functools
import json
import math
import re

import nbformat
import numpy as np
import pytest
import torch

from aevb import bounds, datasets, gaps, hmc
from aevb.book import notebooks, widgets
from aevb.model import LinearGaussian, bernoulli_vae
from aevb.reproduction import experiments, results
from aevb.run import Run
from aevb.trainer import Trainer
from tests.browser import drag, frames, pixels, shown

# their contents


def test_packed_numbers_are_half_precision_and_nothing_less():
    values = torch.cat(
        [torch.randn(1000, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, 6e-8, 65504])]
    )
    packed = widgets.pack(values)
    assert torch.equal(widgets.unpack(packed), values.half().float())
    with pytest.raises(ValueError, match="not finite in half precision"):
        widgets.pack(torch.tensor([1.0, 70000.0]))


@pytest.mark.parametrize("run", experiments.runs("figure4", "standard"), ids=lambda run: run.dataset)
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


@pytest.mark.parametrize(
    "name",
    sorted({path.stem for path in widgets.SCRIPTS.glob("*.js")} - {"shared", "gap", "gap_panel", "trainer", "worker"}),
)
def test_a_script_is_one_module_that_imports_nothing(name):
    text = widgets.script(name)
    assert not re.search(r"^\s*import\b|from \"", text, re.MULTILINE)
    assert text.count("export default") == 1
    assert text.count("class Plane extends") == 1


def test_the_panel_trains_what_its_controls_say():
    panel = widgets.TrainingPanel()
    panel.hidden.value, panel.latent_dim.value, panel.step_size.value, panel.samples.value = 50, 3, 0.02, 20_000
    panel.button.click()
    (points,) = panel.curves.values()
    trainer = Trainer(Run("mnist", "aevb", latent_dim=3, hidden=50, step_sizes=(0.02,)), 0.02)
    trainer.advance(5000)
    assert points[0] == (5000, trainer.running_average())
    assert [samples for samples, _ in points] == [5000, 10_000, 15_000, 20_000]
    assert points[-1][1] > points[0][1] + 100  # nats
    assert bytes(panel.picture.value).startswith(b"\x89PNG")
    panel.latent_dim.value = 4
    panel.button.click()
    assert len(panel.curves) == 2


# in a browser


@pytest.fixture(scope="module")
def models():
    runs = experiments.runs("figure4", "standard")
    return {run.dataset: results.recorded_model(run).requires_grad_(False) for run in runs}


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
    tab.get_by_label(datasets.TITLES[name]).check()
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
    frames(tab)
    edge = shown(tab, "z")[0]
    assert edge <= -3 and 2 * edge == round(2 * edge)


def encoded(model, x: torch.Tensor) -> dict:
    """The explorer's readouts for `x` `(784,)`, by another rule of quadrature."""
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
    """The readouts are those of Python's encoder and decoder for the picture shown."""
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
    drag(tab, pad(tab), (0.3, 0.2), (0.7, 0.2), (0.45, 0.8))  # a seven, in place of what was there
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


def test_the_explorer_opens_with_a_digit_drawn_encoded_and_placed(visit, models):
    tab = visit(EXPLORER)
    x = 1 - pixels(tab.get_by_role("img", name="What the encoder sees")).reshape(28, 28)
    assert (x.sum(1) > 0).sum() >= 19 and 30 < x.sum() < 200
    ink = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 == 3 && v).length"
    assert pad(tab).evaluate(ink) > 500
    assert_encoded(tab, models["mnist"])
    settled(tab)
    page = tab.locator(".bd-article")
    assert page.evaluate(
        "a => !(a.querySelector('.aevb-widget').compareDocumentPosition(a.querySelector('.highlight, details')) & 2)"
    )  # nothing of code before it


def settled(tab) -> None:
    """Wait until the gap of the present drawing is known."""
    tab.wait_for_function("/nats/.test(document.querySelector('[data-name=evidence]').textContent)", timeout=60_000)


def assert_split(tab, model) -> gaps.Gaps:
    """All five numbers are those of Python for the picture shown, to 0.02 nat, and they add up."""
    settled(tab)
    x = 1 - pixels(tab.get_by_role("img", name="What the encoder sees"))
    wanted = gaps.split(model, ((255 * x).round() / 255)[None].double())
    named = {"evidence": wanted.log_px, "bound": wanted.bound, "best-bound": wanted.best} | {
        name: getattr(wanted, name) for name in ("amortization", "family")
    }
    ours = {name: shown(tab, name)[0] for name in named}
    for name, value in named.items():
        assert abs(ours[name] - value.item()) <= 0.02, name
    assert abs(ours["bound"] + ours["amortization"] + ours["family"] - ours["evidence"]) <= 0.02
    assert abs(shown(tab, "elbo")[0] - ours["bound"]) <= 0.06  # the same number, above
    return wanted


@pytest.fixture(scope="module")
def exact():
    """The digits' model in double precision."""
    (run,) = (run for run in experiments.runs("figure4", "standard") if run.dataset == "mnist")
    return results.recorded_model(run).double().requires_grad_(False)


def test_the_gap_of_what_is_drawn_or_chosen_is_pythons(visit, exact):
    tab = visit(EXPLORER)
    assert_split(tab, exact)
    larger = set()
    for digit in (0, 1, 4, 9):
        tab.get_by_role("button", name=f"Encode a test digit {digit}").click()
        found = assert_split(tab, exact)
        words = tab.locator(".aevb-verdict").inner_text()
        larger.add(words.split(" costs")[0])
        assert words.startswith("Amortization") == bool(found.amortization > found.family)
    drag(tab, pad(tab), (0.3, 0.2), (0.7, 0.2), (0.45, 0.8))
    assert tab.locator('[data-name="evidence"]').inner_text() == "\N{HORIZONTAL ELLIPSIS}"  # while it is drawn
    assert_split(tab, exact)
    tab.get_by_role("button", name="Clear").click()
    frames(tab)
    assert tab.locator('[data-name="evidence"]').inner_text() == "\N{EN DASH}"


BROKEN = {  # what each changes in the page's arithmetic, and the number that it spoils
    "evidence": ("2 * Math.log(step * UNIT)", "Math.log(step * UNIT)"),
    "best-bound": ("const error = this.x[i] - sigmoid(logit);", "const error = sigmoid(logit) - this.x[i];"),
    "bound": ("const entropy = (p) => p[2] + p[3] + 1", "const entropy = (p) => p[2] + p[3]"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_arithmetic_of_the_gap_is_noticed(visit, exact, name):
    tab = visit(EXPLORER, broken=BROKEN[name])
    tab.get_by_role("button", name="Encode a test digit 6").click()  # where to begin is not near enough
    with pytest.raises(AssertionError, match=name):
        assert_split(tab, exact)


def test_the_page_has_its_turns_while_the_gap_is_computed(visit):
    """The work comes in short slices, between which everything else does."""
    tab = visit(EXPLORER)
    settled(tab)
    tab.get_by_role("button", name="Encode a test digit 8").click()
    turns = tab.evaluate("""() => new Promise(done => {
      let turns = 0;
      const tick = () => {
        turns += 1;
        if (/nats/.test(document.querySelector('[data-name=evidence]').textContent)) done(turns);
        else setTimeout(tick, 1);
      };
      setTimeout(tick, 300);
    })""")
    assert turns > 10


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
    digits = datasets.load("mnist")
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


def test_the_page_of_the_explorer_is_light(page):
    """With its own pictures; the scripts that all pages share come besides."""
    text = (page / "book" / f"{EXPLORER}.html").read_text(encoding="utf-8")
    pictures = {name for name in re.findall(r'src="\.\./(_images/[^"]+)"', text)}
    assert pictures
    assert len(text.encode()) + sum((page / name).stat().st_size for name in pictures) <= 3e6


def state(text: str, widget: str) -> dict:
    """The state of the only widget of that name in the notebook called `text`, bytes as bytes."""
    notebook = nbformat.read(notebooks.BOOK / f"{text}.ipynb", as_version=4)
    models = notebook.metadata.widgets[notebooks.WIDGET_STATE]["state"].values()
    (model,) = (m for m in models if m["state"].get("_anywidget_id") == f"aevb.book.widgets.{widget}")
    kept = json.loads(json.dumps(model["state"]))
    for buffer in model.get("buffers", []):
        place = functools.reduce(lambda tree, name: tree[name], buffer["path"][:-1], kept)
        place[buffer["path"][-1]] = base64.b64decode(buffer["data"])
    return kept


def test_the_bound_and_the_divergence_share_out_the_evidence(visit):
    tab = visit("04_variational_bound")
    known = state("04_variational_bound", "Bound")
    model = LinearGaussian(
        torch.tensor(known["w"]).double()[:, None], torch.zeros(len(known["x"])).double(), known["s"]
    )
    x = torch.tensor(known["x"]).double()[None]
    mean, covariance = (part.squeeze() for part in model.exact_posterior(x))
    posterior = torch.distributions.Normal(mean, covariance.sqrt())
    canvas = tab.get_by_role("application", name="Plane of q")
    for path in ([(0.6, 0.5), (0.3, 0.3)], [(0.4, 0.4), (0.8, 0.8)], [(0.5, 0.5), (0.55, 0.67)]):
        drag(tab, canvas, *path)
        mu, sigma = (torch.tensor(shown(tab, name)[0]).double() for name in ("mu", "sigma"))
        with torch.no_grad():
            kl = torch.distributions.kl_divergence(torch.distributions.Normal(mu, sigma), posterior)
            spread = 0.5 * (sigma / model.s) ** 2 * model.W.square().sum()
            likelihood = model.log_likelihood(x, mu.reshape(1, 1, 1)).squeeze() - spread
            elbo = likelihood - bounds.kl_to_prior(mu[None], 2 * sigma.log()[None])
        wanted = {"kl": kl, "elbo": elbo, "sum": model.log_evidence(x)[0], "evidence": model.log_evidence(x)[0]}
        for name, value in wanted.items():
            assert abs(shown(tab, name)[0] - value) <= 0.001, name
    assert shown(tab, "kl")[0] < 0.5  # the last place is near the posterior


def test_both_estimators_of_the_gradient_have_the_spread_they_show(visit):
    tab = visit("06_reparameterization")
    eps = np.array(state("06_reparameterization", "Reparameterization")["eps"])
    canvas = tab.get_by_role("application", name="Plane of mu and sigma")
    for path in ([(0.6, 0.5), (0.3, 0.3)], [(0.4, 0.4), (0.9, 0.8)]):
        drag(tab, canvas, *path)
        (mu,), (sigma,) = shown(tab, "mu"), shown(tab, "sigma")
        many = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0)).double().numpy()
        wanted = {
            "pathwise": lambda e, mu=mu, sigma=sigma: 2 * (mu + sigma * e),
            "score": lambda e, mu=mu, sigma=sigma: (mu + sigma * e) ** 2 * e / sigma,
        }
        assert shown(tab, "gradient") == [round(2 * mu, 2)]
        for name, estimator in wanted.items():
            mean, deviation, exact = shown(tab, name)
            assert abs(mean - estimator(eps).mean()) <= 0.0051
            assert abs(deviation - estimator(eps).std(ddof=1)) <= 0.0051
            assert abs(exact / estimator(many).std() - 1) < 0.02  # of a million draws
            assert abs(estimator(many).mean() - 2 * mu) < 5 * exact / 1000
    before = shown(tab, "pathwise") + shown(tab, "score")
    tab.get_by_role("button", name="Draw new noise").click()
    assert shown(tab, "pathwise") + shown(tab, "score") != before


@pytest.fixture(scope="module")
def digit():
    """The posterior that chapter 11 carries, with the other values from which its widget starts."""
    known = state("11_marginal_likelihood", "Trajectories")
    weights = widgets.unpack_network(known["network"])
    n_pixels, n_hidden = weights["decoder.logit.weight"].shape
    model = bernoulli_vae(n_pixels, n_hidden, 2, generator=torch.Generator()).double().requires_grad_(False)
    model.load_state_dict(weights, strict=False)
    x = torch.tensor(list(known["x"])).double() / 255
    return hmc.posterior(model, x[None]), known


def choose(tab, label: str, value: int) -> None:
    tab.get_by_role("slider", name=label).evaluate(
        "(node, value) => { node.value = value; node.dispatchEvent(new Event('input')); }", value
    )


def test_a_trajectory_gains_the_energy_it_shows(visit, digit):
    tab = visit("11_marginal_likelihood")
    log_density, known = digit
    canvas = tab.get_by_role("application", name="Posterior of the digit")
    errors = []
    for ratio, count, end in ((0, 4, (0.5, 0.4)), (8, 9, (0.4, 0.5)), (-10, 30, (0.6, 0.6)), (16, 4, (0.5, 0.5))):
        choose(tab, "step size", ratio)
        choose(tab, "leapfrog steps", count)
        drag(tab, canvas, (0.5, 0.6), end)
        (size,), z, r = shown(tab, "size"), shown(tab, "z"), shown(tab, "r")
        assert size == pytest.approx(known["tuned"] * 10 ** (ratio / 20), rel=0.005)
        z, momentum, size = (torch.tensor(value, dtype=torch.float64) for value in (z, r, size))
        start = hmc.init(log_density, z.reshape(1, 1, 2))
        momentum = momentum.reshape(1, 1, 2)
        after, left = hmc.leapfrog(log_density, start, momentum, size, count)
        gained = start.log_density - after.log_density + 0.5 * (left.square().sum() - momentum.square().sum())
        assert shown(tab, "error")[0] == pytest.approx(gained.item(), abs=1e-3, rel=1e-6)
        assert abs(shown(tab, "acceptance")[0] - math.exp(min(0.0, -gained.item()))) <= 1e-3
        errors.append(abs(gained.item()))
    assert max(errors) > 0.5


def test_transitions_are_accepted_as_often_as_pythons(visit, digit):
    """400 transitions of one chain against those of 400 chains of Python, none of them with a varied step size."""
    tab = visit("11_marginal_likelihood")
    log_density, known = digit
    choose(tab, "step size", 4)
    (size,) = shown(tab, "size")
    for _ in range(4):
        tab.get_by_role("button", name="100 transitions").click()
    ours, n = shown(tab, "rate")
    assert n == 400
    generator = torch.Generator().manual_seed(0)
    state = hmc.init(log_density, torch.tensor(known["z"]).double().expand(400, 1, 2))
    rates = []
    for t in range(30):
        momentum = torch.randn(state.z.shape, generator=generator).double()
        after, left = hmc.leapfrog(log_density, state, momentum, size, 4)
        gain = after.log_density - state.log_density - 0.5 * (left.square() - momentum.square()).sum(-1)
        accepted = torch.rand(gain.shape, generator=generator).double() < gain.exp()
        state = hmc.State(
            *(
                torch.where(accepted.reshape(400, 1, *[1] * (a.ndim - 2)), a, b)
                for a, b in zip(after, state, strict=True)
            )
        )
        if t >= 15:
            rates.append(gain.clamp(max=0).exp().flatten())
    rates = torch.stack(rates)
    assert 0.3 < rates.mean() < 0.99
    assert abs(ours - rates.mean()) < 5 * rates.std() / math.sqrt(n / 3)  # draws of one chain hang together


@pytest.mark.parametrize(
    ("name", "label", "field"),
    [
        ("04_variational_bound", "Plane of q", "kl"),
        ("06_reparameterization", "Plane of mu and sigma", "score"),
        ("11_marginal_likelihood", "Posterior of the digit", "error"),
    ],
)
def test_arrow_keys_move_every_plane(visit, name, label, field):
    tab = visit(name)
    before = shown(tab, field)
    canvas = tab.get_by_role("application", name=label)
    canvas.focus()
    canvas.press("ArrowUp")
    assert shown(tab, field) != before


@pytest.mark.parametrize("name", [EXPLORER, "04_variational_bound", "06_reparameterization", "11_marginal_likelihood"])
def test_a_widget_fits_a_phone_and_turns_dark_with_the_page(visit, name):
    tab = visit(name)
    tab.set_viewport_size({"width": 360, "height": 740})
    canvas = tab.locator(".aevb-widget canvas").first
    canvas.scroll_into_view_if_needed()
    frames(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    assert canvas.bounding_box()["width"] > 200
    tick = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.reduce((a, b) => (a * 31 + b) % 1e9, 7)"
    light, ground = canvas.evaluate(tick), "getComputedStyle(document.querySelector('.aevb-widget')).backgroundColor"
    assert tab.evaluate(ground) == "rgb(255, 255, 255)"
    tab.evaluate("document.documentElement.dataset.theme = 'dark'")
    frames(tab)
    assert canvas.evaluate(tick) != light  # axes and all have been drawn again
    assert max(map(int, re.findall(r"\d+", tab.evaluate(ground)))) < 60


def test_a_chain_runs_and_pauses_but_not_for_readers_who_want_less_motion(visit):
    tab = visit("11_marginal_likelihood")
    tab.get_by_role("button", name="Run").click()
    tab.wait_for_function("parseInt(document.querySelector('[data-name=rate]').textContent.split('in')[1]) >= 2")
    tab.get_by_role("button", name="Pause").click()
    before = shown(tab, "rate")
    tab.wait_for_timeout(700)
    assert shown(tab, "rate") == before
    tab.emulate_media(reduced_motion="reduce")
    tab.reload()
    tab.wait_for_selector(".aevb-widget [data-name]:not(:empty)")
    assert not tab.get_by_role("button", name="Run").is_visible()
    assert tab.get_by_role("button", name="100 transitions").is_visible()


def test_numbers_are_said_aloud_once_they_rest(visit):
    tab = visit("04_variational_bound")
    canvas = tab.get_by_role("application", name="Plane of q")
    canvas.focus()
    canvas.press("ArrowUp")
    said = tab.get_by_role("status").filter(has_text="KL to the posterior")
    said.wait_for(state="attached")
    tab.wait_for_timeout(700)
    assert tab.locator('[data-name="kl"]').inner_text() in said.inner_text()


def test_paper_gets_the_figure_and_no_widget(visit):
    tab = visit(EXPLORER)
    tab.emulate_media(media="print")
    assert not tab.locator(".aevb-widget").is_visible()
    assert tab.locator("#fig-explorer img").is_visible()

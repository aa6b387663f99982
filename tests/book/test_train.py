"""The panel that trains in the page: its arithmetic against Python's, its parts, and what a reader sees of it."""

import zlib

import pytest
import torch

from aevb import backward, datasets
from aevb.book import train
from aevb.book.widgets import script
from aevb.model import VAE, bernoulli_vae
from aevb.objectives import aevb, wake_sleep
from aevb.optimizer import MapAdagrad
from aevb.reproduction import results, verdicts
from tests.browser import frames, pixels, shown

OBJECTIVES = {"aevb": aevb, "wake-sleep": wake_sleep}
PIXELS, HIDDEN, LATENTS, BATCH, STEPS, WARM_UP, PRIOR, STEP_SIZE = 196, 100, 3, 100, 100, 10, 0.01, 0.02
CHAPTER = "34_train_in_the_page"

# 100 steps in the browser from the weights and the noise of the file `steps.bin`: the bound of each, the tensors alive
RUN = """async ({backend, settings, weights, widths, wasm}) => {
  if (backend === "wasm") tf.wasm.setWasmPaths(wasm);
  await tf.setBackend(backend);
  const all = new Float32Array(await (await fetch("steps.bin")).arrayBuffer());
  let at = 0;
  const next = (rows, columns) => tf.tensor2d(all.slice(at, (at += rows * columns)), [rows, columns]);
  const layers = Object.fromEntries(Object.entries(weights).map(([name, { weight, bias }]) =>
    [name, { weight: tf.tensor2d(weight), bias: tf.tensor1d(bias) }]));
  const trainer = new Trainer(tf, settings, layers);
  const [bounds, alive] = [[], []];
  for (let i = 0; i < settings.steps; i++) {
    const noise = {};
    const x = next(settings.rows, settings.pixels);
    for (const [name, width] of Object.entries(widths)) noise[name] = next(settings.rows, width);
    trainer.step(x, noise);
    tf.dispose([x, ...Object.values(noise)]);
    bounds.push(await trainer.running(1));
    alive.push(tf.memory().numTensors);
  }
  return { bounds, alive, mu: Array.from(await trainer.layers["encoder.mu"].weight.data()) };
}"""


# the readouts of both bounds, by the samples beside them
NOTE_DOWN = """() => {
  window.seen = {};
  const field = (name) => document.querySelector(`.aevb-train [data-name=${name}]`);
  const number = (name) => parseFloat(field(name).textContent.replaceAll(",", "").replace("\\u2212", "-"));
  const note = () => { window.seen[number("samples")] = [number("bound"), number("test")]; };
  new MutationObserver(note).observe(field("test").parentNode.parentNode, { childList: true, subtree: true });
}"""


def reference(algorithm: str, slow_log_var: bool) -> tuple[VAE, dict, bytes, list[float], dict[str, int]]:
    """Python's 100 steps: the model at their end, its weights at their start, all they saw, the bounds, the noises."""
    generator = torch.Generator().manual_seed(0)
    model = bernoulli_vae(PIXELS, HIDDEN, LATENTS, generator=generator, slow_log_var=slow_log_var)
    weights = {
        name: {"weight": layer.weight.T.tolist(), "bias": layer.bias.tolist()}
        for name in ("decoder.hidden", "decoder.logit", "encoder.hidden", "encoder.mu", "encoder.log_var")
        if (layer := model.get_submodule(name))
    }
    digits = datasets.load("mnist")
    pixels = digits.unit(digits.train[:1000]).view(-1, 28, 28)[:, ::2, ::2].reshape(-1, PIXELS)
    by_hand = backward.by_hand(OBJECTIVES[algorithm], model, BATCH)
    optimizer = MapAdagrad(model, PRIOR)
    seen, bounds = [], []
    for step in range(STEPS):
        x = pixels[torch.randint(len(pixels), (BATCH,), generator=generator)]
        noise = {name: values.clone() for name, values in by_hand.draw([generator]).items()}
        seen += [x, *noise.values()]
        gradients, bound = by_hand(x, noise, optimizer.parameters)
        bounds.append(bound.mean().item())
        optimizer.step(gradients, STEP_SIZE if step >= WARM_UP else 0.0)
    data = torch.cat([values.flatten() for values in seen]).numpy().tobytes()
    return model, weights, data, bounds, {name: values.shape[-1] for name, values in noise.items()}


@pytest.fixture
def trained(chromium, site):
    """A function: 100 steps of an algorithm in the browser, with what Python has for them."""
    context = chromium.new_context()

    def run(algorithm: str, backend: str, slow_log_var: bool = False, broken: tuple[str, str] = ("", "")):
        model, weights, data, bounds, widths = reference(algorithm, slow_log_var)
        tab = context.new_page()
        tab.route("**/steps.bin", lambda route: route.fulfill(body=data))
        tab.goto(f"{site}/genindex.html")
        for name in ("core", "cpu", "wasm"):
            tab.add_script_tag(url=f"{site}/_static/{train.FILES[name]}")
        tab.add_script_tag(content=script("trainer").replace("export ", "").replace(*broken))
        settings = {
            "pixels": PIXELS, "hidden": HIDDEN, "latents": LATENTS, "rows": BATCH, "steps": STEPS, "warm_up": WARM_UP,
            "prior_weight": PRIOR, "step_size": STEP_SIZE, "algorithm": algorithm, "slow_log_var": slow_log_var,
        }  # fmt: skip
        binaries = ("wasm", "wasm-simd", "wasm-threaded-simd")
        wasm = {f"tfjs-backend-{name}.wasm": f"{site}/_static/{train.FILES['simd']}" for name in binaries}
        about = {"backend": backend, "settings": settings, "weights": weights, "widths": widths, "wasm": wasm}
        return tab.evaluate(RUN, about), bounds, model

    yield run
    context.close()


@pytest.mark.parametrize(
    ("algorithm", "backend", "slow_log_var"),
    [("aevb", "wasm", False), ("wake-sleep", "wasm", True), ("aevb", "cpu", False), ("wake-sleep", "cpu", False)],
)
def test_a_hundred_steps_in_the_page_are_pythons(trained, algorithm, backend, slow_log_var):
    found, bounds, model = trained(algorithm, backend, slow_log_var)
    assert found["bounds"] == pytest.approx(bounds, rel=1e-3)
    mu = model.encoder.mu.weight.T.flatten()
    assert (torch.tensor(found["mu"]) - mu).abs().max() <= 1e-3 * mu.abs().max()
    assert len(set(found["alive"][1:])) == 1  # nothing is left behind by a step


@pytest.mark.parametrize(
    "broken",
    [
        ("tf.sub(tf.add(tf.mul(away, in_z), tf.exp(log_var)), 1)", "tf.add(tf.mul(away, in_z), tf.exp(log_var))"),
        ("tf.mul(layer.weight, settings.prior_weight)", "tf.mul(layer.weight, 0)"),
        ("tf.sub(1, tf.square(h))", "tf.sub(1, h)"),
    ],
)
def test_broken_arithmetic_of_a_step_is_noticed(trained, broken):
    assert script("trainer").count(broken[0]) == 1
    found, bounds, model = trained("aevb", "wasm", broken=broken)
    mu = model.encoder.mu.weight.T.flatten()
    near = (torch.tensor(found["mu"]) - mu).abs().max() <= 1e-3 * mu.abs().max()
    assert not (near and found["bounds"] == pytest.approx(bounds, rel=1e-3))


# the panel on its page


@pytest.fixture
def open_panel(visit):
    def opened():
        tab = visit(CHAPTER)
        panel = tab.locator(".aevb-train")
        panel.scroll_into_view_if_needed()
        return tab, panel

    return opened


def pressed(panel, name: str) -> None:
    panel.get_by_role("button", name=name, exact=True).click()


def reached(tab, samples: int) -> None:
    """Wait until the readout says at least so many samples."""
    of_readout = "Number(document.querySelector('.aevb-train [data-name=samples]').textContent.replaceAll(',', ''))"
    tab.wait_for_function(f"{of_readout} >= {samples}", timeout=900_000)


def test_a_run_in_the_page_ends_where_the_librarys_seeds_do(open_panel):
    tab, panel = open_panel()
    tab.evaluate(NOTE_DOWN)
    pressed(panel, "Train")
    reached(tab, 316_300)
    pressed(panel, "Pause")
    where = {"split": "running", "dataset": "mnist", "algorithm": "aevb", "latent_dim": 2, "hidden": 100}
    seeds = results.recorded("ten-thousand-digits").select(**where)
    ends = seeds.table[seeds.table["samples"] == seeds.end]
    low, high = verdicts.prediction_interval(ends[seeds.kind.value].tolist())
    running, test = tab.evaluate(f"window.seen[{seeds.end}]")
    assert low <= running <= high
    assert abs(test - running) < 20  # the test digits are digits, too
    assert panel.locator("[data-name=backend]").inner_text().startswith("Web")


def test_it_pauses_goes_on_and_starts_again(open_panel):
    tab, panel = open_panel()
    pressed(panel, "Train")
    reached(tab, 3000)
    pressed(panel, "Pause")
    tab.wait_for_timeout(500)
    at_rest = shown(tab, "samples")
    tab.wait_for_timeout(500)
    assert shown(tab, "samples") == at_rest
    panel.locator("input[value='0.1']").check()
    pressed(panel, "Train")
    reached(tab, 6000)
    assert (pixels(panel.locator("canvas.aevb-picture")) < 0.5).any()  # something is drawn
    panel.locator("input[value='5']").check()  # another model
    frames(tab)
    tab.wait_for_function("document.querySelector('.aevb-train [data-name=samples]').textContent === '0'")
    pressed(panel, "Train")
    reached(tab, 1000)


def test_without_webassembly_it_trains_in_plain_script_and_says_how_fast(open_panel):
    tab, panel = open_panel()
    tab.route("**/*.wasm", lambda route: route.fulfill(status=204))
    panel.locator("input[value='wake-sleep']").check()
    pressed(panel, "Train")
    reached(tab, 1000)
    assert panel.locator("[data-name=backend]").inner_text() == "plain script"
    assert shown(tab, "rate")[0] > 0


def test_a_page_built_without_digits_says_so(open_panel):
    tab, panel = open_panel()
    tab.route(f"**/{train.PACKED}", lambda route: route.fulfill(status=204))
    pressed(panel, "Train")
    tab.wait_for_function(
        "document.querySelector('.aevb-train .aevb-verdict').textContent.includes('without the digits')"
    )
    assert panel.get_by_role("button", name="Train", exact=True).is_visible()


def test_the_panel_fits_a_phone(open_panel):
    tab, panel = open_panel()
    tab.set_viewport_size({"width": 360, "height": 740})
    frames(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    assert panel.locator("canvas").first.bounding_box()["width"] > 200


# what the page is given


def test_the_digits_are_the_first_and_fit_the_page(tmp_path):
    assert train.pack_digits(tmp_path)
    packed = (tmp_path / train.PACKED).read_bytes()
    assert len(packed) <= 3_000_000
    pixels = torch.frombuffer(bytearray(zlib.decompress(packed)), dtype=torch.uint8).view(-1, 784)
    digits = datasets.load("mnist")
    assert torch.equal(pixels, torch.cat([digits.train[:10_000], digits.test[: train.N_TEST]]))


def test_without_data_no_digits_are_left_in_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AEVB_DATA", str(tmp_path))
    monkeypatch.setattr("aevb.data.cache_folder", lambda: tmp_path)
    (tmp_path / train.PACKED).write_bytes(b"old")
    assert not train.pack_digits(tmp_path)
    assert not (tmp_path / train.PACKED).exists()
    assert "make data" in capsys.readouterr().out


def test_a_kernel_hands_out_what_the_page_would_fetch(page):
    static = page / "_static"
    for name in train.FILES:
        assert train.Train.asked(name) == [(static / train.FILES[name]).read_bytes()]


def test_the_panels_settings_are_those_of_the_recorded_runs():
    panel = train.train()
    for entry in results.manifest("ten-thousand-digits").values():
        run = entry["config"]
        own = panel.settings[run["algorithm"]]
        assert (own["warm_up"], own["slow_log_var"]) == (run["warm_up"], run["slow_log_var"])
        assert own["prior_weight"] == run["batch_size"] / run["n_train"]

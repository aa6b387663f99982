"""Training in the page: what each back end makes of a step, beside loops of our own, and the panel as a reader has it.

In headless Chromium over the built book, all in one run: `python -m benchmarks.in_the_page`, after `make book`.
TensorFlow.js was chosen for what this prints, and because it can train at all: ONNX Runtime's training packages ended
with version 1.19.
"""

import statistics
import sys
import time

from playwright.sync_api import Page
from tabulate import tabulate

from aevb.book import train
from aevb.book.widgets import script
from aevb.reproduction.settings import PAGE_HIDDEN, RIVALS
from benchmarks.browser import opened_book

SAMPLES, LATENTS = 300_000, 10  # samples for which minutes are given; latents of the models
CHAPTER = "34_train_in_the_page"
SECONDS = 20.0  # for which the panel trains

# milliseconds per step of a trainer at one back end, over whole chunks
STEPS = """async ({ backend, wasm, settings, steps }) => {
  if (wasm) tf.wasm.setWasmPaths(wasm);
  if (!(await tf.setBackend(backend).catch(() => false))) return null;
  const trainer = new Trainer(tf, settings);
  const x = tf.randomUniform([100, settings.pixels]);
  const times = [];
  for (let chunk = 0; chunk < 5; chunk++) {
    const start = performance.now();
    for (let i = 0; i < steps; i++) trainer.step(x);
    await trainer.running(steps);
    times.push((performance.now() - start) / steps);
  }
  x.dispose();
  return times;
}"""

# milliseconds of the matrix products of one step of AEVB by loops over typed arrays, nothing else
LOOPS = """({ pixels, hidden, latents }) => {
  const product = (n, m, k) => {
    const [a, b, out] = [new Float32Array(n * k).fill(0.5), new Float32Array(k * m).fill(0.5), new Float32Array(n * m)];
    for (let i = 0; i < n; i++)
      for (let l = 0; l < k; l++)
        for (let j = 0, scale = a[i * k + l]; j < m; j++) out[i * m + j] += scale * b[l * m + j];
    return out[0];
  };
  const [M, D, H, J] = [100, pixels, hidden, latents];
  const shapes = [[M, H, D], [M, J, H], [M, J, H], [M, H, J], [M, D, H], [H, D, M], [M, H, D], [J, H, M], [M, J, H],
    [H, J, M], [H, J, M], [M, H, J], [M, H, J], [D, H, M]];
  const times = [];
  for (let turn = 0; turn < 5; turn++) {
    const start = performance.now();
    for (const shape of shapes) product(...shape);
    times.push(performance.now() - start);
  }
  return times;
}"""

# what the page's main thread feels while its worker trains: frames per second, and milliseconds to answer a click
FEEL = """async (seconds) => {
  const [train] = document.querySelectorAll(".aevb-train button");
  const frame = () => new Promise(requestAnimationFrame);
  let [frames, answers] = [0, []];
  const start = performance.now();
  for (let now = start; now < start + 1000 * seconds; now = performance.now()) {
    await frame();
    frames += 1;
    if (frames % 120) continue;
    for (const word of ["Train", "Pause"]) {
      const clicked = performance.now();
      train.click();
      await frame();
      if (train.textContent !== word) throw new Error("no answer");
      answers.push(performance.now() - clicked);
    }
  }
  return [(1000 * frames) / (performance.now() - start), answers];
}"""


def settings(algorithm: str, hidden: int) -> dict:
    """The settings of a run in the page, as its panel has them."""
    panel = train.train()
    chosen = {"algorithm": algorithm, "hidden": hidden, "latents": LATENTS, "step_size": panel.step_size}
    return panel.settings[algorithm] | chosen | {"pixels": panel.side**2, "seed": 0}


def steps_of(tab: Page, address: str) -> list[tuple]:
    """A row per back end, algorithm and width: milliseconds per step, and minutes for SAMPLES samples."""
    tab.goto(f"{address}/genindex.html")
    for name in ("core", "cpu", "wasm", "webgpu"):
        tab.add_script_tag(url=f"{address}/_static/{train.FILES[name]}")
    tab.add_script_tag(content=script("trainer").replace("export ", ""))
    static = f"{address}/_static/"
    names = ("wasm", "wasm-simd", "wasm-threaded-simd")
    wasm = {f"tfjs-backend-{name}.wasm": static + train.FILES["simd"] for name in names}
    rows = []
    for hidden in PAGE_HIDDEN:
        for algorithm in RIVALS:
            about = settings(algorithm, hidden)
            for backend, paths, steps in (("wasm", wasm, 40), ("webgpu", None, 3), ("cpu", None, 3)):
                times = tab.evaluate(STEPS, {"backend": backend, "wasm": paths, "settings": about, "steps": steps})
                rows.append(_row(f"TensorFlow.js, {backend}", algorithm, hidden, times))
        rows.append(
            _row("own loops, the products alone", "aevb", hidden, tab.evaluate(LOOPS, settings("aevb", hidden)))
        )
    return rows


def _row(what: str, algorithm: str, hidden: int, times: list[float] | None) -> tuple:
    if not times:
        return what, algorithm, hidden, "not here", ""
    median = statistics.median(times)
    return what, algorithm, hidden, f"{median:.1f} ms", f"{median * SAMPLES / 100 / 60_000:.1f}"


def panel(tab: Page, address: str, hidden: int) -> list[str]:
    """Lines on the panel as a reader has it: its rate, frames and answers while it trains, its memory."""
    tab.goto(f"{address}/book/{CHAPTER}.html")
    tab.locator(".aevb-train").scroll_into_view_if_needed()
    tab.locator(f".aevb-train input[value='{hidden}']").check()
    tab.get_by_role("button", name="Train", exact=True).click()
    tab.wait_for_function("document.querySelector('[data-name=rate]').textContent.includes('samples')", timeout=120_000)
    samples = "Number(document.querySelector('[data-name=samples]').textContent.replaceAll(',', ''))"
    before, start = tab.evaluate(samples), time.perf_counter()
    time.sleep(SECONDS)
    rate = (tab.evaluate(samples) - before) / (time.perf_counter() - start)
    frames, answers = tab.evaluate(FEEL, SECONDS)
    by = tab.locator("[data-name=backend]").inner_text()
    return [
        f"the panel, {hidden} hidden units, {by}: {rate:.0f} samples per second, {SAMPLES / rate / 60:.1f} minutes for "
        f"{SAMPLES:,} samples; meanwhile {frames:.0f} frames per second, a click answered within {max(answers):.0f} ms"
    ]


def main() -> int:
    """Print the table and the lines."""
    with opened_book() as (tab, address):
        headers = ["", "algorithm", "hidden units", "per step", f"minutes for {SAMPLES:,} samples"]
        print(tabulate(steps_of(tab, address), headers, "pipe", disable_numparse=True))
        for hidden in PAGE_HIDDEN:
            print(*panel(tab, address, hidden), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The pictures per second that the explorer shows while its point is dragged, beside the frames of the browser.

In headless Chromium over the built book, both counted in one run: `python -m benchmarks.explorer`, after `make book`.
"""

import math
import statistics
import sys
import time

from playwright.sync_api import Page

from benchmarks.browser import opened_book

REPETITIONS, SECONDS = 5, 2.0
COUNT = """() => {
  window.painted = new Set();
  window.offered = 0;
  const put = CanvasRenderingContext2D.prototype.putImageData;
  CanvasRenderingContext2D.prototype.putImageData = function (...all) {
    window.painted.add(document.timeline.currentTime);
    return put.apply(this, all);
  };
  const tick = () => { window.offered += 1; requestAnimationFrame(tick); };
  tick();
}"""
CLEAR = "() => { window.painted.clear(); window.offered = 0; return performance.now(); }"


def drag(tab: Page) -> tuple[float, float]:
    """Pictures and frames per second while the explorer's point is led around a circle."""
    box = tab.get_by_role("application").first.bounding_box()
    assert box  # in sight
    middle, reach = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2), 0.3 * box["width"]
    tab.mouse.move(*middle)
    tab.mouse.down()
    start, begun = tab.evaluate(CLEAR), time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < SECONDS:
        tab.mouse.move(middle[0] + reach * math.cos(6 * elapsed), middle[1] + reach * math.sin(6 * elapsed))
    painted, offered, end = tab.evaluate("[window.painted.size, window.offered, performance.now()]")
    tab.mouse.up()
    return 1000 * painted / (end - start), 1000 * offered / (end - start)


def main() -> int:
    """Print the median and the range of a few drags."""
    with opened_book() as (tab, address):
        tab.goto(f"{address}/book/22_explore_the_manifold.html")
        tab.wait_for_selector(".aevb-widget [data-name]:not(:empty)")
        tab.get_by_role("application").first.scroll_into_view_if_needed()
        tab.evaluate(COUNT)
        drags = [drag(tab) for _ in range(REPETITIONS)]
    for what, rates in zip(("pictures shown", "frames offered"), zip(*drags, strict=True), strict=True):
        print(f"{what}: {statistics.median(rates):.0f} per second ({min(rates):.0f} to {max(rates):.0f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())

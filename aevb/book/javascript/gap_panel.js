// Which gap is it? The distance from the bound to log p(x), split, with both q over the contours of the true posterior.
import { Decoded, resample, split, Stale } from "./gap.js";
import { colour, element, format, Plane, readouts } from "./shared.js";

const REST = 200; // milliseconds for which a drawing must rest
const SHARES = [0.5, 0.9, 0.99]; // of the posterior's mass within its contours
const FINE = 120; // points each way of the picture of the posterior

// Traced on a plane: the ellipse of a Gaussian out to two standard deviations
export function ellipse(plane, context, { mu, sd }) {
  const around = Array.from({ length: 61 }, (_, i) => (i * Math.PI) / 30);
  plane.path(context, around.map((t) => [mu[0] + 2 * sd[0] * Math.cos(t), mu[1] + 2 * sd[1] * Math.sin(t)]));
}

// ... and drawn, with its mean, so that it stands out from anything under it
export function gaussian(plane, context, q, tint, dashes = []) {
  ellipse(plane, context, q);
  context.lineWidth = 5;
  context.strokeStyle = colour(plane.canvas, "surface");
  context.stroke();
  context.setLineDash(dashes);
  context.lineWidth = 2.5;
  context.strokeStyle = context.fillStyle = colour(plane.canvas, tint);
  context.stroke();
  context.setLineDash([]);
  plane.dot(context, ...q.mu, 3.5);
  context.fill();
}

// The square about everything that is to be seen: the posterior's mass, and ellipses
function view({ logPx, values, step }, ellipses) {
  const ends = [0, 1].map((j) => ellipses.flatMap(({ mu, sd }) => [mu[j] - 2.4 * sd[j], mu[j] + 2.4 * sd[j]]));
  for (const [k, value] of values) {
    if (value - logPx + 2 * Math.log(step / 1024) < -9) continue;
    ends[0].push((Math.floor(k / 65536) - 32768) / 1024);
    ends[1].push(((k % 65536) - 32768) / 1024);
  }
  const [low, high] = [ends.map((e) => Math.min(...e)), ends.map((e) => Math.max(...e))];
  const half = 0.53 * Math.max(high[0] - low[0], high[1] - low[1]);
  return [0, 1].map((j) => ({ min: (low[j] + high[j]) / 2 - half, max: (low[j] + high[j]) / 2 + half }));
}

// The segments in which a surface over n by n points crosses a level, in shares of the grid
function contour(surface, n, level) {
  const segments = [];
  for (let b = 0; b + 1 < n; b++)
    for (let a = 0; a + 1 < n; a++) {
      const corners = [[a, b], [a + 1, b], [a + 1, b + 1], [a, b + 1]];
      const heights = corners.map(([i, j]) => surface[j * n + i] - level);
      const cuts = [];
      for (let e = 0; e < 4; e++) {
        const [p, q] = [heights[e], heights[(e + 1) % 4]];
        if (p > 0 === q > 0) continue;
        cuts.push([0, 1].map((d) => (corners[e][d] + (p / (p - q)) * (corners[(e + 1) % 4][d] - corners[e][d]) + 0.5) / n));
      }
      for (let e = 0; e + 1 < cuts.length; e += 2) segments.push([cuts[e], cuts[e + 1]]);
    }
  return segments;
}

// The levels of log density that enclose SHARES of the mass
function levels(surface) {
  const sorted = Array.from(surface).sort((a, b) => b - a);
  const total = sorted.reduce((sum, v) => sum + Math.exp(v), 0);
  let [mass, at] = [0, 0];
  return SHARES.map((share) => {
    while (at < sorted.length - 1 && mass < share * total) mass += Math.exp(sorted[at++]);
    return sorted[at];
  });
}

// `show(x, q)` takes a digit `(784,)` and the encoder's q {mu, sd}, or nothing; `found({mu, sd, ours, best, logPx})`
// is called with its answer, or with nothing while there is none.
export function gapPanel({ arrays, rules, found }) {
  const decoded = new Decoded(arrays);
  let [run, timer, now, lines, asked] = [0, undefined, undefined, [], undefined];
  const plane = new Plane({
    label: "", margin: { left: 56, right: 18 }, x: { min: -1, max: 1, label: "z\u2081" }, y: { min: -1, max: 1, label: "z\u2082" },
    under: (_, context) => {
      context.lineWidth = 1.5;
      context.strokeStyle = colour(plane.canvas, "blue");
      const [across, up] = [plane.x, plane.y].map(({ min, max }) => (share) => min + share * (max - min));
      for (const segments of lines) {
        context.beginPath();
        for (const [[a, b], [c, d]] of segments) {
          context.moveTo(plane.px(across(a)), plane.py(up(b)));
          context.lineTo(plane.px(across(c)), plane.py(up(d)));
        }
        context.stroke();
      }
    },
    over: (_, context) => {
      if (!now) return;
      gaussian(plane, context, now.encoder, "text");
      gaussian(plane, context, now, "orange", [6, 4]);
    },
  });
  const numbers = readouts({
    evidence: "log p(x)", "best-bound": "bound of the best diagonal q", bound: "bound of the encoder\u2019s q",
    amortization: "amortization costs", family: "the family costs",
  });
  const [first, second] = ["aevb-amortization", "aevb-family"].map((name) => element("span", { class: name }));
  const bar = element("div", { class: "aevb-gap", "aria-hidden": "true" }, first, second);
  const verdict = element("p", { class: "aevb-verdict" });
  const swatch = (name, text) => element("span", {}, element("i", { class: `aevb-key-${name}` }), ` ${text}`);
  const node = element(
    "section", { "aria-label": "Which gap is it?" },
    element("p", { class: "aevb-title" }, "Which gap is it?"),
    element(
      "div", { class: "aevb-row aevb-equal" },
      element(
        "figure", {}, plane.canvas,
        element(
          "figcaption", { class: "aevb-keys" }, swatch("posterior", "true posterior: 50, 90, 99 % of it"),
          swatch("encoder", "encoder\u2019s q"), swatch("best", "best diagonal q"),
        ),
      ),
      element("div", {}, verdict, bar, numbers.node),
    ),
  );

  function write(words, values) {
    verdict.textContent = words;
    plane.canvas.setAttribute("aria-label", `The true posterior of the digit, the encoder's q and the best one. ${words}`);
    numbers.set(values);
  }
  function blank(words, mark) {
    [now, lines] = [undefined, []];
    write(words, { evidence: mark, "best-bound": mark, bound: mark, amortization: mark, family: mark });
    first.style.flexGrow = second.style.flexGrow = 0;
    plane.renew();
    found();
  }
  function answer(result, encoder) {
    now = { ...result, encoder };
    const [amortization, family] = [Math.max(result.best - result.ours, 0), Math.max(result.logPx - result.best, 0)];
    [plane.x, plane.y].forEach((axis, j) => Object.assign(axis, view(result, [encoder, result])[j]));
    const surface = resample(result, [plane.x, plane.y], FINE);
    lines = levels(surface).map((level) => contour(surface, FINE, level));
    first.style.flexGrow = amortization / (amortization + family);
    second.style.flexGrow = family / (amortization + family);
    const [more, less] = amortization > family ? ["Amortization", "family"] : ["The family", "amortization"];
    const text = (value) => `${format(value, 2)} nats`;
    write(
      `${more} costs more: ${format(Math.max(amortization, family), 2)} nats, ${less} ${format(Math.min(amortization, family), 2)}.`,
      {
        evidence: text(result.logPx), "best-bound": text(result.best), bound: text(result.ours),
        amortization: text(amortization), family: text(family),
      },
    );
    plane.renew();
    found(result);
  }
  async function work(mine) {
    const { x, q } = asked;
    try {
      answer(await split(decoded, x, q, rules, () => mine !== run), q);
    } catch (error) {
      if (!(error instanceof Stale)) throw error;
    }
  }
  function show(x, q) {
    run += 1;
    clearTimeout(timer);
    asked = { x, q };
    if (!q) return blank("Draw a digit, or choose one.", "\u2013");
    blank("Computing: it waits until the drawing rests.", "\u2026");
    timer = setTimeout(work, REST, run);
  }
  const stop = () => {
    run += 1;
    clearTimeout(timer);
    plane.stop();
    numbers.stop();
  };
  return { node, show, stop, redraw: () => plane.renew() };
}

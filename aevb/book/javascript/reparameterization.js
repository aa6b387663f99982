// The reparameterization trick: drag mu and sigma, the noise stays, and both estimators of the gradient are redrawn.
import { colour, element, format, onTheme, Plane, readouts, round } from "./shared.js";

// One draw each of the gradient in mu of E[z^2] under N(mu, sigma^2), from one eps ~ N(0, 1).
export const estimators = {
  pathwise: (mu, sigma, eps) => 2 * (mu + sigma * eps),
  score: (mu, sigma, eps) => ((mu + sigma * eps) ** 2 * eps) / sigma,
};
// their standard deviations in closed form
export const exact = {
  pathwise: (mu, sigma) => 2 * sigma,
  score: (mu, sigma) => Math.sqrt(mu ** 4 / sigma ** 2 + 14 * mu ** 2 + 15 * sigma ** 2),
};
const ROWS = { score: { at: 2, tint: "orange", name: "score function" }, pathwise: { at: 1, tint: "blue", name: "pathwise" } };

const RATIOS = [-2, -4, -8, -16, -32];

function moments(values) {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return [mean, Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / (values.length - 1))];
}

function gaussian() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

function render({ model, el }) {
  const numbers = readouts({
    mu: "\u03bc", sigma: "\u03c3", gradient: "exact gradient",
    pathwise: "pathwise: mean, s.d. of a draw (in closed form)",
    score: "score function: mean, s.d. of a draw (in closed form)",
  });
  const plane = new Plane({
    label: "", aspect: 1.15,
    x: { min: -2, max: 2, label: "\u03bc" },
    y: { min: 0.1, max: 1.5, label: "\u03c3" },
    at: () => model.get("q"),
    move: (mu, sigma) => {
      model.set("q", [mu, sigma]);
      model.save_changes();
    },
    // how many times narrower the pathwise estimator is
    under: (_, context) => plane.bands(context, (...q) => -exact.score(...q) / exact.pathwise(...q), RATIOS),
    over: (_, context) => plane.handle(context, ...model.get("q")),
  });

  const samples = new Plane({
    label: "The noise, and the samples on the curve of f", aspect: 1.15,
    x: { min: -5, max: 5, label: "z, and \u03b5" },
    y: { min: -5, max: 20, label: "f(z) = z\u00b2" },
    under: (_, context) => {
      samples.path(context, Array.from({ length: 201 }, (_, i) => [i / 20 - 5, (i / 20 - 5) ** 2]));
      context.strokeStyle = colour(el, "muted");
      context.lineWidth = 1.5;
      context.stroke();
    },
    over: (_, context) => {
      const [mu, sigma] = model.get("q");
      context.globalAlpha = 0.55;
      for (const eps of model.get("eps")) {
        const z = mu + sigma * eps;
        context.strokeStyle = colour(el, "border");
        samples.path(context, [[eps, -4], [z, -1]]);
        context.stroke();
      }
      for (const eps of model.get("eps")) {
        const z = mu + sigma * eps;
        for (const [a, b, tint] of [[eps, -4, "muted"], [z, -1, "green"], [z, z * z, "green"]]) {
          samples.dot(context, a, b, 2.5);
          context.fillStyle = colour(el, tint);
          context.fill();
        }
      }
      context.globalAlpha = 1;
      context.textAlign = "left";
      for (const [word, y, tint] of [["\u03b5", -4, "muted"], ["z = \u03bc + \u03c3\u03b5", -1, "green"]]) {
        context.fillStyle = colour(el, tint);
        context.font = `bold 13px ${getComputedStyle(el).fontFamily}`;
        context.fillText(word, samples.px(-4.9), samples.py(y) - 6);
      }
    },
  });

  const strips = new Plane({
    label: "One dot a draw of each gradient estimator", height: "11rem",
    x: { min: -20, max: 20, label: "one draw of the gradient in \u03bc" },
    y: { min: 0.4, max: 2.9, label: "", hidden: true },
    over: (_, context) => {
      const [mu, sigma] = model.get("q");
      context.strokeStyle = colour(el, "text");
      context.setLineDash([4, 4]);
      strips.path(context, [[2 * mu, 0], [2 * mu, 3]]);
      context.stroke();
      context.setLineDash([]);
      for (const [name, { at, tint, name: words }] of Object.entries(ROWS)) {
        context.fillStyle = colour(el, tint);
        context.globalAlpha = 0.55;
        model.get("eps").forEach((eps, i) => {
          strips.dot(context, estimators[name](mu, sigma, eps), at + 0.25 * Math.sin(2.4 * i), 2.5);
          context.fill();
        });
        context.globalAlpha = 1;
        context.textAlign = "left";
        context.font = `bold 13px ${getComputedStyle(el).fontFamily}`;
        context.fillText(words, strips.px(strips.x.min) + 6, strips.py(at + 0.42));
      }
    },
  });

  function show() {
    const [mu, sigma] = model.get("q");
    const values = { mu: format(mu), sigma: format(sigma), gradient: format(2 * mu) };
    for (const name of Object.keys(ROWS)) {
      const [mean, sd] = moments(model.get("eps").map((eps) => estimators[name](mu, sigma, eps)));
      values[name] = `${format(mean)}, ${format(sd)} (${format(exact[name](mu, sigma))})`;
    }
    numbers.set(values);
    const reach = [5, 10, 20, 50, 100, 200].find((r) => r > 2.5 * exact.score(mu, sigma)) ?? 200;
    if (reach !== strips.x.max) {
      Object.assign(strips.x, { min: -reach, max: reach });
      strips.renew();
    }
    const words = `mu ${format(mu)}, sigma ${format(sigma)}`;
    plane.canvas.setAttribute("aria-label", `Plane of mu and sigma, ${words}: drag, or move with the arrow keys`);
    for (const part of [plane, samples, strips]) part.redraw();
  }
  const renew = () => {
    model.set("eps", model.get("eps").map(() => round(gaussian(), 0.001)));
    model.save_changes();
  };
  el.classList.add("aevb-widget");
  el.append(
    element(
      "div", { class: "aevb-row aevb-equal" },
      element("figure", {}, plane.canvas, element("figcaption", {}, "drag the ring (bands: s.d. 2, 4, 8, \u2026 times wider)")),
      element("figure", {}, samples.canvas, element("figcaption", {}, "the noise stays, the samples move")),
    ),
    strips.canvas,
    element("div", { class: "aevb-buttons" }, element("button", { type: "button", onclick: renew }, "Draw new noise")),
    numbers.node,
  );
  model.on("change:q", show);
  model.on("change:eps", show);
  const stopTheme = onTheme(() => [plane, samples, strips].forEach((part) => part.renew()));
  show();
  return () => {
    stopTheme();
    for (const part of [plane, samples, strips, numbers]) part.stop();
  };
}

export default { render };

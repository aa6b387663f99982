// The bound: drag the mean and the width of q, and watch KL and bound share out log p(x).
import { colour, element, format, onTheme, Plane, readouts, Sheet } from "./shared.js";

const LEVELS = [0.02, 0.1, 0.3, 1, 2, 4]; // nats, where the shading of the plane changes

// Every term of eqs 1 and 3, in nats, for q = N(mu, sigma^2) and x = w z + noise of standard deviation s.
export function terms({ w, s, x }, mu, sigma) {
  const sum = (f) => w.reduce((total, value, i) => total + f(value, x[i]), 0);
  const precision = 1 + sum((a) => a * a) / s ** 2;
  const [mean, sd] = [sum((a, b) => a * b) / s ** 2 / precision, precision ** -0.5];
  const kl = Math.log(sd / sigma) + (sigma ** 2 + (mu - mean) ** 2) / (2 * sd ** 2) - 0.5;
  const toPrior = 0.5 * (mu ** 2 + sigma ** 2 - 1) - Math.log(sigma);
  const square = sum((a, b) => (b - a * mu) ** 2 + (a * sigma) ** 2);
  const likelihood = -0.5 * (w.length * Math.log(2 * Math.PI * s ** 2) + square / s ** 2);
  return { mean, sd, kl, elbo: likelihood - toPrior };
}

function render({ model, el }) {
  const problem = { w: model.get("w"), s: model.get("s"), x: model.get("x") };
  const evidence = model.get("log_evidence");
  const { mean, sd } = terms(problem, 0, 1);
  const middle = Math.round(mean * 2) / 2;
  const density = (z, m, d) => Math.exp(-0.5 * ((z - m) / d) ** 2) / (d * Math.sqrt(2 * Math.PI));
  const numbers = readouts({
    mu: "mean of q", sigma: "its s.d.", kl: "KL to the posterior", elbo: "bound", sum: "sum", evidence: "log p(x)",
  });

  const plane = new Plane({
    label: "", aspect: 1.15,
    x: { min: middle - 2, max: middle + 2, label: "mean of q" },
    y: { min: 0.05, max: 2, label: "s.d. of q" },
    at: () => model.get("q"),
    move: (mu, sigma) => {
      model.set("q", [mu, sigma]);
      model.save_changes();
    },
    under: (_, context) => {
      plane.bands(context, (mu, sigma) => terms(problem, mu, sigma).kl, LEVELS);
      context.strokeStyle = colour(el, "text");
      context.lineWidth = 2;
      const [px, py] = [plane.px(mean), plane.py(sd)];
      for (const way of [-1, 1]) {
        context.beginPath();
        context.moveTo(px - 5, py - 5 * way);
        context.lineTo(px + 5, py + 5 * way);
        context.stroke();
      }
    },
    over: (_, context) => plane.handle(context, ...model.get("q")),
  });

  const curves = new Plane({
    label: "Densities of q, of the posterior and of the prior", aspect: 1.15,
    x: { min: middle - 3, max: middle + 3, label: "z" },
    y: { min: 0, max: 1.6 * density(0, 0, sd), label: "density", hidden: true },
    over: (_, context) => {
      const [mu, sigma] = model.get("q");
      const lines = [["prior", "muted", 0, 1], ["posterior", "blue", mean, sd], ["q", "orange", mu, sigma]];
      lines.forEach(([name, tint, m, d], i) => {
        const at = Array.from({ length: 241 }, (_, k) => middle - 3 + k / 40);
        context.setLineDash(name === "prior" ? [4, 4] : []);
        context.strokeStyle = context.fillStyle = colour(el, tint);
        context.lineWidth = 2.5;
        curves.path(context, at.map((z) => [z, density(z, m, d)]));
        context.stroke();
        context.font = `bold 13px ${getComputedStyle(el).fontFamily}`;
        context.fillText(name, curves.px(curves.x.min) + 8, curves.py(curves.y.max) + 18 + 17 * i);
      });
      context.setLineDash([]);
    },
  });

  // log p(x) as one length, cut in two where the bound ends
  const bars = new Sheet({
    label: "", height: "5.5rem",
    paint: (context, width, height) => {
      const { kl, elbo } = terms(problem, ...model.get("q"));
      const [low, high] = [evidence - 4.5, evidence + 0.5];
      const px = (value) => ((Math.max(value, low) - low) / (high - low)) * (width - 2);
      const [top, thick] = [22, height - 48];
      const bar = (from, to, tint, label) => {
        context.fillStyle = colour(el, tint);
        context.fillRect(px(from), top, px(to) - px(from), thick);
        const wide = context.measureText(label).width + 8;
        if (px(to) - px(from) < wide) return;
        context.fillStyle = colour(el, "surface");
        context.fillText(label, (px(from) + px(to)) / 2, top + thick / 2 + 5);
      };
      context.textAlign = "center";
      context.font = `bold 13px ${getComputedStyle(el).fontFamily}`;
      bar(low, elbo, "blue", "\u2190 bound");
      bar(elbo, elbo + kl, "orange", "KL");
      context.strokeStyle = context.fillStyle = colour(el, "text");
      context.lineWidth = 2;
      context.beginPath();
      context.moveTo(px(evidence), top - 5);
      context.lineTo(px(evidence), top + thick + 5);
      context.stroke();
      context.fillText("log p(x)", px(evidence), 12);
      context.font = `12px ${getComputedStyle(el).fontFamily}`;
      context.fillStyle = colour(el, "muted");
      for (let value = Math.ceil(low); value < high; value++) context.fillText(format(value, 0), px(value), height - 6);
    },
  });

  function show() {
    const [mu, sigma] = model.get("q");
    const { kl, elbo } = terms(problem, mu, sigma);
    const nats = (value) => `${format(value, 3)} nats`;
    numbers.set({
      mu: format(mu), sigma: format(sigma), kl: nats(kl), elbo: nats(elbo), sum: nats(kl + elbo),
      evidence: nats(evidence),
    });
    const words = `mean ${format(mu)}, standard deviation ${format(sigma)}`;
    plane.canvas.setAttribute("aria-label", `Plane of q, ${words}: drag, or move with the arrow keys`);
    bars.canvas.setAttribute("aria-label", `log p(x) cut into a bound of ${nats(elbo)} and a KL of ${nats(kl)}`);
    for (const part of [plane, curves, bars]) part.redraw();
  }
  el.classList.add("aevb-widget");
  el.append(
    element(
      "div", { class: "aevb-row aevb-equal" },
      element("figure", {}, plane.canvas, element("figcaption", {}, "drag the ring: q (cross: the posterior; bands: KL)")),
      element("figure", {}, curves.canvas, element("figcaption", {}, "the densities")),
    ),
    bars.canvas,
    numbers.node,
  );
  model.on("change:q", show);
  const stopTheme = onTheme(() => [plane, curves, bars].forEach((part) => part.renew?.() ?? part.redraw()));
  show();
  return () => {
    stopTheme();
    for (const part of [plane, curves, bars, numbers]) part.stop();
  };
}

export default { render };

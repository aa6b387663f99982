// Hybrid Monte Carlo on the posterior of a digit: drag its start, its step size, its number of leapfrog steps.
import {
  affine, colour, decode, element, format, logLikelihood, onTheme, pair, picture, Plane, readouts, round, sigmoid,
  unpackNetwork,
} from "./shared.js";

// log p(x, z) up to a constant, in nats, and its gradient in z
export function evaluate(arrays, x, z) {
  const hidden = affine(arrays, "decoder.hidden", z).map(Math.tanh);
  const logits = affine(arrays, "decoder.logit", hidden);
  const [first, last] = [arrays["decoder.hidden.weight"], arrays["decoder.logit.weight"]];
  const [n, m] = [hidden.length, logits.length];
  const back = new Float64Array(n);
  for (let i = 0, k = 0; i < m; i++) {
    const error = x[i] - sigmoid(logits[i]);
    for (let j = 0; j < n; j++) back[j] += last[k++] * error;
  }
  const gradient = z.map((value) => -value);
  for (let j = 0; j < n; j++)
    for (let d = 0; d < z.length; d++) gradient[d] += first[j * z.length + d] * back[j] * (1 - hidden[j] ** 2);
  return { value: logLikelihood(x, logits) - 0.5 * z.reduce((a, b) => a + b * b, 0), gradient };
}

// `count` leapfrog steps from z with momentum r: every position, and how much energy was gained on the way
export function leapfrog(arrays, x, z, r, size, count) {
  const path = [z];
  let state = evaluate(arrays, x, z);
  const energy = (value, momentum) => 0.5 * momentum.reduce((a, b) => a + b * b, 0) - value;
  const before = energy(state.value, r);
  for (let i = 0; i < count; i++) {
    r = r.map((v, d) => v + 0.5 * size * state.gradient[d]);
    z = z.map((v, d) => v + size * r[d]);
    state = evaluate(arrays, x, z);
    r = r.map((v, d) => v + 0.5 * size * state.gradient[d]);
    path.push(z);
  }
  const error = energy(state.value, r) - before;
  return { path, error: Number.isNaN(error) ? Infinity : error };
}

function gaussian() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

async function render({ model, el }) {
  const arrays = await unpackNetwork(model.get("network"));
  const view = (name) => {
    const data = model.get(name);
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  };
  const x = Float64Array.from(view("x"), (v) => v / 255);
  const [lattice, region, tuned] = [view("lattice"), model.get("region"), model.get("tuned")];
  const side = Math.sqrt(lattice.length);
  const step = 10 ** Math.floor(Math.log10(region[1] - region[0])) / 100;
  const digits = Math.round(-Math.log10(step));
  let visited = [];
  let tally = [0, 0]; // the sum of acceptance probabilities, and how many
  let now; // the trajectory from z with the present momentum

  const numbers = readouts({
    z: "start", r: "momentum", error: "energy error", acceptance: "accepted with probability",
    rate: "mean acceptance so far",
  });
  const plane = new Plane({
    label: "", aspect: 1.05, step,
    x: { min: region[0], max: region[1], label: "z\u2081" },
    y: { min: region[2], max: region[3], label: "z\u2082" },
    at: () => model.get("z"),
    move: (a, b) => {
      model.set("z", [a, b]);
      model.save_changes();
    },
    under: (_, context) => {
      const image = element("canvas", { width: side, height: side });
      const small = image.getContext("2d");
      small.fillStyle = colour(el, "text");
      lattice.forEach((value, i) => {
        small.globalAlpha = (0.75 * value) / 255;
        small.fillRect(i % side, side - 1 - Math.floor(i / side), 1, 1);
      });
      const [left, top] = [plane.px(region[0]), plane.py(region[3])];
      context.drawImage(image, left, top, plane.px(region[1]) - left, plane.py(region[2]) - top);
    },
    over: (_, context) => {
      context.fillStyle = colour(el, "sky");
      for (const z of visited) {
        plane.dot(context, ...z, 2.2);
        context.fill();
      }
      context.strokeStyle = context.fillStyle = colour(el, "blue");
      context.lineWidth = 2;
      plane.path(context, now.path);
      context.stroke();
      for (const z of now.path.slice(1, -1)) {
        plane.dot(context, ...z, 3);
        context.fill();
      }
      const end = now.path.at(-1);
      plane.dot(context, ...end, 7);
      context.fillStyle = colour(el, "surface");
      context.fill();
      context.globalAlpha = Math.min(1, Math.exp(-now.error)); // as full as it is probable
      context.fillStyle = colour(el, "green");
      context.fill();
      context.globalAlpha = 1;
      context.strokeStyle = colour(el, "green");
      context.stroke();
      plane.handle(context, ...model.get("z"));
    },
  });

  const digit = picture("The digit", [28, 28]);
  const there = picture("", [28, 28]);
  digit.draw(x);
  function show() {
    const [z, r] = [model.get("z"), model.get("r")];
    now = leapfrog(arrays, x, z, r, model.get("step_size"), model.get("n_leapfrog"));
    numbers.set({
      z: pair(...z, digits), r: pair(...r), error: `${format(now.error, 3)} nats`,
      acceptance: format(Math.min(1, Math.exp(-now.error)), 3),
      rate: tally[1] ? `${format(tally[0] / tally[1], 3)} in ${tally[1]} transitions` : "\u2013",
    });
    plane.canvas.setAttribute(
      "aria-label", `Posterior of the digit, start ${pair(...z, digits)}: drag, or move with the arrow keys`,
    );
    there.draw(decode(arrays, z).map(sigmoid));
    there.canvas.setAttribute("aria-label", `The decoder's mean image at the start, z = ${pair(...z, digits)}`);
    plane.redraw();
  }

  // sliders: the step size in equal ratios around the tuned one
  const slider = (name, words, least, most, value, change) => {
    const text = element("b", { "data-name": name });
    const input = element("input", { type: "range", min: least, max: most, step: 1, value, "aria-label": words });
    const set = () => {
      text.textContent = change(Number(input.value));
      input.setAttribute("aria-valuetext", text.textContent);
      forget();
    };
    input.addEventListener("input", set);
    return { node: element("label", {}, `${words} `, text, input), set };
  };
  const forget = () => {
    visited = [];
    tally = [0, 0];
    model.save_changes();
    show();
  };
  const size = slider("size", "step size \u03b5", -20, 20, 0, (value) => {
    const chosen = Number((tuned * 10 ** (value / 20)).toPrecision(3));
    model.set("step_size", chosen);
    return String(chosen);
  });
  const count = slider("count", "leapfrog steps", 1, 50, model.get("n_leapfrog"), (value) => {
    model.set("n_leapfrog", value);
    return String(value);
  });

  // Transitions: accept the end or stay, then a fresh momentum.
  function transitions(n) {
    let [z, r] = [model.get("z"), model.get("r")];
    for (let i = 0; i < n; i++) {
      const { path, error } = leapfrog(arrays, x, z, r, model.get("step_size"), model.get("n_leapfrog"));
      const probability = Math.min(1, Math.exp(-error));
      if (Math.random() < probability) z = path.at(-1);
      tally = [tally[0] + probability, tally[1] + 1];
      visited = [...visited.slice(-999), z];
      r = momentum();
    }
    model.set({ z, r });
    model.save_changes();
    show();
  }
  const momentum = () => [0, 1].map(() => round(gaussian(), 0.01));
  let timer;
  const stop = () => {
    clearInterval(timer);
    timer = undefined;
    run.textContent = "Run";
  };
  const press = (words, onclick) => element("button", { type: "button", onclick }, words);
  const run = press("Run", () => {
    if (timer) return stop();
    run.textContent = "Pause";
    timer = setInterval(() => transitions(1), 300);
  });
  run.hidden = matchMedia("(prefers-reduced-motion: reduce)").matches;

  el.classList.add("aevb-widget");
  el.append(
    element(
      "div", { class: "aevb-row aevb-wide" },
      element("figure", {}, plane.canvas, element("figcaption", {}, "drag the ring: where the trajectory starts")),
      element(
        "div", { class: "aevb-side" },
        element("figure", {}, digit.canvas, element("figcaption", {}, "the digit")),
        element("figure", {}, there.canvas, element("figcaption", {}, "the decoder at the start")),
      ),
    ),
    element("div", { class: "aevb-row aevb-equal" }, size.node, count.node),
    element(
      "div", { class: "aevb-buttons" },
      press("Another momentum", () => {
        model.set("r", momentum());
        model.save_changes();
        show();
      }),
      press("One transition", () => transitions(1)), press("100 transitions", () => transitions(100)), run,
    ),
    numbers.node,
  );
  size.set();
  count.set();
  model.on("change:z", show);
  const stopTheme = onTheme(() => plane.renew());
  return () => {
    stopTheme();
    stop();
    for (const part of [plane, numbers]) part.stop();
  };
}

export default { render };

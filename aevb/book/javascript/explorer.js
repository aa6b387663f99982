// Explore the manifold: decode the point that is dragged, encode the digit that is drawn, say what its bound lacks.
import { gapPanel, gaussian } from "./gap_panel.js";
import {
  affine, colour, decode, element, format, logLikelihood, onTheme, pair, picture, Plane, readouts, round, Sheet,
  sigmoid, unpack, unpackNetwork,
} from "./shared.js";

const PEN = 1.2; // radius in pixels of the encoder's picture
// what the explorer opens with: a two, an arc and what follows
const ARC = Array.from({ length: 15 }, (_, i) => Math.PI * (1.05 + 0.075 * i));
const TAIL = [[0.6, 0.5], [0.52, 0.6], [0.4, 0.71], [0.29, 0.8], [0.45, 0.79], [0.6, 0.795], [0.72, 0.8]];
const TWO = [[...ARC.map((t) => [0.48 + 0.18 * Math.cos(t), 0.36 + 0.18 * Math.sin(t)]), ...TAIL]];
let groups = 0;

// Strokes, each a list of points in a unit square, as MNIST's makers would have scaled and centred them: 28 by 28
// pixels, 0 to 255, the drawing 20 high or wide, its centre of mass in the middle.
export function rasterise(strokes) {
  const points = strokes.flat();
  const image = new Uint8Array(784);
  if (!points.length) return image;
  const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = Math.min((20 - 2 * PEN) / Math.max(right - left, bottom - top, 1e-9), 60); // a dot stays a dot
  const paint = (x0, y0) => {
    image.fill(0);
    for (const stroke of strokes) {
      const at = stroke.map(([x, y]) => [(x - (left + right) / 2) * scale + x0, (y - (top + bottom) / 2) * scale + y0]);
      at.forEach((b, i) => segment(image, at[Math.max(i - 1, 0)], b));
    }
  };
  paint(14, 14);
  let [mass, x, y] = [0, 0, 0];
  image.forEach((value, i) => {
    mass += value;
    x += value * ((i % 28) + 0.5);
    y += value * (Math.floor(i / 28) + 0.5);
  });
  if (mass) paint(28 - x / mass, 28 - y / mass);
  return image;
}

function segment(image, [ax, ay], [bx, by]) {
  const [dx, dy] = [bx - ax, by - ay];
  const square = dx * dx + dy * dy;
  const range = (a, b) => [Math.max(0, Math.floor(Math.min(a, b) - 2)), Math.min(27, Math.ceil(Math.max(a, b) + 2))];
  const [[left, right], [top, bottom]] = [range(ax, bx), range(ay, by)];
  for (let row = top; row <= bottom; row++)
    for (let column = left; column <= right; column++) {
      const [px, py] = [column + 0.5 - ax, row + 0.5 - ay];
      const along = square ? Math.min(1, Math.max(0, (px * dx + py * dy) / square)) : 0;
      const distance = Math.hypot(px - along * dx, py - along * dy);
      const ink = Math.round(255 * Math.min(1, Math.max(0, PEN + 0.5 - distance)));
      if (ink > image[28 * row + column]) image[28 * row + column] = ink;
    }
}

// Mean and log variance of q(z|x) (eq. 12), and both terms of the bound (eq. 3) in nats: its expectation is taken by
// Gauss-Hermite quadrature over `nodes` of a standard normal with `masses`.
export function encode(arrays, x, { nodes, masses }) {
  const hidden = affine(arrays, "encoder.hidden", x).map(Math.tanh);
  const [mu, logVar] = [affine(arrays, "encoder.mu", hidden), affine(arrays, "encoder.log_var", hidden)];
  const sd = logVar.map((v) => Math.exp(0.5 * v));
  let [kl, reconstruction] = [0, 0];
  for (let j = 0; j < 2; j++) kl -= 0.5 * (1 + logVar[j] - mu[j] ** 2 - Math.exp(logVar[j]));
  nodes.forEach((a, i) =>
    nodes.forEach((b, k) => {
      const logits = decode(arrays, [mu[0] + sd[0] * a, mu[1] + sd[1] * b]);
      reconstruction += masses[i] * masses[k] * logLikelihood(x, logits);
    }),
  );
  return { mu, sd, kl, reconstruction, mean: decode(arrays, mu).map(sigmoid) };
}

// `work` at most once a frame, however often it is asked for
function eachFrame(work) {
  let asked;
  return () => {
    asked ??= requestAnimationFrame(() => {
      asked = undefined;
      work();
    });
  };
}

async function render({ model, el }) {
  const models = model.get("models");
  const labelled = (name) => "labels" in models[name];
  const kinds = Object.keys(models).sort((a, b) => labelled(b) - labelled(a)); // what the reader can draw comes first
  const digits = models[kinds[0]];
  const networks = {};
  const codes = {};
  for (const kind of kinds) {
    networks[kind] = await unpackNetwork(models[kind]);
    codes[kind] = models[kind].codes ? await unpack(models[kind].codes) : [];
  }
  const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const labels = bytes(digits.labels);
  const examples = bytes(digits.examples);
  let kind = model.get("dataset");
  let z = model.get("z");
  let strokes = TWO;
  let pixels = rasterise(strokes);
  let given = true; // the strokes are not the reader's, whose first one takes their place
  let drawn; // what the encoder says of the drawing
  let best; // the best diagonal q for it

  // the latent plane
  const extent = () => ({ min: -models[kind].extent, max: models[kind].extent });
  const plane = new Plane({
    label: "",
    x: { ...extent(), label: "z\u2081" },
    y: { ...extent(), label: "z\u2082" },
    at: () => model.get("z"),
    move: (a, b) => {
      model.set("z", [a, b]);
      model.save_changes();
    },
    under: scatter,
    over: (_, context) => {
      if (best && labelled(kind)) gaussian(plane, context, best, "orange", [6, 4]);
      if (drawn && labelled(kind)) gaussian(plane, context, drawn, "text");
      plane.handle(context, ...z);
    },
  });
  const images = Object.fromEntries(kinds.map((name) => [name, picture("", models[name].shape)]));
  const shown = element("div", { class: "aevb-stack" }, ...kinds.map((name) => images[name].canvas));
  const where = readouts({ z: "z" });

  function scatter(_, context) {
    const [points, radius] = [codes[kind], plane.width < 300 ? 1.6 : 2.2];
    const sums = Array.from({ length: 10 }, () => [[], []]);
    for (let i = 0; i < points.length / 2; i++) {
      const [a, b, digit] = [points[2 * i], points[2 * i + 1], labelled(kind) ? labels[i] : 0];
      const [tint, ring] = digits.marks[digit];
      plane.dot(context, a, b, radius);
      context.strokeStyle = context.fillStyle = tint;
      context.globalAlpha = 0.75;
      if (ring) context.stroke();
      else context.fill();
      sums[digit][0].push(a);
      sums[digit][1].push(b);
    }
    context.globalAlpha = 1;
    if (!labelled(kind)) return;
    const median = (list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)];
    context.font = `bold 15px ${getComputedStyle(el).fontFamily}`;
    [context.textAlign, context.textBaseline, context.lineJoin] = ["center", "middle", "round"];
    sums.forEach(([xs, ys], digit) => {
      if (!xs.length) return;
      const at = [String(digit), plane.px(median(xs)), plane.py(median(ys))];
      context.lineWidth = 5;
      context.strokeStyle = colour(el, "surface");
      context.strokeText(...at);
      context.fillStyle = colour(el, "text");
      context.fillText(...at);
    });
  }
  function showPoint() {
    z = model.get("z");
    plane.now();
    images[kind].draw(decode(networks[kind], z).map(sigmoid), models[kind].light);
    where.set({ z: pair(...z) });
    images[kind].canvas.setAttribute("aria-label", `The decoder's mean image at z = ${pair(...z)}`);
    plane.canvas.setAttribute("aria-label", `Latent plane, z = ${pair(...z)}: drag, or move with the arrow keys`);
  }

  // the drawing
  let pen = [0.5, 0.5];
  let down = false;
  let keys = false;
  const pad = new Sheet({
    label: "Drawing pad: draw a digit; or move the pen with the arrow keys and press space to lower or lift it",
    role: "application",
    paint: (context, width, height) => {
      if (!strokes.length) shade(context, width / 28);
      [context.lineCap, context.lineJoin] = ["round", "round"];
      context.lineWidth = width / 14;
      context.strokeStyle = "#000000";
      for (const stroke of strokes) {
        context.beginPath();
        context.moveTo(stroke[0][0] * width, stroke[0][1] * height);
        for (const [x, y] of stroke) context.lineTo(x * width, y * height);
        context.stroke();
      }
      if (!keys) return;
      context.beginPath();
      context.arc(pen[0] * width, pen[1] * height, width / 28, 0, 2 * Math.PI);
      context.lineWidth = 3;
      context.strokeStyle = colour(el, "orange");
      context.stroke();
    },
  });
  // a digit that was chosen, under the pen
  function shade(context, size) {
    context.fillStyle = "#000000";
    pixels.forEach((value, i) => {
      context.globalAlpha = value / 255;
      context.fillRect((i % 28) * size, Math.floor(i / 28) * size, size + 0.5, size + 0.5);
    });
    context.globalAlpha = 1;
  }
  const begin = () => {
    strokes = given ? [[]] : [...strokes, []];
    given = false;
  };
  pad.canvas.tabIndex = 0;
  pad.canvas.classList.add("aevb-drag", "aevb-pad");
  const at = (event) => {
    const box = pad.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const add = (point) => {
    strokes.at(-1).push(point.map((v) => Math.min(1, Math.max(0, v))));
    pixels = rasterise(strokes);
    later();
  };
  pad.canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    pad.canvas.setPointerCapture(event.pointerId);
    [keys, down] = [false, false];
    begin();
    add(at(event));
  });
  pad.canvas.addEventListener("pointermove", (event) => {
    if (strokes.length && pad.canvas.hasPointerCapture(event.pointerId)) add(at(event));
  });
  pad.canvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if ((!way && event.key !== " ") || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys = true;
    if (way) pen = pen.map((v, i) => Math.min(0.95, Math.max(0.05, round(v + 0.04 * way[i], 0.001))));
    else if ((down = !down)) begin();
    if (down) add(pen);
    pad.redraw();
  });
  const seen = picture("What the encoder sees", [28, 28]);
  const again = picture("Reconstruction", [28, 28]);
  const numbers = readouts({
    mean: "mean of q(z|x)", sd: "its s.d.", reconstruction: "reconstruction", kl: "KL to the prior", elbo: "their bound",
  });
  const rules = model.get("quadrature");
  const gap = gapPanel({ arrays: networks[kinds[0]], rules, found: showGap });
  const later = eachFrame(showDrawing);
  function showDrawing() {
    const x = Float64Array.from(pixels, (v) => v / 255);
    drawn = pixels.some(Boolean) ? encode(networks[kinds[0]], x, rules.coarse) : undefined;
    seen.draw(x);
    again.draw(drawn ? drawn.mean : x);
    showNumbers();
    gap.show(x, drawn);
    pad.redraw();
  }
  function showGap(result) {
    if (!best && !result) return plane.redraw();
    best = result;
    model.set("gap", result ? { log_px: result.logPx, bound: result.ours, best: result.best } : {});
    model.save_changes();
    if (result) {
      drawn.reconstruction = result.ours + drawn.kl; // by the finer rule
      showNumbers();
    }
    plane.redraw();
  }
  function showNumbers() {
    numbers.set(
      drawn
        ? {
            mean: pair(...drawn.mu, 3), sd: pair(...drawn.sd, 3),
            reconstruction: `${format(drawn.reconstruction, 1)} nats`, kl: `${format(drawn.kl, 2)} nats`,
            elbo: `${format(drawn.reconstruction - drawn.kl, 1)} nats`,
          }
        : { mean: "draw a digit", sd: "\u2013", reconstruction: "\u2013", kl: "\u2013", elbo: "\u2013" },
    );
  }
  const start = (image) => {
    strokes = [];
    [down, given] = [false, false];
    pixels = image;
    showDrawing();
  };
  const clear = element("button", { type: "button", onclick: () => start(new Uint8Array(784)) }, "Clear");
  const choose = Array.from({ length: 10 }, (_, digit) =>
    element(
      "button",
      {
        type: "button", "aria-label": `Encode a test digit ${digit}`,
        onclick: () => start(examples.slice(784 * digit, 784 * (digit + 1))),
      },
      String(digit),
    ),
  );

  // the page
  groups += 1;
  const radios = kinds.map((name) =>
    element("input", {
      type: "radio", name: `aevb-dataset-${groups}`, value: name,
      onchange: () => {
        model.set("dataset", name);
        model.save_changes();
      },
    }),
  );
  const drawing = element(
    "section", { "aria-label": "Encode a drawing" },
    element(
      "div", { class: "aevb-row aevb-thirds" },
      element("figure", {}, pad.canvas, element("figcaption", {}, "draw here")),
      element("figure", {}, seen.canvas, element("figcaption", {}, "what the encoder sees")),
      element("figure", {}, again.canvas, element("figcaption", {}, "reconstruction at the mean")),
    ),
    element("div", { class: "aevb-buttons" }, clear, element("span", {}, "or a test digit:"), ...choose),
    numbers.node,
    gap.node,
  );
  function showKind() {
    kind = model.get("dataset");
    kinds.forEach((name, i) => {
      radios[i].checked = name === kind;
      images[name].canvas.hidden = name !== kind;
    });
    drawing.hidden = !labelled(kind);
    Object.assign(plane.x, extent());
    Object.assign(plane.y, extent());
    plane.renew();
    showPoint();
  }
  el.classList.add("aevb-widget");
  el.append(
    element(
      "fieldset", {}, element("legend", {}, "What was learned"),
      ...kinds.map((name, i) => element("label", {}, radios[i], ` ${models[name].title}`)),
    ),
    element(
      "div", { class: "aevb-row aevb-halves" },
      element("figure", {}, plane.canvas, element("figcaption", {}, "drag the ring: z")),
      element("figure", {}, shown, element("figcaption", {}, "the mean of p(x|z) there"), where.node),
    ),
    drawing,
  );
  model.on("change:z", eachFrame(showPoint));
  model.on("change:dataset", showKind);
  const stopTheme = onTheme(() => {
    plane.renew();
    pad.redraw();
    gap.redraw();
  });
  showKind();
  showDrawing();
  return () => {
    stopTheme();
    for (const part of [plane, pad, where, numbers, gap]) part.stop();
  };
}

export default { render };

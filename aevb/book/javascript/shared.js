// What every widget shares: elements, colours of the theme, readouts, a plane to drag on, and small networks.

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export const format = (value, digits = 2) => value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "\u2212");
export const pair = (a, b, digits = 2) => `(${format(a, digits)}, ${format(b, digits)})`;
export const round = (value, step) => Number((Math.round(value / step) * step).toFixed(6));
export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// A colour of the page or of the palette, as CSS has it at this moment: "text", "muted", "border", "blue", ...
export const colour = (node, name) => getComputedStyle(node).getPropertyValue(`--aevb-${name}`).trim();

// Call `redraw` when the reader turns light to dark; returns what stops it.
export function onTheme(redraw) {
  const observer = new MutationObserver(redraw);
  for (const node of [document.documentElement, document.body])
    observer.observe(node, { attributes: true, attributeFilter: ["data-theme", "data-jp-theme-light"] });
  return () => observer.disconnect();
}

// Named numbers in words: `set({kl: "1.23 nats"})` writes them, and says the whole aloud once they rest.
export function readouts(entries) {
  const fields = {};
  const list = element("div", { class: "aevb-readouts" });
  for (const [name, label] of Object.entries(entries)) {
    fields[name] = element("b", { "data-name": name });
    list.append(element("span", {}, `${label} `, fields[name]));
  }
  const spoken = element("p", { class: "aevb-spoken", role: "status" });
  let timer;
  const set = (values) => {
    for (const [name, value] of Object.entries(values)) fields[name].textContent = value;
    clearTimeout(timer);
    timer = setTimeout(() => {
      spoken.textContent = Object.entries(entries).map(([n, label]) => `${label} ${fields[n].textContent}`).join(", ");
    }, 500);
  };
  return { node: element("div", {}, list, spoken), set, stop: () => clearTimeout(timer) };
}

// A canvas as wide as its column (and as high as `height`, where that is given), sharp on any screen; `paint(context, width, height)` draws it on the next frame.
export class Sheet {
  constructor({ label, aspect = 1, height, role = "img", paint }) {
    this.canvas = element("canvas", { role, "aria-label": label });
    if (height) this.canvas.style.height = height;
    else this.canvas.style.aspectRatio = String(aspect);
    this.paint = paint;
    this.watch = new ResizeObserver(() => this.redraw());
    this.watch.observe(this.canvas);
  }
  redraw() {
    this.asked ??= requestAnimationFrame(() => {
      this.asked = undefined;
      this.now();
    });
  }
  now() {
    const { canvas } = this;
    const [width, height, ratio] = [canvas.clientWidth, canvas.clientHeight, window.devicePixelRatio || 1];
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `12px ${getComputedStyle(canvas).fontFamily}`;
    this.paint(context, width, height);
  }
  stop() {
    this.watch.disconnect();
    cancelAnimationFrame(this.asked);
  }
}

const MARGIN = { left: 38, right: 8, top: 8, bottom: 34 };

// a tick's number, with as many decimals as its axis needs
const tick = (value, all) => format(value, all.every(Number.isInteger) ? 0 : clamp(-Math.floor(Math.log10(all[1] - all[0] + 1e-9)), 1, 4));

function ticks(low, high, target = 6) {
  const rough = (high - low) / target;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9; i++) found.push(Number((i * step).toFixed(6)));
  return found;
}

// Axes on a sheet. `x` and `y` are {min, max, label}; `under(plane, context)` is drawn once for a size and a theme,
// `over` every time. With `move(x, y)` the plane can be dragged, touched and moved on by arrow keys, in steps of
// `step`: what is shown is then what is computed with. `at()` is the point that keys move; `margin` gives more room.
export class Plane extends Sheet {
  constructor({ label, aspect, height, x, y, under = () => {}, over = () => {}, move, at, step = 0.01, margin = {} }) {
    super({ label, aspect, height, role: move ? "application" : "img", paint: (...all) => this.draw(...all) });
    Object.assign(this, { x, y, under, over, move, at, step, margin: { ...MARGIN, ...margin } });
    if (move) this.listen();
  }
  px(x) {
    return this.margin.left + ((x - this.x.min) / (this.x.max - this.x.min)) * (this.width - this.margin.left - this.margin.right);
  }
  py(y) {
    const inner = this.height - this.margin.top - this.margin.bottom;
    return this.margin.top + (1 - (y - this.y.min) / (this.y.max - this.y.min)) * inner;
  }
  // from pixels of the canvas to numbers, kept inside the axes
  invert(left, top) {
    const across = (left - this.margin.left) / (this.canvas.clientWidth - this.margin.left - this.margin.right);
    const up = 1 - (top - this.margin.top) / (this.canvas.clientHeight - this.margin.top - this.margin.bottom);
    const { x, y } = this;
    return this.kept(x.min + across * (x.max - x.min), y.min + up * (y.max - y.min));
  }
  kept(a, b) {
    const { x, y, step } = this;
    return [clamp(round(a, step), x.min, x.max), clamp(round(b, step), y.min, y.max)];
  }
  listen() {
    const { canvas } = this;
    canvas.tabIndex = 0;
    canvas.classList.add("aevb-drag");
    const follow = (event) => {
      const box = canvas.getBoundingClientRect();
      this.move(...this.invert(event.clientX - box.left, event.clientY - box.top));
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      follow(event);
    });
    canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && follow(event));
    canvas.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!way || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const far = this.step * (event.shiftKey ? 1 : 10);
      const [a, b] = this.at();
      this.move(...this.kept(a + far * way[0], b + far * way[1]));
    });
  }
  // what lies under has changed
  renew() {
    this.layer = undefined;
    this.redraw();
  }
  draw(context, width, height) {
    const { canvas } = this;
    if (!this.layer || this.layer.width !== canvas.width || this.layer.height !== canvas.height) {
      Object.assign(this, { width, height });
      this.layer = element("canvas");
      Object.assign(this.layer, { width: canvas.width, height: canvas.height });
      const below = this.layer.getContext("2d");
      below.setTransform(context.getTransform());
      below.font = context.font;
      this.axes(below);
      this.clip(below, () => this.under(this, below));
    }
    context.drawImage(this.layer, 0, 0, width, height);
    this.clip(context, () => this.over(this, context));
  }
  clip(context, paint) {
    const { width, height } = this;
    context.save();
    context.beginPath();
    context.rect(this.margin.left, this.margin.top, width - this.margin.left - this.margin.right, height - this.margin.top - this.margin.bottom);
    context.clip();
    paint();
    context.restore();
  }
  axes(context) {
    const { canvas, x, y, width, height } = this;
    const [left, right, top, bottom] = [this.margin.left, width - this.margin.right, this.margin.top, height - this.margin.bottom];
    context.strokeStyle = colour(canvas, "border");
    context.fillStyle = colour(canvas, "muted");
    context.lineWidth = 1;
    context.textAlign = "center";
    const [across, up] = [ticks(x.min, x.max, Math.min(6, width / 45)), ticks(y.min, y.max, Math.min(6, height / 32))];
    for (const value of across) {
      line(context, [this.px(value), top], [this.px(value), bottom]);
      context.fillText((x.format ?? tick)(value, across), this.px(value), bottom + 14);
    }
    context.fillText(x.label, (left + right) / 2, height - 4);
    context.textAlign = "right";
    for (const value of y.hidden ? [] : up) {
      line(context, [left, this.py(value)], [right, this.py(value)]);
      context.fillText(tick(value, up), left - 5, this.py(value) + 4);
    }
    context.save();
    context.translate(11, (top + bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.textAlign = "center";
    context.fillText(y.label, 0, 0);
    context.restore();
  }
  path(context, points) {
    context.beginPath();
    for (const [a, b] of points) context.lineTo(this.px(a), this.py(b));
  }
  dot(context, a, b, radius) {
    context.beginPath();
    context.arc(this.px(a), this.py(b), radius, 0, 2 * Math.PI);
  }
  // shade the plane darker for each of `levels` that value(x, y) is below
  bands(context, value, levels) {
    const [n, { x, y }] = [90, this];
    const [a, b] = [(x.max - x.min) / n, (y.max - y.min) / n];
    context.fillStyle = colour(this.canvas, "sky");
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) {
        const here = value(x.min + (i + 0.5) * a, y.min + (j + 0.5) * b);
        context.globalAlpha = 0.1 * levels.filter((level) => here < level).length;
        const [left, top] = [this.px(x.min + i * a), this.py(y.min + (j + 1) * b)].map(Math.round);
        const [right, bottom] = [this.px(x.min + (i + 1) * a), this.py(y.min + j * b)].map(Math.round);
        context.fillRect(left, top, right - left, bottom - top);
      }
    context.globalAlpha = 1;
  }
  // the point that is dragged: a ring that stands out from anything under it
  handle(context, a, b, name = "orange") {
    this.dot(context, a, b, 9);
    context.lineWidth = 5;
    context.strokeStyle = colour(this.canvas, "surface");
    context.stroke();
    context.lineWidth = 3;
    context.strokeStyle = colour(this.canvas, name);
    context.stroke();
    this.dot(context, a, b, 2);
    context.fillStyle = context.strokeStyle;
    context.fill();
  }
}

function line(context, from, to) {
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}

// Numbers that `aevb.book.widgets.pack` made: deflated half-precision floats, their high bytes before their low ones.
export async function unpack(view) {
  const stream = new Blob([view]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const n = bytes.length / 2;
  const values = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    const [high, low] = [bytes[i], bytes[n + i]];
    const exponent = (high >> 2) & 31;
    const fraction = ((high & 3) << 8) | low;
    const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
    values[i] = high & 128 ? -size : size;
  }
  return values;
}

// The arrays of a network by name, from `layout`, a list of [name, shape], and its packed weights.
export async function unpackNetwork({ layout, weights }) {
  const values = await unpack(weights);
  const arrays = {};
  let start = 0;
  for (const [name, shape] of layout) {
    const size = shape.reduce((a, b) => a * b, 1);
    arrays[name] = values.subarray(start, start + size);
    start += size;
  }
  return arrays;
}

// W u + b, as Affine in aevb/networks.py
export function affine(arrays, name, u) {
  const [weight, bias] = [arrays[`${name}.weight`], arrays[`${name}.bias`]];
  const [n, m] = [bias.length, u.length];
  const out = new Float64Array(n);
  for (let i = 0, k = 0; i < n; i++) {
    let total = bias[i];
    for (let j = 0; j < m; j++) total += weight[k++] * u[j];
    out[i] = total;
  }
  return out;
}

export const sigmoid = (a) => 1 / (1 + Math.exp(-a));
export const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));

// the decoder's logits at z; the output layer of the Bernoulli MLP is called logit (eq. 11), the Gaussian's mu (eq. 12)
export function decode(arrays, z) {
  const hidden = affine(arrays, "decoder.hidden", z).map(Math.tanh);
  return affine(arrays, "decoder.logit.weight" in arrays ? "decoder.logit" : "decoder.mu", hidden);
}

// log p(x|z) of eq. 11 from logits, in nats
export function logLikelihood(x, logits) {
  let total = 0;
  for (let i = 0; i < x.length; i++) total += x[i] * logits[i] - softplus(logits[i]);
  return total;
}

// A small picture, one canvas pixel a value in [0, 1]: digits black on white, faces (`light`) as photographs.
export function picture(label, [height, width]) {
  const canvas = element("canvas", { role: "img", "aria-label": label, class: "aevb-picture", width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const draw = (values, light = false) => {
    const image = context.createImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      const grey = Math.round(255 * (light ? values[i] : 1 - values[i]));
      image.data.set([grey, grey, grey, 255], 4 * i);
    }
    context.putImageData(image, 0, 0);
  };
  return { canvas, draw };
}

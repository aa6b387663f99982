// Train the paper's VAE in the page: the bound climbs over the paper's curve, and the decoder's pictures form.
import { colour, element, format, onTheme, Plane, readouts } from "./shared.js";

const NAMES = { aevb: "AEVB", "wake-sleep": "wake-sleep" };
const CHOICES = [["algorithm", "Algorithm"], ["latents", "Latents"], ["hidden", "Hidden units"], ["step_size", "Step size"]];
let groups = 0;

const count = (n) => Math.round(n).toLocaleString("en-US");

// The bytes of a file of the page, or of the kernel in a live notebook; undefined where neither has it.
async function fetched(model, name, path) {
  const { content_root: root } = document.documentElement.dataset;
  if (root !== undefined) {
    const answer = await fetch(new URL(`${root}_static/${path}`, document.baseURI)).catch(() => undefined);
    const bytes = answer?.ok && (await answer.arrayBuffer());
    return bytes?.byteLength ? bytes : undefined;
  }
  return new Promise((found) => {
    const hear = (message, buffers) => {
      if (message.name !== name) return;
      model.off("msg:custom", hear);
      const [view] = buffers;
      found(view?.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
    };
    model.on("msg:custom", hear);
    model.send({ name });
  });
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// What a worker needs, loaded once: the address of its script, those of the WebAssembly binaries, the digits. Undefined,
// with the reason in `say`, where something is missing.
async function loaded(model, say) {
  const paths = model.get("files");
  const names = Object.keys(paths);
  const files = Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await fetched(model, name, paths[name])])));
  if (!files.digits) return say("This page was built without the digits: build the book on a machine that has the data.");
  if (!files.core || !files.cpu) return say("This page was built without TensorFlow.js: build the book where npm is installed.");
  const address = (parts, type) => URL.createObjectURL(new Blob(parts, { type }));
  const scripts = ["core", "cpu", "wasm", "webgpu"].map((name) => files[name]).filter(Boolean);
  const script = address([...scripts.flatMap((text) => [text, "\n;\n"]), model.get("worker")], "text/javascript");
  const binary = (name) => address([files[name]], "application/wasm");
  const wasm = files.wasm && files.plain && files.simd && {
    "tfjs-backend-wasm.wasm": binary("plain"), "tfjs-backend-wasm-simd.wasm": binary("simd"),
    "tfjs-backend-wasm-threaded-simd.wasm": binary("simd"), // never asked for: a page has no shared memory
  };
  return { script, wasm, pixels: await inflated(files.digits) };
}

function render({ model, el }) {
  const curves = model.get("curves");
  const state = (name) => model.get(name);
  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  const log = Math.log10;
  let [needs, worker, points, last, going, run, latest] = [undefined, undefined, [], undefined, false, 0, undefined];

  const shown = () => curves.find((c) => c.algorithm === state("algorithm") && c.latents === state("latents"));
  const band = () => shown().ours[state("hidden")];
  const plane = new Plane({
    label: "The mean bound of the training digits against training samples", aspect: 1.25, margin: { left: 52, right: 14 },
    x: { min: 3, max: 6, label: "training samples seen", format: (v) => (Number.isInteger(v) ? `10${"\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076"[v]}` : "") },
    y: { min: -220, max: -90, label: "training bound (nats)" },
    under: (_, context) => {
      line(context, shown().paper, "muted", 6, 0.35);
      line(context, shown().record, "text", 1.8, 1);
      const { samples, low, high } = band();
      plane.path(context, [...samples.map((s, i) => [log(s), high[i]]), ...samples.map((s, i) => [log(s), low[i]]).reverse()]);
      context.globalAlpha = 0.3;
      context.fillStyle = colour(el, "blue");
      context.fill();
      context.globalAlpha = 1;
    },
    over: (_, context) => {
      const all = last ? [...points, last] : points;
      line(context, { samples: all.map((p) => p.samples), mean: all.map((p) => p.running) }, "orange", 2.5, 1);
    },
  });
  function line(context, { samples, mean }, tint, width, alpha) {
    if (!samples.length) return;
    plane.path(context, samples.map((s, i) => [log(s), Math.max(mean[i], plane.y.min - 1e4)]));
    [context.lineWidth, context.globalAlpha, context.strokeStyle] = [width, alpha, colour(el, tint)];
    context.stroke();
    context.globalAlpha = 1;
  }

  // the pictures of a grid of z, as a mosaic
  const [side, size] = [model.get("tiles"), model.get("side")];
  const mosaic = element("canvas", { class: "aevb-picture", role: "img", width: side * size, height: side * size, "aria-label": "What the decoder makes of a grid of z" });
  const sheet = mosaic.getContext("2d");
  const caption = element("figcaption", {});
  function paint(values) {
    const image = sheet.createImageData(side * size, side * size);
    for (let k = 0, n = 0; k < side * side; k++)
      for (let i = 0; i < size; i++)
        for (let j = 0; j < size; j++) {
          const at = 4 * (((Math.floor(k / side) * size + i) * side + (k % side)) * size + j);
          image.data.fill(Math.round(255 * (1 - values[n++])), at, at + 3);
          image.data[at + 3] = 255;
        }
    sheet.putImageData(image, 0, 0);
  }

  const numbers = readouts({ samples: "samples", bound: "training bound", test: "on 1,000 test digits", rate: "rate", backend: "computed by" });
  const blank = { samples: "0", bound: "\u2013", test: "\u2013", rate: "\u2013" };
  const note = element("p", { class: "aevb-verdict", role: "status" });
  const say = (text) => {
    note.textContent = text;
  };
  const train = element("button", { type: "button", onclick: () => (going ? pause() : go()) }, "Train");
  const again = element("button", { type: "button", onclick: () => begin() }, "Start again");

  groups += 1;
  const options = model.get("options");
  const chips = CHOICES.map(([name, legend]) =>
    element(
      "fieldset", { class: "aevb-chips" }, element("legend", {}, legend),
      element("div", {}, ...options[name].map((value) => element("label", {}, element("input", {
        type: "radio", name: `aevb-${name}-${groups}`, value, ...(value === state(name) ? { checked: "" } : {}),
        onchange: () => {
          model.set(name, value);
          model.save_changes();
        },
      }), ` ${NAMES[value] ?? value}`))),
    ));

  const hear = {
    ready: ({ backend }) => numbers.set({ backend }),
    progress: ({ samples, running, rate }) => {
      last = { samples, running };
      numbers.set({ samples: count(samples), bound: `${format(running, 1)} nats`, rate: `${count(rate)} samples per second` });
      plane.redraw();
    },
    point: ({ samples, running, test }) => {
      points.push({ samples, running });
      last = undefined;
      numbers.set({ samples: count(samples), bound: `${format(running, 1)} nats`, test: `${format(test, 1)} nats` });
      model.set("points", [...model.get("points"), [samples, running, test]]);
      model.save_changes();
      if (latest) paint(latest);
      plane.redraw();
    },
    picture: ({ values }) => {
      latest = values;
      if (!going || !still()) paint(values);
    },
    diverged: ({ samples }) => {
      pause();
      say(`The bound is no longer a number after ${count(samples)} samples: start again with a smaller step size.`);
    },
    failed: ({ reason }) => {
      pause();
      say(`Training stopped: ${reason}. Start again to begin anew.`);
    },
  };

  // A worker for the model that is chosen now; the last one and what it learnt are let go.
  async function begin() {
    const mine = (run += 1);
    worker?.terminate();
    [worker, points, last] = [undefined, [], undefined];
    pause();
    model.set("points", []);
    numbers.set({ ...blank, backend: "\u2013" });
    plane.redraw();
    say("Loading the digits and TensorFlow.js \u2026");
    needs ??= await loaded(model, say);
    if (!needs || mine !== run) return;
    worker = new Worker(needs.script);
    worker.onmessage = ({ data }) => mine === run && hear[data.type](data);
    worker.onerror = ({ message }) => mine === run && hear.failed({ reason: message });
    const choice = Object.fromEntries(CHOICES.map(([name]) => [name, state(name)]));
    const settings = { ...model.get("settings")[choice.algorithm], ...choice, pixels: size * size, seed: state("seed") };
    worker.postMessage({ type: "begin", settings, pixels: needs.pixels, n_train: model.get("n_train"), grid: model.get("grid"), wasm: needs.wasm });
    say("");
  }
  async function go() {
    [going, train.textContent] = [true, "Pause"];
    if (!worker) await begin();
    if (!worker) return pause();
    [going, train.textContent] = [true, "Pause"];
    worker.postMessage({ type: "train" });
  }
  function pause() {
    [going, train.textContent] = [false, "Train"];
    worker?.postMessage({ type: "pause" });
  }
  // another model: what was learnt is of no use to it
  function renew() {
    const two = state("latents") === 2;
    caption.textContent = two ? "p(x|z) over the plane of z" : "p(x|z) at a hundred draws from p(z)";
    plane.renew();
    if (worker) begin();
  }

  el.classList.add("aevb-widget", "aevb-train");
  const key = (name, text) => element("span", {}, element("i", { class: `aevb-key-${name}` }), ` ${text}`);
  el.append(
    ...chips, element("div", { class: "aevb-buttons" }, train, again), note,
    element(
      "div", { class: "aevb-row aevb-halves" },
      element("figure", {}, plane.canvas, element(
        "figcaption", { class: "aevb-keys" }, key("paper", "the paper, 50,000 digits"), key("encoder", "our record of it"),
        key("band", "the library on these digits, five seeds"), key("page", "this page"))),
      element("figure", {}, mosaic, caption),
    ),
    numbers.node,
  );
  for (const name of ["algorithm", "latents", "hidden"]) model.on(`change:${name}`, renew);
  model.on("change:step_size", () => worker?.postMessage({ type: "step", size: state("step_size") }));
  const stopTheme = onTheme(() => plane.renew());
  numbers.set({ ...blank, backend: "\u2013" });
  renew();
  return () => {
    run += 1;
    worker?.terminate();
    stopTheme();
    for (const part of [plane, numbers]) part.stop();
  };
}

export default { render };

// The training loop of `train.js`, in a thread of its own: TensorFlow.js stands before it in the same script.
import { Trainer } from "./trainer.js";

const CHUNK = 60; // milliseconds of training between two looks at the messages
const PICTURE = 400; // milliseconds between two pictures of the decoder
const BATCH = 100;

// WebGPU where a graphics processor does it, else WebAssembly, else plain script; its name in words.
async function chooseBackend(wasm) {
  const adapter = tf.findBackendFactory("webgpu") && (await navigator.gpu?.requestAdapter());
  const software = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter;
  if (adapter && !software && (await tf.setBackend("webgpu"))) return "WebGPU";
  if (wasm) {
    tf.wasm.setWasmPaths(wasm);
    const simd = await tf.env().getAsync("WASM_HAS_SIMD_SUPPORT");
    if (await tf.setBackend("wasm")) return simd ? "WebAssembly with SIMD" : "WebAssembly";
  }
  await tf.setBackend("cpu");
  return "plain script";
}

// The samples of the next point of the curve: ten in each decade, at whole minibatches, as run.evaluation_grid has them.
function nextPoint(samples) {
  for (let k = 30; ; k++) {
    const place = Math.round(10 ** (k / 10) / BATCH) * BATCH;
    if (place > samples) return place;
  }
}

// Training of one model on the digits, a chunk at a time; what it posts is listed in `train.js`.
class Session {
  constructor({ settings, pixels, n_train, grid }) {
    const { pixels: width, latents, seed } = settings;
    Object.assign(this, { settings, pixels, n_train, width, going: false, samples: 0, sum: 0, steps: 0, chunk: 1 });
    this.trainer = new Trainer(tf, settings);
    const n_test = pixels.length / width - n_train;
    this.test = this.digits(Array.from({ length: n_test }, (_, i) => n_train + i));
    this.eps = tf.randomNormal([n_test, latents], 0, 1, "float32", seed + 1); // the same at each point
    this.z = latents === 2 ? tf.tensor2d(grid) : tf.randomNormal([grid.length, latents], 0, 1, "float32", seed + 2);
    this.painted = -Infinity;
  }

  // the rows asked for, in [0, 1)
  digits(rows) {
    const { pixels, width, settings } = this;
    const values = new Float32Array(rows.length * width);
    rows.forEach((row, i) => {
      for (let j = 0; j < width; j++) values[i * width + j] = pixels[row * width + j] / settings.greys;
    });
    return tf.tensor2d(values, [rows.length, width]);
  }

  // the next minibatch, drawn with replacement
  minibatch() {
    const seed = 7e8 + 1e6 * this.settings.seed + this.trainer.steps;
    const rows = tf.tidy(() => tf.randomUniform([BATCH], 0, this.n_train, "int32", seed).dataSync());
    return this.digits([...rows]);
  }

  async advance() {
    const start = performance.now();
    const place = nextPoint(this.samples);
    const steps = Math.min(this.chunk, (place - this.samples) / BATCH);
    for (let i = 0; i < steps; i++) {
      const x = this.minibatch();
      this.trainer.step(x);
      x.dispose();
    }
    const mean = await this.trainer.running(steps);
    const elapsed = performance.now() - start;
    this.chunk = Math.max(1, Math.round((steps * CHUNK) / elapsed));
    [this.sum, this.steps, this.samples] = [this.sum + mean * steps, this.steps + steps, this.samples + steps * BATCH];
    const running = this.sum / this.steps;
    if (!Number.isFinite(running)) {
      this.going = false;
      postMessage({ type: "diverged", samples: this.samples });
      return;
    }
    const rate = (1000 * steps * BATCH) / elapsed;
    this.rate = this.rate ? 0.8 * this.rate + 0.2 * rate : rate;
    postMessage({ type: "progress", samples: this.samples, running, rate: this.rate });
    if (this.samples === place) await this.point(running);
    if (performance.now() > this.painted + PICTURE) await this.picture();
  }

  async point(running) {
    const bounds = this.trainer.bound(this.test, this.eps);
    const values = await bounds.data();
    bounds.dispose();
    postMessage({ type: "point", samples: this.samples, running, test: values.reduce((a, b) => a + b, 0) / values.length });
    [this.sum, this.steps] = [0, 0];
  }

  // what the decoder makes of the grid, a row of pixels for each z
  async picture() {
    const means = this.trainer.means(this.z);
    const values = await means.data();
    means.dispose();
    this.painted = performance.now();
    postMessage({ type: "picture", values }, [values.buffer]);
  }
}

let session;
const turn = new MessageChannel(); // back to the messages at once: a timer would wait
turn.port1.onmessage = async () => {
  if (!session?.going) return;
  try {
    await session.advance();
  } catch (error) {
    session.going = false;
    postMessage({ type: "failed", reason: error.message });
  }
  turn.port2.postMessage(0);
};

const obey = {
  begin: async ({ wasm, ...start }) => {
    const backend = await chooseBackend(wasm);
    session = new Session(start);
    postMessage({ type: "ready", backend });
    await session.picture();
  },
  train: () => {
    session.going = true;
    turn.port2.postMessage(0);
  },
  pause: () => {
    session.going = false;
  },
  step: ({ size }) => {
    session.settings.step_size = size;
  },
};
let before = Promise.resolve(); // each message waits for the last
onmessage = ({ data }) => {
  before = before.then(() => obey[data.type](data)).catch((error) => postMessage({ type: "failed", reason: error.message }));
};

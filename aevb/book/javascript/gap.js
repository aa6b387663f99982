// How far the bound of a digit stands below log p(x), and why: log p(x) on a lattice that refines itself where the
// posterior is, and the best diagonal Gaussian q for this one digit, under a Bernoulli decoder with two latents.
import { affine, sigmoid, softplus } from "./shared.js";

const UNIT = 1 / 1024; // of the lattices' coordinates, so that nodes of all steps have whole numbers
const STEPS = [256, 128, 64, 32, 16, 8]; // in units: from a quarter on, each half the last
const BELOW = [35, 25, 18, 15, 15, 15]; // nats below the highest node within which a lattice is refined
const REACH = 5; // of the first lattice, each way; where the posterior reaches further, so does the lattice
const STILL = 0.002; // nats: two lattices that agree to this are the answer
const BLOCK = 8; // points that go through the decoder side by side
const KEPT = 200000; // nodes to remember
const LOG_2PI = Math.log(2 * Math.PI);
const key = (i, j) => (i + 32768) * 65536 + (j + 32768);
const nodeOf = (k) => [Math.floor(k / 65536) - 32768, (k % 65536) - 32768];
const around = [-1, 0, 1].flatMap((a) => [-1, 0, 1].map((b) => [a, b]));

// Long work in short slices: `await pace()` now and then. It throws once `stale()`, and leaves the page its frames.
export function pacer(stale, slice = 8) {
  let begun = performance.now();
  return async () => {
    if (performance.now() - begun < slice) return;
    await new Promise((go) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => (port1.close(), go());
      port2.postMessage(0);
    });
    if (stale()) throw new Stale();
    begun = performance.now();
  };
}
export class Stale extends Error {}

// The decoder as a function of z alone: what log p(x|z) needs of it for every x is the sum of softplus(logits).
export class Decoded {
  constructor(arrays) {
    this.arrays = arrays;
    this.sums = new Map(); // by node
    [this.weight, this.bias] = [arrays["decoder.logit.weight"], arrays["decoder.logit.bias"]];
    this.n = arrays["decoder.hidden.bias"].length;
    this.block = new Float64Array(this.n * BLOCK);
  }
  hidden(z) {
    return affine(this.arrays, "decoder.hidden", z).map(Math.tanh);
  }
  // for at most BLOCK points
  softplusSums(points) {
    const { n, block, weight, bias } = this;
    points.forEach((z, b) => this.hidden(z).forEach((h, k) => (block[k * BLOCK + b] = h)));
    const totals = new Float64Array(BLOCK);
    for (let i = 0, w = 0; i < bias.length; i++) {
      let [a0, a1, a2, a3, a4, a5, a6, a7] = [0, 0, 0, 0, 0, 0, 0, 0];
      for (let k = 0, at = 0; k < n; k++, at += BLOCK) {
        const by = weight[w++];
        a0 += by * block[at];
        a1 += by * block[at + 1];
        a2 += by * block[at + 2];
        a3 += by * block[at + 3];
        a4 += by * block[at + 4];
        a5 += by * block[at + 5];
        a6 += by * block[at + 6];
        a7 += by * block[at + 7];
      }
      [a0, a1, a2, a3, a4, a5, a6, a7].forEach((a, b) => (totals[b] += softplus(a + bias[i])));
    }
    return totals.subarray(0, points.length);
  }
  async atNodes(keys, pace) {
    const missing = keys.filter((k) => !this.sums.has(k));
    for (let from = 0; from < missing.length; from += BLOCK) {
      const some = missing.slice(from, from + BLOCK);
      this.softplusSums(some.map((k) => nodeOf(k).map((i) => i * UNIT))).forEach((s, b) => this.sums.set(some[b], s));
      await pace();
    }
  }
}

// log p(x, z) of one x, in nats
export class Joint {
  constructor(decoded, x) {
    Object.assign(this, { decoded, x });
    const { weight, bias, n } = decoded;
    this.across = new Float64Array(n);
    this.offset = 0;
    x.forEach((value, i) => {
      if (!value) return;
      this.offset += value * bias[i];
      for (let k = 0; k < n; k++) this.across[k] += value * weight[i * n + k];
    });
  }
  at(z, softplusSum) {
    let total = this.offset - softplusSum - 0.5 * (z[0] ** 2 + z[1] ** 2) - LOG_2PI;
    this.decoded.hidden(z).forEach((h, k) => (total += this.across[k] * h));
    return total;
  }
  async many(points, pace) {
    const values = [];
    for (let from = 0; from < points.length; from += BLOCK) {
      const some = points.slice(from, from + BLOCK);
      this.decoded.softplusSums(some).forEach((s, b) => values.push(this.at(some[b], s)));
      await pace();
    }
    return values;
  }
  async atNodes(keys, pace) {
    await this.decoded.atNodes(keys, pace);
    const values = [];
    for (const k of keys) {
      values.push(this.at(nodeOf(k).map((i) => i * UNIT), this.decoded.sums.get(k)));
      if (values.length % BLOCK === 0) await pace();
    }
    return values;
  }
  // with the gradient in z
  gradient(z) {
    const { weight, bias, n, arrays } = this.decoded;
    const [hidden, inner] = [this.decoded.hidden(z), arrays["decoder.hidden.weight"]];
    const back = new Float64Array(n);
    let value = -0.5 * (z[0] ** 2 + z[1] ** 2) - LOG_2PI;
    for (let i = 0; i < bias.length; i++) {
      let logit = bias[i];
      for (let k = 0, w = i * n; k < n; k++) logit += weight[w++] * hidden[k];
      value += this.x[i] * logit - softplus(logit);
      const error = this.x[i] - sigmoid(logit);
      for (let k = 0, w = i * n; k < n; k++) back[k] += error * weight[w++];
    }
    const slope = [-z[0], -z[1]];
    for (let k = 0; k < n; k++)
      for (let j = 0; j < 2; j++) slope[j] += back[k] * (1 - hidden[k] ** 2) * inner[2 * k + j];
    return { value, slope };
  }
}

const logSumExp = (values) => {
  const top = values.reduce((a, b) => Math.max(a, b), -Infinity);
  return top + Math.log(values.reduce((sum, v) => sum + Math.exp(v - top), 0));
};

// log p(x) by the trapezoid rule on ever finer lattices, each where the last was high, until two agree. `values` has
// log p(x, z) by node of the last, `step` its spacing in units.
export async function evidence(joint, pace) {
  let keys = [];
  const edge = REACH / UNIT;
  for (let i = -edge; i <= edge; i += STEPS[0]) for (let j = -edge; j <= edge; j += STEPS[0]) keys.push(key(i, j));
  let [last, top] = [NaN, -Infinity];
  for (let level = 0; ; level++) {
    const [step, values] = [STEPS[level], new Map()];
    let high;
    while (keys.length) {
      (await joint.atNodes(keys, pace)).forEach((value, at) => values.set(keys[at], value));
      for (const value of values.values()) top = Math.max(top, value);
      high = [...values].filter(([, value]) => value > top - BELOW[level]).map(([k]) => k);
      keys = neighbours(high, step).filter((k) => !values.has(k));
    }
    const logPx = logSumExp([...values.values()]) + 2 * Math.log(step * UNIT);
    if ((level > 1 && Math.abs(logPx - last) < STILL) || level === STEPS.length - 1) return { logPx, values, step };
    last = logPx;
    keys = neighbours(high, step / 2);
  }
}

function neighbours(keys, step) {
  const found = new Set();
  for (const k of keys) {
    const [i, j] = nodeOf(k);
    for (const [a, b] of around) found.add(key(i + a * step, j + b * step));
  }
  return [...found];
}

// Mean and standard deviations of the posterior, and the highest of its modes with the widths that their curvature
// gives: where to begin looking for the best q, as [mu1, mu2, log sd1, log sd2].
export function starts({ logPx, values, step }) {
  const h = step * UNIT;
  const [mean, square, modes] = [[0, 0], [0, 0], []];
  for (const [k, value] of values) {
    const [node, mass] = [nodeOf(k), Math.exp(value - logPx) * h * h];
    node.forEach((i, j) => {
      mean[j] += mass * i * UNIT;
      square[j] += mass * (i * UNIT) ** 2;
    });
    const near = neighbours([k], step).map((other) => values.get(other) ?? -Infinity);
    if (value >= Math.max(...near)) modes.push([value, node]);
  }
  const log = (v) => 0.5 * Math.log(Math.max(v, 1e-6));
  const found = [[...mean, ...square.map((v, j) => log(v - mean[j] ** 2))]];
  modes.sort(([a], [b]) => b - a);
  for (const [value, [i, j]] of modes.slice(0, 2)) {
    const sides = [[step, 0], [0, step]].map(([a, b]) => (values.get(key(i + a, j + b)) ?? NaN) + (values.get(key(i - a, j - b)) ?? NaN));
    const variances = sides.map((both) => (h * h) / Math.max(2 * value - both, 1e-3));
    if (variances.every(Number.isFinite)) found.push([i * UNIT, j * UNIT, ...variances.map(log)]);
  }
  return found;
}

const grid = ({ nodes, masses }) => nodes.flatMap((a, i) => nodes.map((b, k) => [[a, b], masses[i] * masses[k]]));
const entropy = (p) => p[2] + p[3] + 1 + LOG_2PI;
const place = (p, eps) => eps.map((e, j) => p[j] + Math.exp(p[2 + j]) * e);

// The bound of q = N((p0, p1), diag(exp(p2), exp(p3))^2), in nats, by a rule of quadrature
export async function boundOf(joint, p, rule, pace) {
  const points = grid(rule);
  const values = await joint.many(points.map(([eps]) => place(p, eps)), pace);
  return entropy(p) + points.reduce((sum, [, mass], at) => sum + mass * values[at], 0);
}

// The same with its gradient in p: that of the reparameterised z, averaged over the nodes
async function climb(joint, p, rule, pace) {
  let value = entropy(p);
  const slope = [0, 0, 1, 1];
  for (const [eps, mass] of grid(rule)) {
    const here = joint.gradient(place(p, eps));
    value += mass * here.value;
    for (let j = 0; j < 2; j++) {
      slope[j] += mass * here.slope[j];
      slope[2 + j] += mass * here.slope[j] * Math.exp(p[2 + j]) * eps[j];
    }
    await pace();
  }
  return { value, slope };
}

const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);

// The best diagonal q from one start, by BFGS in its four numbers
async function ascend(joint, p, rule, pace) {
  let here = await climb(joint, p, rule, pace);
  let inverse = [Math.exp(2 * p[2]), Math.exp(2 * p[3]), 0.5, 0.5].map((v, i) => [0, 1, 2, 3].map((j) => (i === j ? v : 0)));
  for (let turn = 0; turn < 60; turn++) {
    let way = inverse.map((row) => dot(row, here.slope));
    const far = Math.max(...way.map((v, j) => Math.abs(v) / (j < 2 ? 2 * Math.exp(p[2 + j]) : 1)), 1);
    way = way.map((v) => v / far); // at most two standard deviations, and a factor of e
    const rise = dot(way, here.slope);
    if (!(rise > 1e-4)) break;
    let [share, next, there] = [1];
    do {
      next = p.map((v, j) => v + share * way[j]);
      there = await climb(joint, next, rule, pace);
      share /= 3;
    } while (!(there.value >= here.value + 1e-4 * share * rise) && share > 1e-4);
    if (!(there.value > here.value)) break;
    const s = next.map((v, j) => v - p[j]);
    const y = here.slope.map((v, j) => v - there.slope[j]);
    const [sy, across] = [dot(s, y), inverse.map((row) => dot(row, y))];
    if (sy > 1e-10) {
      const more = (1 + dot(y, across) / sy) / sy;
      inverse = inverse.map((row, i) => row.map((v, j) => v + more * s[i] * s[j] - (across[i] * s[j] + s[i] * across[j]) / sy));
    }
    [p, here] = [next, there];
  }
  return { p, value: here.value };
}

// All of it for one digit: `logPx`, the bound of the encoder's q and of the best, in nats, and where they stand.
export async function split(decoded, x, { mu, sd }, rules, stale) {
  if (decoded.sums.size > KEPT) decoded.sums.clear();
  const [joint, pace] = [new Joint(decoded, x), pacer(stale)];
  const lattice = await evidence(joint, pace);
  let best = { value: -Infinity };
  for (const start of starts(lattice)) {
    if (best.p && [0, 1].every((j) => Math.abs(start[j] - best.p[j]) < Math.exp(best.p[2 + j]))) continue; // its hill
    const found = await ascend(joint, start, rules.coarse, pace);
    if (found.value > best.value) best = found;
  }
  const ours = await boundOf(joint, [...mu, ...sd.map(Math.log)], rules.fine, pace);
  const bound = await boundOf(joint, best.p, rules.fine, pace);
  return { ...lattice, ours, best: bound, mu: best.p.slice(0, 2), sd: best.p.slice(2).map(Math.exp) };
}

// The posterior for a picture: log p(z|x) on a fine grid over `box` {min, max}[2], between nodes by cubics.
export function resample({ logPx, values, step }, box, n) {
  const place = (j, k) => (box[j].min + ((k + 0.5) / n) * (box[j].max - box[j].min)) / (step * UNIT);
  const [[left, right], [low, high]] = [0, 1].map((j) => [Math.floor(place(j, 0)) - 1, Math.floor(place(j, n - 1)) + 2]);
  const wide = right - left + 1;
  const nodes = new Float64Array(wide * (high - low + 1)).fill(-60); // far below what is drawn
  for (const [k, value] of values) {
    const [i, j] = nodeOf(k).map((v) => v / step);
    if (i < left || i > right || j < low || j > high) continue;
    nodes[(j - low) * wide + i - left] = Math.max(-60, value - logPx);
  }
  const cubic = (t) => [((2 - t) * t - 1) * t, (3 * t - 5) * t * t + 2, ((4 - 3 * t) * t + 1) * t, (t - 1) * t * t].map((v) => v / 2);
  const out = new Float64Array(n * n);
  for (let b = 0; b < n; b++)
    for (let a = 0; a < n; a++) {
      const [u, v] = [place(0, a), place(1, b)];
      const [i, j] = [Math.floor(u), Math.floor(v)];
      const [across, up] = [cubic(u - i), cubic(v - j)];
      let total = 0;
      for (let m = 0; m < 4; m++) for (let l = 0; l < 4; l++) total += across[l] * up[m] * nodes[(j + m - 1 - low) * wide + i + l - 1 - left];
      out[b * n + a] = total;
    }
  return out;
}

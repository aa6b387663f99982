// The paper's VAE in TensorFlow.js: gradients by hand as in aevb/backward.py, Adagrad with the prior as in
// aevb/optimizer.py. Weights are stored as (inputs, outputs), Python's transposed, so that no large matrix is turned.

const DEVIATION = 0.01; // of the initial weights
const EPS = 1e-8;

// The layers of a model by name, each [inputs, outputs], as aevb/networks.py names them.
export function shapes({ pixels, hidden, latents }) {
  return {
    "decoder.hidden": [latents, hidden], "decoder.logit": [hidden, pixels],
    "encoder.hidden": [pixels, hidden], "encoder.mu": [hidden, latents], "encoder.log_var": [hidden, latents],
  };
}

// Weights and biases from N(0, 0.01^2), by name; a slow log-variance starts at zero (networks.SlowAffine).
export function initialWeights(tf, settings) {
  const weights = {};
  let seed = 1000 * settings.seed;
  for (const [name, [inputs, outputs]] of Object.entries(shapes(settings))) {
    const deviation = settings.slow_log_var && name === "encoder.log_var" ? 0 : DEVIATION;
    weights[name] = {
      weight: tf.randomNormal([inputs, outputs], 0, deviation, "float32", ++seed),
      bias: tf.randomNormal([outputs], 0, deviation, "float32", ++seed),
    };
  }
  return weights;
}

// One run: `settings` has pixels, hidden, latents, algorithm, warm_up, slow_log_var, prior_weight, step_size, seed.
export class Trainer {
  constructor(tf, settings, weights = initialWeights(tf, settings)) {
    Object.assign(this, { tf, settings, steps: 0 });
    this.layers = {};
    for (const [name, { weight, bias }] of Object.entries(weights))
      this.layers[name] = {
        weight, bias, of_weight: tf.zerosLike(weight), of_bias: tf.zerosLike(bias), // Adagrad's sums of squares
        scale: settings.slow_log_var && name === "encoder.log_var" ? 0.1 : 1,
      };
    this.bound_sum = tf.scalar(0);
  }

  // scale W u + b, of every row of u
  affine(name, u) {
    const { tf, layers } = this;
    const { weight, bias, scale } = layers[name];
    const product = tf.matMul(u, weight);
    return tf.add(scale === 1 ? product : tf.mul(product, scale), bias);
  }

  encode(x) {
    const h = this.tf.tanh(this.affine("encoder.hidden", x));
    return { h, mu: this.affine("encoder.mu", h), log_var: this.affine("encoder.log_var", h) };
  }

  decode(z) {
    const h = this.tf.tanh(this.affine("decoder.hidden", z));
    return { h, logits: this.affine("decoder.logit", h) };
  }

  // the means of p(x|z)
  means(z) {
    return this.tf.tidy(() => this.tf.sigmoid(this.decode(z).logits));
  }

  // the bound of each row of x, in nats, by estimator B with the noise eps
  bound(x, eps) {
    const { tf } = this;
    return tf.tidy(() => {
      const { mu, log_var } = this.encode(x);
      const { logits } = this.decode(tf.add(mu, tf.mul(tf.exp(tf.mul(log_var, 0.5)), eps)));
      return tf.sub(this.logLikelihood(x, logits), this.divergence(mu, log_var));
    });
  }

  // log p(x|z) of equation 11
  logLikelihood(x, logits) {
    const { tf } = this;
    return tf.sum(tf.sub(tf.mul(x, logits), tf.softplus(logits)), 1);
  }

  // KL(q(z|x) || p(z)) of Appendix B
  divergence(mu, log_var) {
    const { tf } = this;
    return tf.mul(tf.sum(tf.sub(tf.add(tf.square(mu), tf.exp(log_var)), tf.add(log_var, 1)), 1), 0.5);
  }

  // The gradients of one layer, from the loss's in its output; `across` is its input's transpose.
  layerGradients(name, slope, across) {
    const { tf } = this;
    const weight = tf.matMul(across, slope);
    const { scale } = this.layers[name];
    return { weight: scale === 1 ? weight : tf.mul(weight, scale), bias: tf.sum(slope, 0) };
  }

  // The gradient in the input of a layer: of (W slope^T)^T, so that the small matrices are turned.
  toInput(name, slope) {
    const { tf } = this;
    const { weight, scale } = this.layers[name];
    const product = tf.transpose(tf.matMul(weight, tf.transpose(slope)));
    return scale === 1 ? product : tf.mul(product, scale);
  }

  // The gradients of one network's layers: `heads` are the slopes of its layers on top.
  networkGradients(network, u, h, heads) {
    const { tf } = this;
    const across = tf.transpose(h);
    const gradients = {};
    let in_h;
    for (const [name, slope] of Object.entries(heads)) {
      gradients[name] = this.layerGradients(name, slope, across);
      const part = this.toInput(name, slope);
      in_h = in_h ? tf.add(in_h, part) : part;
    }
    const slope = tf.mul(in_h, tf.sub(1, tf.square(h)));
    gradients[`${network}.hidden`] = this.layerGradients(`${network}.hidden`, slope, tf.transpose(u));
    return { gradients, slope };
  }

  // Of log p(x|z), negative: the decoder's gradients, and log p(x|z) itself.
  likelihoodGradients(x, z) {
    const { tf } = this;
    const { h, logits } = this.decode(z);
    const slope = tf.sub(tf.sigmoid(logits), x);
    return { log_px: this.logLikelihood(x, logits), ...this.networkGradients("decoder", z, h, { "decoder.logit": slope }) };
  }

  // objectives.aevb, negative, summed over the minibatch; noise is {eps}
  aevb(x, { eps }) {
    const { tf } = this;
    const { h, mu, log_var } = this.encode(x);
    const away = tf.mul(tf.exp(tf.mul(log_var, 0.5)), eps);
    const { log_px, gradients, slope } = this.likelihoodGradients(x, tf.add(mu, away));
    const in_z = this.toInput("decoder.hidden", slope);
    const in_log_var = tf.mul(tf.sub(tf.add(tf.mul(away, in_z), tf.exp(log_var)), 1), 0.5);
    const heads = { "encoder.mu": tf.add(mu, in_z), "encoder.log_var": in_log_var };
    return {
      bound: tf.sub(log_px, this.divergence(mu, log_var)),
      gradients: { ...gradients, ...this.networkGradients("encoder", x, h, heads).gradients },
    };
  }

  // objectives.wake_sleep; noise is {eps} of the wake phase, {z, x} of the dream
  wakeSleep(x, noise) {
    const { tf } = this;
    const awake = this.encode(x);
    const z = tf.add(awake.mu, tf.mul(tf.exp(tf.mul(awake.log_var, 0.5)), noise.eps));
    const { log_px, gradients } = this.likelihoodGradients(x, z);
    const ratio = tf.sub(tf.add(awake.log_var, tf.square(noise.eps)), tf.square(z)); // 2 (log p(z) - log q(z|x))
    const dream = tf.cast(tf.less(noise.x, this.means(noise.z)), "float32");
    const { h, mu, log_var } = this.encode(dream);
    const miss = tf.sub(mu, noise.z);
    const in_mu = tf.mul(miss, tf.exp(tf.neg(log_var)));
    const heads = { "encoder.mu": in_mu, "encoder.log_var": tf.mul(tf.sub(1, tf.mul(miss, in_mu)), 0.5) };
    return {
      bound: tf.add(log_px, tf.mul(tf.sum(ratio, 1), 0.5)),
      gradients: { ...gradients, ...this.networkGradients("encoder", dream, h, heads).gradients },
    };
  }

  // The noise of the next step, of `rows` datapoints.
  noise(rows) {
    const { tf, settings, steps } = this;
    const normal = (seed) => tf.randomNormal([rows, settings.latents], 0, 1, "float32", seed);
    const seed = 1e6 * (settings.seed + 1) + 4 * steps;
    if (settings.algorithm === "aevb") return { eps: normal(seed) };
    return { eps: normal(seed), z: normal(seed + 1), x: tf.randomUniform([rows, settings.pixels], 0, 1, "float32", seed + 2) };
  }

  // One minibatch and one update of Adagrad (Algorithm 1); the bound is added to `bound_sum`.
  step(x, noise) {
    const { tf, settings, layers } = this;
    const size = this.steps < settings.warm_up ? 0 : settings.step_size;
    const kept = tf.tidy(() => {
      const { bound, gradients } = this[settings.algorithm === "aevb" ? "aevb" : "wakeSleep"](x, noise ?? this.noise(x.shape[0]));
      const next = { bound_sum: tf.add(this.bound_sum, tf.mean(bound)) };
      for (const [name, gradient] of Object.entries(gradients)) {
        const layer = layers[name];
        const by_weight = tf.add(gradient.weight, tf.mul(layer.weight, settings.prior_weight));
        next[`${name} weight`] = this.adagrad(layer.weight, layer.of_weight, by_weight, size);
        next[`${name} bias`] = this.adagrad(layer.bias, layer.of_bias, gradient.bias, size);
      }
      return next;
    });
    this.bound_sum.dispose();
    this.bound_sum = kept.bound_sum;
    for (const [name, layer] of Object.entries(layers))
      for (const part of ["weight", "bias"]) {
        const { value, squares } = kept[`${name} ${part}`];
        tf.dispose([layer[part], layer[`of_${part}`]]);
        Object.assign(layer, { [part]: value, [`of_${part}`]: squares });
      }
    this.steps += 1;
  }

  adagrad(value, squares, gradient, size) {
    const { tf } = this;
    const sum = tf.add(squares, tf.square(gradient));
    const change = tf.div(gradient, tf.add(tf.sqrt(sum), EPS));
    return { value: size ? tf.sub(value, tf.mul(change, size)) : tf.clone(value), squares: sum };
  }

  // The mean bound per datapoint of the steps since the last call, in nats.
  async running(steps) {
    const [sum] = await this.bound_sum.data();
    this.bound_sum.dispose();
    this.bound_sum = this.tf.scalar(0);
    return sum / steps;
  }
}

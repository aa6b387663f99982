// Change the paper's choice: a recorded reading moves over the paper's pale curve.
import { colour, element, format, onTheme, Plane, readouts } from "./shared.js";

const NAMES = { mnist: "MNIST", frey: "Frey Face", aevb: "AEVB", "wake-sleep": "wake-sleep" };
const RANGE = [4, 8]; // of log10 samples
const MOVE = 450; // milliseconds in which a curve moves
let groups = 0;

const slug = (words) => words.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
const signed = (value) => (value > 0 ? "+" : "") + format(value, Math.abs(value) < 1000 ? 1 : 0);
const count = (n) => Math.round(n).toLocaleString("en-US");

// The value of a curve at so many samples, linearly in their logarithm, as `curves.value_at`; nothing beyond its ends.
export function valueAt({ samples, mean }, place, values = mean) {
  if (place < samples[0] || place > samples.at(-1)) return undefined;
  const next = Math.max(samples.findIndex((s) => s >= place), 1);
  const share = Math.log(place / samples[next - 1]) / Math.log(samples[next] / samples[next - 1]);
  return values[next - 1] + share * (values[next] - values[next - 1]);
}

// ... held at its ends, for a curve on its way
const held = (curve, place) => valueAt(curve, Math.min(Math.max(place, curve.samples[0]), curve.samples.at(-1)));

function render({ model, el }) {
  const [panels, questions, place] = [model.get("panels"), model.get("questions"), model.get("place")];
  const state = (name) => model.get(name);
  const set = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const panel = () =>
    panels.find((p) => ["dataset", "algorithm", "latent_dim"].every((name) => p[name] === state(name))) ?? panels[0];
  const question = () => questions.find((q) => q.question === state("question")) ?? questions[0];
  const find = (p, name, answer) => p.readings.find((r) => r.question === name && r.answer === answer);
  const reading = () => find(panel(), state("question"), state("answer"));
  const ran = (p, name) => p.readings.some((r) => r.question === name);

  // the curves
  let [shape, from, since, frame] = [undefined, undefined, 0, undefined];
  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  const log = Math.log10;
  const plane = new Plane({
    label: "", aspect: 1.4, margin: { left: 52, right: 14 },
    x: { min: RANGE[0], max: RANGE[1], label: "training samples seen", format: (v) => `10${"\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"[v] ?? ""}` },
    y: { min: -200, max: -90, label: "test bound (nats)" },
    under: (_, context) => {
      const p = panel();
      trace(context, p.paper);
      [context.lineWidth, context.globalAlpha] = [6, 0.35];
      context.strokeStyle = colour(el, "muted");
      context.stroke();
      const base = against();
      band(context, base, "text");
      context.globalAlpha = 1;
      trace(context, base);
      context.lineWidth = 1.8;
      context.strokeStyle = colour(el, "text");
      context.stroke();
      alone(context, base);
    },
    over: (_, context) => {
      const chosen = reading();
      if (!chosen) return;
      if (shape === chosen.mean || !shape) band(context, chosen, "orange");
      trace(context, { samples: chosen.samples, mean: shape ?? chosen.mean });
      context.globalAlpha = 1;
      context.lineWidth = 2.5;
      context.setLineDash([8, 3]);
      context.strokeStyle = colour(el, "orange");
      context.stroke();
      if (!shape || shape === chosen.mean) alone(context, chosen);
      context.setLineDash([]);
    },
  });
  const against = () => reading()?.against ?? panel().baseline;
  function trace(context, { samples, mean }) {
    plane.path(context, samples.map((s, i) => [log(s), Math.max(mean[i], plane.y.min - 1e4)]));
  }
  // where not all seeds go on
  function alone(context, { tail }) {
    if (!tail) return;
    trace(context, tail);
    context.lineWidth = 1;
    context.stroke();
  }
  function band(context, { samples, low, high }, tint) {
    if (!low) return;
    const up = samples.map((s, i) => [log(s), high[i]]);
    plane.path(context, [...up, ...samples.map((s, i) => [log(s), low[i]]).reverse()]);
    context.globalAlpha = 0.22;
    context.fillStyle = colour(el, tint);
    context.fill();
    context.globalAlpha = 1;
  }
  // from where the last curve was to where the chosen one is
  function move(last) {
    const chosen = reading();
    cancelAnimationFrame(frame);
    shape = chosen?.mean;
    if (chosen && last && !still()) {
      from = chosen.samples.map((s) => held(last, s));
      since = performance.now();
      const step = (now) => {
        const share = Math.min((now - since) / MOVE, 1);
        const eased = share * share * (3 - 2 * share);
        shape = share < 1 ? chosen.mean.map((v, i) => from[i] + eased * (v - from[i])) : chosen.mean;
        plane.redraw();
        if (share < 1) frame = requestAnimationFrame(step);
      };
      frame = requestAnimationFrame(step);
    }
    plane.renew();
  }

  // what is chosen from
  groups += 1;
  const radios = (name, legend, options, chosen, pick) =>
    element(
      "fieldset", { class: "aevb-chips" }, element("legend", {}, legend),
      element("div", {}, ...options.map(({ value, text, note, off, faint }) => {
        const input = element("input", {
          type: "radio", name: `aevb-${name}-${groups}`, value, onchange: () => pick(value),
          ...(off ? { disabled: "" } : {}), ...(value === String(chosen) ? { checked: "" } : {}),
        });
        const words = note ? [` ${text} `, element("i", {}, note)] : [` ${text}`];
        return element("label", { class: off || faint ? "aevb-off" : "" }, input, ...words);
      })),
    );
  const controls = element("div", {});
  const unique = (name, where = {}) => [
    ...new Set(panels.filter((p) => Object.entries(where).every(([k, v]) => p[k] === v)).map((p) => p[name])),
  ];
  const plain = (values) => values.map((v) => ({ value: String(v), text: NAMES[v] ?? String(v) }));
  const baseline = (q) => (typeof q.baseline === "string" ? q.baseline : q.baseline[state("dataset")]);
  const here = () => `${NAMES[state("algorithm")]}, ${NAMES[state("dataset")]}, ${state("latent_dim")} latents`;
  const words = element("p", { class: "aevb-verdict" });
  const numbers = readouts({
    paper: `minus the paper at ${count(place)} samples`, base: "minus the baseline", seeds: "seeds", end: "recorded to",
  });

  function build() {
    const [q, p] = [question(), panel()];
    const focused = document.activeElement?.name; // a new set of radios takes the focus of the old
    controls.replaceChildren(
      radios("dataset", "Data", plain(unique("dataset")), state("dataset"), (dataset) => {
        const dims = unique("latent_dim", { dataset });
        set({ dataset, latent_dim: dims.includes(state("latent_dim")) ? state("latent_dim") : dims.at(dataset === "mnist" ? 3 : 2) });
      }),
      radios("algorithm", "Algorithm", plain(unique("algorithm")), state("algorithm"), (algorithm) => set({ algorithm })),
      radios("latents", "Latents", plain(unique("latent_dim", { dataset: state("dataset") })), state("latent_dim"),
        (value) => set({ latent_dim: Number(value) })),
      radios("question", "Left open",
        questions.map((each) => ({ value: each.question, text: each.question, faint: !ran(p, each.question), note: ran(p, each.question) ? "" : "not run" })),
        q.question, (name) => set({ question: name, answer: first(p, name) })),
      radios("answer", "Read as",
        [{ value: "", text: baseline(q), note: "the baseline" },
          ...q.answers.filter((answer) => answer !== baseline(q)).map((answer) => {
            const off = !find(p, q.question, answer);
            return { value: answer, text: answer, off, note: off ? "not run here" : "" };
          })],
        state("answer"), (answer) => set({ answer })),
    );
    if (focused) controls.querySelector(`[name="${focused}"]:checked`)?.focus({ preventScroll: true });
  }
  const first = (p, name) => p.readings.find((r) => r.question === name)?.answer ?? "";

  function write() {
    const [q, p, chosen] = [question(), panel(), reading()];
    const says = q.says ? `The paper, ${q.where}: \u201c${q.says}\u201d.` : "The paper says nothing about it.";
    const none = !ran(p, q.question) ? ` For ${here()} no other reading of it was run.` : "";
    words.textContent = `${says}${none}${q.note ? ` ${q.note}` : ""}${q.ours ? ` This book: ${q.ours}.` : ""}`;
    const [shown, base] = [chosen ?? p.baseline, against()];
    const [ours, theirs] = [valueAt(shown, place), valueAt(p.paper, place)];
    const meet = Math.min(place, shown.samples.at(-1), base.samples.at(-1));
    const [here_, there] = [valueAt(shown, meet), valueAt(base, meet)];
    const range = base.low && valueAt(base, meet, base.high) - valueAt(base, meet, base.low);
    numbers.set({
      paper: ours === undefined ? "not run as far" : `${signed(ours - theirs)} nats`,
      base: chosen ? `${signed(here_ - there)} nats at ${count(meet)}` : "\u2013",
      seeds: `${chosen ? `${shown.seeds}; baseline ` : ""}${base.seeds}${base.low ? `, within ${format(range, 1)} nats` : ""}`,
      end: `${count((shown.tail ?? shown).samples.at(-1))} samples${shown.tail ? `, past ${count(shown.samples.at(-1))} from seed 0 alone` : ""}`,
    });
    const what = chosen ? `${q.question}, ${chosen.answer}` : "the baseline";
    plane.canvas.setAttribute("aria-label", `Test bound of ${here()}: ${what}, over the paper's curve and the baseline`);
    [plane.y.min, plane.y.max] = p.frame;
  }

  let before = "";
  let last;
  function show() {
    const p = panel();
    if (state("answer") && !reading()) return set({ answer: "" });
    const name = [p.dataset, p.algorithm, p.latent_dim].join();
    build();
    write();
    move(name === before ? (last ?? p.baseline) : undefined);
    [before, last] = [name, reading()];
  }

  // A link on the page, or an address, such as #choice--warm-up--mnist--aevb--20--0-steps; what stands last may be left
  // out. Only what a CSS selector may hold: the theme looks for the element that an address names.
  function open(address) {
    const [name, ...parts] = address.slice(address.indexOf("#") + 1).split("--");
    if (name !== "choice") return false;
    const [choice, dataset, algorithm, latents, wanted] = parts;
    const q = questions.find((each) => each.slug === choice);
    if (!q) return false;
    const fits = (p) =>
      [[dataset, p.dataset], [algorithm, p.algorithm], [latents, String(p.latent_dim)]].every(
        ([asked, has]) => !asked || asked === has);
    const answers = (p) => {
      const all = p.readings.filter((r) => r.question === q.question);
      const exact = all.filter((r) => !wanted || slug(r.answer) === wanted);
      return exact.length ? exact : all.filter((r) => slug(r.answer).startsWith(`${wanted}-`)); // "300" is enough
    };
    const p = [panel(), ...panels].find((each) => fits(each) && answers(each).length) ?? [panel(), ...panels].find(fits);
    if (!p) return false;
    set({ question: q.question, dataset: p.dataset, algorithm: p.algorithm, latent_dim: p.latent_dim, answer: answers(p)[0]?.answer ?? "" });
    el.scrollIntoView({ behavior: still() ? "auto" : "smooth", block: "start" });
    return true;
  }
  const clicked = (event) => {
    const anchor = event.target.closest?.('a[href*="#choice--"]');
    if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey || !open(anchor.getAttribute("href"))) return;
    event.preventDefault();
    event.stopPropagation();
    history.replaceState(null, "", anchor.getAttribute("href"));
    controls.querySelector('[name^="aevb-answer"]:checked')?.focus({ preventScroll: true });
  };
  const hashed = () => open(location.hash);

  const key = (name, text) => element("span", {}, element("i", { class: `aevb-key-${name}` }), ` ${text}`);
  el.classList.add("aevb-widget", "aevb-choices");
  el.append(
    controls, words,
    element(
      "figure", {}, plane.canvas,
      element("figcaption", { class: "aevb-keys" }, key("paper", "the paper"), key("encoder", "baseline"),
        key("best", "chosen"), element("span", {}, "shaded: all seeds; thin: one goes on")),
    ),
    numbers.node,
  );
  // several traits change at once: they are shown together
  let asked = false;
  const soon = () => {
    if (asked) return;
    asked = true;
    queueMicrotask(() => {
      asked = false;
      show();
    });
  };
  for (const name of ["question", "answer", "dataset", "algorithm", "latent_dim"]) model.on(`change:${name}`, soon);
  document.addEventListener("click", clicked, true);
  window.addEventListener("hashchange", hashed);
  const stopTheme = onTheme(() => plane.renew());
  if (!state("answer")) set({ answer: first(panel(), state("question")) });
  show();
  hashed();
  return () => {
    stopTheme();
    cancelAnimationFrame(frame);
    document.removeEventListener("click", clicked, true);
    window.removeEventListener("hashchange", hashed);
    plane.stop();
    numbers.stop();
  };
}

export default { render };

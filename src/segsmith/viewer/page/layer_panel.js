// Which layers are seen, and how much of each.

import { element } from "./elements.js";
import { LAYERS, LEVEL_COLOURS } from "./layers.js";

const NAMES = { image: "Image", truth: "Truth", prediction: "Prediction", probability: "Probability", error: "Error" };
export const LAYER_KEYS = { i: "image", t: "truth", p: "prediction", b: "probability", e: "error" };
const FIRST = { image: 100, truth: 100, prediction: 100, probability: 0, error: 0 };
const WHEN_ON = { image: 100, truth: 100, prediction: 100, probability: 75, error: 100 };

export class LayerPanel {
  /** `changed()` is called when what is seen changes by hand. */
  constructor(changed) {
    this.changed = changed;
    this.rows = Object.fromEntries(LAYERS.map((name) => [name, this.#row(name)]));
    this.element = element("section", { "aria-label": "Layers" }, element("h2", { class: "unseen" }, "Layers"),
      element("div", { class: "layers" }, LAYERS.map((name) => [this.rows[name].button, this.rows[name].slider])), this.#legends());
  }

  /** Opacities 0..1 by layer. */
  get opacity() {
    return Object.fromEntries(LAYERS.map((name) => [name, this.rows[name].slider.valueAsNumber / 100]));
  }

  /** As a text for the address, null for how it is at first. */
  get said() {
    const values = LAYERS.map((name) => this.rows[name].slider.valueAsNumber);
    return values.every((value, n) => value === FIRST[LAYERS[n]]) ? null : values.join(",");
  }

  /** Show what the address says. */
  set(said) {
    const values = (said ?? "").split(",").map(Number);
    LAYERS.forEach((name, n) => this.#put(name, values.length === LAYERS.length && values[n] >= 0 ? values[n] : FIRST[name]));
  }

  /** Show a layer that is hidden, hide one that is shown. */
  toggle(name) {
    this.#put(name, this.rows[name].slider.valueAsNumber ? 0 : WHEN_ON[name]);
    this.changed();
  }

  #put(name, value) {
    const { button, slider } = this.rows[name];
    slider.value = value;
    button.setAttribute("aria-pressed", value > 0);
    this.legend?.forEach((legend) => { legend.hidden = !this.rows[legend.dataset.of].slider.valueAsNumber; });
  }

  #row(name) {
    const key = Object.keys(LAYER_KEYS).find((of) => LAYER_KEYS[of] === name);
    const button = element("button", { class: "layer", title: `${NAMES[name]} (${key})`, "aria-pressed": "false", onclick: () => this.toggle(name) },
      element("i", { class: `swatch ${name}`, "aria-hidden": "true" }), ` ${NAMES[name]}`);
    const slider = element("input", { type: "range", min: 0, max: 100, step: 5, "aria-label": `Opacity of ${name}`, oninput: () => {
      this.#put(name, slider.valueAsNumber);
      this.changed();
    } });
    return { button, slider };
  }

  #legends() {
    const named = (kind, text) => element("span", {}, element("i", { class: `swatch ${kind}` }), ` ${text}`);
    const scale = element("canvas", { class: "scale", width: 256, height: 1, role: "img", "aria-label": "Colours of probabilities from 0 to 1" });
    const context = scale.getContext("2d");
    LEVEL_COLOURS.forEach(([r, g, b], level) => {
      context.fillStyle = `rgb(${r} ${g} ${b})`;
      context.fillRect(level, 0, 1, 1);
    });
    this.legend = [
      element("div", { class: "key", "data-of": "probability" }, element("span", {}, "0"), scale, element("span", {}, "1")),
      element("div", { class: "key", "data-of": "error" }, named("hit", "right"), named("false-alarm", "false"), named("missed", "missed")),
    ];
    return this.legend;
  }
}

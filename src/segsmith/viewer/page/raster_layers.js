// Which layers of a raster are seen, and how much of each.

import { element } from "./elements.js";
import { RAMP } from "./raster_tiles.js";

const LAYERS = [
  // key in the address, name, opacity at first
  ["image", "Image", 1],
  ["probability", "Probability", 0],
  ["threshold", "Above threshold", 0],
  ["mask", "Mask", 0.45],
  ["objects", "Objects", 1],
];

export class RasterLayers {
  /** `absent` says by key which layers are not there; `changed(key, opacity)` is called when one changes. */
  constructor(classes, absent, changed) {
    this.changed = changed;
    this.opacity = {};
    this.last = {}; // when it was last seen
    this.rows = Object.fromEntries(LAYERS.map(([key, name]) => [key, this.#row(key, name, absent[key])]));
    this.element = element("div", {}, Object.values(this.rows).map(({ row }) => row), legend(classes));
  }

  /** Show what the address says, else how it is at first. */
  set(said) {
    const opacity = Object.fromEntries(LAYERS.map(([key, , first]) => [key, first]));
    for (const part of (said ?? "").split(",").filter(Boolean)) {
      const [key, percent] = part.split(":");
      if (key in opacity) opacity[key] = Math.min(100, Math.max(0, Number(percent) || 0)) / 100;
    }
    for (const [key, of] of Object.entries(opacity)) this.put(key, of);
  }

  /** As a text for the address. */
  get said() {
    return LAYERS.map(([key]) => `${key}:${Math.round(this.opacity[key] * 100)}`).join(",");
  }

  /** Give a layer an opacity 0..1. */
  put(key, opacity) {
    const { box, slider } = this.rows[key];
    box.checked = opacity > 0 && !box.disabled;
    slider.value = Math.round(opacity * 100);
    if (opacity > 0) this.last[key] = opacity;
    this.opacity[key] = opacity;
    this.changed(key, opacity);
  }

  /** Show a layer that is hidden, hide one that is shown. */
  toggle(key) {
    if (this.rows[key].box.disabled) return;
    this.put(key, this.opacity[key] > 0 ? 0 : this.last[key] ?? (key === "image" ? 1 : 0.6));
  }

  /** The key of a layer by its number from the top, 1 first. */
  static keyOf(number) {
    return LAYERS[number - 1]?.[0];
  }

  #row(key, name, disabled) {
    const box = element("input", { type: "checkbox", id: `on-${key}`, disabled, onchange: () => this.toggle(key) });
    const slider = element("input", {
      type: "range", min: 0, max: 100, step: 1, "aria-label": `Opacity of ${name.toLowerCase()}`, disabled,
      oninput: () => this.put(key, slider.valueAsNumber / 100),
    });
    return { box, slider, row: element("div", { class: "layer" }, box, element("label", { for: `on-${key}` }, name), slider) };
  }
}

/** What the colours mean. */
function legend(classes) {
  const swatches = classes.map((of) => {
    const swatch = element("span", { class: "swatch" });
    swatch.style.background = of.colour;
    return element("span", { class: "named" }, swatch, " ", of.name);
  });
  const ramp = element("span", { class: "ramp" });
  ramp.style.background = `linear-gradient(to right, ${RAMP.join(", ")})`;
  return element("div", { class: "legend small muted" }, element("div", { class: "row" }, swatches),
    element("div", { class: "row nowrap" }, "0", ramp, "1"));
}

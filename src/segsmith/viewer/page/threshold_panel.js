// The level at which "above threshold" begins, of the class that is looked at, in one prediction of a raster.

import { element } from "./elements.js";

export class ThresholdPanel {
  /** `raster` is what the viewer says of it; `id` tells its slider from another's; `moved()` is called when it is moved by
   * hand. */
  constructor(raster, id, moved) {
    Object.assign(this, { classes: raster.classes, moved, number: 0 });
    this.set("");
    this.text = element("output", { class: "value", for: id });
    this.slider = element("input", { type: "range", min: 1, max: 255, step: 1, id, oninput: () => this.#move(this.slider.valueAsNumber) });
    this.back = element("button", { hidden: this.classes.every((of) => of.threshold === null), onclick: () => this.#move(this.classes[this.number].threshold) }, "As decided");
    this.element = element("div", { class: "field" },
      element("div", { class: "row between" }, element("label", { for: id }, element("h2", {}, "Threshold")), this.text),
      this.slider,
      element("p", { class: "muted small" }, "Of “above threshold”: all pixels at this level or higher, with small objects and holes as they are."),
      element("div", { class: "row" }, this.back));
  }

  /** Levels of all classes as the address has them, else as decided. */
  set(said) {
    const levels = (said ?? "").split(",").map(Number);
    this.levels = this.classes.map((of, n) => (levels[n] >= 1 && levels[n] <= 255 ? levels[n] : of.threshold ?? 128));
  }

  /** The class whose level the slider moves, by its number; -1 where the prediction has no such class. */
  choose(number) {
    this.number = number;
    this.slider.disabled = number < 0;
    this.#show();
  }

  /** Move the slider by some levels. */
  step(by) {
    if (this.number >= 0) this.#move(this.levels[this.number] + by);
  }

  #move(level) {
    this.levels[this.number] = Math.min(255, Math.max(1, level));
    this.#show();
    this.moved();
  }

  #show() {
    const level = this.levels[this.number];
    this.text.textContent = level === undefined ? "no such class" : `${(level / 255).toFixed(3)} (level ${level})`;
    this.back.disabled = level === undefined || level === this.classes[this.number].threshold;
    if (level === undefined) return;
    this.slider.value = level;
    this.slider.setAttribute("aria-valuetext", `level ${level} of 255`);
  }
}

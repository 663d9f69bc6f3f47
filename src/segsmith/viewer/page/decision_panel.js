// Threshold and smallest area of the class that is looked at.

import { element } from "./elements.js";

export class DecisionPanel {
  /** `id` tells its sliders from those of another run; `changed()` is called when one moves. */
  constructor(table, id, changed) {
    this.table = table;
    this.changed = changed;
    this.number = 0;
    this.cells = table.cells.map((cell) => ({ ...cell }));
    this.level = element("input", { type: "range", min: 0, max: 255, step: 1, id: `${id}level`, oninput: () => this.#moved({ level: this.level.valueAsNumber }) });
    this.area = element("input", { type: "range", min: 0, max: table.areas.length - 1, step: 1, id: `${id}area`, oninput: () => this.#moved({ smallest_area: table.areas[this.area.valueAsNumber] }) });
    this.levelText = element("output", { for: `${id}level` });
    this.areaText = element("output", { for: `${id}area` });
    this.back = element("button", { title: "As decided (d)", onclick: () => this.decided() }, "As decided");
    this.gate = element("p", { class: "muted small" });
    this.element = element("div", { role: "group", "aria-labelledby": `${id}decision-title` },
      element("div", { class: "row between decision-head" }, element("h2", { id: `${id}decision-title` }, "Decision"), this.back),
      element("div", { class: "slid" }, element("label", { for: `${id}level` }, "Threshold"), this.levelText, this.level),
      element("div", { class: "slid" }, element("label", { for: `${id}area` }, "Smallest object"), this.areaText, this.area),
      this.gate);
  }

  /** The class whose cell the sliders move. */
  choose(number) {
    this.number = number;
    this.#show();
  }

  /** As the address has it: levels and smallest areas of all classes; null as decided. */
  set(levels, areas) {
    const all = (said, name) => {
      const values = (said ?? "").split(",");
      return this.table.cells.map((cell, n) => (/^\d+$/.test(values[n] ?? "") ? Number(values[n]) : cell[name]));
    };
    const chosen = all(levels, "level").map((level) => Math.min(255, level));
    const least = all(areas, "smallest_area");
    this.cells = this.table.cells.map((cell, n) => ({ ...cell, level: chosen[n], smallest_area: this.#near(least[n]) }));
    this.#show();
  }

  /** What the address is to say. */
  get said() {
    const text = (name) => (this.cells.some((cell, n) => cell[name] !== this.table.cells[n][name]) ? this.cells.map((cell) => cell[name]).join(",") : null);
    return { level: text("level"), area: text("smallest_area") };
  }

  /** Back to what `decide` decided, for all classes. */
  decided() {
    this.set(null, null);
    this.changed();
  }

  /** Move a slider of the class by some steps. */
  step(name, by) {
    const slider = { level: this.level, area: this.area }[name];
    slider.valueAsNumber += by;
    slider.dispatchEvent(new Event("input"));
  }

  #near(area) {
    return this.table.areas.reduce((best, of) => (Math.abs(of - area) < Math.abs(best - area) ? of : best));
  }

  #moved(change) {
    Object.assign(this.cells[this.number], change);
    this.#show();
    this.changed();
  }

  #show() {
    const { level, smallest_area: area, gate } = this.cells[this.number];
    this.level.value = level;
    this.area.value = this.table.areas.indexOf(area);
    this.levelText.textContent = `${(level / 255).toFixed(3)} (${level})`;
    this.level.setAttribute("aria-valuetext", this.levelText.textContent);
    this.areaText.textContent = area ? `${area.toLocaleString("en")} px` : "any";
    this.area.setAttribute("aria-valuetext", this.areaText.textContent);
    const { level: was, smallest_area: least } = this.table.cells[this.number];
    this.back.disabled = !Object.values(this.said).some((text) => text !== null);
    this.gate.textContent = `Decided: ${(was / 255).toFixed(3)} (${was}), ${least ? `${least.toLocaleString("en")} px` : "objects of any size"}${gate ? `; images of gate value below ${gate} are empty` : ""}.`;
  }
}

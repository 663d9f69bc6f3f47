// The score of all images of a part, at the cells that are chosen in a run, and its course over the thresholds.

import { element } from "./elements.js";
import { scoreText, together } from "./scores.js";

const CURVE = { width: 256, height: 56 };

const svg = (name, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

export class PartScores {
  /** `id` tells it from that of another run, and so does `name`, null for none beside it. */
  constructor(table, id) {
    Object.assign(this, { table, name: null });
    this.title = element("h2", {});
    this.value = element("output", { class: "big", id: `${id}score-of-all` });
    this.note = element("p", { class: "muted small", role: "status" });
    this.line = svg("path", { class: "line" });
    this.now = svg("line", { class: "now", y1: 0, y2: CURVE.height });
    this.decidedAt = svg("line", { class: "decided", y1: 0, y2: CURVE.height });
    const curve = svg("svg", { class: "curve", viewBox: `0 0 ${CURVE.width} ${CURVE.height}`, preserveAspectRatio: "none", role: "img", "aria-label": "Score of all images by threshold" });
    curve.append(this.decidedAt, this.line, this.now);
    this.range = element("div", { class: "row between muted small" }, element("span", {}), element("span", {}));
    this.element = element("div", {}, element("div", { class: "of-all" }, this.title, this.value), curve, this.range, this.note);
  }

  /** How far the sums over all images are made. */
  showProgress(part, done, of) {
    this.#head(part, of);
    this.value.textContent = "...";
    this.note.textContent = `Counting: ${done.toLocaleString("en")} of ${of.toLocaleString("en")} images.`;
  }

  /** Why there is no score of all images. */
  showMissing(part, error) {
    this.#head(part, null);
    this.value.textContent = "-";
    this.note.replaceChildren(error.message, ...(error.command ? [" ", element("code", {}, error.command)] : []));
    this.line.removeAttribute("d");
  }

  /** The score of all images with each class at its cell, and of every threshold of the class that is looked at. */
  show(part, surfaces, figure, cells, number) {
    const { cells: decided } = this.table;
    if (figure === "f2_objects" && this.table.metric !== figure) return this.showMissing(part, { message: "It is not decided by objects, so they are not scored." });
    const value = together(surfaces, figure, cells), was = together(surfaces, figure, decided);
    this.#head(part, surfaces.images);
    this.value.textContent = scoreText(value);
    const by = value - was;
    this.value.append(element("small", {}, Math.abs(by) < 0.00005 ? "" : `${by > 0 ? "+" : "−"}${Math.abs(by).toFixed(4)}`));
    const at = (level) => together(surfaces, figure, cells.map((cell, n) => (n === number ? { ...cell, level } : cell)));
    this.#drawCurve(Array.from({ length: 256 }, (_, level) => at(level)), cells[number].level, decided[number].level);
    this.note.textContent = [this.#evaluated(part, figure), figure === "f2_objects" && this.#nearest(cells[number])].filter(Boolean).join(" ");
    return undefined;
  }

  /** What `evaluate` scored. */
  #evaluated(part, figure) {
    const { scores, scored, cross_fitted_score: crossed } = this.table;
    if (scored !== part || !(figure in scores)) return null;
    return `evaluate scored ${scores[figure].value.toFixed(4)}${part === "validation" && crossed !== null ? ", each image by a decision tuned on others" : ""}.`;
  }

  /** At which level objects are scored instead, where they are taken apart at some alone. */
  #nearest({ level, depth }) {
    const { levels_separated: levels } = this.table;
    if (!depth || levels.includes(level)) return null;
    const nearest = levels.reduce((best, of) => (Math.abs(of - level) < Math.abs(best - level) ? of : best));
    return `Objects are taken apart at some levels only: scored at ${(nearest / 255).toFixed(3)} (${nearest}).`;
  }

  #drawCurve(values, now, decided) {
    const high = Math.max(...values), low = [...values].sort((a, b) => a - b)[16]; // the lowest, as of level 0, would flatten it
    const y = (of) => CURVE.height - 3 - ((of - low) / (high - low || 1)) * (CURVE.height - 6);
    this.line.setAttribute("d", values.map((of, level) => `${level ? "L" : "M"}${level + 0.5} ${y(of).toFixed(2)}`).join(""));
    for (const [line, level] of [[this.now, now], [this.decidedAt, decided]]) {
      line.setAttribute("x1", level + 0.5);
      line.setAttribute("x2", level + 0.5);
    }
    this.range.firstChild.textContent = "by threshold";
    this.range.lastChild.textContent = `best ${scoreText(high)} at ${(values.indexOf(high) / 255).toFixed(3)}`;
  }

  #head(part, images) {
    const count = images === null ? "" : `${images.toLocaleString("en")} `;
    this.title.textContent = `${this.name ? `${this.name}: all` : "All"} ${count}${part === "held_out" ? "held-out" : "validation"} images`;
  }
}

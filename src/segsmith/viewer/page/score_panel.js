// The scores of this image and of all images of its part, at the cells that are chosen.

import { element } from "./elements.js";
import { FIGURES, OF_COUNTS, together } from "./scores.js";

const OF_IMAGE = { dice: "Dice", iou: "IoU", iou_map: "IoU over thresholds" };
const CURVE = { width: 256, height: 56 };

const svg = (name, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

/** A score as a text, as it is written everywhere. */
export const scoreText = (value) => (Number.isNaN(value) || value === undefined ? "-" : value.toFixed(4));

export class ScorePanel {
  /** `chosen(figure)` is told which score of all images was chosen. */
  constructor(table, chosen) {
    this.table = table;
    const first = table.metric in FIGURES ? table.metric : "mean_dice";
    this.figure = element("select", { "aria-label": "Score of all images", onchange: () => chosen(this.figure.value) },
      Object.entries(FIGURES).map(([name, text]) => element("option", { value: name, selected: name === first }, text)));
    this.first = first;
    this.all = element("output", { class: "big", id: "score-of-all" });
    this.note = element("p", { class: "muted small", role: "status" });
    this.image = element("table", {}, element("tbody", {}));
    this.line = svg("path", { class: "line" });
    this.now = svg("line", { class: "now", y1: 0, y2: CURVE.height });
    this.decidedAt = svg("line", { class: "decided", y1: 0, y2: CURVE.height });
    this.curve = svg("svg", { class: "curve", viewBox: `0 0 ${CURVE.width} ${CURVE.height}`, preserveAspectRatio: "none", role: "img", "aria-label": "Score of all images by threshold" });
    this.curve.append(this.decidedAt, this.line, this.now);
    this.range = element("div", { class: "row between muted small" }, element("span", {}), element("span", {}));
    this.ofAll = element("h2", {});
    this.element = element("section", { "aria-label": "Scores", class: "score-panel" },
      element("h2", {}, "This image"), this.image,
      element("div", { class: "of-all" }, this.ofAll, this.figure, this.all), this.curve, this.range, this.note);
  }

  /** Choose a score of all images by name; another name for the one decided by. */
  set(figure) {
    this.figure.value = figure in FIGURES ? figure : this.first;
  }

  /** Scores of this image in one run or two: [[name of the run, counts of each class], ...]; of a run alone also those of
   * the class of a number. */
  showImage(runs, number) {
    const several = this.table.classes.length > 1, ofClass = (counts, name) => OF_COUNTS[name](counts[number]);
    const mean = (counts, name) => counts.reduce((sum, of) => sum + OF_COUNTS[name](of), 0) / counts.length;
    const columns = runs.map(([name, counts]) => [name, counts, mean]);
    if (several && runs.length === 1) columns.splice(0, 1, ["all classes", runs[0][1], mean], [`class ${this.table.classes[number]}`, runs[0][1], ofClass]);
    const rows = Object.entries(OF_IMAGE).map(([name, text]) => element("tr", {}, element("th", { scope: "row" }, text),
      columns.map(([, counts, by], side) => element("td", { "data-score": side ? null : name }, scoreText(by(counts, name))))));
    for (const [text, name] of [["True pixels", "true"], ["Predicted pixels", "predicted"]]) {
      const sum = (counts) => counts.reduce((all, of) => all + of[name], 0);
      rows.push(element("tr", {}, element("th", { scope: "row" }, text), columns.map(([, counts, by]) =>
        element("td", {}, (by === ofClass ? counts[number][name] : sum(counts)).toLocaleString("en")))));
    }
    const head = columns.length > 1 ? [element("thead", {}, element("tr", {}, element("td", {}), columns.map(([heading]) => element("th", { scope: "col" }, heading))))] : [];
    this.image.replaceChildren(...head, element("tbody", {}, rows));
  }

  /** How far the sums over all images are made. */
  showProgress(part, done, of) {
    this.#head(part, of);
    this.all.textContent = "...";
    this.note.textContent = `Counting: ${done.toLocaleString("en")} of ${of.toLocaleString("en")} images.`;
  }

  /** Why there is no score of all images. */
  showMissing(part, error) {
    this.#head(part, null);
    this.all.textContent = "-";
    this.note.replaceChildren(error.message, ...(error.command ? [" ", element("code", {}, error.command)] : []));
    this.line.removeAttribute("d");
  }

  /** The score of all images with each class at its cell, and of every threshold of the class that is looked at. */
  showAll(part, surfaces, cells, number) {
    const figure = this.figure.value, { cells: decided } = this.table;
    const value = together(surfaces, figure, cells), was = together(surfaces, figure, decided);
    this.#head(part, surfaces.images);
    this.all.textContent = scoreText(value);
    const by = value - was;
    this.all.append(element("small", {}, Math.abs(by) < 0.00005 ? "" : `${by > 0 ? "+" : "−"}${Math.abs(by).toFixed(4)}`));
    const at = (level) => together(surfaces, figure, cells.map((cell, n) => (n === number ? { ...cell, level } : cell)));
    const values = Array.from({ length: 256 }, (_, level) => at(level));
    const high = Math.max(...values), low = [...values].sort((a, b) => a - b)[16]; // the lowest, as of level 0, would flatten it
    const y = (of) => CURVE.height - 3 - ((of - low) / (high - low || 1)) * (CURVE.height - 6);
    this.line.setAttribute("d", values.map((of, level) => `${level ? "L" : "M"}${level + 0.5} ${y(of).toFixed(2)}`).join(""));
    for (const [line, cell] of [[this.now, cells[number]], [this.decidedAt, decided[number]]]) {
      line.setAttribute("x1", cell.level + 0.5);
      line.setAttribute("x2", cell.level + 0.5);
    }
    this.range.firstChild.textContent = "by threshold";
    this.range.lastChild.textContent = `best ${scoreText(high)} at ${(values.indexOf(high) / 255).toFixed(3)}`;
    const { scores, scored, cross_fitted_score: crossed } = this.table;
    const evaluated = scored === part && figure in scores ? scores[figure].value : null;
    this.note.textContent = evaluated === null ? "" : `evaluate scored ${evaluated.toFixed(4)}${part === "validation" && crossed !== null ? ", each image by a decision tuned on others" : ""}.`;
  }

  #head(part, images) {
    const count = images === null ? "" : `${images.toLocaleString("en")} `;
    this.ofAll.textContent = `All ${count}${part === "held_out" ? "held-out" : "validation"} images`;
  }
}

// The scores of this image and of all images of its part, at the cells that are chosen, of one run or two.

import { element } from "./elements.js";
import { FIGURES, OF_COUNTS, scoreText } from "./scores.js";

const OF_IMAGE = { dice: "Dice", iou: "IoU", iou_map: "IoU over thresholds" };

export class ScorePanel {
  /** `chosen(figure)` is told which score of all images was chosen. */
  constructor(table, chosen) {
    this.table = table;
    this.figures = Object.keys(FIGURES).filter((name) => name !== "f2_objects" || table.metric === name);
    this.first = this.figures.includes(table.metric) ? table.metric : "mean_dice";
    this.figure = element("select", { "aria-label": "Score of all images", onchange: () => chosen(this.figure.value) },
      this.figures.map((name) => element("option", { value: name, selected: name === this.first }, FIGURES[name])));
    this.image = element("table", {}, element("tbody", {}));
    this.ofAll = element("div", {});
    this.element = element("section", { "aria-label": "Scores", class: "score-panel" }, element("h2", {}, "This image"), this.image,
      element("div", { class: "figure" }, this.figure), this.ofAll);
  }

  /** Choose a score of all images by name; another name for the one decided by. */
  set(figure) {
    this.figure.value = this.figures.includes(figure) ? figure : this.first;
  }

  /** Whose scores of all images are shown, one side or two. */
  showSides(sides) {
    for (const { scores, name } of sides) scores.name = sides.length > 1 ? name : null;
    this.ofAll.replaceChildren(...sides.map((side) => side.scores.element));
  }

  /** Scores of this image in one side or two; of one alone also those of the class of a number. */
  showImage(sides, number) {
    const several = this.table.classes.length > 1, ofClass = (counts, name) => OF_COUNTS[name](counts[number]);
    const mean = (counts, name) => counts.reduce((sum, of) => sum + OF_COUNTS[name](of), 0) / counts.length;
    const columns = sides.map((side) => [side.name, side.counts, mean, side]);
    if (several && sides.length === 1) columns.splice(0, 1, ["all classes", columns[0][1], mean, sides[0]], [`class ${this.table.classes[number]}`, columns[0][1], ofClass, sides[0]]);
    const rows = Object.entries(OF_IMAGE).map(([name, text]) => element("tr", {}, element("th", { scope: "row" }, text),
      columns.map(([, counts, by], column) => element("td", { "data-score": column ? null : name }, scoreText(by(counts, name))))));
    if (sides.some(({ table }) => table.metric === "f2_objects")) {
      const objects = (by, { objectScores: scores }) => (by === ofClass ? scores[number] : scores.reduce((sum, of) => sum + of, 0) / scores.length);
      rows.push(element("tr", {}, element("th", { scope: "row" }, "F2 of objects"), columns.map(([, , by, side], column) =>
        element("td", { "data-score": column ? null : "f2_objects" }, scoreText(objects(by, side))))));
    }
    for (const [text, name] of [["True pixels", "true"], ["Predicted pixels", "predicted"]]) {
      const sum = (counts) => counts.reduce((all, of) => all + of[name], 0);
      rows.push(element("tr", {}, element("th", { scope: "row" }, text), columns.map(([, counts, by]) =>
        element("td", {}, (by === ofClass ? counts[number][name] : sum(counts)).toLocaleString("en")))));
    }
    const head = columns.length > 1 ? [element("thead", {}, element("tr", {}, element("td", {}), columns.map(([heading]) => element("th", { scope: "col" }, heading))))] : [];
    this.image.replaceChildren(...head, element("tbody", {}, rows));
  }
}

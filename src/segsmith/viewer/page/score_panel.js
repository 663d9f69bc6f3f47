// The scores of this image and of all images of its part, at the cells that are chosen, of one run or two.

import { element } from "./elements.js";
import { FIGURES, OF_COUNTS, scoreText } from "./scores.js";

const OF_IMAGE = { dice: "Dice", iou: "IoU", iou_map: "IoU over thresholds" };

export class ScorePanel {
  /** `chosen(figure)` is told which score of all images was chosen. */
  constructor(table, chosen) {
    this.table = table;
    this.first = table.metric in FIGURES ? table.metric : "mean_dice";
    this.figure = element("select", { "aria-label": "Score of all images", onchange: () => chosen(this.figure.value) },
      Object.entries(FIGURES).map(([name, text]) => element("option", { value: name, selected: name === this.first }, text)));
    this.image = element("table", {}, element("tbody", {}));
    this.ofAll = element("div", {});
    this.element = element("section", { "aria-label": "Scores", class: "score-panel" }, element("h2", {}, "This image"), this.image,
      element("div", { class: "figure" }, this.figure), this.ofAll);
  }

  /** Choose a score of all images by name; another name for the one decided by. */
  set(figure) {
    this.figure.value = figure in FIGURES ? figure : this.first;
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
    const columns = sides.map(({ name, counts }) => [name, counts, mean]);
    if (several && sides.length === 1) columns.splice(0, 1, ["all classes", columns[0][1], mean], [`class ${this.table.classes[number]}`, columns[0][1], ofClass]);
    const rows = Object.entries(OF_IMAGE).map(([name, text]) => element("tr", {}, element("th", { scope: "row" }, text),
      columns.map(([, counts, by], column) => element("td", { "data-score": column ? null : name }, scoreText(by(counts, name))))));
    for (const [text, name] of [["True pixels", "true"], ["Predicted pixels", "predicted"]]) {
      const sum = (counts) => counts.reduce((all, of) => all + of[name], 0);
      rows.push(element("tr", {}, element("th", { scope: "row" }, text), columns.map(([, counts, by]) =>
        element("td", {}, (by === ofClass ? counts[number][name] : sum(counts)).toLocaleString("en")))));
    }
    const head = columns.length > 1 ? [element("thead", {}, element("tr", {}, element("td", {}), columns.map(([heading]) => element("th", { scope: "col" }, heading))))] : [];
    this.image.replaceChildren(...head, element("tbody", {}, rows));
  }
}

// One run of those that lie beside one another: what it makes of an image, decided by sliders of its own.

import { askedImage, askedLevels, askedObjectScores, askedSurfaces } from "./answers.js";
import { DecisionPanel } from "./decision_panel.js";
import { Layers } from "./layers.js";
import { decided } from "./masks.js";
import { PartScores } from "./part_scores.js";
import { counted, ofObjects } from "./scores.js";

export class ImageSide {
  /** `number` and `name` are of the run's folder; `id` tells its sliders and scores from those of the other side; `moved()`
   * is called when a slider moves, `told()` when there are scores of objects. */
  constructor({ table, number, name, id, moved, told }) {
    Object.assign(this, { table, number, name, told, surfaces: {}, levels: null });
    this.decision = new DecisionPanel(table, id, moved);
    this.scores = new PartScores(table, id);
  }

  /** Promises what `show` takes of the image in a row of the table. Throws Refused. */
  async asked(row) {
    const { table, number } = this, chip = table.columns.chip[row];
    const [image, levels] = await Promise.all([askedImage(number, chip, table.version), askedLevels(number, chip, table.version)]);
    return { row, levels, layers: table.classes.map((_, of) => new Layers(image, levels, of)) };
  }

  /** Take an image as the one that is looked at; null for none. */
  show(found) {
    this.found = found;
    this.levels = found?.levels ?? null;
    this.layers = found?.layers ?? [];
    this.part = found && (this.table.columns.held_out[found.row] ? "held_out" : "validation");
    this.objects = null;
    if (found && this.table.metric === "f2_objects") this.#askObjects(found);
  }

  /** Scores of objects come later: it takes the viewer some time to tell them apart at all levels. */
  async #askObjects(found) {
    const { table, number } = this;
    const objects = await askedObjectScores(number, table.columns.chip[found.row], table.version).catch(() => null);
    if (!objects || this.found !== found) return;
    this.objects = objects;
    this.told();
  }

  /** Decide the image anew, by the cells of the sliders. */
  predict() {
    const { levels, layers, decision } = this;
    layers.forEach((of, number) => of.predict(decided(levels.levels[number], levels.width, decision.cells[number], levels.gateValues[number])));
  }

  /** Counts of pixels of the image, of each class. */
  get counts() {
    return this.layers.map((of) => counted(of.mask, of.trueMask, this.levels.valid));
  }

  /** The F2 of objects of the image, of each class; NaN where they are not scored, or not yet. */
  get objectScores() {
    const { objects, decision, levels } = this;
    return this.layers.map((_, number) => (objects ? ofObjects(objects, number, decision.cells[number], levels.gateValues[number]) : NaN));
  }

  /** The name of the run, and the threshold of a class by its number. */
  described(number) {
    return `${this.name}, ${(this.decision.cells[number].level / 255).toFixed(3)}`;
  }

  /** Show a score of all images of the image's part, and its course over the thresholds of a class; what it is looked up in
   * is asked for first. */
  showAll(figure, number) {
    const { part, scores } = this;
    this.wanted = [figure, number];
    if (this.surfaces[part]) scores.show(part, this.surfaces[part], figure, this.decision.cells, number);
    else if (this.waiting !== part) this.#askAll(part);
  }

  async #askAll(part) {
    const { scores } = this;
    scores.showProgress(part, 0, this.table.columns.held_out.filter((held) => held === Number(part === "held_out")).length);
    this.waiting = part;
    try {
      const found = await askedSurfaces(this.number, part, (done, of) => this.part === part && scores.showProgress(part, done, of), () => !this.levels);
      if (found) this.surfaces[part] = found;
      if (found && this.part === part) this.showAll(...this.wanted);
    } catch (error) {
      if (this.part === part) scores.showMissing(part, error);
    } finally {
      if (this.waiting === part) this.waiting = null;
    }
  }
}

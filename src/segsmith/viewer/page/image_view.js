// One image of a run: layers to look at, sliders to decide by, another run beside it.

import { fragment, go, note, told } from "./address.js";
import { askedImage, askedLevels, askedSurfaces } from "./answers.js";
import { DecisionPanel } from "./decision_panel.js";
import { Divider } from "./divider.js";
import { element } from "./elements.js";
import { wantedRows } from "./gallery.js";
import { typing } from "./header.js";
import { LAYER_KEYS, LayerPanel } from "./layer_panel.js";
import { Layers } from "./layers.js";
import { decided } from "./masks.js";
import { ScorePanel } from "./score_panel.js";
import { counted } from "./scores.js";
import { ZoomCanvas } from "./zoom_canvas.js";

export const IMAGE_KEYS = [
  [["←", "→"], "previous image, next image"],
  [["Esc"], "back to the gallery"],
  [["i", "t", "p", "b", "e"], "show or hide image, truth, prediction, probability, error"],
  [["[", "]"], "lower, raise the threshold (with Shift by ten)"],
  [[";", "'"], "lower, raise the smallest area"],
  [["d"], "threshold and smallest area as decided"],
  [["1", "9"], "look at the first class, ... the ninth"],
  [["+", "-", "0"], "zoom in, out, whole image"],
  [["Shift", "←"], "pan, likewise with the other arrows"],
  [["s"], "another run beside it, or not"],
  [[",", "."], "move the divider between the runs"],
  [["?"], "these keys"],
];

export class ImageView {
  /** `tableOf(number)` promises the table of another run. */
  constructor({ table, number, folders, tableOf }) {
    Object.assign(this, { table, number, folders, tableOf, left: null, right: null, class: 0, surfaces: {} });
    this.layers = new LayerPanel(() => this.#layersChanged());
    this.decision = new DecisionPanel(table, () => this.#decisionChanged());
    this.scores = new ScorePanel(table, (figure) => (note({ metric: figure }), this.#showAll()));
    this.canvas = new ZoomCanvas({
      label: "The image with its layers",
      paint: (context, scale, px) => this.#paint(context, scale, px),
      moved: (view) => note({ view: view && [view.x.toFixed(1), view.y.toFixed(1), view.scale.toFixed(3)].join(",") }),
      pointed: (x, y) => this.#point(x, y),
    });
    this.divider = new Divider("runs", (share) => (this.canvas.draw(), note({ swipe: share.toFixed(3) })));
    this.names = [element("span", { class: "side-name left" }), element("span", { class: "side-name right" })];
    this.pointed = element("output", { class: "pointed", "aria-live": "off" });
    this.fault = element("div", { class: "fault", role: "alert", hidden: true });
    const stage = element("section", { class: "stage", "aria-label": "Picture" }, this.canvas.element, this.divider.element, this.names, this.pointed, this.#zoomButtons(), this.fault);
    this.facts = element("section", { class: "facts", "aria-label": "About this image" });
    const side = element("aside", { class: "side right", "aria-label": "Layers, decision and scores" }, this.#classChoice(), this.layers.element, this.decision.element, this.scores.element, this.#besideChoice(), this.facts);
    this.element = element("div", { class: "image-view" }, this.#bar(), element("div", { class: "sides" }, stage, side));
  }

  /** Show what the address says. */
  async draw(state) {
    const row = this.table.rowOf.get(state.image);
    this.layers.set(state.layers);
    this.decision.set(state.level, state.area);
    this.scores.set(state.metric);
    const asked = Number(state.look ?? NaN);
    this.divider.place(state.swipe ? Number(state.swipe) || 0 : 0.5);
    this.#order(state);
    const beside = state.beside !== undefined && Number(state.beside) !== this.number && this.folders[state.beside]?.kind === "run" ? Number(state.beside) : null;
    const loading = `${row} ${beside}`;
    if (this.loading !== loading) {
      this.loading = loading;
      this.row = row;
      this.id.textContent = state.image;
      this.part = this.table.columns.held_out[row] ? "held_out" : "validation";
      this.#showFacts();
      const [left, right] = await Promise.all([this.#side(this.table, this.number, row), beside === null ? null : this.#beside(beside, state.image)]);
      if (this.loading !== loading) return;
      this.left = left;
      this.right = right;
      if (left) this.class = this.#firstClass(left.levels);
      this.canvas.picture(left?.levels.width ?? 1, left?.levels.height ?? 1);
      this.#fetchAhead();
    }
    if (!this.left) return;
    if (asked >= 0 && asked < this.table.classes.length) this.class = asked;
    const view = (state.view ?? "").split(",").map(Number);
    this.canvas.show(view.length === 3 && view.every((value) => value > 0) ? { x: view[0], y: view[1], scale: view[2] } : null, false);
    this.#classChanged();
    this.#askAll();
  }

  /** Before another page is shown. */
  leave() {
    this.loading = null;
    this.left = null;
  }

  /** A key that was pressed; true if it was one of this page's. */
  key(event) {
    if (event.key === "Escape") return this.#back();
    if (typing(event)) return false;
    const arrows = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (arrows && event.shiftKey) return this.canvas.pan(60 * arrows[0], 60 * arrows[1]), true;
    if (arrows && arrows[0]) return this.#step(-arrows[0]);
    if (event.key in LAYER_KEYS) return this.layers.toggle(LAYER_KEYS[event.key]), true;
    if (/^[1-9]$/.test(event.key)) return this.#look(Number(event.key) - 1);
    const does = {
      "[": () => this.decision.step("level", -1), "]": () => this.decision.step("level", 1),
      "{": () => this.decision.step("level", -10), "}": () => this.decision.step("level", 10),
      ";": () => this.decision.step("area", -1), "'": () => this.decision.step("area", 1),
      d: () => this.decision.decided(),
      "+": () => this.canvas.zoom(1.5), "=": () => this.canvas.zoom(1.5), "-": () => this.canvas.zoom(1 / 1.5), 0: () => this.canvas.show(null),
      s: () => this.#toggleBeside(), ",": () => this.divider.move(-0.02), ".": () => this.divider.move(0.02),
    }[event.key];
    does?.();
    return Boolean(does);
  }

  // what is asked of the viewer

  async #side(table, number, row) {
    this.fault.hidden = true;
    try {
      const chip = table.columns.chip[row];
      const [image, levels] = await Promise.all([askedImage(number, chip, table.version), askedLevels(number, chip, table.version)]);
      return { table, number, levels, layers: table.classes.map((_, of) => new Layers(image, levels, of)) };
    } catch (error) {
      this.fault.replaceChildren(element("p", {}, error.message), error.command ? element("pre", {}, element("code", {}, error.command)) : "");
      this.fault.hidden = false;
      return null;
    }
  }

  async #beside(number, id) {
    const said = (text) => ((this.besideNote.textContent = text), null);
    said("");
    try {
      const table = await this.tableOf(number), name = this.folders[number].name;
      if (table.fingerprint !== this.table.fingerprint) return said(`${name} is a run on another dataset, so its images are not the same; choose a run on this one.`);
      const row = table.rowOf.get(id);
      if (row === undefined) return said(`${name} was neither validated on ${id}, nor was it held out from it: it may have been trained on it.`);
      const side = await this.#side(table, number, row);
      side?.layers.forEach((layers, of) => layers.predict(decided(side.levels.levels[of], side.levels.width, table.cells[of], side.levels.gateValues[of])));
      return side;
    } catch (error) {
      return said(`${error.message}${error.command ? ` ${error.command}` : ""}`);
    }
  }

  async #askAll() {
    const { part } = this;
    if (this.surfaces[part]) return this.#showAll();
    this.scores.showProgress(part, 0, this.table.columns.held_out.filter((held) => held === Number(part === "held_out")).length);
    if (this.waiting === part) return undefined;
    this.waiting = part;
    try {
      const found = await askedSurfaces(this.number, part, (done, of) => this.part === part && this.scores.showProgress(part, done, of), () => !this.left);
      if (found) this.surfaces[part] = found;
      if (found && this.part === part && this.left) this.#showAll();
    } catch (error) {
      if (this.part === part) this.scores.showMissing(part, error);
    } finally {
      this.waiting = null;
    }
    return undefined;
  }

  /** Have the browser keep the next image. */
  #fetchAhead() {
    const next = this.rows?.[this.place + 1];
    if (next === undefined) return;
    const chip = this.table.columns.chip[next];
    for (const what of ["image", "levels"]) fetch(`/api/runs/${this.number}/chips/${chip}/${what}?of=${this.table.version}`, { priority: "low" }).catch(() => null);
  }

  // what is shown

  #predict(number) {
    const { levels, layers } = this.left;
    layers[number].predict(decided(levels.levels[number], levels.width, this.decision.cells[number], levels.gateValues[number]));
  }

  #classChanged() {
    this.decision.choose(this.class);
    this.classButtons?.forEach((button, n) => button.setAttribute("aria-pressed", n === this.class));
    this.table.classes.forEach((_, number) => this.#predict(number));
    this.#shown();
  }

  #decisionChanged() {
    if (!this.left) return;
    this.table.classes.forEach((_, number) => this.#predict(number));
    note(this.decision.said);
    this.#shown();
    this.#showAll();
  }

  #layersChanged() {
    note({ layers: this.layers.said });
    this.canvas.draw();
  }

  #shown() {
    const counts = ({ layers, levels }) => layers.map((of) => counted(of.mask, of.trueMask, levels.valid));
    const columns = [this.left, this.right].filter(Boolean).map((side) => [this.folders[side.number].name, counts(side)]);
    this.scores.showImage(columns, this.class);
    this.divider.element.hidden = !this.right;
    this.names.forEach((name, n) => {
      const side = [this.left, this.right][n];
      name.hidden = !this.right;
      if (!this.right) return;
      const cell = (n ? side.table : this.decision).cells[this.class];
      name.textContent = `${this.folders[side.number].name}, ${(cell.level / 255).toFixed(3)}`;
    });
    this.canvas.draw();
  }

  #showAll() {
    const surfaces = this.surfaces[this.part];
    if (surfaces) this.scores.showAll(this.part, surfaces, this.decision.cells, this.class);
  }

  #paint(context, scale, px) {
    if (!this.left) return;
    const { opacity } = this.layers, { width, height } = this.left.levels;
    const at = px(this.divider.share * this.canvas.element.clientWidth);
    const sides = this.right ? [[this.left, -1, at], [this.right, at, width + 1]] : [[this.left, -1, width + 1]];
    for (const [side, from, to] of sides) {
      if (to <= from) continue;
      context.save();
      context.beginPath();
      context.rect(from, -1, to - from, height + 2);
      context.clip();
      side.layers[this.class].paint(context, scale, opacity);
      context.restore();
    }
  }

  #point(x, y) {
    const levels = this.left?.levels;
    if (x === null || !levels) {
      this.pointed.textContent = "";
      return;
    }
    const level = levels.raw[this.class][y * levels.width + x];
    this.pointed.textContent = `row ${y}, column ${x}: ${(level / 255).toFixed(3)} (${level})`;
  }

  #showFacts() {
    const { columns, classes, kinds, strata } = this.table, { row } = this;
    const named = (names, bits) => names.filter((_, n) => bits & (1 << n)).join(", ");
    const scored = columns.dice ? classes.map((name, n) => [name, columns.dice[n * this.table.length + row]]).filter(([, dice]) => dice !== null) : [];
    const rows = [
      ["Part", `${columns.held_out[row] ? "held out" : "validation"}${columns.fold[row] < 0 ? "" : `, fold ${columns.fold[row]}`}`],
      ["True objects", columns.objects[row]],
      ["Strata", named(strata, columns.strata[row])],
      ["Findings", named(kinds, columns.findings[row])],
      ["Dice by evaluate", scored.map(([name, dice]) => (classes.length > 1 ? `${name}: ${dice.toFixed(4)}` : dice.toFixed(4))).join(", ") || "not evaluated"],
    ].filter(([, value]) => value !== "");
    this.facts.replaceChildren(element("h2", {}, "About this image"), element("table", {}, element("tbody", {}, rows.map(([name, value]) =>
      element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, String(value)))))));
  }

  // where one goes from here

  #order(state) {
    this.rows = this.table.rows(wantedRows(this.table, state));
    this.place = this.rows.indexOf(this.table.rowOf.get(state.image));
    const count = this.rows.length.toLocaleString("en");
    this.position.textContent = this.place < 0 ? `not among the ${count}` : `${(this.place + 1).toLocaleString("en")} of ${count}`;
    this.previous.disabled = this.place <= 0;
    this.next.disabled = this.place + 1 >= this.rows.length;
    const { image, level, area, layers, view, beside, swipe, look, metric, ...rest } = state;
    this.home.href = fragment({ ...rest, folder: this.number });
    this.review.href = `/page/review.html${fragment({ folder: this.number, image: state.image })}`;
    this.besideChoice.value = beside ?? "";
  }

  #step(by) {
    const row = this.rows[this.place + by];
    if (row !== undefined && this.place + by >= 0) go({ image: this.table.columns.id[row], view: null, look: null });
    return true;
  }

  #back() {
    if (document.activeElement?.matches("input, select")) document.activeElement.blur();
    else location.hash = this.home.getAttribute("href");
    return true;
  }

  #look(number) {
    if (number >= this.table.classes.length || !this.left) return false;
    this.class = number;
    note({ look: number });
    this.#classChanged();
    this.#showAll();
    return true;
  }

  /** The class with the most true pixels; of an empty image the one that most is predicted of. */
  #firstClass(levels) {
    const most = (planes, of) => planes.map((plane) => plane.reduce((sum, value) => sum + of(value), 0));
    const truth = most(levels.truth, (value) => value);
    const by = Math.max(...truth) ? truth : most(levels.levels, (value) => Number(value >= 128));
    return by.indexOf(Math.max(...by));
  }

  #toggleBeside() {
    const others = this.folders.filter((of) => of.kind === "run" && of.number !== this.number);
    go({ beside: this.besideChoice.value === "" ? others[0]?.number : null });
  }

  // what there is to press

  #bar() {
    this.home = element("a", { class: "home", href: "#" }, "Gallery");
    this.id = element("h1", { class: "image-id" });
    this.position = element("output", { class: "muted" });
    this.previous = element("button", { class: "icon", title: "Previous (←)", "aria-label": "Previous image", onclick: () => this.#step(-1) }, "←");
    this.next = element("button", { class: "icon", title: "Next (→)", "aria-label": "Next image", onclick: () => this.#step(1) }, "→");
    this.review = element("a", { href: "/page/review.html", title: "Accept, correct or leave out its label" }, "Review label");
    return element("div", { class: "bar" }, this.home, this.id, element("span", { class: "space" }), this.review, this.position, this.previous, this.next);
  }

  #zoomButtons() {
    const button = (text, label, does) => element("button", { class: "icon", title: label, "aria-label": label, onclick: does }, text);
    return element("div", { class: "zoom-buttons", role: "group", "aria-label": "Zoom" },
      button("+", "Zoom in", () => this.canvas.zoom(1.5)), button("−", "Zoom out", () => this.canvas.zoom(1 / 1.5)), button("□", "Whole image", () => this.canvas.show(null)));
  }

  #classChoice() {
    const { classes } = this.table;
    if (classes.length < 2) return null;
    this.classButtons = classes.map((name, n) => element("button", { "aria-pressed": "false", title: `Class ${name} (${n + 1})`, onclick: () => this.#look(n) }, name));
    return element("section", { "aria-label": "Class" }, element("h2", {}, "Class"), element("div", { class: "row classes" }, this.classButtons));
  }

  #besideChoice() {
    const others = this.folders.filter((of) => of.kind === "run" && of.number !== this.number);
    this.besideChoice = element("select", { id: "beside", onchange: (event) => go({ beside: event.target.value }) },
      element("option", { value: "" }, "none"), others.map((of) => element("option", { value: of.number }, of.name)));
    this.besideNote = element("p", { class: "warn small", role: "status" });
    return element("section", { hidden: !others.length, class: "field" }, element("label", { for: "beside" }, element("h2", {}, "Beside it")), this.besideChoice, this.besideNote);
  }
}

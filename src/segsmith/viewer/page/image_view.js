// One image of a run: layers to look at, sliders to decide by, another run beside it.

import { fragment, go, note } from "./address.js";
import { Divider } from "./divider.js";
import { element } from "./elements.js";
import { wantedRows } from "./gallery.js";
import { typing } from "./header.js";
import { ImageSide } from "./image_side.js";
import { LAYER_KEYS, LayerPanel } from "./layer_panel.js";
import { ScorePanel } from "./score_panel.js";
import { SideChoice } from "./side_choice.js";
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
  [["x"], "threshold and smallest area of the other run"],
  [["?"], "these keys"],
];

export class ImageView {
  /** `tableOf(number)` promises the table of another run. */
  constructor({ table, number, folders, tableOf }) {
    Object.assign(this, { table, number, folders, tableOf, class: 0 });
    this.left = new ImageSide({ table, number, name: folders[number].name, id: "", moved: () => this.#decided(this.left, ""), told: () => this.#shown() });
    this.right = null;
    this.others = new Map(); // sides that were laid beside it, by number
    this.layers = new LayerPanel(() => this.#layersChanged());
    this.decisions = element("section", { "aria-label": "Decisions" });
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
    const side = element("aside", { class: "side right", "aria-label": "Layers, decision and scores" }, this.#classChoice(), this.layers.element, this.decisions, this.scores.element, this.#besideChoice(), this.facts);
    this.#laid();
    this.element = element("div", { class: "image-view" }, this.#bar(), element("div", { class: "sides" }, stage, side));
  }

  /** Show what the address says. */
  async draw(state) {
    const row = this.table.rowOf.get(state.image);
    this.layers.set(state.layers);
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
      this.#showFacts();
      const [left, right] = await Promise.all([this.#asked(row), beside === null ? null : this.#askedBeside(beside, state.image)]);
      if (this.loading !== loading) return;
      this.left.show(left);
      if (this.right !== (right?.side ?? null)) {
        this.right?.show(null);
        this.right = right?.side ?? null;
        this.#laid();
      }
      this.right?.show(right.found);
      if (left) this.class = firstClass(left.levels);
      this.canvas.picture(left?.levels.width ?? 1, left?.levels.height ?? 1);
      this.#fetchAhead();
    }
    this.left.decision.set(state.level, state.area);
    this.right?.decision.set(state.beside_level, state.beside_area);
    if (!this.left.levels) return;
    if (asked >= 0 && asked < this.table.classes.length) this.class = asked;
    const view = (state.view ?? "").split(",").map(Number);
    this.canvas.show(view.length === 3 && view.every((value) => value > 0) ? { x: view[0], y: view[1], scale: view[2] } : null, false);
    this.#classChanged();
    this.#showAll();
  }

  /** Before another page is shown. */
  leave() {
    this.loading = null;
    for (const side of this.sides) side.show(null);
  }

  /** The runs that are looked at, that at the left first. */
  get sides() {
    return [this.left, this.right].filter(Boolean);
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
    const { decision } = this.sides[this.sideChoice.chosen];
    const does = {
      "[": () => decision.step("level", -1), "]": () => decision.step("level", 1),
      "{": () => decision.step("level", -10), "}": () => decision.step("level", 10),
      ";": () => decision.step("area", -1), "'": () => decision.step("area", 1),
      d: () => decision.decided(), x: () => this.sideChoice.other(),
      "+": () => this.canvas.zoom(1.5), "=": () => this.canvas.zoom(1.5), "-": () => this.canvas.zoom(1 / 1.5), 0: () => this.canvas.show(null),
      s: () => this.#toggleBeside(), ",": () => this.divider.move(-0.02), ".": () => this.divider.move(0.02),
    }[event.key];
    does?.();
    return Boolean(does);
  }

  // what is asked of the viewer

  /** What this run makes of the image in a row; null where it cannot be shown, which is said. */
  async #asked(row) {
    this.fault.hidden = true;
    try {
      return await this.left.asked(row);
    } catch (error) {
      this.fault.replaceChildren(element("p", {}, error.message), error.command ? element("pre", {}, element("code", {}, error.command)) : "");
      this.fault.hidden = false;
      return null;
    }
  }

  /** Another run, and what it makes of the image of an id; null where it cannot be laid beside this one, which is said. */
  async #askedBeside(number, id) {
    const said = (text) => ((this.besideNote.textContent = text), null);
    said("");
    try {
      const table = await this.tableOf(number), { name } = this.folders[number];
      if (table.fingerprint !== this.table.fingerprint) return said(`${name} is a run on another dataset, so its images are not the same; choose a run on this one.`);
      if (table.classes.join() !== this.table.classes.join()) return said(`${name} is a run on other classes: ${table.classes.join(", ")}.`);
      const row = table.rowOf.get(id);
      if (row === undefined) return said(`${name} was neither validated on ${id}, nor was it held out from it: it may have been trained on it.`);
      const side = this.#other(table, number);
      return { side, found: await side.asked(row) };
    } catch (error) {
      return said(`${error.message}${error.command ? ` ${error.command}` : ""}`);
    }
  }

  /** The side of another run, made once. */
  #other(table, number) {
    if (this.others.get(number)?.table !== table) {
      const side = new ImageSide({ table, number, name: this.folders[number].name, id: "beside-", moved: () => this.#decided(side, "beside_"), told: () => this.#shown() });
      this.others.set(number, side);
    }
    return this.others.get(number);
  }

  /** Have the browser keep the next image. */
  #fetchAhead() {
    const next = this.rows?.[this.place + 1];
    if (next === undefined) return;
    const chip = this.table.columns.chip[next];
    for (const what of ["image", "levels"]) fetch(`/api/runs/${this.number}/chips/${chip}/${what}?of=${this.table.version}`, { priority: "low" }).catch(() => null);
  }

  // what is shown

  /** Another run lies beside this one, or none any more. */
  #laid() {
    const panels = this.sides.map((side) => side.decision.element);
    this.sideChoice = new SideChoice("Decision of", this.sides.map((side) => side.name), panels);
    this.decisions.replaceChildren(this.sideChoice.element, ...panels);
    this.scores.showSides(this.sides);
  }

  #classChanged() {
    this.classButtons?.forEach((button, n) => button.setAttribute("aria-pressed", n === this.class));
    for (const side of this.sides) {
      side.decision.choose(this.class);
      side.predict();
    }
    this.#shown();
  }

  /** A slider of a side was moved; `prefix` is of its names in the address. */
  #decided(side, prefix) {
    if (!side.levels) return;
    side.predict();
    note(Object.fromEntries(Object.entries(side.decision.said).map(([name, text]) => [prefix + name, text])));
    this.#shown();
    this.#showAll();
  }

  #layersChanged() {
    note({ layers: this.layers.said });
    this.canvas.draw();
  }

  #shown() {
    this.scores.showImage(this.sides, this.class);
    this.divider.element.hidden = !this.right;
    this.names.forEach((name, n) => {
      name.hidden = !this.right;
      name.textContent = this.sides[n]?.described(this.class) ?? "";
    });
    this.canvas.draw();
  }

  #showAll() {
    for (const side of this.sides) side.showAll(this.scores.figure.value, this.class);
  }

  #paint(context, scale, px) {
    if (!this.left.levels) return;
    const { opacity } = this.layers, { width, height } = this.left.levels;
    this.middle = px(this.divider.share * this.canvas.element.clientWidth); // the column that the divider is at
    const sides = this.right ? [[this.left, -1, this.middle], [this.right, this.middle, width + 1]] : [[this.left, -1, width + 1]];
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
    const { levels } = this.right && x >= this.middle ? this.right : this.left;
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
    const { image, level, area, layers, view, beside, beside_level, beside_area, swipe, look, metric, ...rest } = state;
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
    if (number >= this.table.classes.length || !this.left.levels) return false;
    this.class = number;
    note({ look: number });
    this.#classChanged();
    this.#showAll();
    return true;
  }

  #toggleBeside() {
    const others = this.folders.filter((of) => of.kind === "run" && of.number !== this.number);
    this.#layBeside(this.besideChoice.value === "" ? others[0]?.number : null);
  }

  #layBeside(number) {
    go({ beside: number, beside_level: null, beside_area: null });
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
    this.besideChoice = element("select", { id: "beside", onchange: (event) => this.#layBeside(event.target.value) },
      element("option", { value: "" }, "none"), others.map((of) => element("option", { value: of.number }, of.name)));
    this.besideNote = element("p", { class: "warn small", role: "status" });
    return element("section", { hidden: !others.length, class: "field" }, element("label", { for: "beside" }, element("h2", {}, "Beside it")), this.besideChoice, this.besideNote);
  }
}

/** The class with the most true pixels; of an empty image the one that most is predicted of. */
function firstClass(levels) {
  const most = (planes, of) => planes.map((plane) => plane.reduce((sum, value) => sum + of(value), 0));
  const truth = most(levels.truth, (value) => value);
  const by = Math.max(...truth) ? truth : most(levels.levels, (value) => Number(value >= 128));
  return by.indexOf(Math.max(...by));
}

// The images of a run: what they are sorted and filtered by, and a grid of them.

import { fragment, go, note, told } from "./address.js";
import { MEASURES, measureText } from "./chip_table.js";
import { element, stateElement } from "./elements.js";
import { Grid } from "./grid.js";
import { typing } from "./header.js";

export const GALLERY_KEYS = [
  [["/"], "search by id"],
  [["←", "→", "↑", "↓"], "go from image to image"],
  [["Enter"], "open the image"],
  [["Home", "End"], "first image, last image"],
  [["r"], "turn the order round"],
  [["?"], "these keys"],
];

const NO_FILTER = { part: null, fold: null, finding: null, stratum: null, id: null, least: null, most: null };

/** What the address says of order and filters, as ChipTable.rows wants it. */
export function wantedRows(table, state) {
  const measures = table.measures;
  const scores = measures.filter((name) => MEASURES[name].score);
  const sort = measures.includes(state.sort) ? state.sort : scores[0] ?? "objects";
  const number = (text) => (text === undefined || text === "" || Number.isNaN(Number(text)) ? null : Number(text));
  const ofClass = number(state.class);
  return {
    sort,
    down: state.down === "1",
    class: ofClass !== null && ofClass < table.classes.length ? ofClass : null,
    part: state.part ?? "",
    fold: state.fold ?? "",
    finding: table.kinds.includes(state.finding) ? state.finding : "",
    stratum: table.strata.includes(state.stratum) ? state.stratum : "",
    id: state.id ?? "",
    least: number(state.least),
    most: number(state.most),
  };
}

export class Gallery {
  constructor(table, number) {
    this.table = table;
    this.number = number;
    const ratio = Math.min(1.2, Math.max(0.3, table.hw[0] / table.hw[1]));
    const narrow = window.matchMedia("(max-width: 46rem)").matches;
    this.grid = new Grid({ make: (row) => this.#cell(row), least: narrow ? 108 : ratio < 0.5 ? 260 : 148, ratio, below: 40 });
    this.grid.scroller.setAttribute("aria-label", "Images");
    this.grid.scroller.setAttribute("role", "group");
    this.none = element("div", { hidden: true });
    this.count = element("output", { class: "count" });
    this.stage = element("section", { class: "stage gallery-stage", "aria-label": "Gallery" }, this.#bar(), this.grid.scroller, this.none);
    this.element = element("div", { class: "sides" }, this.#side(), this.stage);
    this.draw(told());
  }

  /** Show what the address says. */
  draw(state) {
    clearTimeout(this.typing); // what was typed before is in the address, or was cleared since
    this.wanted = wantedRows(this.table, state);
    const rows = this.table.rows(this.wanted);
    this.rows = rows;
    const all = this.table.length.toLocaleString("en"), shown = rows.length.toLocaleString("en");
    this.count.textContent = rows.length === this.table.length ? `${all} images` : `${shown} of ${all} images`;
    this.grid.show(rows);
    this.none.replaceChildren(...(rows.length ? [] : [stateElement("Nothing fits", "No image fits all filters together."),
      element("p", { class: "row middle" }, element("button", { onclick: () => go(NO_FILTER) }, "Clear filters"))]));
    this.none.hidden = rows.length > 0;
    this.grid.scroller.hidden = !rows.length;
    for (const [name, input] of Object.entries(this.inputs)) {
      const value = { ...this.wanted, class: this.wanted.class ?? "", least: this.wanted.least ?? "", most: this.wanted.most ?? "" }[name];
      if (input !== document.activeElement || input.tagName === "SELECT") input.value = value;
    }
    this.turn.textContent = this.wanted.down ? "↓ highest first" : "↑ lowest first";
    const filters = ["part", "fold", "finding", "stratum", "least", "most"].filter((name) => this.wanted[name] !== "" && this.wanted[name] !== null).length;
    this.filtered.textContent = filters ? `Filters (${filters})` : "Filters";
    this.clear.disabled = !filters && !this.wanted.id;
  }

  /** After coming back from an image: that image in sight, with the keyboard. */
  reveal(id) {
    this.grid.reveal(this.rows.indexOf(this.table.rowOf.get(id)));
  }

  /** A key that was pressed; true if it was one of the gallery's. */
  key(event) {
    if (event.key === "/" && !typing(event)) {
      this.inputs.id.focus();
      return true;
    }
    if (event.key === "Escape" && event.target === this.inputs.id) {
      this.grid.reveal(0);
      return true;
    }
    if (typing(event) || event.shiftKey) return false;
    if (event.key === "r") {
      go({ down: this.wanted.down ? null : "1" });
      return true;
    }
    const at = this.grid.focused, last = this.rows.length - 1;
    const moved = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - this.grid.columns, ArrowDown: at + this.grid.columns, Home: 0, End: last }[event.key];
    if (moved === undefined || last < 0) return false;
    this.grid.reveal(at < 0 && event.key !== "End" ? 0 : Math.min(last, Math.max(0, moved)));
    return true;
  }

  #bar() {
    const sorts = this.table.measures.map((name) => element("option", { value: name }, MEASURES[name].name));
    this.turn = element("button", { title: "Turn the order round (r)", onclick: () => go({ down: this.wanted.down ? null : "1" }) });
    this.inputs = {
      id: element("input", { type: "search", placeholder: "Search id  /", "aria-label": "Search by id", oninput: (event) => this.#typed({ id: event.target.value }) }),
      sort: element("select", { "aria-label": "Sort by", onchange: (event) => go({ sort: event.target.value, least: null, most: null }) }, sorts),
    };
    return element("div", { class: "bar" }, this.inputs.id, this.inputs.sort, this.turn, this.count, this.#legend());
  }

  #legend() {
    return element("span", { class: "legend" },
      element("span", {}, element("i", { class: "swatch truth" }), " truth"),
      element("span", {}, element("i", { class: "swatch prediction" }), " prediction"));
  }

  #side() {
    const { table } = this;
    const folds = [...new Set(table.columns.fold)].sort((a, b) => a - b);
    const parts = new Set(table.columns.held_out);
    const choice = (name, label, options, all) => {
      this.inputs[name] = element("select", { onchange: (event) => go({ [name]: event.target.value }) },
        element("option", { value: "" }, all), options.map(([value, text]) => element("option", { value }, text)));
      return element("label", { class: "field" }, element("span", { class: "label" }, label), this.inputs[name]);
    };
    const named = (names) => names.map((name) => [name, name]);
    const bound = (name, label) => {
      this.inputs[name] = element("input", { type: "number", step: "any", "aria-label": label, placeholder: name === "least" ? "from" : "to", oninput: (event) => this.#typed({ [name]: event.target.value }) });
      return this.inputs[name];
    };
    const fields = [
      table.classes.length > 1 && choice("class", "Scores of class", table.classes.map((name, n) => [n, name]), "all classes"),
      element("div", { class: "field", role: "group", "aria-label": "Range of what is sorted by" },
        element("span", { class: "label" }, "Range of what is sorted by"),
        element("div", { class: "pair" }, bound("least", "At least"), bound("most", "At most"))),
      parts.size > 1 && choice("part", "Part", [["validation", "validation"], ["held_out", "held out"]], "both parts"),
      folds.length > 1 && choice("fold", "Fold", folds.map((fold) => [fold, `fold ${fold}`]), "all folds"),
      table.strata.length > 0 && choice("stratum", "Stratum", named(table.strata), "all strata"),
      table.kinds.length > 0 && choice("finding", "Finding of the audit", named(table.kinds), "with or without"),
    ].filter(Boolean);
    this.filtered = element("summary", {}, "Filters");
    this.clear = element("button", { onclick: () => go(NO_FILTER) }, "Clear filters");
    const narrow = window.matchMedia("(max-width: 46rem)").matches;
    return element("aside", { class: "side filters", "aria-label": "Filters" },
      element("details", { open: !narrow }, this.filtered, element("div", { class: "fields" }, fields, this.clear)),
      this.#scores());
  }

  #scores() {
    const { scores, scored, evaluate } = this.table;
    if (!scored) {
      return element("section", { class: "scores" }, element("h2", {}, "Not evaluated yet"),
        element("p", {}, "There is no score to sort by. It is made by:"), element("pre", {}, element("code", {}, evaluate)));
    }
    const names = { mean_dice: "Dice, mean", mean_iou: "IoU, mean", mean_iou_map: "IoU over thresholds", f2_objects: "F2 of objects", global_dice: "Dice, all pixels", global_iou: "IoU, all pixels", dice_foreground: "Dice, with foreground", dice_empty: "Dice, empty" };
    const rows = Object.entries(names).filter(([name]) => name in scores).map(([name, text]) => element("tr", { class: name === this.table.metric ? "chosen" : null },
      element("th", { scope: "row" }, text), element("td", {}, scores[name].value.toFixed(4))));
    return element("section", { class: "scores" }, element("h2", {}, scored === "held_out" ? "Held out" : "Validation"), element("table", {}, element("tbody", {}, rows)));
  }

  #typed(changes) {
    note(changes);
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.draw({ ...told(), ...changes }), 120);
  }

  #cell(row) {
    const { columns, version } = this.table;
    const id = columns.id[row], value = this.table.measure(this.wanted.sort, this.wanted.class)[row];
    const text = measureText(this.wanted.sort, value);
    const picture = element("img", { alt: "", loading: "lazy", decoding: "async", src: `/api/runs/${this.number}/chips/${columns.chip[row]}/thumbnail?of=${version}` });
    return element("a", { class: "cell", href: fragment({ ...told(), folder: this.number, image: id }), title: id, "data-id": id },
      picture, element("span", { class: "id" }, id), element("span", { class: "value" }, text));
  }
}

// The answer of /gallery -> rows to filter and sort, as fast as typed arrays are.

/** What rows are sorted and filtered by; `of` is "image" for one number an image, "class" for one in each class. */
export const MEASURES = {
  dice: { name: "Dice", of: "class", score: true },
  iou: { name: "IoU", of: "class", score: true },
  iou_map: { name: "IoU over thresholds", of: "class", score: true },
  f2_objects: { name: "F2 of objects", of: "class", score: true },
  wrong_pixels: { name: "Wrong pixels", of: "class" },
  true_pixels: { name: "True pixels", of: "class" },
  predicted_pixels: { name: "Predicted pixels", of: "class" },
  objects: { name: "True objects", of: "image" },
};

export class ChipTable {
  constructor(answer) {
    Object.assign(this, answer);
    this.length = answer.columns.chip.length;
    this.lower = answer.columns.id.map((id) => id.toLowerCase());
    this.rowOf = new Map(answer.columns.id.map((id, row) => [id, row]));
    this.values = new Map();
  }

  /** The measures that this run has. */
  get measures() {
    return Object.keys(MEASURES).filter((name) => name in this.columns || (name === "wrong_pixels" && this.columns.dice));
  }

  /** Of every row a measure, in a class, or over all classes (null): the mean of scores, the sum of pixels. NaN where
   * it is not scored. */
  measure(name, ofClass = null) {
    const key = `${name} ${ofClass}`;
    if (!this.values.has(key)) this.values.set(key, this.#measured(name, ofClass));
    return this.values.get(key);
  }

  #measured(name, ofClass) {
    const { length, columns } = this;
    const found = new Float64Array(length);
    if (MEASURES[name].of === "image") {
      columns[name].forEach((value, row) => { found[row] = value; });
      return found;
    }
    const classes = ofClass === null ? this.classes.map((_, number) => number) : [ofClass];
    const share = MEASURES[name].score ? 1 / classes.length : 1;
    for (const number of classes) {
      for (let row = 0, at = number * length; row < length; row += 1, at += 1) found[row] += share * this.#value(name, at);
    }
    return found;
  }

  #value(name, at) {
    const { columns } = this;
    if (name === "wrong_pixels") return columns.true_pixels[at] === null ? NaN
      : columns.true_pixels[at] + columns.predicted_pixels[at] - 2 * columns.right_pixels[at];
    return columns[name][at] ?? NaN;
  }

  /** Rows that fit, in order. `wanted`: {sort, down, class, part, fold, finding, stratum, id, least, most}. Rows that
   * are not scored come last; of equal ones that with more wrong pixels comes first. */
  rows(wanted) {
    const { columns, length } = this;
    const keys = this.measure(wanted.sort, wanted.class);
    const bit = (names, name) => (name ? 1 << names.indexOf(name) : 0);
    const finding = bit(this.kinds, wanted.finding), stratum = bit(this.strata, wanted.stratum);
    const sought = wanted.id.toLowerCase();
    const kept = [];
    for (let row = 0; row < length; row += 1) {
      if (wanted.part && columns.held_out[row] !== Number(wanted.part === "held_out")) continue;
      if (wanted.fold !== "" && columns.fold[row] !== Number(wanted.fold)) continue;
      if (finding && !(columns.findings[row] & finding)) continue;
      if (stratum && !(columns.strata[row] & stratum)) continue;
      if (sought && !this.lower[row].includes(sought)) continue;
      if (wanted.least !== null && !(keys[row] >= wanted.least)) continue;
      if (wanted.most !== null && !(keys[row] <= wanted.most)) continue;
      kept.push(row);
    }
    const sign = wanted.down ? -1 : 1;
    const place = (row) => (Number.isNaN(keys[row]) ? Infinity : sign * keys[row]);
    const by = new Float64Array(length);
    for (const row of kept) by[row] = place(row);
    const wrong = columns.dice ? this.measure("wrong_pixels", wanted.class) : by;
    const tie = (a, b) => (wrong[a] === wrong[b] ? a - b : wrong[b] - wrong[a]);
    return Uint32Array.from(kept).sort((a, b) => (by[a] === by[b] ? tie(a, b) : by[a] - by[b]));
  }
}

/** A measure as a text: scores with four digits, pixels with commas. */
export function measureText(name, value) {
  if (Number.isNaN(value)) return "-";
  return MEASURES[name].score ? value.toFixed(4) : value.toLocaleString("en");
}

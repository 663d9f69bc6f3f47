// Many rows -> a grid that scrolls over all of them and holds only those in sight.

import { element } from "./elements.js";

const GAP = 10;

export class Grid {
  /** `make(row)` is the element of a row; a cell is at least `least` px wide, its picture `ratio` of that high, with
   * `below` px of text under it. */
  constructor({ make, least, ratio, below }) {
    Object.assign(this, { make, least, ratio, below });
    this.rows = [];
    this.cells = new Map();
    this.filler = element("div", { class: "grid-filler" });
    this.scroller = element("div", { class: "grid", tabindex: "-1" }, this.filler);
    this.scroller.addEventListener("scroll", () => this.#fill(), { passive: true });
    new ResizeObserver(() => this.#lay()).observe(this.scroller);
  }

  /** Show other rows, from the first on, or from where it was scrolled to. */
  show(rows, { keep = false } = {}) {
    this.rows = rows;
    this.#clear();
    if (!keep) this.scroller.scrollTop = 0;
    this.#lay();
  }

  /** Scroll so that the row at a place is in sight; `focus` gives it the keyboard. */
  reveal(place, focus = true) {
    if (place < 0 || place >= this.rows.length) return;
    const top = Math.floor(place / this.columns) * this.step;
    const { scrollTop, clientHeight } = this.scroller;
    if (top < scrollTop) this.scroller.scrollTop = top;
    else if (top + this.step > scrollTop + clientHeight) this.scroller.scrollTop = top + this.step - clientHeight;
    this.#fill();
    if (focus) this.cells.get(place)?.focus({ preventScroll: true });
  }

  /** The place of the cell that has the keyboard, -1 if none. */
  get focused() {
    for (const [place, cell] of this.cells) if (cell === document.activeElement) return place;
    return -1;
  }

  #clear() {
    for (const cell of this.cells.values()) cell.remove();
    this.cells.clear();
  }

  #lay() {
    const width = this.scroller.clientWidth - 2 * GAP;
    if (width <= 0) return;
    this.columns = Math.max(1, Math.floor((width + GAP) / (this.least + GAP)));
    this.width = (width + GAP) / this.columns - GAP;
    this.step = Math.round(this.width * this.ratio + this.below + GAP);
    this.filler.style.height = `${Math.ceil(this.rows.length / this.columns) * this.step + GAP}px`;
    for (const [place, cell] of this.cells) this.#put(cell, place);
    this.#fill();
  }

  #put(cell, place) {
    cell.style.width = `${this.width}px`;
    cell.style.height = `${this.step - GAP}px`;
    const left = GAP + (place % this.columns) * (this.width + GAP), top = GAP + Math.floor(place / this.columns) * this.step;
    cell.style.transform = `translate(${left}px, ${top}px)`;
  }

  #fill() {
    if (!this.step) return;
    const { scrollTop, clientHeight } = this.scroller;
    const first = Math.max(0, Math.floor(scrollTop / this.step) - 1) * this.columns;
    const last = Math.min(this.rows.length, (Math.ceil((scrollTop + clientHeight) / this.step) + 1) * this.columns);
    for (const [place, cell] of this.cells) {
      if ((place < first || place >= last) && cell !== document.activeElement) {
        cell.remove();
        this.cells.delete(place);
      }
    }
    for (let place = first; place < last; place += 1) {
      if (this.cells.has(place)) continue;
      const cell = this.make(this.rows[place], place);
      this.#put(cell, place);
      this.cells.set(place, cell);
      this.filler.append(cell);
    }
  }
}

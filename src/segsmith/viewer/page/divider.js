// The line between two that lie over one another, to be dragged or moved by keys.

import { element } from "./elements.js";

export class Divider {
  /** `sides` is what lies at its sides, in a word; `moved(share)` is told the share of the width, 0..1, at the left of the
   * line. */
  constructor(sides, moved) {
    this.moved = moved;
    this.share = 0.5;
    this.element = element("div", {
      class: "divider", role: "slider", tabindex: "0", "aria-label": `Divider between the ${sides}`, "aria-valuemin": "0", "aria-valuemax": "100", hidden: true,
      onkeydown: (event) => this.#key(event),
      onpointerdown: (event) => this.element.setPointerCapture(event.pointerId),
      onpointermove: (event) => this.element.hasPointerCapture(event.pointerId) && this.#drag(event),
    }, element("span", { class: "grip", "aria-hidden": "true" }, "⇔"));
    this.place(0.5);
  }

  /** Put the line somewhere, telling nobody. */
  place(share) {
    this.share = Math.min(1, Math.max(0, share));
    this.element.style.left = `${100 * this.share}%`;
    this.element.setAttribute("aria-valuenow", Math.round(100 * this.share));
  }

  /** Move it by a share. */
  move(by) {
    this.place(this.share + by);
    this.moved(this.share);
  }

  #drag(event) {
    const box = this.element.parentElement.getBoundingClientRect();
    this.place((event.clientX - box.left) / box.width);
    this.moved(this.share);
  }

  #key(event) {
    const by = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.move(by);
  }
}

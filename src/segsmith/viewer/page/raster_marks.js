// What lies over a map of a raster: how long a length is, where north is, and what is under the pointer.

import { element } from "./elements.js";
import { degreesText, lengthText, mapText, roundLength } from "./raster_place.js";

export class RasterMarks {
  /** `place` is where the raster's pixels lie. */
  constructor(raster, place) {
    Object.assign(this, { raster, place });
    this.scale = element("div", { class: "scale", "aria-hidden": "true" });
    this.readout = element("output", { class: "readout" });
    const turn = place.north();
    const north = element("div", { class: "north", title: "North", "aria-hidden": "true", hidden: turn === null }, element("span", {}, "↑"), "N");
    north.firstChild.style.transform = `rotate(${turn}deg)`;
    this.elements = [this.scale, this.readout, north];
  }

  /** Say how long a length is where a px of the screen is so many pixels of the raster. */
  drawScale(pixels) {
    const unit = this.raster.gsd_m ?? 1;
    const length = roundLength(140 * pixels * unit);
    this.scale.style.width = `${length / (pixels * unit)}px`;
    this.scale.textContent = this.raster.gsd_m ? lengthText(length) : `${length} px`;
  }

  /** Say where a spot of the raster is and what is said of it: `levels`, a number for each of `classes`, or null. */
  point(x, y, classes, levels) {
    const [height, width] = this.raster.hw;
    if (x === null || x < 0 || y < 0 || x >= width || y >= height) {
      this.readout.textContent = "";
      return;
    }
    const degrees = this.place.inDegrees(x, y);
    const parts = [
      `x ${Math.floor(x)}  y ${Math.floor(y)}`,
      levels && levels.map((level, n) => `${classes[n].name} ${(level / 255).toFixed(2)}`).join("  "),
      this.onMap(x, y),
      degrees && degreesText(degrees),
    ];
    this.readout.replaceChildren(...parts.filter(Boolean).map((part) => element("span", {}, part)));
  }

  /** A spot in the raster's CRS as a text; null without one. */
  onMap(x, y) {
    const { crs, transform } = this.raster;
    return crs && mapText(crs, this.place.onMap(x, y), transform[0] || transform[1]);
  }
}

// One prediction of a raster on a map: what its networks say of each pixel, its mask and its objects.

import { Outlines } from "./raster_objects.js";
import { LevelLayer, TILE, TileSource, maskTable, rampTable } from "./raster_tiles.js";

const PANES = ["probability", "threshold", "mask", "objects"]; // from bottom to top, over that of the image

export class RasterSide {
  /** `raster` is what the viewer says of it, `address` where; `tiles` are Leaflet's options of its tiles; `colourOf` has
   * a colour for each name of a class. `suffix` tells its panes from those of another side. `chosen` is called with an
   * object that was clicked, `told` with how many are in view. */
  constructor({ map, raster, address, tiles, colourOf, suffix = "", chosen, told }) {
    Object.assign(this, { map, raster, colours: raster.classes.map((of) => colourOf[of.name] ?? of.colour) });
    this.panes = PANES.map((name, at) => {
      const pane = map.createPane(`${name}${suffix}`);
      pane.style.zIndex = 220 + 10 * at;
      return pane;
    });
    const pane = (name) => ({ ...tiles, pane: `${name}${suffix}` });
    this.levels = new TileSource(`${address}/levels`);
    const nothing = raster.classes.map(() => null);
    this.layers = {
      probability: new LevelLayer(this.levels, nothing, pane("probability")),
      threshold: new LevelLayer(this.levels, nothing, pane("threshold")),
      mask: new LevelLayer(new TileSource(`${address}/masks`), this.colours.map((colour) => maskTable(colour, 255)), pane("mask")),
    };
    this.outlines = new Outlines(map, address, colourOf, chosen, `objects${suffix}`);
    this.outlines.told = told;
  }

  /** Show a layer with an opacity 0..1. */
  setOpacity(key, opacity) {
    if (key === "objects") {
      this.outlines.show(opacity > 0 && this.raster.has_objects);
      this.panes.at(-1).style.opacity = opacity;
      return;
    }
    const layer = this.layers[key];
    layer.setOpacity(opacity);
    if (opacity > 0 && !this.map.hasLayer(layer)) layer.addTo(this.map);
    if (opacity === 0) layer.remove();
  }

  /** Of which class the probability is shown, by its number; -1 for none. */
  showProbability(number) {
    this.layers.probability.setTables(this.colours.map((_, n) => (n === number ? rampTable() : null)));
  }

  /** At which level, a number per class, "above threshold" begins. */
  showThresholds(levels) {
    this.layers.threshold.setTables(this.colours.map((colour, n) => maskTable(colour, levels[n])));
  }

  /** Show it between two columns of the map, in its layer's px, alone; `top` and `bottom` are all of its height. */
  clip(left, top, right, bottom) {
    const corners = [[left, top], [right, top], [right, bottom], [left, bottom]].map(([x, y]) => `${x}px ${y}px`);
    for (const pane of this.panes) pane.style.clipPath = `polygon(${corners.join(", ")})`;
  }

  /** The levels of a pixel as it is seen at a zoom, a number per class; null while they are not here, when `arrived` is
   * called later, or where nothing is known. */
  levelsAt(x, y, zoom, arrived) {
    const { deepest } = this.raster, z = Math.min(deepest, Math.round(zoom));
    const [column, row] = [x, y].map((at) => at / 2 ** (deepest - z));
    const tile = { z, x: Math.floor(column / TILE), y: Math.floor(row / TILE) };
    if (!this.levels.has(tile)) {
      this.levels.get(tile).then(() => (this.levels.release(tile), arrived()), () => this.levels.release(tile));
    }
    return this.levels.at(z, column, row);
  }
}

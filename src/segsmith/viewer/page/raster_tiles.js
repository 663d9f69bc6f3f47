// Tiles of levels, and layers of a map that draw them: what is drawn changes at once, the levels stay.

import { GridLayer } from "/page/vendor/leaflet/leaflet.js";
import { asked } from "./elements.js";

export const TILE = 256;
const KEPT = 160;

/** Planes of tiles by zoom, x and y, asked for once; those used last are kept. Each is bytes: 65,536 for each class,
 * and behind them as many that say which pixels are known. */
export class TileSource {
  constructor(address) {
    this.address = address;
    this.tiles = new Map();
  }

  /** A promise of the planes. Every `get` is answered by a `release`, after which an answer that nobody waits for any
   * more is not waited for. */
  get({ z, x, y }) {
    const key = `${z}/${x}/${y}`;
    let tile = this.tiles.get(key);
    if (!tile) {
      const stop = new AbortController();
      tile = { stop, users: 0, planes: null };
      tile.promise = asked(`${this.address}/${key}`, { signal: stop.signal })
        .then((response) => response.arrayBuffer())
        .then((bytes) => (tile.planes = new Uint8Array(bytes)));
      tile.promise.catch(() => this.tiles.get(key) === tile && this.tiles.delete(key));
    }
    this.tiles.delete(key);
    this.tiles.set(key, tile); // the last of all
    tile.users += 1;
    this.#forget();
    return tile.promise;
  }

  /** Whether a tile is here, or asked for. */
  has({ z, x, y }) {
    return this.tiles.has(`${z}/${x}/${y}`);
  }

  release({ z, x, y }) {
    const key = `${z}/${x}/${y}`;
    const tile = this.tiles.get(key);
    if (!tile) return;
    tile.users -= 1;
    if (tile.users <= 0 && !tile.planes) {
      tile.stop.abort();
      this.tiles.delete(key);
    }
  }

  /** The levels of a pixel of the raster shrunk to a zoom, a number per class; null where they are not here, or not
   * known. */
  at(z, column, row) {
    const [x, y] = [Math.floor(column / TILE), Math.floor(row / TILE)];
    const planes = this.tiles.get(`${z}/${x}/${y}`)?.planes;
    if (!planes) return null;
    const pixel = (Math.floor(row) - y * TILE) * TILE + Math.floor(column) - x * TILE;
    const count = planes.length / (TILE * TILE) - 1;
    if (!planes[count * TILE * TILE + pixel]) return null;
    return Array.from({ length: count }, (_, plane) => planes[plane * TILE * TILE + pixel]);
  }

  #forget() {
    for (const [key, tile] of this.tiles) {
      if (this.tiles.size <= KEPT) return;
      if (tile.users <= 0) this.tiles.delete(key);
    }
  }
}

/** A layer that draws the planes of a source by tables: of each class what each of the 256 levels is drawn as, a number
 * of ImageData's pixels (0 for nothing); later classes lie on top. */
export const LevelLayer = GridLayer.extend({
  initialize(source, tables, options) {
    GridLayer.prototype.initialize.call(this, options);
    this.source = source;
    this.tables = tables;
    this.drawn = new Map();
    this.on("tileunload", ({ coords, tile }) => {
      tile.gone = true;
      this.drawn.delete(tile);
      this.source.release(coords);
    });
  },

  createTile(coords, done) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = TILE;
    tile.dataset.tile = `${coords.z}/${coords.x}/${coords.y}`;
    this.source.get(coords).then(
      (planes) => {
        if (tile.gone) return;
        this.drawn.set(tile, planes);
        draw(tile, planes, this.tables);
        done(null, tile);
      },
      (error) => done(error, tile),
    );
    return tile;
  },

  /** Draw every tile again, by other tables. */
  setTables(tables) {
    this.tables = tables;
    for (const [tile, planes] of this.drawn) draw(tile, planes, tables);
  },
});

function draw(tile, planes, tables) {
  const context = tile.getContext("2d");
  const image = context.createImageData(TILE, TILE);
  const pixels = new Uint32Array(image.data.buffer);
  const known = tables.length * TILE * TILE;
  tables.forEach((table, plane) => {
    if (!table) return;
    const start = plane * TILE * TILE;
    for (let pixel = 0; pixel < pixels.length; pixel += 1) {
      const colour = table[planes[start + pixel]];
      if (colour && planes[known + pixel]) pixels[pixel] = colour;
    }
  });
  context.putImageData(image, 0, 0);
}

/** Levels from `threshold` on in a colour (#rrggbb), those below in none. */
export function maskTable(colour, threshold) {
  const drawn = pixel(...rgb(colour), 255);
  return Uint32Array.from({ length: 256 }, (_, level) => (level >= threshold ? drawn : 0));
}

/** The colours of probabilities, dark to light as they rise ("inferno" of matplotlib), and transparent towards 0. */
export const RAMP = ["#1b0c41", "#781c6d", "#cf4446", "#fb9b06", "#fcffa4"];

export function rampTable() {
  const stops = RAMP.map(rgb);
  return Uint32Array.from({ length: 256 }, (_, level) => {
    const at = (level / 255) * (stops.length - 1);
    const left = Math.min(stops.length - 2, Math.floor(at));
    const mixed = stops[left].map((value, axis) => Math.round(value + (at - left) * (stops[left + 1][axis] - value)));
    return pixel(...mixed, Math.min(255, level * 4));
  });
}

function rgb(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

/** As ImageData holds it, which is little-endian on every machine that runs a browser today. */
function pixel(red, green, blue, alpha) {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

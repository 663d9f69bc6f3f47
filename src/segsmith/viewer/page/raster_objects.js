// Objects of a raster: outlines of those in view, or how many there are; all of them as a list in order.

import { LayerGroup, canvas, divIcon, marker, polygon } from "/page/vendor/leaflet/leaflet.js";
import { askedJson, element } from "./elements.js";
import { areaText } from "./raster_place.js";

const PAGE = 50;

/** What is known of an object in a line. */
export const objectText = (found) =>
  `${found.class_name} ${found.id}: score ${found.score.toFixed(2)}, ${areaText(found.area_m2)}`;

/** Outlines in a pane of a map, asked for again whenever it shows another part. `chosen` is called with an object that
 * was clicked. */
export class Outlines {
  constructor(map, address, colours, chosen, pane) {
    this.map = map;
    this.pane = pane;
    this.address = address;
    this.colours = colours;
    this.chosen = chosen;
    this.selected = null;
    this.count = null;
    this.told = () => {};
    this.group = new LayerGroup();
    this.canvas = canvas({ pane, tolerance: 6 });
    this.shapes = new Map();
    map.on("moveend", () => this.refresh());
  }

  show(on) {
    if (on) this.group.addTo(this.map);
    else this.group.remove();
    if (on) this.refresh();
  }

  async refresh() {
    if (!this.map.hasLayer(this.group)) return;
    this.asking?.abort();
    this.asking = new AbortController();
    const seen = this.map.getBounds();
    const pixel = 2 ** (this.map.options.deepest - this.map.getZoom());
    const box = [seen.getWest(), seen.getSouth(), seen.getEast(), seen.getNorth()];
    const [left, right] = [Math.min(box[0], box[2]), Math.max(box[0], box[2])];
    const [top, bottom] = [Math.min(box[1], box[3]), Math.max(box[1], box[3])];
    const asks = [left, top, right, bottom].map((value) => `box=${value.toFixed(2)}`).join("&");
    try {
      const found = await askedJson(`${this.address}/view?${asks}&pixel=${pixel}`, { signal: this.asking.signal });
      this.draw(found);
      this.told(found);
    } catch (error) {
      if (error.name !== "AbortError") this.told({ fault: error.message });
    }
  }

  draw(found) {
    this.group.clearLayers();
    this.shapes.clear();
    this.count = found.count;
    for (const [x, y, count] of found.cells ?? []) this.group.addLayer(this.#cell(x, y, count));
    for (const object of found.objects ?? []) {
      const outline = polygon(object.rings.map((ring) => ring.map(([x, y]) => [y, x])), {
        renderer: this.canvas,
        ...this.#style(object),
      });
      outline.bindTooltip(objectText(object), { sticky: true });
      outline.on("click", () => this.chosen(object));
      this.shapes.set(object.row, { object, outline });
      this.group.addLayer(outline);
    }
  }

  select(object) {
    this.selected = object?.row ?? null;
    for (const shape of this.shapes.values()) shape.outline.setStyle(this.#style(shape.object));
  }

  #style(object) {
    const on = object.row === this.selected;
    return { color: on ? "#ffffff" : this.colours[object.class_name] ?? "#56b4e9", weight: on ? 3.5 : 1.75, fillOpacity: on ? 0.12 : 0 , fill: true };
  }

  #cell(x, y, count) {
    const icon = divIcon({ className: "cell", html: element("span", {}, count.toLocaleString("en")), iconSize: [40, 24] });
    const at = marker([y, x], { icon, pane: this.pane, title: `${count} objects`, alt: `${count} objects here, look closer` });
    at.on("click", () => this.map.setView([y, x], Math.min(this.map.getMaxZoom(), this.map.getZoom() + 2)));
    return at;
  }
}

/** A list of objects, PAGE at a time, and which of them is chosen. */
export class ObjectList {
  constructor(address, chosen) {
    this.address = address;
    this.chosen = chosen;
    this.by = "score";
    this.first = 0;
    this.count = 0;
    this.place = null; // of the chosen one, in this order
    this.rows = [];
    this.list = element("ol", { class: "objects" });
    this.range = element("span", { class: "muted", "aria-live": "polite" });
    this.earlier = element("button", { class: "icon", "aria-label": "Earlier objects", onclick: () => this.load(this.first - PAGE) }, "‹");
    this.later = element("button", { class: "icon", "aria-label": "Later objects", onclick: () => this.load(this.first + PAGE) }, "›");
    const order = element("select", { "aria-label": "Order of objects", onchange: (event) => this.sort(event.target.value) },
      [["score", "Highest score first"], ["area", "Largest first"], ["id", "As numbered"]].map(([by, text]) => element("option", { value: by }, text)));
    this.element = element("div", { class: "field" }, order, this.list,
      element("div", { class: "row between" }, this.earlier, this.range, this.later));
  }

  sort(by) {
    this.by = by;
    this.place = null;
    return this.load(0);
  }

  async load(first) {
    const asked = Math.max(0, Math.floor(first / PAGE) * PAGE);
    const found = await askedJson(`${this.address}/objects?by=${this.by}&first=${asked}&count=${PAGE}`);
    this.first = asked;
    this.count = found.count;
    this.rows = found.objects;
    this.draw();
  }

  /** The next object in this order, or the one before (-1), round the end. */
  async step(by) {
    if (!this.count) return;
    const to = this.place === null ? (by > 0 ? 0 : this.count - 1) : (this.place + by + this.count) % this.count;
    if (to < this.first || to >= this.first + this.rows.length) await this.load(to);
    this.place = to;
    this.draw();
    this.chosen(this.rows[to - this.first]);
  }

  select(object) {
    const at = this.rows.findIndex((row) => row.row === object?.row);
    this.place = at < 0 ? null : this.first + at;
    this.draw();
  }

  draw() {
    const items = this.rows.map((object, n) =>
      element("li", {},
        element("button", {
          "aria-pressed": String(this.place === this.first + n),
          onclick: () => { this.place = this.first + n; this.draw(); this.chosen(object); },
        },
        element("span", {}, `${object.class_name} ${object.id}`),
        element("span", { class: "number" }, object.score.toFixed(2)),
        element("span", { class: "number" }, areaText(object.area_m2)))));
    this.list.replaceChildren(...items);
    this.list.querySelector("[aria-pressed=true]")?.scrollIntoView({ block: "nearest" });
    const last = this.first + this.rows.length;
    this.range.textContent = this.count ? `${this.first + 1}–${last} of ${this.count.toLocaleString("en")}` : "none";
    this.earlier.disabled = this.first === 0;
    this.later.disabled = last >= this.count;
  }
}

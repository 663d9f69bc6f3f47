// The page of a predicted raster: its tiles on a map of its own pixels, what lies on top, and what they mean.

import { CRS, Map as LeafletMap, TileLayer, Transformation, extend } from "/page/vendor/leaflet/leaflet.js";
import { fragment, note, settle, told } from "./address.js";
import { askedJson, element, stateElement } from "./elements.js";
import { askedFolders, drawHeader, folderNumber, typing } from "./header.js";
import { ObjectList, Outlines } from "./raster_objects.js";
import { Place, areaText, degreesText, lengthText, mapText, roundLength } from "./raster_place.js";
import { LevelLayer, RAMP, TILE, TileSource, maskTable, rampTable } from "./raster_tiles.js";

const CLOSER = 5; // zooms beyond the raster's own pixels
const LAYERS = [
  // key in the address, name, opacity at first
  ["image", "Image", 1],
  ["probability", "Probability", 0],
  ["threshold", "Above threshold", 0],
  ["mask", "Mask", 0.45],
  ["objects", "Objects", 1],
];
const KEYS = [
  [["+", "−"], "closer, further away"],
  [["←", "↑", "↓", "→"], "move, when the raster has the focus"],
  [["0"], "all of the raster"],
  [["1", "…", "5"], "layers on and off, from top to bottom"],
  [["[", "]"], "threshold lower, higher; with Shift by 10"],
  [["n", "p"], "next object, the one before"],
  [["c"], "next class"],
  [["?"], "these keys"],
];

const main = document.getElementById("main");
start().catch((error) => main.replaceChildren(stateElement("This cannot be shown", error.message, error.command)));
window.addEventListener("hashchange", () => location.reload());
window.addEventListener("pagehide", settle);

async function start() {
  const folders = await askedFolders();
  const folder = folderNumber();
  drawHeader(folders, folder, KEYS);
  const known = folders[folder];
  if (known?.kind !== "prediction") {
    main.replaceChildren(stateElement("No rasters here", "This folder holds no prediction of rasters.", "segsmith predict BUNDLE RASTERS --to FOLDER"));
    return;
  }
  const rasters = await askedJson(`/api/folders/${folder}/rasters`);
  const asked = told();
  const number = Math.min(rasters.length - 1, Math.max(0, Number(asked.raster) || 0));
  const address = `/api/folders/${folder}/rasters/${number}`;
  const raster = await askedJson(address);
  document.title = `${raster.name} - segsmith view`;
  new RasterPage(folder, rasters, number, address, raster, asked);
}

class RasterPage {
  constructor(folder, rasters, number, address, raster, asked) {
    Object.assign(this, { folder, rasters, number, address, raster });
    this.place = new Place(raster);
    this.state = this.#state(asked);
    this.stage = element("div", { class: "stage" });
    this.board = element("div", { class: "board", tabindex: 0, role: "application", "aria-label": `Raster ${raster.name}` });
    this.readout = element("output", { class: "readout" });
    this.scale = element("div", { class: "scale", "aria-hidden": "true" });
    this.wait = element("p", { class: "wait", role: "status", hidden: true }, "The image has no overviews: some are being made, to see it from afar.");
    this.stage.append(this.board, this.scale, this.readout, this.wait, this.#north());
    this.details = element("div", { class: "details", "aria-live": "polite" });
    this.inView = element("p", { class: "muted small" });
    this.drawn = {};
    this.sliders = {};
    this.controls = this.#controls();
    main.replaceChildren(element("div", { class: "sides" }, this.stage, this.controls));
    this.#map();
    this.#layers();
    this.#keys();
    this.#moved();
  }

  /** What is looked at, as the address says, else as it is at first. */
  #state(asked) {
    const { classes } = this.raster;
    const opacity = Object.fromEntries(LAYERS.map(([key, , first]) => [key, first]));
    for (const part of (asked.layers ?? "").split(",").filter(Boolean)) {
      const [key, percent] = part.split(":");
      if (key in opacity) opacity[key] = Math.min(100, Math.max(0, Number(percent) || 0)) / 100;
    }
    const levels = (asked.thresholds ?? "").split(",").map(Number);
    const thresholds = classes.map((of, n) => (levels[n] >= 1 && levels[n] <= 255 ? levels[n] : of.threshold ?? 128));
    const chosen = Math.min(classes.length - 1, Math.max(0, Number(asked.class) || 0));
    const number = (key) => (key in asked && Number.isFinite(Number(asked[key])) ? Number(asked[key]) : null);
    return { opacity, last: {}, thresholds, chosen, x: number("x"), y: number("y"), zoom: number("zoom") };
  }

  #map() {
    const { deepest, hw: [height, width] } = this.raster;
    const whole = 2 ** deepest;
    const crs = extend({}, CRS.Simple, { transformation: new Transformation(1 / whole, 0, 1 / whole, 0) });
    this.bounds = [[0, 0], [height, width]];
    this.map = new LeafletMap(this.board, {
      crs, deepest, minZoom: 0, maxZoom: deepest + CLOSER, attributionControl: false, zoomControl: false,
      maxBounds: [[-height, -width], [2 * height, 2 * width]], boxZoom: true, wheelPxPerZoomLevel: 90,
    });
    for (const [at, name] of ["image", "probability", "threshold", "mask", "objects"].entries()) {
      this.map.createPane(name).style.zIndex = 210 + 10 * at;
    }
    const { x, y, zoom } = this.state;
    if (x === null || y === null || zoom === null) this.map.fitBounds(this.bounds, { animate: false });
    else this.map.setView([y, x], zoom, { animate: false });
    this.map.on("moveend", () => this.#moved());
    this.map.on("zoom", () => this.#drawScale());
    // Leaflet's own events of a canvas leave out what comes within 32 ms of another, the last one too
    for (const moved of ["pointermove", "pointerdown"]) {
      this.board.addEventListener(moved, (event) => this.#point(this.map.mouseEventToLatLng(event)));
    }
    this.board.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.#point(null));
    new ResizeObserver(() => this.map.invalidateSize({ animate: false })).observe(this.board);
  }

  #layers() {
    const { deepest, image } = this.raster;
    const tiles = { tileSize: 256, maxNativeZoom: deepest, maxZoom: deepest + CLOSER, bounds: this.bounds, noWrap: true, keepBuffer: 1 };
    this.levels = new TileSource(`${this.address}/levels`);
    const written = new TileSource(`${this.address}/masks`);
    const colours = this.raster.classes.map((of) => of.colour);
    if (!image.missing) {
      this.drawn.image = new TileLayer(`${this.address}/image/{z}/{x}/{y}`, { ...tiles, pane: "image" });
      this.#nearOnly(image);
    }
    this.drawn.probability = new LevelLayer(this.levels, this.#rampTables(), { ...tiles, pane: "probability" });
    this.drawn.threshold = new LevelLayer(this.levels, this.#thresholdTables(), { ...tiles, pane: "threshold" });
    this.drawn.mask = new LevelLayer(written, colours.map((colour) => maskTable(colour, 255)), { ...tiles, pane: "mask" });
    const named = Object.fromEntries(this.raster.classes.map((of) => [of.name, of.colour]));
    this.outlines = new Outlines(this.map, this.address, named, (object) => this.choose(object, false));
    this.outlines.told = ({ count, cells, fault }) => {
      this.inView.textContent = fault ?? (cells ? `${count.toLocaleString("en")} in view: too many to outline, look closer` : `${count} in view`);
    };
    for (const [key] of LAYERS) this.setOpacity(key, this.state.opacity[key]);
    if (this.raster.has_objects) {
      this.list.load(0).catch((error) => { this.inView.textContent = error.message; });
    }
  }

  /** The image is seen from as far as there are tiles of it; overviews that the viewer makes bring it further. */
  #nearOnly(image) {
    const { options } = this.drawn.image;
    // four levels of tiles at once are no more than a screen holds anyway
    if (image.coarsest <= 2) options.minNativeZoom = image.coarsest;
    else options.minZoom = image.coarsest;
    this.wait.hidden = !image.awaited;
    if (!image.awaited) return;
    setTimeout(async () => {
      const now = await askedJson(this.address);
      if (now.image.missing) return;
      if (!now.image.awaited) {
        delete options.minNativeZoom;
        options.minZoom = 0;
      }
      this.#nearOnly(now.image);
      if (!now.image.awaited && this.map.hasLayer(this.drawn.image)) this.drawn.image.remove().addTo(this.map);
    }, 1000);
  }

  #rampTables() {
    return this.raster.classes.map((_, n) => (n === this.state.chosen ? rampTable() : null));
  }

  #thresholdTables() {
    return this.raster.classes.map((of, n) => maskTable(of.colour, this.state.thresholds[n]));
  }

  // What can be set

  #controls() {
    const { raster } = this;
    this.list = new ObjectList(this.address, (object) => this.choose(object, true));
    const choice = this.rasters.length > 1 && element("select", {
      "aria-label": "Raster",
      onchange: (event) => { location.hash = fragment({ folder: this.folder, raster: event.target.value }); },
    }, this.rasters.map((of, n) => element("option", { value: n, selected: n === this.number }, of.name)));
    const [height, width] = raster.hw;
    const facts = [`${width.toLocaleString("en")} × ${height.toLocaleString("en")} pixels`, raster.gsd_m && `${lengthText(Number(raster.gsd_m.toPrecision(3)))} a pixel`, raster.crs === null ? "no CRS" : crsName(raster.crs)];
    return element("aside", { class: "side right", "aria-label": "Layers and objects" },
      element("section", {},
        choice || element("h2", {}, raster.name),
        element("p", { class: "muted small" }, facts.filter(Boolean).join(" · ")),
        raster.image.missing && element("p", { class: "warn small" }, `The image is not shown: ${raster.image.missing}`)),
      element("section", {}, element("h2", {}, "Layers"), this.#classChoice(), LAYERS.map(([key, name]) => this.#layerRow(key, name)), this.#legend()),
      element("section", {}, this.#thresholdRow()),
      element("section", {}, element("h2", {}, "Objects"),
        raster.has_objects ? [this.inView, this.details, this.list.element]
          : element("p", { class: "muted small" }, raster.crs ? "None were written; predict with --vectors gpkg." : "Without a CRS none are written.")));
  }

  #classChoice() {
    if (this.raster.classes.length < 2) return null;
    this.classes = element("select", { "aria-label": "Class", onchange: (event) => this.chooseClass(Number(event.target.value)) },
      this.raster.classes.map((of, n) => element("option", { value: n, selected: n === this.state.chosen }, of.name)));
    return element("label", { class: "field" }, element("span", { class: "label" }, "Class of probability and threshold"), this.classes);
  }

  #layerRow(key, name) {
    const absent = (key === "image" && this.raster.image.missing) || (key === "objects" && !this.raster.has_objects);
    const box = element("input", { type: "checkbox", id: `on-${key}`, disabled: absent, onchange: () => this.toggle(key) });
    const slider = element("input", {
      type: "range", min: 0, max: 100, step: 1, "aria-label": `Opacity of ${name.toLowerCase()}`, disabled: absent,
      oninput: () => this.setOpacity(key, Number(slider.value) / 100),
    });
    this.sliders[key] = { box, slider };
    return element("div", { class: "layer" }, box, element("label", { for: `on-${key}` }, name), slider);
  }

  #legend() {
    const swatches = this.raster.classes.map((of) => {
      const swatch = element("span", { class: "swatch" });
      swatch.style.background = of.colour;
      return element("span", { class: "named" }, swatch, " ", of.name);
    });
    const ramp = element("span", { class: "ramp" });
    ramp.style.background = `linear-gradient(to right, ${RAMP.join(", ")})`;
    return element("div", { class: "legend small muted" }, element("div", { class: "row" }, swatches),
      element("div", { class: "row nowrap" }, "0", ramp, "1"));
  }

  #thresholdRow() {
    this.thresholdText = element("output", { class: "value" });
    this.threshold = element("input", {
      type: "range", min: 1, max: 255, step: 1, id: "threshold", oninput: () => this.setThreshold(Number(this.threshold.value), true),
    });
    this.decided = element("button", { onclick: () => this.setThreshold(this.raster.classes[this.state.chosen].threshold, true) }, "As decided");
    this.decided.hidden = this.raster.classes.every((of) => of.threshold === null);
    const row = element("div", { class: "field" },
      element("div", { class: "row between" }, element("label", { for: "threshold" }, element("h2", {}, "Threshold")), this.thresholdText),
      this.threshold,
      element("p", { class: "muted small" }, "Of “above threshold”: all pixels at this level or higher, with small objects and holes as they are."),
      element("div", { class: "row" }, this.decided));
    this.#drawThreshold();
    return row;
  }

  setOpacity(key, opacity) {
    const layer = this.drawn[key];
    if (key === "objects") {
      this.outlines.show(opacity > 0 && this.raster.has_objects);
      this.map.getPane("objects").style.opacity = opacity;
    } else if (layer) {
      layer.setOpacity(opacity);
      if (opacity > 0 && !this.map.hasLayer(layer)) layer.addTo(this.map);
      if (opacity === 0) layer.remove();
    }
    const { box, slider } = this.sliders[key];
    box.checked = opacity > 0 && !box.disabled;
    slider.value = Math.round(opacity * 100);
    if (opacity > 0) this.state.last[key] = opacity;
    this.state.opacity[key] = opacity;
    this.#remember();
  }

  toggle(key) {
    const { box } = this.sliders[key];
    if (box.disabled) return;
    this.setOpacity(key, this.state.opacity[key] > 0 ? 0 : this.state.last[key] ?? (key === "image" ? 1 : 0.6));
  }

  setThreshold(level, shown) {
    this.state.thresholds[this.state.chosen] = Math.min(255, Math.max(1, level));
    if (shown && !this.state.opacity.threshold) {
      this.setOpacity("mask", 0); // it would hide where this one ends
      this.setOpacity("threshold", 0.6);
    }
    this.drawn.threshold.setTables(this.#thresholdTables());
    this.#drawThreshold();
    this.#remember();
  }

  #drawThreshold() {
    const level = this.state.thresholds[this.state.chosen];
    this.threshold.value = level;
    this.threshold.setAttribute("aria-valuetext", `level ${level} of 255`);
    this.thresholdText.textContent = `${(level / 255).toFixed(3)} (level ${level})`;
    this.decided.disabled = level === this.raster.classes[this.state.chosen]?.threshold;
  }

  chooseClass(number) {
    this.state.chosen = number;
    if (this.classes) this.classes.value = number;
    this.drawn.probability.setTables(this.#rampTables());
    this.#drawThreshold();
    this.#remember();
  }

  // What is under the pointer, and where

  #point(at) {
    this.pointed = at;
    const [height, width] = this.raster.hw;
    if (!at || at.lng < 0 || at.lat < 0 || at.lng >= width || at.lat >= height) {
      this.readout.textContent = "";
      return;
    }
    const [x, y] = [at.lng, at.lat];
    const parts = [`x ${Math.floor(x)}  y ${Math.floor(y)}`];
    const levels = this.#levelsAt(x, y);
    if (levels) parts.splice(1, 0, levels.map((level, n) => `${this.raster.classes[n].name} ${(level / 255).toFixed(2)}`).join("  "));
    if (this.raster.crs) parts.push(mapText(this.raster.crs, this.place.onMap(x, y), this.raster.transform[0] || this.raster.transform[1]));
    const degrees = this.place.inDegrees(x, y);
    if (degrees) parts.push(degreesText(degrees));
    this.readout.replaceChildren(...parts.map((part) => element("span", {}, part)));
  }

  /** The levels under the pointer; null while they are not here yet. */
  #levelsAt(x, y) {
    const z = Math.min(this.raster.deepest, Math.round(this.map.getZoom()));
    const [column, row] = [x, y].map((at) => at / 2 ** (this.raster.deepest - z));
    const tile = { z, x: Math.floor(column / TILE), y: Math.floor(row / TILE) };
    if (!this.levels.has(tile)) {
      const arrived = () => {
        this.levels.release(tile);
        if (this.pointed) this.#point(this.pointed);
      };
      this.levels.get(tile).then(arrived, () => this.levels.release(tile));
    }
    return this.levels.at(z, column, row);
  }

  #moved() {
    const { lng, lat } = this.map.getCenter();
    Object.assign(this.state, { x: lng, y: lat, zoom: this.map.getZoom() });
    this.#drawScale();
    this.#remember();
  }

  #drawScale() {
    const pixels = 2 ** (this.raster.deepest - this.map.getZoom());
    const unit = this.raster.gsd_m ?? 1;
    const length = roundLength(140 * pixels * unit);
    this.scale.style.width = `${length / (pixels * unit)}px`;
    this.scale.textContent = this.raster.gsd_m ? lengthText(length) : `${length} px`;
  }

  #north() {
    const turn = this.place.north();
    const arrow = element("div", { class: "north", title: "North", "aria-hidden": "true", hidden: turn === null }, element("span", {}, "↑"), "N");
    arrow.firstChild.style.transform = `rotate(${turn}deg)`;
    return arrow;
  }

  // Objects

  choose(object, goThere) {
    this.outlines.select(object);
    if (!goThere) this.list.select(object);
    if (goThere) {
      const [left, top, right, bottom] = object.box;
      const [w, h] = [Math.max(8, right - left), Math.max(8, bottom - top)];
      // without animation: while Leaflet zooms it takes no other view, and keys are faster
      const closest = { maxZoom: this.raster.deepest + 2, animate: false };
      this.map.fitBounds([[top - 0.75 * h, left - 0.75 * w], [bottom + 0.75 * h, right + 0.75 * w]], closest);
    }
    const [x, y] = object.at;
    const degrees = this.place.inDegrees(x, y);
    const facts = [
      ["Score", object.score.toFixed(4)],
      ["Area", areaText(object.area_m2)],
      ["Centroid", `x ${x.toFixed(1)}, y ${y.toFixed(1)}`],
      this.raster.crs && ["On the map", mapText(this.raster.crs, this.place.onMap(x, y), this.raster.transform[0] || this.raster.transform[1])],
      degrees && ["On the earth", degreesText(degrees)],
    ];
    this.details.replaceChildren(
      element("h3", {}, `${object.class_name} ${object.id}`),
      element("dl", { class: "facts" }, facts.filter(Boolean).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])));
  }

  // Keys, and the address

  #keys() {
    document.addEventListener("keydown", (event) => {
      if (typing(event) || document.querySelector("dialog[open]")) return;
      const step = event.shiftKey ? 10 : 1;
      const { chosen, thresholds } = this.state;
      const does = {
        "+": () => this.map.zoomIn(), "=": () => this.map.zoomIn(), "-": () => this.map.zoomOut(),
        0: () => this.map.fitBounds(this.bounds),
        n: () => this.list.step(1), p: () => this.list.step(-1),
        c: () => this.chooseClass((chosen + 1) % this.raster.classes.length),
      }[event.key];
      const threshold = { BracketLeft: -step, BracketRight: step }[event.code];
      const layer = LAYERS[Number(event.key) - 1];
      if (does && !(event.target === this.board && "+=-".includes(event.key))) does(); // the map knows these itself
      else if (threshold) this.setThreshold(thresholds[chosen] + threshold, true);
      else if (layer) this.toggle(layer[0]);
      else return;
      if (!"+=-".includes(event.key)) event.preventDefault();
    });
  }

  #remember() {
    const { opacity, thresholds, chosen, x, y, zoom } = this.state;
    if (x === null) return;
    const layers = LAYERS.map(([key]) => `${key}:${Math.round(opacity[key] * 100)}`).join(",");
    note({ folder: this.folder, raster: this.number, x: x.toFixed(1), y: y.toFixed(1), zoom, layers, thresholds: thresholds.join(","), class: chosen });
  }
}

function crsName(crs) {
  return crs.startsWith("EPSG:") ? crs : /^[A-Z]+\["([^"]+)"/.exec(crs)?.[1] ?? "a CRS of its own";
}

// The page of a predicted raster: its tiles on a map of its own pixels, another prediction of it beside the first, what
// lies on top, and what it means.

import { CRS, Map as LeafletMap, TileLayer, Transformation, extend } from "/page/vendor/leaflet/leaflet.js";
import { fragment, go, note, settle, told } from "./address.js";
import { Divider } from "./divider.js";
import { askedJson, element, stateElement } from "./elements.js";
import { askedFolders, drawHeader, folderNumber, typing } from "./header.js";
import { RasterLayers } from "./raster_layers.js";
import { RasterMarks } from "./raster_marks.js";
import { ObjectList } from "./raster_objects.js";
import { Place, areaText, degreesText, lengthText } from "./raster_place.js";
import { RasterSide } from "./raster_side.js";
import { TILE } from "./raster_tiles.js";
import { SideChoice } from "./side_choice.js";
import { ThresholdPanel } from "./threshold_panel.js";

const CLOSER = 5; // zooms beyond the raster's own pixels
const KEYS = [
  [["+", "−"], "closer, further away"],
  [["←", "↑", "↓", "→"], "move, when the raster has the focus"],
  [["0"], "all of the raster"],
  [["1", "…", "5"], "layers on and off, from top to bottom"],
  [["[", "]"], "threshold lower, higher; with Shift by 10"],
  [["n", "p"], "next object, the one before"],
  [["c"], "next class"],
  [["s"], "another prediction beside it, or not"],
  [[",", "."], "move the divider between the predictions"],
  [["x"], "threshold of the other prediction"],
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
  if (!rasters.length) {
    main.replaceChildren(stateElement("No rasters here", "This prediction holds none.", "segsmith predict BUNDLE RASTERS --to FOLDER"));
    return;
  }
  const asked = told();
  const number = Math.min(rasters.length - 1, Math.max(0, Number(asked.raster) || 0));
  const first = await askedPrediction(folders, folder, number);
  const other = first.raster.also_in.find((of) => String(of.folder) === asked.beside);
  const beside = other ? await askedPrediction(folders, other.folder, other.raster) : null;
  document.title = `${first.raster.name} - segsmith view`;
  new RasterPage({ folders, rasters, number, first, beside, asked });
}

/** A prediction of a raster: its folder's name, and what the viewer says of it. */
async function askedPrediction(folders, folder, number) {
  const address = `/api/folders/${folder}/rasters/${number}`;
  return { folder, address, name: folders[folder].name, raster: await askedJson(address) };
}

class RasterPage {
  /** `first` and `beside` are predictions of the same raster; `beside` may be null. */
  constructor({ folders, rasters, number, first, beside, asked }) {
    Object.assign(this, { folders, rasters, number, first, beside, predictions: [first, beside].filter(Boolean), raster: first.raster, address: first.address });
    this.chosen = Math.min(this.raster.classes.length - 1, Math.max(0, Number(asked.class) || 0));
    this.board = element("div", { class: "board", tabindex: 0, role: "application", "aria-label": `Raster ${this.raster.name}` });
    this.place = new Place(this.raster);
    this.marks = new RasterMarks(this.raster, this.place);
    this.wait = element("p", { class: "wait", role: "status", hidden: true }, "The image has no overviews: some are being made, to see it from afar.");
    this.divider = new Divider("predictions", (share) => (this.#clip(), note({ swipe: share.toFixed(3) })));
    this.divider.place(asked.swipe ? Number(asked.swipe) || 0 : 0.5);
    this.divider.element.hidden = !beside;
    const names = beside ? this.predictions.map((of, n) => element("span", { class: `side-name ${n ? "right" : "left"}` }, of.name)) : [];
    this.stage = element("div", { class: beside ? "stage pair" : "stage" }, this.board, this.marks.elements, this.wait, this.divider.element, names);
    const absent = { image: Boolean(this.raster.image.missing), objects: !this.predictions.some((of) => of.raster.has_objects) };
    this.layers = new RasterLayers(this.raster.classes, absent, (key, opacity) => this.#setOpacity(key, opacity));
    this.thresholds = this.predictions.map((of, n) => new ThresholdPanel(of.raster, n ? "threshold-beside" : "threshold", () => this.#thresholdMoved(n)));
    this.thresholds.forEach((panel, n) => panel.set(asked[n ? "beside_thresholds" : "thresholds"]));
    this.sideChoice = new SideChoice("Threshold of", this.predictions.map((of) => of.name), this.thresholds.map((of) => of.element));
    main.replaceChildren(element("div", { class: "sides" }, this.stage, this.#controls(asked)));
    this.#map(asked);
    this.#layers(asked);
    this.#keys();
    this.#moved();
  }

  #map(asked) {
    const { deepest, hw: [height, width] } = this.raster;
    const whole = 2 ** deepest;
    const crs = extend({}, CRS.Simple, { transformation: new Transformation(1 / whole, 0, 1 / whole, 0) });
    this.bounds = [[0, 0], [height, width]];
    this.map = new LeafletMap(this.board, {
      crs, deepest, minZoom: 0, maxZoom: deepest + CLOSER, attributionControl: false, zoomControl: false,
      maxBounds: [[-height, -width], [2 * height, 2 * width]], boxZoom: true, wheelPxPerZoomLevel: 90,
    });
    const [x, y, zoom] = ["x", "y", "zoom"].map((key) => (key in asked ? Number(asked[key]) : NaN));
    if ([x, y, zoom].every(Number.isFinite)) this.map.setView([y, x], zoom, { animate: false });
    else this.map.fitBounds(this.bounds, { animate: false });
    this.map.on("moveend", () => this.#moved());
    this.map.on("zoom", () => this.#drawScale());
    this.map.on("move zoom viewreset resize", () => this.#clip());
    // Leaflet's own events of a canvas leave out what comes within 32 ms of another, the last one too
    for (const moved of ["pointermove", "pointerdown"]) {
      this.board.addEventListener(moved, (event) => this.#point(this.map.mouseEventToContainerPoint(event)));
    }
    this.board.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.#point(null));
    new ResizeObserver(() => this.map.invalidateSize({ animate: false })).observe(this.board);
  }

  #layers(asked) {
    const { deepest, image, classes } = this.raster;
    const tiles = { tileSize: TILE, maxNativeZoom: deepest, maxZoom: deepest + CLOSER, bounds: this.bounds, noWrap: true, keepBuffer: 1 };
    const colourOf = Object.fromEntries(classes.map((of) => [of.name, of.colour]));
    this.map.createPane("image").style.zIndex = 210;
    if (!image.missing) {
      this.image = new TileLayer(`${this.address}/image/{z}/{x}/{y}`, { ...tiles, pane: "image" });
      this.#nearOnly(image);
    }
    this.sides = this.predictions.map(({ raster, address, name }, n) => new RasterSide({
      map: this.map, raster, address, tiles, colourOf, suffix: n ? "-beside" : "",
      chosen: (object) => this.choose(object, n),
      told: (found) => { this.inView[n].textContent = (this.beside ? `${name}: ` : "") + inViewText(found); },
    }));
    this.sides.forEach((side, n) => side.showThresholds(this.thresholds[n].levels));
    this.chooseClass(this.chosen);
    this.layers.set(asked.layers);
    this.#clip();
    if (this.raster.has_objects) this.list.load(0).catch((error) => { this.inView[0].textContent = error.message; });
  }

  /** The image is seen from as far as there are tiles of it; overviews that the viewer makes bring it further. */
  #nearOnly(image) {
    const { options } = this.image;
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
      if (!now.image.awaited && this.map.hasLayer(this.image)) this.image.remove().addTo(this.map);
    }, 1000);
  }

  // What can be set

  #controls(asked) {
    const { raster } = this;
    this.list = new ObjectList(this.address, (object) => this.choose(object, 0, true));
    this.details = element("div", { class: "details", "aria-live": "polite" });
    this.inView = this.predictions.map(() => element("p", { class: "muted small" }));
    const choice = this.rasters.length > 1 && element("select", {
      "aria-label": "Raster",
      onchange: (event) => { location.hash = fragment({ folder: this.first.folder, raster: event.target.value, beside: this.beside?.folder }); },
    }, this.rasters.map((of, n) => element("option", { value: n, selected: n === this.number }, of.name)));
    const [height, width] = raster.hw;
    const facts = [`${width.toLocaleString("en")} × ${height.toLocaleString("en")} pixels`, raster.gsd_m && `${lengthText(Number(raster.gsd_m.toPrecision(3)))} a pixel`, raster.crs === null ? "no CRS" : crsName(raster.crs)];
    const none = raster.crs ? "None were written; predict with --vectors gpkg." : "Without a CRS none are written.";
    return element("aside", { class: "side right", "aria-label": "Layers and objects" },
      element("section", {},
        choice || element("h2", {}, raster.name),
        element("p", { class: "muted small" }, facts.filter(Boolean).join(" · ")),
        raster.image.missing && element("p", { class: "warn small" }, `The image is not shown: ${raster.image.missing}`),
        this.#besideChoice(asked)),
      element("section", {}, element("h2", {}, "Layers"), this.#classChoice(), this.layers.element),
      element("section", {}, this.sideChoice.element, this.thresholds.map((of) => of.element)),
      element("section", {}, element("h2", {}, "Objects"),
        this.predictions.map((of, n) => (of.raster.has_objects ? this.inView[n] : element("p", { class: "muted small" }, this.beside ? `${of.name}: ${none}` : none))),
        this.details, raster.has_objects ? this.list.element : null));
  }

  #classChoice() {
    if (this.raster.classes.length < 2) return null;
    this.classes = element("select", { "aria-label": "Class", onchange: (event) => this.chooseClass(Number(event.target.value)) },
      this.raster.classes.map((of, n) => element("option", { value: n }, of.name)));
    return element("label", { class: "field" }, element("span", { class: "label" }, "Class of probability and threshold"), this.classes);
  }

  /** Which other prediction of this raster lies beside this one. */
  #besideChoice(asked) {
    const others = this.raster.also_in;
    const lacking = asked.beside === undefined || this.beside ? null : `${this.folders[asked.beside]?.name ?? `Folder ${asked.beside}`} holds no prediction of this raster.`;
    if (!others.length && !lacking) return null;
    const options = others.map(({ folder }) => element("option", { value: folder, selected: folder === this.beside?.folder }, this.folders[folder].name));
    return element("label", { class: "field" }, element("span", { class: "label" }, "Beside it"),
      element("select", { id: "beside", onchange: (event) => this.#layBeside(event.target.value) }, element("option", { value: "" }, "none"), options),
      lacking && element("span", { class: "warn small", role: "status" }, lacking));
  }

  /** Show the prediction of another folder beside this one; "" for none. */
  #layBeside(folder) {
    go({ beside: folder, beside_thresholds: null, swipe: null });
  }

  #setOpacity(key, opacity) {
    if (key === "image") {
      this.image?.setOpacity(opacity);
      if (opacity > 0) this.image?.addTo(this.map);
      else this.image?.remove();
    } else this.sides.forEach((side) => side.setOpacity(key, opacity));
    note({ layers: this.layers.said });
  }

  #thresholdMoved(number) {
    this.sides[number].showThresholds(this.thresholds[number].levels);
    note({ [number ? "beside_thresholds" : "thresholds"]: this.thresholds[number].levels.join(",") });
    if (this.layers.opacity.threshold) return;
    this.layers.put("mask", 0); // it would hide where this one ends
    this.layers.put("threshold", 0.6);
  }

  chooseClass(number) {
    this.chosen = number;
    const { name } = this.raster.classes[number] ?? {};
    if (this.classes) this.classes.value = number;
    this.sides.forEach((side, n) => {
      const same = side.raster.classes.findIndex((of) => of.name === name);
      side.showProbability(same);
      this.thresholds[n].choose(same);
    });
    note({ class: number });
  }

  // What is under the pointer, and where

  /** Show each side in its own part of the map alone. */
  #clip() {
    if (!this.beside || !this.sides) return;
    const size = this.map.getSize();
    const [from, to] = [[0, 0], [size.x, size.y]].map((corner) => this.map.containerPointToLayerPoint(corner));
    const middle = from.x + this.divider.share * size.x;
    this.sides[0].clip(from.x, from.y, middle, to.y);
    this.sides[1].clip(middle, from.y, to.x, to.y);
  }

  /** Tell of a point of the board, in px; null for none. */
  #point(point) {
    this.pointed = point;
    if (!point) {
      this.marks.point(null);
      return;
    }
    const { lng: x, lat: y } = this.map.containerPointToLatLng(point), [height, width] = this.raster.hw;
    const side = this.sides[Number(Boolean(this.beside) && point.x >= this.divider.share * this.map.getSize().x)];
    const within = x >= 0 && y >= 0 && x < width && y < height;
    const levels = within && side.levelsAt(x, y, this.map.getZoom(), () => this.pointed && this.#point(this.pointed));
    this.marks.point(x, y, side.raster.classes, levels);
  }

  #moved() {
    const { lng, lat } = this.map.getCenter();
    this.#drawScale();
    note({ folder: this.first.folder, raster: this.number, x: lng.toFixed(1), y: lat.toFixed(1), zoom: this.map.getZoom() });
  }

  #drawScale() {
    this.marks.drawScale(2 ** (this.raster.deepest - this.map.getZoom()));
  }

  // Objects

  /** Tell of an object of a side; `goThere` shows it, too. */
  choose(object, number, goThere = false) {
    this.sides.forEach((side, n) => side.outlines.select(n === number ? object : null));
    if (!goThere) this.list.select(number ? null : object);
    if (goThere) {
      const [left, top, right, bottom] = object.box;
      const [w, h] = [Math.max(8, right - left), Math.max(8, bottom - top)];
      // without animation: while Leaflet zooms it takes no other view, and keys are faster
      const closest = { maxZoom: this.raster.deepest + 2, animate: false };
      this.map.fitBounds([[top - 0.75 * h, left - 0.75 * w], [bottom + 0.75 * h, right + 0.75 * w]], closest);
    }
    const [x, y] = object.at, degrees = this.place.inDegrees(x, y), onMap = this.marks.onMap(x, y);
    const facts = [
      this.beside && ["Of", this.predictions[number].name],
      ["Score", object.score.toFixed(4)],
      ["Area", areaText(object.area_m2)],
      ["Centroid", `x ${x.toFixed(1)}, y ${y.toFixed(1)}`],
      onMap && ["On the map", onMap],
      degrees && ["On the earth", degreesText(degrees)],
    ];
    this.details.replaceChildren(
      element("h3", {}, `${object.class_name} ${object.id}`),
      element("dl", { class: "facts" }, facts.filter(Boolean).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])));
  }

  // Keys

  #keys() {
    document.addEventListener("keydown", (event) => {
      if (typing(event) || document.querySelector("dialog[open]")) return;
      const does = {
        "+": () => this.map.zoomIn(), "=": () => this.map.zoomIn(), "-": () => this.map.zoomOut(),
        0: () => this.map.fitBounds(this.bounds),
        n: () => this.list.step(1), p: () => this.list.step(-1),
        c: () => this.chooseClass((this.chosen + 1) % this.raster.classes.length),
        s: () => this.#layBeside(this.beside ? "" : this.raster.also_in[0]?.folder),
        x: () => this.sideChoice.other(),
        ",": () => this.beside && this.divider.move(-0.02), ".": () => this.beside && this.divider.move(0.02),
      }[event.key];
      const by = { BracketLeft: -1, BracketRight: 1 }[event.code];
      const layer = RasterLayers.keyOf(Number(event.key));
      if (does && !(event.target === this.board && "+=-".includes(event.key))) does(); // the map knows these itself
      else if (by) this.thresholds[this.sideChoice.chosen].step(event.shiftKey ? 10 * by : by);
      else if (layer) this.layers.toggle(layer);
      else return;
      if (!"+=-".includes(event.key)) event.preventDefault();
    });
  }
}

/** How many objects are in view, or what is wrong. */
function inViewText({ count, cells, fault }) {
  return fault ?? (cells ? `${count.toLocaleString("en")} in view: too many to outline, look closer` : `${count} in view`);
}

function crsName(crs) {
  return crs.startsWith("EPSG:") ? crs : /^[A-Z]+\["([^"]+)"/.exec(crs)?.[1] ?? "a CRS of its own";
}

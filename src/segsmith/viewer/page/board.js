// An image with masks over it on a canvas that zooms and pans, and what pointers do on it.

import { discRows } from "./painting.js";

const MOST_ZOOM = 64; // screen pixels for one of the image
const MASK = [204, 121, 167]; // of Okabe and Ito, apart from those of labels and predictions

export class Board {
  /** `acts` are what pointers ask for: `begin(at, erase)`, `go(from, at)`, `end()`, `cancel()`, `zoomed()`; places are
   * in pixels of the image. `tool` is "brush", "eraser", "fill" or "move". */
  constructor(canvas, acts) {
    Object.assign(this, { canvas, acts, tool: "move", size: 5, shown: { mask: true, label: true, prediction: true } });
    this.view = { scale: 1, x: 0, y: 0 }; // of the image's upper left corner, in CSS pixels
    this.outlines = {};
    this.pointers = new Map();
    this.hover = null;
    this.cursor = null; // the pixel a keyboard paints at
    this.penSeen = false;
    this.spaceHeld = false;
    new ResizeObserver(() => this.resized()).observe(canvas);
    for (const [kind, does] of Object.entries({
      pointerdown: this.down, pointermove: this.moved, pointerup: this.up, pointercancel: this.up, wheel: this.wheel,
      pointerleave: () => this.hovered(null), contextmenu: (event) => event.preventDefault(),
    })) canvas.addEventListener(kind, does.bind(this), { passive: false });
  }

  /** Show an image and a mask that may be painted on; `keep` leaves zoom and place as they are. */
  show(picture, painting, ignored, keep = false) {
    Object.assign(this, { picture, painting, outlines: {} });
    this.over = layerOf(painting.width, painting.height);
    this.open = ignored.some((pixel) => pixel) ? hatched(ignored, painting.width, painting.height) : null;
    this.pointers.clear();
    this.hover = this.cursor = null;
    this.maskChanged(0, 0, painting.width, painting.height);
    if (!keep) this.fit();
    this.draw();
  }

  /** Draw the outline of a mask in a colour, under a name of `shown`; null draws none. */
  outline(name, mask, colour) {
    this.outlines[name] = mask && { path: outlineOf(mask, this.painting.width, this.painting.height), colour };
    this.draw();
  }

  maskChanged(left, top, right, bottom) {
    const box = this.stale;
    this.stale = box
      ? [Math.min(box[0], left), Math.min(box[1], top), Math.max(box[2], right), Math.max(box[3], bottom)]
      : [left, top, right, bottom];
    this.draw();
  }

  /** The whole image, as large as there is room for. */
  fit() {
    if (!this.painting) return;
    const { clientWidth, clientHeight } = this.canvas;
    const { width, height } = this.painting;
    const room = Math.min((clientWidth - 16) / width, (clientHeight - 16) / height);
    const scale = Math.min(MOST_ZOOM, room >= 2 ? Math.floor(room) : Math.max(room, 0.01));
    this.view = { scale, x: (clientWidth - width * scale) / 2, y: (clientHeight - height * scale) / 2 };
    this.fitted = true;
    this.acts.zoomed();
    this.draw();
  }

  /** Zoom by a factor, around a place of the canvas; its middle if none is named. */
  zoom(factor, at = { x: this.canvas.clientWidth / 2, y: this.canvas.clientHeight / 2 }) {
    const { scale, x, y } = this.view;
    const next = Math.min(MOST_ZOOM, Math.max(0.05, scale * factor));
    this.view = { scale: next, x: at.x - ((at.x - x) * next) / scale, y: at.y - ((at.y - y) * next) / scale };
    this.fitted = false;
    this.acts.zoomed();
    this.draw();
  }

  pan(x, y) {
    this.view = { ...this.view, x: this.view.x + x, y: this.view.y + y };
    this.fitted = false;
    this.draw();
  }

  /** Bring the keyboard's cursor into sight. */
  follow() {
    const { scale, x, y } = this.view;
    const [left, top] = [x + this.cursor.x * scale, y + this.cursor.y * scale];
    const { clientWidth, clientHeight } = this.canvas;
    const beyond = (at, room) => (at < 24 ? 24 - at : at + scale > room - 24 ? room - 24 - at - scale : 0);
    const [right, down] = [beyond(left, clientWidth), beyond(top, clientHeight)];
    if (right || down) this.pan(right, down);
    else this.draw();
  }

  // pointers: one paints, or moves the image; two zoom

  down(event) {
    if (!this.painting) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    if (event.pointerType === "pen") this.penSeen = true;
    this.pointers.set(event.pointerId, this.placed(event));
    if (this.pointers.size === 2) {
      if (this.painted) this.acts.cancel();
      this.painted = null;
      return;
    }
    const palm = event.pointerType === "touch" && this.penSeen;
    if (this.pointers.size > 2 || palm || this.tool === "move" || this.spaceHeld || event.button === 1) return;
    const from = this.inImage(event);
    this.painted = { from, id: event.pointerId };
    this.acts.begin(from, event.button === 2 || event.button === 5); // 5: the other end of a pen
  }

  moved(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") this.hovered(this.inImage(event));
      return;
    }
    const at = this.placed(event);
    if (this.painted?.id === event.pointerId) {
      const between = event.getCoalescedEvents?.() ?? [];
      for (const each of between.length ? between : [event]) {
        const to = this.inImage(each);
        this.acts.go(this.painted.from, to);
        this.painted.from = to;
      }
      this.hover = this.painted.from;
    } else if (this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      const apart = (one) => Math.max(1, Math.hypot(one.x - other.x, one.y - other.y));
      this.pan((at.x - before.x) / 2, (at.y - before.y) / 2);
      this.zoom(apart(at) / apart(before), { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 });
    } else if (!this.painted) {
      this.pan(at.x - before.x, at.y - before.y);
    }
    this.pointers.set(event.pointerId, at);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    if (this.painted?.id !== event.pointerId) return;
    this.painted = null;
    if (event.type === "pointercancel") this.acts.cancel();
    else this.acts.end();
  }

  wheel(event) {
    if (!this.painting) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 24 : 1;
    this.zoom(2 ** ((-event.deltaY * lines) / (event.ctrlKey ? 120 : 400)), this.placed(event));
  }

  hovered(at) {
    this.hover = at;
    this.draw();
  }

  placed(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  inImage(event) {
    const at = this.placed(event);
    return { x: (at.x - this.view.x) / this.view.scale, y: (at.y - this.view.y) / this.view.scale };
  }

  // drawing, once a frame at the most

  resized() {
    const { clientWidth, clientHeight } = this.canvas;
    const dense = window.devicePixelRatio;
    this.canvas.width = Math.round(clientWidth * dense);
    this.canvas.height = Math.round(clientHeight * dense);
    if (this.fitted) this.fit();
    this.draw();
  }

  draw() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      if (this.painting) this.drawNow();
    });
  }

  drawNow() {
    const context = this.canvas.getContext("2d");
    const { scale, x, y } = this.view;
    const { width, height } = this.painting;
    const dense = window.devicePixelRatio;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(scale * dense, 0, 0, scale * dense, x * dense, y * dense);
    context.imageSmoothingEnabled = scale * dense < 1;
    context.drawImage(this.picture, 0, 0, width, height);
    context.imageSmoothingEnabled = false;
    if (this.open) context.drawImage(this.open, 0, 0);
    this.refresh();
    if (this.shown.mask) context.drawImage(this.over, 0, 0);
    for (const name of ["label", "prediction"]) {
      const outline = this.shown[name] && this.outlines[name];
      if (outline) line(context, outline.path, outline.colour, 1.5 / scale);
    }
    this.drawBrush(context, scale);
  }

  refresh() {
    if (!this.stale) return;
    const [left, top, right, bottom] = this.stale;
    this.stale = null;
    const pixels = new ImageData(right - left, bottom - top);
    const words = new Uint32Array(pixels.data.buffer);
    const colour = new Uint32Array(new Uint8Array([...MASK, 130]).buffer)[0];
    for (let row = top, place = 0; row < bottom; row += 1) {
      const begin = row * this.painting.width;
      for (let column = left; column < right; column += 1, place += 1) {
        if (this.painting.mask[begin + column]) words[place] = colour;
      }
    }
    this.over.getContext("2d").putImageData(pixels, left, top);
  }

  /** The pixels that would be painted, by the pointer or by the keyboard's cursor. */
  drawBrush(context, scale) {
    const at = this.cursor ? { x: this.cursor.x + 0.5, y: this.cursor.y + 0.5 } : this.hover;
    if (!at || (this.tool === "move" && !this.cursor)) return;
    const path = new Path2D();
    const rows = discRows(at.x, at.y, this.tool === "brush" || this.tool === "eraser" ? this.size : 1);
    rows.forEach(([row, left, right], number) => {
      path.rect(left, row, 0, 1);
      path.rect(right, row, 0, 1);
      for (const [beside, edge] of [[rows[number - 1], row], [rows[number + 1], row + 1]]) {
        const [from, to] = beside ? beside.slice(1) : [right, right];
        path.moveTo(left, edge);
        path.lineTo(Math.min(from, right), edge);
        path.moveTo(Math.max(to, left), edge);
        path.lineTo(right, edge);
      }
    });
    line(context, path, "#fff", 1.5 / scale);
    if (!this.cursor) return;
    const cross = new Path2D();
    for (const [x, y] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      cross.moveTo(at.x + x * (this.size / 2 + 3 / scale), at.y + y * (this.size / 2 + 3 / scale));
      cross.lineTo(at.x + x * (this.size / 2 + 15 / scale), at.y + y * (this.size / 2 + 15 / scale));
    }
    line(context, cross, "#fff", 2 / scale);
  }
}

/** A line that is seen on light and on dark. */
function line(context, path, colour, width) {
  context.lineWidth = width * 2;
  context.strokeStyle = "rgb(0 0 0 / 55%)";
  context.stroke(path);
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.stroke(path);
}

function layerOf(width, height) {
  const layer = document.createElement("canvas");
  layer.width = width;
  layer.height = height;
  return layer;
}

function hatched(mask, width, height) {
  const layer = layerOf(width, height);
  const pixels = new ImageData(width, height);
  for (let place = 0; place < mask.length; place += 1) {
    if (mask[place]) pixels.data.set([90, 90, 90, (place % width + Math.floor(place / width)) % 6 < 2 ? 200 : 110], place * 4);
  }
  layer.getContext("2d").putImageData(pixels, 0, 0);
  return layer;
}

/** The edges between a mask's pixels and others, as a path on the grid of the image. */
function outlineOf(mask, width, height) {
  const path = new Path2D();
  const at = (row, column) => (row < 0 || column < 0 || row >= height || column >= width ? 0 : mask[row * width + column]);
  const edges = (lines, length, differs, draw) => {
    for (let one = 0; one <= lines; one += 1) {
      let begin = -1;
      for (let place = 0; place <= length; place += 1) {
        const here = place < length && differs(one, place);
        if (here && begin < 0) begin = place;
        else if (!here && begin >= 0) {
          draw(one, begin, place);
          begin = -1;
        }
      }
    }
  };
  edges(height, width, (row, column) => at(row - 1, column) !== at(row, column), (row, from, to) => {
    path.moveTo(from, row);
    path.lineTo(to, row);
  });
  edges(width, height, (column, row) => at(row, column - 1) !== at(row, column), (column, from, to) => {
    path.moveTo(column, from);
    path.lineTo(column, to);
  });
  return path;
}

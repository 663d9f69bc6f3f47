// An image with a mask that is painted over it, and outlines of others.

import { painted } from "./layers.js";
import { outline } from "./masks.js";
import { discRows } from "./painting.js";
import { ZoomCanvas } from "./zoom_canvas.js";

const MASK = [204, 121, 167]; // of Okabe and Ito, apart from those of labels and predictions
const OUTLINES = { label: ["rgb(240 228 66)", 2.75], prediction: ["rgb(86 180 233)", 1.25] }; // the wider one below
const [RIGHT, PEN_END] = [2, 5]; // buttons that erase

export class Board {
  /** `acts` are what pointers ask for, at spots of the image: begin(spot, erase), go(from, to), end(), cancel(); and
   * zoomed(scale), told the px of a pixel. `tool` is "brush", "eraser", "fill" or "move"; `size` the diameter of the brush; `cursor` the pixel a keyboard paints at;
   * `busy` lets nothing be painted. */
  constructor(acts) {
    Object.assign(this, { acts, tool: "move", size: 5, cursor: null, hover: null, panning: false, painting: null, busy: false });
    this.shown = { mask: true, label: true, prediction: true };
    this.canvas = new ZoomCanvas({
      label: "The image and its mask",
      paint: (context, scale) => this.painting && this.#paint(context, scale),
      moved: () => {},
      pointed: () => {},
      press: (event, spot) => this.#press(event, spot),
    });
    this.element = this.canvas.element;
    this.element.addEventListener("pointermove", (event) => event.pointerType === "touch" || this.#hovered(this.canvas.spot(event)));
    this.element.addEventListener("pointerleave", () => this.#hovered(null));
    this.element.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  /** Show an image and the mask that is painted over it; `ignored` is what its labels leave open. */
  show(picture, painting, ignored) {
    const { width, height } = painting;
    Object.assign(this, { picture, painting, outlines: {}, hover: null });
    this.over = new OffscreenCanvas(width, height);
    this.open = ignored.includes(1) ? painted(width, height, (at) => [90, 90, 90, ignored[at] && (((at % width) + Math.floor(at / width)) % 6 < 2 ? 200 : 110)]) : null;
    this.stale = [0, 0, width, height];
    this.canvas.picture(width, height);
  }

  /** Draw the outlines of a label and a prediction; null has none. */
  outline(masks) {
    for (const [name, mask] of Object.entries(masks)) this.outlines[name] = mask && outline(mask, this.painting.width);
    this.canvas.draw();
  }

  /** What of the mask was painted over. */
  changed(left, top, right, bottom) {
    const box = this.stale;
    this.stale = box
      ? [Math.min(box[0], left), Math.min(box[1], top), Math.max(box[2], right), Math.max(box[3], bottom)]
      : [left, top, right, bottom];
    this.canvas.draw();
  }

  /** The pixel in the middle of what is seen. */
  get middle() {
    const { x, y } = this.canvas.shown, within = (at, size) => Math.min(size - 1, Math.max(0, Math.floor(at)));
    return { x: within(x, this.painting.width), y: within(y, this.painting.height) };
  }

  #press(event, spot) {
    if (event.pointerType === "pen") this.penSeen = true;
    const palm = event.pointerType === "touch" && this.penSeen; // who has a pen paints with it, and moves with fingers
    if (!this.painting || this.busy || this.tool === "move" || this.panning || palm || event.button === 1) return null;
    const { begin, go, end, cancel } = this.acts;
    let from = spot;
    begin(spot, event.button === RIGHT || event.button === PEN_END);
    return { go: (to) => (go(from, to), (from = to)), end, cancel };
  }

  #hovered(spot) {
    this.hover = spot;
    this.canvas.draw();
  }

  #paint(context, scale) {
    const { width, height } = this.painting;
    this.acts.zoomed(scale);
    context.imageSmoothingEnabled = scale < 1;
    context.drawImage(this.picture, 0, 0, width, height);
    context.imageSmoothingEnabled = false;
    if (this.open) context.drawImage(this.open, 0, 0);
    if (this.stale) this.#refresh(...this.stale);
    this.stale = null;
    if (this.shown.mask) context.drawImage(this.over, 0, 0);
    for (const [name, [colour, px]] of Object.entries(OUTLINES)) {
      if (this.shown[name] && this.outlines[name]) line(context, this.outlines[name], colour, px, scale);
    }
    this.#paintBrush(context, scale);
  }

  #refresh(left, top, right, bottom) {
    const pixels = new ImageData(right - left, bottom - top), words = new Uint32Array(pixels.data.buffer);
    const [colour] = new Uint32Array(new Uint8Array([...MASK, 130]).buffer);
    for (let row = top, place = 0; row < bottom; row += 1) {
      for (let column = left; column < right; column += 1, place += 1) {
        if (this.painting.mask[row * this.painting.width + column]) words[place] = colour;
      }
    }
    this.over.getContext("2d").putImageData(pixels, left, top);
  }

  /** The outline of the pixels that would be painted, by the pointer or by the keyboard's cursor. */
  #paintBrush(context, scale) {
    const at = this.cursor ? { x: this.cursor.x + 0.5, y: this.cursor.y + 0.5 } : this.hover;
    if (!at || (this.tool === "move" && !this.cursor)) return;
    const path = new Path2D(), rows = discRows(at.x, at.y, this.tool === "fill" ? 1 : this.size);
    rows.forEach(([row, left, right], number) => {
      for (const side of [left, right]) path.moveTo(side, row), path.lineTo(side, row + 1);
      for (const [beside, edge] of [[rows[number - 1], row], [rows[number + 1], row + 1]]) {
        const [from, to] = beside ? beside.slice(1) : [right, right];
        path.moveTo(left, edge), path.lineTo(Math.min(from, right), edge);
        path.moveTo(Math.max(to, left), edge), path.lineTo(right, edge);
      }
    });
    const near = this.size / 2 + 3 / scale, far = near + 12 / scale;
    for (const [x, y] of this.cursor ? [[1, 0], [-1, 0], [0, 1], [0, -1]] : []) {
      path.moveTo(at.x + x * near, at.y + y * near), path.lineTo(at.x + x * far, at.y + y * far);
    }
    line(context, path, "#fff", 1.5, scale);
  }
}

/** A line of so many px that is seen on light and on dark. */
function line(context, path, colour, px, scale) {
  context.lineCap = "square";
  for (const [stroke, width] of [["rgb(0 0 0 / 55%)", px + 1.5], [colour, px]]) {
    context.strokeStyle = stroke;
    context.lineWidth = width / scale;
    context.stroke(path);
  }
}

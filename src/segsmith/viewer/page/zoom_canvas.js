// A canvas to zoom and pan in, by wheel, drag, pinch and keys, over a picture of some size.

import { element } from "./elements.js";

const MOST = 64, MARGIN = 12;

export class ZoomCanvas {
  /** `paint(context, scale, px)` paints with a pixel of the picture as the unit, `px` says where on the canvas a column
   * lies; `moved(view)` is told of a view {x, y, scale} that was chosen, null for the whole picture; `pointed(x, y)` of
   * the pixel under the pointer, or (null, null). */
  constructor({ paint, moved, pointed, label }) {
    Object.assign(this, { paint, moved, pointed });
    this.size = { width: 1, height: 1 };
    this.view = null;
    this.pointers = new Map();
    this.element = element("canvas", { class: "zoom", tabindex: "0", role: "img", "aria-label": label });
    this.context = this.element.getContext("2d");
    const listen = (name, does) => this.element.addEventListener(name, does, { passive: false });
    listen("wheel", (event) => this.#wheel(event));
    listen("pointerdown", (event) => this.#down(event));
    listen("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) listen(name, (event) => this.pointers.delete(event.pointerId));
    listen("pointerleave", () => this.pointed(null, null));
    listen("dblclick", (event) => (this.view ? this.show(null) : this.zoom(4, this.#at(event))));
    new ResizeObserver(() => this.#resize()).observe(this.element);
  }

  /** Another picture; the view stays if it is of the same size. */
  picture(width, height) {
    if (width !== this.size.width || height !== this.size.height) this.view = null;
    this.size = { width, height };
    this.draw();
  }

  /** A view, null for the whole picture. */
  show(view, tell = true) {
    this.view = view;
    this.draw();
    if (tell) this.moved(view);
  }

  /** Zoom by a factor about a point of the canvas, its middle by default. */
  zoom(factor, [px, py] = [this.element.clientWidth / 2, this.element.clientHeight / 2]) {
    const now = this.#shown(), least = Math.min(1, this.#fit().scale);
    const scale = Math.min(MOST, Math.max(least, now.scale * factor));
    const { clientWidth, clientHeight } = this.element;
    const x = now.x + (px - clientWidth / 2) * (1 / now.scale - 1 / scale);
    const y = now.y + (py - clientHeight / 2) * (1 / now.scale - 1 / scale);
    this.show(scale <= this.#fit().scale && factor < 1 ? null : this.#inside({ x, y, scale }));
  }

  /** Pan by so many px of the canvas. */
  pan(dx, dy) {
    const now = this.#shown();
    this.show(this.#inside({ ...now, x: now.x - dx / now.scale, y: now.y - dy / now.scale }));
  }

  /** Draw anew, once for however many calls until the next frame. */
  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.#paint();
    });
  }

  #paint() {
    const { context, element: canvas } = this, ratio = devicePixelRatio;
    const { x, y, scale } = this.#shown();
    const left = canvas.clientWidth / 2 - x * scale, top = canvas.clientHeight / 2 - y * scale;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * left, ratio * top);
    this.paint(context, scale, (px) => (px - left) / scale);
  }

  #fit() {
    const { clientWidth, clientHeight } = this.element, { width, height } = this.size;
    const scale = Math.min((clientWidth - 2 * MARGIN) / width, (clientHeight - 2 * MARGIN) / height, MOST);
    return { x: width / 2, y: height / 2, scale: Math.max(scale, 0.001) };
  }

  #shown() {
    return this.view ?? this.#fit();
  }

  #inside({ x, y, scale }) {
    return { x: Math.min(this.size.width, Math.max(0, x)), y: Math.min(this.size.height, Math.max(0, y)), scale };
  }

  #resize() {
    const { clientWidth, clientHeight } = this.element;
    this.element.width = Math.round(clientWidth * devicePixelRatio);
    this.element.height = Math.round(clientHeight * devicePixelRatio);
    this.#paint();
  }

  #at(event) {
    const box = this.element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), this.#at(event));
  }

  #down(event) {
    if (event.button > 1) return;
    this.element.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.#at(event));
  }

  #move(event) {
    const at = this.#at(event), before = this.pointers.get(event.pointerId);
    const { x, y, scale } = this.#shown();
    const column = Math.floor(x + (at[0] - this.element.clientWidth / 2) / scale);
    const row = Math.floor(y + (at[1] - this.element.clientHeight / 2) / scale);
    const within = column >= 0 && row >= 0 && column < this.size.width && row < this.size.height;
    this.pointed(...(within ? [column, row] : [null, null]));
    if (!before) return;
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, at);
    if (other) {
      const distance = (from) => Math.hypot(from[0] - other[0], from[1] - other[1]);
      this.zoom(distance(at) / Math.max(1, distance(before)), [(at[0] + other[0]) / 2, (at[1] + other[1]) / 2]);
      this.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
    } else {
      this.pan(at[0] - before[0], at[1] - before[1]);
    }
  }
}

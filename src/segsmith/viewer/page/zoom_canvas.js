// A canvas to zoom and pan in, by wheel, drag, pinch and keys, over a picture of some size.

import { element } from "./elements.js";

const MOST = 64, MARGIN = 12;

export class ZoomCanvas {
  /** `paint(context, scale, px)` paints with a pixel of the picture as the unit, `px` says where on the canvas a column
   * lies; `moved(view)` is told of a view {x, y, scale} that was chosen, null for the whole picture; `pointed(x, y)` of
   * the pixel under the pointer, or (null, null). `press(event, spot)` may take a pointer that goes down for something
   * else than to pan: it gives {go(spot), end(), cancel()}, or null. A second finger cancels that, and zooms. */
  constructor({ paint, moved, pointed, label, press = () => null }) {
    Object.assign(this, { paint, moved, pointed, press });
    this.size = { width: 1, height: 1 };
    this.view = null;
    this.pointers = new Map();
    this.element = element("canvas", { class: "zoom", tabindex: "0", role: "img", "aria-label": label });
    this.context = this.element.getContext("2d");
    const listen = (name, does) => this.element.addEventListener(name, does, { passive: false });
    listen("wheel", (event) => this.#wheel(event));
    listen("pointerdown", (event) => this.#down(event));
    listen("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) listen(name, (event) => this.#up(event));
    listen("pointerleave", () => this.pointed(null, null));
    listen("dblclick", (event) => !this.pressed && (this.view ? this.show(null) : this.zoom(4, this.#at(event))));
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
    const now = this.shown, least = Math.min(1, this.#fit().scale);
    const scale = Math.min(MOST, Math.max(least, now.scale * factor));
    const { clientWidth, clientHeight } = this.element;
    const x = now.x + (px - clientWidth / 2) * (1 / now.scale - 1 / scale);
    const y = now.y + (py - clientHeight / 2) * (1 / now.scale - 1 / scale);
    this.show(scale <= this.#fit().scale && factor < 1 ? null : this.#inside({ x, y, scale }));
  }

  /** Pan by so many px of the canvas. */
  pan(dx, dy) {
    const now = this.shown;
    this.show(this.#inside({ ...now, x: now.x - dx / now.scale, y: now.y - dy / now.scale }));
  }

  /** Where an event is, in pixels of the picture. */
  spot(event) {
    const { x, y, scale } = this.shown, [px, py] = this.#at(event);
    return { x: x + (px - this.element.clientWidth / 2) / scale, y: y + (py - this.element.clientHeight / 2) / scale };
  }

  /** Pan as far as it takes to see a spot of the picture. */
  reveal(spot) {
    const { x, y, scale } = this.shown, { clientWidth, clientHeight } = this.element;
    const beyond = (far, room) => Math.sign(far) * Math.max(0, Math.abs(far) - Math.max(0, room / 2 - 2 * MARGIN));
    const right = beyond((spot.x - x) * scale, clientWidth), down = beyond((spot.y - y) * scale, clientHeight);
    if (right || down) this.pan(-right, -down);
    else this.draw();
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
    const { x, y, scale } = this.shown;
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

  /** The view, that of the whole picture included: the spot in the middle, and the px of a pixel. */
  get shown() {
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
    const act = this.pointers.size ? null : this.press(event, this.spot(event));
    if (!act && event.button > 1) return;
    this.element.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.#at(event));
    this.act?.cancel();
    this.act = act;
    this.pressed = Boolean(act);
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    this.act?.[event.type === "pointerup" ? "end" : "cancel"]();
    this.act = null;
  }

  #move(event) {
    const at = this.#at(event), before = this.pointers.get(event.pointerId), spot = this.spot(event);
    const [column, row] = [Math.floor(spot.x), Math.floor(spot.y)];
    const within = column >= 0 && row >= 0 && column < this.size.width && row < this.size.height;
    this.pointed(...(within ? [column, row] : [null, null]));
    if (this.act) {
      const between = event.getCoalescedEvents?.() ?? [];
      for (const each of between.length ? between : [event]) this.act.go(this.spot(each));
      return;
    }
    if (!before) return;
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, at);
    if (other) {
      const distance = (from) => Math.hypot(from[0] - other[0], from[1] - other[1]);
      // in this order what is under each finger stays under it
      this.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
      this.zoom(distance(at) / Math.max(1, distance(before)), [(at[0] + other[0]) / 2, (at[1] + other[1]) / 2]);
    } else {
      this.pan(at[0] - before[0], at[1] - before[1]);
    }
  }
}

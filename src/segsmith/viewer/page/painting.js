// A mask that is painted on: brush, fill, start anew, undo, redo. Knows pixels alone, nothing of a screen.

const KEPT_BYTES = 2 ** 26; // of undone and undoable edits together

export class Painting {
  /** `mask` as in runs.js; `changed(left, top, right, bottom)` is told what to draw anew. */
  constructor(mask, height, width, changed) {
    Object.assign(this, { mask, height, width, changed });
    this.done = [];
    this.undone = [];
    this.before = null;
  }

  /** Begin an edit that is undone as one. */
  begin() {
    this.before = this.mask.slice();
    this.touched = null;
  }

  /** End it; one that changed nothing is none. */
  end() {
    if (this.before && this.touched) {
      const was = this.cut(this.before, this.touched);
      const is = this.cut(this.mask, this.touched);
      if (was.some((value, place) => value !== is[place])) {
        this.done.push({ box: this.touched, was, is });
        this.undone = [];
        while (this.done.length > 1 && this.done.reduce((sum, edit) => sum + 2 * edit.was.length, 0) > KEPT_BYTES) {
          this.done.shift();
        }
      }
    }
    this.before = null;
  }

  /** Leave the edit that was begun as if it had not been. */
  cancel() {
    if (this.before && this.touched) this.paste(this.cut(this.before, this.touched), this.touched);
    this.before = null;
  }

  undo() {
    const edit = this.done.pop();
    if (!edit) return false;
    this.paste(edit.was, edit.box);
    this.undone.push(edit);
    return true;
  }

  redo() {
    const edit = this.undone.pop();
    if (!edit) return false;
    this.paste(edit.is, edit.box);
    this.done.push(edit);
    return true;
  }

  /** Set the pixels whose centres lie under a disc of `size` pixels that is drawn from one place to another. */
  stroke(from, to, size, value) {
    const steps = Math.max(1, Math.ceil(Math.max(Math.abs(to.x - from.x), Math.abs(to.y - from.y))));
    for (let step = 0; step <= steps; step += 1) {
      const x = from.x + ((to.x - from.x) * step) / steps;
      const y = from.y + ((to.y - from.y) * step) / steps;
      for (const [row, left, right] of discRows(x, y, size)) {
        if (row < 0 || row >= this.height || right <= 0 || left >= this.width) continue;
        const [begin, end] = [Math.max(0, left), Math.min(this.width, right)];
        this.mask.fill(value, row * this.width + begin, row * this.width + end);
        this.touch(begin, row, end, row + 1);
      }
    }
  }

  /** Turn over what is connected with a pixel by its sides and like it: a region is filled, an object is removed. */
  fill(x, y) {
    const { mask, width, height } = this;
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    const was = mask[y * width + x];
    const open = [y * width + x];
    while (open.length) {
      const place = open.pop();
      if (mask[place] !== was) continue;
      const row = Math.floor(place / width) * width;
      let [left, right] = [place, place + 1];
      while (left > row && mask[left - 1] === was) left -= 1;
      while (right < row + width && mask[right] === was) right += 1;
      mask.fill(1 - was, left, right);
      this.touch(left - row, row / width, right - row, row / width + 1);
      for (const beside of [-width, width]) {
        for (let next = left + beside; next < right + beside; next += 1) {
          if (mask[next] === was && (next === left + beside || mask[next - 1] !== was)) open.push(next);
        }
      }
    }
  }

  /** Start from another mask. */
  replace(mask) {
    this.begin();
    this.mask.set(mask);
    this.touch(0, 0, this.width, this.height);
    this.end();
  }

  touch(left, top, right, bottom) {
    const box = this.touched;
    this.touched = box
      ? [Math.min(box[0], left), Math.min(box[1], top), Math.max(box[2], right), Math.max(box[3], bottom)]
      : [left, top, right, bottom];
    this.changed(left, top, right, bottom);
  }

  cut(mask, [left, top, right, bottom]) {
    const made = new Uint8Array((right - left) * (bottom - top));
    for (let row = top; row < bottom; row += 1) {
      made.set(mask.subarray(row * this.width + left, row * this.width + right), (row - top) * (right - left));
    }
    return made;
  }

  paste(pixels, [left, top, right, bottom]) {
    for (let row = top; row < bottom; row += 1) {
      const begin = (row - top) * (right - left);
      this.mask.set(pixels.subarray(begin, begin + right - left), row * this.width + left);
    }
    this.changed(left, top, right, bottom);
  }
}

/** The pixels under a disc as [row, first column, column behind the last]. A disc of an odd size lies on the middle of
 * a pixel, of an even size on a corner of four. */
export function discRows(x, y, size) {
  const middle = (at) => (size % 2 ? Math.floor(at) + 0.5 : Math.round(at));
  const [centreX, centreY, radius] = [middle(x), middle(y), size / 2];
  const rows = [];
  for (let row = Math.floor(centreY - radius); row < centreY + radius; row += 1) {
    const down = row + 0.5 - centreY;
    const half = Math.sqrt(Math.max(0, radius * radius - down * down));
    const left = Math.ceil(centreX - half - 0.5);
    const right = Math.floor(centreX + half - 0.5) + 1;
    if (Math.abs(down) <= radius && right > left) rows.push([row, left, right]);
  }
  return rows;
}

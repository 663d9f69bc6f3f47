// Levels -> mask, as masks.decided of the tool makes it; holes are filled in the levels already.

/** The mask of a plane of levels: nothing where the gate value is below the gate of the cell; else what reaches its
 * level, without objects of fewer than `smallest_area` pixels. A byte a pixel, 0 or 1. */
export function decided(plane, width, cell, gateValue) {
  const mask = new Uint8Array(plane.length);
  if (gateValue < cell.gate) return mask;
  for (let at = 0; at < plane.length; at += 1) mask[at] = plane[at] >= cell.level ? 1 : 0;
  if (cell.smallest_area > 1) withoutSmall(mask, width, cell.smallest_area);
  return mask;
}

/** Take out of a mask the objects of fewer pixels than `least`; pixels that touch at a corner are of one object. */
function withoutSmall(mask, width, least) {
  const height = mask.length / width;
  const seen = new Uint8Array(mask.length);
  const object = new Int32Array(mask.length); // the pixels of one object, as they are found
  for (let first = 0; first < mask.length; first += 1) {
    if (!mask[first] || seen[first]) continue;
    let count = 1;
    object[0] = first;
    seen[first] = 1;
    for (let next = 0; next < count; next += 1) {
      const x = object[next] % width, y = (object[next] - x) / width;
      for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row += 1) {
        for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column += 1) {
          const at = row * width + column;
          if (mask[at] && !seen[at]) {
            seen[at] = 1;
            object[count] = at;
            count += 1;
          }
        }
      }
    }
    if (count < least) for (let at = 0; at < count; at += 1) mask[object[at]] = 0;
  }
}

/** The lines between what a mask holds and what it does not, along the edges of pixels. */
export function outline(mask, width) {
  const height = mask.length / width, path = new Path2D();
  const of = (y, x) => (y >= 0 && y < height && x >= 0 && x < width ? mask[y * width + x] : 0);
  for (let y = 0; y <= height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const start = x;
      while (x < width && of(y - 1, x) !== of(y, x)) x += 1;
      if (x > start) path.moveTo(start, y), path.lineTo(x, y);
    }
  }
  for (let x = 0; x <= width; x += 1) {
    for (let y = 0; y < height; y += 1) {
      const start = y;
      while (y < height && of(y, x - 1) !== of(y, x)) y += 1;
      if (y > start) path.moveTo(x, start), path.lineTo(x, y);
    }
  }
  return path;
}

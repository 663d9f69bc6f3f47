// Pixels of a raster <-> where they lie on the map and on the earth, and how a person reads that.

export class Place {
  /** `raster` is what the viewer says of it: its transform takes pixel corners (x right, y down) to the CRS, `place` is
   * longitude and latitude at evenly spaced points from corner to corner, or null. */
  constructor(raster) {
    [this.height, this.width] = raster.hw;
    this.transform = raster.transform;
    this.crs = raster.crs;
    this.gsd = raster.gsd_m;
    this.grid = raster.place;
  }

  /** Coordinates in the raster's CRS. */
  onMap(x, y) {
    const [a, b, c, d, e, f] = this.transform;
    return [a * x + b * y + c, d * x + e * y + f];
  }

  /** Longitude and latitude in degrees, bilinear between the points of the grid; null without a CRS. */
  inDegrees(x, y) {
    if (!this.grid) return null;
    const steps = this.grid.length - 1;
    const [row, down] = split((y / this.height) * steps, steps);
    const [column, right] = split((x / this.width) * steps, steps);
    const [[a, b], [c, d]] = [0, 1].map((n) => [0, 1].map((m) => this.grid[row + n][column + m]));
    const mixed = [0, 1].map((axis) =>
      (1 - down) * ((1 - right) * a[axis] + right * b[axis]) + down * ((1 - right) * c[axis] + right * d[axis]));
    return [((mixed[0] + 540) % 360) - 180, mixed[1]];
  }

  /** How far a pixel lies to the north, as a turn in degrees, clockwise from up; null without a CRS. */
  north() {
    if (!this.grid) return null;
    const [x, y, step] = [this.width / 2, this.height / 2, Math.max(this.width, this.height) / 8];
    const [here, right, down] = [this.inDegrees(x, y), this.inDegrees(x + step, y), this.inDegrees(x, y + step)];
    const squeezed = Math.cos((here[1] * Math.PI) / 180);
    const [rx, ry, dx, dy] = [(right[0] - here[0]) * squeezed, right[1] - here[1], (down[0] - here[0]) * squeezed, down[1] - here[1]];
    const determinant = rx * dy - dx * ry; // the pixel step that leads north solves r px + d py = (0, 1)
    if (!determinant) return null;
    return (Math.atan2(-dx / determinant, -rx / determinant) * 180) / Math.PI;
  }
}

function split(at, steps) {
  const whole = Math.min(steps - 1, Math.max(0, Math.floor(at)));
  return [whole, at - whole];
}

/** 52.37121° N, 4.90342° E */
export function degreesText([longitude, latitude]) {
  const one = (value, names) => `${Math.abs(value).toFixed(6)}° ${names[value < 0 ? 1 : 0]}`;
  return `${one(latitude, "NS")}, ${one(longitude, "EW")}`;
}

/** Coordinates of a CRS: to the centimetre, or in degrees to as much. */
export function mapText(crs, [x, y], step) {
  const digits = Math.max(0, Math.min(9, Math.ceil(-Math.log10(Math.abs(step) || 1)) + 1));
  return `${x.toFixed(digits)}, ${y.toFixed(digits)}`;
}

/** The longest of 1, 2 or 5 times a power of ten that fits `most`. */
export function roundLength(most) {
  const ten = 10 ** Math.floor(Math.log10(most));
  return [5, 2, 1].find((n) => n * ten <= most) * ten;
}

export function lengthText(metres) {
  if (metres >= 1000) return `${metres / 1000} km`;
  return metres >= 1 ? `${metres} m` : `${Number((metres * 100).toPrecision(2))} cm`;
}

export function areaText(m2) {
  if (m2 >= 1e6) return `${(m2 / 1e6).toFixed(2)} km²`;
  return m2 >= 100 ? `${Math.round(m2).toLocaleString("en")} m²` : `${m2.toFixed(1)} m²`;
}

"""Random generator -> a settlement as a drone sees it, and the exact outline of every building in it.

Lengths are metres, turned into pixels last, so that a scene of another resolution shows the same kind of place.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segsmith.data.scenes.fields import Field, drift, enlarge, fractal, ramp
from segsmith.types import HW, ClassMask, Image

Colour = tuple[float, float, float]
Points = NDArray[np.float64]
"""(n, 2), x first, in pixels; (0, 0) is the outer corner of the first pixel."""

_FINER = 4
"""Roofs are drawn this many times finer and averaged, so that their borders are soft as in a photograph."""


class Building(NamedTuple):
    """The rings of one footprint, each open: the outline, then courtyards. Without crossing itself."""

    rings: tuple[Points, ...]


class Town(NamedTuple):
    image: Image
    """Red, green, blue."""
    buildings: tuple[Building, ...]
    mask: ClassMask
    """Pixels of which at least half lies in a building."""
    green: NDArray[np.float32]
    """How green the ground is, 0 to 1: what a near-infrared band shows."""


class _Roof(NamedTuple):
    colour: Colour
    sheets: float
    """Strength of the stripes of corrugated sheets."""
    rust: float


_ROOFS = (
    (_Roof((168, 180, 190), 0.10, 0.10), 0.30),
    (_Roof((150, 125, 105), 0.16, 0.55), 0.20),
    (_Roof((205, 110, 62), 0.07, 0.12), 0.18),
    (_Roof((128, 132, 128), 0.05, 0.10), 0.10),
    (_Roof((226, 228, 226), 0.06, 0.05), 0.08),
    (_Roof((150, 55, 58), 0.08, 0.10), 0.07),
    (_Roof((140, 165, 140), 0.08, 0.08), 0.07),
)

_SOILS: tuple[Colour, ...] = ((168, 128, 98), (182, 156, 122), (150, 112, 88), (165, 150, 128))
_GREENS: tuple[Colour, ...] = ((98, 116, 62), (118, 122, 72), (84, 112, 58))


def draw_town(rng: np.random.Generator, hw: HW, *, gsd_m: float, share: float, inside: bool = False) -> Town:
    """A place of `hw` pixels, each `gsd_m` metres wide, about `share` (at most 0.4) of it covered with buildings,
    less where streets leave no room.

    Buildings may cross the border, unless `inside` is set; their outlines then go on beyond the image. No two of them
    overlap. Where trees hang over a roof the building's outline runs below them.
    """
    # How the ground lies: soil that shows through more or less grass, in plots of a crooked grid.
    angle = rng.uniform(0, math.pi / 2)
    image, green = _ground(rng, hw, gsd_m, angle)
    busy = np.zeros(hw, np.uint8)
    sun = rng.uniform(0, math.tau)
    light_xy = (math.cos(sun), math.sin(sun))
    _streets(rng, image, green, busy, gsd_m, angle)
    buildings, covers = _place(rng, hw, busy, gsd_m, angle, share, inside=inside)
    heights = [float(rng.uniform(2.5, 5.0)) for _ in buildings]
    shadow = np.zeros(hw, np.uint8)
    for building, height in zip(buildings, heights, strict=True):
        _cast(shadow, building.rings[0], height * 0.8 / gsd_m, light_xy)
    _clutter(rng, image, busy, gsd_m, angle)
    image *= 1.0 - 0.5 * cv2.GaussianBlur(shadow.astype(np.float32), (0, 0), 0.7)[:, :, None]
    mask = np.zeros(hw, bool)
    for building, (cover, where) in zip(buildings, covers, strict=True):
        _roof(rng, image[where], cover, building, where, gsd_m, light_xy)
        mask[where] |= cover >= 0.5
        green[where] *= 1.0 - cover
    _trees(rng, image, green, mask, gsd_m, light_xy)
    blur = rng.uniform(0.35, 0.8)
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.float32)
    image += rng.uniform(1.5, 4.0) * rng.standard_normal((*hw, 3), np.float32)
    light = rng.uniform(0.88, 1.12) + 0.03 * enlarge(drift(rng, hw, longest=0.5 * max(hw)), hw)
    image *= light[:, :, None]
    return Town(np.clip(image, 0, 255).astype(np.uint8), tuple(buildings), mask, np.clip(green, 0, 1))


# ---- ground ----------------------------------------------------------------------------------------------------------


def _ground(rng: np.random.Generator, hw: HW, gsd: float, angle: float) -> tuple[Field, Field]:
    soil = np.array(_SOILS[rng.integers(len(_SOILS))], np.float32)
    grass = np.array(_GREENS[rng.integers(len(_GREENS))], np.float32)
    u, v = _turned_grid(hw, gsd, angle)
    bend = 1.5 * fractal(rng, hw, slope=2.0, longest=60 / gsd, shortest=6 / gsd)
    plot_u, plot_v = rng.uniform(18, 40, 2)
    number = (np.floor((u + bend) / plot_u).astype(np.int64) % 61) * 61 + np.floor((v + bend) / plot_v).astype(
        np.int64
    ) % 61
    plots = rng.random((4, 61 * 61), np.float32)[:, number]
    patchy = fractal(rng, hw, slope=1.5, longest=25 / gsd)
    fine = fractal(rng, hw, slope=0.9, longest=1.5 / gsd)
    green = ramp(patchy * 0.8 + 3.0 * (plots[0] - rng.uniform(0.35, 0.6)), -1.0, 1.0)
    image = soil + green[:, :, None] * (grass - soil)
    # Fields are ploughed or planted in rows.
    rows = np.sin((np.where(plots[1] > 0.5, u, v) + 0.3 * patchy) * (math.tau / rng.uniform(0.7, 1.4)))
    worked = (plots[2] > 0.6).astype(np.float32) * np.float32(0.09 if gsd < 0.4 else 0.0)
    tone = 1.0 + 0.22 * (plots[3] - 0.5) + 0.04 * patchy + 0.07 * fine + worked * rows
    return np.asarray(image * tone[:, :, None], np.float32), green


def _turned_grid(hw: HW, gsd: float, angle: float) -> tuple[Field, Field]:
    """Metres along and across a direction, of every pixel."""
    y, x = np.mgrid[0 : hw[0], 0 : hw[1]].astype(np.float32) * np.float32(gsd)
    c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return x * c + y * s, y * c - x * s


def _streets(
    rng: np.random.Generator, image: Field, green: Field, busy: NDArray[np.uint8], gsd: float, angle: float
) -> None:
    """Streets along the grid and a few paths across it, in place; `busy` is set where nothing is to be built."""
    hw = busy.shape
    reach = math.hypot(*hw) * gsd
    paved = rng.random() < 0.5
    for kind in range(2):
        off = rng.uniform(0, 50) - reach
        while off < reach:
            wide = rng.uniform(4.0, 7.5)
            _lane(rng, image, green, busy, gsd, angle + kind * math.pi / 2, off, wide, 5.0, dark=paved and kind == 0)
            off += rng.uniform(45, 100)
    for _ in range(int(rng.poisson(2.0 * hw[0] * hw[1] * gsd * gsd / 150**2))):
        _lane(rng, image, green, busy, gsd, rng.uniform(0, math.pi), rng.uniform(-1, 1) * reach / 2, 1.5, 25.0)


def _lane(
    rng: np.random.Generator,
    image: Field,
    green: Field,
    busy: NDArray[np.uint8],
    gsd: float,
    angle: float,
    off: float,
    wide: float,
    wander: float,
    *,
    dark: bool = False,
) -> None:
    hw = busy.shape
    reach = math.hypot(*hw) * gsd
    along = np.linspace(-reach, reach, 24)
    across = off + wander * 0.3 * rng.standard_normal(24)
    c, s = math.cos(angle), math.sin(angle)
    points = np.stack([c * along - s * across, s * along + c * across], 1) / gsd + np.array([hw[1], hw[0]]) / 2
    if not _near_image(points, hw, wide / gsd):
        return
    fixed = [np.clip(np.round(points * 16), -(2**24), 2**24).astype(np.int32)]
    lane = np.zeros(hw, np.uint8)
    cv2.polylines(lane, fixed, False, 1, max(1, round(wide / gsd)), cv2.LINE_8, 4)
    busy |= lane
    soft = cv2.GaussianBlur(lane.astype(np.float32), (0, 0), max(0.5, 0.35 / gsd))
    colour = (104, 98, 94) if dark else (188, 158, 126)
    tint = np.asarray(colour, np.float32) * np.float32(rng.uniform(0.9, 1.08))
    image += soft[:, :, None] * 0.9 * (tint - image)
    green *= 1.0 - soft


def _near_image(points: Points, hw: HW, margin: float) -> bool:
    # The line between neighbouring points may cross a corner that neither lies near: look at points between, too.
    t = np.linspace(0, 1, 8)[:, None, None]
    between = (points[:-1] + t * (points[1:] - points[:-1])).reshape(-1, 2)
    within = (between > -margin).all(1) & (between < np.array([hw[1], hw[0]]) + margin).all(1)
    return bool(within.any())


# ---- buildings -------------------------------------------------------------------------------------------------------

_Where = tuple[slice, slice]


def _place(
    rng: np.random.Generator, hw: HW, busy: NDArray[np.uint8], gsd: float, angle: float, share: float, *, inside: bool
) -> tuple[list[Building], list[tuple[Field, _Where]]]:
    """Buildings by lot where `busy` leaves room, until they cover `share`; how each covers pixels, and where."""
    buildings: list[Building] = []
    covers: list[tuple[Field, _Where]] = []
    wanted, covered = share * hw[0] * hw[1], 0.0
    # Ground around the image, for those that cross its border must not overlap there either.
    wide = math.ceil(28 / gsd) + max(hw) // 40
    taken = np.pad(busy, wide)
    gap = max(1, round(1.0 / gsd))
    # Houses of one place are alike in size; those of a crowded one small and near each other.
    size = rng.uniform(0.75, 1.3)
    for attempt in range(200 + round(90 * wanted * gsd * gsd / 80)):
        if covered >= wanted:
            break
        xy = rng.uniform(-0.02, 1.02, 2) * (hw[1], hw[0])
        # When room gets scarce, only small ones are tried.
        scale = size * (1.0 if attempt % 3 else 0.6)
        rings = _footprint(rng, scale)
        turn = (
            angle + int(rng.integers(4)) * math.pi / 2 + (rng.normal(0, 0.05) if rng.random() < 0.8 else rng.random())
        )
        c, s = math.cos(turn), math.sin(turn)
        placed = tuple(ring @ np.array([[c, s], [-s, c]]) / gsd + xy for ring in rings)
        low, high = placed[0].min(0), placed[0].max(0)
        if inside and ((low < 2).any() or (high > np.array([hw[1], hw[0]]) - 2).any()):
            continue
        around = tuple(ring + wide for ring in placed)
        room = _within(low + wide - gap, high + wide + gap, taken.shape)
        # Nothing else is built in a courtyard.
        solid = (_cover(around[:1], room) > 0).astype(np.uint8)
        if (taken[room] & cv2.dilate(solid, np.ones((2 * gap + 1, 2 * gap + 1)))).any():
            continue
        where = _within(low, high, hw)
        cover = _cover(placed, where)
        if not cover.any():
            continue
        area = float(cover.sum())
        # The last one must not spoil a small share of a small scene.
        if covered + area > max(1.25 * wanted, wanted + 25 / gsd**2):
            continue
        taken[room] |= solid
        covered += area
        buildings.append(Building(placed))
        covers.append((cover, where))
    busy |= taken[wide:-wide, wide:-wide]
    return buildings, covers


def _footprint(rng: np.random.Generator, scale: float) -> tuple[Points, ...]:
    """Rings around (0, 0), metres: a box in most cases, an L, a T, a hall, at times a block around a courtyard."""
    long, wide = scale * rng.uniform(7, 15), scale * rng.uniform(5, 9)
    kind = rng.random()
    if kind < 0.08:  # a hall or a row
        long, wide = scale * rng.uniform(20, 34), scale * rng.uniform(7, 11)
    elif kind < 0.2:  # a shed
        long, wide = rng.uniform(2.5, 4.5), rng.uniform(2.0, 3.5)
    x, y = long / 2, wide / 2
    box = np.array([[-x, -y], [x, -y], [x, y], [-x, y]])
    if 0.2 <= kind < 0.5:  # an L: one corner is missing
        cut_x, cut_y = x - long * rng.uniform(0.3, 0.6), y - wide * rng.uniform(0.3, 0.6)
        return (np.array([[-x, -y], [x, -y], [x, cut_y], [cut_x, cut_y], [cut_x, y], [-x, y]]),)
    if 0.5 <= kind < 0.6:  # a T: a wing on one side
        a, b = sorted(rng.uniform(-0.8, 0.8, 2) * x)
        deep = y + wide * rng.uniform(0.3, 0.7)
        if b - a > 2.0:
            return (np.array([[-x, -y], [x, -y], [x, y], [b, y], [b, deep], [a, deep], [a, y], [-x, y]]),)
    if 0.6 <= kind < 0.63:
        x, y = scale * rng.uniform(9, 13, 2)
        outer = np.array([[-x, -y], [x, -y], [x, y], [-x, y]])
        return outer, outer[::-1] * rng.uniform(0.35, 0.5)
    return (box,)


def _within(low: Points, high: Points, hw: HW) -> _Where:
    x0, y0 = np.clip(np.floor(low).astype(int), 0, (hw[1], hw[0])).tolist()
    x1, y1 = np.clip(np.ceil(high).astype(int), 0, (hw[1], hw[0])).tolist()
    return slice(y0, y1), slice(x0, x1)


def _cover(rings: tuple[Points, ...], where: _Where) -> Field:
    """How much of each pixel of `where` lies in the polygon, 0 to 1."""
    height, width = where[0].stop - where[0].start, where[1].stop - where[1].start
    if not height or not width:
        return np.zeros((height, width), np.float32)
    fine = np.zeros((height * _FINER, width * _FINER), np.uint8)
    # OpenCV counts from the middle of the first pixel, and fills every pixel that a border touches.
    inner = [_fixed((ring - (where[1].start, where[0].start)) * _FINER - 0.5) for ring in rings]
    cv2.fillPoly(fine, inner, 255, cv2.LINE_8, 4)
    return np.asarray(cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA), np.float32) / np.float32(255)


def _fixed(points: Points) -> NDArray[np.int32]:
    """OpenCV's fixed point with 4 fractional bits."""
    return np.round(points * 16).astype(np.int32)


def _cast(shadow: NDArray[np.uint8], outline: Points, length: float, light_xy: tuple[float, float]) -> None:
    """Draw the ground that a building keeps in shadow, in place: every side, swept along the light."""
    moved = outline + np.array(light_xy) * length
    sides = np.stack([outline, np.roll(outline, -1, 0), np.roll(moved, -1, 0), moved], 1)
    for ring in (outline, moved, *sides):
        cv2.fillPoly(shadow, [_fixed(ring - 0.5)], 1, cv2.LINE_8, 4)


def _roof(
    rng: np.random.Generator,
    image: Field,
    cover: Field,
    building: Building,
    where: _Where,
    gsd: float,
    light_xy: tuple[float, float],
) -> None:
    """Draw one roof over its part of the image, in place: two or four slopes, each with its own light."""
    if not cover.size:
        return
    lots = np.cumsum([weight for _, weight in _ROOFS])
    roof = _ROOFS[int(np.searchsorted(lots, rng.random() * lots[-1]))][0]
    ring = building.rings[0]
    way = ring[1] - ring[0]
    way = way / np.hypot(*way)
    across = np.array([-way[1], way[0]])
    middle = (ring.min(0) + ring.max(0)) / 2
    y, x = np.mgrid[where[0], where[1]].astype(np.float32) + np.float32(0.5)
    u = ((x - middle[0]) * way[0] + (y - middle[1]) * way[1]) * gsd
    v = ((x - middle[0]) * across[0] + (y - middle[1]) * across[1]) * gsd
    half_u = float(np.abs((ring - middle) @ way).max()) * gsd
    half_v = float(np.abs((ring - middle) @ across).max()) * gsd
    ridge = v - rng.normal(0, 0.06) * half_v
    # Which slope a pixel lies on, as the direction it faces: away from the ridge, or along it at hipped ends.
    hipped = rng.random() < 0.3
    end = np.abs(u) - (half_u - half_v) > np.abs(ridge) if hipped else np.zeros(u.shape, bool)
    facing = np.where(end, np.sign(u) * (way @ light_xy), np.sign(ridge) * (across @ light_xy))
    flat = rng.random() < 0.2
    tone = 1.0 - (0.03 if flat else rng.uniform(0.08, 0.22)) * facing
    # Single sheets differ; so does their rust.
    sheet = np.floor(u / 0.9).astype(int) + 7 * np.floor(v / 2.4).astype(int)
    tone = tone + roof.sheets * (rng.random(257, np.float32)[sheet % 257] - 0.5)
    if gsd < 0.25:
        tone = tone + 0.25 * roof.sheets * np.sin(np.where(end, v, u) * (math.tau / 0.45))
    tone = tone - 0.25 * np.exp(-np.square(np.where(end, 9.0, ridge) / (0.8 * gsd + 0.05))) * (not flat)
    blotch = cv2.resize(
        rng.random((max(2, int(half_v * 2)), max(2, int(half_u * 2))), np.float32),
        (x.shape[1], x.shape[0]),
        interpolation=cv2.INTER_CUBIC,
    )
    rust = roof.rust * ramp(blotch + 0.2 * rng.standard_normal(x.shape, np.float32), 0.3, 1.0)
    base = np.asarray(roof.colour, np.float32) * rng.uniform(0.82, 1.12, 3).mean().astype(np.float32)
    paint = base + rust[:, :, None] * (np.array((122, 78, 52), np.float32) - base)
    paint = paint * tone[:, :, None]
    if half_u > 3 and rng.random() < 0.3:  # a tank or a hatch on top
        at = np.hypot(u - rng.uniform(-0.6, 0.6) * half_u, v - rng.uniform(-0.5, 0.5) * half_v)
        paint = np.where((at < 0.6)[:, :, None], np.float32(rng.choice([35.0, 225.0])), paint)
    image += cover[:, :, None] * (paint.astype(np.float32) - image)


# ---- what is no building ---------------------------------------------------------------------------------------------


def _clutter(rng: np.random.Generator, image: Field, busy: NDArray[np.uint8], gsd: float, angle: float) -> None:
    """Bare yards, slabs, walls and cars, in place: straight-edged things that are no buildings."""
    hw = busy.shape
    hectares = hw[0] * hw[1] * gsd * gsd / 1e4
    kinds = (
        ("slab", 4.0, (4, 9), 0.75),
        ("yard", 7.0, (5, 14), 0.45),
        ("car", 9.0, (4.2, 4.8), 0.95),
        ("wall", 8.0, (8, 30), 0.9),
    )
    for kind, per_hectare, (least, most), strength in kinds:
        for _ in range(int(rng.poisson(per_hectare * hectares))):
            long = rng.uniform(least, most)
            wide = 1.8 if kind == "car" else 0.35 if kind == "wall" else long * rng.uniform(0.5, 1.0)
            xy = rng.uniform(0, 1, 2) * (hw[1], hw[0])
            turn = math.degrees(angle + int(rng.integers(2)) * math.pi / 2 + rng.normal(0, 0.15))
            box = cv2.boxPoints(((float(xy[0]), float(xy[1])), (long / gsd, max(wide / gsd, 1.0)), turn)).astype(float)
            where = _within(box.min(0) - 1, box.max(0) + 1, hw)
            if not busy[where].size or (kind != "car" and busy[where].mean() > 0.4):
                continue
            cover = _cover((box,), where)
            grey = rng.uniform(110, 215)
            colour = (grey, grey * 0.97, grey * 0.93)
            if kind == "yard":
                colour = (rng.uniform(150, 190), rng.uniform(120, 150), rng.uniform(95, 125))
            elif kind == "car":
                colour = ((235, 235, 235), (40, 42, 48), (150, 30, 30), (60, 80, 140))[rng.integers(4)]
            rough = 1.0 + 0.06 * rng.standard_normal(cover.shape, np.float32)
            paint = np.asarray(colour, np.float32) * rough[:, :, None]
            image[where] += strength * cover[:, :, None] * (paint - image[where])


def _trees(
    rng: np.random.Generator, image: Field, green: Field, mask: ClassMask, gsd: float, light_xy: tuple[float, float]
) -> None:
    """Crowns, alone and in groves, with their shadows, in place; few of them hang over roofs."""
    hw = mask.shape
    hectares = hw[0] * hw[1] * gsd * gsd / 1e4
    crowns: list[tuple[float, float, float]] = []
    for _ in range(int(rng.poisson(rng.uniform(8, 25) * hectares))):
        x, y = rng.uniform(-0.02, 1.02, 2) * (hw[1], hw[0])
        for _ in range(1 if rng.random() < 0.75 else int(rng.integers(3, 10))):
            radius = rng.uniform(1.0, 4.2) / gsd
            at = (x + rng.normal(0, 4 / gsd), y + rng.normal(0, 4 / gsd), radius)
            column, row = int(np.clip(at[0], 0, hw[1] - 1)), int(np.clip(at[1], 0, hw[0] - 1))
            if not mask[row, column]:
                crowns.append(at)
    shadow = np.zeros(hw, np.uint8)
    for x, y, radius in crowns:
        middle = (int(x + 0.7 * radius * light_xy[0]), int(y + 0.7 * radius * light_xy[1]))
        cv2.circle(shadow, middle, max(1, int(radius)), 1, -1)
    image *= 1.0 - 0.45 * cv2.GaussianBlur(shadow.astype(np.float32), (0, 0), 0.8)[:, :, None] * (~mask)[:, :, None]
    leaves = fractal(rng, hw, slope=0.8, longest=2.0 / gsd)
    for x, y, radius in crowns:
        where = _within(np.array([x, y]) - 1.3 * radius, np.array([x, y]) + 1.3 * radius, hw)
        row, column = np.mgrid[where].astype(np.float32)
        if not row.size:
            continue
        dx, dy = (column - np.float32(x)) / np.float32(radius), (row - np.float32(y)) / np.float32(radius)
        crown = ramp(1.0 - np.hypot(dx, dy) + 0.22 * leaves[where], 0.0, 0.2)
        base = np.array(((62, 88, 42), (78, 100, 50), (50, 78, 44), (98, 112, 58))[rng.integers(4)], np.float32)
        tone = 1.0 - 0.3 * (dx * light_xy[0] + dy * light_xy[1]) + 0.3 * leaves[where]
        image[where] += crown[:, :, None] * (base * np.clip(tone, 0.3, 1.9)[:, :, None] - image[where])
        green[where] = np.maximum(green[where], crown)

"""Random generator -> a picture of rolled steel strip, and where on it are defects of each of four classes."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segsmith.data.scenes.fields import Field, drift, enlarge, fractal, ramp
from segsmith.data.scenes.files import EMPTY
from segsmith.types import HW, ClassMask, Mask

CLASSES = 4

_BLOCK = 20
_FIRST_CLASS = (0,) * 10 + (1, 1, 2, 3, 3, 3, 3, 3, 4, 4)
"""Of every _BLOCK images in a row, in mixed order: the class each one has for certain; 0 is none."""


class Strip(NamedTuple):
    image: NDArray[np.uint8]
    """(height, width), grey."""
    mask: Mask
    """Classes 1 to 4 in this order; they may overlap."""


def classes_of(seed: int, stream: int, number: int) -> tuple[int, ...]:
    """The classes, 1 to 4 ascending, of defects on one image; half of the images have none."""
    block, place = divmod(number, _BLOCK)
    rng = np.random.default_rng([seed, EMPTY, stream, block])
    first = int(rng.permutation(_FIRST_CLASS)[place])
    also = rng.random((_BLOCK, CLASSES))[place] < 0.1
    return tuple(c for c in range(1, CLASSES + 1) if c == first or (first and also[c - 1]))


def draw_strip(rng: np.random.Generator, hw: HW, classes: tuple[int, ...]) -> Strip:
    """Strip of `hw` pixels, 64 or more a side, with at least one defect of each of `classes` and of no other."""
    height, width = hw
    along = fractal(rng, hw, slope=1.0, longest=60.0, stretch=rng.uniform(6, 25))
    down = fractal(rng, hw, slope=1.2, longest=30.0, stretch=12.0, angle=math.pi / 2)
    tone = rng.uniform(55, 165)
    coarse = rng.uniform(0.6, 1.5)
    steel = tone * (1.0 + 0.16 * rng.random() * enlarge(drift(rng, hw, longest=0.5 * width), hw))
    steel += coarse * (3.0 * along + rng.uniform(0.5, 3.0) * down)
    steel += rng.uniform(2.0, 5.0) * coarse * rng.standard_normal(hw, np.float32)
    steel = steel.astype(np.float32)
    _draw_harmless(rng, steel, tone)
    mask = np.zeros((CLASSES, height, width), bool)
    # Patches lie beneath; what is small is drawn over them.
    for number, draw in ((4, _draw_patches), (3, _draw_scratches), (1, _draw_pits), (2, _draw_cracks)):
        if number in classes:
            mask[number - 1] = draw(rng, steel, tone)
    edge = _beyond_edge(rng, hw) if width >= 2 * height else np.zeros(hw, bool)
    steel[edge] = 6.0 + 2.0 * rng.random(int(edge.sum()), np.float32)
    # Nothing is labelled beside the strip, unless it is all there is.
    for plane in mask:
        if (plane & ~edge).any():
            plane &= ~edge
    return Strip(np.clip(cv2.GaussianBlur(steel, (0, 0), 0.6), 0, 255).astype(np.uint8), mask)


def repeat(strip: Strip, number: int) -> tuple[Strip, int]:
    """A near-duplicate, and the JPEG quality to write it with; which kind goes round with `number`.

    Mirrored left to right, upside down, by half a turn, by a quarter turn (a square only, else mirrored), shifted by a
    twentieth of the width or of the height with the border reflected, or just compressed harder.
    """
    image, mask = strip
    height, width = image.shape
    kind = number % 7
    if kind == 3 and height != width:
        kind = 0
    if kind == 0:
        return Strip(np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(mask[:, :, ::-1])), 90
    if kind == 1:
        return Strip(np.ascontiguousarray(image[::-1]), np.ascontiguousarray(mask[:, ::-1])), 90
    if kind == 2:
        return Strip(np.ascontiguousarray(image[::-1, ::-1]), np.ascontiguousarray(mask[:, ::-1, ::-1])), 90
    if kind == 3:
        return Strip(np.ascontiguousarray(np.rot90(image)), np.ascontiguousarray(np.rot90(mask, axes=(1, 2)))), 90
    if kind in (4, 5):
        by = (0, max(1, width // 20)) if kind == 4 else (max(1, height // 20), 0)
        shifted = np.pad(image, ((by[0], 0), (by[1], 0)), "reflect")[:height, :width]
        also = np.pad(mask, ((0, 0), (by[0], 0), (by[1], 0)), "reflect")[:, :height, :width]
        return Strip(np.ascontiguousarray(shifted), np.ascontiguousarray(also)), 90
    return strip, 55


# ---- what is no defect -----------------------------------------------------------------------------------------------


def _draw_harmless(rng: np.random.Generator, steel: Field, tone: float) -> None:
    """Light bands of the rolls, drops and smears, in place: what a network must learn to leave alone."""
    height, width = steel.shape
    x = np.arange(width, dtype=np.float32)
    for _ in range(int(rng.integers(0, 4))):
        middle, wide = rng.uniform(0, width), rng.uniform(10, 60)
        steel += np.float32(rng.normal(0, 0.09) * tone) * np.exp(-np.square((x - middle) / wide))[None, :]
    stains = np.zeros_like(steel)
    for _ in range(int(rng.poisson(1.5))):
        at = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        axes = (int(rng.uniform(3, 14)), int(rng.uniform(3, 9)))
        cv2.ellipse(stains, at, axes, rng.uniform(0, 180), 0, 360, float(rng.normal(0, 0.13)), -1)
    steel *= 1.0 + cv2.GaussianBlur(stains, (0, 0), 2.5)


def _beyond_edge(rng: np.random.Generator, hw: HW) -> ClassMask:
    """Where the strip ends and nothing but darkness is seen: in one image of five, up to a third of it."""
    beyond = np.zeros(hw, bool)
    if rng.random() < 0.2:
        wide = int(rng.uniform(0.03, 0.33) * hw[1])
        side = slice(0, wide) if rng.random() < 0.5 else slice(hw[1] - wide, hw[1])
        beyond[:, side] = True
    return beyond


# ---- defects ---------------------------------------------------------------------------------------------------------


def _draw_pits(rng: np.random.Generator, steel: Field, tone: float) -> ClassMask:
    """Groups of small dark specks with a bright rim; a group is labelled as a whole."""
    height, width = steel.shape
    dark = np.zeros_like(steel)
    label = np.zeros(steel.shape, np.uint8)
    for _ in range(1 + int(rng.poisson(1.0))):
        # A little off the border, where a group could be lost.
        x, y = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height
        spread_xy = rng.uniform(0.03, 0.1, 2) * min(4 * height, width)
        group = np.zeros(steel.shape, np.uint8)
        for _ in range(int(rng.integers(6, 30))):
            at = (int(x + rng.normal(0, spread_xy[0] / 2)), int(y + rng.normal(0, spread_xy[1] / 2)))
            axes = (int(rng.integers(1, 4)), int(rng.integers(1, 6)))
            turn = rng.uniform(0, 180)
            cv2.ellipse(dark, at, axes, turn, 0, 360, float(rng.uniform(0.25, 0.6)), -1)
            cv2.ellipse(group, at, axes, turn, 0, 360, 1, -1)
        cv2.circle(dark, (int(x), int(y)), 3, 0.5, -1)
        cv2.circle(group, (int(x), int(y)), 3, 1, -1)
        close = cv2.morphologyEx(group, cv2.MORPH_CLOSE, _round(31))
        label |= cv2.dilate(close, _round(5))
    soft = cv2.GaussianBlur(dark, (0, 0), 0.8)
    steel -= tone * soft - 0.25 * tone * np.maximum(cv2.GaussianBlur(dark, (0, 0), 2.5) - soft, 0)
    return label.astype(bool)


def _draw_cracks(rng: np.random.Generator, steel: Field, tone: float) -> ClassMask:
    """One to four thin dark lines across the strip, wandering a little."""
    height, width = steel.shape
    line = np.zeros_like(steel)
    label = np.zeros(steel.shape, np.uint8)
    for _ in range(int(rng.integers(1, 5))):
        long = int(rng.uniform(0.35, 1.0) * height)
        top = int(rng.uniform(0, height - long + 1))
        y = np.linspace(top, top + long - 1, max(3, long // 8))
        x = rng.uniform(0.05, 0.95) * width + np.cumsum(rng.normal(0, 1.2, y.size))
        points = [np.round(np.stack([x, y], 1) * 16).astype(np.int32)]
        cv2.polylines(line, points, False, float(rng.uniform(0.3, 0.6)), int(rng.integers(1, 4)), cv2.LINE_8, 4)
        cv2.polylines(label, points, False, 1, 9, cv2.LINE_8, 4)
    steel -= tone * cv2.GaussianBlur(line, (0, 0), 0.7)
    return label.astype(bool)


def _draw_scratches(rng: np.random.Generator, steel: Field, tone: float) -> ClassMask:
    """Bundles of bright or dark strokes that lie almost the same way, in most images along the strip."""
    height, width = steel.shape
    stroke = np.zeros_like(steel)
    label = np.zeros(steel.shape, np.uint8)
    angle = rng.normal(0, 0.06) if rng.random() < 0.65 else math.pi / 2 + rng.normal(0, 0.15)
    bright = 1.0 if rng.random() < 0.7 else -0.6
    reach = width * 0.35 if abs(math.cos(angle)) > 0.5 else height * 0.8
    for _ in range(1 + int(rng.poisson(1.3))):
        middle = np.array([rng.uniform(0.1, 0.9) * width, rng.uniform(0.15, 0.85) * height])
        bundle = np.zeros(steel.shape, np.uint8)
        for _ in range(int(rng.integers(1, 9))):
            long = max(20.0, reach * rng.uniform(0.15, 1.0))
            turned = angle + rng.normal(0, 0.02)
            way = np.array([math.cos(turned), math.sin(turned)])
            off = rng.normal(0, 6) * np.array([-way[1], way[0]]) + rng.normal(0, 0.15 * long) * way
            ends = np.stack([middle + off - way * long / 2, middle + off + way * long / 2])
            line = [np.round(ends * 16).astype(np.int32)]
            thick = int(rng.integers(1, 5))
            cv2.polylines(stroke, line, False, float(bright * rng.uniform(0.25, 0.7)), thick, cv2.LINE_8, 4)
            cv2.polylines(bundle, line, False, 1, thick + 4, cv2.LINE_8, 4)
        label |= cv2.morphologyEx(bundle, cv2.MORPH_CLOSE, _round(11))
    broken = ramp(fractal(rng, (height, width), slope=1.0, longest=12.0), -1.2, 0.2)
    steel += tone * cv2.GaussianBlur(stroke * (0.35 + 0.65 * broken), (0, 0), 0.8)
    return label.astype(bool)


def _draw_patches(rng: np.random.Generator, steel: Field, tone: float) -> ClassMask:
    """One to three rough areas with ragged borders, darker than the strip and some with bright crumbs."""
    height, width = steel.shape
    ragged = fractal(rng, (height, width), slope=1.8, longest=0.4 * height, shortest=3.0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    rise = np.full(steel.shape, -np.inf, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        radius = rng.uniform(0.2, 0.5, 2) * (height, min(2 * height, width))
        at = rng.uniform(0.15, 0.85, 2) * (height, width)
        rise = np.maximum(rise, 1.0 - np.square((y - at[0]) / radius[0]) - np.square((x - at[1]) / radius[1]))
    within = rise + 0.35 * ragged > 0.25
    # The middle always belongs, so that a patch is never lost.
    within = cv2.morphologyEx(within.astype(np.uint8), cv2.MORPH_OPEN, _round(5)) | (rise > 0.97)
    soft = cv2.GaussianBlur(within.astype(np.float32), (0, 0), 1.5)
    rough = fractal(rng, (height, width), slope=0.7, longest=20.0)
    crumbs = np.maximum(fractal(rng, (height, width), slope=0.6, longest=8.0) - 1.6, 0) * rng.choice([0.0, 0.4])
    steel += tone * soft * (-rng.uniform(0.18, 0.45) + 0.13 * rough + crumbs)
    return np.asarray(within, bool)


def _round(size: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)

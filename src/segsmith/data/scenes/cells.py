"""Random generator -> a slide with cells of three kinds, and the outline of each."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segsmith.data.scenes.fields import drift, enlarge, fractal, ramp
from segsmith.types import HW, ClassMask, Image

KINDS = ("round", "rod", "star")
"""Names of the classes 1, 2, 3."""

_STAINS = ((176, 120, 168), (118, 108, 180), (196, 118, 128))


class Cell(NamedTuple):
    kind: int
    """1 to 3."""
    outline: NDArray[np.float64]
    """(n, 2), x first, pixels, open; (0, 0) is the outer corner of the first pixel. It may go on beyond the border."""
    mask: ClassMask
    """The pixels that it covers at least half; no two cells share one."""


class Slide(NamedTuple):
    image: Image
    """Red, green, blue."""
    cells: tuple[Cell, ...]


def draw_slide(rng: np.random.Generator, hw: HW, *, empty: bool) -> Slide:
    """Pale stained tissue of `hw` pixels, 32 or more a side, with up to about a dozen cells; none if `empty`."""
    height, width = hw
    pale = np.array((232, 222, 228), np.float32) * rng.uniform(0.88, 1.0)
    tissue = fractal(rng, hw, slope=1.3, longest=0.3 * max(hw))
    image = pale + 7.0 * tissue[:, :, None] * np.array((0.7, 1.2, 0.8), np.float32)
    image += 5.0 * enlarge(drift(rng, hw, longest=float(max(hw))), hw)[:, :, None]
    _draw_dust(rng, image)
    taken = np.zeros(hw, bool)
    cells: list[Cell] = []
    fine = fractal(rng, hw, slope=0.8, longest=8.0)
    wanted = 0 if empty else 1 + int(rng.poisson(5))
    for _ in range(200):
        if len(cells) == wanted:
            break
        kind = int(rng.choice([1, 1, 1, 2, 2, 3]))
        xy = rng.uniform(0.02, 0.98, 2) * (width, height)
        outline = xy + rng.uniform(0.05, 0.11) * min(hw) * _outline(rng, kind)
        cover = _cover(outline, hw)
        mask = cover >= 0.5
        # A gap stays between two cells, so that each is one object in a mask without classes, too.
        if mask.sum() < 30 or (taken & cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))).astype(bool)).any():
            continue
        if cv2.connectedComponents(mask.astype(np.uint8))[0] != 2:
            continue
        taken |= mask
        cells.append(Cell(kind, outline, mask))
        off = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
        inside = 1.0 + 0.15 * fine - 0.35 * ramp(off, 0.35 * float(off.max()), 0.6 * float(off.max()))
        stain = np.array(_STAINS[kind - 1], np.float32) * rng.uniform(0.85, 1.15)
        image += (rng.uniform(0.6, 0.95) * cover)[:, :, None] * (stain * inside[:, :, None] - image)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.9)) + rng.normal(0, 2.5, (height, width, 3))
    return Slide(np.clip(image, 0, 255).astype(np.uint8), tuple(cells))


def _outline(rng: np.random.Generator, kind: int) -> NDArray[np.float64]:
    """A closed curve around (0, 0) of radius about 1."""
    angle = np.linspace(0, math.tau, 48, endpoint=False)
    waves = sum(rng.normal(0, 0.09 / k) * np.cos(k * angle + rng.uniform(0, math.tau)) for k in range(2, 6))
    radius = 1.0 + np.asarray(waves)
    if kind == 3:
        radius += 0.4 * np.cos(int(rng.integers(5, 8)) * angle)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    if kind == 2:
        points *= (rng.uniform(1.6, 2.2), rng.uniform(0.4, 0.6))
    turn = rng.uniform(0, math.tau)
    c, s = math.cos(turn), math.sin(turn)
    return np.asarray(points @ np.array([[c, s], [-s, c]]))


def _cover(outline: NDArray[np.float64], hw: HW) -> NDArray[np.float32]:
    fine = np.zeros((hw[0] * 8, hw[1] * 8), np.uint8)
    cv2.fillPoly(fine, [np.round((outline * 8 - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
    return np.asarray(cv2.resize(fine, (hw[1], hw[0]), interpolation=cv2.INTER_AREA), np.float32) / np.float32(255)


def _draw_dust(rng: np.random.Generator, image: NDArray[np.float32]) -> None:
    """Specks and fibres, in place: dark, but no cells."""
    height, width = image.shape[:2]
    for _ in range(int(rng.poisson(4))):
        at = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        grey = rng.uniform(90, 160)
        if rng.random() < 0.6:
            cv2.circle(image, at, 1, (grey, grey, grey), -1)
        else:
            to = (at[0] + int(rng.normal(0, 12)), at[1] + int(rng.normal(0, 12)))
            cv2.line(image, at, to, (grey, grey, grey), 1, cv2.LINE_AA)


def draw_crack(rng: np.random.Generator, hw: HW, *, empty: bool) -> tuple[Image, ClassMask]:
    """Concrete of `hw` pixels, 32 or more a side, red green blue, and where a branching crack runs; none if `empty`."""
    height, width = hw
    rough = fractal(rng, hw, slope=1.1, longest=0.5 * max(hw))
    grey = rng.uniform(120, 185) + 9.0 * rough + 4.0 * rng.standard_normal(hw, np.float32)
    for _ in range(int(rng.poisson(10))):  # pores
        at = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        cv2.circle(grey, at, int(rng.integers(1, 3)), float(rng.uniform(70, 110)), -1)
    crack = np.zeros(hw, np.uint8)
    if not empty:
        heading, start = rng.uniform(0, math.tau), np.array([width, height]) * rng.uniform(0.35, 0.65, 2)
        for way in (heading, heading + math.pi + rng.normal(0, 0.3), heading + rng.choice([-1.0, 1.0])):
            step = 0.03 * max(hw)
            turns = way + np.cumsum(rng.normal(0, 0.25, int(rng.integers(8, 22))))
            path = start + step * np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), 0)
            points = np.round(np.concatenate([start[None], path]) * 16).astype(np.int32)
            cv2.polylines(crack, [points], False, 255, int(rng.integers(2, 5)), cv2.LINE_8, 4)
    soft = cv2.GaussianBlur(crack.astype(np.float32) / 255, (0, 0), 0.6)
    grey -= rng.uniform(45, 80) * soft
    image = np.clip(grey[:, :, None] * np.array((1.0, 0.99, 0.96), np.float32), 0, 255).astype(np.uint8)
    return image, crack > 0

"""A made-up ship -> its hull's outline and its deck, painted as seen from above."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segsmith.data.scenes.fields import Field, fractal
from segsmith.data.scenes.sea import BOXES, Colour, spread

FINER = 4
"""A ship is painted this many times finer than the image, so that its edges come out smooth."""


@dataclass(frozen=True)
class Ship:
    """Where a ship lies and what it is; lengths in pixels, heading in radians from x to y, bow forward."""

    x: float
    y: float
    heading: float
    length: float
    beam: float
    kind: str
    """A key of PAINT."""
    wake: float = 0.0
    """0 at anchor, 1 at full speed."""


def ship_size(rng: np.random.Generator, size: int) -> tuple[float, float, str]:
    """Length and beam in pixels, and a kind of ship that comes in that size; at most half as long as the image."""
    length = float(np.clip(math.exp(rng.normal(math.log(60), 0.75)), 12, min(200.0, 0.5 * size)))
    return length, *beam_and_kind(rng, length)


def beam_and_kind(rng: np.random.Generator, length: float) -> tuple[float, str]:
    """The beam in pixels and a kind of ship that comes in a length, pixels too."""
    kinds = SMALL if length < 28 else MIDDLE if length < 75 else LARGE
    kind = kinds[rng.integers(len(kinds))]
    slender = {"boat": (3.0, 4.2), "barge": (3.0, 4.6), "naval": (6.8, 8.0)}.get(kind, (5.0, 7.2))
    return max(length / rng.uniform(*slender), 4.0), kind


def outline(ship: Ship, points: int = 9) -> Field:
    """The hull's outline in pixels, (n, 2), x forward and y to starboard, the middle of the ship at 0, 0."""
    entrance, power = {
        "boat": (0.55, 1.8),
        "barge": (0.06, 4.0),
        "naval": (0.55, 1.7),
        "tanker": (0.14, 2.2),
        "bulker": (0.16, 2.0),
    }.get(ship.kind, (0.24, 1.9))
    transom = {"barge": 1.0, "boat": 0.85}.get(ship.kind, 0.72)
    half, t = ship.beam / 2, np.linspace(0, 1, points)
    bow_x = ship.length * (0.5 - entrance + entrance * t)
    bow_y = half * (1 - t**power)
    x = np.concatenate([[-0.5 * ship.length, -0.43 * ship.length], bow_x])
    y = np.concatenate([[half * transom, half], bow_y])
    return np.stack([np.concatenate([x, x[::-1]]), np.concatenate([y, -y[::-1]])], 1).astype(np.float32)


def paint_deck(rng: np.random.Generator, ship: Ship, wide: int, high: int, shadow_xy: tuple[float, float]) -> Field:
    """The deck on a canvas of (high, wide, 3), FINER times finer than the image, bow to the right, ship in the middle.

    `shadow_xy` is where shadows fall, one unit long. What is painted beyond the outline is for the caller to cut.
    """
    deck = _Deck(rng, ship, wide, high, shadow_xy)
    PAINT[ship.kind](deck)
    worn = 1.0 + 0.07 * fractal(rng, (high, wide), slope=1.0, longest=40.0, stretch=4.0)
    paint = deck.paint * spread(worn)
    # The bulwark.
    edge = np.round((outline(ship) * FINER + (wide / 2, high / 2)) * 16).astype(np.int32)
    cv2.polylines(paint, [edge], True, deck.rim, max(1, FINER // 2), cv2.LINE_AA, 4)
    return np.asarray(paint, np.float32)


class _Deck:
    """A ship's deck to paint on: u runs 0 to 1 from stern to bow, v -1 to 1 from port to starboard."""

    def __init__(
        self, rng: np.random.Generator, ship: Ship, wide: int, high: int, shadow_xy: tuple[float, float]
    ) -> None:
        self.rng, self.ship, self.shadow_xy = rng, ship, shadow_xy
        self.rim: Colour = (60, 60, 66)
        self.paint = np.zeros((high, wide, 3), np.float32)
        self._origin = np.array([wide / 2 - ship.length * FINER / 2, high / 2])
        self._unit = np.array([ship.length * FINER, ship.beam * FINER / 2])

    def shade(self, colour: Colour, spread: float = 0.06) -> Colour:
        """`colour` a little brighter or darker, as no two coats of paint are alike."""
        blue, green, red = np.asarray(colour) * self.rng.normal(1, spread)
        return float(blue), float(green), float(red)

    def fill(self, colour: Colour) -> None:
        self.paint[:] = colour
        self.rim = self.shade((colour[0] * 0.55, colour[1] * 0.55, colour[2] * 0.6))

    def box(self, u0: float, u1: float, v0: float, v1: float, colour: Colour, height: float = 0.0) -> None:
        """A box from (u0, v0) to (u1, v1); one with `height` (pixels) casts a shadow on the deck."""
        low = self._origin + self._unit * (u0, v0)
        high = self._origin + self._unit * (u1, v1)
        if height:
            cast = np.asarray(self.shadow_xy) * height * FINER
            dark = self.rim[0] * 0.6, self.rim[1] * 0.6, self.rim[2] * 0.6
            cv2.rectangle(self.paint, _rounded(low + cast), _rounded(high + cast), dark, -1)
        cv2.rectangle(self.paint, _rounded(low), _rounded(high), colour, -1)

    def disc(self, u: float, v: float, pixels: float, colour: Colour) -> None:
        centre = self._origin + self._unit * (u, v)
        cv2.circle(self.paint, _rounded(centre), max(1, round(pixels * FINER)), colour, -1)

    def bridge(self, u: float, *, depth: float = 0.1, width: float = 0.8) -> None:
        """Deckhouse with wings and a funnel, its after end at `u`."""
        white = self.shade((214, 220, 222))
        rise = min(3.0, 0.1 * self.ship.beam + 0.6)
        self.box(u + depth * 0.55, u + depth * 0.72, -0.97, 0.97, self.shade((190, 196, 198)), rise)
        self.box(u, u + depth, -width, width, white, rise)
        self.box(u + depth * 0.3, u + depth * 0.7, -width * 0.55, width * 0.5, self.shade((176, 182, 186)))
        funnel: tuple[Colour, ...] = ((50, 52, 60), (60, 60, 170), (150, 90, 50), (40, 150, 190))
        self.box(u - 0.035, u - 0.005, -0.22, 0.22, funnel[self.rng.integers(len(funnel))], rise * 0.7)


def _rounded(xy: NDArray[np.float64]) -> tuple[int, int]:
    return round(float(xy[0])), round(float(xy[1]))


REDS: tuple[Colour, ...] = ((68, 74, 138), (62, 66, 122), (76, 88, 158), (92, 104, 176), (58, 70, 104))
DECKS: tuple[Colour, ...] = (*REDS, (92, 104, 96), (84, 108, 74), (112, 114, 116), (120, 96, 78))


def _tanker(deck: _Deck) -> None:
    rng = deck.rng
    base = deck.shade(REDS[rng.integers(len(REDS))] if rng.random() < 0.75 else DECKS[rng.integers(len(DECKS))])
    deck.fill(base)
    line = base[0] * 0.72, base[1] * 0.72, base[2] * 0.75
    light = base[0] * 1.22 + 14, base[1] * 1.22 + 14, base[2] * 1.14 + 10
    for u in np.arange(0.24, 0.92, rng.uniform(0.06, 0.1)):
        deck.box(float(u), float(u) + 0.006, -0.9, 0.9, line)
    deck.box(0.2, 0.93, -0.07, 0.07, light)
    deck.box(0.2, 0.93, 0.07, 0.13, line)
    middle = rng.uniform(0.5, 0.6)
    deck.box(middle, middle + 0.035, -0.85, 0.85, light, 0.5)
    if rng.random() < 0.5:
        deck.disc(middle - 0.12, 0.45, 0.14 * deck.ship.beam, (110, 170, 120))
    deck.bridge(rng.uniform(0.05, 0.08))


def _bulker(deck: _Deck) -> None:
    rng = deck.rng
    deck.fill(deck.shade(DECKS[rng.integers(len(DECKS))]))
    hatch = deck.shade(((188, 196, 202), (150, 160, 166), (96, 108, 160), (150, 172, 186))[rng.integers(4)])
    holds = int(rng.integers(4, 10))
    u, step = 0.2, 0.72 / holds
    cranes = rng.random() < 0.4
    for n in range(holds):
        deck.box(u + 0.1 * step, u + 0.78 * step, -0.58, 0.58, deck.shade(hatch, 0.03), 0.8)
        deck.box(u + 0.1 * step, u + 0.78 * step, -0.02, 0.02, (hatch[0] * 0.7, hatch[1] * 0.7, hatch[2] * 0.7))
        if cranes and n % 2 == 0:
            deck.box(u + 0.82 * step, u + 0.97 * step, -0.12, 0.12, (70, 170, 210), 1.6)
        u += step
    deck.bridge(rng.uniform(0.04, 0.07))


def _container(deck: _Deck) -> None:
    rng = deck.rng
    deck.fill(deck.shade(((70, 74, 80), (66, 62, 108), (96, 78, 60), (80, 92, 88))[rng.integers(4)]))
    bridge = rng.uniform(0.05, 0.3)
    colours = BOXES if rng.random() < 0.6 else (BOXES[2], BOXES[3], (150, 186, 206), (58, 78, 116))
    step, rows = 14.0 / deck.ship.length, max(2, round(deck.ship.beam / 3))
    stacked = rng.uniform(0.6, 1.0)
    for u in np.arange(0.02, 0.9 - step, step):
        # Nothing stands where the bridge will.
        if not bridge - 0.05 - step < u < bridge + 0.1:
            narrow = 0.88 if u < 0.75 else 0.62
            for n in range(rows):
                if rng.random() < stacked:
                    v = narrow * (2 * n / rows - 1)
                    colour = deck.shade(colours[rng.integers(len(colours))], 0.12)
                    part = step * (0.86 if rng.random() < 0.7 else 0.42)
                    deck.box(float(u), float(u) + part, v, v + narrow * 1.8 / rows, colour, 0.5)
    deck.bridge(bridge, depth=0.06, width=0.92)


def _ferry(deck: _Deck) -> None:
    rng = deck.rng
    deck.fill(deck.shade((196, 202, 204)))
    deck.rim = (120, 112, 100)
    top = deck.shade(((222, 224, 224), (150, 146, 120), (182, 160, 140), (110, 140, 112))[rng.integers(4)])
    deck.box(0.08, 0.8, -0.82, 0.82, top, 0.8)
    deck.box(0.2, 0.7, -0.5, 0.5, deck.shade((208, 212, 214)), 0.8)
    for u in np.arange(0.24, 0.66, 0.07):
        deck.box(float(u), float(u) + 0.03, -0.92, -0.84, (60, 110, 210))
        deck.box(float(u), float(u) + 0.03, 0.84, 0.92, (60, 110, 210))
    deck.box(0.28, 0.36, -0.28, 0.28, (150, 100, 60), 1.5)
    if rng.random() < 0.5:
        deck.box(0.5, 0.6, -0.25, 0.25, (200, 170, 80))
    deck.box(0.76, 0.82, -0.9, 0.9, (90, 90, 92))


def _barge(deck: _Deck) -> None:
    rng = deck.rng
    deck.fill(deck.shade(((84, 106, 120), (72, 88, 104), (88, 96, 102), (58, 66, 86))[rng.integers(4)], 0.12))
    cargo = ((96, 124, 142), (52, 54, 58), (110, 146, 168), (70, 78, 90))[rng.integers(4)]
    deck.box(0.16, 0.9, -0.72, 0.72, deck.shade(cargo, 0.1))
    for u in np.arange(0.2, 0.86, rng.uniform(0.12, 0.3)):
        deck.box(float(u), float(u) + 0.02, -0.72, 0.72, deck.rim)
    if rng.random() < 0.7:
        deck.box(0.03, 0.13, -0.6, 0.6, deck.shade((170, 178, 184)), 0.8)


def _boat(deck: _Deck) -> None:
    rng = deck.rng
    hulls: tuple[Colour, ...] = ((216, 220, 220), (200, 206, 210), (150, 150, 140), (170, 120, 80), (90, 110, 160))
    deck.fill(deck.shade(hulls[rng.integers(len(hulls))]))
    deck.box(0.08, 0.34, -0.6, 0.6, deck.shade((110, 124, 130), 0.15))
    deck.box(0.36, 0.62, -0.58, 0.58, deck.shade((226, 228, 228)), 0.5)
    deck.box(0.6, 0.66, -0.5, 0.5, (70, 66, 60))


def _coaster(deck: _Deck) -> None:
    rng = deck.rng
    deck.fill(deck.shade(DECKS[rng.integers(len(DECKS))]))
    deck.box(0.27, 0.86, -0.66, 0.66, deck.shade((128, 140, 148), 0.15), 0.5)
    for u in np.arange(0.33, 0.84, 0.08):
        deck.box(float(u), float(u) + 0.01, -0.66, 0.66, deck.rim)
    deck.bridge(0.08, depth=0.13)


def _naval(deck: _Deck) -> None:
    deck.fill(deck.shade((118, 116, 110)))
    deck.rim = (90, 88, 84)
    grey = deck.shade((140, 140, 136))
    deck.box(0.03, 0.2, -0.7, 0.7, (92, 92, 90))
    deck.disc(0.11, 0.0, 0.22 * deck.ship.beam, (140, 142, 142))
    deck.box(0.26, 0.42, -0.62, 0.62, grey, 1.2)
    deck.box(0.47, 0.68, -0.7, 0.7, grey, 1.6)
    deck.box(0.52, 0.6, -0.35, 0.35, deck.shade((168, 168, 164)), 1.0)
    deck.disc(0.79, 0.0, 0.14 * deck.ship.beam, (100, 100, 98))


PAINT: dict[str, Callable[[_Deck], None]] = {
    "tanker": _tanker,
    "bulker": _bulker,
    "container": _container,
    "ferry": _ferry,
    "barge": _barge,
    "boat": _boat,
    "coaster": _coaster,
    "naval": _naval,
}
SMALL = ("boat", "boat", "boat", "barge")
MIDDLE = ("coaster", "coaster", "coaster", "barge", "boat", "boat", "naval", "ferry", "bulker", "bulker", "tanker")
LARGE = (
    *("tanker", "tanker", "tanker", "bulker", "bulker", "bulker", "container", "container", "container"),
    *("coaster", "ferry", "barge", "naval"),
)

"""Random generator -> a satellite image of the sea with ships on it, and each ship's hull as a mask."""

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from segsmith.data.scenes.fields import Field, fractal, ramp
from segsmith.data.scenes.hulls import FINER, Ship, beam_and_kind, outline, paint_deck, ship_size
from segsmith.data.scenes.sea import (
    Berth,
    Clouds,
    Colour,
    Pixels,
    Sea,
    blend,
    draw_clouds,
    draw_coast,
    draw_harbour,
    draw_litter,
    draw_sea,
    sense,
)
from segsmith.types import ClassMask

Where = tuple[slice, slice]

SMALLEST = 30
"""Pixels; of what shows less than this nobody would have made a label."""


# Kind of clouds, its share of the empty scenes, and of those whose ships someone could still see and label.
SKIES: tuple[tuple[Clouds, float, float], ...] = (
    ("haze", 0.10, 0.03),
    ("deck", 0.08, 0.0),
    ("cumulus", 0.07, 0.05),
    ("wisps", 0.14, 0.10),
)


def draw_scene(rng: np.random.Generator, size: int, *, empty: bool) -> tuple[Pixels, list[ClassMask]]:
    """A (size, size, 3) blue-green-red image and one (size, size) mask per ship, none overlapping another.

    An `empty` scene has no ship but may hold land, clouds, rocks, a wake whose ship has left the image. One that
    is not holds at least one ship, in about six of ten cases only one, else 2 to 10, each showing at least
    SMALLEST pixels. Pixels are about 1.5 m wide.
    """
    sea = draw_sea(rng, size)
    image, land, berths = sea.image, np.zeros((size, size), np.float32), list[Berth]()
    count = 0 if empty else 1 if rng.random() < 0.6 else 2 + int(9 * rng.random() ** 2)
    place = rng.random()
    if place < (0.04 if count == 1 else 0.3 if count else 0.05):
        land, berths = draw_harbour(rng, image)
    elif place < (0.12 if count == 1 else 0.5 if count else 0.25):
        land = draw_coast(rng, image, rng.uniform(0.05, 0.4 if count else 0.9))
    elif place < (0.15 if count == 1 else 0.55 if count else 0.3):
        land = draw_coast(rng, image, rng.uniform(0.01, 0.08), islands=True)
    draw_litter(rng, image, land)
    sun = rng.uniform(0, math.tau)
    shadow_xy = (math.cos(sun), math.sin(sun))
    masks = _draw_ships(rng, sea, land, berths, count, shadow_xy)
    if empty and rng.random() < 0.06:
        _draw_passed(rng, image)
    sky = rng.random()
    for kind, over_empty, over_ships in SKIES:
        share = over_ships if count else over_empty
        if sky < share:
            draw_clouds(rng, image, shadow_xy, kind, _near(masks, size))
            break
        sky -= share
    return sense(rng, image), masks


def draw_moored_scene(rng: np.random.Generator, size: int) -> tuple[Pixels, list[ClassMask]]:
    """A harbour, as `draw_scene` draws scenes, with one to three groups of two to six ships made fast to one another:
    side by side, bow to stern. Their hulls share borders without a pixel of background between, and overlap nowhere.
    """
    sea = draw_sea(rng, size)
    land = draw_harbour(rng, sea.image)[0] if rng.random() < 0.5 else np.zeros((size, size), np.float32)
    sun = rng.uniform(0, math.tau)
    shadow_xy = (math.cos(sun), math.sin(sun))
    hidden, blocked = land.copy(), land > 0.3
    masks: list[ClassMask] = []
    groups = 1 + int(3 * rng.random())
    for attempt in range(1000):
        if groups == 0 or (masks and attempt > 40):
            break
        group = [(ship, *_cover(ship, size)) for ship in _made_fast(rng, size)]
        if any((cover >= 0.5).sum() < SMALLEST or ((cover > 0) & blocked[at]).any() for _, cover, at in group):
            continue
        groups -= 1
        taken = np.zeros((size, size), bool)
        for ship, cover, where in group:
            hull = np.zeros((size, size), bool)
            hull[where] = cover >= 0.5
            _draw_ship(rng, sea, ship, cover, where, hidden, shadow_xy)
            hidden[where] = np.maximum(hidden[where], cover)
            masks.append(hull & ~taken)
            taken |= hull
        blocked |= cv2.dilate(taken.view(np.uint8), np.ones((3, 3))).astype(bool)
    return sense(rng, sea.image), masks


def _near(masks: list[ClassMask], size: int) -> Field:
    """1 at the ships, fading to 0 some 20 pixels off."""
    coarse = np.zeros((size // 8 + 1, size // 8 + 1), np.float32)
    for mask in masks:
        y, x = np.nonzero(mask)
        coarse[y // 8, x // 8] = 1.0
    coarse = ramp(cv2.GaussianBlur(coarse, (0, 0), 1.7), 0.0, 0.4)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)


# ---- where ships lie ------------------------------------------------------------------------------------------------


def _draw_ships(
    rng: np.random.Generator,
    sea: Sea,
    land: Field,
    berths: list[Berth],
    count: int,
    shadow_xy: tuple[float, float],
) -> list[ClassMask]:
    """Find places for `count` ships, at times for fewer, and draw them in place; each one's hull."""
    size = land.shape[0]
    hidden = land.copy()
    blocked = land > 0.3
    placed: list[Ship] = []
    masks: list[ClassMask] = []
    # Ships at anchor swing with the same wind and current.
    swing = rng.uniform(0, math.tau) if count > 1 and rng.random() < 0.5 else None
    for attempt in range(1000):
        if len(masks) == count or (masks and attempt > 40 * count):
            break
        if berths and rng.random() < 0.7:
            ship = _moored(rng, berths[rng.integers(len(berths))], size)
        elif placed and rng.random() < 0.25:
            ship = _alongside(rng, placed[-1])
        else:
            ship = _at_sea(rng, size, swing)
        cover, where = _cover(ship, size)
        if (cover >= 0.5).sum() < SMALLEST or ((cover > 0) & blocked[where]).any():
            continue
        _draw_ship(rng, sea, ship, cover, where, hidden, shadow_xy)
        hull = np.zeros((size, size), bool)
        hull[where] = cover >= 0.5
        hidden[where] = np.maximum(hidden[where], cover)
        # A strip of water stays between two ships, or nobody could tell them apart.
        blocked |= cv2.dilate(hull.astype(np.uint8), np.ones((3, 3))).astype(bool)
        placed.append(ship)
        masks.append(hull)
    return masks


def _at_sea(rng: np.random.Generator, size: int, swing: float | None) -> Ship:
    length, beam, kind = ship_size(rng, size)
    heading = rng.uniform(0, math.tau) if swing is None else swing + rng.normal(0, 0.12)
    # Fast boats draw the brightest wakes; tugs, barges and ships at anchor none.
    moving = rng.random() < (0.75 if kind == "boat" else 0.1 if kind == "barge" else 0.45) and swing is None
    x, y = rng.uniform(0.02, 0.98, 2) * size
    return Ship(float(x), float(y), heading, length, beam, kind, rng.uniform(0.3, 1.0) if moving else 0.0)


def _moored(rng: np.random.Generator, berth: Berth, size: int) -> Ship:
    length, beam, kind = ship_size(rng, size)
    along = rng.uniform(-60, 60)
    off = beam / 2 + 1.5
    x = berth.xy[0] + along * math.cos(berth.heading) + off * berth.away_xy[0]
    y = berth.xy[1] + along * math.sin(berth.heading) + off * berth.away_xy[1]
    return Ship(x, y, berth.heading + math.pi * int(rng.integers(2)), length, beam, kind)


def _alongside(rng: np.random.Generator, other: Ship) -> Ship:
    """A second one made fast to the first: barges in a row, a tanker and her bunker boat."""
    scale = rng.uniform(0.4, 1.0) if other.length > 40 else 1.0
    length, beam = other.length * scale, max(other.beam * scale, 4.0)
    off = (other.beam + beam) / 2 + 1.5
    along = rng.uniform(-0.2, 0.2) * other.length
    x = other.x + along * math.cos(other.heading) - off * math.sin(other.heading)
    y = other.y + along * math.sin(other.heading) + off * math.cos(other.heading)
    return Ship(x, y, other.heading, length, beam, other.kind if scale == 1.0 else "barge")


def _made_fast(rng: np.random.Generator, size: int) -> list[Ship]:
    """Two to six ships in rows and files, all along one heading; hulls overlap by a third of a pixel, so that no water
    shows between them."""
    rows, files = [(2, 1), (3, 1), (1, 2), (1, 3), (2, 2), (3, 2)][int(6 * rng.random())]
    heading = rng.uniform(0, math.tau)
    longest = rng.uniform(0.16, 0.34) * size
    x, y = rng.uniform(0.1, 0.9, 2) * size
    ships = []
    off = 0.0
    for row in range(rows):
        along, widest = 0.0, 0.0
        for file in range(files):
            length = max(14.0, longest * rng.uniform(0.75, 1.0))
            beam, kind = beam_and_kind(rng, length)
            ahead = along + (length / 2 if file else 0)
            side = off + (beam / 2 if row else 0)
            turned = math.pi * (files == 1 and rng.random() < 0.4)
            at = _turned((ahead, side), heading)
            ships.append(Ship(x + at[0], y + at[1], heading + turned, length, beam, kind))
            along = ahead + length / 2 - 0.3
            widest = max(widest, side + beam / 2 - 0.3)
        off = widest
    return ships


# ---- ship -> pixels -------------------------------------------------------------------------------------------------


def _to_image(ship: Ship) -> NDArray[np.float64]:
    """The 2x3 matrix from the ship's own pixels to the image's."""
    c, s = math.cos(ship.heading), math.sin(ship.heading)
    return np.array([[c, -s, ship.x], [s, c, ship.y]])


def _within(points: NDArray[np.floating], size: int) -> Where:
    """Rows and columns of the image that hold all `points` (n, 2), x first; empty if none lie in it."""
    x0, y0 = np.clip(np.floor(points.min(0)).astype(int) - 1, 0, size).tolist()
    x1, y1 = np.clip(np.ceil(points.max(0)).astype(int) + 2, 0, size).tolist()
    return slice(y0, y1), slice(x0, x1)


def _cover(ship: Ship, size: int) -> tuple[Field, Where]:
    """How much of each pixel the hull covers, 0 to 1, in the part of the image that it touches, and where that is."""
    at = _to_image(ship)
    points = outline(ship) @ at[:, :2].T + at[:, 2]
    where = _within(points, size)
    height, width = where[0].stop - where[0].start, where[1].stop - where[1].start
    if not height or not width:
        return np.zeros((height, width), np.float32), where
    fine = np.zeros((height * FINER, width * FINER), np.float32)
    # Pixel 0 is centred at 0, in the image as on the finer canvas.
    inside = (points - (where[1].start, where[0].start) + 0.5) * FINER - 0.5
    cv2.fillPoly(fine, [np.round(inside * 16).astype(np.int32)], 1.0, cv2.LINE_8, 4)
    return np.asarray(cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA), np.float32), where


def _draw_ship(
    rng: np.random.Generator,
    sea: Sea,
    ship: Ship,
    cover: Field,
    where: Where,
    hidden: Field,
    shadow_xy: tuple[float, float],
) -> None:
    """Draw wake, shadow and ship in place; where `hidden` (height, width) is 1, something lies on top."""
    image, water = sea.image, sea.mood.water
    if ship.wake > 0:
        _draw_wake(rng, image, ship, hidden)
    elif rng.random() < 0.35:
        _draw_lee(rng, sea, ship, hidden)
    height = min(0.28 * ship.beam, 7.0) * rng.uniform(0.5, 1.2)
    moved = replace(ship, x=ship.x + height * shadow_xy[0], y=ship.y + height * shadow_xy[1])
    shadow, below = _cover(moved, image.shape[0])
    dark = (water[0] * 0.3, water[1] * 0.3, water[2] * 0.3)
    blend(image[below], dark, shadow * rng.uniform(0.4, 0.8) * (1.0 - hidden[below]))
    # Two pixels of deck beyond the hull, so that no border shows.
    wide, high = (int(length + 4) * FINER for length in (ship.length, ship.beam))
    deck = paint_deck(rng, ship, wide, high, _turned(shadow_xy, -ship.heading)) * np.float32(rng.uniform(0.85, 1.25))
    # Far, hazy or wet ships show a little of the water's colour.
    faint = rng.uniform(0, 0.3) ** 1.5
    deck += np.float32(faint) * (np.asarray(water, np.float32) - deck)
    deck = cv2.GaussianBlur(deck, (0, 0), 0.45 * FINER).astype(np.float32)
    shrink = np.array([[1, 0, 0.5 - wide / 2], [0, 1, 0.5 - high / 2], [0, 0, FINER]]) / FINER
    at = _to_image(ship) @ shrink
    at[:, 2] -= (where[1].start, where[0].start)
    seen = cv2.warpAffine(deck, at, cover.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    blend(image[where], np.asarray(seen, np.float32), cover * (1.0 - hidden[where]))


def _lay(image: Field, colour: Colour, alpha: Field, at: NDArray[np.float64], hidden: Field) -> None:
    """Lay `colour` over `image` in place, as strong as `alpha`, which the affine `at` takes to the image."""
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * (alpha.shape[1], alpha.shape[0])
    where = _within(corners @ at[:, :2].T + at[:, 2], image.shape[0])
    height, width = image[where].shape[:2]
    if height and width:
        local = at.copy()
        local[:, 2] -= (where[1].start, where[0].start)
        laid = np.asarray(cv2.warpAffine(alpha, local, (width, height)), np.float32)
        blend(image[where], colour, laid * (1.0 - hidden[where]))


def _turned(xy: tuple[float, float], angle: float) -> tuple[float, float]:
    c, s = math.cos(angle), math.sin(angle)
    return c * xy[0] - s * xy[1], s * xy[0] + c * xy[1]


def _draw_wake(rng: np.random.Generator, image: Field, ship: Ship, hidden: Field) -> None:
    """Foam along the sides, the churned water astern, and the arms of the Kelvin wake."""
    astern = min(ship.length * rng.uniform(1.2, 5.0) * (0.4 + ship.wake), 500.0)
    wide = int(ship.length + astern)
    arm = math.tan(math.radians(rng.uniform(8, 17)))
    high = 2 * int(min(wide * arm + ship.beam, 220.0))
    # x runs from the end of the wake to the bow, y across.
    back = (wide - np.arange(wide, dtype=np.float32))[None, :]
    off = np.abs(np.arange(high, dtype=np.float32) + 0.5 - high / 2)[:, None]
    behind = np.maximum(back - ship.length, 0)
    fade = np.exp(-behind / (0.35 * astern)) * ramp(np.asarray(wide - back, np.float32), 0.0, astern * 0.2)
    streaks = fractal(rng, (high, wide), slope=0.8, longest=14.0, stretch=3.0)
    churned = ramp(back, ship.length * 0.96, ship.length * 1.02) * np.exp(
        -np.square(off / (0.32 * ship.beam + 0.035 * behind))
    )
    half = 0.5 * ship.beam * np.minimum(1.0, back / (0.2 * ship.length)) ** 0.7
    bow = np.exp(-np.maximum(off - half, 0) / (0.6 + 0.06 * np.minimum(back, ship.length))) * (back < ship.length)
    ridge = (off - half - arm * np.maximum(back - 0.1 * ship.length, 0)) / (1.0 + 0.012 * back)
    arms = np.exp(-np.square(ridge)) * np.exp(-back / (0.5 * astern))
    fast = 1.3 if ship.kind == "boat" else 1.0
    foam = fast * churned * fade * (0.75 + 0.35 * streaks)
    foam += bow * (0.35 + 0.45 * streaks) * fast * 0.9
    foam += arms * rng.uniform(0.05, 0.35) * (0.5 + 0.8 * streaks)
    alpha = np.asarray(np.clip(foam * (0.35 + 0.65 * ship.wake), 0, 0.93), np.float32)
    at = _to_image(ship) @ np.array([[1, 0, ship.length / 2 - wide], [0, 1, -high / 2], [0, 0, 1]])
    _lay(image, (222, 224, 218), alpha, at, hidden)


def _draw_lee(rng: np.random.Generator, sea: Sea, ship: Ship, hidden: Field) -> None:
    """The calm, dark water that a ship at anchor leaves on the side away from the wind."""
    long, wide = int(ship.length * rng.uniform(0.9, 1.6)), int(ship.beam * rng.uniform(1.5, 4))
    if long < 12 or wide < 12:
        return
    x = np.linspace(-1, 1, long, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, wide, dtype=np.float32)[:, None]
    edge = fractal(rng, (wide, long), slope=1.6, longest=long / 2, stretch=2.0)
    alpha = ramp(1.0 - x * x - y * y + 0.25 * edge, 0.0, 0.9) * np.float32(rng.uniform(0.25, 0.6))
    water = sea.mood.water
    calm = (water[0] * 0.72, water[1] * 0.72, water[2] * 0.72)
    side = rng.choice([-1, 1])
    at = _to_image(ship) @ np.array(
        [[1, 0, rng.uniform(-0.7, -0.3) * long], [0, 1, side * wide * 0.35 - wide / 2], [0, 0, 1]]
    )
    _lay(sea.image, calm, alpha, at, hidden)


def _draw_passed(rng: np.random.Generator, image: Field) -> None:
    """A wake that ends at the border: its ship has left the image, so nothing here is a ship."""
    size = image.shape[0]
    length = rng.uniform(16, 60)
    heading = rng.uniform(0, math.tau)
    # From a point inside along the heading until the whole ship is outside.
    x, y = rng.uniform(0.25, 0.75, 2) * size
    while -length < x < size + length and -length < y < size + length:
        x, y = x + 4 * math.cos(heading), y + 4 * math.sin(heading)
    ghost = Ship(float(x), float(y), heading, length, length / 4, "boat", 1.0)
    _draw_wake(rng, image, ghost, np.zeros((size, size), np.float32))

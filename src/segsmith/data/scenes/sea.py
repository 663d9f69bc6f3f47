"""Random generator -> what a satellite sees without ships: sea, sky, coast, harbour, rocks; and the sensor."""

import math
from typing import Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from segsmith.data.scenes.fields import (
    Field,
    drift,
    energies,
    enlarge,
    fractal,
    frequencies,
    level_above,
    ramp,
    shaped_noise,
)

Pixels = UInt8[np.ndarray, "height width 3"]
"""Blue, green, red, as OpenCV has them."""
Colour = tuple[float | int, float | int, float | int]
"""Blue, green, red; 0 to 255."""


class Mood(NamedTuple):
    """One weather and one water."""

    water: Colour
    contrast: float
    """Standard deviation of the waves in grey levels."""
    longest: float
    """Wavelength of the highest waves in pixels."""
    share: float


MOODS = (
    Mood((44, 22, 8), 4.5, 14.0, 0.10),  # navy, far out
    Mood((74, 47, 26), 5.0, 9.0, 0.14),  # deep blue
    Mood((52, 48, 12), 5.0, 8.0, 0.14),  # dark teal
    Mood((73, 66, 18), 4.5, 8.0, 0.10),  # teal
    Mood((58, 60, 36), 6.5, 9.0, 0.12),  # green
    Mood((103, 89, 63), 7.0, 12.0, 0.10),  # blue-grey under thin haze
    Mood((112, 120, 92), 7.0, 9.0, 0.09),  # sediment
    Mood((103, 107, 67), 22.0, 12.0, 0.06),  # half into the sun
    Mood((116, 117, 110), 20.0, 9.0, 0.08),  # sun glint
    Mood((142, 143, 137), 25.0, 16.0, 0.07),  # strong sun glint, swell
)


class Sea(NamedTuple):
    image: Field
    """(size, size, 3), blue green red, 0 to 255 and a little beyond."""
    mood: Mood


class Berth(NamedTuple):
    """A place alongside a quay: the middle of the ship's near side, the quay's direction, the water's side."""

    xy: tuple[float, float]
    heading: float
    away_xy: tuple[float, float]


def spread(field: Field) -> Field:
    """The same field for blue, green and red: (height, width, 3)."""
    return np.asarray(cv2.merge([field, field, field]), np.float32)


def blend(image: Field, colour: Colour | Field, alpha: Field) -> None:
    """Lay `colour` over `image` in place, `alpha` (height, width) 0 to 1."""
    if not alpha.size:
        return
    # NumPy walks a broadcast over three channels pixel by pixel; OpenCV's scalars and full arrays are far faster.
    layer = cv2.subtract((*colour, 0.0) if isinstance(colour, tuple) else colour, image)
    layer *= spread(alpha)
    image += layer


# ---- water ----------------------------------------------------------------------------------------------------------


def draw_sea(rng: np.random.Generator, size: int) -> Sea:
    """Water in one of the moods, with wind waves, swell, gusts, slicks and sometimes whitecaps."""
    mood = MOODS[rng.choice(len(MOODS), p=[m.share for m in MOODS])]
    hw = (size, size)
    wind = rng.uniform(0, math.tau)
    waves = shaped_noise(rng, _wave_spectrum(rng, size, mood.longest * rng.uniform(0.7, 1.5), wind))
    # All that varies slowly is worked out on the coarse grid and enlarged once.
    strength = mood.contrast * rng.uniform(0.85, 1.45) * (1.0 + 0.22 * drift(rng, hw, longest=size / 2))
    across = np.linspace(-1, 1, strength.shape[0], dtype=np.float32)
    slope_x, slope_y = rng.normal(0.0, 0.05, 2).tolist()
    tone = 1.0 + 0.03 * drift(rng, hw, longest=float(size)) + slope_x * across[None, :] + slope_y * across[:, None]
    # Plankton and sand in the drift turn the water greener; where the sky is mirrored nobody sees that.
    green = enlarge(tone + (0.15 / mood.contrast) * drift(rng, hw, longest=float(size)), hw)
    tone, strength = enlarge(tone, hw), enlarge(strength, hw)
    if rng.random() < 0.3:
        # Surface films calm the small waves along winding bands.
        line = fractal(rng, hw, slope=2.2, longest=size / 3, shortest=24.0, stretch=2.5, angle=wind)
        here = enlarge(ramp(drift(rng, hw, longest=size / 2), -0.2, 0.8), hw)
        film = cv2.exp(-np.square(line / 0.07)) * here
        strength *= 1.0 - 0.5 * film
        tone -= 0.025 * film
        green -= 0.025 * film
    # Crests mirror the sky more than troughs hide it: the brighter side of the histogram is the longer one.
    light = strength * (waves + 0.12 * np.square(waves))
    foam = rng.uniform(0.0, 1.0) ** 2
    if foam > 0.25 and mood.contrast < 15:
        gusts = enlarge(ramp(drift(rng, hw, longest=size / 3), -0.5, 1.5), hw)
        light += cv2.GaussianBlur(ramp(waves, 3.7 - 0.8 * foam, 4.4) * gusts, (0, 0), 0.8) * np.float32(220)
    blue_green_red = np.asarray(mood.water) * rng.normal(1.0, 0.07) * rng.normal(1.0, 0.025, 3)
    water: Colour = tuple(blue_green_red.tolist())
    colours = np.array([[water[0], 0, 1.0], [0, water[1], 1.0], [water[2], 0, 0.95]])
    image = np.asarray(cv2.transform(cv2.merge([tone, green, light]), colours), np.float32)
    return Sea(image, mood._replace(water=water))


def _wave_spectrum(rng: np.random.Generator, size: int, longest: float, wind: float) -> Field:
    """Amplitudes of the surface's slope: a wind sea around one direction, and at times a swell from afar.

    The wind sea follows Phillips: a power of the frequency, cut off below the longest wave, its energy spread
    as a power of the cosine around the wind. A camera's pixel averages the shortest ripples away.
    """
    fx, fy = frequencies(size, size)
    energy = energies(size, size)
    cosine = np.square(fx * math.cos(wind) + fy * math.sin(wind)) / energy
    exponent = -(longest**-2) / energy - cv2.log(energy) * rng.uniform(0.1, 0.4) - energy * 4.0
    amplitude = cv2.exp(exponent) * (rng.uniform(0.3, 0.8) + cosine)
    total = cv2.norm(amplitude)
    for _ in range(int(rng.choice(3, p=[0.5, 0.4, 0.1]))):
        length, way = rng.uniform(12, 40), wind + rng.normal(0, 0.6)
        sharp = -0.5 * (length / rng.uniform(0.15, 0.4)) ** 2
        at_x, at_y = math.cos(way) / length, math.sin(way) / length
        # Half of the plane is kept, and the lobe must lie in it.
        side = math.copysign(1.0, at_x)
        lobe = cv2.exp((np.square(fx - side * at_x) + np.square(fy - side * at_y)) * sharp)
        amplitude += lobe * (math.sqrt(rng.uniform(0.01, 0.07)) * total / cv2.norm(lobe))
    return np.asarray(amplitude, np.float32)


# ---- clouds and the sensor ------------------------------------------------------------------------------------------


Clouds = Literal["wisps", "cumulus", "deck", "haze"]
"""Thin streaks, heaps with shadows, a thick layer over much of the image, a veil over all of it."""


def draw_clouds(
    rng: np.random.Generator, image: Field, shadow_xy: tuple[float, float], kind: Clouds, clear: Field
) -> None:
    """Lay clouds over `image` in place.

    `clear` (height, width) 0 to 1 thins them out where something has to stay visible.
    """
    size = image.shape[0]
    hw, half = (size, size), (size // 2, size // 2)
    if kind == "haze":
        veil = np.asarray((150, 147, 128), np.float32) * rng.normal(1.0, 0.06) * rng.normal(1.0, 0.04, 3)
        # An opening in haze would be no haze: where something must stay visible, all of it is thinner.
        most = 0.6 if clear.any() else 0.96
        thick = rng.uniform(0.5, 0.97) * most + 0.05 * enlarge(drift(rng, hw, longest=size / 2), hw)
        billows = cv2.add(spread(enlarge(drift(rng, hw, longest=size / 3) * 4.0, hw)), (*veil.tolist(), 0.0))
        blend(image, billows, np.clip(thick, 0, most))
        return
    if kind == "wisps":
        angle = rng.uniform(0, math.pi)
        density = fractal(rng, half, slope=1.7, longest=size / 6, stretch=rng.uniform(1.2, 3.0), angle=angle)
        bottom = level_above(density, rng.uniform(0.08, 0.35))
        alpha, deep = ramp(density, bottom, bottom + 2.2) * rng.uniform(0.4, 0.9), 0.15
    else:
        density = fractal(rng, half, slope=1.9, longest=size / (8 if kind == "cumulus" else 3))
        bottom = level_above(density, rng.uniform(0.04, 0.2) if kind == "cumulus" else rng.uniform(0.35, 0.9))
        alpha, deep = ramp(density, bottom, bottom + rng.uniform(0.5, 1.1)), 0.5
    alpha = cv2.resize(alpha, hw, interpolation=cv2.INTER_LINEAR) * (1.0 - clear)
    lit = cv2.resize(density - np.roll(density, (3, 3), (0, 1)), hw, interpolation=cv2.INTER_LINEAR)
    far = rng.uniform(25, 90)
    move = np.asarray([[1, 0, far * shadow_xy[0]], [0, 1, far * shadow_xy[1]]], np.float32)
    below = cv2.warpAffine(alpha, move, hw, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    image *= spread(1.0 - deep * cv2.GaussianBlur(below, (0, 0), 4) * (1.0 - clear))
    white = rng.uniform(195, 245) + 14.0 * lit
    blend(image, cv2.merge([white + 3.0, white, white - 4.0]), alpha)


def sense(rng: np.random.Generator, image: Field) -> Pixels:
    """The way through air and camera: a thin veil, blur, noise, the provider's sharpening; uint8."""
    size = image.shape[0]
    veil = rng.uniform(0.0, 0.07)
    seen = cv2.convertScaleAbs(image, alpha=1 - veil, beta=110 * veil)
    seen = cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.55, 0.95))
    # Noise is mostly of one colour, with a little tint; 128 in the middle.
    grey, tint = (rng.integers(0, 256, (size, size), np.uint8) for _ in range(2))
    grain = cv2.merge([cv2.addWeighted(grey, 0.8, tint, part, 128 * (0.2 - part)) for part in (0.2, 0.0, -0.2)])
    strength = rng.uniform(0.025, 0.07)
    seen = cv2.addWeighted(seen, 1.0, cv2.GaussianBlur(grain, (0, 0), 0.75), strength, -128 * strength)
    amount = rng.uniform(0.5, 1.1)
    sharp = cv2.addWeighted(seen, 1 + amount, cv2.GaussianBlur(seen, (0, 0), 1.3), -amount, 0)
    return np.asarray(sharp, np.uint8)


# ---- land -----------------------------------------------------------------------------------------------------------


class Biome(NamedTuple):
    ground: tuple[Colour, ...]
    wood: Colour
    sand: Colour
    shallow: Colour


BIOMES = (
    Biome(
        ((62, 98, 88), (74, 122, 112), (58, 86, 70), (98, 140, 150), (84, 112, 138), (66, 110, 92)),
        (36, 58, 42),
        (140, 168, 182),
        (112, 122, 84),
    ),
    Biome(
        ((128, 160, 182), (112, 146, 172), (144, 172, 190), (120, 150, 168), (100, 130, 152)),
        (92, 118, 122),
        (160, 190, 206),
        (150, 158, 98),
    ),
    Biome(
        ((46, 78, 54), (52, 92, 66), (44, 72, 52), (62, 104, 84), (78, 112, 140)),
        (34, 58, 38),
        (170, 192, 202),
        (156, 150, 72),
    ),
    Biome(((84, 96, 102), (96, 108, 112), (74, 86, 90)), (60, 78, 72), (120, 130, 134), (84, 82, 52)),
)


def draw_coast(rng: np.random.Generator, image: Field, share: float, *, islands: bool = False) -> Field:
    """Draw land over about `share` of `image` in place, with shallows, surf and beach; where land is, 0 to 1.

    Either one coast through the image, or islands and rocks.
    """
    size = image.shape[0]
    hw = (size, size)
    if islands:
        height = fractal(rng, hw, slope=2.4, longest=size / 4, shortest=3.0)
    else:
        way = rng.uniform(0, math.tau)
        across = np.linspace(-2.5, 2.5, size, dtype=np.float32)
        height = fractal(rng, hw, slope=2.3, longest=size / 3, shortest=3.0) * rng.uniform(0.3, 0.9)
        height += across[None, :] * math.cos(way) + across[:, None] * math.sin(way)
    inside = (height > level_above(height, share)).astype(np.uint8)
    shore = cv2.distanceTransform(inside, cv2.DIST_L2, 3) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)
    rough = fractal(rng, hw, slope=1.0, longest=40.0)
    shore = cv2.GaussianBlur(shore, (0, 0), 1.0) + 0.5 * rough
    biome = BIOMES[rng.integers(len(BIOMES))]
    land = ramp(shore, -0.7, 0.7)
    depth = rng.uniform(12, 45)
    blend(image, biome.shallow, np.exp(np.minimum(shore + 4.0 * rough, 0) / depth) * np.float32(0.7))
    surf = np.exp(-(((shore + 2.5) / 1.6) ** 2)) + 0.7 * np.exp(-(((shore + 9.0 + 2.0 * rough) / 1.5) ** 2))
    blend(image, (225, 228, 226), np.clip(surf * ramp(rough, -0.4, 1.4), 0, 1) * np.float32(rng.uniform(0.2, 0.9)))
    ground = _ground(rng, size, biome, rough)
    beach = ramp(shore, 2.0, 3.0 + rng.uniform(3, 14)) if rng.random() < 0.7 else ramp(shore, 0.5, 3.0)
    blend(ground, biome.sand, np.asarray(1.0 - beach, np.float32))
    blend(image, ground, land)
    return land


def _ground(rng: np.random.Generator, size: int, biome: Biome, rough: Field) -> Field:
    """Parcels, woods, villages and roads as seen from above, (size, size, 3)."""
    side = int(size * 1.45)
    canvas = np.zeros((side, side, 3), np.uint8)
    smallest = int(rng.uniform(40, 110))
    todo = [(0, 0, side, side)]
    while todo:
        x0, y0, x1, y1 = todo.pop()
        width, height = x1 - x0, y1 - y0
        longer = max(width, height)
        if longer > smallest * 3 or (longer > smallest and rng.random() < 0.75):
            cut = int(longer * rng.uniform(0.3, 0.7))
            if width >= height:
                todo += [(x0, y0, x0 + cut, y1), (x0 + cut, y0, x1, y1)]
            else:
                todo += [(x0, y0, x1, y0 + cut), (x0, y0 + cut, x1, y1)]
            continue
        colour = np.asarray(biome.ground[rng.integers(len(biome.ground))]) * rng.normal(1, 0.08)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), colour.tolist(), -1)
        if rng.random() < 0.5:
            edge = (colour * rng.choice([0.7, 1.25])).tolist()
            cv2.rectangle(canvas, (x0, y0), (x1, y1), edge, 1)
        if rng.random() < 0.07:
            _houses(rng, canvas, (x0 + 2, y0 + 2, x1 - 2, y1 - 2))
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(0, 90), 1.0)
    turn[:, 2] -= (side - size) / 2
    ground = np.asarray(cv2.warpAffine(canvas, turn, (size, size), borderMode=cv2.BORDER_REFLECT), np.float32)
    trees = fractal(rng, (size, size), slope=1.5, longest=90.0)
    blend(ground, biome.wood, ramp(trees, rng.uniform(-0.2, 1.2), 1.6) * np.float32(0.9))
    # Crowns, furrows and stones: shading that no parcel explains.
    ground *= spread(1.0 + 0.09 * np.roll(rough, size // 2, 1))
    return ground


ROOFS = ((178, 176, 172), (150, 152, 154), (96, 110, 150), (120, 124, 130), (205, 205, 202), (120, 100, 84))


def _houses(rng: np.random.Generator, canvas: Pixels, box_xyxy: tuple[int, int, int, int], step: int = 11) -> None:
    """Roofs on a loose grid, each with its shadow."""
    x0, y0, x1, y1 = box_xyxy
    places = [(x, y) for y in range(y0, y1 - step, step) for x in range(x0, x1 - step, step)]
    sizes = rng.integers(step // 2, step - 1, (len(places), 2)).tolist()
    roofs = np.asarray(ROOFS)[rng.integers(len(ROOFS), size=len(places))] * rng.normal(1, 0.08, (len(places), 1))
    for (x, y), (width, height), roof, built in zip(
        places, sizes, roofs.tolist(), rng.random(len(places)) < 0.6, strict=True
    ):
        if built:
            cv2.rectangle(canvas, (x + 2, y + 2), (x + width + 2, y + height + 2), (42, 44, 46), -1)
            cv2.rectangle(canvas, (x, y), (x + width, y + height), roof, -1)


def draw_harbour(rng: np.random.Generator, image: Field) -> tuple[Field, list[Berth]]:
    """Draw a quay with piers over one side of `image` in place; where land is, 0 to 1, and berths along it."""
    size = image.shape[0]
    side = int(size * 1.5)
    paving = np.empty((side, side, 3), np.uint8)
    paving[:] = np.asarray((142, 148, 152)) * rng.uniform(0.75, 1.15) * rng.normal(1, 0.015, 3)
    solid = np.zeros((side, side), np.float32)
    front = int(side * rng.uniform(0.3, 0.42))
    solid[:front] = 1.0
    berths: list[tuple[float, float, float, float, float]] = []  # x, y of the quay's edge; direction; away x, y
    x = int(rng.uniform(0.16, 0.3) * side)
    quay_from = int(0.1 * side)
    if rng.random() < 0.3:
        # No piers, one long quay.
        berths += [(side * part, front, 0.0, 0, 1) for part in (0.3, 0.45, 0.6, 0.75)]
        x = side
    while x < side * 0.85:
        width, reach = int(rng.uniform(14, 46)), front + int(rng.uniform(0.12, 0.3) * side)
        solid[front:reach, x : x + width] = 1.0
        middle = front + (reach - front) * 0.55
        berths += [(x, middle, math.pi / 2, -1, 0), (x + width, middle, math.pi / 2, 1, 0)]
        if x - quay_from > 60:
            berths.append(((x + quay_from) / 2, front, 0.0, 0, 1))
        quay_from = x + width
        x += width + int(rng.uniform(70, 260))
    for y in range(0, front - 30, 34):
        _yard(rng, paving, y, side)
    cv2.rectangle(paving, (0, front - 26), (side, front - 12), (98, 102, 104), -1)
    # Furthest from the water there is a town, or the rest of the country.
    angle = rng.uniform(0, 360)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), angle, 1.0)
    turn[:, 2] -= (side - size) / 2
    land = cv2.GaussianBlur(cv2.warpAffine(solid, turn, (size, size), borderMode=cv2.BORDER_REPLICATE), (0, 0), 0.5)
    rough = fractal(rng, (size, size), slope=1.0, longest=40.0)
    ground = np.asarray(cv2.warpAffine(paving, turn, (size, size), borderMode=cv2.BORDER_REFLECT), np.float32)
    ground *= spread(1.0 + 0.06 * rough)
    # A dark foot: the quay wall, its fenders and its shadow.
    image *= spread(1.0 - 0.5 * cv2.GaussianBlur(land, (0, 0), 2.0))
    blend(image, ground, land)
    linear = turn[:, :2]
    found = []
    for bx, by, heading, away_x, away_y in berths:
        px, py = (turn @ (bx, by, 1.0)).tolist()
        ax, ay = (linear @ (away_x, away_y)).tolist()
        found.append(Berth((px, py), heading - math.radians(angle), (ax, ay)))
    return np.asarray(land, np.float32), found


BOXES = ((60, 66, 150), (150, 110, 60), (190, 190, 186), (70, 120, 170), (92, 120, 80), (120, 124, 128), (60, 90, 160))


def _yard(rng: np.random.Generator, paving: Pixels, y: int, side: int) -> None:
    """One strip of a port: stacked containers, warehouses, or open ground, each with its shadow."""
    x = 0
    while x < side:
        width = int(rng.uniform(24, 110))
        what = rng.random()
        if what < 0.4:
            # Eight rows of boxes, each 7 x 2 pixels with a gap.
            many = width // 8
            boxes = np.asarray(BOXES)[rng.integers(len(BOXES), size=(8, many))] * rng.normal(0.95, 0.1, (8, many, 1))
            stack = boxes.clip(0, 255).repeat(3, axis=0).repeat(8, axis=1)
            stack[2::3], stack[:, 7::8] = 78, 78
            room = paving[y : y + 24, x : x + 8 * many]
            room[:] = stack[:, : room.shape[1]]
        elif what < 0.7:
            roof = np.asarray(ROOFS[rng.integers(len(ROOFS))]) * rng.normal(1, 0.06)
            cv2.rectangle(paving, (x + 4, y + 4), (x + width - 4, y + 28), (50, 52, 54), -1)
            cv2.rectangle(paving, (x + 1, y + 1), (x + width - 8, y + 24), roof.tolist(), -1)
            cv2.line(paving, (x + 1, y + 12), (x + width - 8, y + 12), (roof * 0.8).tolist(), 1)
        elif what < 0.8:
            tone = np.asarray((92, 116, 120)) * rng.normal(1, 0.1)
            cv2.rectangle(paving, (x, y), (x + width, y + 28), tone.tolist(), -1)
        x += width + int(rng.uniform(4, 16))


# ---- things that are not ships --------------------------------------------------------------------------------------


def draw_litter(rng: np.random.Generator, image: Field, land: Field) -> None:
    """Buoys, rocks awash and fish farms, in place and off the land: small bright or dark things that are no ships."""
    size = image.shape[0]
    for _ in range(rng.poisson(1.2)):
        x, y = rng.uniform(0, size, 2).tolist()
        if land[int(y), int(x)] > 0:
            continue
        bright = rng.choice([40.0, 235.0])
        colour = (bright, bright * rng.uniform(0.85, 1), bright * rng.uniform(0.85, 1))
        cv2.circle(image, _fixed(x, y), round(rng.uniform(0.5, 1.4) * 16), colour, -1, cv2.LINE_AA, 4)
    if rng.random() < 0.12:
        _rocks(rng, image, land)
    if rng.random() < 0.08:
        _fish_farm(rng, image, land)


def _fixed(x: float, y: float) -> tuple[int, int]:
    """OpenCV's fixed point with 4 fractional bits."""
    return round(x * 16), round(y * 16)


def _rocks(rng: np.random.Generator, image: Field, land: Field) -> None:
    size = image.shape[0]
    where = enlarge(drift(rng, (size, size), longest=size / 2), (size, size))
    lumps = fractal(rng, (size, size), slope=1.6, longest=16.0, shortest=3.0)
    bare = ramp(lumps, 1.9, 2.3) * ramp(where, 0.7, 1.6) * (1.0 - land)
    foam = ramp(cv2.GaussianBlur(bare, (0, 0), 2.5), 0.05, 0.5)
    blend(image, (215, 218, 214), foam * np.float32(rng.uniform(0.3, 0.8)))
    blend(image, (72, 82, 86), np.asarray(bare, np.float32))


def _fish_farm(rng: np.random.Generator, image: Field, land: Field) -> None:
    size = image.shape[0]
    x0, y0 = rng.uniform(0.1, 0.8, 2) * size
    way, gap, ring = rng.uniform(0, math.tau), rng.uniform(26, 40), rng.uniform(8, 12)
    for column in range(rng.integers(2, 6)):
        for row in range(rng.integers(1, 4)):
            x = x0 + gap * (column * math.cos(way) - row * math.sin(way))
            y = y0 + gap * (column * math.sin(way) + row * math.cos(way))
            if 0 <= x < size and 0 <= y < size and land[int(y), int(x)] == 0:
                layer = image.copy()
                cv2.circle(layer, _fixed(x, y), round(ring * 16), (60, 62, 60), -1, cv2.LINE_AA, 4)
                cv2.addWeighted(layer, 0.35, image, 0.65, 0, image)
                cv2.circle(image, _fixed(x, y), round(ring * 16), (150, 152, 150), 1, cv2.LINE_AA, 4)

"""Random generator -> a section through layered rock as seismic waves show it, and where in it there is salt."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from segsmith.data.scenes.fields import Field, fractal, ramp
from segsmith.types import HW, ClassMask

PATCH = 101
"""Height and width of a patch in pixels."""

GRID = (3, 4)
"""Patches down and across one section."""


def draw_section(rng: np.random.Generator, with_salt: int) -> tuple[NDArray[np.uint8], ClassMask]:
    """A grey section of GRID patches, uint8 (303, 404), and where it is salt, bool of the same shape.

    Exactly `with_salt` of the patches hold salt, anything from a corner to the whole patch, and neighbouring
    patches fit together.
    """
    hw = (GRID[0] * PATCH, GRID[1] * PATCH)
    depth = np.broadcast_to(np.arange(hw[0], dtype=np.float32)[:, None], hw)
    below_sea = depth + 1000.0
    # Patches of water hold no salt, so there must be enough of others.
    if with_salt <= 7 and rng.random() < 0.25:
        # Pixels below the sea floor, which is smooth but for a slope failure here and there.
        floor = rng.uniform(20, 130) + 14.0 * fractal(rng, hw, slope=2.5, longest=250.0, shortest=8.0)[0]
        below_sea = depth - floor.astype(np.float32)
    salt = _salt(rng, depth, below_sea, with_salt)
    inside = salt.astype(np.uint8)
    off = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    if not with_salt:
        off = np.full(hw, -1000.0, np.float32)
    return _shoot(rng, depth, below_sea, cv2.GaussianBlur(off, (0, 0), 1.0).astype(np.float32)), salt


def _salt(rng: np.random.Generator, depth: Field, below_sea: Field, with_salt: int) -> ClassMask:
    """Salt as what rises above a level of a made landscape, the level such that it reaches `with_salt` patches."""
    height, width = depth.shape
    down = depth / height
    lumps = fractal(rng, (height, width), slope=3.2, longest=rng.uniform(180, 420), shortest=4.0)
    kind = rng.random()
    if kind < 0.4:
        # Diapirs: salt rises from below, steep at the flanks.
        upright = fractal(rng, (height, width), slope=3.2, longest=150.0, stretch=2.2, angle=math.pi / 2, shortest=4.0)
        rise = rng.uniform(1.0, 4.0) * down + upright + 0.25 * lumps
    elif kind < 0.7:
        # A sheet between layers, pinching and swelling.
        middle = rng.uniform(0.35, 0.85) + 0.12 * lumps
        rise = 0.6 * fractal(rng, (height, width), slope=2.5, longest=200.0, shortest=4.0) - np.abs(down - middle) * 8.0
    else:
        rise = lumps + rng.uniform(-0.5, 1.5) * down
    rise = rise + 0.03 * fractal(rng, (height, width), slope=1.3, longest=14.0, shortest=3.0)
    # A little ground always lies between the water and the salt.
    rise = np.where(below_sea > 12, rise, -100.0 + 0.01 * down)
    highest = rise.reshape(GRID[0], PATCH, GRID[1], PATCH).max(axis=(1, 3)).ravel()
    levels = np.append(np.sort(highest)[::-1], -np.inf)
    # Strictly above the best patch that has to stay empty; with all to be filled, above nearly nothing.
    level = levels[with_salt] if with_salt < highest.size else levels[-2] - 0.05
    return np.asarray(rise > level)


def _shoot(rng: np.random.Generator, depth: Field, below_sea: Field, off: Field) -> NDArray[np.uint8]:
    """What the waves return: layers bent up along the salt, faults, noise, quiet salt under a strong top.

    `off` is the distance in pixels to the salt's boundary, positive inside.
    """
    hw = depth.shape
    # Pixels between two crests: how far the picture is zoomed in.
    period = math.exp(rng.uniform(math.log(4.5), math.log(17)))
    outside = np.maximum(-off, 0)
    layer = depth * rng.uniform(0.9, 1.1)
    layer = layer + rng.normal(0, 0.15) * np.arange(hw[1], dtype=np.float32)[None, :]
    # Folds wide for their height, and drag less steep than layers are apart: nothing is turned over.
    wide = rng.uniform(60, 160)
    layer += rng.uniform(0.02, 0.13) * wide * fractal(rng, hw, slope=3.0, longest=wide, stretch=2.0, shortest=10.0)
    drag = rng.uniform(20, 80)
    layer += rng.uniform(0, 0.85) * drag * np.exp(-outside / drag)
    for _ in range(int(rng.integers(0, 4))):
        lean, throw = rng.normal(0, 0.5), rng.uniform(0.4, 2.5) * period
        x = rng.uniform(0, hw[1]) + lean * (depth - hw[0] / 2)
        layer += np.where(np.arange(hw[1], dtype=np.float32)[None, :] > x, throw, 0.0).astype(np.float32)
    # Two sequences that take turns sideways: no layer goes on for ever.
    turn = ramp(fractal(rng, hw, slope=2.0, longest=90.0, stretch=3.0, shortest=4.0), -1.2, 1.2)
    rock = turn * _layers(rng, layer, period) + (1 - turn) * _layers(rng, layer, period)
    rough = ramp(fractal(rng, hw, slope=2.0, longest=120.0, shortest=6.0), -0.5, 2.5) + rng.choice(
        [0.1, 0.25, 0.6, 1.2]
    )
    rock = rock + rough * _chaos(rng, hw, period, rng.normal(0, 0.5), rng.uniform(1.5, 4))
    rock /= rock.std()
    # Salt returns little, and what comes from within is mostly streaks of the migration.
    still = 0.12 * _chaos(rng, hw, 1.5 * period, math.pi / 2 + rng.normal(0, 0.4), rng.uniform(1.5, 4))
    still += 0.18 * fractal(rng, hw, slope=2.0, longest=80.0, shortest=4.0)
    murmur = rng.choice([0.0, 0.1, 0.5], p=[0.6, 0.3, 0.1])
    body = rng.uniform(0.5, 1.4) * still + murmur * rock + rng.normal(0, 0.25)
    seen = rock + ramp(off, -1.5, 2.5) * (body - rock)
    # The boundary answers loudest where it faces up; underneath its sign turns.
    facing_up = cv2.Sobel(off, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    loud = rng.uniform(1.4, 4.2) * ramp(fractal(rng, hw, slope=1.8, longest=60.0, shortest=6.0), -2.0, 1.0)
    seen = seen + loud * (0.35 + 0.65 * facing_up) * _ricker((off + 1.0) / (0.62 * period))
    # Water is silent; its floor rings.
    ring = _ricker(below_sea / 3.5) * 3.2 + _ricker((below_sea - 8) / 3.5) * 1.2
    seen = np.where(below_sea < -4, rng.normal(-0.9, 0.25), seen + ring)
    contrast, middle = rng.uniform(20, 42), rng.normal(122, 12)
    grain = (rng.random(hw, np.float32) - 0.5) * rng.uniform(1, 9)
    grain[below_sea < -4] = 0.0
    return np.asarray(np.clip(middle + contrast * seen + grain, 0, 255), np.uint8)


def _ricker(t: Field) -> Field:
    """The wavelet that seismic pulses are taken for: a crest of width 1 between two shallow troughs."""
    energy = np.square(t * 2.2)
    return np.asarray((1.0 - energy) * np.exp(-0.5 * energy), np.float32)


def _layers(rng: np.random.Generator, layer: Field, period: float) -> Field:
    """The echo of one random sequence of layers, `layer` the place in it in pixels."""
    step = 0.25
    first = float(layer.min()) - 4 * period
    count = int((float(layer.max()) + 4 * period - first) / step)
    # Most boundaries are faint and a few stand out; some packets of layers are quiet as a whole.
    thick = round(40 / step)
    packets = np.interp(
        np.arange(count) / thick, np.arange(count // thick + 2), rng.uniform(0.3, 1.4, count // thick + 2)
    )
    echoes = rng.standard_normal(count) * (1.0 + 4.0 * (rng.random(count) < step / 14)) * packets
    pulse = _ricker(np.arange(-2 * period, 2 * period, step, dtype=np.float32) / np.float32(0.5 * period))
    trace = np.convolve(echoes, pulse, mode="same")
    return np.asarray(np.interp(layer, first + step * np.arange(count), trace / trace.std()), np.float32)


def _chaos(rng: np.random.Generator, hw: HW, period: float, angle: float, stretch: float) -> Field:
    """Noise of the waves' own period without layers, drawn out along `angle`; deviation about 1."""
    noise = fractal(rng, hw, slope=3.5, longest=period / 3, shortest=period / 3, stretch=stretch, angle=angle)
    # The difference of two places half a period apart keeps that period and drops longer ones.
    wave = noise - np.roll(noise, max(1, round(period / 2)), 0)
    return np.asarray(wave / wave.std(), np.float32)

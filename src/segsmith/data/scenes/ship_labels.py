"""Seed -> the table of a full-size ship contest, without any image."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segsmith.data.rle import encode, to_text
from segsmith.data.scenes.files import LABELS, hex_names, write_table
from segsmith.types import Runs

_EMPTY_LABELS = 0.78

_LABEL_SIZE = 768
_LABEL_CELLS = 4
"""Ships of one image lie in different cells of a grid this many wide and high."""
_MOST_SHIPS = 15


def make_ship_labels(path: Path, *, images: int = 192_556, rows: int = 231_723, seed: int = 0) -> None:
    """Write a made-up `train_ship_segmentations_v2.csv` of the contest's full size to `path`, without any image.

    Exactly `images` ids, 78 % of them empty, and `rows` rows; an image has 1 to 15 ships, most of them one. The
    ships are turned boxes inside 768 x 768 pixels and never overlap within an image. Layout as in `scenes.make_ships`.
    Takes seconds and some hundred megabytes. ValueError if `rows` cannot be shared out so.
    """
    rng = np.random.default_rng([seed, LABELS])
    empty = round(_EMPTY_LABELS * images)
    busy, ships = images - empty, rows - empty
    if not busy <= ships <= _MOST_SHIPS * busy:
        raise ValueError(
            f"{images} images, {empty} of them empty, take {images} to {empty + _MOST_SHIPS * busy} rows "
            f"(1 to {_MOST_SHIPS} ships in each of the others). Received: rows={rows}."
        )
    counts = np.zeros(images, np.int64)
    counts[rng.permutation(images)[:busy]] = _ships_per_image(rng, busy, ships)
    # Some thousand outlines, each used in many places, are as good as new ones and far faster.
    shapes = [_turned_box(rng) for _ in range(min(3000, 100 + ships))]
    cell = _LABEL_SIZE // _LABEL_CELLS
    fitting = [n for n, shape in enumerate(shapes) if max(shape.width, shape.height) <= cell]

    def table() -> Iterable[tuple[str, str]]:
        for name, count in zip(sorted(hex_names(images, 9, seed, LABELS)), counts.tolist(), strict=True):
            image = f"{name}.jpg"
            if count == 0:
                yield image, ""
            elif count == 1:
                yield image, _placed(rng, shapes[rng.integers(len(shapes))], 0, 0, _LABEL_SIZE)
            else:
                for place in rng.permutation(_LABEL_CELLS**2)[:count].tolist():
                    x, y = place % _LABEL_CELLS * cell, place // _LABEL_CELLS * cell
                    yield image, _placed(rng, shapes[fitting[rng.integers(len(fitting))]], x, y, cell)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, ("ImageId", "EncodedPixels"), table())


class _Shape(NamedTuple):
    """A ship's label in a frame of its own of `width` columns and `height` + 1 rows, of which the last is free."""

    runs: Runs
    width: int
    height: int


def _turned_box(rng: np.random.Generator) -> _Shape:
    length = float(np.clip(math.exp(rng.normal(math.log(50), 0.8)), 10, 300))
    beam = max(length / rng.uniform(3, 7), 4.0)
    corners = cv2.boxPoints(((0.0, 0.0), (length, beam), rng.uniform(0, 180)))
    corners -= corners.min(0)
    width, height = (np.ceil(corners.max(0)) + 1).astype(int).tolist()
    # The row that stays free underneath keeps the runs of neighbouring columns apart.
    canvas = np.zeros((height + 1, width), np.uint8)
    cv2.fillConvexPoly(canvas, np.round(corners * 16).astype(np.int32), 1, cv2.LINE_8, 4)
    canvas[height] = 0
    return _Shape(encode(canvas.astype(bool)), width, height)


def _placed(rng: np.random.Generator, shape: _Shape, x: int, y: int, side: int) -> str:
    """Run lengths of `shape` somewhere in the square of `side` pixels whose corner is (x, y)."""
    left = x + int(rng.integers(side - shape.width + 1))
    top = y + int(rng.integers(side - shape.height + 1))
    runs = shape.runs.copy()
    columns, rows = np.divmod(runs[:, 0], shape.height + 1)
    runs[:, 0] = (left + columns) * _LABEL_SIZE + top + rows
    return to_text(runs)


def _ships_per_image(rng: np.random.Generator, images: int, ships: int) -> NDArray[np.int64]:
    """How many of `ships` each of `images` has, 1 to 15: most one, few many, as in the contest."""
    counts = np.ones(images, np.int64)
    extra = ships - images
    several = max(min(round(0.36 * images), extra), math.ceil(extra / (_MOST_SHIPS - 1)))
    counts[:several] += 1
    busyness = rng.exponential(1.0, several) ** 1.3
    # What falls on a full image is dealt out again.
    while (left := ships - int(counts.sum())) > 0:
        weights = busyness * (counts[:several] < _MOST_SHIPS)
        counts[:several] = np.minimum(counts[:several] + rng.multinomial(left, weights / weights.sum()), _MOST_SHIPS)
    return rng.permutation(counts)

"""Seed -> made-up but plausible ships and salt in their contests' raw formats, for tests, tutorials, benchmarks."""

import csv
import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from segsmith.data.rle import encode, to_text
from segsmith.data.scenes_salt import GRID, PATCH, draw_section
from segsmith.data.scenes_ships import draw_scene
from segsmith.types import Runs

# Every draw is a function of (seed, stream, number), never of what was drawn before it or of the number of threads.
_TRAIN, _TEST, _DEPTHS_ONLY, _EMPTY, _ORDER, _NAMES, _LABELS = range(7)

_EMPTY_SHIPS = 0.75
_EMPTY_SALT = 0.39
_EMPTY_LABELS = 0.78

_LABEL_SIZE = 768
_LABEL_CELLS = 4
"""Ships of one image of `make_ship_labels` lie in different cells of a grid this many wide and high."""
_MOST_SHIPS = 15

Row = tuple[str, str]
_Done = TypeVar("_Done")


def make_ships(folder: Path, *, train_images: int = 400, test_images: int = 60, size: int = 768, seed: int = 0) -> None:
    """Write made-up raw files of the Airbus ship contest into `folder`, which is created.

    `train_v2/*.jpg` and `test_v2/*.jpg` are `size` x `size` (64 or more) colour JPEGs of about 1.5 m per pixel.
    `train_ship_segmentations_v2.csv` (`ImageId,EncodedPixels`) is sorted by image and has one row per ship; each
    of the round(0.75 * train_images) images without a ship has one row with nothing behind the comma. Ships of
    one image never overlap. `sample_submission_v2.csv` names every test image, each with `1 2`. Run lengths are
    `start length` pairs, ascending, pixels numbered from 1 down the columns.

    The same call writes the same bytes. Image n does not depend on how many there are, except that in an
    incomplete last block of eight another one may be empty.
    """
    if size < 64:
        raise ValueError(f"A scene with ships needs a size of at least 64 pixels. Received: size={size}.")
    header = ("ImageId", "EncodedPixels")
    train = _ship_images(folder / "train_v2", train_images, size, seed, _TRAIN)
    _write_table(folder / "train_ship_segmentations_v2.csv", header, train)
    test = _ship_images(folder / "test_v2", test_images, size, seed, _TEST)
    names = dict.fromkeys(name for name, _ in test)
    _write_table(folder / "sample_submission_v2.csv", header, ((name, "1 2") for name in names))


def make_salt(folder: Path, *, train_images: int = 200, test_images: int = 40, seed: int = 0) -> None:
    """Write made-up raw files of the TGS salt contest into `folder`, which is created.

    `train/images/*.png` and `test/images/*.png` are 101 x 101, RGB with three equal channels.
    `train/masks/*.png` are 16-bit 0 or 65535 where there is salt, and plain 8-bit 0 for the 39 % of patches
    without. `train.csv` (`id,rle_mask`) holds the same masks as run lengths (see `make_ships`), `depths.csv`
    (`id,z`) a depth for every patch and for some ids that have none, `sample_submission.csv` every test id with
    `1 1`. Twelve patches in a row are cut, in mixed order, from one section of 3 x 4 that fit together.

    The same call writes the same bytes, and patch n does not depend on how many there are.
    """
    train = _salt_patches(folder / "train", train_images, seed, _TRAIN, masks=True)
    _write_table(folder / "train.csv", ("id", "rle_mask"), train)
    test = _salt_patches(folder / "test", test_images, seed, _TEST, masks=False)
    _write_table(folder / "sample_submission.csv", ("id", "rle_mask"), ((name, "1 1") for name, _ in test))
    depths: list[Row] = []
    for stream, count in (
        (_TRAIN, train_images),
        (_TEST, test_images),
        (_DEPTHS_ONLY, 10 + (train_images + test_images) // 10),
    ):
        z = np.random.default_rng([seed, _DEPTHS_ONLY, stream]).normal(506, 209, count).clip(50, 959).round()
        depths += zip(_names(count, 10, seed, stream), z.astype(int).astype(str).tolist(), strict=True)
    _write_table(folder / "depths.csv", ("id", "z"), sorted(depths))


def make_ship_labels(path: Path, *, images: int = 192_556, rows: int = 231_723, seed: int = 0) -> None:
    """Write a made-up `train_ship_segmentations_v2.csv` of the contest's full size to `path`, without any image.

    Exactly `images` ids, 78 % of them empty, and `rows` rows; an image has 1 to 15 ships, most of them one. The
    ships are turned boxes inside 768 x 768 pixels and never overlap within an image. Layout as in `make_ships`.
    Takes seconds and some hundred megabytes. ValueError if `rows` cannot be shared out so.
    """
    rng = np.random.default_rng([seed, _LABELS])
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

    def table() -> Iterable[Row]:
        for name, count in zip(sorted(_names(images, 9, seed, _LABELS)), counts.tolist(), strict=True):
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
    _write_table(path, ("ImageId", "EncodedPixels"), table())


# ---- images on disk -------------------------------------------------------------------------------------------------


def _ship_images(folder: Path, count: int, size: int, seed: int, stream: int) -> list[Row]:
    """Draw `count` images into `folder`; the rows of their table, sorted by name."""
    folder.mkdir(parents=True, exist_ok=True)
    names = _names(count, 9, seed, stream)
    empty = _spread(count, _EMPTY_SHIPS, seed, stream, block=8)

    def draw(number: int) -> list[Row]:
        rng = np.random.default_rng([seed, stream, number])
        image, ships = draw_scene(rng, size, empty=bool(empty[number]))
        name = f"{names[number]}.jpg"
        _write_image(folder / name, image)
        return [(name, to_text(encode(ship))) for ship in ships] or [(name, "")]

    return sorted(_in_threads(draw, range(count)), key=itemgetter(0))


def _salt_patches(folder: Path, count: int, seed: int, stream: int, *, masks: bool) -> list[Row]:
    """Draw `count` patches into `folder`; id and run lengths of each, sorted by id."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    if masks:
        (folder / "masks").mkdir(exist_ok=True)
    names = _names(count, 10, seed, stream)
    block = GRID[0] * GRID[1]
    sections = math.ceil(count / block)
    # Of a section that is only partly used, too, all patches are decided, so that a longer set begins the same.
    empty = _spread(sections * block, _EMPTY_SALT, seed, stream, block).reshape(sections, block)

    def cut(section: int) -> list[Row]:
        bare = empty[section]
        image, salt = draw_section(np.random.default_rng([seed, stream, section]), int((~bare).sum()))
        holds = salt.reshape(GRID[0], PATCH, GRID[1], PATCH).any(axis=(1, 3)).ravel()
        mixed = np.random.default_rng([seed, _ORDER, stream, section]).permutation(block)
        cells = np.empty(block, np.int64)
        cells[bare], cells[~bare] = mixed[~holds[mixed]], mixed[holds[mixed]]
        rows = []
        for name, cell in zip(names[section * block :], cells.tolist(), strict=False):
            y, x = cell // GRID[1] * PATCH, cell % GRID[1] * PATCH
            where = (slice(y, y + PATCH), slice(x, x + PATCH))
            _write_image(folder / "images" / f"{name}.png", cv2.merge([image[where]] * 3))
            mask = salt[where]
            if masks:
                pixels = mask * np.uint16(65535) if mask.any() else mask.astype(np.uint8)
                _write_image(folder / "masks" / f"{name}.png", pixels)
            rows.append((name, to_text(encode(mask))))
        return rows

    return sorted(_in_threads(cut, range(sections)))


def _in_threads(draw: Callable[[int], list[_Done]], numbers: Sequence[int]) -> list[_Done]:
    # OpenCV and NumPy let go of the interpreter's lock in the long loops.
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        return [one for some in threads.map(draw, numbers) for one in some]


def _write_image(path: Path, image: NDArray[np.uint8] | NDArray[np.uint16] | cv2.typing.MatLike) -> None:
    _, data = cv2.imencode(path.suffix, image, (cv2.IMWRITE_JPEG_QUALITY, 90) if path.suffix == ".jpg" else ())
    path.write_bytes(data.tobytes())


def _write_table(path: Path, header: Row, rows: Iterable[Row]) -> None:
    with path.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


# ---- names and shares ------------------------------------------------------------------------------------------------


def _names(count: int, digits: int, seed: int, stream: int) -> list[str]:
    """`count` hexadecimal names that look drawn by lot; none occurs twice in all the streams of a seed."""
    bits = 4 * digits
    keep = np.uint64(2**bits - 1)
    odd = np.random.default_rng([seed, _NAMES]).integers(0, 2**bits, 2, np.uint64) | np.uint64(1)
    # The stream takes the upper four bits; products with odd numbers and folded shifts map one to one.
    number = np.arange(count, dtype=np.uint64) + np.uint64(stream * 2 ** (bits - 4) + 1)
    for factor in odd:
        number = number * factor & keep
        number ^= number >> np.uint64(bits // 2)
    return [f"{n:0{digits}x}" for n in number.tolist()]


def _spread(count: int, share: float, seed: int, stream: int, block: int) -> NDArray[np.bool_]:
    """True for exactly round(share * count) of `count` places, evenly over the blocks, by lot within a block."""
    chosen = np.zeros(count, bool)
    for start in range(0, count, block):
        end = min(start + block, count)
        lots = np.random.default_rng([seed, _EMPTY, stream, start // block]).random(block)[: end - start]
        chosen[start + np.argsort(lots)[: round(share * end) - round(share * start)]] = True
    return chosen


# ---- labels without images ------------------------------------------------------------------------------------------


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

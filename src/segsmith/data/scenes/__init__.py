"""Seed -> made-up but plausible raw files of every job, in the layouts users are given; for tests, docs, benchmarks.

`make_ships`, `make_ship_labels`, `make_salt`, `make_steel`: images and run lengths in a CSV file.
`make_buildings`, `make_large_scene`: georeferenced scenes and footprints. `make_houses`: one image and its truth.
`make_folder`, `make_coco`: any images with masks, or with a COCO file.
"""

import math
from operator import itemgetter
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from segsmith.data.rle import encode, to_text
from segsmith.data.scenes.aerial import draw_town
from segsmith.data.scenes.buildings import make_buildings
from segsmith.data.scenes.files import (
    DEPTHS_ONLY,
    ORDER,
    REPEATS,
    TEST,
    TRAIN,
    hex_names,
    in_threads,
    spread,
    write_image,
    write_table,
)
from segsmith.data.scenes.folders import make_coco, make_folder
from segsmith.data.scenes.rasters import RasterForm, make_large_scene
from segsmith.data.scenes.salt import GRID, PATCH, draw_section
from segsmith.data.scenes.ship_labels import make_ship_labels
from segsmith.data.scenes.ships import draw_moored_scene, draw_scene
from segsmith.data.scenes.steel import CLASSES, Strip, classes_of, draw_strip, repeat
from segsmith.types import HW

__all__ = [
    "RasterForm",
    "make_buildings",
    "make_coco",
    "make_folder",
    "make_houses",
    "make_large_scene",
    "make_salt",
    "make_ship_labels",
    "make_ships",
    "make_steel",
]

_EMPTY_SHIPS = 0.75
_EMPTY_SALT = 0.39

Row = tuple[str, str]


def make_ships(
    folder: Path,
    *,
    train_images: int = 400,
    test_images: int = 60,
    size: int = 768,
    seed: int = 0,
    moored: bool = False,
) -> None:
    """Write made-up raw files of the Airbus ship contest into `folder`, which is created.

    `train_v2/*.jpg` and `test_v2/*.jpg` are `size` x `size` (64 or more) colour JPEGs of about 1.5 m per pixel.
    `train_ship_segmentations_v2.csv` (`ImageId,EncodedPixels`) is sorted by image and has one row per ship; each
    of the round(0.75 * train_images) images without a ship has one row with nothing behind the comma. Ships of
    one image never overlap. If `moored`, no image is empty: each is a harbour whose ships lie side by side and bow to
    stern, so close that their masks touch. `sample_submission_v2.csv` names every test image, each with `1 2`. Run
    lengths are `start length` pairs, ascending, pixels numbered from 1 down the columns.

    The same call writes the same bytes. Image n does not depend on how many there are, except that in an
    incomplete last block of eight another one may be empty.
    """
    if size < 64:
        raise ValueError(f"A scene with ships needs a size of at least 64 pixels. Received: size={size}.")
    header = ("ImageId", "EncodedPixels")
    train = _ship_images(folder / "train_v2", train_images, size, seed, TRAIN, moored=moored)
    write_table(folder / "train_ship_segmentations_v2.csv", header, train)
    test = _ship_images(folder / "test_v2", test_images, size, seed, TEST, moored=moored)
    names = dict.fromkeys(name for name, _ in test)
    write_table(folder / "sample_submission_v2.csv", header, ((name, "1 2") for name in names))


def make_salt(folder: Path, *, train_images: int = 200, test_images: int = 40, seed: int = 0) -> None:
    """Write made-up raw files of the TGS salt contest into `folder`, which is created.

    `train/images/*.png` and `test/images/*.png` are 101 x 101, RGB with three equal channels.
    `train/masks/*.png` are 16-bit 0 or 65535 where there is salt, and plain 8-bit 0 for the 39 % of patches
    without. `train.csv` (`id,rle_mask`) holds the same masks as run lengths (see `make_ships`), `depths.csv`
    (`id,z`) a depth for every patch and for some ids that have none, `sample_submission.csv` every test id with
    `1 1`. Twelve patches in a row are cut, in mixed order, from one section of 3 x 4 that fit together.

    The same call writes the same bytes, and patch n does not depend on how many there are.
    """
    train = _salt_patches(folder / "train", train_images, seed, TRAIN, masks=True)
    write_table(folder / "train.csv", ("id", "rle_mask"), train)
    test = _salt_patches(folder / "test", test_images, seed, TEST, masks=False)
    write_table(folder / "sample_submission.csv", ("id", "rle_mask"), ((name, "1 1") for name, _ in test))
    depths: list[Row] = []
    for stream, count in (
        (TRAIN, train_images),
        (TEST, test_images),
        (DEPTHS_ONLY, 10 + (train_images + test_images) // 10),
    ):
        z = np.random.default_rng([seed, DEPTHS_ONLY, stream]).normal(506, 209, count).clip(50, 959).round()
        depths += zip(hex_names(count, 10, seed, stream), z.astype(int).astype(str).tolist(), strict=True)
    write_table(folder / "depths.csv", ("id", "z"), sorted(depths))


def make_steel(
    folder: Path,
    *,
    images: int = 200,
    test_images: int = 20,
    seed: int = 0,
    columns: Literal["separate", "joined"] = "separate",
    absent_rows: bool = False,
    hw: HW = (256, 1600),
    repeats: int = 0,
) -> dict[str, str]:
    """Write made-up raw files of the Severstal steel contest into `folder`, which is created.

    `train_images/*.jpg` and `test_images/*.jpg` are grey JPEGs with three channels of `hw` pixels, each side at least
    64. Of every twenty images in a row ten have no defect; the others have one or more of four classes, which may
    overlap: 1 pits, 2 vertical cracks, 3 scratches, 4 patches. `train.csv` is sorted by image and class. With
    `columns` "separate" it is `ImageId,ClassId,EncodedPixels` with rows for the classes present, so none for an image
    without defect; with `absent_rows` every image has a row per class, empty pixels where it is absent. With "joined"
    it is `ImageId_ClassId,EncodedPixels` and always has all four rows. `sample_submission.csv` has the same columns,
    every test image and class in order, each with `1 1`. Run lengths as in `make_ships`.

    `repeats` more training images are near-duplicates of the others: mirrored, turned, shifted by a twentieth,
    compressed again; their labels follow. Returned is, by file name, which image each of them repeats.

    The same call writes the same bytes, and image n does not depend on how many there are.
    """
    if min(hw) < 64:
        raise ValueError(f"Steel with defects needs sides of at least 64 pixels. Received: hw={hw}.")
    if repeats and not images:
        raise ValueError(f"There is no image to repeat. Received: images=0, repeats={repeats}.")
    (folder / "train_images").mkdir(parents=True, exist_ok=True)
    (folder / "test_images").mkdir(exist_ok=True)
    names = [f"{name}.jpg" for name in hex_names(images + repeats, 9, seed, TRAIN)]
    of = np.random.default_rng([seed, REPEATS]).permutation(images)[np.arange(repeats) % max(images, 1)].tolist()

    def draw(number: int) -> Strip:
        return draw_strip(np.random.default_rng([seed, TRAIN, number]), hw, classes_of(seed, TRAIN, number))

    def write(number: int) -> list[tuple[str, int, str]]:
        strip, quality = (draw(number), 90) if number < images else repeat(draw(of[number - images]), number - images)
        write_image(folder / "train_images" / names[number], cv2.merge([strip.image] * 3), quality)
        return [(names[number], c + 1, to_text(encode(strip.mask[c]))) for c in range(CLASSES)]

    header = ("ImageId_ClassId", "EncodedPixels") if columns == "joined" else ("ImageId", "ClassId", "EncodedPixels")

    def row(image: str, number: int, runs: str) -> tuple[str, ...]:
        return (f"{image}_{number}", runs) if columns == "joined" else (image, str(number), runs)

    every = columns == "joined" or absent_rows
    labels = sorted(in_threads(write, range(len(names))))
    write_table(folder / "train.csv", header, (row(*label) for label in labels if every or label[2]))

    unlabelled = [f"{name}.jpg" for name in hex_names(test_images, 9, seed, TEST)]

    def write_test(number: int) -> list[str]:
        strip = draw_strip(np.random.default_rng([seed, TEST, number]), hw, classes_of(seed, TEST, number))
        write_image(folder / "test_images" / unlabelled[number], cv2.merge([strip.image] * 3))
        return [unlabelled[number]]

    tested = sorted(in_threads(write_test, range(test_images)))
    write_table(
        folder / "sample_submission.csv", header, (row(name, c + 1, "1 1") for name in tested for c in range(CLASSES))
    )
    return {names[images + n]: names[original] for n, original in enumerate(of)}


def make_houses(folder: Path, *, hw: HW = (1608, 2022), seed: int = 0) -> None:
    """Write one made-up aerial image and its truth into `folder`, which is created.

    `rgb.png` and `gt.png` are RGB of `hw` pixels, each side at least 256; the truth is black (0, 0, 0) at houses and
    white elsewhere. Houses are 7 to 13 % of the pixels. The same call writes the same bytes.
    """
    if min(hw) < 256:
        raise ValueError(f"An image with houses needs sides of at least 256 pixels. Received: hw={hw}.")
    rng = np.random.default_rng([seed, TRAIN])
    town = draw_town(rng, hw, gsd_m=0.2, share=rng.uniform(0.08, 0.11))
    folder.mkdir(parents=True, exist_ok=True)
    write_image(folder / "rgb.png", cv2.cvtColor(town.image, cv2.COLOR_RGB2BGR))
    write_image(folder / "gt.png", cv2.merge([255 * (~town.mask).astype(np.uint8)] * 3))


# ---- images on disk -------------------------------------------------------------------------------------------------


def _ship_images(folder: Path, count: int, size: int, seed: int, stream: int, *, moored: bool) -> list[Row]:
    """Draw `count` images into `folder`; the rows of their table, sorted by name."""
    folder.mkdir(parents=True, exist_ok=True)
    names = hex_names(count, 9, seed, stream)
    empty = spread(count, _EMPTY_SHIPS, seed, stream, block=8)

    def draw(number: int) -> list[Row]:
        rng = np.random.default_rng([seed, stream, number])
        image, ships = draw_moored_scene(rng, size) if moored else draw_scene(rng, size, empty=bool(empty[number]))
        name = f"{names[number]}.jpg"
        write_image(folder / name, image)
        return [(name, to_text(encode(ship))) for ship in ships] or [(name, "")]

    return sorted(in_threads(draw, range(count)), key=itemgetter(0))


def _salt_patches(folder: Path, count: int, seed: int, stream: int, *, masks: bool) -> list[Row]:
    """Draw `count` patches into `folder`; id and run lengths of each, sorted by id."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    if masks:
        (folder / "masks").mkdir(exist_ok=True)
    names = hex_names(count, 10, seed, stream)
    block = GRID[0] * GRID[1]
    sections = math.ceil(count / block)
    # Of a section that is only partly used, too, all patches are decided, so that a longer set begins the same.
    empty = spread(sections * block, _EMPTY_SALT, seed, stream, block).reshape(sections, block)

    def cut(section: int) -> list[Row]:
        bare = empty[section]
        image, salt = draw_section(np.random.default_rng([seed, stream, section]), int((~bare).sum()))
        holds = salt.reshape(GRID[0], PATCH, GRID[1], PATCH).any(axis=(1, 3)).ravel()
        mixed = np.random.default_rng([seed, ORDER, stream, section]).permutation(block)
        cells = np.empty(block, np.int64)
        cells[bare], cells[~bare] = mixed[~holds[mixed]], mixed[holds[mixed]]
        rows = []
        for name, cell in zip(names[section * block :], cells.tolist(), strict=False):
            y, x = cell // GRID[1] * PATCH, cell % GRID[1] * PATCH
            where = (slice(y, y + PATCH), slice(x, x + PATCH))
            write_image(folder / "images" / f"{name}.png", cv2.merge([image[where]] * 3))
            mask = salt[where]
            if masks:
                pixels = mask * np.uint16(65535) if mask.any() else mask.astype(np.uint8)
                write_image(folder / "masks" / f"{name}.png", pixels)
            rows.append((name, to_text(encode(mask))))
        return rows

    return sorted(in_threads(cut, range(sections)))

"""Seed -> any folder of images with masks, or with a COCO file, as a new job may come along."""

import json
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from segsmith.data.rle import encode
from segsmith.data.scenes.cells import KINDS, Slide, draw_crack, draw_slide
from segsmith.data.scenes.files import TRAIN, in_threads, spread, write_image, write_table
from segsmith.types import HW, ClassMask

_EMPTY_SHARE = 0.25

COLOURS = ((0, 0, 0), (230, 60, 60), (60, 180, 75), (0, 130, 200))
"""Red, green, blue of the background and of each kind of cell."""


def make_folder(
    folder: Path,
    *,
    images: int = 40,
    seed: int = 0,
    things: Literal["cells", "cracks"] = "cells",
    masks: Literal["binary", "index", "colour"] = "binary",
    suffix: Literal[".png", ".tif", ".jpg"] = ".png",
    hw: HW = (128, 128),
) -> None:
    """Write made-up images and masks of any job into `folder`, which is created.

    `images/NAME` are RGB of `hw` pixels, each side at least 32, and `masks/NAME` have the same size and stem, and the
    same suffix, but where JPEG would spoil index or colour it is `.png`. A quarter of the images is empty.

    - "binary": grey, 255 at cells or cracks; as JPEG only nearly so.
    - "index": grey, 1 to 3 at the three kinds of cells.
    - "colour": RGB; `classes.csv` (`name,red,green,blue`) says what each colour is, the background among them.

    Cracks have no kinds, so only "binary" masks. The same call writes the same bytes; an image does not depend on how
    many there are, except that in an incomplete last block of eight another one may be empty.
    """
    if min(hw) < 32:
        raise ValueError(f"Images of cells and cracks need sides of at least 32 pixels. Received: hw={hw}.")
    if things == "cracks" and masks != "binary":
        raise ValueError(f"Cracks have binary masks only. Received: masks='{masks}'.")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    empty = spread(images, _EMPTY_SHARE, seed, TRAIN, block=8)
    mask_suffix = ".png" if suffix == ".jpg" and masks != "binary" else suffix

    def write(number: int) -> list[None]:
        rng = np.random.default_rng([seed, TRAIN, number])
        kinds = np.zeros(hw, np.uint8)
        if things == "cracks":
            image, crack = draw_crack(rng, hw, empty=bool(empty[number]))
            kinds[crack] = 1
        else:
            image, cells = draw_slide(rng, hw, empty=bool(empty[number]))
            for cell in cells:
                kinds[cell.mask] = cell.kind
        mask: NDArray[np.uint8] = kinds if masks == "index" else 255 * np.minimum(kinds, 1)
        if masks == "colour":
            mask = np.array(COLOURS, np.uint8)[kinds][:, :, ::-1]
        write_image(folder / "images" / f"{number:04d}{suffix}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        write_image(folder / "masks" / f"{number:04d}{mask_suffix}", np.ascontiguousarray(mask))
        return []

    in_threads(write, range(images))
    if masks == "colour":
        named = zip(("background", *KINDS), COLOURS, strict=True)
        rows = ((name, *map(str, colour)) for name, colour in named)
        write_table(folder / "classes.csv", ("name", "red", "green", "blue"), rows)


def make_coco(folder: Path, *, images: int = 40, seed: int = 0, hw: HW = (128, 128)) -> None:
    """Write made-up images and their COCO instance segmentation into `folder`, which is created.

    `images/*.jpg` are RGB of `hw` pixels, each side at least 32, and `annotations.json` has one annotation per cell:
    a polygon cut at the border of the image, `bbox` (x, y, width, height) and `area` in pixels. A quarter of the images
    has none. The first two or more cells of one kind in one image are a crowd, `iscrowd` 1, with plain run lengths;
    the next cell has compressed ones. Ids begin with 1, and category ids 2, 5 and 8 have gaps, as COCO's.

    The same call writes the same bytes.
    """
    if min(hw) < 32:
        raise ValueError(f"Images of cells need sides of at least 32 pixels. Received: hw={hw}.")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    empty = spread(images, _EMPTY_SHARE, seed, TRAIN, block=8)

    def write(number: int) -> list[Slide]:
        slide = draw_slide(np.random.default_rng([seed, TRAIN, number]), hw, empty=bool(empty[number]))
        write_image(folder / "images" / f"{number:012d}.jpg", cv2.cvtColor(slide.image, cv2.COLOR_RGB2BGR))
        return [slide]

    annotations: list[dict[str, Any]] = []
    crowd = packed = False

    def annotate(number: int, kind: int, segmentation: Any, mask: ClassMask, crowded: bool = False) -> None:
        y, x = np.nonzero(mask)
        left, top = int(x.min()), int(y.min())
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": number + 1,
                "category_id": _CATEGORIES[kind - 1],
                "segmentation": segmentation,
                "area": int(mask.sum()),
                "bbox": [left, top, int(x.max()) + 1 - left, int(y.max()) + 1 - top],
                "iscrowd": int(crowded),
            }
        )

    for number, slide in enumerate(in_threads(write, range(images))):
        alike = [cell for cell in slide.cells if cell.kind == slide.cells[0].kind]
        rest = slide.cells
        if not crowd and len(alike) > 1:
            together = np.any([cell.mask for cell in alike], axis=0)
            counts: dict[str, Any] = {"counts": _counts(together), "size": list(hw)}
            annotate(number, alike[0].kind, counts, together, crowded=True)
            crowd, rest = True, tuple(cell for cell in slide.cells if cell.kind != alike[0].kind)
        for cell in rest:
            if crowd and not packed:
                text = {"counts": _packed(_counts(cell.mask)), "size": list(hw)}
                annotate(number, cell.kind, text, cell.mask)
                packed = True
            else:
                annotate(number, cell.kind, _polygons(cell.outline, hw), cell.mask)
    content = {
        "info": {"description": "Made-up cells", "version": "1.0", "year": 2020},
        "licenses": [{"id": 1, "name": "CC0-1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}],
        "images": [
            {"id": n + 1, "file_name": f"{n:012d}.jpg", "height": hw[0], "width": hw[1], "license": 1}
            for n in range(images)
        ],
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "supercategory": "cell"}
            for number, name in zip(_CATEGORIES, KINDS, strict=True)
        ],
    }
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


_CATEGORIES = (2, 5, 8)


def _polygons(outline: NDArray[np.float64], hw: HW) -> list[list[float]]:
    """x, y, x, y ... of every part that lies within the image, hundredths of a pixel."""
    import shapely

    within = shapely.intersection(shapely.Polygon(outline).buffer(0), shapely.box(0, 0, hw[1], hw[0]))
    parts = [part for part in shapely.get_parts(within) if part.geom_type == "Polygon"]
    return [np.round(np.asarray(part.exterior.coords)[:-1], 2).ravel().tolist() for part in parts]


def _counts(mask: ClassMask) -> list[int]:
    """COCO's run lengths: pixels off, on, off ... down the columns, beginning with those off."""
    counts: list[int] = []
    at = 0
    for start, length in encode(mask).tolist():
        counts += [start - at, length]
        at = start + length
    return [*counts, mask.size - at] if at < mask.size else counts


def _packed(counts: list[int]) -> str:
    """The same as COCO's text: each number but the first three less the one two before it, five bits a character,
    least first, a sixth bit where more follow; 48 is added to make it readable (maskApi.c, rleToString)."""
    text = []
    for n, count in enumerate(counts):
        left = count - counts[n - 2] if n > 2 else count
        while True:
            five = left & 31
            left >>= 5
            more = left != (-1 if five & 16 else 0)
            text.append(chr(48 + five + 32 * more))
            if not more:
                break
    return "".join(text)

"""COCO JSON + image files -> Dataset: polygons and run lengths of any number of categories (Lin et al. 2014, arXiv
1405.0312; https://cocodataset.org/#format-data).

A pixel belongs to a polygon when its centre lies inside; the coordinate 0 is the left edge of the first pixel, so its
centre is at 0.5. An image without annotations is empty; image files that the JSON does not name are unlabelled.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from os import walk
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from rasterio.features import rasterize
from rasterio.transform import Affine

from segsmith.data import rle
from segsmith.data.class_table import read_class_table
from segsmith.data.cleaning import Cleaning
from segsmith.data.dataset import Dataset, Layout
from segsmith.data.images import ImageFacts, is_image
from segsmith.data.index import LabelledImage, LabelledObject, index, look_at_all
from segsmith.errors import DataError, RunLengthError, listed, unreadable
from segsmith.types import HW, Runs

LOOKED_FOR = "a COCO JSON (keys images, annotations, categories), here or one folder below"
TOLERANCE = 1.0
"""Pixels by which a polygon may leave its image, as rounding makes it; it is cut at the edge."""


def recognise(raw: Path, labels: Path | None = None) -> str | None:
    """What of this layout lies in a raw folder, in words; None if nothing does."""
    found = _json_files(raw, labels)
    return "; ".join(f"{file.name} has images, annotations and categories" for file in found) or None


def ingest(
    raw: Path, *, labels: Path | None = None, classes: Path | None = None, cleaning: Cleaning | None = None
) -> Dataset:
    """The dataset of a raw folder; one annotation is one object, and pixels of a crowd count as their category's.

    `labels` says which JSON when several fit. `classes` gives other names to categories: columns class,name with the
    category's id. Raises DataError naming image files that are missing or of another size than the JSON says, ids
    that stand twice or nowhere, and annotations that are malformed, boxes alone, or leave their image.
    """
    raw, cleaning = raw.resolve(), cleaning or Cleaning()
    files = _json_files(raw, labels)
    if not files:
        raise DataError(f"{labels or raw}: found no {LOOKED_FOR}")
    if len(files) > 1:
        several = ", ".join(str(file.relative_to(raw)) for file in files)
        raise DataError(f"{raw}: several label files ({several}); say which with --labels FILE")
    file = files[0]
    told = _read(file)
    keys, names = _categories(file, told["categories"], classes)
    named, others = _find_images(raw, file, told["images"])
    found = [LabelledImage(path.name, str(path.relative_to(raw)), labelled=True) for path in named.values()]
    found += [LabelledImage(path.name, str(path.relative_to(raw)), labelled=False) for path in others]
    cleaned = cleaning.apply(raw, found)
    images = cleaned.images
    facts = look_at_all(raw, images)
    number_of_id = {image.image_id: number for number, image in enumerate(images)}
    number_of = {key: number_of_id.get(path.name) for key, path in named.items()}
    _check_sizes(file, told["images"], number_of, facts)
    objects, crowds = _objects(file, told["annotations"], number_of, keys, facts)
    notes = [f"{file.name}: {len(named)} images, {len(told['annotations'])} annotations, {len(names)} categories"]
    if crowds:
        notes.append(f"{crowds} crowds (iscrowd) count as one object each of their category")
    if others:
        folders = Counter(str(path.parent.relative_to(raw)) for path in others)
        notes.append("unlabelled: " + ", ".join(f"{count} in {folder}" for folder, count in folders.items()))
    layout = Layout("coco", "ImageId", "EncodedPixels", one_row_per="object", id_has_suffix=True)
    if len(names) > 1:
        layout = Layout(
            "coco", "ImageId", "EncodedPixels", "object", True, class_column="ClassId", class_keys=tuple(map(str, keys))
        )
    return index(raw, layout, names, images, facts, objects, [*notes, *cleaned.notes])


def decode_counts(text: str) -> list[int]:
    """Counts of COCO's compressed run lengths: numbers of five bits a letter, from the fourth on as the difference to
    the one before the last (rleFrString in https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c).

    Raises RunLengthError for letters outside the code, or a last number that is cut short.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise RunLengthError(f"'{letter}' is no letter of compressed run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:  # more of this number follows
            continue
        if bits & 16:  # the sign
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise RunLengthError("compressed run lengths are cut short")
    return counts


def runs_of_counts(counts: Sequence[int], hw: HW) -> Runs:
    """The runs of COCO's counts: lengths down the columns, in turn background and foreground, background first.

    Raises RunLengthError for negative counts, or ones that do not add up to the pixels of the image.
    """
    lengths = np.array(counts, np.int64)
    if (lengths < 0).any():
        raise RunLengthError(f"run length {int(lengths.min())} is negative")
    if lengths.sum() != hw[0] * hw[1]:
        raise RunLengthError(f"run lengths add up to {int(lengths.sum())}, the image has {hw[0]} x {hw[1]} pixels")
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    pairs = np.stack([starts, lengths], axis=1)[1::2]
    return pairs[pairs[:, 1] > 0].astype(np.int32)


def runs_of_polygons(polygons: Iterable[Sequence[int | float]], hw: HW) -> Runs:
    """The runs of the pixels whose centre lies in any of the polygons, each x, y, x, y, ... in pixels.

    Raises RunLengthError for fewer than three corners, numbers that are not finite, or a corner more than one pixel
    outside the image.
    """
    rings = []
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise RunLengthError(f"polygon of {len(polygon)} numbers; three corners or more are x, y, x, y, x, y")
        ring = np.array(polygon, np.float64).reshape(-1, 2)
        if not np.isfinite(ring).all():
            raise RunLengthError("polygon with a corner that is no number")
        outside = (ring < -TOLERANCE) | (ring > np.array(hw[::-1]) + TOLERANCE)
        if outside.any():
            x, y = ring[int(np.argmax(outside.any(axis=1)))].tolist()
            raise RunLengthError(f"polygon corner ({x:g}, {y:g}) lies outside the image of {hw[0]} x {hw[1]} pixels")
        rings.append(ring)
    corners = np.concatenate(rings)
    left, top = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, np.array(hw[::-1]) - 1)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int), np.array([left, top]) + 1, hw[::-1])
    filled = rasterize(
        ({"type": "Polygon", "coordinates": [[*ring.tolist(), ring[0].tolist()]]} for ring in rings),
        out_shape=(int(bottom - top), int(right - left)),
        transform=Affine.translation(float(left), float(top)),
        dtype=np.uint8,
    )
    inside = rle.encode(np.asarray(filled > 0))  # of the polygon's own box: a large image costs no more
    columns, rows = np.divmod(inside[:, 0], bottom - top)
    return _in_image(columns, rows, inside[:, 1], (int(top), int(left), int(bottom - top)), hw)


def _in_image(
    columns: Int[np.ndarray, " runs"],
    rows: Int[np.ndarray, " runs"],
    lengths: Int[np.ndarray, " runs"],
    box: tuple[int, int, int],
    hw: HW,
) -> Runs:
    """Runs of a box (top, left, height) as runs of its image: a run that goes on in the next column is cut there."""
    top, left, height = box
    pairs: list[tuple[int, int]] = []
    for column, row, length in zip(columns.tolist(), rows.tolist(), lengths.tolist(), strict=True):
        while length > 0:
            here = min(length, height - row)
            start = (left + column) * hw[0] + top + row
            if pairs and sum(pairs[-1]) == start:
                pairs[-1] = (pairs[-1][0], pairs[-1][1] + here)
            else:
                pairs.append((start, here))
            column, row, length = column + 1, 0, length - here
    return np.array(pairs, np.int32).reshape(-1, 2)


def _json_files(raw: Path, labels: Path | None) -> list[Path]:
    """JSON files whose text names the three keys; it need not parse, so that a broken one is said to be broken."""
    if labels:
        return [labels.resolve()] if labels.suffix.lower() == ".json" else []
    found = []
    for file in sorted([*raw.glob("*.json"), *raw.glob("*/*.json")]):
        text = file.read_bytes()
        if b'"images"' in text and b'"annotations"' in text:
            found.append(file)
    return found


def _read(file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        told = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(unreadable(file, "JSON", error)) from None
    wanted: dict[str, dict[str, tuple[type, ...]]] = {
        "images": {"id": (int, str), "file_name": (str,)},
        "categories": {"id": (int,), "name": (str,)},
        "annotations": {"image_id": (int, str), "category_id": (int,)},
    }
    for name, fields in wanted.items():
        rows = told.get(name) if isinstance(told, dict) else None
        if not isinstance(rows, list):
            raise DataError(f"{file}: holds no list '{name}'; it is no COCO JSON of instances")
        problems = [
            f"{name}[{number}]: no usable '{field}'"
            for number, row in enumerate(rows)
            for field, kinds in fields.items()
            if not isinstance(row, dict) or not isinstance(row.get(field), kinds)
        ]
        if name != "annotations":
            ids = Counter(row["id"] for row in rows if not problems)
            problems += [f"{name}: id {key} stands {count} times" for key, count in ids.items() if count > 1]
        if problems:
            raise DataError(f"{file}: {len(problems)} entries are wrong:\n{listed(problems)}\ncorrect them")
        if not rows and name != "annotations":
            raise DataError(f"{file}: '{name}' is empty")
    return {name: told[name] for name in wanted}


def _categories(
    file: Path, categories: Sequence[dict[str, Any]], classes: Path | None
) -> tuple[list[int], tuple[str, ...]]:
    """Ids ascending, and their names."""
    name_of = {category["id"]: category["name"] for category in categories}
    if classes:
        for key, name in read_class_table(classes).by_key.items():
            if not key.isdecimal() or int(key) not in name_of:
                raise DataError(f"{classes}: class {key} is no id of a category of {file.name}")
            name_of[int(key)] = name
    keys = sorted(name_of)
    return keys, tuple(name_of[key] for key in keys)


def _find_images(raw: Path, file: Path, images: Sequence[dict[str, Any]]) -> tuple[dict[int | str, Path], list[Path]]:
    """The file of each image of the JSON, and the files it does not name, ascending."""
    paths = sorted(Path(top, name) for top, _, names in walk(raw) for name in names if is_image(Path(name)))
    of_name: dict[str, list[Path]] = {}
    for path in paths:
        of_name.setdefault(path.name, []).append(path)
    problems = []
    if twice := [name for name, found in of_name.items() if len(found) > 1]:
        raise DataError(f"{raw}: the same file name in two folders:\n{listed(twice)}\nids must be unique; rename them")
    named: dict[int | str, Path] = {}
    taken: dict[str, Any] = {}
    for image in images:
        name = Path(image["file_name"].replace("\\", "/")).name
        if name not in of_name:
            problems.append(f"image {image['id']}: {image['file_name']} is not here")
        elif name in taken:
            problems.append(f"image {image['id']}: {name} is already image {taken[name]}")
        else:
            named[image["id"]] = of_name[name][0]
            taken[name] = image["id"]
    if problems:
        raise DataError(
            f"{file.name}: {len(problems)} of {len(images)} images cannot be used:\n{listed(problems)}\n"
            "add the files or remove their entries"
        )
    return named, [path for path in paths if path.name not in taken]


def _check_sizes(
    file: Path,
    images: Sequence[dict[str, Any]],
    number_of: dict[int | str, int | None],
    facts: Sequence[ImageFacts],
) -> None:
    problems = []
    for image in images:
        number = number_of[image["id"]]
        said = (image.get("height"), image.get("width"))
        if number is None or None in said or said == facts[number].hw:
            continue
        height, width = facts[number].hw
        problems.append(f"{image['file_name']}: is {height} x {width} pixels, {said[0]} x {said[1]} in {file.name}")
    if problems:
        raise DataError(f"{file.name}: {len(problems)} images have another size:\n{listed(problems)}\ncorrect them")


def _objects(
    file: Path,
    annotations: Sequence[dict[str, Any]],
    number_of: dict[int | str, int | None],
    keys: Sequence[int],
    facts: Sequence[ImageFacts],
) -> tuple[list[LabelledObject], int]:
    """One object per annotation with pixels, of images that are not left out; and how many are crowds."""
    class_of = {key: class_id for class_id, key in enumerate(keys)}
    problems, objects, crowds = [], [], 0
    seen: dict[Any, int] = {}
    for row, annotation in enumerate(annotations, start=1):
        what = f"annotation {annotation.get('id', f'number {row}')}"
        if annotation.get("id") in seen:
            problems.append(f"{what}: its id already stands for annotation number {seen[annotation['id']]}")
        elif "id" in annotation:
            seen[annotation["id"]] = row
        if annotation["image_id"] not in number_of:
            problems.append(f"{what}: no image has the id {annotation['image_id']}")
        elif annotation["category_id"] not in class_of:
            problems.append(f"{what}: no category has the id {annotation['category_id']}")
        elif (number := number_of[annotation["image_id"]]) is not None:
            try:
                runs = _runs(annotation.get("segmentation"), facts[number].hw)
            except (RunLengthError, ValueError, TypeError, OverflowError) as error:
                problems.append(f"{what}: {error}")
                continue
            crowds += bool(annotation.get("iscrowd"))
            if len(runs):
                objects.append(LabelledObject(number, class_of[annotation["category_id"]], row, runs))
    if problems:
        raise DataError(
            f"{file.name}: {len(problems)} of {len(annotations)} annotations are wrong:\n{listed(problems)}\n"
            "correct or remove them"
        )
    return objects, crowds


def _runs(segmentation: Any, hw: HW) -> Runs:
    if isinstance(segmentation, list) and segmentation:
        if not all(isinstance(p, list) and all(isinstance(v, int | float) for v in p) for p in segmentation):
            raise RunLengthError("polygons are lists of numbers x, y, x, y, ...")
        return runs_of_polygons(segmentation, hw)
    if not isinstance(segmentation, dict):
        raise RunLengthError("has no segmentation, a box alone; boxes are not read")
    if segmentation.get("size") != list(hw):
        raise RunLengthError(f"run lengths of size {segmentation.get('size')}, the image has {hw[0]} x {hw[1]} pixels")
    counts = segmentation.get("counts")
    if not isinstance(counts, str | list):
        raise RunLengthError("run lengths without counts")
    if isinstance(counts, list) and not all(isinstance(count, int) for count in counts):
        raise RunLengthError("run lengths that are no whole numbers")
    return runs_of_counts(decode_counts(counts) if isinstance(counts, str) else counts, hw)

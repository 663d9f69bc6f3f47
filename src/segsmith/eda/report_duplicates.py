"""Duplicates and mosaics -> the report's section about them: counts by kind, pairs side by side, mosaics put together
again."""

from collections import Counter
from collections.abc import Iterable

import cv2
import numpy as np
from jaxtyping import UInt8

from segsmith.audit.duplicates import Duplicates, Pair
from segsmith.audit.examine import Examination
from segsmith.audit.fitting import SYMMETRIES
from segsmith.audit.groups import Groups
from segsmith.audit.mosaics import Mosaic, Mosaics, rebuilt
from segsmith.data.dataset import Dataset
from segsmith.data.images import LARGEST_PIXELS, as_rgb
from segsmith.eda.page import Section, figure_grid, table
from segsmith.eda.pictures import Picture, image_uri, outlined
from segsmith.eda.views import TINY_PX, view

PAIRS_SHOWN = 12
OF_A_KIND = 3
MOSAICS_SHOWN = 6


def duplicates_section(dataset: Dataset, groups: Groups, found: Examination) -> Section:
    """What shows the same pixels, and what was cut from one larger picture."""
    pairs, mosaics = found.duplicates.pairs, found.mosaics
    parts: list[str] = []
    if groups.together:
        parts.append(
            f"{groups.together:,} images stand with others in a group that folds keep whole; "
            f"the largest holds {groups.largest:,}."
        )
    if too_large := found.duplicates.too_large:
        parts.append(f"Images too large to be read whole, which were not compared: {too_large:,}.")
    if len(dataset) - too_large < 2:
        return Section("Duplicates and mosaics", [*parts, "There is nothing to compare."])
    parts += _pairs(dataset, found.duplicates) if pairs else ["No two images show the same pixels."]
    parts += _mosaics(dataset, mosaics) if mosaics.mosaics else ["No images were cut side by side from a larger one."]
    return Section("Duplicates and mosaics", parts)


def side_by_side(dataset: Dataset, first: int, second: int) -> str:
    """Two images of one height with their truth outlined, as a data URI."""
    pictures = [_drawn(dataset, index) for index in (first, second)]
    height = max(picture.shape[0] for picture in pictures)
    gap = np.full((height, max(2, height // 40), 3), 255, np.uint8)
    left, right = (_as_high(picture, height) for picture in pictures)
    return image_uri(np.concatenate([left, gap, right], axis=1), max_side=800, enlarge=2 if height <= TINY_PX else 1)


def _pairs(dataset: Dataset, duplicates: Duplicates) -> list[str]:
    pairs = duplicates.pairs
    counts = Counter((_kind(pair), pair.labels_differ) for pair in pairs)
    rows = [
        [kind, f"{count:,}", "labelled otherwise" if differ else ""] for (kind, differ), count in counts.most_common()
    ]
    images = dataset.images["image_id"]
    items = [
        (side_by_side(dataset, pair.first, pair.second), _caption(pair, images[pair.first], images[pair.second]))
        for pair in _most_telling(pairs)
    ]
    many = f"{len(pairs):,} pairs of images show" if len(pairs) > 1 else "One pair of images shows"
    return [
        f"{many} the same pixels.",
        table(["the second is the first", "pairs", "labels"], rows, numeric=[1]),
        figure_grid(items, min_px=330),
    ]


def _kind(pair: Pair) -> str:
    """In words, without how far it is shifted."""
    words = ["pixel by pixel" if pair.exact else "nearly"]
    words += [SYMMETRIES[pair.fit.symmetry]] * bool(pair.fit.symmetry) + ["shifted"] * any(pair.fit.shift_yx)
    return ", ".join(words)


def _caption(pair: Pair, first: str, second: str) -> str:
    labels = "" if pair.labels_iou is None else f"; labels overlap by {pair.labels_iou:.0%}"
    return f"{first} and {second}: {pair.kind}, similarity {pair.fit.similarity:.2f}{labels}"


def _most_telling(pairs: Iterable[Pair]) -> list[Pair]:
    """Those with the least equal labels first, then the least similar; a few of each kind."""
    ordered = sorted(
        pairs, key=lambda p: (not p.labels_differ, p.labels_iou if p.labels_differ else 0.0, p.fit.similarity, p.first)
    )
    of_kind: Counter[str] = Counter()
    chosen: list[Pair] = []
    for pair in ordered:
        kind = _kind(pair)
        if of_kind[kind] < OF_A_KIND and len(chosen) < PAIRS_SHOWN:
            of_kind[kind] += 1
            chosen.append(pair)
    return chosen


def _mosaics(dataset: Dataset, found: Mosaics) -> list[str]:
    mosaics = found.mosaics
    images = sum(len(mosaic.images) for mosaic in mosaics)
    sizes = Counter(len(mosaic.images) for mosaic in mosaics)
    rows = [[f"{size:,}", f"{count:,}"] for size, count in sorted(sizes.items(), reverse=True)]
    shown = [mosaic for mosaic in mosaics if _pixels(dataset, mosaic) <= LARGEST_PIXELS][:MOSAICS_SHOWN]
    items = []
    for mosaic in shown:
        first = dataset.images["image_id"][mosaic.images[0]]
        caption = f"{len(mosaic.images)} images, {first} at the top left; black where one is missing"
        items.append((image_uri(as_rgb(rebuilt(dataset, mosaic)), max_side=800), caption))
    return [
        f"{images:,} images were cut side by side from {len(mosaics):,} larger pictures: their edges continue one "
        "another. Put together again, the largest look like this.",
        figure_grid(items, min_px=240),
        table(["images in a mosaic", "mosaics"], rows[:20], numeric=[0, 1]),
    ]


def _pixels(dataset: Dataset, mosaic: Mosaic) -> int:
    height, width = dataset.hw(mosaic.images[0])
    return (max(mosaic.rows) + 1) * height * (max(mosaic.columns) + 1) * width


def _drawn(dataset: Dataset, index: int) -> Picture:
    seen = view(dataset, index)
    return outlined(seen.image, np.asarray(seen.mask.any(axis=0)))


def _as_high(picture: Picture, height: int) -> UInt8[np.ndarray, "_height _width 3"]:
    if picture.shape[0] == height:
        return picture
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)

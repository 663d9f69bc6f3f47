"""One mask -> what is odd about its form: rectangle, full columns, specks, sides along the pixel grid."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import cv2
import numpy as np

from segsmith.audit.audit_images import Grey
from segsmith.types import ClassMask

SPECK_PX = 12
"""A mask of so few pixels is a speck."""
SLIP_PX = 2
"""So few pixels, touching no border, are a slip of the hand."""


class MaskMeasures(NamedTuple):
    """Of a mask that is not empty."""

    share: float
    """Foreground share of the image."""
    pixels: int
    objects: int
    smallest: int
    """Pixels of its smallest connected component."""
    form: str
    """'whole-image', 'full-columns', 'full-rows', 'rectangle', 'speck' or 'drawn'; of rectangles, columns and rows
    with the number of sides that lie inside the image, such as 'rectangle with 4 free sides' or 'full-columns with 2
    free sides', and of columns and rows whether they touch no border; of specks whether they lie 'at the border', where
    they may be a piece of something larger, or 'inside'."""
    straight: float
    """Share of the outline inside the image that runs along the pixel grid for an eighth of the image or more."""


def measure_mask(mask: ClassMask) -> MaskMeasures:
    """The form of a mask that is not empty."""
    pixels = int(mask.sum())
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    return MaskMeasures(
        share=pixels / mask.size,
        pixels=pixels,
        objects=count - 1,
        smallest=int(stats[1:, cv2.CC_STAT_AREA].min()),
        form=_form(mask, pixels),
        straight=_straight_share(mask),
    )


def _form(mask: ClassMask, pixels: int) -> str:
    if pixels == mask.size:
        return "whole-image"
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    height, width = mask.shape
    if pixels <= SPECK_PX:
        inside = top > 0 and left > 0 and bottom < height - 1 and right < width - 1
        return "speck inside" if inside else "speck at the border"
    if pixels == len(columns) * height:
        return f"full-columns {_sides(mask[0])}"
    if pixels == len(rows) * width:
        return f"full-rows {_sides(mask[:, 0])}"
    if pixels == (bottom - top + 1) * (right - left + 1):
        free = int(top > 0) + int(left > 0) + int(bottom < height - 1) + int(right < width - 1)
        return f"rectangle with {free} free sides"
    return "drawn"


def _sides(line: np.ndarray) -> str:
    """What ends at the border was cut off by it; what touches neither ends within the image on both sides."""
    free = int((line[1:] != line[:-1]).sum())
    return f"with {free} free sides" + (" that touch no border" if not (line[0] or line[-1]) else "")


def _straight_share(mask: ClassMask) -> float:
    """Outline is counted in edges between a pixel inside and one outside; the border of the image is none."""
    long, total = 0, 0
    for changes, length in (
        (mask[1:] != mask[:-1], mask.shape[1]),
        ((mask[:, 1:] != mask[:, :-1]).T, mask.shape[0]),
    ):
        flat = np.pad(changes, ((0, 0), (1, 1))).astype(np.int8).ravel()
        turns = np.flatnonzero(np.diff(flat))
        runs = turns[1::2] - turns[::2]
        long += int(runs[runs >= max(8, length // 8)].sum())
        total += int(runs.sum())
    return long / total if total else 0.0


def outline_contrast(grey: Grey, mask: ClassMask) -> float:
    """How much steeper the image is on the mask's outline than elsewhere: mean slope on it less that of the image, in
    deviations of the image's slope. 0 for a mask without outline, or an image without slopes.

    The mask is brought to the size of `grey` first.
    """
    if mask.shape != grey.shape:
        area = cv2.resize(mask.astype(np.float32), grey.shape[::-1], interpolation=cv2.INTER_AREA)
        mask = np.asarray(area >= 0.5)
    across, down = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    count = int(across.sum()) + int(down.sum())
    steep_across, steep_down = np.abs(np.diff(grey, axis=1)), np.abs(np.diff(grey, axis=0))
    # each direction against itself: layered images are far steeper down than across
    total = 0.0
    for outline, steep in ((across, steep_across), (down, steep_down)):
        spread = float(steep.std())
        if outline.any() and spread > 0:
            total += float(((steep[outline] - steep.mean()) / spread).sum())
    return total / count if count else 0.0


def read_along_rows(mask: ClassMask) -> ClassMask:
    """The mask its run lengths would give if their pixels were numbered along the rows, not down the columns. For a
    square image that is the transposed mask."""
    return np.ascontiguousarray(mask.T).reshape(mask.shape)


TURNS: Mapping[str, Callable[[ClassMask], ClassMask]] = {
    "read along the rows": read_along_rows,
    "flipped left to right": lambda mask: mask[:, ::-1],
    "flipped top to bottom": lambda mask: mask[::-1],
    "turned by 180 degrees": lambda mask: mask[::-1, ::-1],
}
"""What a mask may have suffered: each function undoes it."""

"""Mask and probabilities, strip by strip -> objects as polygons, those that touch taken apart; in pixel coordinates.

Pixel coordinates count from the raster's first corner, x right, y down. Memory holds a strip and the objects that its
last row cuts, however high the raster is; of objects that are to be taken apart, also their pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import shapely
from affine import Affine
from jaxtyping import Int, Int32, UInt8
from rasterio.features import shapes
from shapely import MultiPolygon, Polygon

from segsmith.decision.masks import CONNECTIVITY, Labels
from segsmith.decision.separation import relief_of, separated
from segsmith.delivery.outlines import Shape, without_overlaps
from segsmith.modeling.bundle import Decision
from segsmith.recipe import Separate
from segsmith.types import ClassMask, ClassProbabilities, Mask, Probabilities

LONGEST_PX = 2048
"""What is connected and longer, or wider, is not taken apart: each pixel of it would have to be held until its last row
is known, and to take it apart needs some 90 bytes for each pixel of the box around it."""

Planes = UInt8[np.ndarray, "_planes _rows _width"]


@dataclass(frozen=True)
class FoundObject:
    """An object of a raster: what is connected, at corners too, or a part of that which was taken apart."""

    class_name: str
    outline: MultiPolygon
    """Along the edges of its pixels, holes kept; parts that touch at corners alone are polygons of their own."""
    pixels: int
    score: float
    """Mean probability of its pixels, 0 to 1."""


class Apart(NamedTuple):
    """How touching objects of a class are taken apart, see separation.py."""

    by: Separate
    depth: int


class _Pixels(NamedTuple):
    """Some pixels of an object."""

    rows: Int32[np.ndarray, " pixels"]
    columns: Int32[np.ndarray, " pixels"]
    planes: UInt8[np.ndarray, "planes pixels"]
    """Their probabilities, and behind these what their relief is made of."""


@dataclass
class _Open:
    """What is known so far of a connected thing that reaches the strip's last row."""

    pieces: list[Polygon]
    pixels: int
    levels: int
    box: tuple[int, int, int, int]
    """First row and column, and those behind the last."""
    held: list[_Pixels]
    """All its pixels, if it is to be taken apart and not too large for that."""

    def take(self, other: "_Open") -> None:
        self.pieces += other.pieces
        self.pixels += other.pixels
        self.levels += other.levels
        (top, left, bottom, right), also = self.box, other.box
        top, left, bottom, right = min(top, also[0]), min(left, also[1]), max(bottom, also[2]), max(right, also[3])
        self.box = top, left, bottom, right
        complete = self.held and other.held and max(bottom - top, right - left) <= LONGEST_PX
        self.held = self.held + other.held if complete else []


class ObjectPolygons:
    """Objects of one class of a raster, given strip by strip from above; each comes out when its last row is in.

    With `apart`, what is connected is taken apart as `separation.separated` does it to the whole raster: it is held
    until it is complete, since where it comes apart depends on all of it. What is longer than LONGEST_PX stays one.
    """

    def __init__(self, class_name: str, apart: Apart | None = None) -> None:
        self.class_name, self.apart = class_name, apart
        self.row = 0
        self.left_whole = 0
        """How many were too large to be taken apart."""
        self._open: dict[int, _Open] = {}
        self._last_row: Int[np.ndarray, " width"] | None = None
        """The number of the open thing at each pixel of the last row, 0 for none."""
        self._next = 1

    def add(
        self, mask: ClassMask, probabilities: ClassProbabilities, planes: Planes | None = None
    ) -> Iterator[list[FoundObject]]:
        """The objects of each connected thing that ends within this strip, or ended with the one before. `planes` are
        those of the class and its border, where objects are taken apart by these."""
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=CONNECTIVITY)
        levels = np.bincount(labels.ravel(), probabilities.ravel(), minlength=count).astype(np.int64)
        held = self._pixels(labels, [probabilities, *(() if planes is None else planes)]) if self.apart else {}
        here = {}
        for label, (left, top, width, height, pixels) in enumerate(stats.tolist()):
            box = self.row + top, left, self.row + top + height, left + width
            too_large = max(width, height) > LONGEST_PX
            here[label] = _Open([], pixels, int(levels[label]), box, [] if too_large else held.get(label, []))
        del here[0]
        for label, piece in _pieces(labels, self.row, 0):
            here[label].pieces.append(piece)
        number_of = self._joined(labels[0], here)
        self._last_row = number_of[labels[-1]]
        self.row += len(mask)
        yield from self._closed(set(np.unique(self._last_row).tolist()), mask.shape[1])

    def finish(self) -> Iterator[list[FoundObject]]:
        """Those that the last strip cuts."""
        if self._last_row is not None:
            yield from self._closed(set(), len(self._last_row))

    def _pixels(self, labels: Labels, planes: Sequence[ClassProbabilities]) -> dict[int, list[_Pixels]]:
        """The pixels of each label of a strip."""
        rows, columns = np.nonzero(labels)
        of_pixels = labels[rows, columns]
        order = np.argsort(of_pixels, kind="stable")
        numbers, first = np.unique(of_pixels[order], return_index=True)
        places = np.split(order, first[1:])
        return {
            label: [
                _Pixels(
                    (rows[at] + self.row).astype(np.int32),
                    columns[at].astype(np.int32),
                    np.stack([plane[rows[at], columns[at]] for plane in planes]),
                )
            ]
            for label, at in zip(numbers.tolist(), places, strict=True)
        }

    def _joined(self, first_row: Int[np.ndarray, " width"], here: dict[int, _Open]) -> Int[np.ndarray, " labels"]:
        """Join the things of a strip to those of the last row they touch; the number of each label's thing."""
        number_of = np.zeros(len(here) + 1, np.int64)
        for label, found in here.items():
            self._open[self._next] = found
            number_of[label] = self._next
            self._next += 1
        if self._last_row is None:
            return number_of
        above, below = self._last_row, number_of[first_row]
        pairs = [(above, below), (above[:-1], below[1:]), (above[1:], below[:-1])]
        joined: dict[int, int] = {}

        def root(number: int) -> int:
            while number in joined:
                number = joined[number]
            return number

        for one, other in {pair for a, b in pairs for pair in zip(a.tolist(), b.tolist(), strict=True) if all(pair)}:
            first, second = sorted((root(one), root(other)))
            if first != second:
                joined[second] = first
                self._open[first].take(self._open.pop(second))
        return np.array([root(number) for number in number_of.tolist()], np.int64)

    def _closed(self, still_open: set[int], width: int) -> Iterator[list[FoundObject]]:
        for number in sorted(self._open.keys() - still_open):
            found = self._open.pop(number)
            self.left_whole += self.apart is not None and not found.held
            parts = self._taken_apart(found, width) if found.held else []
            yield parts or [self._object(found.pieces, found.pixels, found.levels)]

    def _taken_apart(self, found: _Open, width: int) -> list[FoundObject]:
        """The objects that a connected thing consists of; none where it is one."""
        assert self.apart is not None
        top, left, bottom, right = found.box
        # what is beside it is no part of it, but what is beyond the raster's edge may be
        top, left = max(0, top - 1), max(0, left - 1)
        bottom, right = min(self.row, bottom + 1), min(width, right + 1)
        planes = np.zeros((len(found.held[0].planes), bottom - top, right - left), np.uint8)
        mask = np.zeros(planes.shape[1:], bool)
        for part in found.held:
            rows, columns = part.rows - top, part.columns - left
            mask[rows, columns] = True
            planes[:, rows, columns] = part.planes
        (labels,) = separated(relief_of(self.apart.by, mask, 0, planes[1:]), [self.apart.depth])
        count = int(labels.max()) + 1
        if count == 2:
            return []
        pixels = np.bincount(labels.ravel(), minlength=count).tolist()
        levels = np.bincount(labels.ravel(), planes[0].ravel(), minlength=count).astype(np.int64).tolist()
        pieces: list[list[Polygon]] = [[] for _ in range(count)]
        for label, piece in _pieces(labels, top, left):
            pieces[label].append(piece)
        return [self._object(*of) for of in list(zip(pieces, pixels, levels, strict=True))[1:]]

    def _object(self, pieces: Sequence[Polygon], pixels: int, levels: int) -> FoundObject:
        whole = shapely.union_all(pieces)
        parts = list(whole.geoms) if isinstance(whole, MultiPolygon) else [whole]
        return FoundObject(self.class_name, MultiPolygon(parts), pixels, levels / pixels / 255)


class ClassPolygons:
    """Objects of all classes of a raster, strip by strip from above, each outline given the shape that `shape` makes of
    it; touching objects are taken apart as a decision says. No two outlines of a class overlap."""

    def __init__(self, classes: Sequence[str], shape: Shape, decision: Decision) -> None:
        self.shape = shape
        cells = decision.cells_of(len(classes))
        self._polygons = [
            ObjectPolygons(name, Apart(decision.separate_by, cell.depth) if cell.depth else None)
            for name, cell in zip(classes, cells, strict=True)
        ]
        self._found: list[list[FoundObject]] = [[] for _ in classes]

    @property
    def left_whole(self) -> dict[str, int]:
        """Of each class that is taken apart, how many connected things were too large for that."""
        return {of.class_name: of.left_whole for of in self._polygons if of.apart}

    def add(self, mask: Mask, probabilities: Probabilities, planes: Planes) -> None:
        """The next strip. `probabilities` are what scores are of; `planes` are the bundle's, as the networks have them:
        of the classes and, where objects are taken apart by borders, of these."""
        count = len(self._polygons)
        for number, (polygons, found) in enumerate(zip(self._polygons, self._found, strict=True)):
            by_borders = polygons.apart is not None and polygons.apart.by == "border"
            relief = planes[number::count] if by_borders else None
            found += self._shaped(polygons.add(mask[number], probabilities[number], relief))

    def finish(self) -> list[FoundObject]:
        """All objects, class by class, in the order of their last rows."""
        everything = []
        for polygons, found in zip(self._polygons, self._found, strict=True):
            found += self._shaped(polygons.finish())
            outlines = without_overlaps([of.outline for of in found])
            everything += [replace(of, outline=outline) for of, outline in zip(found, outlines, strict=True)]
        return everything

    def _shaped(self, found: Iterator[list[FoundObject]]) -> Iterator[FoundObject]:
        for touching in found:
            outlines = self.shape([of.outline for of in touching])
            yield from (replace(of, outline=outline) for of, outline in zip(touching, outlines, strict=True))


def _pieces(labels: Labels, row: int, column: int) -> Iterator[tuple[int, Polygon]]:
    """Outlines of what of each label hangs together at sides, in a window whose first pixel is this."""
    moved = Affine.translation(column, row)
    for geometry, label in shapes(
        labels.astype(np.int32, copy=False), mask=labels > 0, connectivity=4, transform=moved
    ):
        rings = geometry["coordinates"]
        yield int(label), Polygon(rings[0], rings[1:])

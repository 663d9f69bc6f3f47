"""Mask and probabilities, strip by strip -> objects as polygons: outlines in pixel coordinates, simplified, squared.

Pixel coordinates count from the raster's first corner, x right, y down. Memory holds a strip and the objects that its
last row cuts, however high the raster is.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import cv2
import numpy as np
import shapely
from affine import Affine
from jaxtyping import Float, Int
from rasterio.features import shapes
from shapely import MultiPolygon, Point, Polygon
from shapely.affinity import rotate

from segsmith.decision.masks import CONNECTIVITY
from segsmith.types import ClassMask, ClassProbabilities, Mask, Probabilities

Ring = Float[np.ndarray, "_points 2"]

SIMPLIFIED_PX = 0.5
"""Half a pixel is what a grid of pixels leaves open anyway."""
SQUARED_IOU = 0.85
"""A squared outline that covers its object worse than this is given up for the simplified one."""
SQUARED_PX = 1.5
"""Corners nearer than this to the line between their neighbours are no corners of a building."""


@dataclass(frozen=True)
class FoundObject:
    """An object of a raster: what is connected, at corners too."""

    class_name: str
    outline: MultiPolygon
    """Along the edges of its pixels, holes kept; parts that touch at corners alone are polygons of their own."""
    pixels: int
    score: float
    """Mean probability of its pixels, 0 to 1."""


@dataclass
class _Open:
    """What is known so far of an object that reaches the strip's last row."""

    pieces: list[Polygon]
    pixels: int
    levels: int


class ObjectPolygons:
    """Objects of one class of a raster, given strip by strip from above; each comes out when its last row is in."""

    def __init__(self, class_name: str) -> None:
        self.class_name = class_name
        self.row = 0
        self._open: dict[int, _Open] = {}
        self._last_row: Int[np.ndarray, " width"] | None = None
        """The number of the open object at each pixel of the last row, 0 for none."""
        self._next = 1

    def add(self, mask: ClassMask, probabilities: ClassProbabilities) -> Iterator[FoundObject]:
        """The objects that end within this strip, or ended with the one before."""
        count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=CONNECTIVITY, ltype=cv2.CV_32S)
        pixels = np.bincount(labels.ravel(), minlength=count)
        levels = np.bincount(labels.ravel(), probabilities.ravel(), minlength=count).astype(np.int64)
        here = {label: _Open([], int(pixels[label]), int(levels[label])) for label in range(1, count)}
        moved = Affine.translation(0, self.row)
        for geometry, label in shapes(labels, mask=mask, connectivity=4, transform=moved):
            rings = geometry["coordinates"]
            here[int(label)].pieces.append(Polygon(rings[0], rings[1:]))
        number_of = self._joined(labels[0], here)
        self._last_row = number_of[labels[-1]]
        self.row += len(mask)
        yield from self._closed(set(np.unique(self._last_row).tolist()))

    def finish(self) -> Iterator[FoundObject]:
        """The objects that the last strip cuts."""
        yield from self._closed(set())

    def _joined(self, first_row: Int[np.ndarray, " width"], here: dict[int, _Open]) -> Int[np.ndarray, " labels"]:
        """Join the objects of a strip to those of the last row they touch; the number of each label's object."""
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
                gone, kept = self._open.pop(second), self._open[first]
                kept.pieces += gone.pieces
                kept.pixels += gone.pixels
                kept.levels += gone.levels
        return np.array([root(number) for number in number_of.tolist()], np.int64)

    def _closed(self, still_open: set[int]) -> Iterator[FoundObject]:
        for number in sorted(self._open.keys() - still_open):
            found = self._open.pop(number)
            whole = shapely.union_all(found.pieces)
            parts = list(whole.geoms) if isinstance(whole, MultiPolygon) else [whole]
            yield FoundObject(self.class_name, MultiPolygon(parts), found.pixels, found.levels / found.pixels / 255)


class ClassPolygons:
    """Objects of all classes of a raster, strip by strip from above, each outline given the shape that `shape` makes of
    it."""

    def __init__(self, classes: Sequence[str], shape: Callable[[MultiPolygon], MultiPolygon]) -> None:
        self.shape = shape
        self._polygons = [ObjectPolygons(name) for name in classes]
        self._found: list[list[FoundObject]] = [[] for _ in classes]

    def add(self, mask: Mask, probabilities: Probabilities) -> None:
        for polygons, found, *planes in zip(self._polygons, self._found, mask, probabilities, strict=True):
            found += self._shaped(polygons.add(*planes))

    def finish(self) -> list[FoundObject]:
        """All objects, class by class, in the order of their last rows."""
        for polygons, found in zip(self._polygons, self._found, strict=True):
            found += self._shaped(polygons.finish())
        return list(chain(*self._found))

    def _shaped(self, found: Iterator[FoundObject]) -> Iterator[FoundObject]:
        return (replace(of, outline=self.shape(of.outline)) for of in found)


def simplified(outline: MultiPolygon) -> MultiPolygon:
    """The outline without the steps of the pixel grid, valid, nowhere more than SIMPLIFIED_PX away from the line
    through the middles of the pixels' edges (by Douglas and Peucker 1973). That line runs straight along a slanted
    wall, where the edges themselves go up and down; it cuts corners by a third of a pixel."""
    middles = MultiPolygon([Polygon(outer, holes) for outer, *holes in map(_edge_middles, outline.geoms)])
    for tolerance in (SIMPLIFIED_PX, SIMPLIFIED_PX / 2):  # where a ring begins, the library may go further than told
        found = _polygons_of(shapely.simplify(middles, tolerance, preserve_topology=True))
        if shapely.hausdorff_distance(middles.boundary, found.boundary) <= SIMPLIFIED_PX:
            return found
    return middles


def _edge_middles(part: Polygon) -> list[Ring]:
    """The rings through the middles of the edges of single pixels."""
    rings = []
    for ring in _rings(part):
        steps = np.roll(ring, -1, axis=0) - ring
        edges = np.abs(steps).max(axis=1).astype(int)
        first = np.repeat(edges.cumsum() - edges, edges)
        along = (np.arange(edges.sum()) - first + 0.5) / np.repeat(edges, edges)
        rings.append(np.repeat(ring, edges, axis=0) + along[:, None] * np.repeat(steps, edges, axis=0))
    return rings


def squared(outline: MultiPolygon) -> MultiPolygon:
    """The outline of a building with right angles: every wall along the building's own direction or across it.

    The direction is the one that most of the outline's length follows; each wall goes through the middle of the part of
    the outline it stands for. Parts that a right-angled outline covers worse than SQUARED_IOU stay as `simplified`
    gives them.
    """
    return _polygons_of(shapely.union_all([_squared_part(part) for part in outline.geoms]))


def _squared_part(part: Polygon) -> Polygon | MultiPolygon:
    rough = shapely.simplify(part, SQUARED_PX, preserve_topology=True)
    angle, middle = _direction(rough), part.centroid
    rings = [
        _right_angled(_upright(ring, angle, middle), _corners(ring, rough_ring))
        for ring, rough_ring in zip(_rings(part), _rings(rough), strict=True)
    ]
    if rings[0] is not None:
        found = shapely.make_valid(Polygon(rings[0], [ring for ring in rings[1:] if ring is not None]))
        turned = rotate(found, angle, origin=middle)
        union = turned.union(part).area
        if turned.geom_type == "Polygon" and union and turned.intersection(part).area / union >= SQUARED_IOU:
            return turned
    return simplified(MultiPolygon([part]))


def _direction(polygon: Polygon) -> float:
    """Degrees, 0 to 90, that most of the outline's length follows: the mean of its edges' directions, four times the
    angle, so that a wall and one across it are the same."""
    steps = np.diff(np.asarray(polygon.exterior.coords), axis=0)
    length, towards = np.hypot(*steps.T), np.arctan2(steps[:, 1], steps[:, 0])
    mean = (length**2 * np.exp(4j * towards)).sum()  # long walls say it better than short ones
    return math.degrees(np.angle(mean) / 4) % 90


def _rings(polygon: Polygon) -> list[Ring]:
    """Outer ring first; without the last point, which is the first again."""
    return [np.asarray(ring.coords)[:-1] for ring in (polygon.exterior, *polygon.interiors)]


def _upright(ring: Ring, angle: float, middle: Point) -> Ring:
    turned = rotate(Polygon(ring), -angle, origin=middle)
    return np.asarray(turned.exterior.coords)[:-1]


def _corners(ring: Ring, rough: Ring) -> Int[np.ndarray, " corners"]:
    """Where the points of a simplified ring, which are some of the ring's own, stand in it."""
    place = {point: number for number, point in enumerate(map(tuple, ring.tolist()))}
    return np.sort([place[point] for point in map(tuple, rough.tolist())])


def _right_angled(ring: Ring, corners: Int[np.ndarray, " corners"]) -> Ring | None:
    """Corners of a ring whose edges run along the axes. Between two corners runs an edge; neighbouring edges of one
    direction become one wall, through the middle of the ring's own points there, and walls meet at corners. None where
    fewer than four walls are left."""
    ring = np.roll(ring, -int(corners[0]), axis=0)
    corners = corners - corners[0]
    steps = np.roll(ring[corners], -1, axis=0) - ring[corners]
    across = np.abs(steps[:, 0]) < np.abs(steps[:, 1])  # the edge runs along y: its wall is an x
    changes = np.flatnonzero(across != np.roll(across, 1))
    if len(changes) < 4:
        return None
    begin = int(corners[changes[0]])
    ring, corners = np.roll(ring, -begin, axis=0), (corners[changes] - begin) % len(ring)
    across = across[changes]
    after = np.roll(ring, -1, axis=0)
    length, middle = np.hypot(*(after - ring).T), (after + ring) / 2
    place = np.add.reduceat(length[:, None] * middle, corners) / np.add.reduceat(length, corners)[:, None]
    wall = np.where(across, place[:, 0], place[:, 1])
    other = np.roll(wall, -1)
    return np.stack([np.where(across, wall, other), np.where(across, other, wall)], axis=1)


def _polygons_of(geometry: shapely.Geometry) -> MultiPolygon:
    """The polygons of what an operation made, lines and points left out."""
    valid = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    parts = shapely.get_parts(valid)
    return MultiPolygon([part for part in parts if part.geom_type == "Polygon" and not part.is_empty])

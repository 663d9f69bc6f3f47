"""Outlines along the edges of pixels -> without the steps of the grid, or with right angles; none over another."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import shapely
from jaxtyping import Float, Int
from shapely import MultiPolygon, Point, Polygon
from shapely.affinity import rotate

Shape = Callable[[Sequence[MultiPolygon]], list[MultiPolygon]]
"""Outlines of objects that touch each other -> another of each, in the same order."""
Ring = Float[np.ndarray, "_points 2"]

SIMPLIFIED_PX = 0.5
"""Half a pixel is what a grid of pixels leaves open anyway."""
SQUARED_IOU = 0.85
"""A squared outline that covers its object worse than this is given up for the simplified one."""
SQUARED_PX = 1.5
"""Corners nearer than this to the line between their neighbours are no corners of a building."""


def simplified(outlines: Sequence[MultiPolygon]) -> list[MultiPolygon]:
    """Outlines of touching objects without the steps of the pixel grid, valid, nowhere more than SIMPLIFIED_PX away
    from the line through the middles of the pixels' edges. That line runs straight along a slanted wall, where the
    edges themselves go up and down; it cuts corners by a third of a pixel.

    An object by itself is simplified by Douglas and Peucker (1973). Several are together, by Visvalingam and Whyatt
    (1993), so that what two of them share stays one line.
    """
    middles = [
        MultiPolygon([Polygon(outer, holes) for outer, *holes in map(_edge_middles, of.geoms)]) for of in outlines
    ]
    for tolerance in (SIMPLIFIED_PX, SIMPLIFIED_PX / 2):  # by either way, the library may go further than told
        found = _simplified_by(tolerance, middles)
        if all(map(_near, middles, found)):
            return found
    return middles


def _simplified_by(tolerance: float, middles: Sequence[MultiPolygon]) -> list[MultiPolygon]:
    if len(middles) > 1:
        return [_polygons_of(of) for of in shapely.coverage_simplify(np.array(middles, object), tolerance)]
    return [_polygons_of(shapely.simplify(of, tolerance, preserve_topology=True)) for of in middles]


def _near(middles: MultiPolygon, found: MultiPolygon) -> bool:
    distance = shapely.hausdorff_distance(middles.boundary, found.boundary)  # NaN of nothing
    return bool(distance <= SIMPLIFIED_PX)


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


def squared(outlines: Sequence[MultiPolygon]) -> list[MultiPolygon]:
    """Outlines of buildings with right angles: every wall along the building's own direction or across it. Those of
    buildings that touch may overlap a little.

    The direction is the one that most of the outline's length follows; each wall goes through the middle of the part of
    the outline it stands for. Parts that a right-angled outline covers worse than SQUARED_IOU stay as `simplified`
    gives them.
    """
    return [_polygons_of(shapely.union_all([_squared_part(part) for part in of.geoms])) for of in outlines]


def without_overlaps(outlines: Sequence[MultiPolygon]) -> list[MultiPolygon]:
    """The same outlines, of two that overlap the larger without what the smaller has; a larger one of which nothing
    would be left stays as it is."""
    found = np.array(outlines, object)
    areas = shapely.area(found)
    one, other = shapely.STRtree(found).query(found, predicate="intersects")
    smaller = (areas[other] < areas[one]) | ((areas[other] == areas[one]) & (other < one))
    rivals: dict[int, list[int]] = {}
    for larger, rival in zip(one[smaller].tolist(), other[smaller].tolist(), strict=True):
        rivals.setdefault(larger, []).append(rival)
    for larger in sorted(rivals, key=lambda number: (areas[number], number)):
        near = shapely.union_all(found[rivals[larger]])
        if found[larger].intersection(near).area > 0:
            left = _polygons_of(found[larger].difference(near))
            found[larger] = found[larger] if left.is_empty else left
    return list(found)


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
    return simplified([MultiPolygon([part])])[0]


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

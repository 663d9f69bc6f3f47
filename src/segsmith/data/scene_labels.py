"""Scenes + their vector files -> the objects of each scene, in its pixels, and what there is to say of them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely

from segsmith.data.footprints import LONGITUDE_LATITUDE, Footprints, read_footprints, reprojected, to_pixels
from segsmith.data.index import LabelledObject
from segsmith.data.rasters import RasterFacts
from segsmith.data.scene_files import Scene
from segsmith.errors import DataError, listed
from segsmith.progress import track
from segsmith.types import Runs

MOST_CLASSES = 127
NO_RUNS: Runs = np.empty((0, 2), np.int32)


def read_objects(
    raw: Path, scenes: Sequence[Scene], facts: Sequence[RasterFacts], class_field: str | None
) -> tuple[list[LabelledObject], tuple[str, ...], list[str]]:
    """The footprints of every scene, in the order of the files' features; the classes, and what there is to say."""
    scenes_of: dict[Path, list[int]] = {}
    for number, scene in enumerate(scenes):
        for file in scene.labels:
            scenes_of.setdefault(file, []).append(number)
    hits: list[tuple[int, str, int, bytes]] = []
    problems: list[str] = []
    counts: Counter[str] = Counter()
    empty: list[Path] = []
    for file, numbers in track(scenes_of.items(), "vector files", len(scenes_of)):
        try:
            footprints = read_footprints(file, class_field)
            inside, reached = _in_scenes(footprints, numbers, facts)
            if len(footprints.polygons) and not inside and not _beside(footprints, numbers, facts):
                raise DataError(_all_outside(footprints, numbers, scenes, facts))
        except DataError as error:
            problems.append(str(error))
            continue
        hits += inside
        if not footprints.features:
            empty.append(file)
        counts["footprints"] += len(footprints.polygons)
        counts["repaired"] += footprints.repaired
        counts["skipped"] += footprints.skipped
        counts["outside"] += int((~reached).sum())
    if problems:
        raise DataError(f"{len(problems)} of {len(scenes_of)} vector files cannot be used:\n{listed(problems)}")
    if empty and len(empty) == len(scenes_of):
        raise DataError(f"{raw}: all {len(empty)} vector files are empty, such as {empty[0]}; nothing can be learnt")
    classes = sorted({name for _, name, _, _ in hits}) or ["object"]
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"{raw}: field {class_field} has {len(classes)} values, such as {', '.join(classes[:3])}; "
            f"at most {MOST_CLASSES} classes are learnt, choose a field that says the kind"
        )
    class_ids = {name: n for n, name in enumerate(classes)}
    objects = [LabelledObject(scene, class_ids[name], row, NO_RUNS, shape) for scene, name, row, shape in hits]
    notes = [f"{counts['footprints']} footprints, {len(objects)} objects of scenes"]
    if empty:
        holds = "1 vector file holds" if len(empty) == 1 else f"{len(empty)} vector files hold"
        notes.append(f"{holds} nothing: {'its scene is' if len(empty) == 1 else 'their scenes are'} labelled as empty")
    for kind, one, many in (
        ("repaired", "footprint crossed itself and was repaired", "footprints crossed themselves and were repaired"),
        (
            "skipped",
            "feature is no polygon, or one without area, and was left out",
            "features are no polygon, or one without area, and were left out",
        ),
        (
            "outside",
            "footprint lies outside all scenes of its file and was left out",
            "footprints lie outside all scenes of their file and were left out",
        ),
    ):
        if counts[kind]:
            notes.append(f"{counts[kind]} {one if counts[kind] == 1 else many}")
    return objects, tuple(classes), notes


def _in_scenes(
    footprints: Footprints, numbers: Sequence[int], facts: Sequence[RasterFacts]
) -> tuple[list[tuple[int, str, int, bytes]], np.ndarray]:
    """(scene, class, feature, polygon in pixel coordinates) for every scene a footprint lies in; which lie in any."""
    placed: dict[str, shapely.STRtree] = {}
    hits = []
    reached = np.zeros(len(footprints.polygons), bool)
    for number in numbers:
        raster = facts[number]
        assert raster.crs is not None
        if raster.crs not in placed:
            try:
                placed[raster.crs] = shapely.STRtree(reprojected(footprints.polygons, footprints.crs, raster.crs))
            except ValueError as error:
                raise DataError(f"{footprints.file}: {error}") from None
        tree = placed[raster.crs]
        near = np.sort(tree.query(raster_outline(raster)))
        polygons = to_pixels(tree.geometries[near], raster.transform)
        frame = shapely.box(0, 0, raster.hw[1], raster.hw[0])
        # exact intersections need valid polygons, and snapping may have made one touch itself
        valid = np.where(shapely.is_valid(polygons), polygons, shapely.buffer(polygons, 0))
        within = shapely.area(shapely.intersection(valid, frame)) > 0
        reached[near[within]] = True
        for which, shape in zip(near[within], shapely.to_wkb(polygons[within]), strict=True):
            hits.append((number, footprints.classes[which], int(footprints.numbers[which]), shape))
    return hits, reached


def raster_outline(raster: RasterFacts, margin: float = 0.0) -> shapely.Polygon:
    """The corners of a raster in its CRS, `margin` pixels further in."""
    a, b, c, d, e, f = raster.transform
    height, width = raster.hw
    xs, ys = (margin, width - margin), (margin, height - margin)
    corners = [(xs[0], ys[0]), (xs[1], ys[0]), (xs[1], ys[1]), (xs[0], ys[1])]
    return shapely.Polygon([(a * x + b * y + c, d * x + e * y + f) for x, y in corners])


def _beside(footprints: Footprints, numbers: Sequence[int], facts: Sequence[RasterFacts]) -> bool:
    """Whether a footprint lies no farther from a scene than the scene is large: then it is not misplaced."""
    return any(
        bool(shapely.intersects(raster_outline(raster, -float(max(raster.hw))), polygons).any())
        for raster in (facts[number] for number in numbers)
        for polygons in [reprojected(footprints.polygons, footprints.crs, str(raster.crs))]
    )


def _all_outside(
    footprints: Footprints, numbers: Sequence[int], scenes: Sequence[Scene], facts: Sequence[RasterFacts]
) -> str:
    labels = reprojected(footprints.polygons, footprints.crs, LONGITUDE_LATITUDE)
    rasters = [
        outline
        for n in numbers
        for outline in reprojected(np.array([raster_outline(facts[n])]), str(facts[n].crs), LONGITUDE_LATITUDE)
    ]
    names = ", ".join(scenes[n].path.name for n in numbers[:3]) + (" and others" if len(numbers) > 3 else "")
    return (
        f"{footprints.file}: all {len(footprints.polygons)} footprints lie outside its scenes ({names}): labels at "
        f"{_extent(labels)}, scenes at {_extent(np.array(rasters))}; is the CRS of one of them wrong "
        f"({footprints.crs}, {facts[numbers[0]].crs})?"
    )


def _extent(shapes: np.ndarray) -> str:
    left, bottom, right, top = shapely.total_bounds(shapes)
    if not np.isfinite(left) or max(abs(bottom), abs(top)) > 90:
        return "no longitude and latitude"
    return f"longitude {left:.5f} to {right:.5f}, latitude {bottom:.5f} to {top:.5f}"

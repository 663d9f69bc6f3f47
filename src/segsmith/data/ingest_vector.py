"""GeoTIFF scenes + vector labels -> Dataset. Three layouts, told apart by where the files stand, and said.

area-vectors   AREA/*.tif beside AREA/*.geojson (or .gpkg, .shp): one vector file labels the scenes of its folder; a
               folder of scenes without one is unlabelled; one vector file alone labels all scenes
tile-vectors   tiles and a vector file for each, names alike at the end: RGB_x_img1.tif, buildings_x_img1.geojson
stac           catalog.json, collection.json and items: assets that are GeoTIFF, label items with `source` links
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import walk
from os.path import normpath
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
import shapely

from segsmith.data.cleaning import Cleaning
from segsmith.data.dataset import Dataset, Layout
from segsmith.data.footprints import (
    LONGITUDE_LATITUDE,
    Footprints,
    is_vector,
    read_footprints,
    reprojected,
    to_pixels,
)
from segsmith.data.images import ImageFacts
from segsmith.data.index import LabelledImage, LabelledObject, in_threads, index
from segsmith.data.rasters import Levels, RasterFacts, common_levels, inspect_raster, is_raster, measure_levels
from segsmith.errors import DataError, listed
from segsmith.progress import track
from segsmith.types import Runs

LOOKED_FOR = "GeoTIFF scenes with GeoJSON, GeoPackage or Shapefile labels, or a STAC catalogue of both"
MOST_CLASSES = 127
NO_RUNS: Runs = np.empty((0, 2), np.int32)


@dataclass
class Scene:
    """A raster and the vector files that label it; no file: unlabelled. Paths are absolute."""

    path: Path
    labels: list[Path] = field(default_factory=list)


class Found(NamedTuple):
    """The layout a folder is in, and the evidence for it in words."""

    layout: str
    evidence: str
    scenes: tuple[Scene, ...]
    notes: tuple[str, ...] = ()


def recognise(raw: Path) -> str | None:
    """What of this layout lies in a raw folder, in words; None if nothing does. Raises DataError like `find_scenes`."""
    found = find_scenes(raw)
    return found and found.evidence


def find_scenes(raw: Path) -> Found | None:
    """The scenes of a folder and their vector files; None where it holds no GeoTIFF or no vector file.

    Raises DataError for a STAC folder whose links or assets are missing or lead out of it, and for names that fit
    several tiles or vector files.
    """
    raw = raw.resolve()
    files = sorted(_files(raw))
    rasters, vectors = [f for f in files if is_raster(f)], [f for f in files if is_vector(f)]
    if not rasters:
        return None
    documents = {f: d for f in files if f.suffix == ".json" for d in (_stac_document(f),) if d}
    if documents and any(d["type"] in ("Catalog", "Collection") for d in documents.values()):
        return _stac(raw, documents)
    if not vectors:
        return None
    per_folder = Counter(vector.parent for vector in vectors)
    if len(vectors) == 1 or (max(per_folder.values()) == 1 and all(_below(f, rasters) for f in per_folder)):
        return _areas(raw, rasters, vectors)
    return _tiles(raw, rasters, vectors)


def ingest(raw: Path, *, class_field: str | None = None, cleaning: Cleaning | None = None) -> Dataset:
    """The dataset of a folder of scenes and vector labels; every block of every scene is decoded once.

    Classes are the values of `class_field`, sorted, or one class 'object' without it. A footprint in several scenes is
    an object of each; scenes that overlap on the ground share a group. `source` is the first folder below `raw`, 'all'
    where there is none; scenes of a source share the range that becomes level 0 to 255. Memory is that of the labels
    and one vector file. Raises DataError naming every file that is wrong, at most ten at a time.
    """
    raw, cleaning = raw.resolve(), cleaning or Cleaning()
    if not raw.is_dir():
        raise DataError(f"{raw}: no such folder")
    found = find_scenes(raw)
    if found is None:
        raise DataError(f"{raw}: no GeoTIFF scenes with vector labels (GeoJSON, GeoPackage or Shapefile) here")
    scene_of = {str(scene.path.relative_to(raw)): scene for scene in found.scenes}
    cleaned = cleaning.apply(raw, _images(scene_of))
    images = cleaned.images
    scenes = [scene_of[image.path] for image in images]
    sources = [image.source for image in images]
    facts = _look_at_scenes(scenes)
    levels = _levels_of_sources(raw, scenes, facts, sources)
    measured = _checked([scene.path for scene in scenes], lambda i: measure_levels(scenes[i].path, levels[sources[i]]))
    objects, classes, notes = _read_objects(raw, scenes, facts, class_field)
    groups = _overlapping(facts)
    notes = [*cleaned.notes, *found.notes, *notes]
    unlabelled = sum(not scene.labels for scene in scenes)
    if unlabelled:
        notes.append(f"{unlabelled} of {len(scenes)} scenes are unlabelled: no vector file is theirs")
    if shared := len(scenes) - len(set(groups)):
        notes.append(f"{shared} scenes overlap others on the ground; they share a group")
    return index(
        raw,
        Layout(found.layout, "ImageId", "EncodedPixels", one_row_per="object", id_has_suffix=False),
        classes,
        [image._replace(group=group) for image, group in zip(images, groups, strict=True)],
        [
            ImageFacts(f.hw, f.bands, f.file_bytes, m.mean, m.std, f.crs, f.transform, f.gsd_m, *levels[source])
            for f, m, source in zip(facts, measured, sources, strict=True)
        ],
        objects,
        notes,
    )


def _images(scene_of: dict[str, Scene]) -> list[LabelledImage]:
    """The id of a scene is its name, or its path where two have one name; its source the first folder it is in."""
    stems = [Path(path).stem for path in scene_of]
    ids = stems if len(set(stems)) == len(stems) else [str(Path(path).with_suffix("")) for path in scene_of]
    return [
        LabelledImage(image_id, path, bool(scene.labels), Path(path).parts[0] if len(Path(path).parts) > 1 else "all")
        for image_id, (path, scene) in zip(ids, scene_of.items(), strict=True)
    ]


def _files(raw: Path) -> Iterator[Path]:
    for top, folders, files in walk(raw):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(top, name) for name in files if not name.startswith("."))


def _below(folder: Path, rasters: Sequence[Path]) -> bool:
    return any(raster.is_relative_to(folder) for raster in rasters)


def _areas(raw: Path, rasters: Sequence[Path], vectors: Sequence[Path]) -> Found:
    of_folder = {vector.parent: vector for vector in vectors}
    alone = vectors[0] if len(vectors) == 1 and not _below(vectors[0].parent, rasters) else None
    scenes = []
    for raster in rasters:
        nearest = next((of_folder[folder] for folder in raster.parents if folder in of_folder), alone)
        scenes.append(Scene(raster, [nearest] if nearest else []))
    return Found(
        "area-vectors",
        f"{len(rasters)} GeoTIFF scenes, and {len(vectors)} vector files that each label the scenes of their folder",
        tuple(scenes),
    )


def _tiles(raw: Path, rasters: Sequence[Path], vectors: Sequence[Path]) -> Found:
    by_ending: dict[str, list[Path]] = {}
    for vector in vectors:
        by_ending.setdefault(_words(vector)[-1], []).append(vector)
    scenes, used, unclear = [], set(), []
    for raster in rasters:
        likeness = [(_likeness(raster, vector), vector) for vector in by_ending.get(_words(raster)[-1], [])]
        best = [vector for score, vector in likeness if score == max(likeness)[0]]
        if len(best) > 1:
            names = ", ".join(str(vector.relative_to(raw)) for vector in best)
            unclear.append(f"{raster.relative_to(raw)}: its name fits {names} alike")
        used.update(best)
        scenes.append(Scene(raster, best))
    if unclear:
        raise DataError(
            f"{raw}: which labels belong to which tile is not clear\n{listed(unclear)}\n"
            "name each vector file like its tile, with another beginning"
        )
    if not used:
        raise DataError(
            f"{raw}: {len(rasters)} GeoTIFF files and {len(vectors)} vector files, but no name of one ends like one of "
            f"the other ({rasters[0].name}, {vectors[0].name}); put one vector file into the folder of its scenes, or "
            "name each like its tile"
        )
    left = [vector for vector in vectors if vector not in used]
    notes = [f"{len(left)} vector files have no tile, such as {left[0].relative_to(raw)}"] if left else []
    return Found(
        "tile-vectors",
        f"{len(rasters)} GeoTIFF tiles, {sum(bool(s.labels) for s in scenes)} with a vector file of the same ending",
        tuple(scenes),
        tuple(notes),
    )


def _words(path: Path) -> list[str]:
    return path.stem.split("_")


def _likeness(raster: Path, vector: Path) -> tuple[int, int, int]:
    """Words that the names share at their end and at their beginning, and folders their paths do."""

    def shared(one: Sequence[str], other: Sequence[str]) -> int:
        pairs = list(zip(one, other, strict=False))
        return next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))

    one, other = _words(raster), _words(vector)
    return shared(one[::-1], other[::-1]), shared(one, other), shared(raster.parts, vector.parts)


def _stac_document(file: Path) -> dict[str, Any] | None:
    """A STAC catalog, collection or item; None for any other JSON."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        return None
    if not isinstance(document, dict) or "stac_version" not in document:
        return None
    kinds = ("Catalog", "Collection", "Feature")
    if document.get("type") not in kinds:  # before version 1.0 only items had a type
        document["type"] = "Collection" if "extent" in document else "Catalog"
    return document


def _stac(raw: Path, documents: dict[Path, dict[str, Any]]) -> Found:
    problems: list[str] = []

    def target(document: Path, href: object) -> Path | None:
        """The file a link or an asset means; None, and a problem noted, where it is not in the folder."""
        where = document.relative_to(raw)
        if not isinstance(href, str) or "://" in href or href.startswith(("/vsi", "\\")):
            problems.append(
                f"{where}: {href} is no file of this folder; download it and link to it by its relative path"
            )
            return None
        path = Path(normpath(document.parent / unquote(href)))
        if not path.is_relative_to(raw) or not path.resolve().is_relative_to(raw):
            problems.append(f"{where}: {href} leads out of {raw}; move the file into the folder")
            return None
        if not path.is_file():
            problems.append(f"{where}: {href} is missing")
            return None
        return path

    images: dict[Path, Scene] = {}
    labels: list[tuple[Path, list[Path]]] = []
    for file, document in documents.items():
        for link in _dicts(document.get("links")):
            if link.get("rel") in ("child", "item"):
                target(file, link.get("href"))
        if document["type"] != "Feature":
            continue
        assets = document.get("assets")
        named = [(name, a) for name, a in assets.items() if isinstance(a, dict)] if isinstance(assets, dict) else []
        pictures = [(name, asset) for name, asset in named if _is_geotiff(asset)]
        outlines = [target(file, asset.get("href")) for _, asset in named if _is_outlines(asset)]
        if len(pictures) > 1:
            preferred = [(n, a) for n, a in pictures if n in ("image", "visual", "data")]
            if len(preferred) != 1:
                names = ", ".join(name for name, _ in pictures)
                problems.append(
                    f"{file.relative_to(raw)}: several GeoTIFF assets ({names}); call the one to use 'image'"
                )
            pictures = preferred[:1]
        for _, asset in pictures:
            if path := target(file, asset.get("href")):
                images[file] = Scene(path)
        sources = [link for link in _dicts(document.get("links")) if link.get("rel") == "source"]
        items = [item for link in sources if (item := target(file, link.get("href")))] or [file] * bool(pictures)
        for outline in outlines:
            if outline and not items and not sources:
                problems.append(
                    f"{file.relative_to(raw)}: has labels but no link rel=source to the item of their image"
                )
            elif outline:
                labels.append((outline, items))
    for outline, items in labels:
        for item in items:
            if item in images:
                images[item].labels.append(outline)
            else:
                problems.append(f"{item.relative_to(raw)}: is linked as source of labels, but has no GeoTIFF asset")
    if not images and not problems:
        problems.append("no item has a GeoTIFF asset")
    if problems:
        raise DataError(f"{raw}: the STAC folder cannot be used as it is\n{listed(list(dict.fromkeys(problems)))}")
    return Found(
        "stac",
        f"STAC folder of {len(images)} items with a GeoTIFF, {sum(bool(s.labels) for s in images.values())} labelled",
        tuple(images[file] for file in sorted(images)),
    )


def _dicts(found: object) -> list[dict[str, Any]]:
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _is_geotiff(asset: dict[str, Any]) -> bool:
    href, kind = str(asset.get("href")).lower(), str(asset.get("type")).lower()
    return href.endswith((".tif", ".tiff")) or "geotiff" in kind


def _is_outlines(asset: dict[str, Any]) -> bool:
    href, kind = str(asset.get("href")).lower(), str(asset.get("type")).lower()
    return href.endswith((".geojson", ".gpkg", ".shp")) or "geo+json" in kind


def _checked(paths: Sequence[Path], look: Any) -> list[Any]:
    """What `look(number)` says of each raster. Raises DataError naming those that cannot be used."""

    def tried(number: int) -> Any:
        try:
            return look(number)
        except DataError as error:
            return error

    looked = list(track(in_threads(tried, range(len(paths))), "scenes", len(paths)))
    problems = [str(found) for found in looked if isinstance(found, DataError)]
    if problems:
        raise DataError(
            f"{len(problems)} of {len(paths)} scenes cannot be used:\n{listed(problems)}\nrepair or remove them"
        )
    return looked


def _look_at_scenes(scenes: Sequence[Scene]) -> list[RasterFacts]:
    def look(number: int) -> RasterFacts:
        facts = inspect_raster(scenes[number].path)
        if facts.crs is None:
            raise DataError(
                f"{scenes[number].path}: names no CRS, so nobody knows where it lies; write the CRS into it "
                "(gdal_edit.py -a_srs EPSG:CODE FILE)"
            )
        a, b, _, d, e, _ = facts.transform
        if a * e == b * d:
            raise DataError(
                f"{scenes[number].path}: its transform {facts.transform} has no area; georeference it again"
            )
        return facts

    return _checked([scene.path for scene in scenes], look)


def _levels_of_sources(
    raw: Path, scenes: Sequence[Scene], facts: Sequence[RasterFacts], sources: Sequence[str]
) -> dict[str, Levels]:
    levels = {}
    for source in dict.fromkeys(sources):
        numbers = [n for n, of in enumerate(sources) if of == source]
        first = facts[numbers[0]]
        for n in numbers:
            if (facts[n].dtype == "uint8") != (first.dtype == "uint8") or facts[n].bands != first.bands:
                kinds = [f"{facts[k].bands} bands of {facts[k].dtype}" for k in (numbers[0], n)]
                raise DataError(
                    f"{raw / source}: scenes of a source must be alike; {scenes[numbers[0]].path.name} has {kinds[0]}, "
                    f"{scenes[n].path.name} has {kinds[1]}; put them into folders of their own"
                )
        levels[source] = common_levels([facts[n] for n in numbers])
    return levels


def _read_objects(
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
        near = np.sort(tree.query(_outline(raster)))
        polygons = to_pixels(tree.geometries[near], raster.transform)
        frame = shapely.box(0, 0, raster.hw[1], raster.hw[0])
        # exact intersections need valid polygons, and snapping may have made one touch itself
        valid = np.where(shapely.is_valid(polygons), polygons, shapely.buffer(polygons, 0))
        within = shapely.area(shapely.intersection(valid, frame)) > 0
        reached[near[within]] = True
        for which, shape in zip(near[within], shapely.to_wkb(polygons[within]), strict=True):
            hits.append((number, footprints.classes[which], int(footprints.numbers[which]), shape))
    return hits, reached


def _outline(raster: RasterFacts, margin: float = 0.0) -> shapely.Polygon:
    """The corners of a raster in its CRS, `margin` pixels further in."""
    a, b, c, d, e, f = raster.transform
    height, width = raster.hw
    xs, ys = (margin, width - margin), (margin, height - margin)
    corners = [(xs[0], ys[0]), (xs[1], ys[0]), (xs[1], ys[1]), (xs[0], ys[1])]
    return shapely.Polygon([(a * x + b * y + c, d * x + e * y + f) for x, y in corners])


def _beside(footprints: Footprints, numbers: Sequence[int], facts: Sequence[RasterFacts]) -> bool:
    """Whether a footprint lies no farther from a scene than the scene is large: then it is not misplaced."""
    return any(
        bool(shapely.intersects(_outline(raster, -float(max(raster.hw))), polygons).any())
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
        for outline in reprojected(np.array([_outline(facts[n])]), str(facts[n].crs), LONGITUDE_LATITUDE)
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


def _overlapping(facts: Sequence[RasterFacts]) -> list[int]:
    """A number for each raster, the same for those that share more than a pixel of ground, through others too."""
    outlines = np.array(
        [
            reprojected(
                np.array([_outline(f, margin=min(0.5, *(side / 4 for side in f.hw)))]), str(f.crs), LONGITUDE_LATITUDE
            )[0]
            for f in facts
        ]
    )
    group = list(range(len(facts)))

    def root(number: int) -> int:
        while group[number] != number:
            group[number] = number = group[group[number]]
        return number

    for one, other in shapely.STRtree(outlines).query(outlines, predicate="intersects").T:
        low, high = sorted((root(int(one)), root(int(other))))
        group[high] = low
    return [root(number) for number in range(len(facts))]

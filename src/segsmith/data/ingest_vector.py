"""GeoTIFF scenes + vector labels -> Dataset. Three layouts, told apart by where the files stand, and said.

area-vectors   AREA/*.tif beside AREA/*.geojson (.gpkg, .shp, .fgb, .parquet): one vector file labels the scenes of its
               folder; a folder of scenes without one is unlabelled; one vector file alone labels all scenes
tile-vectors   tiles and a vector file for each, names alike at the end: RGB_x_img1.tif, buildings_x_img1.geojson
stac           catalog.json, collection.json and items: assets that are GeoTIFF, label items with `source` links
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from os import walk
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segsmith.data.cleaning import Cleaning
from segsmith.data.dataset import Dataset, Layout
from segsmith.data.footprints import LONGITUDE_LATITUDE, is_vector, reprojected
from segsmith.data.images import ImageFacts
from segsmith.data.index import LabelledImage, in_threads, index
from segsmith.data.rasters import Levels, RasterFacts, common_levels, inspect_raster, is_raster, measure_levels
from segsmith.data.scene_files import Found, Scene, holds_any, scenes_by_folder, scenes_by_name
from segsmith.data.scene_labels import raster_outline, read_objects
from segsmith.data.stac import STAC_NAMES, has_geotiff, stac_document, stac_scenes
from segsmith.errors import DataError, listed
from segsmith.progress import track

KINDS = "GeoJSON, GeoPackage, Shapefile, FlatGeobuf or GeoParquet"
LOOKED_FOR = f"GeoTIFF scenes with labels as {KINDS}, or a STAC catalogue of both"
UNREAD = frozenset({".kml", ".kmz", ".gml", ".dxf", ".tab", ".mif", ".sqlite", ".json", ".parquet", ".feather"})
"""Of files that may be meant as vector labels and are not read."""


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
    if rasters or any(f.name in STAC_NAMES for f in files):  # else no JSON is read: that of COCO may be huge
        documents = {f: d for f in files if f.suffix == ".json" for d in (stac_document(f),) if d}
        catalogued = any(d["type"] in ("Catalog", "Collection") for d in documents.values())
        if catalogued and (rasters or any(has_geotiff(d) for d in documents.values())):
            return stac_scenes(raw, documents)
    if not rasters or not vectors:
        return None
    per_folder = Counter(vector.parent for vector in vectors)
    if len(vectors) == 1 or (max(per_folder.values()) == 1 and all(holds_any(f, rasters) for f in per_folder)):
        return scenes_by_folder(raw, rasters, vectors)
    return scenes_by_name(raw, rasters, vectors)


def unread(raw: Path) -> str:
    """Of a folder with GeoTIFFs and no vector file that is read: those that may be meant, and what to do; else ''."""
    files = sorted(_files(raw))
    seen = [str(f.relative_to(raw)) for f in files if f.suffix.lower() in UNREAD]
    if not seen or not any(map(is_raster, files)) or any(map(is_vector, files)):
        return ""
    return f"\nfiles that are not read as vector labels; convert them to GeoPackage:\n{listed(seen)}"


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
        raise DataError(f"{raw}: no GeoTIFF scenes with vector labels ({KINDS}) here{unread(raw)}")
    scene_of = {str(scene.path.relative_to(raw)): scene for scene in found.scenes}
    cleaned = cleaning.apply(raw, _images(scene_of))
    images = cleaned.images
    scenes = [scene_of[image.path] for image in images]
    sources = [image.source for image in images]
    facts = _look_at_scenes(scenes)
    levels = _levels_of_sources(raw, scenes, facts, sources)
    measured = _checked([scene.path for scene in scenes], lambda i: measure_levels(scenes[i].path, levels[sources[i]]))
    objects, classes, notes = read_objects(raw, scenes, facts, class_field)
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


def _overlapping(facts: Sequence[RasterFacts]) -> list[int]:
    """A number for each raster, the same for those that share more than a pixel of ground, through others too."""
    outlines = np.array(
        [
            reprojected(
                np.array([raster_outline(f, margin=min(0.5, *(side / 4 for side in f.hw)))]),
                str(f.crs),
                LONGITUDE_LATITUDE,
            )[0]
            for f in facts
        ]
    )
    pairs = shapely.STRtree(outlines).query(outlines, predicate="intersects")
    shared = coo_array((np.ones(pairs.shape[1], bool), tuple(pairs)), shape=(len(facts),) * 2)
    return [int(group) for group in connected_components(shared, directed=False)[1]]

"""GeoTIFF and vector files of a folder -> scenes, each with what labels it: by folder, or by name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from segsmith.errors import DataError, listed


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


def holds_any(folder: Path, rasters: Sequence[Path]) -> bool:
    """Whether a raster lies in the folder or below it."""
    return any(raster.is_relative_to(folder) for raster in rasters)


def scenes_by_folder(raw: Path, rasters: Sequence[Path], vectors: Sequence[Path]) -> Found:
    """Each raster with the vector file of the nearest folder around it, or the only vector file there is."""
    of_folder = {vector.parent: vector for vector in vectors}
    alone = vectors[0] if len(vectors) == 1 and not holds_any(vectors[0].parent, rasters) else None
    scenes = []
    for raster in rasters:
        nearest = next((of_folder[folder] for folder in raster.parents if folder in of_folder), alone)
        scenes.append(Scene(raster, [nearest] if nearest else []))
    return Found(
        "area-vectors",
        f"{len(rasters)} GeoTIFF scenes, and {len(vectors)} vector files that each label the scenes of their folder",
        tuple(scenes),
    )


def scenes_by_name(raw: Path, rasters: Sequence[Path], vectors: Sequence[Path]) -> Found:
    """Each raster with the vector file whose name ends as its own does; of several, the one most alike.

    Raises DataError for a raster that several fit alike, and where no name fits another.
    """
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

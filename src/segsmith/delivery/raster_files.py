"""One raster -> its probabilities, its mask and its objects, a file each.

Strips of probabilities lie in a working folder as they are predicted: whoever is stopped goes on behind the last one.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from affine import Affine
from jaxtyping import UInt8

from segsmith.ahead import behind
from segsmith.data.rasters import REMOTE, Levels, RasterFacts, inspect_raster, read_valid, read_window
from segsmith.data.windows import Window
from segsmith.decision.calibration import calibrated_levels
from segsmith.delivery.decided_strips import decided_strips
from segsmith.delivery.outlines import simplified, squared
from segsmith.delivery.polygons import ClassPolygons
from segsmith.delivery.strip_files import AS_THEY_ARE, StripFiles
from segsmith.delivery.vectors import VectorFormat, write_vectors
from segsmith.errors import ModelError
from segsmith.files import write_text
from segsmith.modeling.bundle import Bundle
from segsmith.prediction.chip_rows import Read
from segsmith.prediction.probabilities import Predictor
from segsmith.prediction.seams import SeamMeter
from segsmith.prediction.sweep import LevelStrip, ValueStrip
from segsmith.progress import track

Item = TypeVar("Item")

NODATA = 255
"""Of masks."""


@runtime_checkable
class Watch(Protocol):
    """The strips, with a word on how far they are."""

    def __call__(self, items: Iterable[Item], what: str, total: int, /) -> Iterator[Item]: ...


@dataclass(frozen=True)
class RasterPrediction:
    """What was done to one raster."""

    raster: str
    hw: tuple[int, int]
    bands: int
    gsd_m: float | None
    scale: float
    """What it was enlarged by for the networks, those of the first part where runs were combined."""
    levels: tuple[tuple[float, ...], tuple[float, ...]] | None
    """Values that became level 0 and 255; None where bands are of 8 bits."""
    chips: int
    """Chips that were computed; where scales or parts are averaged, at the first of them."""
    blank: int
    """Chips that were left out, since they hold no usable pixel."""
    skipped: int
    """Chips that were left out, since a first look ruled them out."""
    usable_pixels: int
    foreground_pixels: dict[str, int]
    """By class, in the mask."""
    objects: dict[str, int] | None
    """Polygons by class, of those that have one; None where none were asked for, or the raster has no CRS."""
    left_whole: dict[str, int]
    """By class, how many connected things were too large to be taken apart, and are an object each."""
    seam: float | None
    """How much steeper probabilities are across the edges of chips than elsewhere (squared): 1 for no seams."""
    backend: str = "torch"
    """What ran the networks: torch, or one that was exported."""
    why: str = "as asked for"
    """Why that."""
    thresholds: dict[str, int] = field(default_factory=dict)
    """By class, the level of the probabilities as written at which its mask begins, before holes are filled and small
    objects go."""
    sides_m: tuple[float, float] | None = None
    """Metres on the ground along a pixel's row and along its column; None where the raster does not tell."""


@dataclass(frozen=True)
class RasterJob:
    """One raster, looked at and not yet predicted."""

    path: Path | str
    facts: RasterFacts
    scale: float
    levels: Levels
    extra: UInt8[np.ndarray, " extra"]

    @property
    def name(self) -> str:
        return Path(self.path).stem

    @property
    def seen_pixels(self) -> float:
        return self.facts.hw[0] * self.facts.hw[1] * self.scale**2

    def anywhere(self) -> "RasterJob":
        """The same for a process that stands in another folder."""
        return self if str(self.path).startswith(REMOTE) else replace(self, path=Path(self.path).absolute())


def raster_job(opened: Bundle, path: Path | str, scale: float | None, extra: UInt8[np.ndarray, " extra"]) -> RasterJob:
    """What a raster is and how it is to be seen: enlarged `scale` times, or as its metres a pixel ask for. Raises
    ModelError and DataError like `predict_rasters`."""
    facts = inspect_raster(path)
    bands = len(opened.mean) - len(opened.extra)
    if facts.bands != bands:
        raise ModelError(f"{path}: number of bands is {facts.bands}, the model was trained on {bands}")
    seen = scale or opened.sight.scale(str(path), facts.gsd_m, opened.recipe.data)
    return RasterJob(path, facts, seen, opened.sight.levels_for(facts), extra)


def check_bundle(opened: Bundle, name: Path) -> None:
    """Raise ModelError for a bundle that does what rasters, of which strips are seen, do not know."""
    if any(cell.gate for cell in opened.decision.cells):
        raise ModelError(
            f"{name}: was decided with a gate for empty images, which rasters do not know; decide again with "
            "decide.gate=none in the recipe"
        )
    if opened.recipe.predict.crf is not None:
        raise ModelError(
            f"{name}: refines images as a whole (predict.crf), which rasters, predicted strip by strip, do not know; "
            "train with predict.crf=null"
        )


def predict_raster(
    opened: Bundle, predictor: Predictor, job: RasterJob, work: Path, result: Path,
    vectors: Sequence[VectorFormat], square: bool, watch: Watch = track,
) -> RasterPrediction:  # fmt: skip
    """Predict one raster, as far as that is not done yet, into the folder `result`; strips pass through `watch`, which
    may end it by raising. Progress is kept in `work`. Raises like `predict_rasters`, but of no usable pixel."""
    done = work / "done.json"
    if done.exists():
        return _read_back(done)

    def read(scale: float) -> Read:
        return partial(read_window, job.path, scale=scale, levels=job.levels)

    sweep = predictor.sweep(job.facts.hw, job.scale, read, job.extra)
    probabilities = StripFiles(work / "probabilities", job.facts, sweep.edges)
    count, decision = len(opened.classes), opened.decision
    by_borders = decision.separate_by == "border" and any(cell.depth for cell in decision.cells)

    def write(strip: LevelStrip) -> None:
        rows = strip.levels.shape[1]
        if rows:
            valid = read_valid(job.path, Window(strip.top, 0, rows, job.facts.hw[1]))
            kept = strip.levels if by_borders else strip.levels[:count]
            planes = np.insert(kept, count, 255, axis=0)
            planes *= valid
            counts = {"chips": strip.chips, "blank": strip.blank, "skipped": strip.skipped}
            probabilities.write(strip.number, planes, counts)

    first = probabilities.missing()
    if first < len(sweep.rows.tops):
        strips = map(ValueStrip.levelled, sweep.values(first))  # so that none is held beside the next
        with behind(write) as writer:
            for strip in watch(strips, job.name, len(sweep.rows.tops) - first):
                writer(strip)

    seams = SeamMeter(sweep.rows, job.facts.hw)
    masks = StripFiles(work / "masks", job.facts, sweep.edges)
    usable, foreground = 0, np.zeros(count, np.int64)
    temperature = decision.temperature
    written = AS_THEY_ARE if temperature is None else calibrated_levels(temperature)
    outlines = ClassPolygons(opened.classes, squared if square else simplified, decision)
    for number, mask, valid, planes in decided_strips(opened, probabilities, seams, job.scale):
        masks.write(number, np.where(valid, mask.view(np.uint8), np.uint8(NODATA)))
        usable += int(valid.sum())
        foreground += mask.sum(axis=(1, 2))
        if vectors and job.facts.crs:
            outlines.add(mask, written[planes[:count]], planes)

    probabilities.write_cog(result / "probabilities" / f"{job.name}.tif", opened.classes, levels=written)
    masks.write_cog(result / "masks" / f"{job.name}.tif", opened.classes, nodata=NODATA, resampling="nearest")
    objects = outlines.finish()
    if job.facts.crs:
        for suffix in vectors:
            file = result / "objects" / f"{job.name}.{suffix}"
            write_vectors(file, objects, Affine(*job.facts.transform), job.facts.crs)
    found = RasterPrediction(
        raster=str(job.path),
        hw=job.facts.hw,
        bands=job.facts.bands,
        gsd_m=job.facts.gsd_m if job.facts.gsd_m > 0 else None,
        scale=job.scale,
        levels=(job.levels.low, job.levels.high) if job.levels.low else None,
        chips=probabilities.notes("chips"),
        blank=probabilities.notes("blank"),
        skipped=probabilities.notes("skipped"),
        usable_pixels=usable,
        foreground_pixels=dict(zip(opened.classes, foreground.tolist(), strict=True)),
        objects=dict(Counter(of.class_name for of in objects)) if vectors and job.facts.crs else None,
        left_whole={name: number for name, number in outlines.left_whole.items() if number},
        seam=seams.ratio(),
        sides_m=job.facts.sides_m if job.facts.gsd_m > 0 else None,
        thresholds={
            name: int(written[cell.level])
            for name, cell in zip(opened.classes, decision.cells_of(len(opened.classes)), strict=True)
        },
    )
    write_text(done, json.dumps(asdict(found)))
    for strips_of in (probabilities, masks):
        shutil.rmtree(strips_of.folder, ignore_errors=True)
    return found


def _read_back(done: Path) -> RasterPrediction:
    facts = json.loads(done.read_text())
    facts["hw"] = tuple(facts["hw"])
    facts["sides_m"] = facts["sides_m"] and tuple(facts["sides_m"])
    facts["levels"] = facts["levels"] and tuple(map(tuple, facts["levels"]))
    return RasterPrediction(**facts)

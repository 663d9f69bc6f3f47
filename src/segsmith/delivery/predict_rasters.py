"""Bundle + rasters of any size -> probabilities and masks in place on the ground: a folder that is whole or not there.

    probabilities/NAME.tif   levels 0..255, a band per class, calibrated if the decision has a temperature; the file's
                             mask says where nothing is known
    masks/NAME.tif           0 and 1, a band per class; 255, nodata, where nothing is known
    objects/NAME.gpkg        a polygon per object, or .geojson, .parquet (vectors.py), where the raster has a CRS
    prediction.json          what was done to each raster, and how far seams are to be seen

Until all is done the work lies beside that folder, in `.FOLDER.progress`. Whoever is stopped there, at whatever
instant, goes on behind the last strip when called again, and ends with the same bytes.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from math import ceil
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from affine import Affine
from jaxtyping import UInt8

from segsmith.cluster import opened_cluster, spread
from segsmith.data.rasters import (
    REMOTE,
    Levels,
    RasterFacts,
    has_place,
    inspect_raster,
    is_raster,
    local_files,
    read_valid,
    read_window,
)
from segsmith.data.windows import Window
from segsmith.decision.calibration import calibrated_levels
from segsmith.delivery.objects_in_strips import HolesInStrips, ObjectsInStrips
from segsmith.delivery.polygons import ClassPolygons, simplified, squared
from segsmith.delivery.predict import numbers_of
from segsmith.delivery.strip_files import AS_THEY_ARE, StripFiles
from segsmith.delivery.vectors import VectorFormat, write_vectors
from segsmith.errors import DataError, ModelError, WriteError, listed
from segsmith.files import digest, held, put_in_place, write_error, write_text
from segsmith.modeling.bundle import Bundle, Cell, Skip
from segsmith.modeling.objective import most_probable
from segsmith.prediction.ahead import behind
from segsmith.prediction.backends import choose_backend
from segsmith.prediction.chip_rows import Read
from segsmith.prediction.first_look import check_skip
from segsmith.prediction.probabilities import Predictor
from segsmith.prediction.seams import SeamMeter
from segsmith.prediction.sweep import LevelStrip
from segsmith.progress import track
from segsmith.types import ClassMask, Mask

Item = TypeVar("Item")

WRITTEN = frozenset({"probabilities", "masks", "objects", "prediction.json"})
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
    objects: dict[str, int]
    """Polygons by class; none where none were asked for, or the raster has no CRS."""
    seam: float | None
    """How much steeper probabilities are across the edges of chips than elsewhere (squared): 1 for no seams."""
    backend: str = "torch"
    """What ran the networks: torch, or one that was exported."""
    why: str = "as asked for"
    """Why that."""


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


@dataclass(frozen=True)
class _Plan:
    """What is done to each raster, by whichever process."""

    bundle: Path
    told: dict[str, object]
    """What every prediction depends on."""
    progress: Path
    vectors: Sequence[VectorFormat]
    square: bool
    backend: str
    """What runs the networks, in every process the same."""
    why: str
    skip: Skip | None

    @property
    def result(self) -> Path:
        return self.progress / "result"

    def work(self, job: RasterJob) -> Path:
        return self.progress / "work" / job.name


def predict_rasters(
    bundle: Path,
    rasters: Path | str,
    out: Path,
    *,
    scale: float | None = None,
    numbers: Path | None = None,
    vectors: Sequence[VectorFormat] = ("gpkg",),
    square: bool = False,
    backend: str = "auto",
    skip: bool = False,
    cluster: str | None = None,
    workers: int | None = None,
) -> list[RasterPrediction]:
    """Predict a raster, or every GeoTIFF below a folder, in memory of its width, and write the folder `out`.

    `rasters` may be remote, `/vsi...` in the words of GDAL. A raster is brought to the resolution and the levels that
    the model was trained with; `scale` says what it is enlarged by, whatever its metres a pixel. Pixels that are
    nodata, masked, of alpha 0 or not finite are not predicted, nor chips without others. Objects are written in
    each format of `vectors`, with right angles if `square`, else simplified. `backend` is what runs the networks
    (backends.py). With `skip`, chips in which a first look finds nothing are left out as well, as far as the bundle's
    decision says at what loss (first_look.py): they add level 0 to the mean with chips that overlap them. A folder that
    an earlier prediction wrote is replaced.

    With `cluster`, `local` or the address of a Dask scheduler, its workers predict the rasters, one each at a time and
    the largest first (cluster.py). They must see the bundle, the rasters and the folder to write by the same paths.
    `workers` is how many processes `local` has.

    Raises ModelError for other bands than the model was trained on, and for a resolution far from those (Sight.scale);
    DataError for a raster that does not read, or where no raster holds a usable pixel; WriteError; RunError where
    another process predicts into the same folder, or the cluster is not to be had.
    """
    file = bundle / "bundle.safetensors" if bundle.is_dir() else bundle
    _check_free(out)
    jobs = _look(file, rasters, scale, numbers)
    folder = out.resolve()
    opened = Bundle.read(file)
    allowed = check_skip(opened, file, by_chips=True) if skip else None
    chosen = choose_backend(file, opened, backend)
    told = {"segsmith": version("segsmith"), "bundle": digest(file), "vectors": list(vectors), "square": square}
    told |= {"backend": chosen.name, "skip": skip}
    progress_folder = folder.with_name(f".{folder.name}.progress")
    plan = _Plan(file.resolve(), told, progress_folder, vectors, square, chosen.name, chosen.why, allowed)
    progress, result = plan.progress, plan.result
    largest_first = sorted((job.anywhere() for job in jobs), key=lambda job: job.seen_pixels, reverse=True)
    with opened_cluster(cluster, workers) as client, held(progress, "place for the progress of a prediction"):
        names = {job.name for job in jobs}
        _forget(plan, lambda name: name not in names)
        needs = [progress, plan.bundle, *([] if str(rasters).startswith(REMOTE) else [Path(rasters)])]
        done = spread(client, partial(_doing, plan), largest_first, "rasters", needs=needs)
        by_name = {job.name: of for job, of in done}
        found = [replace(by_name[job.name], raster=str(job.path)) for job in jobs]
        if not any(of.chips or of.skipped for of in found):
            shutil.rmtree(progress, ignore_errors=True)
            raise DataError(f"{rasters}: holds no usable pixel: all are nodata, masked, of alpha 0 or not finite")
        write_text(result / "prediction.json", json.dumps([asdict(of) for of in found], indent=2))
        try:
            put_in_place(result, folder)
        except OSError as error:
            raise write_error(error, out) from error
        shutil.rmtree(progress, ignore_errors=True)
    return found


def find_rasters(given: Path | str) -> list[Path | str]:
    """A raster by its name, or below a folder every GeoTIFF that says where it lies, in the order of their paths; none
    where a folder is not there or holds plain images alone. Raises DataError for two of one name, and for an address
    that GDAL names otherwise."""
    if str(given).startswith(REMOTE):
        return [str(given)]
    if "://" in str(given):
        raise DataError(f"{given}: name what is remote as GDAL does, such as /vsicurl/{given}")
    path = Path(given)
    if path.is_file():
        return [path]
    images = [file for file in sorted(path.rglob("*")) if file.is_file() and is_raster(file)]
    placed = [file for file in images if has_place(file)]
    if not placed:
        return []
    twice = [name for name, count in Counter(file.stem for file in placed).items() if count > 1]
    if twice:
        raise DataError(f"{path}: several rasters of the same name:\n{listed(twice)}\npredict one folder at a time")
    return list(placed)


def _look(file: Path, rasters: Path | str, scale: float | None, numbers: Path | None) -> list[RasterJob]:
    """What each raster is and how it is to be seen, before any is predicted. Raises like `predict_rasters`."""
    opened = Bundle.read(file)
    check_bundle(opened, file)
    paths = find_rasters(rasters)
    if not paths:
        raise DataError(f"{rasters}: no such raster, nor a folder with GeoTIFFs that say where they lie (a CRS)")
    extra = numbers_of(opened, numbers, [opened.layout.image_id(Path(path)) for path in paths])
    return [raster_job(opened, path, scale, levels) for path, levels in zip(paths, extra, strict=True)]


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
    if any(cell.depth for cell in opened.decision.cells):
        raise ModelError(
            f"{name}: was decided with touching objects taken apart, which is not known for rasters, whose objects are "
            "found strip by strip; decide again with --separate none"
        )
    if opened.recipe.predict.crf is not None:
        raise ModelError(
            f"{name}: refines images as a whole (predict.crf), which rasters, predicted strip by strip, do not know; "
            "train with predict.crf=null"
        )


def _doing(plan: _Plan) -> Callable[[RasterJob], RasterPrediction]:
    """In whichever process: what predicts one raster, as far as that was not done in the same way; it waits where
    another process is at it. Raises ModelError for a bundle that changed."""
    if digest(plan.bundle) != plan.told["bundle"]:
        raise ModelError(f"{plan.bundle}: changed while rasters were predicted with it; run the same command again")
    opened = Bundle.read(plan.bundle)
    predictor = Predictor(opened, choose_backend(plan.bundle, opened, plan.backend).calls, skip=plan.skip)
    device = {"device": predictor.hardware.name, "precision": predictor.hardware.precision}

    def do(job: RasterJob) -> RasterPrediction:
        told, file = json.dumps({**plan.told, **device, **_told(job)}), plan.work(job) / "told.json"
        with held(plan.progress / "locks" / job.name, "place for the progress of a raster", wait=True):
            if not file.is_file() or file.read_text() != told:
                _forget(plan, job.name.__eq__)
                write_text(file, told)
            found = predict_raster(opened, predictor, job, plan.work(job), plan.result, plan.vectors, plan.square)
            return replace(found, backend=plan.backend, why=plan.why)

    return do


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

    def write(strip: LevelStrip) -> None:
        rows = strip.levels.shape[1]
        if rows:
            valid = read_valid(job.path, Window(strip.top, 0, rows, job.facts.hw[1]))
            levels = strip.levels[: len(opened.classes)]
            planes = np.concatenate([levels * valid, (valid * np.uint8(255))[None]])
            counts = {"chips": strip.chips, "blank": strip.blank, "skipped": strip.skipped}
            probabilities.write(strip.number, planes, counts)

    first = probabilities.missing()
    if first < len(sweep.rows.tops):
        strips = sweep.values(first)
        with behind(write) as writer:
            for strip in watch(strips, job.name, len(sweep.rows.tops) - first):
                writer(strip.levelled())

    seams = SeamMeter(sweep.rows, job.facts.hw)
    masks = StripFiles(work / "masks", job.facts, sweep.edges)
    usable, foreground = 0, np.zeros(len(opened.classes), np.int64)
    temperature = opened.decision.temperature
    written = AS_THEY_ARE if temperature is None else calibrated_levels(temperature)
    outlines = ClassPolygons(opened.classes, squared if square else simplified)
    for number, mask, valid, levels in decided_strips(opened, probabilities, seams, job.scale):
        masks.write(number, np.where(valid, mask.view(np.uint8), np.uint8(NODATA)))
        usable += int(valid.sum())
        foreground += mask.sum(axis=(1, 2))
        if vectors and job.facts.crs:
            outlines.add(mask, written[levels])

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
        objects=dict(Counter(of.class_name for of in objects)),
        seam=seams.ratio(),
    )
    write_text(done, json.dumps(asdict(found)))
    for strips_of in (probabilities, masks):
        shutil.rmtree(strips_of.folder, ignore_errors=True)
    return found


def decided_strips(
    opened: Bundle, probabilities: StripFiles, seams: SeamMeter, scale: float
) -> Iterator[tuple[int, Mask, ClassMask, UInt8[np.ndarray, "classes _rows _width"]]]:
    """The number of each strip, its mask by the bundle's decision, which pixels are usable, and the probabilities, in
    two passes over a raster that is enlarged `scale` times for the networks; in three if holes are filled.

    The mask is what `masks.decided` makes of the whole raster: an object is as large as in all strips together, a hole
    does not reach the raster's border. Pixels that are not usable are background, also within a hole that is filled.
    """
    numbers = probabilities.numbers
    holes = [HolesInStrips(len(numbers)) for _ in opened.classes] if opened.decision.fill_holes else []
    objects = [ObjectsInStrips() for _ in opened.classes]
    cells = opened.decision.cells_of(len(opened.classes))
    thresholds = np.array([cell.level for cell in cells])[:, None, None]
    smallest = [_smallest_area(opened, cell, scale) for cell in cells]

    def over_threshold(number: int) -> tuple[UInt8[np.ndarray, "classes _rows _width"], Mask, ClassMask]:
        *planes, known = probabilities.read(number)
        levels, valid = np.stack(planes), known > 0
        chosen = most_probable(levels) if opened.recipe.data.exclusive else levels
        return levels, (chosen >= thresholds) & valid, valid

    def filled(place: int, mask: Mask, valid: ClassMask) -> Mask:
        if not holes:
            return mask
        return np.asarray(np.stack([of.filled(place, plane) for of, plane in zip(holes, mask, strict=True)]) & valid)

    if holes:
        for number in numbers:
            _, mask, _ = over_threshold(number)
            for of_holes, plane in zip(holes, mask, strict=True):
                of_holes.add(plane)
    for place, number in enumerate(numbers):
        levels, mask, valid = over_threshold(number)
        seams.add(probabilities.edges[number], levels, valid)
        for of_class, plane in zip(objects, filled(place, mask, valid), strict=True):
            of_class.add(plane)
    for place, number in enumerate(numbers):
        levels, mask, valid = over_threshold(number)
        planes = filled(place, mask, valid)
        kept = [of.without_small(place, *of_class) for of, *of_class in zip(objects, planes, smallest, strict=True)]
        yield number, np.stack(kept), valid, levels


def _smallest_area(opened: Bundle, cell: Cell, scale: float) -> int:
    """The smallest area of a class in pixels of the raster: it was tuned on pixels of chips, or of whole images."""
    tuned_at = 1.0 if opened.recipe.data.fit == "chip" else opened.sight.enlarged
    return ceil(cell.smallest_area / (scale / tuned_at) ** 2 - 1e-9)


def _told(job: RasterJob) -> dict[str, object]:
    """What of a raster its prediction depends on."""
    states = [file.stat() for file in local_files(job.path)]
    return {
        "raster": str(job.path) if str(job.path).startswith(REMOTE) else str(Path(job.path).resolve()),
        "changed": [[state.st_size, state.st_mtime_ns] for state in states],
        "place": [job.facts.hw, job.facts.dtype, job.facts.crs, job.facts.transform],
        "scale": job.scale,
        "levels": job.levels,
        "extra": job.extra.tolist(),
    }


def _forget(plan: _Plan, whose: Callable[[str], bool]) -> None:
    """Remove what was done to some rasters, by their names: to be predicted no more, or not in the same way."""
    for folder in (plan.progress / "work", *(plan.result / name for name in ("probabilities", "masks", "objects"))):
        for path in folder.iterdir() if folder.is_dir() else ():
            if whose(path.name if folder.name == "work" else path.stem):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _read_back(done: Path) -> RasterPrediction:
    facts = json.loads(done.read_text())
    facts["hw"] = tuple(facts["hw"])
    facts["levels"] = facts["levels"] and tuple(map(tuple, facts["levels"]))
    return RasterPrediction(**facts)


def _check_free(out: Path) -> None:
    """Raise WriteError where a folder stands that no prediction of rasters wrote."""
    if out.exists() and not out.is_dir():
        raise WriteError(f"{out}: is a file, where a folder is to stand; choose another place")
    if out.resolve() == Path.cwd():
        raise WriteError(f"{out}: is the folder you stand in, and would be replaced; name a new one")
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if there - WRITTEN or (there and "prediction.json" not in there):
        other = min(there - WRITTEN, default=min(there))
        raise WriteError(f"{out}: holds {other}, which no prediction of rasters wrote; choose a new folder")

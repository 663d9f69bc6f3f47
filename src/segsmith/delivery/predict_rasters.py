"""Bundle + rasters of any size -> probabilities and masks in place on the ground: a folder that is whole or not there.

    probabilities/NAME.tif   levels 0..255, a band per class, calibrated if the decision has a temperature; the file's
                             mask says where nothing is known
    masks/NAME.tif           0 and 1, a band per class; 255, nodata, where nothing is known
    objects/NAME.gpkg        a polygon per object, or .geojson, .parquet (vectors.py), where the raster has a CRS
    prediction.json          where each raster lies, what was done to it, and how far seams are to be seen
    left_alone.txt           images below the folder that do not say where they lie, a path a line, if there are some

Until all is done the work lies beside that folder, in `.FOLDER.progress`. Whoever is stopped there, at whatever
instant, goes on behind the last strip when called again, and ends with the same bytes.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from segsmith.cluster import opened_cluster, spread
from segsmith.data.images import is_image
from segsmith.data.rasters import REMOTE, has_place, is_raster, local_files
from segsmith.delivery.given_files import given_files
from segsmith.delivery.predict import numbers_of
from segsmith.delivery.raster_files import RasterJob, RasterPrediction, check_bundle, predict_raster, raster_job
from segsmith.delivery.vectors import VectorFormat
from segsmith.errors import DataError, ModelError, SegsmithError, WriteError, listed
from segsmith.files import digest, held, put_in_place, write_error, write_text
from segsmith.modeling.bundle import Bundle, Skip, bundle_file
from segsmith.prediction.backends import choose_backend
from segsmith.prediction.first_look import check_skip
from segsmith.prediction.probabilities import Predictor

WRITTEN = frozenset({"probabilities", "masks", "objects", "prediction.json", "left_alone.txt"})


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

    def has_progress(self) -> bool:
        """Whether any strip is there to go on from, or a raster is done."""
        work = self.progress / "work"
        return any(any(work.glob(pattern)) for pattern in ("*/probabilities/[0-9]*.tif", "*/done.json"))

    def work(self, job: RasterJob) -> Path:
        return self.progress / "work" / job.name


def predict_rasters(
    bundle: Path,
    rasters: Path | str,
    out: Path,
    *,
    scale: float | None = None,
    numbers: Path | None = None,
    vectors: Sequence[VectorFormat] | None = None,
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
    each format of `vectors`, with right angles if `square`, else simplified; unset, as GeoPackage of rasters that have
    a CRS. `backend` is what runs the networks
    (backends.py). With `skip`, chips in which a first look finds nothing are left out as well, as far as the bundle's
    decision says at what loss (first_look.py): they add level 0 to the mean with chips that overlap them. A folder that
    an earlier prediction wrote is replaced.

    With `cluster`, `local` or the address of a Dask scheduler, its workers predict the rasters, one each at a time and
    the largest first (cluster.py). They must see the bundle, the rasters and the folder to write by the same paths.
    `workers` is how many processes `local` has.

    Raises ModelError for other bands than the model was trained on, and for a resolution far from those (Sight.scale);
    DataError for a raster that does not read, for one without a CRS where `vectors` are asked for, or where no raster
    holds a usable pixel; WriteError; RunError where
    another process predicts into the same folder, or the cluster is not to be had.
    """
    file = bundle_file(bundle)
    _check_free(out)
    jobs, left_alone = _look(file, rasters, scale, numbers)
    if vectors and (nowhere := [str(job.path) for job in jobs if job.facts.crs is None]):
        raise DataError(
            f"{nowhere[0]}: has no CRS, so its objects have no coordinates; give it one (gdal_edit.py -a_srs), or ask "
            "for no objects (none)"
        )
    formats: Sequence[VectorFormat] = ("gpkg",) if vectors is None else vectors
    folder = out.resolve()
    opened = Bundle.read(file)
    allowed = check_skip(opened, file, by_chips=True) if skip else None
    chosen = choose_backend(file, opened, backend)
    told = {"segsmith": version("segsmith"), "bundle": digest(file), "vectors": list(formats), "square": square}
    told |= {"backend": chosen.name, "skip": skip}
    progress_folder = folder.with_name(f".{folder.name}.progress")
    plan = _Plan(file.resolve(), told, progress_folder, formats, square, chosen.name, chosen.why, allowed)
    progress, result = plan.progress, plan.result
    largest_first = sorted((job.anywhere() for job in jobs), key=lambda job: job.seen_pixels, reverse=True)
    with opened_cluster(cluster, workers) as client, held(progress, "place for the progress of a prediction"):
        names = {job.name for job in jobs}
        _forget(plan, lambda name: name not in names)
        needs = [progress, plan.bundle, *([] if str(rasters).startswith(REMOTE) else [Path(rasters)])]
        try:
            done = spread(client, partial(_doing, plan), largest_first, "rasters", needs=needs)
            by_name = {job.name: of for job, of in done}
        except SegsmithError:
            if not plan.has_progress():
                shutil.rmtree(progress, ignore_errors=True)
            raise
        found = [replace(by_name[job.name], raster=str(job.path)) for job in jobs]
        if not any(of.chips or of.skipped for of in found):
            shutil.rmtree(progress, ignore_errors=True)
            raise DataError(f"{rasters}: holds no usable pixel: all are nodata, masked, of alpha 0 or not finite")
        places = [asdict(of) | {"raster": str(job.anywhere().path)} for of, job in zip(found, jobs, strict=True)]
        write_text(result / "prediction.json", json.dumps(places, indent=2))
        (result / "left_alone.txt").unlink(missing_ok=True)
        if left_alone:
            write_text(result / "left_alone.txt", "".join(f"{path.absolute()}\n" for path in left_alone))
        try:
            put_in_place(result, folder)
        except OSError as error:
            raise write_error(error, out) from error
        shutil.rmtree(progress, ignore_errors=True)
    return found


class FoundRasters(NamedTuple):
    """Rasters, and the images beside them that do not say where they lie."""

    rasters: list[Path | str]
    left_alone: list[Path]


def find_rasters(given: Path | str) -> FoundRasters:
    """A raster by its name, or below a folder every GeoTIFF that says where it lies (a CRS), in the order of their
    paths, without what predictions wrote; none where a folder is not there or holds plain images alone. Raises
    DataError for two of one name, and for an address that GDAL names otherwise."""
    if str(given).startswith(REMOTE):
        return FoundRasters([str(given)], [])
    if "://" in str(given):
        raise DataError(f"{given}: name what is remote as GDAL does, such as /vsicurl/{given}")
    path = Path(given)
    if path.is_file():
        return FoundRasters([path], [])
    images = [file for file in given_files(path) if is_image(file)]
    placed = [file for file in images if is_raster(file) and file.is_file() and has_place(file)]
    counts = Counter(file.stem for file in placed)
    if twice := [str(file) for file in placed if counts[file.stem] > 1]:
        raise DataError(f"{path}: several rasters of the same name:\n{listed(twice)}\npredict one folder at a time")
    there = set(placed)
    return FoundRasters([*placed], [file for file in images if file not in there])


def _look(
    file: Path, rasters: Path | str, scale: float | None, numbers: Path | None
) -> tuple[list[RasterJob], list[Path]]:
    """What each raster is and how it is to be seen, before any is predicted, and the images that are left alone.
    Raises like `predict_rasters`."""
    opened = Bundle.read(file)
    check_bundle(opened, file)
    paths, left_alone = find_rasters(rasters)
    if not paths:
        raise DataError(f"{rasters}: no such raster, nor a folder with GeoTIFFs that say where they lie (a CRS)")
    extra = numbers_of(opened, numbers, [opened.layout.image_id(Path(path)) for path in paths])
    jobs = [raster_job(opened, path, scale, levels) for path, levels in zip(paths, extra, strict=True)]
    return jobs, left_alone


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

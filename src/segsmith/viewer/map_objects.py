"""A file of polygons -> those in view, in pixels of their raster, or how many there are; and all of them in order."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from affine import Affine
from jaxtyping import Float, Float32, Int, UInt16
from pyogrio.errors import DataLayerError, DataSourceError

from segsmith.data.footprints import LONGITUDE_LATITUDE, reprojected
from segsmith.data.rasters import RasterFacts
from segsmith.errors import DataError

MOST_OUTLINES = 1500
"""Objects in view whose outlines are sent; of more, how many there are in each cell."""
CELL = 64
"""Screen pixels of a cell's side."""
_AT_ONCE = 2**14
_COLUMNS = ["id", "class", "score", "area_m2"]
_READS = (OSError, DataSourceError, DataLayerError, pa.ArrowException, KeyError, ValueError, RuntimeError)

Order = Literal["score", "area", "id"]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


class Row(NamedTuple):
    """An object, as a list tells of it; `row` is its place in the file, `at` its centroid, both in pixels."""

    row: int
    id: int
    class_name: str
    score: float
    area_m2: float
    at: tuple[float, float]
    box: Box


@dataclass(frozen=True)
class MapObjects:
    """The objects of a raster: some 50 bytes each, and their outlines too unless a GeoPackage finds them by number."""

    file: Path
    facts: RasterFacts
    classes: list[str]
    ids: Int[np.ndarray, " objects"]
    numbers: Int[np.ndarray, " objects"]
    """By which the file knows them."""
    class_of: UInt16[np.ndarray, " objects"]
    scores: Float32[np.ndarray, " objects"]
    areas_m2: Float[np.ndarray, " objects"]
    boxes: Float32[np.ndarray, "objects 4"]
    centroids: Float32[np.ndarray, "objects 2"]
    outlines: list[bytes] | None
    """As WKB in the file's CRS; None for a GeoPackage."""

    @staticmethod
    def read(file: Path, facts: RasterFacts) -> "MapObjects":
        """Look at every object once, some thousands at a time. Raises DataError for a file that is missing or broken,
        or that `predict` did not write."""
        classes: dict[str, int] = {}
        parts: list[tuple[np.ndarray, ...]] = []
        outlines: list[bytes] = []
        try:
            for numbers, table, wkb in _batches(file):
                shapes = _in_pixels(shapely.from_wkb(wkb), file, facts)
                centroids = shapely.get_coordinates(shapely.centroid(shapes))
                codes = [classes.setdefault(str(name), len(classes)) for name in table["class"]]
                parts.append(
                    (
                        np.asarray(table["id"], np.int64), np.asarray(numbers, np.int64), np.array(codes, np.uint16),
                        np.asarray(table["score"], np.float32), np.asarray(table["area_m2"], np.float64),
                        shapely.bounds(shapes).astype(np.float32), centroids.astype(np.float32),
                    )
                )  # fmt: skip
                outlines += [] if _numbered(file) else list(wkb)
        except _READS as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{file}: does not read as objects of `predict` ({reason}); predict it again") from None
        nothing = (
            np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint16), np.empty(0, np.float32),
            np.empty(0), np.empty((0, 4), np.float32), np.empty((0, 2), np.float32),
        )  # fmt: skip
        ids, numbers, class_of, scores, areas, boxes, centroids = map(np.concatenate, zip(nothing, *parts, strict=True))
        kept = None if _numbered(file) else outlines
        return MapObjects(file, facts, list(classes), ids, numbers, class_of, scores, areas, boxes, centroids, kept)

    def __len__(self) -> int:
        return len(self.ids)

    def ordered(self, by: Order) -> Int[np.ndarray, " objects"]:
        """Rows with the highest score or the largest area first, or by id."""
        keys = {"score": -self.scores, "area": -self.areas_m2, "id": self.ids}
        return np.argsort(keys[by], kind="stable")

    def rows(self, which: Int[np.ndarray, " some"]) -> list[Row]:
        return [
            Row(
                row=int(row),
                id=int(self.ids[row]),
                class_name=self.classes[self.class_of[row]],
                score=round(float(self.scores[row]), 4),
                area_m2=round(float(self.areas_m2[row]), 2),
                at=_rounded(self.centroids[row]),
                box=_rounded(self.boxes[row]),
            )
            for row in which
        ]

    def within(self, view: Box) -> Int[np.ndarray, " some"]:
        """Rows of the objects whose boxes meet that of a view."""
        left, top, right, bottom = view
        boxes = self.boxes
        meets = (boxes[:, 0] <= right) & (boxes[:, 2] >= left) & (boxes[:, 1] <= bottom) & (boxes[:, 3] >= top)
        return np.flatnonzero(meets)

    def drawn(self, which: Int[np.ndarray, " some"], pixel: float) -> list[list[list[list[float]]]]:
        """The rings of each of some objects, in pixels of the raster, simplified by what a screen of `pixel` of them a
        pixel does not show. Raises DataError for a file that does not read."""
        shapes = _in_pixels(self._shapes(which), self.file, self.facts)
        simple = shapely.simplify(shapes, 0.6 * pixel) if pixel > 1 else shapes
        simple = np.where(shapely.is_empty(simple), shapes, simple)
        return [
            [shapely.get_coordinates(ring).round(2).tolist() for ring in shapely.get_rings(shapely.get_parts(shape))]
            for shape in simple
        ]

    def counted(self, which: Int[np.ndarray, " some"], pixel: float) -> list[tuple[float, float, int]]:
        """Where objects are, and how many, in each cell of CELL screen pixels."""
        at = self.centroids[which]
        cells = np.floor(at / (CELL * pixel)).astype(np.int64)
        _, cell_of, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
        middles = [np.bincount(cell_of.ravel(), at[:, axis]) / counts for axis in (0, 1)]
        return [(round(float(x), 1), round(float(y), 1), int(n)) for x, y, n in zip(*middles, counts, strict=True)]

    def _shapes(self, which: Int[np.ndarray, " some"]) -> np.ndarray:
        if self.outlines is not None:
            return np.asarray(shapely.from_wkb([self.outlines[row] for row in which]), object)
        if not len(which):
            return np.empty(0, object)
        try:
            _, found, wkb, _ = pyogrio.raw.read(self.file, fids=self.numbers[which], columns=[], return_fids=True)
        except _READS as error:
            raise DataError(f"{self.file}: does not read any more ({error}); predict it again") from None
        place = {int(number): row for row, number in enumerate(found)}
        return np.asarray(shapely.from_wkb([wkb[place[int(number)]] for number in self.numbers[which]]), object)


class ObjectsOnDemand:
    """The objects of rasters, each file read once, when it is first asked for, and again when it changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: dict[Path, tuple[int, MapObjects]] = {}

    def of(self, file: Path, facts: RasterFacts) -> MapObjects:
        """Raises DataError like `MapObjects.read`."""
        try:
            changed = file.stat().st_mtime_ns
        except OSError as error:
            raise DataError(f"{file}: is gone ({error.strerror}); predict it again") from None
        with self._lock:
            if file not in self._read or self._read[file][0] != changed:
                self._read[file] = changed, MapObjects.read(file, facts)
            return self._read[file][1]


def _numbered(file: Path) -> bool:
    return file.suffix == ".gpkg"


def _batches(file: Path) -> Iterator[tuple[Any, dict[str, Any], np.ndarray]]:
    """Numbers, fields and outlines as WKB, some thousands at a time."""
    if file.suffix == ".parquet":
        for batch in pq.ParquetFile(file).iter_batches(_AT_ONCE, columns=[*_COLUMNS, "geometry"]):
            yield batch["id"].to_pylist(), {name: batch[name].to_pylist() for name in _COLUMNS}, _wkb(batch["geometry"])
        return
    if file.suffix == ".geojson":  # it is in memory anyway once one object is read
        meta, numbers, wkb, fields = pyogrio.raw.read(file, columns=_COLUMNS, return_fids=True)
        yield numbers, dict(zip(meta["fields"].tolist(), fields, strict=True)), wkb
        return
    options = {"columns": _COLUMNS, "batch_size": _AT_ONCE, "return_fids": True, "use_pyarrow": True}
    with pyogrio.raw.open_arrow(file, **options) as (meta, reader):
        geometry, number = meta["geometry_name"], meta["fid_column"]
        for batch in reader:
            table = {name: batch[name].to_pylist() for name in _COLUMNS}
            yield batch[number].to_pylist(), table, _wkb(batch[geometry])


def _wkb(column: Any) -> np.ndarray:
    return np.array([*column.to_pylist(), None], object)[:-1]  # the None keeps numpy from making texts of fixed length


def _in_pixels(shapes: np.ndarray, file: Path, facts: RasterFacts) -> np.ndarray:
    if file.suffix == ".geojson" and facts.crs:
        shapes = reprojected(shapes, LONGITUDE_LATITUDE, facts.crs)
    inverse = ~Affine(*facts.transform)
    return np.asarray(shapely.transform(shapes, lambda xy: np.stack(inverse @ tuple(xy.T), axis=1)))


def _rounded(numbers: Float32[np.ndarray, " some"]) -> Any:
    return tuple(round(float(number), 2) for number in numbers)

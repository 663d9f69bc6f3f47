"""Strips of a raster -> one file each, whole or not there, in a working folder -> one Cloud-Optimised GeoTIFF.

The files are the progress of a prediction: whoever finds some of them goes on behind the last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import rasterio.shutil
from jaxtyping import UInt8
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.windows import Window

from segsmith.data.rasters import CACHE_MB, RasterFacts
from segsmith.errors import WriteError
from segsmith.files import replacing, write_bytes, write_text

TILE = 256
AS_THEY_ARE = np.arange(256, dtype=np.uint8)
Planes = UInt8[np.ndarray, "_planes _rows _width"]


@dataclass(frozen=True)
class StripFiles:
    """Strips of one raster, in `folder`; strip n holds the rows from `edges[n]` to `edges[n + 1]`, if any."""

    folder: Path
    facts: RasterFacts
    edges: Sequence[int]

    @property
    def numbers(self) -> list[int]:
        """The strips that have rows."""
        return [n for n in range(len(self.edges) - 1) if self.edges[n] < self.edges[n + 1]]

    def missing(self) -> int:
        """The number of the first strip that is not there; one more than there are, if none is missing."""
        return next((n for n in self.numbers if not self._path(n).exists()), len(self.edges) - 1)

    def write(self, number: int, planes: Planes, notes: Mapping[str, int] | None = None) -> None:
        """Write a strip, and numbers to be kept with it. Raises WriteError."""
        count, height, width = planes.shape
        side = min(TILE, -(-height // 16) * 16)
        with rasterio.Env(GDAL_CACHEMAX=CACHE_MB), MemoryFile() as memory:
            with memory.open(
                driver="GTiff", count=count, height=height, width=width, dtype="uint8", tiled=True, blockxsize=TILE,
                blockysize=side, compress="deflate", zlevel=1, interleave="band",
            ) as file:  # fmt: skip
                file.write(planes)
                file.update_tags(**{name: str(value) for name, value in (notes or {}).items()})
            write_bytes(self._path(number), memory.read())

    def read(self, number: int) -> Planes:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_MB), rasterio.open(self._path(number)) as file:
            return np.asarray(file.read())

    def notes(self, name: str) -> int:
        """The sum of a number that was kept with the strips."""
        total = 0
        for number in self.numbers:
            with rasterio.open(self._path(number)) as file:
                total += int(file.tags().get(name, 0))
        return total

    def write_cog(
        self,
        path: Path,
        bands: Sequence[str],
        *,
        nodata: int | None = None,
        resampling: str = "average",
        levels: UInt8[np.ndarray, " 256"] = AS_THEY_ARE,
    ) -> None:
        """Write all strips as one Cloud-Optimised GeoTIFF with the raster's place, whole or not at all.

        `bands` names the planes that become bands. Without `nodata` the plane behind them is the file's mask: 0 where
        nothing is known. Further planes are left out. `levels` is what each level of a band is written as. Overviews
        are made by `resampling`. What was written is read back and compared: GDAL says nothing of some disks that are
        full. Memory does not grow with the raster's height. Raises WriteError.
        """
        mosaic = self.folder / "mosaic.vrt"
        write_text(mosaic, self._mosaic(bands, nodata, levels))
        try:
            with replacing(path) as partial, rasterio.Env(GDAL_CACHEMAX=CACHE_MB):
                rasterio.shutil.copy(
                    mosaic,
                    partial,
                    driver="COG",
                    compress="deflate",
                    predictor="yes",
                    resampling=resampling,
                    bigtiff="if_safer",
                )
                if not self._same(partial, levels, masked=nodata is None):
                    raise WriteError(
                        f"{path}: does not read back as written; is there room on the disk, and is it sound? The same "
                        "command goes on"
                    )
        except (RasterioError, CPLE_BaseError) as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise WriteError(f"{path}: cannot be written: {reason}") from error

    def _same(self, path: Path, levels: UInt8[np.ndarray, " 256"], *, masked: bool) -> bool:
        """Whether a GeoTIFF holds what the strips do, and overviews that read."""
        with rasterio.open(path, driver="GTiff") as file:
            for number in self.numbers:
                top, bottom = self.edges[number : number + 2]
                window = Window(0, top, file.width, bottom - top)
                strip = self.read(number)
                if not np.array_equal(file.read(window=window), levels[strip[: file.count]]):
                    return False
                if masked and not np.array_equal(file.read_masks(1, window=window), strip[file.count]):
                    return False
            overviews = len(file.overviews(1))
        for level in range(overviews):
            with rasterio.open(path, driver="GTiff", overview_level=level) as file:
                for _, window in file.block_windows(1):
                    file.read(window=window)
        return True

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.tif"

    def _mosaic(self, bands: Sequence[str], nodata: int | None, levels: UInt8[np.ndarray, " 256"]) -> str:
        """The strips below one another as a GDAL virtual raster."""
        (height, width), (a, b, c, d, e, f) = self.facts.hw, self.facts.transform

        table = "<LUT>" + ",".join(f"{level}:{to}" for level, to in enumerate(levels.tolist())) + "</LUT>"

        def plane(number: int, attributes: str = "", inside: str = "", lut: str = "") -> str:
            sources = "".join(
                f'<ComplexSource><SourceFilename relativeToVRT="1">{self._path(strip).name}</SourceFilename>'
                f"<SourceBand>{number}</SourceBand>"
                f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{rows}"/>'
                f'<DstRect xOff="0" yOff="{self.edges[strip]}" xSize="{width}" ySize="{rows}"/>{lut}</ComplexSource>'
                for strip in self.numbers
                for rows in [self.edges[strip + 1] - self.edges[strip]]
            )
            return f'<VRTRasterBand dataType="Byte"{attributes}>{inside}{sources}</VRTRasterBand>'

        told = "" if nodata is None else f"<NoDataValue>{nodata}</NoDataValue>"
        parts = [
            plane(number, f' band="{number}"', f"<Description>{escape(name)}</Description>{told}", table)
            for number, name in enumerate(bands, start=1)
        ]
        if nodata is None:
            parts.append(f"<MaskBand>{plane(len(bands) + 1)}</MaskBand>")
        if self.facts.crs is not None:
            parts.insert(0, f"<SRS>{escape(self.facts.crs)}</SRS>")
        parts.insert(0, f"<GeoTransform>{c!r}, {a!r}, {b!r}, {f!r}, {d!r}, {e!r}</GeoTransform>")
        return f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{"".join(parts)}</VRTDataset>'

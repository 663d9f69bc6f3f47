"""Images without overviews -> some of their own, in a scratch folder, so that all of an image can be seen at once."""

import tempfile
import threading
from pathlib import Path

import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from segsmith.data.rasters import CACHE_MB, REMOTE, overview_factors
from segsmith.viewer.predicted_rasters import PredictedRaster

FIRST = 4
"""How much coarser than the image the finest that is made is; nearer ones are read from the image itself."""


class ImageOverviews:
    """Makes them beside a virtual copy of an image, one image at a time, a block after the other; never beside the
    image. Each takes a reading of the whole image, so it is done while the page is looked at already."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="segsmith-view-", ignore_cleanup_errors=True)
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._copies: dict[str, Path | str | None] = {}

    def file(self, raster: PredictedRaster) -> Path | str:
        """What an image is read from: itself, or its copy with overviews once that is there."""
        return self._copies.get(str(raster.image)) or raster.image

    def awaited(self, raster: PredictedRaster) -> bool:
        """Whether overviews of an image are being made; begins with it where none were there. Raises DataError for an
        image that does not read."""
        image, coarsest = str(raster.image), 1 << raster.deepest
        with self._lock:
            if image not in self._copies:
                enough = max([1, *overview_factors(image)]) * FIRST >= coarsest
                self._copies[image] = image if enough else None
                if not enough:
                    copy = Path(self._folder.name) / f"{len(self._copies)}.vrt"
                    factors = [1 << n for n in range(FIRST.bit_length() - 1, raster.deepest + 1)]
                    # a thread that does not keep the viewer from ending in the middle of it
                    threading.Thread(target=self._make, args=(image, copy, factors), daemon=True).start()
            return self._copies[image] is None

    def _make(self, image: str, copy: Path, factors: list[int]) -> None:
        made: Path | str = image
        options = {"COMPRESS_OVERVIEW": "DEFLATE", "GDAL_TIFF_OVR_BLOCKSIZE": "256", "BIGTIFF_OVERVIEW": "IF_SAFER"}
        try:
            source = image if image.startswith(REMOTE) else str(Path(image).resolve())
            with self._turn, rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_PAM_ENABLED="NO", **options):
                rasterio.shutil.copy(source, copy, driver="VRT")
                with rasterio.open(copy, "r+") as file:
                    file.build_overviews(factors, Resampling.average)
                made = copy
        except (RasterioError, CPLE_BaseError, OSError):
            pass  # a full disk, or a broken block: it is then seen from near alone
        with self._lock:
            self._copies[image] = made

"""Chips -> files: `ID.tif` or `ID.jpg` with `ID_mask.png` beside it, for those who train with something else."""

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import rasterio
from rasterio.transform import Affine

from segsmith.data.chips import Chips
from segsmith.data.dataset import Chip
from segsmith.data.images import as_rgb
from segsmith.data.index import in_threads
from segsmith.errors import WriteError
from segsmith.files import replacing_folder
from segsmith.progress import track
from segsmith.types import ClassMask

Format = Literal["tif", "jpg"]
JPEG_QUALITY = 95


def write_chips(chips: Chips, folder: Path, *, file_format: Format = "tif") -> int:
    """Write every chip and its truth into a new folder, whole or not at all; returns how many.

    GeoTIFFs keep the place on the ground where the image has one, and a mask of the unusable pixels; JPEG takes the
    first three bands. In `ID_mask.png` a pixel is 0 or 255 for one class; for several it is 0 or the number of its
    class from 1, the last one where they overlap, and 255 where it is unusable. Raises WriteError if the folder holds
    anything, or cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise WriteError(f"{folder}: is not empty; choose a new folder")
    with replacing_folder(folder) as new:

        def write(number: int) -> None:
            chip, name = chips.read(number), chips.id(number)
            if file_format == "tif":
                _write_tif(new / f"{name}.tif", chip, _place(chips, number))
            else:
                _write_image(new / f"{name}.jpg", cv2.cvtColor(as_rgb(chip.image), cv2.COLOR_RGB2BGR))
            _write_image(new / f"{name}_mask.png", _numbered(chip))

        for _ in track(in_threads(write, range(len(chips))), "chips", len(chips)):
            pass
    return len(chips)


def _place(chips: Chips, number: int) -> dict[str, Any]:
    """The coordinate system and transform of a chip; nothing for an image without a place on the ground."""
    row = chips.dataset.images.iloc[int(chips.image[number])]
    crs = row.get("crs")
    if not isinstance(crs, str):
        return {}
    scale = float(chips.scale[number])
    corner = Affine.translation(float(chips.left[number]) / scale, float(chips.top[number]) / scale)
    return {"crs": crs, "transform": Affine(*row["transform"]) * corner * Affine.scale(1 / scale)}


def _write_tif(path: Path, chip: Chip, place: dict[str, Any]) -> None:
    height, width, bands = chip.image.shape
    try:
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(
                path, "w", driver="GTiff", height=height, width=width, count=bands, dtype="uint8", compress="deflate",
                photometric="rgb" if bands == 3 else "minisblack", **place,
            ) as file,
        ):  # fmt: skip
            file.write(np.moveaxis(chip.image, 2, 0))
            if not chip.valid.all():
                file.write_mask(chip.valid)
    except rasterio.errors.RasterioError as error:
        raise WriteError(f"{path.name}: cannot be written ({error})") from error


def _write_image(path: Path, pixels: np.ndarray) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else []
    _, content = cv2.imencode(path.suffix, pixels, options)
    path.write_bytes(content.tobytes())


def _numbered(chip: Chip) -> np.ndarray:
    if len(chip.mask) == 1:
        only: ClassMask = chip.mask[0]
        return only.view(np.uint8) * np.uint8(255)
    numbers = np.zeros(chip.valid.shape, np.uint8)
    for number, plane in enumerate(chip.mask, start=1):
        numbers[plane] = number
    numbers[~chip.valid] = 255
    return numbers

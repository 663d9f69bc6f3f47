"""Chips -> files: `ID.tif` or `ID.jpg` with `ID_mask.png` beside it, for those who train with something else."""

import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import rasterio
from rasterio.transform import Affine

from segsmith import recipe
from segsmith.cluster import opened_cluster, spread
from segsmith.data.dataset import Chip, Dataset
from segsmith.data.images import as_rgb
from segsmith.data.index import in_threads
from segsmith.errors import WriteError
from segsmith.files import held, replacing_folder, write_text
from segsmith.progress import track
from segsmith.samples.chips import Chips, cut
from segsmith.types import ClassMask

Format = Literal["tif", "jpg"]
JPEG_QUALITY = 95
JOB_PIXELS = 2**24
"""What a worker of a cluster is given at once, at least: images one after the other."""
NOTES = ".notes"
"""Of what is done, in the folder while it is being filled."""


def write_chips(
    dataset: Path,
    options: recipe.Data,
    folder: Path,
    *,
    file_format: Format = "tif",
    cluster: str | None = None,
    workers: int | None = None,
) -> tuple[int, int]:
    """Write every chip of a dataset folder and its truth into a new folder, whole or not at all; returns how many, and
    how many of them hold foreground.

    GeoTIFFs keep the place on the ground where the image has one, and a mask of the unusable pixels; JPEG takes the
    first three bands. In `ID_mask.png` a pixel is 0 or 255 for one class; for several it is 0 or the number of its
    class from 1, the last one where they overlap, and 255 where it is unusable. With `cluster` (cluster.py) its workers
    cut the images, and must see the raw folder, the dataset and the folder to write by the same paths.

    Raises what `cut` raises, WriteError if the folder holds anything or cannot be written, and RunError for a cluster
    that is not to be had.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise WriteError(f"{folder}: is not empty; choose a new folder")
    opened = Dataset.open(dataset)
    with replacing_folder(folder) as new, opened_cluster(cluster, workers) as client:
        jobs = _jobs(opened, JOB_PIXELS if client else None)
        doing = partial(_writing, dataset.resolve(), options, new, file_format)
        done = list(spread(client, doing, jobs, "groups of images", needs=[dataset, opened.raw, new]))
        shutil.rmtree(new / NOTES, ignore_errors=True)
    return sum(count for _, (count, _) in done), sum(count for _, (_, count) in done)


def _jobs(dataset: Dataset, at_once: int | None) -> list[list[int]]:
    """Labelled images one after the other, so many pixels at a time or one image that has more, the largest first; all
    at once without a number."""
    jobs: list[tuple[int, list[int]]] = []
    pixels, images = 0, []
    for image in dataset.labelled.tolist():
        images.append(image)
        pixels += math.prod(dataset.hw(image))
        if at_once and pixels >= at_once:
            jobs.append((pixels, images))
            pixels, images = 0, []
    return [job for _, job in sorted([*jobs, (pixels, images)], reverse=True) if job]


def _writing(
    dataset: Path, options: recipe.Data, folder: Path, file_format: Format
) -> Callable[[list[int]], tuple[int, int]]:
    """In whichever process: what writes the chips of some images, unless that is done, and tells how many there are and
    how many hold foreground; it waits where another process is at them."""
    opened = Dataset.open(dataset)

    def do(images: list[int]) -> tuple[int, int]:
        note = folder / NOTES / f"{images[0]}" / "done.json"
        with held(note.parent, "note of what is done", wait=True):
            if not note.is_file():
                chips = cut(opened, options, images)
                written = in_threads(partial(_write, chips, folder, file_format), range(len(chips)))
                for _ in track(written, "chips", len(chips)):
                    pass
                write_text(note, json.dumps([len(chips), int((chips.foreground > 0).sum())]))
            count, with_foreground = json.loads(note.read_text())
            return count, with_foreground

    return do


def _write(chips: Chips, folder: Path, file_format: Format, number: int) -> None:
    chip, name = chips.read(number), chips.id(number)
    if file_format == "tif":
        _write_tif(folder / f"{name}.tif", chip, _place(chips, number))
    else:
        _write_image(folder / f"{name}.jpg", cv2.cvtColor(as_rgb(chip.image), cv2.COLOR_RGB2BGR))
    _write_image(folder / f"{name}_mask.png", _numbered(chip))


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

"""Bundle + folder of images -> submission.csv, objects.csv, masks, overlays: a folder that is whole or not there."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from segsmith.audit.mosaics import mosaics_of
from segsmith.data.dataset import Layout
from segsmith.data.extra import extra_levels
from segsmith.data.images import as_rgb, image_hw, is_image, read_image, read_mask
from segsmith.data.index import read_csv
from segsmith.decision.calibration import calibrated_levels
from segsmith.decision.masks import Labels, decided_by
from segsmith.decision.separation import objects_by
from segsmith.delivery.given_files import given_files
from segsmith.delivery.object_table import HEADER, ObjectRow, object_rows
from segsmith.delivery.strip_files import AS_THEY_ARE
from segsmith.delivery.submission import (
    Key,
    MaskProofs,
    all_keys,
    check_submission,
    mask_rows,
    read_order,
    write_submission,
)
from segsmith.eda.pictures import Picture, Rgb
from segsmith.errors import DataError, ModelError, ResolutionError, WriteError, listed
from segsmith.files import replacing_folder
from segsmith.modeling.bundle import Bundle, bundle_file
from segsmith.prediction.backends import choose_backend
from segsmith.prediction.first_look import check_skip
from segsmith.prediction.joints import agreed
from segsmith.prediction.probabilities import Levels, Predicted, Predictor, png
from segsmith.progress import track
from segsmith.types import HW, ClassMask, Image, Mask

WRITTEN = frozenset({"submission.csv", "objects.csv", "masks", "overlays"})
OVERLAY_COLOURS: tuple[Rgb, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66), (213, 94, 0), (0, 114, 178),
)  # fmt: skip
"""One per class, from the palette of Okabe and Ito, told apart by nearly everyone; an eighth class begins again."""


@dataclass(frozen=True)
class Prediction:
    """What was written."""

    folder: Path
    images: int
    with_foreground: int
    rows: int
    chips: int
    """Images, or chips of those that are cut into some, that went through all networks, flips and scales."""
    skipped: int
    """How many did not, since a first look ruled them out."""
    backend: str
    """What ran the networks: torch, or one that was exported."""
    why: str
    """Why that."""


class Masked(NamedTuple):
    """An image's mask, and the objects of each class in it."""

    mask: Mask
    objects: list[Labels]


def predict(
    bundle: Path,
    images: Path,
    out: Path,
    *,
    sample_submission: Path | None = None,
    numbers: Path | None = None,
    mosaics: bool = False,
    masks: bool = True,
    overlays: bool = True,
    backend: str = "auto",
    skip: bool = False,
) -> Prediction:
    """Predict every image below a folder and write what a user hands in.

        submission.csv        rows as the labels had them; in the order of `sample_submission`, else by name
        objects.csv           area, score and oriented box of each object (object_table.py)
        masks/ID.png          0 or 255, at the image's own size; masks/CLASS/ID.png where there are several classes
        overlays/ID.jpg       the image with the outlines of its masks, a colour per class

    `bundle` is a bundle file or a run folder. `numbers` is a CSV of ids and the columns that the recipe names in
    `data.extra`. With `mosaics` images that were cut side by side from one picture are found by their edges, and made
    to agree where they meet (joints.py); their levels are held in memory. With a sample submission exactly its images
    are predicted, and of them the classes it asks for are in the rows. What was written is read back and compared with
    the masks. `backend` is what runs the networks (backends.py). With `skip`, images in which a first look finds
    nothing are empty, at the loss that the bundle's decision allows (first_look.py); of images that are cut into chips,
    a chip adds level 0 to the mean with those that overlap it. A folder that an earlier prediction wrote is replaced.
    Images are shown to the networks as they are, so a model that sees all images at stated metres a pixel
    (`data.gsd_m`) refuses them. Raises ResolutionError for that, ModelError, DataError, WriteError; then nothing is
    there that was not there before.
    """
    file = bundle_file(bundle)
    opened = Bundle.read(file)
    allowed = check_skip(opened, file, by_chips=opened.recipe.data.fit == "chip") if skip else None
    chosen = choose_backend(file, opened, backend)
    files = find_images(images, opened.layout)
    order = read_order(sample_submission, opened.layout) if sample_submission else all_keys(files, opened.layout)
    image_ids = list(dict.fromkeys(key.image_id for key in order))
    unknown = [image_id for image_id in image_ids if image_id not in files]
    if unknown:
        raise DataError(f"{sample_submission} names {len(unknown)} images that are not in {images}:\n{listed(unknown)}")
    _check_resolution(opened, files[image_ids[0]])
    if out.is_dir():
        there = {path.name for path in out.iterdir()}
        if there - WRITTEN or (there and "submission.csv" not in there):
            other = min(there - WRITTEN, default=min(there))
            raise WriteError(f"{out}: holds {other}, which no prediction wrote; choose a new folder")
    extra = numbers_of(opened, numbers, image_ids)
    rows: dict[Key, list[str]] = {}
    sizes: dict[str, HW] = {}
    with_foreground = chips = skipped = 0
    proofs = MaskProofs()
    table: list[ObjectRow] = []
    temperature = opened.decision.temperature
    written = AS_THEY_ARE if temperature is None else calibrated_levels(temperature)
    with replacing_folder(out) as new:
        of_class = [new / "masks" / name if len(opened.classes) > 1 else new / "masks" for name in opened.classes]
        for folder in (*(of_class if masks else ()), *([new / "overlays"] if overlays else ())):
            folder.mkdir(parents=True, exist_ok=True)
        predictor = Predictor(opened, chosen.calls, skip=allowed)
        read = partial(_read, files, image_ids, predictor.bands, extra)
        stream = _agreeing(predictor, files, image_ids, read) if mosaics else predictor.stream(read())
        for image_id, image, predicted in track(stream, "images", len(image_ids)):
            mask, objects = masked(opened, predicted)
            sizes[image_id] = (mask.shape[1], mask.shape[2])
            with_foreground += bool(mask.any())
            chips += predicted.passed.chips
            skipped += predicted.passed.skipped
            stem = files[image_id].stem
            for class_id, plane in enumerate(mask):
                key = Key(image_id, class_id)
                rows[key] = mask_rows(plane, opened.layout, objects[class_id])
                name = opened.classes[class_id]
                table += object_rows(image_id, name, objects[class_id], written[predicted.levels[class_id]])
                proofs.note(key, plane)
                if masks:
                    png_file = of_class[class_id] / f"{stem}.png"
                    png_file.write_bytes(mask_png(plane))
                    if not proofs.same(key, read_mask(png_file)):
                        raise WriteError(
                            f"{out / png_file.relative_to(new)}: does not read back as written; is the disk sound?"
                        )
            if overlays:
                (new / "overlays" / f"{stem}.jpg").write_bytes(_jpeg(overlay(image, mask)))
        with (new / "objects.csv").open("w", newline="", encoding="utf-8") as table_file:
            csv.writer(table_file).writerows([HEADER, *table])
        write_submission(new / "submission.csv", opened.layout, rows, order)
        check_submission(new / "submission.csv", opened.layout, order, sizes, proofs)
    return Prediction(
        folder=out,
        images=len(image_ids),
        with_foreground=with_foreground,
        rows=sum(len(rows[key]) for key in order),
        chips=chips,
        skipped=skipped,
        backend=chosen.name,
        why=chosen.why,
    )


def _check_resolution(opened: Bundle, first: Path) -> None:
    """Raise ResolutionError for a model that sees stated metres a pixel: nobody brings plain images to them."""
    if (gsd_m := opened.recipe.data.gsd_m) is not None:
        raise ResolutionError(
            f"{first}: does not say, as a plain image, how many metres a pixel is, and the model sees {gsd_m:g}; "
            "predict it as a raster, by its name, and say what it is to be enlarged by"
        )


def find_images(folder: Path, layout: Layout) -> dict[str, Path]:
    """Image files below a folder by id, in the order of their names, without what predictions wrote. Raises DataError
    for none, or an id twice."""
    if folder.is_file():
        raise DataError(f"{folder}: is a file, where a folder of images is asked for")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such file or folder")
    paths = [path for path in given_files(folder) if is_image(path)]
    if not paths:
        raise DataError(f"{folder}: no image files")
    for what, counts in (
        ("id", Counter(layout.image_id(path) for path in paths)),
        ("name without suffix", Counter(path.stem for path in paths)),
    ):
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise DataError(
                f"{folder}: several images with the same {what}:\n{listed(twice)}\npredict one folder at a time"
            )
    return {layout.image_id(path): path for path in paths}


def masked(bundle: Bundle, predicted: Predicted) -> Masked:
    """What the bundle's decision makes of the probabilities of an image."""
    levels = predicted.levels[: len(bundle.classes)]
    exclusive = bundle.recipe.data.exclusive
    mask = decided_by(bundle.decision, levels, exclusive=exclusive, presence=predicted.presence)
    return Masked(mask, objects_by(bundle.decision, mask, predicted.levels))


def mask_png(mask: ClassMask) -> bytes:
    """0 and 255, of the image's own size."""
    return png(mask.view(np.uint8) * np.uint8(255))


def overlay(image: Image, mask: Mask) -> Picture:
    """The image as RGB, the foreground of each class tinted and outlined in its colour; later classes lie on top."""
    drawn = as_rgb(image).copy()
    for class_id, plane in enumerate(mask):
        colour = OVERLAY_COLOURS[class_id % len(OVERLAY_COLOURS)]
        drawn[plane] = (0.65 * drawn[plane] + 0.35 * np.array(colour)).astype(np.uint8)
        outlines, _ = cv2.findContours(plane.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        drawn = np.asarray(cv2.drawContours(drawn, outlines, -1, colour, 1))
    return drawn


def numbers_of(bundle: Bundle, numbers: Path | None, order: list[str]) -> UInt8[np.ndarray, "images extra"]:
    """The levels of each image's further channels, in order. Raises DataError for a table that lacks one."""
    columns = bundle.recipe.data.extra
    if not columns:
        return np.empty((len(order), 0), np.uint8)
    if numbers is None:
        raise DataError(f"the model was trained with {', '.join(columns)} of each image; say where: --numbers FILE")
    table = read_csv(numbers, dtype={0: str})
    table = table.set_index(table.columns[0])
    if missing := [image_id for image_id in order if image_id not in table.index]:
        raise DataError(f"{numbers}: has no row for {len(missing)} images:\n{listed(missing)}")
    return extra_levels(table.loc[order], columns, bundle.extra)


def _agreeing(
    predictor: Predictor,
    files: dict[str, Path],
    image_ids: list[str],
    read: Callable[..., Iterator[tuple[str, Image, Levels]]],
) -> Iterator[tuple[str, Image, Predicted]]:
    """The images in order, with what is said of them where those that meet agree; these are predicted first."""

    def image(number: int) -> Image:
        return next(read([number]))[1]

    shapes = np.array([(*image_hw(files[image_id]), predictor.bands) for image_id in image_ids])
    joints = mosaics_of(shapes, image).joints
    meeting = sorted({number for joint in joints for number in joint[:2]})
    found = {number: said for number, (_, _, said) in zip(meeting, predictor.stream(read(meeting)), strict=True)}
    levels = agreed({number: said.levels for number, said in found.items()}, joints)
    others = predictor.stream(read([number for number in range(len(image_ids)) if number not in found]))
    for number, image_id in enumerate(image_ids):
        if number in found:
            yield image_id, image(number), found[number]._replace(levels=levels[number])
        else:
            yield next(others)


def _read(
    files: dict[str, Path],
    order: list[str],
    bands: int,
    extra: UInt8[np.ndarray, "images extra"],
    only: Sequence[int] | None = None,
) -> Iterator[tuple[str, Image, Levels]]:
    for number in range(len(order)) if only is None else only:
        image_id, levels = order[number], extra[number]
        image = read_image(files[image_id])
        if image.shape[2] != bands:
            raise ModelError(
                f"{files[image_id]}: number of bands is {image.shape[2]}, the model was trained on {bands}"
            )
        yield image_id, image, levels


def _jpeg(image: Image) -> bytes:
    _, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return content.tobytes()

"""Index of images and labels: two Parquet tables and a JSON file, beside raw files that stay untouched.

images.parquet    one row per image: id, path, labelled, source, group, size, bands, bytes, objects, foreground pixels,
                  band statistics; images of one group never stand in different folds; of rasters CRS, transform,
                  metres per pixel, and the values that become level 0 and 255; where labels leave pixels open, the
                  run lengths of those; of a dataset with mined images, which were (decision/mine.py); of one with
                  taught images, a digest of the soft labels of each, and what the teacher knows (decision/label.py)
objects.parquet   one row per labelled object: image (row number), class, source row, run lengths or polygon
dataset.json      where the raw files are, and the soft labels; the layout they came in, class names, fingerprint
corrections.csv   where a person corrected labels: what is to be read in place of the others (corrections.py)
"""

import hashlib
import io
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int, Int32
from shapely import STRtree, from_wkb

from segsmith.data import rle
from segsmith.data.footprints import numbered, rasterised
from segsmith.data.images import read_image, resized_image, resized_mask
from segsmith.data.rasters import Levels, raster_shape, read_window
from segsmith.data.windows import Window, scaled_hw, whole
from segsmith.errors import DataError
from segsmith.files import replacing_folder
from segsmith.types import HW, ClassMask, Image, Mask, Probabilities

FORMAT = 2
TUNED_ON, TRAINED_ON = 1, 2
"""What a teacher knows of a labelled image, in the column `known`; 0 is nothing."""
KEPT_IMAGES = 4
SEARCHABLE_IMAGES = 64
"""Images whose polygons are kept ready for windows of them; others are made so when they are read."""


@dataclass(frozen=True)
class Layout:
    """The form labels came in, and the form a submission goes out in."""

    name: str
    id_column: str
    runs_column: str
    one_row_per: str
    """'object' or 'image': what one row of the CSV is."""
    id_has_suffix: bool
    """Whether ids are file names with their suffix."""
    class_column: str | None = None
    """Column that says the class of a row; the id column itself where it joins id and class, as `a.jpg_3`; None where
    one class needs no saying."""
    class_keys: tuple[str, ...] = ()
    """How the classes are written there, in the order of the dataset's class names."""

    @staticmethod
    def of(facts: dict[str, Any]) -> "Layout":
        """The layout of what `asdict` gave, also after a way through JSON, which knows lists alone."""
        return Layout(**facts | {"class_keys": tuple(facts["class_keys"])})

    @property
    def joins_class(self) -> bool:
        """Whether id and class share a column, joined by its last underscore."""
        return self.class_column == self.id_column

    @property
    def columns(self) -> list[str]:
        """The header of a CSV in this layout."""
        of_class = [] if self.class_column is None or self.joins_class else [self.class_column]
        return [self.id_column, *of_class, self.runs_column]

    def image_id(self, path: Path) -> str:
        return path.name if self.id_has_suffix else path.stem

    def fields(self, image_id: str, class_id: int, text: str) -> list[str]:
        """One row of a CSV in this layout, in the order of `columns`; `class_id` counts from 0."""
        if self.class_column is None:
            return [image_id, text]
        key = self.class_keys[class_id]
        return [f"{image_id}_{key}", text] if self.joins_class else [image_id, key, text]

    def image_and_class(self, fields: Sequence[str]) -> tuple[str, str]:
        """Image id and class as written, of a row with the fields of `columns`; the class is "" where one is all.

        A joined id without underscore has no class: then it is "" as well.
        """
        if self.joins_class:
            image_id, _, key = fields[0].strip().rpartition("_")
            return (image_id, key) if image_id else (fields[0].strip(), "")
        return fields[0].strip(), "" if self.class_column is None else fields[1].strip()


@dataclass(frozen=True)
class Chip:
    """Pixels of a window: image, truth, and which pixels are usable; all of the window's size."""

    image: Image
    mask: Mask
    valid: ClassMask


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and their labels. `images` has one row per image, `runs[offsets[o]:offsets[o + 1]]` is object o's mask;
    where `objects` has a column `shape`, a polygon in pixel coordinates (WKB) is.

    Objects are sorted by image; `first_object[i]:first_object[i + 1]` are image i's. Image paths are relative to `raw`.
    """

    raw: Path
    layout: Layout
    classes: tuple[str, ...]
    images: pd.DataFrame
    objects: pd.DataFrame
    runs: Int[np.ndarray, "runs 2"]
    offsets: Int[np.ndarray, " objects_and_one"]
    notes: tuple[str, ...] = ()
    soft_labels: Path | None = None
    """Folder of the soft labels of taught images: class-1/ID.png and so on, border-1/ID.png where borders were taught
    as well, of levels 0..255."""

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def first_object(self) -> Int[np.ndarray, " images_and_one"]:
        return np.searchsorted(self.objects["image"].to_numpy(), np.arange(len(self) + 1))

    @cached_property
    def labelled(self) -> Int[np.ndarray, " labelled"]:
        """Row numbers of the images whose truth is known, ascending."""
        return np.flatnonzero(self.images["labelled"].to_numpy())

    @cached_property
    def dealt(self) -> Int[np.ndarray, " dealt"]:
        """Row numbers of the labelled images that folds and scores are made of, ascending: all but mined ones, so that
        those change no fold and are only trained on."""
        return np.asarray(self.labelled[~self.mined[self.labelled]])

    @cached_property
    def mined(self) -> Bool[np.ndarray, " images"]:
        """Whether each image was added by mining, or is taught."""
        return self.images["mined"].to_numpy(bool) if "mined" in self.images else np.zeros(len(self), bool)

    @cached_property
    def taught(self) -> Bool[np.ndarray, " images"]:
        """Whether the labels of each image are soft ones, which a run gave it."""
        return self.images["soft"].to_numpy() != "" if "soft" in self.images else np.zeros(len(self), bool)

    @cached_property
    def known(self) -> Int[np.ndarray, " images"]:
        """The most that the teacher of the soft labels, or a teacher before it, did with the labels of each image: 0,
        TUNED_ON, TRAINED_ON."""
        return self.images["known"].to_numpy(np.int8) if "known" in self.images else np.zeros(len(self), np.int8)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any id, size or label, not with where the raw files lie."""
        digest = hashlib.blake2b(digest_size=8)
        for column in ("image_id", "path", "labelled", "source", "group", "height", "width", "bands", "file_bytes"):
            digest.update(pd.util.hash_pandas_object(self.images[column], index=False).to_numpy().tobytes())
        for column in ("image", "class"):
            digest.update(self.objects[column].to_numpy().tobytes())
        digest.update(self.offsets.tobytes())
        digest.update(self.runs.tobytes())
        for shape in self._shapes:
            digest.update(shape)
        for runs in self._ignored_runs:
            digest.update(b"|" + runs.tobytes())
        if self.mined.any():
            digest.update(self.mined.tobytes())
        if self.taught.any():
            digest.update("|".join(self.images["soft"]).encode())
        if self.known.any():
            digest.update(self.known.tobytes())
        return digest.hexdigest()

    def named(self, classes: Sequence[str] | None) -> "Dataset":
        """The same dataset with other names of its classes; None keeps them. Raises DataError unless as many."""
        if classes is None:
            return self
        if len(classes) != len(self.classes):
            raise DataError(
                f"data.classes names {len(classes)} classes ({', '.join(classes)}), the dataset has "
                f"{len(self.classes)} ({', '.join(self.classes)}); name each, or set data.classes to null"
            )
        return replace(self, classes=tuple(classes))

    @cached_property
    def known_pixels(self) -> Int[np.ndarray, " images"]:
        """Pixels of each image that are not ignored."""
        pixels = self._hw.astype(np.int64).prod(axis=1)
        for index, runs in enumerate(self._ignored_runs):
            pixels[index] -= runs[:, 1].sum()
        return np.asarray(pixels)

    @cached_property
    def _ignored_runs(self) -> list[Int[np.ndarray, "_runs 2"]]:
        """The pixels of each image that its labels leave open; no entry at all where no image has any."""
        column: Any = self.images.get("ignored_runs", [])
        return [np.asarray(runs, np.int32).reshape(-1, 2) for runs in column]

    @cached_property
    def _hw(self) -> Int[np.ndarray, "images 2"]:
        return self.images[["height", "width"]].to_numpy()

    @cached_property
    def _paths(self) -> list[str]:
        return list(self.images["path"])

    @cached_property
    def _class_ids(self) -> Int[np.ndarray, " objects"]:
        return self.objects["class"].to_numpy()

    def hw(self, index: int) -> HW:
        height, width = self._hw[index]
        return int(height), int(width)

    def path(self, index: int) -> Path:
        return self.raw / self._paths[index]

    def is_raster(self, index: int) -> bool:
        """Whether windows of an image are read without the whole of it."""
        return bool(self._is_raster[index])

    def image(self, index: int) -> Image:
        """Pixels of an image, in memory of the whole of it: `read` takes windows of rasters.

        Raises DataError when the file has gone, broken or changed its size since it was indexed.
        """
        if self._is_raster[index]:
            return self._raster_window(index, whole(self.hw(index)), 1.0)[0]
        image = read_image(self.path(index))
        self._check_hw(index, (image.shape[0], image.shape[1]))
        return image

    def mask(self, index: int) -> Mask:
        """Truth of an image, all objects of a class joined; all False for an unlabelled image. Memory is that of the
        whole image."""
        hw = self.hw(index)
        if (soft := self.soft(index)) is not None:
            return soft >= 128
        if self._shapes:
            return self._polygon_mask(index, whole(hw), 1.0)
        mask = np.zeros((len(self.classes), *hw), bool)
        for o in range(self.first_object[index], self.first_object[index + 1]):
            mask[self._class_ids[o]] |= rle.decode(self.runs[self.offsets[o] : self.offsets[o + 1]], hw)
        return mask

    def soft(
        self, index: int, window: Window | None = None, scale: float = 1.0, *, borders: bool = False
    ) -> Probabilities | None:
        """The soft labels of a taught image as levels 0..255, of each class and, if asked for, of the border in each
        behind them; windows and scales as in `read`. None for any other image.

        Raises DataError for files that have gone or changed their size, and borders that were not taught.
        """
        if not self.taught[index]:
            return None
        hw = scaled_hw(self.hw(index), scale)
        planes = self._last_soft(index, hw, borders)
        return cut_out(planes, window or whole(hw)).transpose(2, 0, 1)

    def ignored(self, index: int) -> ClassMask:
        """Pixels that the labels of an image leave open: neither of a class nor without; all False for most datasets.
        Memory is that of the whole image."""
        hw = self.hw(index)
        return rle.decode(self._ignored_runs[index], hw) if self._ignored_runs else np.zeros(hw, bool)

    def read(self, index: int, window: Window | None = None, scale: float = 1.0) -> Chip:
        """A window of an image, its truth and what of it is usable, on the grid of the image enlarged `scale` times.

        Without a window the whole image. Outside the image pixels and truth are 0 and not valid. A pixel is
        foreground when at least half of what it covers is; of polygons, when its centre lies within; and ignored, so
        not valid, likewise. Memory is that of the window for rasters, that of the image for pictures. Raises
        DataError like `image`.
        """
        hw = scaled_hw(self.hw(index), scale)
        wanted = window or whole(hw)
        if self._is_raster[index]:
            image, valid = self._raster_window(index, wanted, scale)
        elif window is None:
            image, valid = self._scaled_image(index, hw), np.ones(hw, bool)
        else:
            image, valid = cut_out(self._last_images(index, hw), window), cut_out(np.ones(hw, bool), window)
        if (soft := self.soft(index, window, scale)) is not None:
            return Chip(image, soft >= 128, valid)
        if self._shapes:
            return Chip(image, self._polygon_mask(index, wanted, scale), valid)
        if self._ignored_runs:
            ignored = self._scaled_ignored(index, hw) if window is None else self._last_ignored(index, hw)
            valid = valid & ~cut_out(ignored, wanted)
        if window is None:
            return Chip(image, self._scaled_mask(index, hw), valid)
        mask = self._last_masks(index, hw)
        return Chip(image, cut_out(mask.transpose(1, 2, 0), window).transpose(2, 0, 1), valid)

    @property
    def of_polygons(self) -> bool:
        """Whether objects are polygons, as of scenes with vector labels; else they are run lengths."""
        return "shape" in self.objects

    def numbered(
        self, index: int, window: Window | None = None, scale: float = 1.0
    ) -> Int32[np.ndarray, "classes height width"]:
        """Of labels that are polygons, the number of the object of each class that a pixel belongs to, 0 for none;
        windows and scales as in `read`, and numbers the same in all of them. Where objects overlap it is one of
        them."""
        wanted = window or whole(scaled_hw(self.hw(index), scale))
        return np.stack([numbered(tree, self.hw(index), wanted, scale) for tree in self._trees(index)])

    def labels(self, index: int) -> tuple[Mask, ClassMask]:
        """Truth of a whole image and which pixels are usable, as `read` gives them; a picture is not opened for it.
        Raises DataError like `read` for rasters alone."""
        if self._is_raster[index]:
            chip = self.read(index)
            return chip.mask, chip.valid
        return self.mask(index), ~self.ignored(index)

    def _scaled_image(self, index: int, hw: HW) -> Image:
        return resized_image(self.image(index), hw)

    def _scaled_mask(self, index: int, hw: HW) -> Mask:
        return resized_mask(self.mask(index), hw)

    def _scaled_ignored(self, index: int, hw: HW) -> ClassMask:
        return np.asarray(resized_mask(self.ignored(index)[None], hw)[0])

    def _scaled_soft(self, index: int, hw: HW, borders: bool) -> Image:
        assert self.soft_labels is not None
        image_id, planes = str(self.images["image_id"].iloc[index]), soft_planes(len(self.classes), borders=borders)
        levels = np.concatenate([read_image(self.soft_labels / name / f"{image_id}.png") for name in planes], axis=2)
        self._check_hw(index, (levels.shape[0], levels.shape[1]))
        return resized_image(levels, hw)

    @cached_property
    def _last_images(self) -> Callable[[int, HW], Image]:
        """The pictures that windows were read of last: the next window is often one of the same picture."""
        return lru_cache(KEPT_IMAGES)(self._scaled_image)

    @cached_property
    def _last_masks(self) -> Callable[[int, HW], Mask]:
        return lru_cache(KEPT_IMAGES)(self._scaled_mask)

    @cached_property
    def _last_ignored(self) -> Callable[[int, HW], ClassMask]:
        return lru_cache(KEPT_IMAGES)(self._scaled_ignored)

    @cached_property
    def _last_soft(self) -> Callable[[int, HW, bool], Image]:
        return lru_cache(KEPT_IMAGES)(self._scaled_soft)

    @cached_property
    def _is_raster(self) -> Bool[np.ndarray, " images"]:
        return self.images["transform"].notna().to_numpy()

    @cached_property
    def _shapes(self) -> list[bytes]:
        """The polygon of each object as WKB; none where objects are run lengths."""
        return list(self.objects["shape"]) if "shape" in self.objects else []

    @cached_property
    def _polygons(self) -> OrderedDict[int, list[STRtree]]:
        """Of the images read last, the polygons of each class, ready to be searched."""
        return OrderedDict()

    def _polygon_mask(self, index: int, window: Window, scale: float) -> Mask:
        return np.stack([rasterised(tree, self.hw(index), window, scale) for tree in self._trees(index)])

    def _trees(self, index: int) -> list[STRtree]:
        """The polygons of an image, of each class."""
        trees = self._polygons.get(index)
        if trees is None:
            first, last = self.first_object[index : index + 2]
            polygons = np.array(from_wkb(self._shapes[first:last]), object)
            class_ids = self._class_ids[first:last]
            trees = [STRtree(polygons[class_ids == class_id]) for class_id in range(len(self.classes))]
            self._polygons[index] = trees
            if len(self._polygons) > SEARCHABLE_IMAGES:
                self._polygons.popitem(last=False)
        return trees

    def _raster_window(self, index: int, window: Window, scale: float) -> tuple[Image, ClassMask]:
        row = self.images.iloc[index]
        height, width, _ = raster_shape(self.path(index))
        self._check_hw(index, (height, width))
        levels = Levels(tuple(row["band_low"]), tuple(row["band_high"]))
        return read_window(self.path(index), window, scale, levels)

    def _check_hw(self, index: int, hw: HW) -> None:
        if hw != self.hw(index):
            now, then = (f"{height} x {width}" for height, width in (hw, self.hw(index)))
            raise DataError(f"{self.path(index)}: is {now} pixels, but was indexed as {then}; inspect it again")

    def write(self, folder: Path, beside: Mapping[str, str] | None = None) -> None:
        """Write the index, and the text files `beside` it by name, whole or not at all. Raises WriteError."""
        with replacing_folder(folder) as new:
            self.write_into(new, beside)

    def write_into(self, new: Path, beside: Mapping[str, str] | None = None) -> None:
        """Likewise, into a folder that is there and takes its place later."""
        runs = pa.ListArray.from_arrays(
            pa.array(self.offsets, pa.int32()), pa.FixedSizeListArray.from_arrays(pa.array(self.runs.ravel()), 2)
        )
        objects = pa.Table.from_pandas(self.objects, preserve_index=False).append_column("runs", runs)
        facts: dict[str, Any] = {
            "format": FORMAT,
            "raw": str(self.raw),
            "layout": asdict(self.layout),
            "classes": self.classes,
            "fingerprint": self.fingerprint,
            "notes": self.notes,
            **({"soft_labels": str(self.soft_labels)} if self.soft_labels else {}),
        }
        for name, table in (("images", pa.Table.from_pandas(self.images, preserve_index=False)), ("objects", objects)):
            buffer = io.BytesIO()
            pq.write_table(table, buffer, compression="zstd")
            (new / f"{name}.parquet").write_bytes(buffer.getvalue())
        (new / "dataset.json").write_text(json.dumps(facts, indent=2))
        for name, text in (beside or {}).items():
            (new / name).write_text(text)

    @staticmethod
    def open(folder: Path) -> "Dataset":
        """The dataset `inspect` wrote, with the corrections of its labels that lie beside it (corrections.py).

        Raises DataError if there is none, its raw files are gone, or the corrections do not fit it.
        """
        from segsmith.data.corrections import with_corrections  # which is made of datasets

        for name in ("dataset.json", "images.parquet", "objects.parquet"):
            if not (folder / name).is_file():
                raise DataError(f"{folder}: no dataset ({name} is missing); make one with: segsmith inspect RAW_FOLDER")
        try:
            facts = json.loads((folder / "dataset.json").read_text())
            images = pq.read_table(folder / "images.parquet").to_pandas()
            objects = pq.read_table(folder / "objects.parquet")
        except (ValueError, OSError, RecursionError) as error:
            raise DataError(f"{folder}: the dataset does not read ({error}); inspect the raw folder again") from None
        found = facts.get("format") if isinstance(facts, dict) else None
        if found != FORMAT:
            raise DataError(
                f"{folder}: dataset format {found}, this segsmith reads {FORMAT}; inspect the raw folder again"
            )
        if not Path(facts["raw"]).is_dir():
            raise DataError(
                f"{folder}: its raw files were in {facts['raw']}, which is gone; inspect them where they are now"
            )
        soft_labels = Path(facts["soft_labels"]) if "soft_labels" in facts else None
        if soft_labels is not None and not soft_labels.is_dir():
            raise DataError(f"{folder}: its soft labels were in {soft_labels}, which is gone; make it again with: "
                            "segsmith label")  # fmt: skip
        column = objects["runs"].combine_chunks()
        dataset = Dataset(
            raw=Path(facts["raw"]),
            layout=Layout.of(facts["layout"]),
            classes=tuple(facts["classes"]),
            images=images,
            objects=objects.drop_columns(["runs"]).to_pandas(),
            runs=column.flatten().flatten().to_numpy().reshape(-1, 2),
            offsets=column.offsets.to_numpy(),
            notes=tuple(facts["notes"]),
            soft_labels=soft_labels,
        )
        return with_corrections(dataset, folder)


def soft_planes(classes: int, *, borders: bool) -> tuple[str, ...]:
    """Folders of the soft labels of so many classes, and of the borders in them. Numbers, since a recipe may give
    classes other names."""
    kinds = ("class", "border") if borders else ("class",)
    return tuple(f"{kind}-{number}" for kind in kinds for number in range(1, classes + 1))


def cut_out(pixels: np.ndarray, window: Window) -> np.ndarray:
    """A window of pixels, rows and columns first; 0 beyond them."""
    inside = window.inside(pixels.shape[:2])
    cut = np.zeros((*window.hw, *pixels.shape[2:]), pixels.dtype)
    top, left = inside.top - window.top, inside.left - window.left
    cut[top : top + inside.height, left : left + inside.width] = pixels[
        inside.top : inside.top + inside.height, inside.left : inside.left + inside.width
    ]
    return cut

"""Dataset + recipe -> Chips: what training, validation and deciding work on, whole images or windows of large ones.

A chip is read when it is wanted. Of each one only a few numbers are held, so that millions of them fit in memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int, Int32, UInt8

from segsmith import recipe
from segsmith.data.dataset import KEPT_IMAGES, Chip, Dataset, cut_out
from segsmith.data.extra import extra_levels, extra_ranges
from segsmith.data.images import resized_mask
from segsmith.data.index import in_threads
from segsmith.data.windows import Window, cover, scaled_hw, whole
from segsmith.errors import DataError
from segsmith.progress import track
from segsmith.samples.borders import borders, polygon_borders
from segsmith.samples.strata import Strata
from segsmith.types import HW, ClassMask, Image, Mask, Probabilities

_COLUMNS = ("image", "top", "left", "scale", "objects", "foreground", "judged")


class _Facts(NamedTuple):
    objects: int
    foreground: float
    present: Sequence[bool]
    valid: float


@dataclass(frozen=True, eq=False)
class Chips:
    """One entry per chip, in the order of the images. `top` and `left` are on the grid of the image times `scale`."""

    dataset: Dataset
    options: recipe.Data
    image: Int[np.ndarray, " chips"]
    """Row number of the image a chip is of."""
    top: Int[np.ndarray, " chips"]
    left: Int[np.ndarray, " chips"]
    scale: Float[np.ndarray, " chips"]
    objects: Int[np.ndarray, " chips"]
    foreground: Float[np.ndarray, " chips"]
    """Share of a chip's pixels that are of any class."""
    present: Bool[np.ndarray, "chips classes"]
    extra_levels: UInt8[np.ndarray, "images extra"]
    """Of every image of the dataset, for the columns the recipe names in `data.extra`."""
    judged: Bool[np.ndarray, " chips"]
    """Chips that scores are made of: together they cover every image that is not mined once, at the recipe's first
    scale."""
    border_px: int = 0
    """How wide the borders are that samples hold behind their classes, see `borders`; 0 for none."""

    def __len__(self) -> int:
        return len(self.image)

    @property
    def whole(self) -> bool:
        """Whether every chip is a whole image."""
        return self.options.fit != "chip"

    def id(self, chip: int) -> str:
        """The id of its image, with scale and place where it is a part of one: fit for a file name."""
        image_id = str(self.dataset.images["image_id"].iloc[self.image[chip]])
        return image_id if self.whole else f"{image_id}@{self.scale[chip]:g}-{self.top[chip]}-{self.left[chip]}"

    def hw(self, chip: int) -> HW:
        return self.dataset.hw(int(self.image[chip])) if self.whole else self.options.input_hw

    def read(self, chip: int) -> Chip:
        """Pixels of a chip at its own size, its truth, and which pixels are usable. Raises DataError for a file that
        has gone, broken or changed."""
        image = int(self.image[chip])
        return self.dataset.read(image) if self.whole else self.dataset.read(image, *self._window(chip))

    def labels(self, chip: int) -> tuple[Mask, ClassMask]:
        """Truth of a chip at its own size, and which pixels are usable, as `read` gives them; pictures that are chips
        of themselves are not opened for it. Raises like `read`."""
        if self.whole:
            return self.dataset.labels(int(self.image[chip]))
        found = self.read(chip)
        return found.mask, found.valid

    def borders(self, chip: int) -> Mask:
        """Where two objects of a class touch, of each class, at the chip's own size. Raises DataError for labels that
        do not tell objects apart."""
        image = int(self.image[chip])
        if (soft := self.soft(chip)) is not None:
            return soft[len(self.dataset.classes) :] >= 128
        if self.dataset.of_polygons:
            window, scale = self._window(chip)
            return polygon_borders(self.dataset, image, self.border_px, window, scale)
        found = self._borders(image)
        if self.whole:
            return found
        window, scale = self._window(chip)
        scaled = resized_mask(found, scaled_hw(self.dataset.hw(image), scale))
        return cut_out(scaled.transpose(1, 2, 0), window).transpose(2, 0, 1)

    def soft(self, chip: int) -> Probabilities | None:
        """The soft labels of a chip of a taught image, of classes and, where samples hold these, borders; None for any
        other. Raises DataError like Dataset.soft."""
        image, borders = int(self.image[chip]), bool(self.border_px)
        if self.whole:
            return self.dataset.soft(image, borders=borders)
        return self.dataset.soft(image, *self._window(chip), borders=borders)

    def numbered(self, chip: int) -> Int32[np.ndarray, "classes height width"]:
        """Of labels that are polygons, the number of the object of each class that a pixel of a chip belongs to, see
        Dataset.numbered."""
        window, scale = self._window(chip)
        return self.dataset.numbered(int(self.image[chip]), window, scale)

    def _window(self, chip: int) -> tuple[Window, float]:
        """Where a chip lies, and on the grid of its image enlarged how many times."""
        if self.whole:
            return whole(self.hw(chip)), 1.0
        return Window(int(self.top[chip]), int(self.left[chip]), *self.options.input_hw), float(self.scale[chip])

    @cached_property
    def _borders(self) -> Callable[[int], Mask]:
        """Of the images read last: the next chip is often one of the same image."""
        return lru_cache(KEPT_IMAGES)(lambda image: borders(self.dataset, image, self.border_px))

    def extra(self, chip: int) -> UInt8[np.ndarray, " extra"]:
        """The levels of the channels that stand for numbers of its image."""
        return np.asarray(self.extra_levels[self.image[chip]])

    def strata(self) -> Strata:
        """What each chip holds, for the batch mix."""
        sources, source = np.unique(self.dataset.images["source"].to_numpy(str), return_inverse=True)
        options = self.options.sources
        worth = np.array([options[name].weight if name in options else 1.0 for name in sources.tolist()])
        return Strata(
            objects=self.objects,
            foreground=self.foreground,
            present=self.present,
            classes=self.dataset.classes,
            sources=tuple(sources.tolist()),
            source=source[self.image],
            weight=worth[source][self.image],
        )

    def table(self) -> pa.Table:
        """What `chips_of` makes them of again, one row per chip."""
        columns = {name: getattr(self, name) for name in _COLUMNS}
        classes = pa.FixedSizeListArray.from_arrays(pa.array(self.present.ravel()), self.present.shape[1])
        return pa.table(columns | {"present": classes})

    def pixels(self, chip: int) -> Image:
        return self.read(chip).image

    def truth(self, chip: int) -> Mask:
        """Truth where it is known: False where no pixel is usable."""
        mask, valid = self.labels(chip)
        return np.asarray(mask & valid)


def cut(dataset: Dataset, options: recipe.Data, images: Sequence[int] | None = None) -> Chips:
    """The chips of a dataset: every image, or with `fit: chip` windows of `input_hw` at each of the recipe's scales.

    Windows of the labelled images alone, or of `images`, which are; those more than `blank_most` blank are left out
    unless they hold foreground. Every window is read once, to count what it holds. Raises DataError for images without
    the ground sampling distance that `gsd_m` asks for.
    """
    if options.fit != "chip":
        return _whole_images(dataset, options)
    rows: list[tuple[int, Window, float, bool]] = []
    for image in dataset.labelled.tolist() if images is None else images:
        base = base_scale(dataset, image, options)
        counts = not dataset.mined[image]
        for number, factor in enumerate(options.scales):
            hw = scaled_hw(dataset.hw(image), base * factor)
            side_by_side = set(cover(hw, options.input_hw, options.input_hw)) if number == 0 else set()
            windows = sorted(side_by_side.union(cover(hw, options.input_hw, options.stride_hw)))
            rows += [(image, window, base * factor, counts and window in side_by_side) for window in windows]

    def look(row: tuple[int, Window, float, bool]) -> _Facts:
        return _facts(dataset.read(row[0], row[1], row[2]))

    facts = list(track(in_threads(look, rows), "chips", len(rows)))
    kept = [n for n, found in enumerate(facts) if found.valid >= 1 - options.blank_most or found.foreground]
    return Chips(
        dataset=dataset,
        options=options,
        image=np.array([rows[n][0] for n in kept], np.int32),
        top=np.array([rows[n][1].top for n in kept], np.int32),
        left=np.array([rows[n][1].left for n in kept], np.int32),
        scale=np.array([rows[n][2] for n in kept], np.float64),
        objects=np.array([facts[n].objects for n in kept], np.int32),
        foreground=np.array([facts[n].foreground for n in kept], np.float32),
        present=np.array([facts[n].present for n in kept], bool).reshape(len(kept), len(dataset.classes)),
        extra_levels=_extra(dataset, options),
        judged=np.array([rows[n][3] for n in kept], bool),
    )


def chips_of(table: pa.Table, dataset: Dataset, options: recipe.Data) -> Chips:
    """The chips that `Chips.table` told of, without reading an image; of the same dataset and options, or they mean
    nothing."""
    columns = {name: table[name].to_numpy() for name in _COLUMNS}
    present = table["present"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return Chips(
        dataset=dataset,
        options=options,
        present=present.reshape(len(table), len(dataset.classes)),
        extra_levels=_extra(dataset, options),
        **columns,
    )


def base_scale(dataset: Dataset, image: int, options: recipe.Data) -> float:
    """What an image is enlarged by before its chips are cut: 1, or what brings it to `gsd_m` metres a pixel."""
    if options.gsd_m is None:
        return 1.0
    row = dataset.images.iloc[image]
    gsd_m = float(row.get("gsd_m", np.nan))
    if not gsd_m > 0:
        raise DataError(
            f"{dataset.path(image)}: has no ground sampling distance, which data.gsd_m={options.gsd_m} asks for; "
            "set data.gsd_m=null"
        )
    return gsd_m / options.gsd_m


def _extra(dataset: Dataset, options: recipe.Data) -> UInt8[np.ndarray, "images extra"]:
    return extra_levels(dataset.images, options.extra, extra_ranges(dataset.images, options.extra))


def _whole_images(dataset: Dataset, options: recipe.Data) -> Chips:
    count, table = len(dataset), dataset.images
    present = np.zeros((count, len(dataset.classes)), bool)
    present[dataset.objects["image"], dataset.objects["class"]] = True
    for row in np.flatnonzero(dataset.taught).tolist():
        present[row] = dataset.mask(row).any(axis=(1, 2))
    judged = np.zeros(count, bool)
    judged[dataset.dealt] = True
    return Chips(
        dataset=dataset,
        options=options,
        image=np.arange(count, dtype=np.int32),
        top=np.zeros(count, np.int32),
        left=np.zeros(count, np.int32),
        scale=np.ones(count),
        objects=table["objects"].to_numpy(np.int32),
        foreground=(table["foreground"].to_numpy() / np.maximum(1, dataset.known_pixels)).astype(np.float32),
        present=present,
        extra_levels=_extra(dataset, options),
        judged=judged,
    )


def _facts(chip: Chip) -> _Facts:
    usable = chip.mask & chip.valid
    planes = usable.view(np.uint8)
    return _Facts(
        objects=sum(cv2.connectedComponents(plane)[0] - 1 for plane in planes),
        foreground=float(usable.any(axis=0).mean()),
        present=usable.any(axis=(1, 2)).tolist(),
        valid=float(chip.valid.mean()),
    )

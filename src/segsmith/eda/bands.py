"""Dataset -> how often each level occurs in each band, counted over a bounded sample -> a chart of it."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Int
from markupsafe import Markup

from segsmith.data.dataset import Dataset
from segsmith.data.index import in_threads
from segsmith.data.windows import Window
from segsmith.eda.charts import SERIES, Line, line_chart
from segsmith.progress import track
from segsmith.types import HW, ClassMask, Image

SAMPLED = 200
"""Images, or windows of rasters, that are counted."""
WINDOW = 256
"""Side of a window of a raster, in pixels."""

_GOLDEN = 0.6180339887498949, 0.7548776662466927
"""Multiples of these, without their whole part, spread evenly however many are taken."""
_COLOURS = (SERIES[1], SERIES[2], SERIES[0])  # red, green, blue


@dataclass(frozen=True)
class BandCounts:
    """How many valid pixels of a sample have each level."""

    counts: Int[np.ndarray, "bands 256"]
    looked_at: int
    """Images, or windows of rasters."""
    windows: bool

    @property
    def all_equal(self) -> bool:
        """Whether the bands hold the same levels equally often, as those of a grey image stored in colour do."""
        return bool((self.counts == self.counts[0]).all())


def count_levels(dataset: Dataset) -> BandCounts:
    """Counts of levels over images spread evenly over the index, of the most common number of bands.

    Pictures are read whole, rasters in windows at places that depend on their number alone. At most SAMPLED are read,
    so that time and memory grow with neither the images nor the rasters. Raises DataError for a file that broke.
    """
    bands = int(dataset.images["bands"].mode().iloc[0])
    images = np.flatnonzero(dataset.images["bands"].to_numpy() == bands)
    rasters = dataset.is_raster(int(images[0]))
    number = SAMPLED if rasters else min(SAMPLED, len(images))
    places = np.linspace(0, len(images) - 1, number).round().astype(int)

    def counted(look: int) -> Int[np.ndarray, "bands 256"]:
        index = int(images[places[look]])
        if not rasters:
            return _counts(dataset.image(index), None)
        chip = dataset.read(index, _window(dataset.hw(index), look))
        return _counts(chip.image, chip.valid)

    total = np.zeros((bands, 256), np.int64)
    for counts in track(in_threads(counted, range(number)), "levels", number):
        total += counts
    return BandCounts(total, number, rasters)


def band_chart(found: BandCounts) -> Markup:
    """A curve per band: the share of pixels at each level. Levels 0 and 255, which absent or burnt-out pixels have,
    may rise above the chart."""
    pixels = np.maximum(1, found.counts.sum(axis=1, keepdims=True))
    shares = 100 * found.counts / pixels
    names = _names(len(shares))
    if found.all_equal and len(shares) > 1:
        shares, names = shares[:1], [f"{len(names)} equal bands"]
    coloured = len(shares) in (3, 4)
    lines = [
        Line(name, np.arange(256), share, _COLOURS[band] if coloured and band < 3 else "")
        for band, (name, share) in enumerate(zip(names, shares, strict=True))
    ]
    inner = float(shares[:, 1:-1].max())
    y_range = (0.0, 1.1 * inner) if inner > 0 and shares.max() > 1.1 * inner else None
    return line_chart(lines, title="Grey levels", x_label="level", y_label="per cent of the pixels", y_range=y_range)


def ends_in_words(found: BandCounts) -> str:
    """What the ends of the curves hold, and what was counted."""
    total = max(1, int(found.counts.sum()))
    black, white = int(found.counts[:, 0].sum()) / total, int(found.counts[:, 255].sum()) / total
    what = f"{found.looked_at} windows of {WINDOW} x {WINDOW} pixels" if found.windows else f"{found.looked_at} images"
    return f"Grey levels of {what}: {black:.1%} of their values are 0, {white:.1%} are 255."


def _names(bands: int) -> list[str]:
    if bands in (3, 4):
        return ["red", "green", "blue", "band 4"][:bands]
    return [f"band {number}" for number in range(1, bands + 1)]


def _window(hw: HW, number: int) -> Window:
    height, width = min(WINDOW, hw[0]), min(WINDOW, hw[1])
    down, right = ((number + 0.5) * step % 1 for step in _GOLDEN)
    return Window(int(down * (hw[0] - height + 1)), int(right * (hw[1] - width + 1)), height, width)


def _counts(image: Image, valid: ClassMask | None) -> Int[np.ndarray, "bands 256"]:
    mask = None if valid is None else valid.view(np.uint8)
    counts = [cv2.calcHist([image], [band], mask, [256], [0, 256]) for band in range(image.shape[2])]
    return np.stack(counts)[..., 0].astype(np.int64)

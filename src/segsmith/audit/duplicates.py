"""Dataset -> pairs of images that show the same pixels: copies, flips, turns, re-compressions, shifted crops.

Two steps. Each image is read once and described by numbers that hardly change under the eight symmetries of a square
and under shifts; images with near descriptions are candidates. Each candidate pair is then laid on one another under
every symmetry and shift, and what overlaps is compared: that alone decides.
"""

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Int, UInt8

from segsmith.audit.fitting import (
    COARSE,
    FINE,
    FLAT,
    SYMMETRIES,
    Fit,
    Look,
    Plane,
    Tiny,
    details,
    looker,
    overlap,
    promises,
    register,
    symmetric,
    tiny_details,
)
from segsmith.data.dataset import Dataset
from segsmith.data.images import LARGEST_PIXELS, resized_image, resized_mask
from segsmith.data.index import in_threads
from segsmith.progress import track
from segsmith.types import HW, Image

SIMILAR = 0.65
"""Least similarity of two images that show the same pixels. Unrelated images of one kind stay near 0.3, seldom above
0.5; copies re-compressed at JPEG quality 60 stay above 0.9, shifted ones with blank borders above 0.7."""

SAME_LABELS = 0.8
"""Least intersection over union of the masks of two duplicates that counts as the same labels."""

_FREQUENCIES = 9
_LEAST_LIKENESS = 0.5
"""Descriptions less alike than this are not compared, in datasets of more than `_FEW` images."""
_FEW = 200
PROMISING = 0.35
"""Least similarity of tiny details of two images worth a closer look: 0.49 was the least of 439 true pairs of salt and
steel, and nine in ten others stay below 0.39."""
_CLOSE = 0.5
"""The same of coarse details: 0.63, and 0.51 for 99 in 100 others."""

OtherImage = UInt8[np.ndarray, "_height _width bands"]
Vectors = Float32[np.ndarray, "_images features"]


@dataclass(frozen=True)
class Descriptions:
    """What one look at every image keeps: about 1.8 kB per image.

    Rows of `vectors` have length 1, or 0 for an image that is flat or was not read. `tiny` are details, without pixels
    for an image that was not read. `pixel_counts` are equal for images that agree pixel by pixel under any symmetry,
    and 0 for those not read. `side` is the typical longest side:
    images within a quarter of it are compared at one scale, so that crops fit; others with their own brought to it.
    """

    vectors: Vectors
    tiny: tuple[Tiny, ...]
    pixel_counts: Int[np.ndarray, " images"]
    side: float

    @property
    def too_large(self) -> Int[np.ndarray, " too_large"]:
        """Row numbers of images that were not read because they have more than LARGEST_PIXELS."""
        return np.flatnonzero(self.pixel_counts == 0)


@dataclass(frozen=True)
class Pair:
    """Two images, by row number in `Dataset.images`, that show the same pixels."""

    first: int
    second: int
    fit: Fit
    exact: bool
    """Whether they agree pixel by pixel where they overlap."""
    labels_iou: float | None
    """Intersection over union of their masks where they overlap, 1 if both are empty; None unless both are labelled."""

    @property
    def kind(self) -> str:
        """In words, such as 'near, rotated by 90, shifted by 10 down, 0 right'."""
        words = ["exact" if self.exact else "near"]
        if self.fit.symmetry:
            words.append(SYMMETRIES[self.fit.symmetry])
        if any(self.fit.shift_yx):
            words.append("shifted by {} down, {} right".format(*self.fit.shift_yx))
        return ", ".join(words)

    @property
    def labels_differ(self) -> bool:
        return self.labels_iou is not None and self.labels_iou < SAME_LABELS


@dataclass(frozen=True)
class Duplicates:
    """Pairs by first, then second. Of many copies of one image not every two are a pair, but all hang together."""

    pairs: tuple[Pair, ...]
    too_large: int
    """Images that were not compared."""


def find_duplicates(dataset: Dataset, described: Descriptions | None = None, *, candidates: int = 4) -> Duplicates:
    """The pairs among all images, labelled or not, each proven by registration.

    Every image is compared with those of its `candidates` nearest descriptions that are near at all. Nearly uniform
    images are duplicates only where every pixel agrees. Crops of one scene are found reliably while the shift is at
    most about a tenth of the image; a copy at another scale is found if it is the whole image.

    Time: one reading of every image; products of descriptions that grow with the square of their number, a minute or
    so for 60 000 images, blocks of bounded size at a time; 0.4 ms per candidate pair, and 10 ms for each that shows
    promise. Memory: 1.8 kB per image. Raises DataError when an image cannot be read.
    """
    described = describe(dataset) if described is None else described
    look = looker(dataset, described.side)
    wanted, unique = _same_pixel_counts(described.pixel_counts)
    others, likeness = nearest(described.vectors[unique], described.vectors[unique], candidates + 1)
    least = _LEAST_LIKENESS if len(unique) > _FEW else -1.0
    known = np.any(described.vectors, axis=1)[unique]
    for row, column in np.argwhere(likeness >= least).tolist():
        other = int(others[row, column])
        if row != other and known[row] and known[other]:
            pair = sorted((int(unique[row]), int(unique[other])))
            wanted.setdefault(pair[0], set()).add(pair[1])

    def verified(first: int) -> list[Pair]:
        seconds = sorted(wanted[first])
        promise_of = promises(described.tiny[first], [described.tiny[second] for second in seconds])
        pairs = []
        for second, promise in zip(seconds, promise_of, strict=True):
            same = described.pixel_counts[first] == described.pixel_counts[second]
            pair = _exact_pair(dataset, first, second) if same else None
            if pair is None and promise.max() >= PROMISING:
                pair = _near_pair(dataset, look, first, second, promise)
            if pair:
                pairs.append(pair)
        return pairs

    looked = track(in_threads(verified, sorted(wanted)), "duplicates", len(wanted))
    return Duplicates(tuple(pair for pairs in looked for pair in pairs), len(described.too_large))


def describe(dataset: Dataset) -> Descriptions:
    """Every image read once. Raises DataError when one cannot be read."""
    hw = dataset.images[["height", "width"]].to_numpy()
    side = float(np.median(hw.max(axis=1))) if len(hw) else 1.0

    def one(index: int) -> tuple[Float32[np.ndarray, " features"], Tiny, int]:
        if hw[index].prod() > LARGEST_PIXELS:
            return np.zeros(_FEATURES, np.float32), np.zeros((0, 0), np.int8), 0
        image = dataset.image(index)
        coarse = details(image, side, COARSE)
        return _describe(coarse), tiny_details(coarse), _pixel_count(image)

    looked = track(in_threads(one, range(len(dataset))), "descriptions", len(dataset))
    vectors = np.zeros((len(dataset), _FEATURES), np.float32)
    counts = np.zeros(len(dataset), np.int64)
    tiny = []
    for index, (vector, small, count) in enumerate(looked):
        vectors[index], counts[index] = vector, count
        tiny.append(small)
    known = vectors.any(axis=1)
    if known.any():
        vectors[known] -= vectors[known].mean(axis=0)
        vectors[known] -= vectors[known].mean(axis=1, keepdims=True)
        vectors[known] /= np.maximum(np.linalg.norm(vectors[known], axis=1, keepdims=True), 1e-6)
    return Descriptions(vectors, tuple(tiny), counts, side)


def nearest(
    queries: Vectors, bank: Vectors, count: int, block: int = 128
) -> tuple[Int[np.ndarray, "queries near"], Float32[np.ndarray, "queries near"]]:
    """Rows of `bank` most alike to each query, best first, and how alike, -1 to 1; fewer than `count` if it has fewer.

    Memory for `block` queries at a time.
    """
    count = min(count, len(bank))
    rows = np.zeros((len(queries), count), np.int64)
    likeness = np.zeros((len(queries), count), np.float32)
    for start in range(0, len(queries) if count else 0, block):
        alike = queries[start : start + block] @ bank.T
        best = np.argpartition(-alike, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(alike, best, axis=1)
        order = np.lexsort((best, -values), axis=1)
        rows[start : start + block] = np.take_along_axis(best, order, axis=1)
        likeness[start : start + block] = np.take_along_axis(values, order, axis=1)
    return rows, likeness


def _near_pair(
    dataset: Dataset, look: Look, first: int, second: int, promise: Float32[np.ndarray, " 8"]
) -> Pair | None:
    """The pair of two images if they show the same pixels, None if not."""
    fit = register(look, first, second, promise, _CLOSE)
    if fit is None or fit.similarity < SIMILAR:
        return None
    image, other = dataset.image(first), dataset.image(second)
    pixels = max(image.shape[:2]) / max(look(first, FINE).shape)
    if abs(max(other.shape[:2]) / max(look(second, FINE).shape) / pixels - 1) > 0.02:  # a copy at another scale
        shape = look(second, FINE).shape
        other = resized_image(other, (round(shape[0] * pixels), round(shape[1] * pixels)))
    turned = symmetric(other, fit.symmetry)
    shift = _exact_shift(image, turned, (round(fit.shift_yx[0] * pixels), round(fit.shift_yx[1] * pixels)), pixels)
    here, there = overlap(image.shape[:2], turned.shape[:2], shift)
    exact = image.shape[2] == turned.shape[2] and bool(np.array_equal(image[here], turned[there]))
    labels = _labels_iou(dataset, first, second, other.shape[:2], fit.symmetry, shift)
    return Pair(first, second, Fit(fit.symmetry, shift, 1.0 if exact else fit.similarity), exact, labels)


def same_pixels(dataset: Dataset, first: int, second: int) -> int | None:
    """The first symmetry under which two images agree in every pixel, None if there is none."""
    image, other = dataset.image(first), dataset.image(second)
    return next((s for s in range(8) if np.array_equal(image, symmetric(other, s))), None)


_ORBITS = [(u, v) for u in range(_FREQUENCIES) for v in range(u + 1) if u]
_FEATURES = 4 * len(_ORBITS)


def _describe(coarse: Plane) -> Float32[np.ndarray, " features"]:
    """Strengths of the low spatial frequencies, which shifts do not change; those that the symmetries exchange are
    sorted. All 0 for a flat image."""
    if coarse.std() < FLAT:
        return np.zeros(_FEATURES, np.float32)
    height, width = coarse.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    strength = np.abs(np.fft.fft2(coarse * window, (COARSE, COARSE)))
    u, v = np.array(_ORBITS).T
    exchanged = np.stack([strength[u, v], strength[-u, v], strength[v, u], strength[v, -u]], axis=1)
    exchanged.sort(axis=1)
    return np.asarray(np.log(exchanged + 0.05 * exchanged.mean() + 1e-6), np.float32).ravel()


def _pixel_count(image: Image) -> int:
    """Never 0, and equal for images of one size, either way up, whose bands hold each value equally often."""
    digest = hashlib.blake2b(repr((sorted(image.shape[:2]), image.shape[2])).encode(), digest_size=7)
    for band in range(image.shape[2]):
        digest.update(cv2.calcHist([image], [band], None, [256], [0, 256]).tobytes())
    return int.from_bytes(digest.digest(), "big") + 1


def _same_pixel_counts(counts: Int[np.ndarray, " images"]) -> tuple[dict[int, set[int]], Int[np.ndarray, " unique"]]:
    """Every image with the first of the same pixel count, and one image of each pixel count."""
    _, unique, inverse = np.unique(counts, return_index=True, return_inverse=True)
    first = unique[inverse]
    wanted: dict[int, set[int]] = {}
    for image in np.flatnonzero((first != np.arange(len(counts))) & (counts != 0)).tolist():
        wanted.setdefault(int(first[image]), set()).add(image)
    return wanted, np.sort(unique)


def _exact_shift(image: Image, turned: OtherImage, shift: tuple[int, int], pixels: float) -> tuple[int, int]:
    """The shift in whole pixels of the image, near one that is good to `pixels`."""
    reach = int(np.ceil(pixels)) + 1
    here, there = overlap(image.shape[:2], turned.shape[:2], shift)
    a, b = image[here].mean(axis=2, dtype=np.float32), turned[there].mean(axis=2, dtype=np.float32)
    if min(a.shape) <= 4 * reach:
        return shift
    a, b = a[:1024, :1024], b[:1024, :1024]
    scores = cv2.matchTemplate(a, b[reach:-reach, reach:-reach], cv2.TM_CCOEFF_NORMED)
    y, x = np.unravel_index(int(scores.argmax()), scores.shape)
    return shift[0] + int(y) - reach, shift[1] + int(x) - reach


def _exact_pair(dataset: Dataset, first: int, second: int) -> Pair | None:
    symmetry = same_pixels(dataset, first, second)
    if symmetry is None:
        return None
    iou = _labels_iou(dataset, first, second, dataset.hw(second), symmetry, (0, 0))
    return Pair(first, second, Fit(symmetry, (0, 0), 1.0), True, iou)


def _labels_iou(
    dataset: Dataset, first: int, second: int, second_hw: HW, symmetry: int, shift: tuple[int, int]
) -> float | None:
    labelled = dataset.images["labelled"].to_numpy()
    if not (labelled[first] and labelled[second]):
        return None
    mask, other = (dataset.mask(index).transpose(1, 2, 0) for index in (first, second))
    other = symmetric(resized_mask(other.transpose(2, 0, 1), second_hw).transpose(1, 2, 0), symmetry)
    here, there = overlap(mask.shape[:2], other.shape[:2], shift)
    either = int((mask[here] | other[there]).sum())
    return int((mask[here] & other[there]).sum()) / either if either else 1.0

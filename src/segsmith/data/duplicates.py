"""Dataset -> pairs of images that show the same pixels: copies, flips, turns, re-compressions, shifted crops.

Two steps. Each image is read once and described by numbers that hardly change under the eight symmetries of a square
and under shifts; images with near descriptions are candidates. Each candidate pair is then laid on one another under
every symmetry and shift, and what overlaps is compared: that alone decides.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int, Shaped, UInt8

from segsmith.data.dataset import Dataset
from segsmith.data.images import resized_image, resized_mask
from segsmith.data.index import in_threads
from segsmith.progress import track
from segsmith.types import HW, Image

SYMMETRIES = (
    "as it is",
    "rotated by 90",
    "rotated by 180",
    "rotated by 270",
    "flipped left to right",
    "flipped left to right, then rotated by 90",
    "flipped top to bottom",
    "flipped left to right, then rotated by 270",
)
"""What is done to an image, by number; rotations are counter-clockwise, in degrees."""

SIMILAR = 0.65
"""Least similarity of two images that show the same pixels. Unrelated images of one kind stay near 0.3, seldom above
0.5; copies re-compressed at JPEG quality 60 stay above 0.9, shifted ones with blank borders above 0.7."""

SAME_LABELS = 0.8
"""Least intersection over union of the masks of two duplicates that counts as the same labels."""

LARGEST_PIXELS = 16 * 2**20
"""Images of more pixels are not read whole; they are counted, not compared."""

_TINY, _COARSE, _FINE = 32, 64, 128
"""Longest side, in pixels, of the small pictures that symmetries are told by, that are described and searched, and that
are compared."""
_TRIED = 3
"""Symmetries, of the eight, that are searched closely."""
_FREQUENCIES = 9
_LEAST_LIKENESS = 0.5
"""Descriptions less alike than this are not compared, in datasets of more than `_FEW` images."""
_FEW = 200
_PROMISING = 0.2
_LEAST_OVERLAP = 0.3
_FLAT = 0.15
"""Least deviation of a picture's details, of 1 for strong contrast, by which it can be recognised."""

OtherImage = UInt8[np.ndarray, "_height _width bands"]
Plane = Float32[np.ndarray, "_plane_height _plane_width"]
Vectors = Float32[np.ndarray, "_images features"]


@dataclass(frozen=True)
class Descriptions:
    """What one look at every image keeps: about 0.7 kB per image.

    Rows of `vectors` have length 1, or 0 for an image that is flat or was not read. `pixel_counts` are equal for
    images that agree pixel by pixel under any symmetry, and 0 for those not read. `side` is the typical longest side:
    images within a quarter of it are compared at one scale, so that crops fit; others with their own brought to it.
    """

    vectors: Vectors
    pixel_counts: Int[np.ndarray, " images"]
    side: float

    @property
    def too_large(self) -> Int[np.ndarray, " too_large"]:
        """Row numbers of images that were not read because they have more than LARGEST_PIXELS."""
        return np.flatnonzero(self.pixel_counts == 0)


class Fit(NamedTuple):
    """How two images lie best on one another: what `second` shows at (y, x) after `symmetry` was done to it, `first`
    shows at (y + shift_yx[0], x + shift_yx[1])."""

    symmetry: int
    shift_yx: tuple[int, int]
    """Pixels of `first`, down and right."""
    similarity: float
    """Correlation of the details where both overlap, -1 to 1, times the root of the share of the smaller image that
    does: the less there is to agree, the more it must agree."""


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
    so for 60 000 images, blocks of bounded size at a time; 9 ms per candidate pair. Memory: 0.7 kB per image. Raises
    DataError when an image cannot be read.
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
        pairs = []
        for second in sorted(wanted[first]):
            same = described.pixel_counts[first] == described.pixel_counts[second]
            pair = (same and _exact_pair(dataset, first, second)) or compare(dataset, look, first, second)
            if pair:
                pairs.append(pair)
        return pairs

    looked = track(in_threads(verified, sorted(wanted)), "duplicates", len(wanted))
    return Duplicates(tuple(pair for pairs in looked for pair in pairs), len(described.too_large))


def describe(dataset: Dataset) -> Descriptions:
    """Every image read once. Raises DataError when one cannot be read."""
    hw = dataset.images[["height", "width"]].to_numpy()
    side = float(np.median(hw.max(axis=1))) if len(hw) else 1.0

    def one(index: int) -> tuple[Float32[np.ndarray, " features"], int]:
        if hw[index].prod() > LARGEST_PIXELS:
            return np.zeros(_FEATURES, np.float32), 0
        image = dataset.image(index)
        return _describe(_details(image, side, _COARSE)), _pixel_count(image)

    looked = track(in_threads(one, range(len(dataset))), "descriptions", len(dataset))
    vectors = np.zeros((len(dataset), _FEATURES), np.float32)
    counts = np.zeros(len(dataset), np.int64)
    for index, (vector, count) in enumerate(looked):
        vectors[index], counts[index] = vector, count
    known = vectors.any(axis=1)
    if known.any():
        vectors[known] -= vectors[known].mean(axis=0)
        vectors[known] -= vectors[known].mean(axis=1, keepdims=True)
        vectors[known] /= np.maximum(np.linalg.norm(vectors[known], axis=1, keepdims=True), 1e-6)
    return Descriptions(vectors, counts, side)


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


class Look(NamedTuple):
    """Details of an image at three sizes, ready to be laid on others."""

    tiny: Plane
    coarse: Plane
    fine: Plane


def looker(dataset: Dataset, side: float) -> Callable[[int], Look]:
    """Image number -> its details; the last 512 are kept, 84 kB each."""

    @lru_cache(512)
    def look(index: int) -> Look:
        image = dataset.image(index)
        coarse = _details(image, side, _COARSE)
        shape = [max(1, round(length * _TINY / _COARSE)) for length in coarse.shape]
        tiny = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_AREA)
        return Look(tiny, coarse, _details(image, side, _FINE))

    return look


def register(first: Look, second: Look) -> Fit | None:
    """The symmetry and shift under which two images agree best; None if no overlap of three tenths is promising.

    The shift is in pixels of the fine details, good to one pixel. The search is by correlation in the Fourier domain,
    each value divided by the energy of the two overlapping parts, so that it is a correlation coefficient (J. P. Lewis,
    "Fast normalized cross-correlation", 1995).
    """
    first_look = [_best_shift(first.tiny, symmetric(second.tiny, s))[0] for s in range(8)]
    likely = sorted(range(8), key=lambda s: -first_look[s])[:_TRIED]
    found = [(*_best_shift(first.coarse, symmetric(second.coarse, s)), s) for s in likely]
    promise, dy, dx, symmetry = max(found, key=lambda tried: tried[0])
    if promise < _PROMISING:
        return None
    step = _FINE // _COARSE
    turned = symmetric(second.fine, symmetry)
    near = [(step * dy + y, step * dx + x) for y in range(-2, 3) for x in range(-2, 3)]
    similarity, shift = max((_agreement(first.fine, turned, shift), shift) for shift in near)
    return Fit(symmetry, shift, similarity)


def compare(dataset: Dataset, look: Callable[[int], Look], first: int, second: int) -> Pair | None:
    """The pair of two images if they show the same pixels, None if not. Raises DataError like `Dataset.image`."""
    fit = register(look(first), look(second))
    if fit is None or fit.similarity < SIMILAR:
        return None
    image, other = dataset.image(first), dataset.image(second)
    pixels = max(image.shape[:2]) / max(look(first).fine.shape)
    if abs(max(other.shape[:2]) / max(look(second).fine.shape) / pixels - 1) > 0.02:  # a copy at another scale
        shape = look(second).fine.shape
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


def symmetric(pixels: Shaped[np.ndarray, "..."], symmetry: int) -> Shaped[np.ndarray, "..."]:
    """An array with rows and columns first, after one of SYMMETRIES."""
    flipped = pixels[:, ::-1] if symmetry >= 4 else pixels
    return np.ascontiguousarray(np.rot90(flipped, symmetry % 4))


def overlap(first_hw: HW, second_hw: HW, shift_yx: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The rectangle both images cover, in the first and in the second, when the second is moved by `shift_yx`."""
    tops = [max(0, shift) for shift in shift_yx]
    ends = [max(top, min(a, b + s)) for top, a, b, s in zip(tops, first_hw, second_hw, shift_yx, strict=True)]
    here = slice(tops[0], ends[0]), slice(tops[1], ends[1])
    there = slice(tops[0] - shift_yx[0], ends[0] - shift_yx[0]), slice(tops[1] - shift_yx[1], ends[1] - shift_yx[1])
    return here, there


_ORBITS = [(u, v) for u in range(_FREQUENCIES) for v in range(u + 1) if u]
_FEATURES = 4 * len(_ORBITS)


def _details(image: Image, side: float, size: int) -> Plane:
    """What can be recognised of an image, at a scale that brings its longest side to about `size`.

    Medium frequencies, divided by their local strength: neither brightness, contrast nor compression matters much, and
    a bright streak counts no more than a faint one. What is constant along rows or columns is taken out, as streaks
    and layers fit upon one another wherever they are.
    """
    longest = max(image.shape[:2])
    scale = size / (side if abs(longest / side - 1) <= 0.25 else longest)
    hw = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
    plane = resized_image(image, hw).mean(axis=2, dtype=np.float32)
    blur, wide = (0.7, 6.0) if size == _COARSE else (1.0, 8.0)
    band = cv2.GaussianBlur(plane, (0, 0), blur) - cv2.GaussianBlur(plane, (0, 0), wide)
    details = band / np.sqrt(cv2.GaussianBlur(band * band, (0, 0), wide) + 9.0)  # 3 grey levels: no more than noise
    np.clip(details, -3, 3, out=details)
    details += details.mean() - details.mean(axis=0, keepdims=True) - details.mean(axis=1, keepdims=True)
    return np.asarray(details, np.float32)


def _describe(details: Plane) -> Float32[np.ndarray, " features"]:
    """Strengths of the low spatial frequencies, which shifts do not change; those that the symmetries exchange are
    sorted. All 0 for a flat image."""
    if details.std() < _FLAT:
        return np.zeros(_FEATURES, np.float32)
    height, width = details.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    strength = np.abs(np.fft.fft2(details * window, (_COARSE, _COARSE)))
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


def _best_shift(first: Plane, second: Plane) -> tuple[float, int, int]:
    """The shift (down, right) at which the second plane fits best upon the first, after its correlation times the root
    of the share that overlaps."""
    sides = [7 * max(a, b) // 4 for a, b in zip(first.shape, second.shape, strict=True)]
    together = np.fft.irfft2(np.fft.rfft2(first, sides) * np.conj(np.fft.rfft2(second, sides)), sides)
    dy, dx = (np.fft.fftfreq(side, 1 / side).round().astype(int) for side in sides)
    top, left = np.maximum(dy, 0), np.maximum(dx, 0)
    end = np.maximum(np.minimum(first.shape[0], second.shape[0] + dy), top)
    right = np.maximum(np.minimum(first.shape[1], second.shape[1] + dx), left)
    area = np.outer(end - top, right - left)
    apart = [side - max(a, b) for side, a, b in zip(sides, first.shape, second.shape, strict=True)]
    allowed = (area >= _LEAST_OVERLAP * min(first.size, second.size)) & np.outer(
        abs(dy) <= apart[0], abs(dx) <= apart[1]
    )
    energy = _energy(first, top, end, left, right) * _energy(second, top - dy, end - dy, left - dx, right - dx)
    flat = (_FLAT**2 / 2 * area) ** 2 + 1e-6
    correlation = np.where(allowed, together / np.sqrt(np.maximum(energy, flat)), -1.0)
    # Small overlaps agree by chance more easily: the chance deviation goes with the root of the area.
    weighted = correlation * np.sqrt(area / min(first.size, second.size))
    y, x = np.unravel_index(int(weighted.argmax()), weighted.shape)
    return float(weighted[y, x]), int(dy[y]), int(dx[x])


def _energy(
    plane: Plane,
    top: Int[np.ndarray, " shifts_y"],
    end: Int[np.ndarray, " shifts_y"],
    left: Int[np.ndarray, " shifts_x"],
    right: Int[np.ndarray, " shifts_x"],
) -> Float[np.ndarray, "shifts_y shifts_x"]:
    """Sum of squares over the rectangle of each pair of shifts."""
    sums = cv2.integral(plane * plane)
    top, end = (np.clip(edge, 0, plane.shape[0]) for edge in (top, end))
    left, right = (np.clip(edge, 0, plane.shape[1]) for edge in (left, right))
    by_row = sums[end] - sums[top]
    return np.asarray(by_row[:, right] - by_row[:, left])


def _agreement(first: Plane, second: Plane, shift: tuple[int, int]) -> float:
    """Correlation, times the root of the share of the smaller plane that overlaps."""
    here, _ = overlap(first.shape, second.shape, shift)
    share = first[here].size / min(first.size, second.size)
    return _correlation(first, second, shift) * float(np.sqrt(share))


def _correlation(first: Plane, second: Plane, shift: tuple[int, int]) -> float:
    here, there = overlap(first.shape, second.shape, shift)
    a, b = first[here].ravel(), second[there].ravel()
    flat = _FLAT**2 / 2 * a.size + 1e-6
    return float(a @ b / np.sqrt(max(float(a @ a), flat) * max(float(b @ b), flat)))


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

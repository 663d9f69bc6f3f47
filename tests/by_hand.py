"""What segsmith computes fast, computed slowly from its definition; tests hold one against the other.

A mask is a bool array (height, width), its pixels (row, column); nothing here is taken from segsmith.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

Pixel = tuple[int, int]
HW = tuple[int, int]


def decode(text: str, hw: HW) -> np.ndarray:
    """The mask of `start length` pairs, pixels numbered from 1 down the columns."""
    mask = np.zeros(hw, bool)
    numbers = [int(word) for word in text.split()]
    for start, length in zip(numbers[0::2], numbers[1::2], strict=True):
        for pixel in range(start - 1, start - 1 + length):
            mask[pixel % hw[0], pixel // hw[0]] = True
    return mask


def encode(mask: np.ndarray) -> str:
    """Run lengths, each of a single pixel wherever the one above is not set, else longer."""
    starts: list[list[int]] = []
    for number, pixel in enumerate(mask.T.ravel().tolist(), start=1):
        if pixel and starts and sum(starts[-1]) == number:
            starts[-1][1] += 1
        elif pixel:
            starts.append([number, 1])
    return " ".join(f"{start} {length}" for start, length in starts)


def pixels(mask: np.ndarray) -> set[Pixel]:
    return {(int(row), int(column)) for row, column in np.argwhere(mask)}


def objects(mask: np.ndarray) -> list[set[Pixel]]:
    """Flood fill over the eight neighbours."""
    left, found = pixels(mask), []
    while left:
        new, grown = {left.pop()}, set[Pixel]()
        while new:
            row, column = new.pop()
            grown.add((row, column))
            near = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= near
            new |= near
        found.append(grown)
    return found


def decided(probabilities: np.ndarray, level: int, smallest_area: int) -> np.ndarray:
    """Pixels of at least `level`, without objects of fewer than `smallest_area` of them."""
    mask = np.zeros(probabilities.shape, bool)
    for one in objects(probabilities >= level):
        if len(one) >= smallest_area:
            for pixel in one:
                mask[pixel] = True
    return mask


def score(metric: str, predicted: Iterable[np.ndarray], truths: Iterable[np.ndarray]) -> float:
    """A metric over images, from what segsmith.modeling.metrics says it is."""
    if metric == "global_accuracy":
        return float(np.mean([mask == truth for mask, truth in zip(predicted, truths, strict=True)]))
    pairs = [(pixels(mask), pixels(truth)) for mask, truth in zip(predicted, truths, strict=True)]
    if metric.startswith("global_"):
        tp = sum(len(mask & truth) for mask, truth in pairs)
        marked, true = sum(len(mask) for mask, _ in pairs), sum(len(truth) for _, truth in pairs)
        over, under = (tp, marked + true - tp) if metric == "global_iou" else (2 * tp, marked + true)
        return over / under if under else 1.0
    return float(sum(_of_image(metric, *pair) for pair in pairs) / len(pairs))


def _of_image(metric: str, mask: set[Pixel], truth: set[Pixel]) -> Fraction:
    if not mask and not truth:
        return Fraction(1)
    if metric == "mean_dice":
        return Fraction(2 * len(mask & truth), len(mask) + len(truth))
    iou = Fraction(len(mask & truth), len(mask | truth))
    return iou if metric == "mean_iou" else Fraction(sum(iou > Fraction(n, 100) for n in range(50, 100, 5)), 10)


def scenes(count: int, hw: HW, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Truths, every third one empty, and probabilities that are right more often than not."""
    rng = np.random.default_rng(seed)
    truths, probabilities = [], []
    for number in range(count):
        truth = np.zeros(hw, bool)
        for _ in range(number % 3):
            row, column = rng.integers(0, hw[0] - 3), rng.integers(0, hw[1] - 3)
            truth[row : row + rng.integers(2, 6), column : column + rng.integers(2, 6)] = True
        seen = np.roll(truth, rng.integers(0, 2), axis=1)
        noise = rng.integers(0, 140, hw) * (rng.random(hw) < 0.3)
        truths.append(truth)
        probabilities.append(np.where(seen, rng.integers(80, 256, hw), noise).astype(np.uint8))
    return truths, probabilities


def files_in(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, hidden or not: what each file holds, None for a folder."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if not path.is_fifo()
    }


def named(texts: Sequence[str]) -> dict[str, list[str]]:
    """Lines `id,run lengths` of a submission, header left out: the run lengths of each id, in order."""
    found: dict[str, list[str]] = {}
    for line in texts:
        image_id, runs = line.split(",")
        found.setdefault(image_id, []).append(runs)
    return found

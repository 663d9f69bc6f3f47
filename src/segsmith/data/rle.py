"""Mask <-> run lengths, as text of the contests and as integer pairs.

Text: `start length` pairs, starts 1-based, pixels numbered down the columns (Fortran order), pairs ascending and apart.
Runs: the same as int32 pairs with 0-based starts.
"""

import re

import cv2
import numpy as np
from jaxtyping import Int

from segsmith.errors import RunLengthError
from segsmith.types import HW, ClassMask, Runs

EMPTY_TEXTS = frozenset({"", "0", "nan", "NaN"})
"""Texts that say 'no foreground', beside a missing value."""

_NUMBERS = re.compile(r"[+-]?\d+(\s+[+-]?\d+)*")


def parse(text: str, hw: HW) -> Runs:
    """The runs of a contest's text for an image of `hw` pixels; no rows for an empty text.

    Raises RunLengthError saying which pair is not a number, odd, zero, negative, unsorted, overlapping or beyond the
    image.
    """
    text = text.strip()
    if text in EMPTY_TEXTS:
        return np.empty((0, 2), np.int32)
    if not _NUMBERS.fullmatch(text):
        wrong = next(word for word in text.split() if not re.fullmatch(r"[+-]?\d+", word))
        raise RunLengthError(f"'{wrong}' is not a whole number")
    words = text.split()
    if len(words) % 2:
        raise RunLengthError(f"{len(words)} numbers, an odd count; they must be 'start length' pairs")
    if max(map(len, words)) > 10:
        raise RunLengthError(f"'{max(words, key=len)}' is beyond any image")
    pairs = np.array(words, dtype=np.int64).reshape(-1, 2)
    starts, lengths = pairs[:, 0], pairs[:, 1]
    ends = starts + lengths
    if (starts < 1).any():
        raise RunLengthError(f"{_pair(pairs, starts < 1)} starts before pixel 1, the first")
    if (lengths < 1).any():
        raise RunLengthError(f"{_pair(pairs, lengths < 1)} has no length")
    if (np.diff(starts) <= 0).any():
        raise RunLengthError(f"{_pair(pairs[1:], np.diff(starts) <= 0)} does not start after the pair before it")
    if (starts[1:] < ends[:-1]).any():
        raise RunLengthError(f"{_pair(pairs[1:], starts[1:] < ends[:-1])} overlaps the pair before it")
    pixels = hw[0] * hw[1]
    if ends[-1] - 1 > pixels:
        beyond = _pair(pairs, ends - 1 > pixels)
        raise RunLengthError(f"{beyond} ends beyond the image, which has {hw[0]} x {hw[1]} = {pixels} pixels")
    return np.stack([starts - 1, lengths], axis=1).astype(np.int32)


def _pair(pairs: Runs, wrong: np.ndarray) -> str:
    start, length = pairs[int(np.argmax(wrong))]
    return f"pair '{start} {length}'"


def encode(mask: ClassMask) -> Runs:
    """The runs of a mask, ascending and apart; no rows for an empty mask."""
    height, width = mask.shape
    framed = np.zeros(height * width + 2, np.uint8)  # background before the first pixel and behind the last
    cv2.transpose(np.ascontiguousarray(mask).view(np.uint8), framed[1:-1].reshape(width, height))
    edges = np.flatnonzero(framed[1:] != framed[:-1]).astype(np.int32).reshape(-1, 2)
    edges[:, 1] -= edges[:, 0]
    return edges


def decode(runs: Runs, hw: HW) -> ClassMask:
    """The mask of runs that fit into `hw` pixels; runs may overlap or stand in any order."""
    stretches = _stretches(runs, hw[0] * hw[1])
    if stretches.min() < 0:
        runs = runs[np.argsort(runs[:, 0])]
        ends = np.maximum.accumulate(runs.sum(axis=1))
        starts = np.concatenate([runs[:1, 0], np.maximum(runs[1:, 0], ends[:-1])])
        stretches = _stretches(np.stack([starts, ends - starts], axis=1), hw[0] * hw[1])
    values = np.zeros(len(stretches), np.uint8)
    values[1::2] = 1
    return np.asarray(cv2.transpose(values.repeat(stretches).reshape(hw[1], hw[0]))).view(bool)


def _stretches(runs: Runs, pixels: int) -> Int[np.ndarray, " stretches"]:
    """Pixels of background, foreground, ... and background; some are negative unless runs are ascending and apart."""
    edges = np.zeros(2 * len(runs) + 2, np.int64)
    edges[1:-1:2] = runs[:, 0]
    edges[2:-1:2] = runs[:, 0] + runs[:, 1]
    edges[-1] = pixels
    return edges[1:] - edges[:-1]


def to_text(runs: Runs) -> str:
    """The contest's text of runs; an empty text for none."""
    return " ".join(map(str, (runs + np.array([1, 0], runs.dtype)).ravel().tolist()))

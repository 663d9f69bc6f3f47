"""Masks strip by strip -> the same with holes filled, and without small objects, as if each mask were whole.

What lies within a strip is known there. Parts that touch the edge of a strip are joined with their neighbours beyond
it, so that a pass over the strips before tells exactly how large an object is, and whether background is a hole;
memory is that of one strip and of a few numbers for each part on an edge.
"""

import cv2
import numpy as np
from jaxtyping import Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segsmith.decision.masks import CONNECTIVITY
from segsmith.types import ClassMask

Ids = Int[np.ndarray, " ids"]


class ObjectsInStrips:
    """The objects of one mask whose strips are `add`ed from top to bottom; after them, `without_small` of each."""

    def __init__(self) -> None:
        self._parts = _PartsInStrips(CONNECTIVITY)

    def add(self, strip: ClassMask) -> None:
        """Note the objects of the next strip."""
        self._parts.add(*_labelled(strip))

    def without_small(self, number: int, strip: ClassMask, smallest_area: int) -> ClassMask:
        """Strip `number`, as it was added, without objects of fewer pixels in the whole mask."""
        if smallest_area <= 1 or not strip.any():
            return strip
        labels, sizes = _labelled(strip)
        kept = self._parts.in_all(number, sizes) >= smallest_area
        kept[0] = False
        return np.asarray(kept[labels])


class HolesInStrips:
    """The background of one mask of so many strips, `add`ed from top to bottom; after them, each strip `filled`.

    A hole is background that does not reach the border of the whole mask, from pixel to pixel along their sides, as
    scipy.ndimage.binary_fill_holes has it.
    """

    def __init__(self, strips: int) -> None:
        self._last = strips - 1
        self._parts = _PartsInStrips(connectivity=4)
        self._added = 0

    def add(self, strip: ClassMask) -> None:
        """Note the background of the next strip."""
        self._parts.add(*self._background(self._added, strip))
        self._added += 1

    def filled(self, number: int, strip: ClassMask) -> ClassMask:
        """Strip `number`, as it was added, with the holes of the whole mask filled."""
        labels, open_parts = self._background(number, strip)
        hole = self._parts.in_all(number, open_parts) == 0
        hole[0] = False
        return np.asarray(strip | hole[labels])

    def _background(self, number: int, strip: ClassMask) -> tuple[Int[np.ndarray, "h w"], Ids]:
        """Numbers of parts, and by number 1 for those that reach the border of the mask."""
        count, labels = cv2.connectedComponents(_bytes(~strip), connectivity=4)
        reaches = np.zeros(count, np.int64)
        reaches[labels[:, [0, -1]]] = 1
        if number == 0:
            reaches[labels[0]] = 1
        if number == self._last:
            reaches[labels[-1]] = 1
        return labels, reaches


class _PartsInStrips:
    """Connected parts of a mask, each with an amount that adds up over its strips."""

    def __init__(self, connectivity: int) -> None:
        self._corners = connectivity == 8
        self._edge: list[Ids] = []  # of each strip, the numbers in it of the parts on its edges, ascending
        self._first: list[int] = []  # and how many such parts lie in the strips before
        self._amounts: list[Ids] = []
        self._joined: list[Int[np.ndarray, "pairs 2"]] = []
        self._last_row: Ids | None = None
        self._whole: Ids | None = None

    def add(self, labels: Int[np.ndarray, "h w"], amounts: Ids) -> None:
        """Note the parts of the next strip, numbered from 1, and their amounts by number."""
        edge = np.unique(labels[[0, -1]])
        edge = edge[edge > 0]
        first = self._first[-1] + len(self._edge[-1]) if self._first else 0
        top, bottom = (np.where(row > 0, first + np.searchsorted(edge, row), -1) for row in labels[[0, -1]])
        if self._last_row is not None:
            self._joined.append(_touching(self._last_row, top, self._corners))
        self._edge.append(edge)
        self._first.append(first)
        self._amounts.append(amounts[edge])
        self._last_row = bottom

    def in_all(self, number: int, amounts: Ids) -> Ids:
        """The amounts of the parts of strip `number`, as they were added, in all strips together."""
        if self._whole is None:
            self._whole = self._whole_amounts()
        edge, first = self._edge[number], self._first[number]
        in_all = amounts.copy()
        in_all[edge] = self._whole[first : first + len(edge)]
        return in_all

    def _whole_amounts(self) -> Ids:
        """Of each part on an edge, the amount of the whole one it belongs to."""
        amounts = np.concatenate(self._amounts)
        joined = np.concatenate([*self._joined, np.empty((0, 2), np.int64)])
        graph = coo_array((np.ones(len(joined), bool), (joined[:, 0], joined[:, 1])), (len(amounts), len(amounts)))
        _, whole = connected_components(graph, directed=False)
        return np.asarray(np.bincount(whole, amounts).astype(np.int64)[whole])


def _labelled(strip: ClassMask) -> tuple[Int[np.ndarray, "h w"], Ids]:
    """The number of the object of each pixel, and the pixels of each."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(_bytes(strip), connectivity=CONNECTIVITY)
    return labels, stats[:, cv2.CC_STAT_AREA].astype(np.int64)


def _touching(above: Ids, below: Ids, corners: bool) -> Int[np.ndarray, "pairs 2"]:
    """Which parts of a row touch which of the next one, at corners too if asked for; -1 is none."""
    pairs = [(above, below)]
    if corners:
        pairs += [(above[:-1], below[1:]), (above[1:], below[:-1])]
    joined = np.concatenate([np.stack(pair, axis=1) for pair in pairs])
    return np.unique(joined[(joined >= 0).all(axis=1)], axis=0)


def _bytes(mask: ClassMask) -> np.ndarray:
    return np.ascontiguousarray(mask).view(np.uint8)

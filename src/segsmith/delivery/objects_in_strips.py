"""Masks strip by strip -> the same without small objects, as if each mask were whole.

An object that lies within a strip is as large as it is there. Those that touch the edge of a strip are joined with
their neighbours beyond it, so that two passes over the strips tell their sizes exactly; memory is that of one strip
and of a few numbers for each object on an edge.
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
        self._edge: list[Ids] = []  # of each strip, the numbers in it of the objects on its edges, ascending
        self._first: list[int] = []  # and how many such objects lie in the strips before
        self._pixels: list[Ids] = []
        self._joined: list[Int[np.ndarray, "pairs 2"]] = []
        self._last_row: Ids | None = None
        self._sizes: Ids | None = None

    def add(self, strip: ClassMask) -> None:
        """Note the objects of the next strip."""
        _, labels, sizes = _labelled(strip)
        edge = np.unique(labels[[0, -1]])
        edge = edge[edge > 0]
        first = self._first[-1] + len(self._edge[-1]) if self._first else 0
        top, bottom = (np.where(row > 0, first + np.searchsorted(edge, row), -1) for row in labels[[0, -1]])
        if self._last_row is not None:
            self._joined.append(_touching(self._last_row, top))
        self._edge.append(edge)
        self._first.append(first)
        self._pixels.append(sizes[edge])
        self._last_row = bottom

    def without_small(self, number: int, strip: ClassMask, smallest_area: int) -> ClassMask:
        """Strip `number`, as it was added, without objects of fewer pixels in the whole mask."""
        if smallest_area <= 1 or not strip.any():
            return strip
        if self._sizes is None:
            self._sizes = self._whole_sizes()
        _, labels, sizes = _labelled(strip)
        edge, first = self._edge[number], self._first[number]
        sizes[edge] = self._sizes[first : first + len(edge)]
        kept = sizes >= smallest_area
        kept[0] = False
        return np.asarray(kept[labels])

    def _whole_sizes(self) -> Ids:
        """Of each object on an edge, the pixels of the whole one it is a part of."""
        pixels = np.concatenate(self._pixels)
        joined = np.concatenate([*self._joined, np.empty((0, 2), np.int64)])
        graph = coo_array((np.ones(len(joined), bool), (joined[:, 0], joined[:, 1])), (len(pixels), len(pixels)))
        _, whole = connected_components(graph, directed=False)
        return np.asarray(np.bincount(whole, pixels).astype(np.int64)[whole])


def _labelled(strip: ClassMask) -> tuple[int, Int[np.ndarray, "h w"], Ids]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        np.ascontiguousarray(strip).view(np.uint8), connectivity=CONNECTIVITY
    )
    return count, labels, stats[:, cv2.CC_STAT_AREA].astype(np.int64)


def _touching(above: Ids, below: Ids) -> Int[np.ndarray, "pairs 2"]:
    """Which objects of a row touch which of the next one, at corners too; -1 is none."""
    pairs = [(above, below), (above[:-1], below[1:]), (above[1:], below[:-1])]
    joined = np.concatenate([np.stack(pair, axis=1) for pair in pairs])
    return np.unique(joined[(joined >= 0).all(axis=1)], axis=0)

"""A plane of levels -> its component tree: the objects at every threshold at once, without labelling any of them.

The objects (connected pixels of at least a level) of all levels form a tree, the max-tree of Salembier, Oliveras and
Garrido (1998): lower the level, and objects grow and merge. Built here from few parts, as Chiang, Lenz, Lu and Rote
(2005) do for contour trees: every pixel climbs to a summit, and only the highest pass between two summits can merge
their objects, taken from high to low (Kruskal's way: Najman, Cousty and Perret 2013). A plane has far fewer summits
than pixels, and all that is done for each pixel is done on arrays.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Int, UInt8

from segsmith.types import ClassMask, ClassProbabilities

LEVELS = 256
Connectivity = Literal[4, 8]


@dataclass(frozen=True)
class ComponentTree:
    """Objects of a plane at the levels 1..255; at level 0 all is one object, which is left out.

    An object that stays the same over several levels is one node. Nodes are numbered so that the descendants of one,
    which are the objects it is made of at higher levels, follow it at once.
    """

    pixels: Int[np.ndarray, " inside"]
    """Of pixels above 0, the place in the raveled plane."""
    node: Int[np.ndarray, " inside"]
    """Of each of them, the smallest object it belongs to."""
    level: Int[np.ndarray, " nodes"]
    """The highest level at which the object is what it is."""
    below: Int[np.ndarray, " nodes"]
    """The highest level at which it is more: it stands at the levels `below` < level <= `level`."""
    end: Int[np.ndarray, " nodes"]
    """The object and its descendants are the nodes from its own number up to this, exclusive."""

    @cached_property
    def sizes(self) -> Int[np.ndarray, " nodes"]:
        """Pixels of each object."""
        return self._with_descendants(np.bincount(self.node, minlength=len(self.level)))

    def hits(self, mask: ClassMask) -> Int[np.ndarray, " nodes"]:
        """Of each object, the pixels that lie in a mask of the plane's size."""
        return self._with_descendants(np.bincount(self.node[mask.ravel()[self.pixels]], minlength=len(self.level)))

    def by_level_and_area(
        self, areas: Int[np.ndarray, " areas"], *values: Int[np.ndarray, " nodes"]
    ) -> Int[np.ndarray, "values 256 areas"]:
        """Sums of each of `values` over the objects that stand at a level and are of at least an area (ascending);
        exact below 2 to the 53. At level 0 no object stands."""
        too_large = len(areas) - np.searchsorted(areas, self.sizes, side="right")
        last, width = LEVELS - 1, len(areas) + 1
        rows = np.concatenate([last - self.level, last - self.below])  # an object comes, and goes
        cells = rows * width + np.concatenate([too_large, too_large])
        sums = np.empty((len(values), LEVELS, len(areas)), np.int64)
        for of_value, value in zip(sums, values, strict=True):
            changes = np.bincount(cells, np.concatenate([value, -value]), LEVELS * width).astype(float, copy=False)
            summed = cv2.integral(changes.reshape(LEVELS, width))
            of_value[:] = summed[:0:-1, -2:0:-1]  # level 0 came last, and the largest area first
        return sums

    def _with_descendants(self, own: Int[np.ndarray, " nodes"]) -> Int[np.ndarray, " nodes"]:
        before = np.zeros(len(own) + 1, np.int64)
        own.cumsum(out=before[1:])
        return np.asarray(before[self.end] - before[:-1])


def component_tree(plane: ClassProbabilities, connectivity: Connectivity = 8) -> ComponentTree:
    """The tree of the objects of a plane, whose pixels touch at corners too (8) or only at sides (4)."""
    height, width = plane.shape
    # a column of zeros at the right: places of neighbours then differ by a constant, and no object crosses it
    padded = np.zeros((height, width + 1), np.uint8)
    padded[:, :width] = plane
    flat = padded.ravel()
    steps = [1, width + 1, width, width + 2] if connectivity == 8 else [1, width + 1]
    places = np.flatnonzero(flat > 0)
    values = flat.take(places).astype(np.int64)
    number = np.empty(len(flat), np.int64)
    number[places] = np.arange(len(places))
    towards = number.take(_uphill(flat, steps).take(places))
    while not np.array_equal(further := towards.take(towards), towards):  # twice as far uphill in every round
        towards = further
    is_summit = towards == np.arange(len(places))
    summit = (is_summit.cumsum() - 1).take(towards)
    top = values[is_summit]
    summit_at = np.full(len(flat), -1, np.int32)
    summit_at[places] = summit
    order, taker, died, end = _merges(flat, summit_at, len(top), width + 1, connectivity)
    top[order] = top.copy()

    # pixels of one level on the way to one summit stay together, and there are far fewer such sets than pixels; keys
    # count the levels of all summits, one summit after the other
    before = top.cumsum() - top - 1
    summit_of = np.repeat(np.arange(len(top)), top)
    sets, own = _ranked((before.take(order)).take(summit) + values, len(summit_of))
    taken = np.flatnonzero(died)  # an object that is taken in finds the one that does like a pixel of that level
    owner = np.concatenate([summit_of[sets], taken])  # the summit after which a set's smallest object is called
    level = np.concatenate([sets - before[owner[: len(sets)]], died[taken]])
    climbing = np.flatnonzero(level <= died[owner])
    while len(climbing):
        owner[climbing] = taker[owner[climbing]]
        climbing = climbing[level[climbing] <= died[owner[climbing]]]
    keys, node = _ranked(before[owner] + level, len(summit_of))
    owner = summit_of[keys]
    level = keys - before[owner]
    below = died[owner]
    later = np.flatnonzero(owner[1:] == owner[:-1]) + 1
    below[later] = level[later - 1]

    # the summits of an object follow its own; so do nodes, which are ordered by summit and level
    last = owner + 1
    last[node[len(sets) :]] = end[taken]  # of several taken in at once, that of the last
    falling = owner * (len(top) + 1)  # so that no maximum is that of another summit's nodes
    last = np.maximum.accumulate((last - falling)[::-1])[::-1] + falling
    first = np.searchsorted(owner, np.arange(len(top) + 1))
    pixels = np.flatnonzero(plane > 0)
    return ComponentTree(pixels, node.take(own), level, below, first[last])


def filled(plane: ClassProbabilities) -> ClassProbabilities:
    """The plane whose pixels of at least a level are, at every level, those of `plane` with their holes filled: what
    no path over sides leads out of. At each pixel it is the least, over all ways out, of the highest level on the way
    (Soille 2003, 6.3.7)."""
    inverse = np.uint8(LEVELS - 1) - plane
    tree = component_tree(inverse, connectivity=4)  # an object touches at corners too, so what is around it does not
    border = np.ones(plane.shape, bool)
    border[1:-1, 1:-1] = False
    inner = np.flatnonzero(tree.hits(border) == 0)
    beyond = np.maximum.accumulate(tree.end[inner])
    holes = inner[inner >= np.concatenate([[0], beyond[:-1]])]  # those in no other
    raised = np.zeros(len(tree.level) + 1, np.int64)
    for change, at in ((1 + tree.below[holes], holes), (-1 - tree.below[holes], tree.end[holes])):
        np.add.at(raised, at, change)
    lowest = raised.cumsum()[tree.node]  # 1 + the level of the inverse that a hole is filled to, 0 outside holes
    result = inverse.ravel()
    result[tree.pixels[lowest > 0]] = lowest[lowest > 0] - 1
    return np.asarray(np.uint8(LEVELS - 1) - result.reshape(plane.shape))


def _uphill(flat: UInt8[np.ndarray, " places"], steps: list[int]) -> Int[np.ndarray, " places"]:
    """Of each place the highest among itself and its neighbours; of equal ones the last."""
    bits = len(flat).bit_length()
    kind = np.int32 if bits < 24 else np.int64
    key = np.left_shift(flat.astype(kind), bits, dtype=kind) + np.arange(len(flat), dtype=kind)
    best = key.copy()
    for step in steps:
        np.maximum(best[step:], key[:-step], out=best[step:])
        np.maximum(best[:-step], key[step:], out=best[:-step])
    return np.asarray(best & ((1 << bits) - 1))


def _merges(
    flat: UInt8[np.ndarray, " places"],
    summit: Int[np.ndarray, " places"],
    count: int,
    down: int,
    connectivity: Connectivity,
) -> tuple[Int[np.ndarray, " summits"], ...]:
    """How the objects of summits merge, from high levels to low; the one of fewer summits is taken in by the other.

    Summits are numbered anew, so that those of an object follow the one it is called after, in the order in which they
    came. Returned are the new number of each; and by these numbers, the summit whose object took its own in, the
    highest level at which that has happened (itself and 0 where none did), and the end of its own object's summits.
    """
    here, there, level = _passes(flat, summit, down, connectivity)
    one, other = summit[here], summit[there]
    kind = np.int32 if count * count * LEVELS < 2**31 else np.int64  # the smaller sorts faster
    pair = np.minimum(one, other).astype(kind) * kind(count) + np.maximum(one, other).astype(kind)
    key = pair * kind(LEVELS) + (LEVELS - 1 - level)
    key.sort()
    pair = key >> 8
    highest = np.flatnonzero(pair[1:] != pair[:-1]) + 1 if len(pair) else pair
    highest = np.concatenate([[0], highest])[: len(pair)]
    depth = key[highest] & (LEVELS - 1)
    order = np.argsort(depth.astype(np.uint8), kind="stable")
    lower, upper = np.divmod(pair[highest[order]], max(1, count))
    levels = LEVELS - 1 - depth[order]

    inside = [[summit] for summit in range(count)]  # of each object, by the summit it is called after
    called = list(range(count))  # the object that each summit is in
    taker, died, left = list(range(count)), [0] * count, count - 1
    for one, other, at in zip(lower.tolist(), upper.tolist(), levels.tolist(), strict=True):
        a, b = called[one], called[other]
        if a == b:
            continue
        if len(inside[a]) < len(inside[b]):
            a, b = b, a
        for summit in inside[b]:
            called[summit] = a
        inside[a] += inside[b]
        taker[b] = a
        died[b] = at
        left -= 1
        if not left:
            break
    roots = (of_object for of_object, level in zip(inside, died, strict=True) if not level)
    by_place = np.fromiter(chain.from_iterable(roots), np.int64, count)
    order = np.empty(count, np.int64)
    order[by_place] = np.arange(count)
    end = np.arange(count) + np.fromiter(map(len, inside), np.int64, count)[by_place]
    by_summit = np.array([taker, died], np.int64)
    return order, order[by_summit[0, by_place]], by_summit[1, by_place], end


def _passes(
    flat: UInt8[np.ndarray, " places"], summit: Int[np.ndarray, " places"], down: int, connectivity: Connectivity
) -> tuple[Int[np.ndarray, " passes"], Int[np.ndarray, " passes"], UInt8[np.ndarray, " passes"]]:
    """Neighbours on the way to different summits, and the level at which they touch. A way over a corner is left out
    where one over two sides, along a pixel beside it, is as high."""
    ways: list[tuple[int, ...]] = [(0, 1), (0, down)]
    if connectivity == 8:
        ways += [(0, down + 1, 1, down), (1, down, 0, down + 1)]
    found = []
    for here, there, *beside in ways:
        count = max(0, len(flat) - max(here, there, *beside))
        level = np.minimum(flat[here : here + count], flat[there : there + count])
        around = [flat[at : at + count] for at in beside]
        lowest = np.maximum(*around) if around else np.uint8(0)
        differ = summit[here : here + count] != summit[there : there + count]
        crossing = np.flatnonzero(differ & (level > lowest))
        found.append((crossing + here, crossing + there, level[crossing]))
    first, second, levels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return first, second, levels


def _ranked(
    keys: Int[np.ndarray, " some"], bound: int
) -> tuple[Int[np.ndarray, " distinct"], Int[np.ndarray, " some"]]:
    """The distinct keys (below `bound`), ascending, and of each key its number among them."""
    if bound > 64 * len(keys):
        distinct, number = np.unique(keys, return_inverse=True)
        return distinct, number
    present = np.zeros(bound, bool)
    present[keys] = True
    distinct = np.flatnonzero(present)
    number = np.empty(bound, np.int64)
    number[distinct] = np.arange(len(distinct))
    return distinct, number.take(keys)

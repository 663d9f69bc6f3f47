"""A plane of levels -> its component tree: the objects at every threshold at once, without labelling any of them.

The objects (connected pixels of at least a level) of all levels form a tree, the max-tree of Salembier, Oliveras and
Garrido (1998): lower the level, and objects grow and merge. Built here from few parts, as Chiang, Lenz, Lu and Rote
(2005) do for contour trees: every pixel climbs to a summit, and only the highest pass between two summits can merge
their objects, taken from high to low (Kruskal's way: Najman, Cousty and Perret 2013). A plane has far fewer summits
than pixels, and all that is done for each pixel is done on arrays.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

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
        """Sums of each of `values` over the objects that stand at a level and are of at least an area (ascending)."""
        columns = np.searchsorted(areas, self.sizes, side="right")  # how many areas an object is large enough for
        by_column = self.by_level(columns, len(areas) + 1, *values)
        return np.asarray(by_column[:, :, :0:-1].cumsum(axis=2)[:, :, ::-1])

    def by_level(
        self, columns: Int[np.ndarray, " nodes"], count: int, *values: Int[np.ndarray, " nodes"]
    ) -> Int[np.ndarray, "values 256 count"]:
        """Sums of each of `values` over the objects that stand at a level, by level and the column (0..count-1) each
        object is put into; exact below 2 to the 53. At level 0 no object stands."""
        width = len(values) * count
        top, bottom = self.level * width + columns, self.below * width + columns
        cells = np.concatenate([at + number * count for number in range(len(values)) for at in (top, bottom)])
        changes = np.bincount(cells, np.concatenate([v for value in values for v in (value, -value)]), LEVELS * width)
        table = changes.reshape(LEVELS, width)[::-1].cumsum(axis=0)[::-1]
        table[0] = 0
        return np.asarray(table.reshape(LEVELS, len(values), count).transpose(1, 0, 2).astype(np.int64))

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
    places = np.flatnonzero(flat)
    values = flat[places].astype(np.int64)
    number = np.empty(len(flat), np.int64)
    number[places] = np.arange(len(places))
    towards = number[_uphill(flat, steps)[places]]
    while not np.array_equal(further := towards[towards], towards):  # twice as far uphill in every round
        towards = further
    is_summit = towards == np.arange(len(places))
    summits = int(np.count_nonzero(is_summit))
    summit = (is_summit.cumsum() - 1)[towards]
    number.fill(-1)
    number[places] = summit
    joined, died = _merges(flat, number, summits, width + 1, connectivity)

    # pixels of one level on the way to one summit stay together, and there are far fewer such sets than pixels
    sets, own = _ranked(summit * LEVELS + values, summits * LEVELS)
    owner, level = sets >> 8, sets & (LEVELS - 1)  # the summit after which a set's smallest object is called
    climbing = np.flatnonzero(level <= died[owner])
    while len(climbing):
        owner[climbing] = joined[owner[climbing]]
        climbing = climbing[level[climbing] <= died[owner[climbing]]]
    keys, of_set = _ranked(owner * LEVELS + level, summits * LEVELS)
    position, end = _depth_first(keys, joined, died)
    of_owner, level = keys >> 8, keys & (LEVELS - 1)
    below = died[of_owner]
    later = np.flatnonzero(of_owner[1:] == of_owner[:-1]) + 1
    below[later] = level[later - 1]
    tree = np.empty((3, len(keys)), np.int64)
    tree[:, position] = level, below, end
    return ComponentTree(places - places // (width + 1), position[of_set][own], *tree)


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
) -> tuple[Int[np.ndarray, " summits"], Int[np.ndarray, " summits"]]:
    """Of each summit, the one whose object takes its own in, and the highest level at which that has happened; itself
    and 0 where none does. Chains are of logarithmic length, since the object of more summits takes in the other."""
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

    joined, died, left = list(range(count)), [0] * count, count - 1
    towards, summits = list(range(count)), [1] * count
    for a, b, at in zip(lower.tolist(), upper.tolist(), levels.tolist(), strict=True):
        while towards[a] != a:
            towards[a] = a = towards[towards[a]]
        while towards[b] != b:
            towards[b] = b = towards[towards[b]]
        if a == b:
            continue
        if summits[a] < summits[b]:
            a, b = b, a
        summits[a] += summits[b]
        towards[b] = joined[b] = a
        died[b] = at
        left -= 1
        if not left:
            break
    return np.array(joined, np.int64), np.array(died, np.int64)


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
    keys: Int[np.ndarray, " inside"], bound: int
) -> tuple[Int[np.ndarray, " nodes"], Int[np.ndarray, " inside"]]:
    """The distinct keys (below `bound`), ascending, and of each key its number among them."""
    if bound > 16 * len(keys) + LEVELS * LEVELS:
        distinct, number = np.unique(keys, return_inverse=True)
        return distinct, number
    present = np.zeros(bound, bool)
    present[keys] = True
    distinct = np.flatnonzero(present)
    number = np.empty(bound, np.int64)
    number[distinct] = np.arange(len(distinct))
    return distinct, number[keys]


def _depth_first(
    keys: Int[np.ndarray, " nodes"], joined: Int[np.ndarray, " summits"], died: Int[np.ndarray, " summits"]
) -> tuple[Int[np.ndarray, " nodes"], Int[np.ndarray, " nodes"]]:
    """Of each node (summit times 256 + level), its number when descendants follow at once, and the end of these.

    The nodes of a summit stand in a row from low to high; what its object takes in at a level stands behind the node
    of that level.
    """
    count = len(joined)
    of_owner = keys // LEVELS
    firsts = np.searchsorted(of_owner, np.arange(count + 1))
    depth = np.zeros(count, np.int64)
    at = joined
    climbing = at != np.arange(count)
    while climbing.any():
        depth += climbing
        climbing = climbing & (at != joined[at])
        at = joined[at]
    total = np.diff(firsts)
    rounds = [np.flatnonzero(depth == number) for number in range(1, int(depth.max(initial=0)) + 1)]
    for summits in reversed(rounds):
        total = total + np.bincount(joined[summits], total[summits], minlength=count).astype(np.int64)

    taken = np.flatnonzero(depth)
    taken_keys = joined[taken] * LEVELS + died[taken]
    order = np.argsort(taken_keys, kind="stable")
    taken, taken_keys = taken[order], taken_keys[order]
    before = np.concatenate([[0], total[taken].cumsum()])
    first_taken = np.searchsorted(taken_keys, np.arange(count) * LEVELS)
    start = np.zeros(count, np.int64)
    roots = np.flatnonzero(depth == 0)
    start[roots] = np.concatenate([[0], total[roots].cumsum()[:-1]])
    offset = np.zeros(count, np.int64)
    into = joined[taken]
    own_before = np.searchsorted(keys, taken_keys, side="right") - firsts[into]
    offset[taken] = own_before + before[: len(taken)] - before[first_taken[into]]
    for summits in rounds:
        start[summits] = start[joined[summits]] + offset[summits]
    taken_before = before[np.searchsorted(taken_keys, keys)] - before[first_taken[of_owner]]
    position = start[of_owner] + np.arange(len(keys)) - firsts[of_owner] + taken_before
    return position, (start + total)[of_owner]

"""A plane of levels -> its component tree: the objects at every threshold at once, without labelling any of them.

The objects (connected pixels of at least a level) of all levels form a tree, the max-tree of Salembier, Oliveras and
Garrido (1998): lower the level, and objects grow and merge. Built here from few parts, as Chiang, Lenz, Lu and Rote
(2005) do for contour trees: every pixel climbs to a summit, and only the highest passes between summits decide which
objects merge where (a minimum spanning tree: Najman, Cousty and Perret 2013). A plane has far fewer summits than
pixels, and all that is done for each pixel is done on arrays.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int, Shaped, UInt8
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree

from segsmith.types import ClassProbabilities

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
    level: UInt8[np.ndarray, " nodes"]
    """The highest level at which the object is what it is."""
    below: UInt8[np.ndarray, " nodes"]
    """The highest level at which it is more: it stands at the levels `below` < level <= `level`."""
    end: Int[np.ndarray, " nodes"]
    """The object and its descendants are the nodes from its own number up to this, exclusive."""
    parent: Int[np.ndarray, " nodes"]
    """The object it becomes a part of at the level `below`; itself where that is 0."""

    def sums(self, weights: Shaped[np.ndarray, "height width"]) -> Int[np.ndarray, " nodes"]:
        """Of each object the sum of `weights`, whole numbers or bool, over its pixels, exactly below 2 to the 53."""
        own = np.bincount(self.node, weights.ravel()[self.pixels], minlength=len(self.level))
        before = np.concatenate([[0], own.cumsum().astype(np.int64)])
        return np.asarray(before[self.end] - before[:-1])

    @property
    def sizes(self) -> Int[np.ndarray, " nodes"]:
        """Pixels of each object."""
        before = np.concatenate([[0], np.bincount(self.node, minlength=len(self.level)).cumsum()])
        return np.asarray(before[self.end] - before[:-1])

    def by_level(
        self, columns: Int[np.ndarray, " nodes"], count: int, *values: Int[np.ndarray, " nodes"]
    ) -> list[Int[np.ndarray, "256 count"]]:
        """Sums of each of `values` over the objects that stand at a level, by level and the column each object is put
        into (0..count-1). Row 0 is the sum at level 1."""
        top = self.level.astype(np.int64) * count + columns
        bottom = self.below.astype(np.int64) * count + columns
        cells = np.concatenate([top, bottom])
        tables = []
        for value in values:
            changes = np.bincount(cells, np.concatenate([value, -value]), minlength=LEVELS * count)
            tables.append(changes.reshape(LEVELS, count)[::-1].cumsum(0)[::-1].astype(np.int64))
            tables[-1][0] = tables[-1][1]
        return tables


def component_tree(plane: ClassProbabilities, connectivity: Connectivity = 8) -> ComponentTree:
    """The tree of the objects of a plane, whose pixels touch at corners too (8) or only at sides (4)."""
    uphill = _uphill(plane, connectivity)
    values = plane.ravel()
    pixels = np.flatnonzero(values)
    place = np.full(values.size, -1, np.int32)
    place[pixels] = np.arange(len(pixels), dtype=np.int32)
    values = values[pixels]
    towards = place[uphill.ravel()[pixels]]
    while True:  # half the way to the summit in every round
        further = towards[towards]
        if np.array_equal(further, towards):
            break
        towards = further
    is_summit = towards == np.arange(len(pixels))
    summit = (is_summit.cumsum(dtype=np.int32) - 1)[towards]
    count = int(is_summit.sum())
    place[pixels] = summit
    joined, died = _merges(place.reshape(plane.shape), plane, count, connectivity)

    owner = summit  # of a pixel: the summit after which the smallest object that holds it is called
    while (gone := values <= died[owner]).any():
        owner = np.where(gone, joined[owner], owner)
    keys, own = _ranked(owner.astype(np.int64) * LEVELS + values, count * LEVELS)
    position, total_end = _depth_first(keys, joined, died)
    of_owner, level = keys // LEVELS, (keys % LEVELS).astype(np.uint8)
    first = np.diff(of_owner, prepend=-1) != 0
    below = np.where(first, died[of_owner], np.concatenate([[0], level[:-1]])).astype(np.uint8)
    upper = joined[of_owner]  # where an object is the last of its summit, what takes it in
    while (gone := (below <= died[upper]) & (joined[upper] != upper)).any():
        upper = np.where(gone, joined[upper], upper)
    within = np.searchsorted(keys, upper * LEVELS + below)
    number = np.arange(len(keys))
    parent = np.where(~first, number - 1, np.where(below == 0, number, np.minimum(within, len(keys) - 1)))

    order = np.empty(len(keys), np.int64)
    order[position] = number
    return ComponentTree(
        pixels, position[own], level[order], below[order], total_end[order], position[parent[order]]
    )


def _uphill(plane: ClassProbabilities, connectivity: Connectivity) -> Int[np.ndarray, "height width"]:
    """Of each pixel the highest among itself and its neighbours; of equal ones the last."""
    bits = int(plane.size).bit_length()
    key = (plane.astype(np.int64) << bits) + np.arange(plane.size).reshape(plane.shape)
    best = key.copy()
    np.maximum(best[:, 1:], key[:, :-1], out=best[:, 1:])
    np.maximum(best[:, :-1], key[:, 1:], out=best[:, :-1])
    across = best.copy() if connectivity == 8 else key
    np.maximum(best[1:], across[:-1], out=best[1:])
    np.maximum(best[:-1], across[1:], out=best[:-1])
    return np.asarray(best & ((1 << bits) - 1))


def _merges(
    summit: Int[np.ndarray, "height width"], plane: ClassProbabilities, count: int, connectivity: Connectivity
) -> tuple[Int[np.ndarray, " summits"], Int[np.ndarray, " summits"]]:
    """Of each summit, the one whose object takes its own in, and the highest level at which that has happened; itself
    and 0 where none does. Chains are of logarithmic length, since the object of more summits takes in the other."""
    keys = []
    for here, there in _neighbours(connectivity):
        of_here, of_there = summit[here], summit[there]
        pass_level = np.minimum(plane[here], plane[there])
        crossing = np.nonzero((of_here != of_there) & (pass_level > 0))
        one, other = of_here[crossing].astype(np.int64), of_there[crossing]
        pair = np.minimum(one, other) * count + np.maximum(one, other)
        keys.append(pair * LEVELS + (LEVELS - 1 - pass_level[crossing]))
    key = np.sort(np.concatenate(keys))
    pair = key // LEVELS
    highest = np.diff(pair, prepend=-1) != 0
    pair, cost = pair[highest], (key[highest] % LEVELS + 1).astype(np.float64)  # a cost of 0 would be no edge
    starts = np.searchsorted(pair, np.arange(count + 1) * count)
    passes = minimum_spanning_tree(csr_array((cost, pair % max(1, count), starts), shape=(count, count))).tocoo()
    order = np.argsort(passes.data, kind="stable")
    ones, others = passes.row[order].tolist(), passes.col[order].tolist()
    levels = (LEVELS - passes.data[order]).astype(np.int64).tolist()

    joined, died = list(range(count)), [0] * count
    towards, summits = list(range(count)), [1] * count
    for one, other, level in zip(ones, others, levels, strict=True):
        while towards[one] != one:
            towards[one] = one = towards[towards[one]]
        while towards[other] != other:
            towards[other] = other = towards[towards[other]]
        if summits[one] < summits[other]:
            one, other = other, one
        summits[one] += summits[other]
        towards[other] = joined[other] = one
        died[other] = level
    return np.array(joined, np.int64), np.array(died, np.int64)


def _neighbours(connectivity: Connectivity) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Views of a plane that lie on one another as neighbours do, every pair once."""
    everything, all_but_first, all_but_last = slice(None), slice(1, None), slice(None, -1)
    sides = [
        ((everything, all_but_last), (everything, all_but_first)),
        ((all_but_last, everything), (all_but_first, everything)),
    ]
    corners = [
        ((all_but_last, all_but_last), (all_but_first, all_but_first)),
        ((all_but_last, all_but_first), (all_but_first, all_but_last)),
    ]
    return sides + corners if connectivity == 8 else sides


def _ranked(
    keys: Int[np.ndarray, " inside"], bound: int
) -> tuple[Int[np.ndarray, " nodes"], Int[np.ndarray, " inside"]]:
    """The distinct keys (below `bound`), ascending, and of each key its number among them."""
    if bound > 16 * len(keys) + LEVELS * LEVELS:
        distinct, number = np.unique(keys, return_inverse=True)
        return distinct, number
    present = np.zeros(bound, bool)
    present[keys] = True
    return np.flatnonzero(present), (present.cumsum(dtype=np.int32) - 1)[keys].astype(np.int64)


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

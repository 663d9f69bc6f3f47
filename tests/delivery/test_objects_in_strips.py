"""Small objects go from strips as they would from the whole mask."""

from itertools import pairwise

import by_hand
import numpy as np
import pytest

from segsmith.delivery.objects_in_strips import ObjectsInStrips


def cut(mask: np.ndarray, edges: list[int]) -> list[np.ndarray]:
    return [mask[top:bottom] for top, bottom in pairwise(edges)]


def in_strips(mask: np.ndarray, edges: list[int], smallest_area: int) -> np.ndarray:
    objects = ObjectsInStrips()
    for strip in cut(mask, edges):
        objects.add(strip)
    kept = [objects.without_small(number, strip, smallest_area) for number, strip in enumerate(cut(mask, edges))]
    return np.concatenate(kept)


def whole(mask: np.ndarray, smallest_area: int) -> np.ndarray:
    return by_hand.decided(mask.astype(np.uint8), 1, smallest_area)


@pytest.mark.parametrize("seed", range(30))
def test_strips_are_the_whole_cut(seed):
    rng = np.random.default_rng(seed)
    hw = rng.integers(1, 40, 2)
    mask = rng.random(hw) < rng.choice([0.1, 0.3, 0.4, 0.6])
    inner = np.sort(rng.choice(np.arange(1, hw[0]), rng.integers(0, hw[0]), replace=False)) if hw[0] > 1 else []
    edges = [0, *map(int, inner), int(hw[0])]
    for smallest_area in (0, 1, 2, 5, 20, 200):
        assert (in_strips(mask, edges, smallest_area) == whole(mask, smallest_area)).all()


def test_a_spiral_through_every_strip_is_one_object():
    mask = np.zeros((21, 21), bool)
    mask[0, :], mask[:, 20], mask[20, :], mask[2:, 0], mask[2, :19], mask[2:19, 18], mask[18, 2:19] = (True,) * 7
    size = int(mask.sum())
    assert len(by_hand.objects(mask)) == 1
    for edges in ([0, 21], list(range(22)), [0, 1, 10, 21]):
        assert (in_strips(mask, edges, size) == mask).all()
        assert not in_strips(mask, edges, size + 1).any()


def test_objects_that_touch_at_a_corner_across_the_cut_are_one():
    mask = np.eye(6, dtype=bool)[:, ::-1]
    assert in_strips(mask, [0, 3, 6], 6).sum() == 6
    assert in_strips(np.eye(6, dtype=bool), [0, 3, 6], 6).sum() == 6

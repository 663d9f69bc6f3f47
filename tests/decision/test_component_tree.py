"""The tree against what each level alone shows: OpenCV's labels, SciPy's filled holes."""

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import binary_fill_holes

from segsmith.decision.component_tree import component_tree, filled

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=12)
FEW = st.sampled_from([0, 1, 2, 100, 101, 254, 255])  # so that objects grow, merge and repeat between levels
PLANES = SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=FEW) | arrays(np.uint8, shape))


def at_level(tree, level: int) -> np.ndarray:
    return np.flatnonzero((tree.below < level) & (level <= tree.level))


@settings(max_examples=150)
@given(PLANES, st.integers(0, 2**32 - 1), st.sampled_from([4, 8]))
@example(np.zeros((1, 1), np.uint8), 0, 8)
@example(np.full((4, 3), 255, np.uint8), 0, 4)
def test_at_every_level_the_objects_are_those_that_a_label_of_it_finds(plane, seed, connectivity):
    truth = np.random.default_rng(seed).random(plane.shape) < 0.5
    tree = component_tree(plane, connectivity)
    sizes, hits = tree.sizes, tree.hits(truth)
    for level in {1, 255, *np.unique(plane).tolist(), *(np.unique(plane[plane < 255]) + 1).tolist()} - {0}:
        count, labels = cv2.connectedComponents((plane >= level).astype(np.uint8), connectivity=connectivity)
        expected = sorted((int((labels == n).sum()), int(truth[labels == n].sum())) for n in range(1, count))
        nodes = at_level(tree, level)
        assert sorted(zip(sizes[nodes].tolist(), hits[nodes].tolist(), strict=True)) == expected


@settings(max_examples=60)
@given(PLANES)
def test_the_pixels_of_an_object_are_those_of_the_nodes_up_to_its_end(plane):
    tree = component_tree(plane)
    for node in range(len(tree.level)):
        inside = np.zeros(plane.size, bool)
        inside[tree.pixels[(tree.node >= node) & (tree.node < tree.end[node])]] = True
        _, labels = cv2.connectedComponents((plane >= tree.level[node]).astype(np.uint8), connectivity=8)
        label = labels.ravel()[inside][0]
        assert (inside == (labels.ravel() == label)).all()


@settings(max_examples=60)
@given(PLANES, st.integers(0, 2**32 - 1))
def test_sums_by_level_and_area(plane, seed):
    tree = component_tree(plane)
    areas, values = np.array([0, 1, 3, 20]), np.random.default_rng(seed).integers(-9, 9, len(tree.level))
    _, table = tree.by_level_and_area(areas, values * 2, values)
    assert not table[0].any()
    for level in (1, 2, 100, 101, 102, 255):
        nodes = at_level(tree, level)
        assert table[level].tolist() == [values[nodes][tree.sizes[nodes] >= area].sum() for area in areas]


@settings(max_examples=150)
@given(PLANES)
def test_holes_are_filled_at_every_level_at_once(plane):
    found = filled(plane)
    for level in {1, 255, *np.unique(plane).tolist()} - {0}:
        assert ((found >= level) == binary_fill_holes(plane >= level)).all()


def test_of_an_empty_plane_there_is_no_object():
    tree = component_tree(np.zeros((3, 4), np.uint8))
    assert len(tree.level) == len(tree.sizes) == len(tree.pixels) == 0
    assert not tree.by_level_and_area(np.array([0, 5]), np.zeros(0, np.int64)).any()


@pytest.mark.parametrize("blur", [0, 2, 9])
def test_a_plane_as_large_as_a_ship_image(blur):
    """Many summits, few, and the way of ranking that goes with each."""
    noise = np.random.default_rng(blur).normal(size=(300, 500)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise
    plane = np.clip(128 + 60 * noise / noise.std(), 0, 255).astype(np.uint8)
    tree = component_tree(plane)
    sizes = tree.sizes
    for level in (1, 90, 128, 200, 255):
        stats = cv2.connectedComponentsWithStats((plane >= level).astype(np.uint8), connectivity=8)[2]
        assert sorted(sizes[at_level(tree, level)].tolist()) == sorted(stats[1:, cv2.CC_STAT_AREA].tolist())

"""Hue and saturation as one matrix."""

import colorsys

import numpy as np
import pytest

from segsmith.samples.colour import coloured, hue_matrix, level_table

LUMA = np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize(("turns", "saturation"), [(0.5, 1.0), (0.13, 0.4), (-0.3, 1.8), (0.0, 0.0)])
def test_greys_and_lumas_stay(turns, saturation):
    matrix = hue_matrix(turns, saturation)
    assert np.allclose(matrix @ [1, 1, 1], 1)
    assert np.allclose(LUMA @ matrix, LUMA, atol=1e-3)
    greys = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, axis=2)
    assert np.abs(coloured(greys, None, matrix).astype(int) - greys).max() <= 1


def test_no_turn_is_the_identity_and_none_left_is_grey():
    assert np.allclose(hue_matrix(0.0, 1.0), np.eye(3))
    assert np.allclose(hue_matrix(0.2, 0.0), np.tile(LUMA, (3, 1)), atol=1e-3)
    assert np.allclose(hue_matrix(0.25, 1.0) @ hue_matrix(0.25, 1.0), hue_matrix(0.5, 1.0))


def test_hue_turns_as_far_as_it_says():
    colour = np.array([0.55, 0.45, 0.5])
    hue, *_ = colorsys.rgb_to_hsv(*colour)
    turned = [(colorsys.rgb_to_hsv(*(hue_matrix(turns, 1.0) @ colour))[0] - hue) % 1 for turns in (0.1, 0.3, 0.5)]
    assert sorted(turned) == turned or sorted(turned, reverse=True) == turned
    assert turned[2] == pytest.approx(0.5, abs=0.06)


def test_the_table_comes_after_the_matrix():
    image = np.random.default_rng(0).integers(60, 190, (5, 6, 3), np.uint8)
    table, matrix = level_table(1.2, 1.1, 0.05), hue_matrix(0.1, 1.2)
    assert (coloured(image, table, matrix) == table[coloured(image, None, matrix)]).all()

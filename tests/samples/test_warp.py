"""One map from many moves: the same as each by itself, as strong as its definition, alike for image, mask, validity."""

import cv2
import numpy as np
import pytest

from segsmith.samples.warp import Elastic, Warp, elastic_field

HW = (96, 128)
SHIFT = np.array([[1, 0, 7], [0, 1, -3], [0, 0, 1.0]])


def positions(warp: Warp, hw: tuple[int, int] = HW) -> tuple[np.ndarray, np.ndarray]:
    """Row and column in the input that each output pixel shows, to a few hundredths of a pixel, away from the edge."""
    rows, columns = np.indices(hw)
    ramps = np.stack([rows, columns], axis=2).astype(np.uint8)
    moved, _, _ = warp.apply(ramps, np.zeros((1, *hw), bool), None, "reflect")
    return moved[:, :, 0].astype(float), moved[:, :, 1].astype(float)


def smooth_image(hw: tuple[int, int] = HW, bands: int = 1) -> np.ndarray:
    rows, columns = np.indices(hw)
    waves = [np.sin(rows / (6 + band)) + np.sin(columns / (8 + band)) for band in range(bands)]
    return np.rint(127.5 + 63 * np.stack(waves, axis=2)).astype(np.uint8)


@pytest.mark.parametrize(("alpha", "sigma"), [(120.0, 6.0), (40.0, 4.0), (300.0, 12.0), (900.0, 40.0), (2.0, 1.0)])
def test_an_elastic_field_is_as_strong_and_as_smooth_as_its_definition_at_full_resolution(alpha, sigma):
    side, apart = 384, int(min(8, max(1, sigma / 2)))
    rng = np.random.default_rng(0)
    defined, drawn = [], []
    for seed in range(12):
        noise = rng.uniform(-1, 1, (side, side)).astype(np.float32)
        defined.append(alpha * cv2.GaussianBlur(noise, (0, 0), sigma)[48:-48, 48:-48])
        nodes = elastic_field((side // apart, side // apart), apart, Elastic(alpha, sigma, seed))
        full = cv2.resize(nodes, None, fx=apart, fy=apart, interpolation=cv2.INTER_LINEAR)
        drawn.append(full[48:-48, 48:-48, seed % 2])
    few = 0.02 + sigma / 200  # a smooth field has few independent places to measure it at
    stated = alpha / (2 * sigma * np.sqrt(3 * np.pi))
    assert np.std(drawn) == pytest.approx(np.std(defined), rel=2.5 * few)
    if sigma >= 4:
        assert np.std(drawn) == pytest.approx(stated, rel=2 * few)
        slopes = [np.std(np.diff(np.stack(fields), axis=2)) for fields in (drawn, defined)]
        assert slopes[0] == pytest.approx(slopes[1], rel=0.08 + few)


def test_an_elastic_warp_moves_pixels_by_that_much_and_each_seed_otherwise():
    moves = []
    for seed in range(6):
        rows, columns = positions(Warp(np.eye(3), Elastic(120.0, 6.0, seed)))
        moves.append(((rows - np.indices(HW)[0])[16:-16, 16:-16], (columns - np.indices(HW)[1])[16:-16, 16:-16]))
    assert np.std(moves) == pytest.approx(3.26, rel=0.15)
    assert np.abs(moves[0][0] - moves[1][0]).mean() > 1
    assert np.abs(np.corrcoef(moves[0][0].ravel(), moves[0][1].ravel())[0, 1]) < 0.5, "both directions are one field"


def test_a_grid_makes_its_cells_equal_and_moves_nothing_at_the_edges():
    warp = Warp(np.eye(3), cells=np.array([[1, 1, 2.0], [1, 3, 4.0]]))
    rows, columns = positions(warp)
    assert (rows == rows[:, :1]).all()
    assert (columns == columns[:1]).all()
    assert np.diff(rows[4:28, 0]).mean() == pytest.approx(0.75, abs=0.05)  # 24 of 96 rows are shown on 32
    assert np.diff(rows[36:60, 0]).mean() == pytest.approx(0.75, abs=0.05)
    assert np.diff(rows[70:92, 0]).mean() == pytest.approx(1.5, abs=0.05)
    assert np.diff(columns[0, 4:40]).mean() == pytest.approx(3 / 8, abs=0.03)
    assert rows[0, 0] <= 1
    assert rows[-1, 0] >= HW[0] - 2


@pytest.mark.parametrize("strength", [0.5, -0.3])
def test_a_lens_is_opencvs_with_two_equal_coefficients(strength):
    height, width = HW
    camera = np.array([[width, 0, (width - 1) / 2], [0, height, (height - 1) / 2], [0, 0, 1.0]])
    lens = np.array([strength, strength, 0, 0, 0])
    right, down = cv2.initUndistortRectifyMap(camera, lens, None, camera, (width, height), cv2.CV_32FC1)
    inside = (right > 0) & (right < width - 1) & (down > 0) & (down < height - 1)
    rows, columns = positions(Warp(np.eye(3), lens=strength))
    assert np.abs(rows - down)[inside].max() < 0.8  # levels are whole, and the map bends between nodes
    assert np.abs(columns - right)[inside].max() < 0.8


def test_moves_compose_into_one_reading_of_the_image():
    inner = slice(24, -24), slice(24, -24)
    elastic, cells, here = Elastic(80.0, 8.0, 3), np.array([[1, 1.2, 0.8], [0.9, 1.1, 1.0]]), np.indices(HW)
    everything = positions(Warp(SHIFT, elastic, cells, 0.2))
    bent, shaken = positions(Warp(np.eye(3), cells=cells, lens=0.2)), positions(Warp(np.eye(3), elastic))
    for axis, back in ((0, 3), (1, -7)):
        expected = bent[axis] + shaken[axis] - here[axis] + back
        assert np.abs(everything[axis] - expected)[inner].max() <= 2  # three roundings, and one of the sum
        assert np.abs(everything[axis] - expected)[inner].mean() < 0.7
        assert np.abs(everything[axis] - here[axis])[inner].mean() > 2, "nothing moved"

    image, nothing = smooth_image(bands=2), np.zeros((1, *HW), bool)
    at_once, _, _ = Warp(np.eye(3), cells=cells, lens=0.2).apply(image, nothing, None, "reflect")
    through_lens, _, _ = Warp(np.eye(3), lens=0.2).apply(image, nothing, None, "reflect")
    step_by_step, _, _ = Warp(np.eye(3), cells=cells).apply(through_lens, nothing, None, "reflect")
    assert np.abs(at_once.astype(int) - step_by_step)[inner].mean() < 1.5
    assert np.abs(at_once.astype(int) - image)[inner].mean() > 15, "nothing moved"


def test_a_distortion_next_to_none_is_the_matrix_alone():
    image, mask = smooth_image(bands=3), smooth_image()[None, :, :, 0] > 127
    turn = cv2.getRotationMatrix2D((60, 50), 25, 1.1)
    matrix = np.vstack([turn, [0, 0, 1]])
    plain, plain_mask, _ = Warp(matrix).apply(image, mask, None, "reflect")
    remapped, mask_remapped, _ = Warp(matrix, lens=1e-9).apply(image, mask, None, "reflect")
    assert np.abs(plain.astype(int) - remapped).max() <= 3  # warpAffine reads at 1/32 pixel
    assert (plain_mask != mask_remapped).mean() < 0.01


@pytest.mark.parametrize("warp", [Warp(SHIFT), Warp(SHIFT, Elastic(100.0, 6.0, 1)), Warp(SHIFT, lens=0.4)], ids=str)
def test_a_pixel_that_blends_an_unusable_one_is_not_usable(warp):
    image = np.full((*HW, 1), 100, np.uint8)
    valid = np.ones(HW, bool)
    valid[30:50, 40:70] = False
    image[~valid] = 200
    moved, _, usable = warp.apply(image, np.zeros((1, *HW), bool), valid, "reflect")
    assert (moved[:, :, 0][usable] == 100).all(), "an unusable pixel shows"
    assert 400 < (~usable).sum() < 1000


def test_thin_objects_keep_their_area_in_the_mean_when_they_shrink():
    mask = np.zeros((1, *HW), bool)
    mask[0, :, 11::12] = True  # lines of one pixel
    shares = []
    for shift in np.linspace(0, 12, 25):
        smaller = np.array([[0.6, 0, 20 + shift], [0, 0.6, 15], [0, 0, 1.0]])
        _, moved, _ = Warp(smaller, Elastic(30.0, 6.0, 0)).apply(smooth_image(), mask, None, "reflect")
        shares.append(moved[0, 24:60, 40:80].mean())
    assert np.mean(shares) == pytest.approx(1 / 12, rel=0.1)


@pytest.mark.parametrize("hw", [(7, 5), (1, 9), (33, 64), (16, 250)])
def test_images_of_any_size_are_distorted(hw):
    image, mask = smooth_image(hw, 3), np.ones((4, *hw), bool)
    warp = Warp(np.eye(3), Elastic(20.0, 6.0, 0), np.ones((2, 5)), 0.3)
    moved, moved_mask, usable = warp.apply(image, mask, np.ones(hw, bool), "reflect")
    assert (moved.shape, moved_mask.shape) == (image.shape, mask.shape)
    assert moved_mask.all()
    assert usable.all()

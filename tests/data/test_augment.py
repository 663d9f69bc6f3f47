"""Random changes: exact where they can be, image and mask together, and drawn one beside the other without touching."""

from itertools import product

import numpy as np
import pytest

from segsmith import recipe
from segsmith.data.augment import Change, apply_change, draw_change

OFF = dict.fromkeys(("hflip", "vflip", "transpose", "affine", "colour", "blur", "noise", "cutout"), 0.0)
HW = (48, 64)


def changed(change: Change, image: np.ndarray, mask: np.ndarray, padding: str) -> tuple[np.ndarray, np.ndarray]:
    image, mask, _ = apply_change(change, image, mask, None, padding)
    return image, mask


def drawn(seed: int = 0, hw: tuple[int, int] = HW, **options: float) -> Change:
    return draw_change(recipe.Augment(**(OFF | options)), hw, np.random.default_rng(seed))


def noise_image(hw: tuple[int, int], bands: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*hw, bands), np.uint8)


def random_mask(hw: tuple[int, int], classes: int = 1) -> np.ndarray:
    return np.random.default_rng(1).random((classes, *hw)) < 0.4


def blob(hw: tuple[int, int] = HW) -> tuple[np.ndarray, np.ndarray]:
    """A soft bright spot off the centre, and the mask of its bright half."""
    rows, columns = np.indices(hw)
    spot = np.exp(-((rows - hw[0] * 0.45) ** 2 + (columns - hw[1] * 0.55) ** 2) / 18)
    return np.rint(255 * spot).astype(np.uint8)[:, :, None], (spot > 0.5)[None]


def centroid(weight: np.ndarray) -> np.ndarray:
    """Row and column."""
    return np.argwhere(weight > 0).T @ weight[weight > 0] / weight.sum()


def test_nothing_on_changes_nothing():
    image, mask = noise_image(HW), random_mask(HW)
    change = drawn()
    assert (change.matrix, change.table, change.cutout) == (None, None, None)
    assert (change.blur_sigma, change.noise_sigma) == (0, 0)
    for padding in ("reflect", "zero"):
        same_image, same_mask = changed(change, image, mask, padding)
        assert (same_image == image).all()
        assert (same_mask == mask).all()


@pytest.mark.parametrize("strength", ["shift", "scale", "rotate", "brightness", "contrast", "gamma"])
def test_strengths_alone_change_nothing(strength):
    change = drawn(**{strength: 0.9})
    assert change.matrix is None
    assert change.table is None


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("hw", [(31, 18), (5, 8), (1, 3)])
@pytest.mark.parametrize(("left_right", "upside_down"), [(1, 0), (0, 1), (1, 1)])
def test_flips_are_exact(hw, bands, left_right, upside_down):
    image, mask = noise_image(hw, bands), random_mask(hw)
    flipped_image, flipped_mask = changed(drawn(hw=hw, hflip=left_right, vflip=upside_down), image, mask, "zero")
    rows, columns = slice(None, None, -1 if upside_down else 1), slice(None, None, -1 if left_right else 1)
    assert (flipped_image == image[rows, columns]).all()
    assert (flipped_mask == mask[:, rows, columns]).all()


@pytest.mark.parametrize(("left_right", "upside_down"), product((0, 1), repeat=2))
def test_transposes_are_exact_and_come_after_the_flips(left_right, upside_down):
    image, mask = noise_image((33, 33)), random_mask((33, 33))
    change = drawn(hw=(33, 33), hflip=left_right, vflip=upside_down, transpose=1)
    turned_image, turned_mask = changed(change, image, mask, "reflect")
    rows, columns = slice(None, None, -1 if upside_down else 1), slice(None, None, -1 if left_right else 1)
    assert (turned_image == image[rows, columns].transpose(1, 0, 2)).all()
    assert (turned_mask == mask[:, rows, columns].transpose(0, 2, 1)).all()


def test_masks_of_several_classes_move_together():
    mask = random_mask(HW, classes=3)
    _, flipped = changed(drawn(hflip=1), noise_image(HW), mask, "zero")
    assert (flipped == mask[:, :, ::-1]).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_blob_and_its_mask_move_where_the_matrix_says(seed):
    image, mask = blob()
    change = drawn(seed, affine=1, shift=0.1, scale=0.2, rotate=180, hflip=0.5, vflip=0.5)
    moved_image, moved_mask = changed(change, image, mask, "zero")
    x, y, _ = change.matrix @ [*centroid(mask[0])[::-1], 1]
    assert np.abs(centroid(moved_mask[0]) - [y, x]).max() < 0.5
    assert np.abs(centroid(moved_image[:, :, 0].astype(float)) - [y, x]).max() < 0.5
    assert np.hypot(*(centroid(mask[0]) - [y, x])) > 0.5, "nothing moved"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("padding", ["reflect", "zero"])
def test_image_and_mask_move_together(seed, padding):
    rows, columns = np.indices(HW)
    waves = np.sin(rows / 5) + np.sin(columns / 7 + 1)
    image, mask = np.where(waves > 0, 255, 0).astype(np.uint8)[:, :, None], (waves > 0)[None]
    moved_image, moved_mask = changed(drawn(seed, affine=1, rotate=180), image, mask, padding)
    assert ((moved_image[:, :, 0] > 127) != moved_mask[0]).mean() < 0.03
    assert (moved_mask != mask).mean() > 0.1, "nothing moved"


def test_moves_stay_within_their_limits():
    image, mask = blob()
    start, area = centroid(mask[0]), mask.sum()
    centre = (np.array(HW) - 1) / 2
    turns = []
    for seed in range(40):
        _, shifted = changed(drawn(seed, affine=1, shift=0.1, scale=0, rotate=0), image, mask, "zero")
        assert (np.abs(centroid(shifted[0]) - start) < np.array(HW) * 0.1 + 0.5).all()
        _, zoomed = changed(drawn(seed, affine=1, shift=0, scale=0.5, rotate=0), image, mask, "zero")
        assert 1 / 1.5**2 - 0.1 < zoomed.sum() / area < 1.5**2 + 0.1
        _, turned = changed(drawn(seed, affine=1, shift=0, scale=0, rotate=90), image, mask, "zero")
        away = centroid(turned[0]) - centre
        assert np.hypot(*away) == pytest.approx(np.hypot(*(start - centre)), abs=0.5), "not about the centre"
        cosine = away @ (start - centre) / np.hypot(*away) / np.hypot(*(start - centre))
        turns.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    assert max(turns) < 90 + 6
    assert max(turns) > 45


def test_zero_padding_is_empty_and_reflection_is_not():
    white, full = np.full((*HW, 3), 255, np.uint8), np.ones((1, *HW), bool)
    change = drawn(1, affine=1, shift=0.5, scale=0, rotate=45)
    image, mask = changed(change, white, full, "zero")
    assert (image == 0).any()
    assert not mask.all()
    assert (mask[0] == (image[:, :, 0] > 127))[2:-2, 2:-2].mean() > 0.97, "their edges differ"
    image, mask = changed(change, white, full, "reflect")
    assert (image == 255).all()
    assert mask.all()


def test_reflection_repeats_no_edge():
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (48, 1, 1))
    change = Change(np.array([[1, 0, 3], [0, 1, 0], [0, 0, 1.0]]), None, 0.0, 0.0, 0, None)
    moved, _ = changed(change, ramp, random_mask(HW), "reflect")
    assert moved[0, :6, 0].tolist() == [3, 2, 1, 0, 1, 2]


def test_a_pure_gamma_is_a_rising_table_with_fixed_ends():
    tables = [drawn(seed, colour=1, gamma=0.5, contrast=0, brightness=0).table for seed in range(20)]
    for table in tables:
        assert (np.diff(table.astype(int)) >= 0).all()
        assert (table[0], table[255]) == (0, 255)
    middles = [int(table[128]) for table in tables]
    low, high = 255 * (128 / 255) ** 1.5, 255 * (128 / 255) ** (1 / 1.5)
    assert low - 1 <= min(middles) < 110
    assert 150 < max(middles) <= high + 1


def test_brightness_and_contrast_stay_within_their_limits():
    levels = np.arange(256)
    for seed in range(20):
        bright = drawn(seed, colour=1, gamma=0, contrast=0, brightness=0.1).table
        assert np.abs(bright - levels.astype(float)).max() <= 25.5 + 0.5
        steep = drawn(seed, colour=1, gamma=0, contrast=0.3, brightness=0).table.astype(float)
        assert np.abs(steep - 127.5).max() <= 127.5
        slope = (steep[150] - steep[105]) / 45
        assert 0.7 - 0.03 <= slope <= 1.3 + 0.03


def test_the_table_is_what_happens_to_the_image_alone():
    image, mask = noise_image(HW), random_mask(HW)
    change = drawn(3, colour=1)
    coloured, same_mask = changed(change, image, mask, "zero")
    assert (coloured == change.table[image]).all()
    assert (same_mask == mask).all()


def test_blur_flattens_and_noise_roughens():
    image, mask = noise_image(HW), random_mask(HW)
    sigmas = [drawn(seed, blur=1, blur_sigma=3).blur_sigma for seed in range(20)]
    assert 0 < min(sigmas) < max(sigmas) <= 3
    blurred, same_mask = changed(Change(None, None, 2.0, 0.0, 0, None), image, mask, "zero")
    assert blurred.shape == image.shape
    assert blurred.std() < 0.3 * image.std()
    assert (same_mask == mask).all()

    grey = np.full((*HW, 1), 128, np.uint8)
    change = drawn(0, noise=1, noise_sigma=10)
    noisy, same_mask = changed(change, grey, mask, "zero")
    assert 0 < change.noise_sigma <= 10
    assert (noisy.astype(float) - 128).std() == pytest.approx(change.noise_sigma, rel=0.1)
    assert (changed(change, grey, mask, "zero")[0] == noisy).all(), "the same change, the same noise"
    assert (same_mask == mask).all()


def test_cutout_blanks_one_square_and_leaves_the_mask():
    image = np.where(noise_image(HW) > 127, 255, 0).astype(np.uint8)  # nothing of it is near its mean
    mask = random_mask(HW)
    places = set()
    for seed in range(30):
        change = drawn(seed, cutout=1, cutout_size=0.25)
        cut, same_mask = changed(change, image, mask, "zero")
        rows, columns = np.nonzero((cut != image).any(axis=2))
        assert len(rows) == 12 * 12, "a quarter of the shorter side, squared"
        assert (np.ptp(rows), np.ptp(columns)) == (11, 11)
        assert (cut[rows, columns] == image.mean(axis=(0, 1)).astype(np.uint8)).all()
        assert (same_mask == mask).all()
        places.add((rows[0], columns[0]))
    assert len(places) > 20


def test_cutout_may_be_the_whole_square():
    change = drawn(0, hw=(16, 16), cutout=1, cutout_size=1)
    assert change.cutout == (0, 0, 16)


def test_applying_leaves_the_sample_as_it_was():
    image, mask = noise_image(HW), random_mask(HW)
    image_before, mask_before = image.copy(), mask.copy()
    for options in ({"affine": 1}, {"colour": 1}, {"blur": 1}, {"noise": 1}, {"cutout": 1}, {"hflip": 1}):
        changed(drawn(0, **options), image, mask, "reflect")
        assert (image == image_before).all()
        assert (mask == mask_before).all()


@pytest.mark.parametrize("name", list(OFF))
def test_a_change_is_drawn_alike_whatever_else_is_on(name):
    def part(change: Change) -> object:
        if change.matrix is not None:
            return change.matrix.tolist()
        return {
            "colour": None if change.table is None else change.table.tolist(),
            "blur": change.blur_sigma,
            "noise": (change.noise_sigma, change.noise_seed),
            "cutout": change.cutout,
        }[name]

    geometric = ("hflip", "vflip", "transpose", "affine")
    others = dict.fromkeys(set(OFF) - {name} - set(geometric), 1.0)  # geometric ones join in one matrix
    for seed in range(5):
        alone, beside = drawn(seed, **{name: 1}), drawn(seed, **{name: 1, **others})
        assert part(alone) is not None
        assert part(beside) == part(alone)


def test_the_affine_is_drawn_alike_beside_a_flip():
    alone, beside = drawn(2, affine=1), drawn(2, affine=1, hflip=1)
    flip = np.array([[-1, 0, HW[1] - 1], [0, 1, 0], [0, 0, 1]])
    assert np.allclose(beside.matrix, alone.matrix @ flip)


def test_probabilities_are_kept():
    matrices = [drawn(seed, hflip=0.3).matrix for seed in range(600)]
    assert np.mean([matrix is not None for matrix in matrices]) == pytest.approx(0.3, abs=0.06)


def test_the_same_generator_state_gives_the_same_sample():
    image, mask = noise_image(HW), random_mask(HW)
    options = dict.fromkeys(set(OFF) - {"transpose"}, 1.0)
    first, second = (changed(drawn(7, **options), image, mask, "reflect") for _ in range(2))
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()
    assert (changed(drawn(8, **options), image, mask, "reflect")[0] != first[0]).any()

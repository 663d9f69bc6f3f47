"""Random changes: exact where they can be, image and mask together, and drawn one beside the other without touching."""

from itertools import product

import cv2
import numpy as np
import pytest

from segsmith import recipe
from segsmith.errors import DataError
from segsmith.recipe_files import load_recipe
from segsmith.samples.augment import Change, check_augment, draw_change, flips_only
from segsmith.samples.warp import Warp

GEOMETRIC = ("hflip", "vflip", "transpose", "affine", "crop", "elastic", "grid", "optical")
OFF = dict.fromkeys((*GEOMETRIC, "colour", "invert", "blur", "noise", "cutout"), 0.0)
HW = (48, 64)


def changed(change: Change, image: np.ndarray, mask: np.ndarray, padding: str) -> tuple[np.ndarray, np.ndarray]:
    image, mask, _ = change.apply(image, mask, None, padding)
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
    assert change == Change(noise_seed=change.noise_seed)
    for padding in ("reflect", "zero"):
        same_image, same_mask = changed(change, image, mask, padding)
        assert (same_image == image).all()
        assert (same_mask == mask).all()


STRENGTHS = (
    "shift", "scale", "rotate", "crop_least", "elastic_alpha", "grid_stretch", "optical_strength", "brightness",
    "contrast", "gamma", "saturation",
)  # fmt: skip


@pytest.mark.parametrize("strength", STRENGTHS)
def test_strengths_alone_change_nothing(strength):
    assert drawn(**{strength: 0.9}).words == ()
    assert drawn(**{strength: 0.9}) == Change(noise_seed=drawn().noise_seed)


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
    x, y, _ = change.warp.matrix @ [*centroid(mask[0])[::-1], 1]
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
    change = Change(Warp(np.array([[1, 0, 3], [0, 1, 0], [0, 0, 1.0]])))
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
    blurred, same_mask = changed(Change(blur_sigma=2.0), image, mask, "zero")
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
    assert change.cutouts == ((0, 0, 16),)


def test_applying_leaves_the_sample_as_it_was():
    image, mask = noise_image(HW), random_mask(HW)
    image_before, mask_before = image.copy(), mask.copy()
    for options in ({"affine": 1}, {"colour": 1}, {"blur": 1}, {"noise": 1}, {"cutout": 1}, {"hflip": 1}):
        changed(drawn(0, **options), image, mask, "reflect")
        assert (image == image_before).all()
        assert (mask == mask_before).all()


def parts(change: Change) -> dict[str, object]:
    """What is drawn for each option, in plain values; geometric ones join in one matrix and have their own tests."""
    warp = change.warp or Warp(np.eye(3))
    return {
        "affine": warp.matrix.tolist(),
        "elastic": warp.elastic,
        "grid": None if warp.cells is None else warp.cells.tolist(),
        "optical": warp.lens,
        "colour": None if change.table is None else change.table.tolist(),
        "blur": change.blur_sigma,
        "noise": (change.noise_sigma, change.noise_seed),
        "cutout": change.cutouts,
    }


@pytest.mark.parametrize("name", parts(Change()))
def test_a_change_is_drawn_alike_whatever_else_is_on(name):
    moves = {"hflip", "vflip", "transpose", "crop", "invert"}  # they join in one matrix, or one table, with others
    others = dict.fromkeys(set(OFF) - {name} - moves, 1.0)
    if name == "affine":
        others |= {"cutmix": 1.0, "paste": 1.0}
    for seed in range(5):
        nothing, alone, beside = (parts(drawn(seed, **on))[name] for on in ({}, {name: 1}, {name: 1, **others}))
        assert alone != nothing
        assert beside == alone


@pytest.mark.parametrize(("first", "second"), [("hflip", "affine"), ("affine", "crop"), ("vflip", "crop")])
def test_matrices_are_drawn_alike_beside_each_other_and_compose(first, second):
    for seed in range(5):
        one, other, both = (drawn(seed, **dict.fromkeys(on, 1.0)) for on in ([first], [second], [first, second]))
        assert np.allclose(both.warp.matrix, other.warp.matrix @ one.warp.matrix)
        assert both.zoom == pytest.approx(one.zoom * other.zoom)


def as_first_released(options: recipe.Augment, hw: tuple[int, int], seed: int, image: np.ndarray, mask: np.ndarray):
    """Moves and levels as the first augmentation drew and applied them."""
    u = np.random.default_rng(seed).random(20)
    (height, width), matrix = hw, np.eye(3)
    if u[0] < options.hflip:
        matrix = np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1.0]]) @ matrix
    if u[1] < options.vflip:
        matrix = np.array([[1, 0, 0], [0, -1, height - 1], [0, 0, 1.0]]) @ matrix
    if u[2] < options.transpose:
        matrix = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]]) @ matrix
    if u[3] < options.affine:
        angle, zoom = np.deg2rad(options.rotate * (2 * u[4] - 1)), (1 + options.scale) ** (2 * u[5] - 1)
        shift = np.array([width, height]) * options.shift * (2 * u[6:8] - 1)
        centre = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
        cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
        turn = np.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]], [0, 0, 1]])
        matrix = centre @ turn @ np.linalg.inv(centre) @ matrix
    if not np.array_equal(matrix, np.eye(3)):
        border = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT_101}
        image = cv2.warpAffine(image, matrix[:2], (width, height), **border)
        mask = cv2.warpAffine(mask, matrix[:2], (width, height), **border | {"flags": cv2.INTER_NEAREST})
    if u[8] < options.colour:
        levels = np.arange(256) / 255
        gamma, contrast = (1 + options.gamma) ** (2 * u[9] - 1), 1 + options.contrast * (2 * u[10] - 1)
        brightness = options.brightness * (2 * u[11] - 1)
        image = np.rint(255 * np.clip((levels**gamma - 0.5) * contrast + 0.5 + brightness, 0, 1)).astype(np.uint8)[
            image
        ]
    return image, mask


@pytest.mark.parametrize("name", ["ships", "ships-demo", "salt", "steel"])
def test_shipped_recipes_change_images_as_they_ever_did(name):
    options, padding = load_recipe(name).train.stages[0].augment, "reflect"
    hw = (64, 64) if options.transpose else (48, 80)
    image, mask = noise_image(hw), random_mask(hw)
    differed = 0
    for seed in range(20):
        found_image, found_mask = changed(draw_change(options, hw, np.random.default_rng(seed)), image, mask, padding)
        was_image, was_mask = as_first_released(options, hw, seed, image, mask[0].view(np.uint8))
        assert (found_image == was_image).all()
        assert (found_mask[0] == was_mask).all()
        differed += (found_image != image).any()
    assert differed > 5


def test_probabilities_are_kept():
    warps = [drawn(seed, hflip=0.3).warp for seed in range(600)]
    assert np.mean([warp is not None for warp in warps]) == pytest.approx(0.3, abs=0.06)


def test_the_same_generator_state_gives_the_same_sample():
    image, mask = noise_image(HW), random_mask(HW)
    options = dict.fromkeys(set(OFF) - {"transpose"}, 1.0)
    first, second = (changed(drawn(7, **options), image, mask, "reflect") for _ in range(2))
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()
    assert (changed(drawn(8, **options), image, mask, "reflect")[0] != first[0]).any()


@pytest.mark.parametrize("bands", [1, 3, 5, 12])
def test_everything_at_once_is_done_to_any_number_of_bands_and_classes(bands):
    image, mask = noise_image(HW, bands), random_mask(HW, classes=bands)
    valid = np.ones(HW, bool)
    valid[:20, :20] = False
    every = dict.fromkeys(set(OFF) - {"transpose"}, 1.0) | {"cutouts": 3}
    change = drawn(0, **every | ({"hue": 0.1, "saturation": 0.5} if bands == 3 else {}))
    found = change.apply(image, mask, valid, "reflect")
    assert [(part.shape, part.dtype) for part in found] == [(part.shape, part.dtype) for part in (image, mask, valid)]
    assert (found[0] != image).mean() > 0.9
    assert 0.02 < (~found[2]).mean() < 0.5


def test_several_cutouts_lie_where_the_first_alone_does_and_elsewhere():
    image, mask = noise_image(HW), random_mask(HW)
    for seed in range(5):
        one, three = (drawn(seed, cutout=1, cutout_size=0.1, cutouts=count) for count in (1, 3))
        assert three.cutouts[0] == one.cutouts[0]
        assert len(set(three.cutouts)) == 3
        blank = np.zeros(HW, bool)
        for top, left, side in three.cutouts:
            blank[top : top + side, left : left + side] = True
        cut, same_mask = changed(three, image, mask, "zero")
        assert (cut[~blank] == image[~blank]).all()
        assert (cut[blank] == image.mean(axis=(0, 1)).astype(np.uint8)).all()
        assert (same_mask == mask).all()


def test_a_crop_enlarges_a_part_to_the_whole():
    rows, columns = np.indices(HW)
    image = np.stack([rows * 4, columns * 3], axis=2).astype(np.uint8)
    for seed in range(20):
        change = drawn(seed, crop=1, crop_least=0.5)
        assert 1 <= change.zoom <= 2
        cropped, _ = changed(change, image, random_mask(HW), "zero")
        down, right = cropped[1:-1, 20, 0] / 4, cropped[20, 1:-1, 1] / 3
        assert down[-1] - down[0] == pytest.approx((HW[0] - 3) / change.zoom, abs=0.5)
        assert right[-1] - right[0] == pytest.approx((HW[1] - 3) / change.zoom, abs=0.5)
        assert cropped[1:-1, 1:-1].any(axis=2).all(), "the part reaches beyond the image"


def test_zoom_is_what_the_matrix_enlarges_by():
    for seed in range(10):
        change = drawn(seed, hflip=0.5, affine=1, crop=1)
        assert change.zoom == pytest.approx(np.sqrt(abs(np.linalg.det(change.warp.matrix))))
    assert drawn(0, hflip=1, vflip=1, elastic=1, optical=1).zoom == 1


def test_only_flips_are_left_and_they_are_the_same():
    options = recipe.Augment(**(dict.fromkeys(OFF, 1.0) | {"cutmix": 1.0, "paste": 1.0, "transpose": 0.0}))
    flips = draw_change(flips_only(options), HW, np.random.default_rng(0))
    alone = drawn(0, hflip=1, vflip=1)
    assert flips.words == alone.words == ("left-right", "upside down")
    assert (flips.warp.matrix == alone.warp.matrix).all()
    assert (flips_only(options).cutmix, flips_only(options).paste) == (0, 1)


def test_what_was_drawn_is_told():
    words = drawn(1, hflip=1, affine=1, elastic=1, colour=1, noise=1, cutout=1, cutouts=2).words
    assert [word.split(" ")[0] for word in words] == ["left-right", "affine", "elastic", "brightness", "noise", "2"]
    assert drawn(1).words == ()


@pytest.mark.parametrize("option", ["hue", "saturation"])
@pytest.mark.parametrize("stage_key", ["augment", "augment_last"])
def test_hue_and_saturation_are_refused_by_name_unless_there_are_three_bands(option, stage_key):
    asked = recipe.Recipe(train={"stages": [{}, {stage_key: {"colour": 0.5, option: 0.2}}]})
    check_augment(asked, 3)
    with pytest.raises(
        DataError, match=rf"train\.stages\.1\.{stage_key}\.{option}=0\.2 .* three bands.* 5; set it to 0"
    ):
        check_augment(asked, 5)
    check_augment(recipe.Recipe(train={"stages": [{stage_key: {"colour": 0, option: 0.2}}]}), 5)

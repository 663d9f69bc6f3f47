"""An image at the size the network sees, and the way back."""

import numpy as np
import pytest

from segsmith import recipe
from segsmith.data.ingest_rle import ingest
from segsmith.errors import DataError
from segsmith.samples.augment import draw_change
from segsmith.samples.chips import cut
from segsmith.samples.samples import (
    Sample,
    changed,
    fit_image,
    fit_levels,
    fit_mask,
    of_size,
    read_sample,
    unfit_probabilities,
)

ODD_SIZES = [((101, 101), (128, 128)), ((101, 100), (128, 160)), ((5, 8), (8, 8)), ((7, 7), (8, 9)), ((3, 2), (16, 16))]


def floats(image: np.ndarray) -> np.ndarray:
    """Its bands as planes of probabilities."""
    return image.transpose(2, 0, 1).astype(np.float32) / 255


def random_image(hw: tuple[int, int], bands: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*hw, bands), np.uint8)


def random_mask(hw: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).random((1, *hw)) < 0.5


@pytest.mark.parametrize("padding", ["reflect", "zero", "biharmonic"])
@pytest.mark.parametrize(("hw", "input_hw"), ODD_SIZES)
def test_padding_and_back_is_exact(hw, input_hw, padding):
    options = recipe.Data(fit="pad", input_hw=input_hw, padding=padding)
    image, mask = random_image(hw), random_mask(hw)
    fitted_image, fitted_mask = fit_image(image, options), fit_mask(mask, options)

    assert fitted_image.shape == (*input_hw, 3)
    assert fitted_mask.shape == (1, *input_hw)
    assert (unfit_probabilities(floats(fitted_image), hw, options) == floats(image)).all()
    assert (unfit_probabilities(fitted_mask.astype(np.float32), hw, options) == mask).all()


@pytest.mark.parametrize("padding", ["reflect", "zero", "biharmonic"])
@pytest.mark.parametrize(("hw", "input_hw"), ODD_SIZES)
def test_soft_labels_that_are_a_mask_are_fitted_as_one(hw, input_hw, padding):
    levels = random_mask(hw).view(np.uint8) * np.uint8(255)
    for fit in ("pad", "resize"):
        options = recipe.Data(fit=fit, input_hw=input_hw, padding=padding)
        fitted = fit_levels(levels, options)
        assert np.array_equal(fitted >= 128, fit_mask(levels > 0, options))
        assert fitted.shape == (1, *input_hw)


def test_soft_labels_go_with_their_image_through_every_move():
    """Labels that are the image itself stay so: image, levels and mask are moved by one map."""
    options = recipe.Augment(
        hflip=0.5, vflip=0.5, transpose=0.5, affine=1, crop=0.5, elastic=0.5, grid=0.5, optical=0.5
    )
    smooth = np.rint(127.5 + 120 * np.sin(np.add.outer(np.arange(64) / 9, np.arange(64) / 7))).astype(np.uint8)
    image, levels = smooth[:, :, None], smooth[None]
    for padding in ("reflect", "zero"):
        for seed in range(20):
            change = draw_change(options, (64, 64), np.random.default_rng(seed))
            moved = changed(Sample(image, levels >= 128, soft=levels), change, recipe.Data(padding=padding))
            assert np.array_equal(moved.soft[0], moved.image[:, :, 0])
            sure = np.abs(moved.soft.astype(int) - 128) > 40
            assert (moved.mask == (moved.soft >= 128))[sure].mean() > 0.99


def test_padding_stands_around_the_centre():
    options = recipe.Data(fit="pad", input_hw=(128, 128), padding="zero")
    filled = np.argwhere(fit_mask(np.ones((1, 101, 101), bool), options)[0])
    assert filled.min(axis=0).tolist() == [13, 13]
    assert filled.max(axis=0).tolist() == [113, 113], "13 before, 14 behind"


def test_what_stands_in_the_padding():
    column = np.arange(10, 15, dtype=np.uint8)[None, :, None]
    zero = fit_image(column, recipe.Data(fit="pad", input_hw=(1, 10), padding="zero"))
    assert zero[0, :, 0].tolist() == [0, 0, 10, 11, 12, 13, 14, 0, 0, 0]
    reflected = fit_image(column, recipe.Data(fit="pad", input_hw=(1, 10), padding="reflect"))
    assert reflected[0, :, 0].tolist() == [12, 11, 10, 11, 12, 13, 14, 13, 12, 11]


def test_image_and_mask_are_padded_alike():
    options = recipe.Data(fit="pad", input_hw=(128, 128), padding="reflect")
    mask = random_mask((101, 101))
    image = np.where(mask[0], 255, 0).astype(np.uint8)[:, :, None]
    assert ((fit_image(image, options)[:, :, 0] > 0) == fit_mask(mask, options)[0]).all()


@pytest.mark.parametrize("hw", [(129, 100), (100, 129)])
def test_an_image_too_large_to_pad_is_refused(hw):
    options = recipe.Data(fit="pad", input_hw=(128, 128))
    reason = rf"{hw[0]} x {hw[1]} pixels .* data\.input_hw 128 x 128.* data\.fit=resize"
    with pytest.raises(DataError, match=reason):
        fit_image(random_image(hw), options)
    with pytest.raises(DataError, match=reason):
        fit_mask(random_mask(hw), options)
    with pytest.raises(DataError, match=reason):
        unfit_probabilities(np.zeros((1, 128, 128), np.float32), hw, options)


@pytest.mark.parametrize("fit", ["resize", "pad"])
def test_an_image_of_the_right_size_stays(fit):
    options = recipe.Data(fit=fit, input_hw=(20, 30))
    image, mask = random_image((20, 30)), random_mask((20, 30))
    assert (fit_image(image, options) == image).all()
    assert (fit_mask(mask, options) == mask).all()
    assert (unfit_probabilities(floats(image), (20, 30), options) == floats(image)).all()


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_an_image_shrinks_by_the_mean_of_what_each_pixel_covers(bands):
    image = random_image((40, 60), bands)
    small = fit_image(image, recipe.Data(input_hw=(10, 20)))
    means = image.reshape(10, 4, 20, 3, bands).mean(axis=(1, 3))
    assert small.shape == (10, 20, bands)
    assert np.abs(small - means).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("block", [(2, 2), (3, 3), (4, 4), (1, 3), (5, 2)])
def test_a_shrunk_mask_is_foreground_where_at_least_half_is(block):
    rows, columns = block
    mask = random_mask((12 * rows, 15 * columns))
    small = fit_mask(mask, recipe.Data(input_hw=(12, 15)))
    share = mask.reshape(12, rows, 15, columns).mean(axis=(1, 3))
    assert (small[0] == (share >= 0.5)).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_small_thing_in_a_large_mask_shrinks_alike_wherever_it_lies(seed):
    """Of one class; beside it one that is empty, and one that reaches all corners."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((3, 36, 60), bool)
    (top, bottom), (left, right) = np.sort(rng.integers(0, 36, 2)), np.sort(rng.integers(0, 60, 2))
    there = mask[0, top : bottom + 1, left : right + 1]
    there[:] = rng.random(there.shape) < 0.7
    mask[2, [0, 0, -1, -1], [0, -1, 0, -1]] = True
    for block in ((3, 4), (1, 2), (1, 1)):
        small = fit_mask(mask, recipe.Data(input_hw=(36 // block[0], 60 // block[1])))
        share = mask.reshape(3, 36 // block[0], block[0], 60 // block[1], block[1]).mean(axis=(2, 4))
        assert (small == (share >= 0.5)).all()


def test_exactly_half_is_foreground_and_a_pixel_less_is_not():
    mask = np.zeros((1, 4, 8), bool)
    mask[0, :, :2] = True  # 8 of the left 16
    mask[0, :, 4:6] = True
    mask[0, 3, 5] = False  # 7 of the right 16
    assert fit_mask(mask, recipe.Data(input_hw=(1, 2)))[0].tolist() == [[True, False]]


def test_a_mask_enlarged_and_made_small_again_is_itself():
    mask = random_mask((13, 11))
    large = fit_mask(mask, recipe.Data(input_hw=(39, 33)))
    assert (fit_mask(large, recipe.Data(input_hw=(13, 11))) == mask).all()


def test_probabilities_are_resized_back_to_the_image():
    options = recipe.Data(input_hw=(32, 64))
    columns = np.linspace(0.1, 0.9, 64)
    ramp = np.tile(columns.astype(np.float32), (2, 32, 1))
    back = unfit_probabilities(ramp, (48, 128), options)
    assert back.shape == (2, 48, 128)
    expected = np.interp((np.arange(128) + 0.5) / 2 - 0.5, np.arange(64), columns)
    assert np.abs(back - expected).max() <= 1e-6


def test_a_sample_is_read_at_the_size_of_the_recipe(ships):
    dataset = ingest(ships)
    sample = read_sample(cut(dataset, recipe.Data(fit="pad", input_hw=(32, 32))), 2)
    assert sample.image.shape == (32, 32, 3)
    assert (sample.image[6:26, 4:28] == dataset.image(2)).all()
    assert (sample.mask[:, 6:26, 4:28] == dataset.mask(2)).all()

    small = read_sample(cut(dataset, recipe.Data(fit="resize", input_hw=(10, 12))), 2)
    assert (small.image.shape, small.mask.shape) == ((10, 12, 3), (1, 10, 12))


def augmented(sample: Sample, augment: recipe.Augment, options: recipe.Data, rng: np.random.Generator) -> Sample:
    return changed(sample, draw_change(augment, options.input_hw, rng), options)


def test_an_augmented_sample_moves_by_its_generator_alone(ships):
    options = recipe.Data(fit="pad", input_hw=(32, 32), padding="zero")
    sample = read_sample(cut(ingest(ships), options), 2)
    flipped = augmented(sample, recipe.Augment(hflip=1), options, np.random.default_rng(0))
    assert (flipped.image == sample.image[:, ::-1]).all()
    assert (flipped.mask == sample.mask[:, :, ::-1]).all()

    wild = recipe.Augment(affine=1, colour=1, noise=1)
    one, same, other = (augmented(sample, wild, options, np.random.default_rng([3, seed])).image for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()


def test_the_padding_of_the_recipe_is_what_a_move_brings_in(ships):
    sample = read_sample(cut(ingest(ships), recipe.Data(input_hw=(20, 24))), 2)
    moved = {
        padding: augmented(
            sample,
            recipe.Augment(hflip=0, affine=1, shift=0.4, rotate=90),
            recipe.Data(input_hw=(20, 24), padding=padding),
            np.random.default_rng(0),
        ).image
        for padding in ("zero", "reflect")
    }
    black = {padding: (image == 0).all(axis=2).mean() for padding, image in moved.items()}
    assert black["zero"] > 0.05
    assert black["reflect"] < 0.01


@pytest.mark.parametrize("padding", ["reflect", "zero", "biharmonic"])
@pytest.mark.parametrize(("hw", "resize_hw"), [((101, 101), (202, 202)), ((60, 90), (40, 60)), ((7, 5), (7, 5))])
def test_an_image_is_resized_then_padded_and_the_way_back_cuts_then_resizes(hw, resize_hw, padding):
    options = recipe.Data(fit="pad", input_hw=(224, 208), resize_hw=resize_hw, padding=padding)
    image, mask = random_image(hw), random_mask(hw)
    resized = recipe.Data(input_hw=resize_hw)
    top, left = (224 - resize_hw[0]) // 2, (208 - resize_hw[1]) // 2
    inside = np.s_[top : top + resize_hw[0], left : left + resize_hw[1]]
    assert (fit_image(image, options)[inside] == fit_image(image, resized)).all()
    assert (fit_mask(mask, options)[0][inside] == fit_mask(mask, resized)[0]).all()

    values = np.random.default_rng(2).random((2, 224, 208), np.float32)
    back = unfit_probabilities(values, hw, options)
    assert (back == unfit_probabilities(values[:, *inside], hw, resized)).all()
    assert back.shape == (2, *hw)


def test_beside_an_image_that_goes_on_smoothly_its_mask_goes_on_too():
    options = recipe.Data(fit="pad", input_hw=(24, 24), padding="biharmonic")
    image, mask = np.zeros((16, 16, 1), np.uint8), np.zeros((1, 16, 16), bool)
    image[:, 8:], mask[:, :, 8:] = 200, True
    fitted_image, fitted_mask = fit_image(image, options), fit_mask(mask, options)
    assert ((fitted_image[:, :, 0] > 100) == fitted_mask[0]).mean() > 0.98
    assert fitted_mask[0].sum() == 12 * 24


def test_a_size_to_be_padded_that_is_too_large_is_refused_before_any_data_is_read():
    with pytest.raises(ValueError, match=r"resize_hw=\[202, 202\] cannot be padded to input_hw \[224, 192\]"):
        recipe.Data(fit="pad", input_hw=(224, 192), resize_hw=(202, 202))


def test_another_input_size_takes_what_is_resized_before_padding_along():
    options = recipe.Data(fit="pad", input_hw=(128, 256), resize_hw=(101, 202))
    assert of_size(options, None) is options
    assert of_size(options, (128, 256)) is options
    larger = of_size(options, (256, 128))
    assert (larger.input_hw, larger.resize_hw) == ((256, 128), (202, 101))
    assert of_size(recipe.Data(), (64, 96)).input_hw == (64, 96)


def test_scale_counts_the_zoom_of_an_augmentation_on_top_of_the_chips(ships):
    options = recipe.Data(fit="chip", input_hw=(16, 16), scales=(1.0, 2.0, 0.5))
    chips = cut(ingest(ships), options)
    seen = [read_sample(chips, chip).scale for chip in range(len(chips))]
    assert seen == np.log2(chips.scale).tolist()
    assert set(seen) == {0, 1, -1}
    change = draw_change(recipe.Augment(affine=1, crop=1), (16, 16), np.random.default_rng(3))
    sample = changed(read_sample(chips, 0), change, options)
    assert sample.scale == pytest.approx(seen[0] + np.log2(change.zoom))
    assert read_sample(cut(ingest(ships), recipe.Data(input_hw=(64, 64))), 2).scale == 0

"""Chips are windows that cover images; splits of them never let a judged pixel be trained on."""

import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from segsmith import recipe
from segsmith.data import ingest_masks
from segsmith.data.dataset import Dataset
from segsmith.data.ingest_rle import ingest
from segsmith.data.rle import encode, to_text
from segsmith.data.windows import starts
from segsmith.errors import DataError
from segsmith.samples.chips import Chips, cut
from segsmith.samples.split import split, trust


def dataset(folder, sizes=((96, 128), (70, 50)), seed=0) -> Dataset:
    """Noise with one bright rectangle in the upper left of each image, which is its one object."""
    rng = np.random.default_rng(seed)
    (folder / "train").mkdir(parents=True)
    rows = ["id,rle_mask"]
    for number, (height, width) in enumerate(sizes):
        image = rng.integers(0, 200, (height, width, 3), np.uint8)
        mask = np.zeros((height, width), bool)
        mask[5 : height // 3, 7 : width // 2] = True
        image[mask] = 255
        cv2.imwrite(str(folder / "train" / f"i{number}.png"), image)
        rows.append(f"i{number},{to_text(encode(mask))}")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")
    return ingest(folder)


def options(**changes) -> recipe.Data:
    return recipe.Data(**({"fit": "chip", "input_hw": (32, 32), "blank_most": 1.0} | changes))


@given(st.integers(1, 90), st.integers(1, 40), st.data())
def test_starts_leave_no_pixel_uncovered_and_no_chip_for_nothing(length, chip, data):
    stride = data.draw(st.integers(1, chip))
    found = list(starts(length, chip, stride))
    covered = np.zeros(max(length, found[-1] + chip), int)
    for start in found:
        covered[start : start + chip] += 1
    assert (covered[:length] > 0).all()
    assert len(found) == 1 or found[-2] + chip < length, "the last but one already reached the end"


def test_a_stride_that_leaves_gaps_is_refused():
    with pytest.raises(ValueError, match="1 to the chip's 8 pixels"):
        starts(100, 8, 9)


@settings(max_examples=20)
@given(st.integers(0, 2**16), st.integers(4, 20), st.sampled_from([1.0, 2.0]))
def test_ignored_pixels_are_in_no_chip_and_in_no_count(seed, side, scale):
    levels = np.random.default_rng(seed).choice(np.array([0, 1, 2, 255], np.uint8), (18, 25))
    levels[0, :4] = 0, 1, 2, 255
    with tempfile.TemporaryDirectory() as folder:
        for name, pixels in (("images", np.zeros((18, 25, 3), np.uint8)), ("masks", levels)):
            Path(folder, name).mkdir()
            cv2.imwrite(f"{folder}/{name}/a.png", pixels)
        chips = cut(ingest_masks.ingest(Path(folder)), options(input_hw=(side, side), scales=(scale,)))
        enlarged = np.pad(np.kron(levels, np.ones((int(scale),) * 2, np.uint8)), (0, 50), constant_values=255)
        for number in range(len(chips)):
            top, left = chips.top[number], chips.left[number]
            expected = enlarged[top : top + side, left : left + side]
            chip = chips.read(number)
            assert (chip.valid == (expected != 255)).all()
            assert (chips.truth(number) == np.stack([expected == 1, expected == 2])).all()
            assert chips.foreground[number] == pytest.approx(np.isin(expected, (1, 2)).mean())


def test_without_chips_every_image_is_one(tmp_path):
    data = dataset(tmp_path)
    chips = cut(data, recipe.Data())
    assert [chips.id(n) for n in range(len(chips))] == ["i0", "i1"]
    assert chips.objects.tolist() == [1, 1]
    assert (chips.pixels(1) == data.image(1)).all()
    assert chips.hw(1) == (70, 50)


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.5])
def test_judged_chips_together_are_the_image_at_their_scale(tmp_path, scale):
    data = dataset(tmp_path)
    chips = cut(data, options(scales=(scale,), stride=16))
    for image in range(2):
        full = data.read(image, None, scale)
        height, width = full.valid.shape
        seen = np.zeros((height + 32, width + 32), int)
        for n in np.flatnonzero((chips.image == image) & chips.judged):
            chip = chips.read(int(n))
            top, left = int(chips.top[n]), int(chips.left[n])
            inside = chip.valid
            part = (slice(top, top + 32), slice(left, left + 32))
            seen[part] += inside
            rows, columns = np.nonzero(inside)
            assert (chip.image[inside] == full.image[rows + top, columns + left]).all()
            assert (chip.mask[:, inside] == full.mask[:, rows + top, columns + left]).all()
            assert not chip.image[~inside].any()
            assert not chip.mask[:, ~inside].any()
        assert (seen[:height, :width] == 1).all()
        assert seen.sum() == height * width


def test_a_chip_knows_what_it_holds(tmp_path):
    chips = cut(dataset(tmp_path), options())
    for n in range(len(chips)):
        truth = chips.truth(n)
        assert chips.foreground[n] == pytest.approx(truth.any(axis=0).mean())
        assert chips.present[n].tolist() == [truth.any()]
        assert chips.objects[n] == int(truth.any())
    assert len({chips.id(n) for n in range(len(chips))}) == len(chips)


def test_mostly_blank_chips_are_left_out_unless_they_hold_foreground(tmp_path):
    data = dataset(tmp_path, [(40, 40)])  # of 2 x 2 chips three reach beyond the image, one of them almost whole
    assert len(cut(data, options())) == 4
    kept = cut(data, options(blank_most=0.5))
    assert [kept.id(n) for n in range(len(kept))] == ["i0@1-0-0"]
    kept = cut(data, options(blank_most=0.8, input_hw=(24, 24)))  # the corner holds 16 x 16 of 24 x 24
    assert len(kept) == 4


def test_chips_of_a_ground_sampling_distance(tmp_path):
    data = dataset(tmp_path)
    with pytest.raises(DataError, match=r"i0\.png: has no ground sampling distance, which data\.gsd_m=0\.5 asks for"):
        cut(data, options(gsd_m=0.5))
    data = replace(data, images=data.images.assign(gsd_m=[0.5, 1.0]))
    chips = cut(data, options(gsd_m=0.5))
    assert set(chips.scale[chips.image == 0]) == {1.0}
    assert set(chips.scale[chips.image == 1]) == {2.0}


def pixels_of(chips: Chips, number: int, shape: tuple[int, int]) -> np.ndarray:
    """The pixels of its image, at the image's own size, that a chip looks at."""
    scale = chips.scale[number]
    area = np.zeros(shape, bool)
    top, left = chips.top[number] / scale, chips.left[number] / scale
    height, width = chips.options.input_hw[0] / scale, chips.options.input_hw[1] / scale
    area[int(top) : int(np.ceil(top + height)), int(left) : int(np.ceil(left + width))] = True
    return area


@settings(max_examples=12)
@given(
    scales=st.sampled_from([(1.0,), (1.0, 2.0), (1.0, 0.5), (2.0, 1.0, 0.5)]),
    stride=st.sampled_from([None, 4]),
    guard=st.sampled_from([0, 3]),
    block=st.integers(2, 3),
    held_out=st.sampled_from([None, 2]),
    seed=st.integers(0, 50),
)
def test_no_judged_pixel_is_in_a_training_window(tmp_path_factory, scales, stride, guard, block, held_out, seed):
    data = dataset(tmp_path_factory.mktemp("made"), [(64, 88), (48, 40)])
    chips = cut(data, options(input_hw=(8, 8), scales=scales, stride=stride))
    try:
        parts = split(chips, recipe.Folds(count=3, block=block, guard=guard, held_out=held_out), seed)
    except DataError:
        reject()  # guards may leave nothing between two folds
    assert len(parts.training)
    assert len(parts.validation)
    for image in range(2):
        shape = data.hw(image)
        trained, judged = np.zeros(shape, bool), np.zeros(shape, bool)
        for n in parts.training[chips.image[parts.training] == image]:
            trained |= pixels_of(chips, n, shape)
        kept_away = np.concatenate([parts.validation, parts.held_out])
        for n in kept_away[chips.image[kept_away] == image]:
            judged |= pixels_of(chips, n, shape)
        margin = int(guard / scales[0])
        if margin:
            judged = cv2.dilate(judged.view(np.uint8), np.ones((2 * margin - 1, 2 * margin - 1), np.uint8)).view(bool)
        assert not (trained & judged).any()


def test_folds_of_blocks_do_not_depend_on_the_order_of_images(tmp_path):
    data = dataset(tmp_path, [(150, 200), (128, 96)])
    turned = replace(
        data,
        images=data.images.iloc[::-1].reset_index(drop=True),
        runs=np.concatenate([data.runs[data.offsets[1] :], data.runs[: data.offsets[1]]]),
        offsets=np.array([0, data.offsets[2] - data.offsets[1], data.offsets[2]], np.int32),
    )
    folds = []
    for one in (data, turned):
        chips = cut(one, options(input_hw=(16, 16), stride=8))
        fold = split(chips, recipe.Folds(block=2), 3).fold.tolist()
        folds.append(dict(zip(map(chips.id, range(len(chips))), fold, strict=True)))
    assert folds[0] == folds[1]
    assert set(folds[0].values()) == {-1, 0, 1, 2, 3, 4}


def test_scenes_of_the_same_ground_stay_together(tmp_path):
    data = dataset(tmp_path, [(96, 96)] * 6)
    data = replace(data, images=data.images.assign(group=np.array([0, 0, 2, 3, 4, 5], np.int32)))
    chips = cut(data, options())
    fold = split(chips, recipe.Folds(count=3, block=1), 0).fold
    assert len(set(fold[np.isin(chips.image, [0, 1])])) == 1
    assert len(set(fold[chips.image == 2])) > 1


def test_too_few_blocks(tmp_path):
    chips = cut(dataset(tmp_path), options())
    with pytest.raises(DataError, match="2 blocks of 4 x 4 chips cannot be split into 5 folds"):
        split(chips, recipe.Folds(), 0)


def test_a_guard_band_that_leaves_nothing_to_train_on(tmp_path):
    chips = cut(dataset(tmp_path), options())
    with pytest.raises(DataError, match="no chip is left to be trained on"):
        split(chips, recipe.Folds(block=1, guard=500), 0)


def test_a_source_that_is_not_trusted_is_trained_on_and_never_judged(tmp_path):
    data = dataset(tmp_path, [(40, 40)] * 12)
    data = replace(data, images=data.images.assign(source=["clean", "noisy"] * 6))
    noisy = recipe.Data(sources={"noisy": recipe.Source(trust=0.25)})
    chips = cut(data, noisy)
    assert trust(chips).tolist() == [1, 0.25] * 6
    parts = split(chips, recipe.Folds(count=3, held_out=1), 0)
    assert (parts.training % 2 == 1).any()
    assert (parts.validation % 2 == 0).all()
    assert (parts.held_out % 2 == 0).all()
    assert set(parts.part()) == {"training", "validation", "held_out", "unused"}


@pytest.mark.parametrize("fit", ["resize", "chip"])
def test_what_is_learnt_by_heart_is_trained_on_and_judged_whole(tmp_path, fit):
    data = dataset(tmp_path, [(40, 60)] * 3)
    chips = cut(data, options() if fit == "chip" else recipe.Data())
    parts = split(chips, recipe.Folds(by_heart=True), 0)
    assert parts.training.tolist() == list(range(len(chips)))
    assert parts.validation.tolist() == np.flatnonzero(chips.judged).tolist()
    assert not len(parts.held_out)
    assert set(parts.part()) <= {"training", "training+validation"}


def test_nothing_learnt_by_heart_can_be_held_out():
    with pytest.raises(ValidationError, match="by_heart=true trains on every image; set held_out=null"):
        recipe.Folds(by_heart=True, held_out=1)

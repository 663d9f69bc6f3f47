"""Many samples changed at once, as tensors: the same as OpenCV makes of each by itself, to within what is stated."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segsmith import recipe
from segsmith.samples.augment import Change, draw_change
from segsmith.samples.batch_changes import BatchChanges, Pixels
from segsmith.samples.samples import Sample, changed
from segsmith.samples.warp import Elastic, Warp

OFF = dict.fromkeys(
    ("hflip", "vflip", "transpose", "affine", "crop", "elastic", "grid", "optical", "colour", "blur", "noise"), 0.0
)
MOVES = {"affine": 0.6, "crop": 0.3, "elastic": 0.4, "grid": 0.3, "optical": 0.3, "hflip": 0.5, "vflip": 0.5}


def samples_of(
    count: int, hw: tuple[int, int], bands: int = 3, planes: int = 2, smooth: float = 3.0, seed: int = 0
) -> list[Sample]:
    """Of every third some pixels are not usable, and every other one is taught."""
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        noise = rng.integers(0, 256, (*hw, bands)).astype(np.float32)
        image = np.atleast_3d(cv2.GaussianBlur(noise, (0, 0), smooth) if smooth else noise)
        image = (255 * (image - image.min()) / max(1, np.ptp(image))).astype(np.uint8)
        fields = [cv2.GaussianBlur(rng.random(hw), (0, 0), 2) for _ in range(planes)]
        mask = np.stack([field > np.median(field) for field in fields])
        valid = None if number % 3 else cv2.GaussianBlur(rng.random(hw), (0, 0), 2) > 0.45
        soft = rng.integers(0, 256, mask.shape, np.uint8) if number % 2 else None
        found.append(Sample(image, mask, valid, 0.0, soft))
    return found


def pixels_of(samples: list[Sample]) -> Pixels:
    hw = samples[0].image.shape[:2]
    return Pixels(
        torch.from_numpy(np.stack([sample.image for sample in samples])).permute(0, 3, 1, 2),
        torch.from_numpy(np.stack([sample.mask for sample in samples]).view(np.uint8)),
        torch.from_numpy(np.stack([np.ones(hw, bool) if s.valid is None else s.valid for s in samples]).view(np.uint8)),
        torch.from_numpy(np.stack([sample.levels for sample in samples])),
    )


def at_once(samples: list[Sample], changes: list[Change], padding: str = "reflect") -> list[Sample]:
    hw = samples[0].image.shape[:2]
    images, masks, valid, soft = BatchChanges.of(changes, hw).apply(pixels_of(samples), padding)
    assert valid is not None
    assert soft is not None
    return [
        Sample(
            images[number].permute(1, 2, 0).contiguous().numpy(),
            masks[number].numpy().view(bool),
            None if sample.valid is None else valid[number].numpy().view(bool),
            0.0,
            None if sample.soft is None else soft[number].numpy(),
        )
        for number, sample in enumerate(samples)
    ]


def one_by_one(samples: list[Sample], changes: list[Change], padding: str = "reflect") -> list[Sample]:
    options = recipe.Data(padding=padding)
    return [changed(sample, change, options) for sample, change in zip(samples, changes, strict=True)]


def drawn(count: int, hw: tuple[int, int], seed: int = 0, **options: float) -> list[Change]:
    augment = recipe.Augment(**(OFF | options))
    return [draw_change(augment, hw, np.random.default_rng([seed, number])) for number in range(count)]


def same(left: Sample, right: Sample) -> bool:
    one, other = ((s.image, s.mask, s.valid, s.soft) for s in (left, right))
    return all(a is b if a is None or b is None else bool((a == b).all()) for a, b in zip(one, other, strict=True))


def within_a_64th(image: np.ndarray, padding: str) -> np.ndarray:
    """By how much levels change within 1/64 of a pixel each way, at most; beyond the edge there may be zeros."""
    wide = np.pad(image.astype(np.float32), ((2, 2), (2, 2), (0, 0)), mode="constant" if padding == "zero" else "edge")
    neighbours = np.lib.stride_tricks.sliding_window_view(wide, (5, 5), axis=(0, 1))
    return np.asarray(np.ptp(neighbours, axis=(3, 4)) / 32)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    hw=st.sampled_from([(48, 48), (40, 64), (33, 50)]),
    bands=st.integers(1, 12),
    planes=st.integers(1, 4),
    padding=st.sampled_from(["reflect", "zero", "biharmonic"]),
)
def test_moved_samples_are_those_of_opencv(seed, hw, bands, planes, padding):
    samples = samples_of(6, hw, bands, planes, seed=seed)
    changes = drawn(6, hw, seed, transpose=0.5 if hw[0] == hw[1] else 0.0, **MOVES)
    for ours, theirs in zip(at_once(samples, changes, padding), one_by_one(samples, changes, padding), strict=True):
        off = np.abs(ours.image.astype(np.float32) - theirs.image)
        assert (off <= 1 + np.maximum(*(within_a_64th(each.image, padding) for each in (ours, theirs)))).all()
        assert (ours.mask != theirs.mask).mean() < 0.01
        if ours.valid is not None and theirs.valid is not None:
            assert (ours.valid != theirs.valid).mean() < 0.02
        if ours.soft is not None and theirs.soft is not None:
            assert np.abs(ours.soft.astype(float) - theirs.soft).mean() < 1.5, "of noise"


@pytest.mark.parametrize("padding", ["reflect", "zero"])
@pytest.mark.parametrize("hw", [(24, 24), (1, 9), (7, 1), (5, 40)])
@pytest.mark.parametrize(("hflip", "vflip", "transpose"), [(1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1), (1, 0, 1)])
def test_flips_and_transposes_are_exact(padding, hw, hflip, vflip, transpose):
    if transpose and hw[0] != hw[1]:
        return
    samples = samples_of(4, hw, smooth=0)
    changes = drawn(4, hw, hflip=hflip, vflip=vflip, transpose=transpose)
    for ours, theirs in zip(at_once(samples, changes, padding), one_by_one(samples, changes, padding), strict=True):
        assert same(ours, theirs)


@pytest.mark.parametrize("bands", [1, 3, 12])
def test_tables_noise_and_squares_are_exact(bands):
    samples = samples_of(8, (40, 56), bands, smooth=0)
    changes = drawn(8, (40, 56), colour=0.6, invert=0.4, noise=0.6, cutout=0.6, cutouts=3)
    assert len({len(change.cutouts) for change in changes}) == 2
    for ours, theirs in zip(at_once(samples, changes), one_by_one(samples, changes), strict=True):
        assert same(ours, theirs)


def test_hue_and_saturation_differ_by_rounding_alone():
    samples = samples_of(8, (40, 56), smooth=0)
    changes = drawn(8, (40, 56), colour=0.7, hue=0.5, saturation=0.5, gamma=0, contrast=0, brightness=0)
    pairs = zip(at_once(samples, changes), one_by_one(samples, changes), strict=True)
    off = [np.abs(ours.image.astype(int) - theirs.image) for ours, theirs in pairs]
    assert np.max(off) <= 1
    assert np.mean(off) < 0.05


@pytest.mark.parametrize("hw", [(40, 56), (3, 50), (1, 7)])
def test_blurred_levels_differ_by_two_at_most(hw):
    samples = samples_of(8, hw, smooth=0)
    changes = drawn(8, hw, blur=0.7, blur_sigma=3)
    assert any(change.blur_sigma for change in changes)
    assert not all(change.blur_sigma for change in changes)
    for ours, theirs in zip(at_once(samples, changes), one_by_one(samples, changes), strict=True):
        assert np.abs(ours.image.astype(int) - theirs.image).max() <= 2
        assert (ours.mask == theirs.mask).all()


def test_all_at_once_is_what_opencv_makes_of_it():
    samples = samples_of(12, (64, 64))
    everything = {**MOVES, "colour": 0.5, "hue": 0.2, "invert": 0.3, "blur": 0.5, "noise": 0.5, "cutout": 0.5}
    changes = drawn(12, (64, 64), 1, elastic_sigma=4, **everything)
    for ours, theirs in zip(at_once(samples, changes), one_by_one(samples, changes), strict=True):
        assert np.abs(ours.image.astype(int) - theirs.image).mean() < 0.5
        assert (ours.mask != theirs.mask).mean() < 0.01


def test_what_is_nowhere_is_not_made():
    samples = samples_of(3, (16, 16))
    plain = pixels_of(samples)._replace(valid=None, soft=None)
    for changes in ([Change()] * 3, drawn(3, (16, 16), affine=1)):
        made = BatchChanges.of(changes, (16, 16)).apply(plain, "reflect")
        assert made.valid is None
        assert made.soft is None
        assert torch.equal(made.images, plain.images) == (changes[0].warp is None)


def test_a_pixel_that_blends_an_unusable_one_is_not_usable():
    image = np.full((48, 64, 1), 100, np.uint8)
    valid = np.ones((48, 64), bool)
    valid[20:30, 20:40] = False
    image[~valid] = 200
    shift = np.array([[1, 0, 7.3], [0, 1, -3.6], [0, 0, 1.0]])
    sample = Sample(image, np.zeros((1, 48, 64), bool), valid)
    for warp in (Warp(shift), Warp(shift, Elastic(100.0, 6.0, 1)), Warp(shift, lens=0.4)):
        (moved,) = at_once([sample], [Change(warp)])
        assert moved.valid is not None
        assert (moved.image[:, :, 0][moved.valid] == 100).all(), "an unusable pixel shows"
        assert 150 < (~moved.valid).sum() < 400

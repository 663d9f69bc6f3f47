"""What comes into a sample from another: pixels, truth and usable pixels together."""

from dataclasses import replace

import numpy as np
import pytest

from segsmith.samples.mixing import Cutmix, Paste, draw_cutmix, draw_paste
from segsmith.samples.samples import Sample

HW = (40, 60)


def sample(level: int, classes: int = 2, valid: np.ndarray | None = None) -> Sample:
    return Sample(np.full((*HW, 5), level, np.uint8), np.zeros((classes, *HW), bool), valid)


def with_objects() -> Sample:
    """Two objects: a square of class 0 with a core of class 1, and a bar of class 1."""
    other = sample(200)
    other.mask[0, 5:13, 10:18] = True
    other.mask[1, 8:10, 12:15] = True
    other.mask[1, 30:33, 20:50] = True
    return other


def test_cutmix_takes_all_within_its_rectangle_and_nothing_beyond():
    other, own = with_objects(), sample(10)
    own.mask[0] = True
    valid = np.ones(HW, bool)
    valid[:8] = False
    mixed = Cutmix(4, 6, 10, 20).apply(own, Sample(other.image, other.mask, valid))
    inside = np.zeros(HW, bool)
    inside[4:14, 6:26] = True
    assert ((mixed.image == 200).all(axis=2) == inside).all()
    assert (mixed.mask == np.where(inside, other.mask, own.mask)).all()
    assert (mixed.valid == np.where(inside, valid, True)).all()
    assert own.mask[0].all(), "the sample was changed in place"
    assert (Cutmix(4, 6, 10, 20).apply(Sample(own.image, own.mask, ~valid), other).valid == (inside | ~valid)).all()
    assert Cutmix(4, 6, 10, 20).apply(own, other).valid is None


@pytest.mark.parametrize("soft_one", ["sample", "other", "both"])
def test_soft_labels_are_mixed_as_masks_are(soft_one):
    other, own = with_objects(), sample(10)
    own.mask[1, :, 30:] = True
    if soft_one != "other":
        own = replace(own, soft=np.full((2, *HW), 40, np.uint8))
    if soft_one != "sample":
        other = replace(other, soft=np.full((2, *HW), 90, np.uint8))
    own_levels, other_levels = own.levels.copy(), other.levels.copy()
    inside = np.zeros(HW, bool)
    inside[4:14, 6:26] = True
    mixed = Cutmix(4, 6, 10, 20).apply(own, other)
    assert (mixed.soft == np.where(inside, other_levels, own_levels)).all()
    assert (mixed.levels == mixed.soft).all()
    pasted = Paste(which=0.1, down=0.5, right=0.25).apply(own, other)
    body = pasted.mask[0]
    assert body.sum() == 64
    assert (pasted.soft[:, ~body] == own_levels[:, ~body]).all()
    rows, columns = np.nonzero(body)
    there = other_levels[:, rows - rows.min() + 5, columns - columns.min() + 10]
    assert (pasted.soft[:, rows, columns] == there).all()
    assert (own.levels == own_levels).all(), "the sample was changed in place"


def test_masks_alone_stay_masks():
    other, own = with_objects(), sample(10)
    assert Cutmix(4, 6, 10, 20).apply(own, other).soft is None
    assert Paste(which=0.1, down=0.5, right=0.25).apply(own, other).soft is None


def test_rectangles_of_cutmix_are_of_any_size_and_within_the_image():
    drawn = [draw_cutmix(HW, np.random.default_rng(seed)) for seed in range(400)]
    for box in drawn:
        assert 0 <= box.top <= box.top + box.height <= HW[0]
        assert 0 <= box.left <= box.left + box.width <= HW[1]
    shares = np.array([box.height * box.width for box in drawn]) / np.prod(HW)
    assert shares.min() < 0.02
    assert shares.max() > 0.7
    # of a side a, a^2 / 4 is cut off in the mean: the integral of (a - a^2 / 4)^2 over a^2 in 0..1
    assert shares.mean() == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.03)


def test_an_object_comes_with_its_own_truth_of_every_class():
    other, own = with_objects(), sample(10)
    pasted = Paste(which=0.1, down=0.5, right=0.25).apply(own, other)
    top, left = int(0.5 * (40 - 8 + 1)), int(0.25 * (60 - 8 + 1))
    assert pasted.mask[0].sum() == 64
    assert pasted.mask[0, top : top + 8, left : left + 8].all()
    assert pasted.mask[1].sum() == 6
    assert pasted.mask[1, top + 3 : top + 5, left + 2 : left + 5].all()
    assert (pasted.image[top + 3, left + 3] == 200).all()
    assert not own.mask.any(), "the sample was changed in place"
    bar = Paste(which=0.9, down=0.0, right=0.999).apply(own, other)
    assert bar.mask[1, :3, 30:].all()
    assert bar.mask.sum() == 90


def test_edges_are_feathered_over_a_few_pixels_and_truth_is_not():
    pasted = Paste(which=0.1, down=0.5, right=0.5).apply(sample(10), with_objects())
    levels = pasted.image[:, :, 0]
    assert pasted.mask.dtype == bool
    blended = (levels > 10) & (levels < 195)
    far = np.zeros(HW, bool)
    rows, columns = np.nonzero(pasted.mask[0])
    far[max(0, rows.min() - 3) : rows.max() + 4, max(0, columns.min() - 3) : columns.max() + 4] = True
    assert 40 < blended.sum() < 150
    assert not (levels != 10)[~far].any()
    edge = levels[rows.min() + 4, columns.min() - 3 : columns.min() + 4].astype(int)
    assert (np.diff(edge) > 0).all()


def test_what_is_unusable_stays_so():
    hidden = np.ones(HW, bool)
    hidden[5:13, 10:14] = False  # half of the square
    other = with_objects()
    pasted = Paste(0.1, 0.5, 0.5).apply(sample(10), Sample(other.image, other.mask, hidden))
    unusable = np.argwhere(~pasted.valid)
    assert len(unusable) >= 32
    assert pasted.mask[0][~pasted.valid].sum() == 32
    own = np.zeros(HW, bool)
    assert not Paste(0.1, 0.5, 0.5).apply(sample(10, valid=own), other).valid.any()


def test_nothing_is_pasted_where_there_is_nothing():
    own = sample(10)
    assert Paste(0.5, 0.5, 0.5).apply(own, sample(99)) is own


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999999])
def test_objects_at_the_border_and_as_large_as_the_image_are_pasted(share):
    other = sample(200)
    other.mask[0] = True
    assert Paste(share, share, share).apply(sample(10), other).mask[0].all()
    other.mask[0, 1:] = False
    pasted = Paste(share, share, share).apply(sample(10), other)
    assert pasted.mask[0].sum() == HW[1]
    assert pasted.mask[0, int(share * 40)].all()


def test_draws_are_shares():
    for seed in range(20):
        drawn = draw_paste(np.random.default_rng(seed))
        assert all(0 <= share < 1 for share in (drawn.which, drawn.down, drawn.right))

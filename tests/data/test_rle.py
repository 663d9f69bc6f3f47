"""Mask <-> run lengths, against a decoder that goes pixel by pixel, as the contests' rules say it."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segsmith.data import rle
from segsmith.errors import RunLengthError

HW = (4, 6)
words = st.integers(-1, 26).map(str) | st.sampled_from(["+2", "007", "1.5", "a", "-"])
masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))


def slow_decode(text: str, hw: tuple[int, int]) -> np.ndarray:
    height, _ = hw
    mask = np.zeros(hw, bool)
    numbers = [int(word) for word in text.split()]
    for start, length in zip(numbers[0::2], numbers[1::2], strict=True):
        for pixel in range(start - 1, start - 1 + length):
            mask[pixel % height, pixel // height] = True
    return mask


@settings(max_examples=80)
@given(masks)
@example(np.ones((3, 5), bool))
@example(np.ones((5, 1), bool))
@example(np.zeros((1, 5), bool))
def test_mask_to_runs_to_text_and_back(mask):
    runs = rle.encode(mask)
    text = rle.to_text(runs)

    assert (slow_decode(text, mask.shape) == mask).all()
    assert (rle.parse(text, mask.shape) == runs).all()
    assert (rle.decode(runs, mask.shape) == mask).all()


@settings(max_examples=40)
@given(masks)
def test_encoded_runs_are_as_few_as_can_be(mask):
    runs = rle.encode(mask)
    assert (runs[1:, 0] > runs[:-1].sum(axis=1)).all(), "two runs touch"
    assert runs[:, 1].sum() == mask.sum()
    assert runs.dtype == np.int32


def test_pixels_are_numbered_down_the_columns_from_one():
    mask = rle.decode(rle.parse("2 2 24 1", HW), HW)
    assert np.argwhere(mask).tolist() == [[1, 0], [2, 0], [3, 5]]
    assert rle.encode(mask).tolist() == [[1, 2], [23, 1]]
    assert rle.to_text(rle.encode(mask)) == "2 2 24 1"


def test_encode_takes_any_memory_order():
    mask = np.zeros((6, 4), bool)
    mask[0, :2] = mask[5, 3] = True
    assert (rle.encode(mask.T) == rle.encode(mask.T.copy())).all()


@pytest.mark.parametrize("text", ["", "0", "nan", "NaN", "  ", " 0 "])
def test_texts_of_an_empty_mask(text):
    runs = rle.parse(text, HW)
    assert runs.shape == (0, 2)
    assert rle.to_text(runs) == ""
    assert not rle.decode(runs, HW).any()


def test_a_run_may_reach_the_last_pixel_and_no_further():
    assert rle.parse("23 2", HW).tolist() == [[22, 2]]
    with pytest.raises(RunLengthError, match=r"pair '23 3' ends beyond the image, which has 4 x 6 = 24 pixels"):
        rle.parse("23 3", HW)


def test_runs_may_touch_and_encode_joins_them():
    runs = rle.parse("1 3 4 2", HW)
    assert runs.tolist() == [[0, 3], [3, 2]]
    assert rle.encode(rle.decode(runs, HW)).tolist() == [[0, 5]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3 2 7", "3 numbers, an odd count"),
        ("5", "1 numbers, an odd count"),
        ("0 3", "pair '0 3' starts before pixel 1"),
        ("-2 3", "pair '-2 3' starts before pixel 1"),
        ("1 2 9 0", "pair '9 0' has no length"),
        ("1 2 9 -1", "pair '9 -1' has no length"),
        ("1 1 9 2 4 2", "pair '4 2' does not start after the pair before it"),
        ("1 1 1 1", "pair '1 1' does not start after the pair before it"),
        ("1 1 4 3 6 2", "pair '6 2' overlaps the pair before it"),
        ("1 1 25 1", "pair '25 1' ends beyond the image"),
        ("20 9999", "pair '20 9999' ends beyond the image"),
        ("1 99999999999999999999", "'99999999999999999999' is beyond any image"),
        ("1 2 x 3", "'x' is not a whole number"),
        ("1 2.0", "'2.0' is not a whole number"),
        ("1 1e3", "'1e3' is not a whole number"),
        ("1,2", "'1,2' is not a whole number"),
        ("1 --2", "'--2' is not a whole number"),
    ],
)
def test_refusals_name_the_pair(text, message):
    with pytest.raises(RunLengthError) as caught:
        rle.parse(text, HW)
    assert message in str(caught.value)


@settings(max_examples=150)
@given(st.lists(words, max_size=6).map(" ".join))
def test_any_text_is_read_as_the_rules_say_or_refused(text):
    try:
        runs = rle.parse(text, HW)
    except RunLengthError:
        return
    assert (rle.decode(runs, HW) == slow_decode("" if text == "0" else text, HW)).all()
    assert runs[:, 1].sum() == rle.decode(runs, HW).sum(), "runs overlap"


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 23), st.integers(0, 24)), max_size=6))
@example([(10, 4), (0, 2), (12, 3)])
@example([(2, 10), (4, 2), (5, 1)])
def test_decode_joins_runs_in_any_order(pairs):
    pairs = [(start, min(length, 24 - start)) for start, length in pairs]
    pixels = {pixel for start, length in pairs for pixel in range(start, start + length)}
    runs = np.array(pairs, np.int32).reshape(-1, 2)
    assert set(np.flatnonzero(rle.decode(runs, HW).T).tolist()) == pixels

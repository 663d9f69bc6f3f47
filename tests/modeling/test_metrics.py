"""Counts -> scores: the same as sets of pixels counted one by one give, and what empty masks score."""

import pickle
from fractions import Fraction
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segsmith.modeling.metrics import (
    FIGURES,
    METRICS,
    Counts,
    LevelScores,
    count_levels,
    image_scores,
    level_counts,
    score,
)

HW = (3, 4)
Pixels = set[tuple[int, ...]]

levels = st.sampled_from([0, 1, 2, 100, 127, 128, 254, 255])
images = st.tuples(arrays(np.uint8, HW, elements=levels), arrays(np.bool_, HW))
some_images = st.lists(images, min_size=1, max_size=4)


def slow_score(figure: str, predicted: list[Pixels], truth: list[Pixels]) -> float:
    """The definitions, on sets of pixels. A global figure is that of one image with the pixels of all."""
    size = prod(HW)
    if figure.startswith("global_"):
        size *= len(truth)
        predicted, truth = ([{(n, *p) for n, pixels in enumerate(sets) for p in pixels}] for sets in (predicted, truth))
    return float(sum(slow_image_score(figure, p, t, size) for p, t in zip(predicted, truth, strict=True)) / len(truth))


def slow_image_score(metric: str, predicted: Pixels, truth: Pixels, size: int) -> Fraction:
    if metric == "global_accuracy":
        return Fraction(size - len(predicted ^ truth), size)
    if not predicted and not truth:
        return Fraction(1)
    if metric in ("global_precision", "global_recall"):
        of = predicted if metric == "global_precision" else truth
        return Fraction(len(predicted & truth), len(of)) if of else Fraction(0)
    iou = Fraction(len(predicted & truth), len(predicted | truth))
    if metric == "mean_iou_map":
        return Fraction(sum(iou > Fraction(percent, 100) for percent in range(50, 100, 5)), 10)
    return 2 * iou / (1 + iou) if "dice" in metric or "f1" in metric else iou


def pixels(mask: np.ndarray) -> Pixels:
    return {(int(row), int(column)) for row, column in np.argwhere(mask)}


def counts_of(predicted: list[np.ndarray], truth: list[np.ndarray]) -> Counts:
    pairs = list(zip(predicted, truth, strict=True))
    tp, found, true = ([int(mask.sum()) for mask in masks] for masks in ([p & t for p, t in pairs], predicted, truth))
    return Counts(np.array(tp), np.array(found), np.array(true), np.array(prod(HW)))


@settings(max_examples=60)
@given(found=some_images, level=st.integers(0, 255))
def test_scores_are_those_of_sets_of_pixels(found, level):
    predicted, truth = [p >= level for p, _ in found], [t for _, t in found]
    for metric in FIGURES:
        expected = slow_score(metric, list(map(pixels, predicted)), list(map(pixels, truth)))
        assert float(score(metric, counts_of(predicted, truth))) == pytest.approx(expected, abs=1e-12), metric


@settings(max_examples=25)
@given(found=some_images)
def test_all_levels_at_once_are_each_level_alone(found):
    scores = LevelScores()
    for probabilities, truth in found:
        scores.add(level_counts(probabilities, truth))
    for metric in FIGURES:
        at_once = scores.scores(metric)
        assert at_once.shape == (256,)
        for level in (0, 1, 2, 3, 100, 101, 128, 254, 255):
            predicted, truth = [pixels(p >= level) for p, _ in found], [pixels(t) for _, t in found]
            assert at_once[level] == pytest.approx(slow_score(metric, predicted, truth), abs=1e-12), (metric, level)


@settings(max_examples=25)
@given(found=some_images)
def test_dice_of_images_with_and_without_foreground_apart(found):
    scores = LevelScores()
    for probabilities, truth in found:
        scores.add(level_counts(probabilities, truth))
    for foreground in (True, False):
        of_kind = [(p, t) for p, t in found if t.any() == foreground]
        dice = scores.dice(foreground=foreground)
        if not of_kind:
            assert np.isnan(dice).all()
            continue
        for level in (0, 1, 128, 255):
            predicted, truth = [pixels(p >= level) for p, _ in of_kind], [pixels(t) for _, t in of_kind]
            assert dice[level] == pytest.approx(slow_score("mean_dice", predicted, truth), abs=1e-12)


@settings(max_examples=25)
@given(found=images)
def test_counts_at_every_level_are_those_of_the_thresholded_mask(found):
    probabilities, truth = found
    tp, predicted = count_levels(probabilities, truth)
    assert tp.tolist() == [((probabilities >= level) & truth).sum() for level in range(256)]
    assert predicted.tolist() == [(probabilities >= level).sum() for level in range(256)]
    assert predicted[0] == prod(HW), "level 0 makes all foreground"


@pytest.mark.parametrize("step", range(10, 20))
@pytest.mark.parametrize("scale", [1, 7, 123_457])
def test_an_iou_exactly_on_a_threshold_does_not_exceed_it(step, scale):
    """At IoU 0.50 no threshold lies below, at 0.75 five of the ten do: 0.50, 0.55, 0.60, 0.65, 0.70."""
    union, tp = 20 * scale, step * scale

    def salt(tp: int) -> float:
        return float(
            image_scores("mean_iou_map", Counts(np.array([tp]), np.array([tp]), np.array([union]), np.array([union])))[
                0
            ]
        )

    assert (salt(tp), salt(tp + 1)) == ((step - 10) / 10, (step - 9) / 10)


def test_the_salt_metric_by_hand():
    """IoU 1, 3/4, 1/2, 2/5: all ten thresholds exceeded, five, none, none."""
    counts = Counts(np.array([4, 3, 2, 2]), np.array([4, 3, 3, 3]), np.array([4, 4, 3, 4]), np.array(9))
    assert image_scores("mean_iou_map", counts).tolist() == [1.0, 0.5, 0.0, 0.0]
    assert score("mean_iou_map", counts) == pytest.approx(1.5 / 4)


@pytest.mark.parametrize("metric", [figure for figure in FIGURES if figure != "global_accuracy"])
def test_empty_masks(metric):
    def scored(tp: list[int], predicted: list[int], truth: list[int]) -> float:
        return float(score(metric, Counts(np.array(tp), np.array(predicted), np.array(truth), np.array(10))))

    assert scored([0], [0], [0]) == 1, "both are empty"
    assert scored([0], [5], [0]) == 0, "only the truth is empty"
    assert scored([0], [0], [5]) == 0, "only the prediction is empty"
    assert scored([0, 0], [0, 0], [0, 0]) == 1, "all are empty"
    # an empty image that is right counts as a whole image in a mean, as no pixel in a global metric
    assert scored([0, 0], [0, 0], [0, 5]) == (0 if metric.startswith("global_") else 0.5)


def test_accuracy_counts_background_as_well():
    counts = Counts(np.array([0, 3]), np.array([0, 4]), np.array([0, 5]), np.array([10, 20]))
    assert image_scores("global_accuracy", counts).tolist() == [1.0, (20 - 1 - 2) / 20]
    assert score("global_accuracy", counts) == (10 + 17) / 30
    nothing = Counts(np.array(0), np.array(0), np.array(0), np.array(0))
    assert image_scores("global_accuracy", nothing) == 1, "no pixel, none wrong"


def test_what_can_only_be_told_is_nothing_to_choose_by():
    assert set(FIGURES) - set(METRICS) == {"global_precision", "global_recall"}


@pytest.mark.parametrize("metric", FIGURES)
def test_leading_axes_stay_and_the_last_one_is_images(metric):
    """As decide searches: two thresholds by three areas by four images, and one truth for all of them."""
    noise = np.random.default_rng(0)
    tp = noise.integers(0, 5, (2, 3, 4))
    predicted, truth = tp + noise.integers(0, 5, (2, 3, 4)), 4 + noise.integers(0, 5, 4)
    pixels = np.array([30, 40, 50, 60])
    together = score(metric, Counts(tp, predicted, truth, pixels))
    assert together.shape == (2, 3)
    for place in np.ndindex(2, 3):
        assert together[place] == score(metric, Counts(tp[place], predicted[place], truth, pixels))


def test_f1_is_the_harmonic_mean_of_precision_and_recall():
    counts = Counts(np.array([3, 0, 5]), np.array([4, 2, 9]), np.array([6, 0, 5]), np.array(10))
    precision, recall = score("global_precision", counts), score("global_recall", counts)
    assert (precision, recall) == (8 / 15, 8 / 11)
    assert score("global_f1", counts) == pytest.approx(2 * precision * recall / (precision + recall))
    assert score("global_dice", counts) == score("global_f1", counts)


@settings(max_examples=25)
@given(found=st.lists(st.tuples(st.integers(0, 2), images), min_size=1, max_size=6))
def test_dice_of_each_class_is_that_of_its_images_alone(found):
    scores, alone = LevelScores(3), [LevelScores() for _ in range(3)]
    for of_class, (probabilities, truth) in found:
        scores.add(level_counts(probabilities, truth), of_class=of_class)
        alone[of_class].add(level_counts(probabilities, truth))
    for foreground in (True, False, None):
        for of_class in range(3):
            expected = alone[of_class].dice(foreground=foreground)
            assert scores.dice(foreground=foreground, of_class=of_class) == pytest.approx(expected, nan_ok=True)
    assert scores.dice() == pytest.approx(scores.scores("mean_dice"))


def test_what_empties_score_in_the_dice_of_a_class():
    """By steel's words: dice_neg is 1 unless anything is predicted, dice_pos 0 unless something is right."""
    scores, plane, truth = LevelScores(2), np.full(HW, 100, np.uint8), np.zeros(HW, bool)
    scores.add(level_counts(plane, truth), of_class=1)
    truth = truth.copy()
    truth[0] = True
    scores.add(level_counts(plane, truth), of_class=1)
    negative, positive = (scores.dice(foreground=foreground, of_class=1) for foreground in (False, True))
    assert (negative[100], negative[101]) == (0, 1)
    assert (positive[100], positive[101]) == (2 * 4 / (12 + 4), 0)
    assert np.isnan(scores.dice(foreground=True, of_class=0)).all()


@settings(max_examples=25)
@given(found=images, valid=arrays(np.bool_, HW))
def test_unusable_pixels_count_for_nothing(found, valid):
    probabilities, truth = found
    scores = LevelScores()
    scores.add(level_counts(probabilities, truth, valid))
    for figure in FIGURES:
        for level in (0, 1, 100, 255):
            predicted, true = (probabilities >= level) & valid, truth & valid
            counts = Counts(*(np.array([mask.sum()]) for mask in (predicted & true, predicted, true, valid)))
            assert scores.scores(figure)[level] == pytest.approx(float(score(figure, counts))), (figure, level)


def test_memory_does_not_grow_with_the_number_of_images():
    noise = np.random.default_rng(0)
    scores, sizes = LevelScores(), []
    for count in range(1, 201):
        scores.add(level_counts(noise.integers(0, 256, HW).astype(np.uint8), noise.random(HW) < 0.5))
        if count in (1, 200):
            sizes.append(len(pickle.dumps(scores)))
    assert sizes[1] <= sizes[0] + 8

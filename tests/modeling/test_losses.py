"""Logits and truth -> one number: values by hand, signs of gradients, and what happens to images without foreground."""

import itertools
import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segsmith import recipe
from segsmith.data.batches import chip_batches
from segsmith.data.chips import cut
from segsmith.data.ingest_masks import ingest
from segsmith.modeling import losses
from segsmith.modeling.losses import (
    binary_cross_entropy,
    dice_loss,
    focal_loss,
    lovasz_hinge,
    pixel_weight,
    weighted_loss,
)

LOSSES = {"bce": binary_cross_entropy, "focal": focal_loss, "dice": dice_loss, "lovasz": lovasz_hinge}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)

logit = st.floats(-6, 6, width=32)
batches = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 4)).flatmap(
    lambda size: st.tuples(
        st.lists(logit, min_size=math.prod(size), max_size=math.prod(size)).map(lambda x: shaped(x, size)),
        st.lists(st.booleans(), min_size=math.prod(size), max_size=math.prod(size)).map(lambda x: shaped(x, size)),
    )
)


def shaped(values: list, size: tuple[int, int, int]) -> Tensor:
    """Values as float32 (batch, classes, 1, width)."""
    batch, classes, width = size
    return torch.tensor(values, dtype=torch.float32).reshape(batch, classes, 1, width)


def one_image(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


def gradient(loss, logits: Tensor, truth: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    loss(logits, truth).backward()
    assert logits.grad is not None
    return logits.grad


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def slow_pixelwise(logits: Tensor, truth: Tensor, positive_weight: float, gamma: float) -> float:
    """Minus the logarithm of the probability of the truth, weighted, pixel by pixel."""
    total = 0.0
    for x, t in zip(logits.double().flatten().tolist(), truth.flatten().tolist(), strict=True):
        right = sigmoid(x) if t else sigmoid(-x)
        total -= (positive_weight if t else 1) * (1 - right) ** gamma * math.log(right)
    return total / truth.numel()


def slow_dice(logits: Tensor, truth: Tensor) -> float:
    p, t = torch.sigmoid(logits).double().numpy(), truth.double().numpy()
    per_class = [
        1 - (2 * (p[:, c] * t[:, c]).sum() + 1) / (p[:, c].sum() + t[:, c].sum() + 1) for c in range(p.shape[1])
    ]
    return float(np.mean(per_class))


def slow_lovasz(logits: Tensor, truth: Tensor) -> float:
    """The Lovasz extension as the largest value over all orders in which pixels may go wrong, one after another."""
    values = []
    for scores, labels in zip(logits.flatten(0, 1).flatten(1), truth.flatten(0, 1).flatten(1), strict=True):
        foreground = {n for n, label in enumerate(labels.tolist()) if label}
        errors = [1 - x if n in foreground else 1 + x for n, x in enumerate(scores.double().tolist())]
        weights = [error + 1 if error > 0 else math.exp(error) for error in errors]  # elu + 1
        sums = []
        for order in itertools.permutations(range(len(errors))):
            lost = [jaccard_lost(set(order[:n]), foreground) for n in range(len(order) + 1)]
            sums.append(
                sum(weights[n] * (after - before) for n, before, after in zip(order, lost[:-1], lost[1:], strict=True))
            )
        values.append(max(sums))
    return float(np.mean(values))


def jaccard_lost(wrong: set[int], foreground: set[int]) -> float:
    """1 - IoU of a prediction that is right but for the pixels `wrong`."""
    union = foreground | wrong
    return len(wrong) / len(union) if union else 0.0


# values


@settings(deadline=None, max_examples=40)
@given(batch=batches, positive_weight=st.sampled_from([0.5, 1.0, 3.0]), gamma=st.sampled_from([0.5, 1.0, 2.0, 3.5]))
def test_cross_entropy_and_focal_loss_are_means_over_pixels(batch, positive_weight, gamma):
    logits, truth = batch
    cross_entropy = float(binary_cross_entropy(logits, truth, positive_weight))
    focal = float(focal_loss(logits, truth, gamma, positive_weight))
    assert cross_entropy == pytest.approx(slow_pixelwise(logits, truth, positive_weight, 0), rel=1e-4, abs=1e-6)
    assert focal == pytest.approx(slow_pixelwise(logits, truth, positive_weight, gamma), rel=1e-4, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(batch=batches)
def test_dice_is_taken_per_class_over_the_pixels_of_the_batch(batch):
    assert float(dice_loss(*batch)) == pytest.approx(slow_dice(*batch), abs=1e-5)


@settings(deadline=None, max_examples=40)
@given(batch=batches)
def test_lovasz_is_the_lovasz_extension_per_image_and_class(batch):
    assert float(lovasz_hinge(*batch)) == pytest.approx(slow_lovasz(*batch), rel=1e-4, abs=1e-5)


def test_values_by_hand():
    logits, truth = one_image(0, math.log(3)), one_image(1, 0)  # probabilities 1/2 and 3/4
    assert float(binary_cross_entropy(logits, truth)) == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert float(binary_cross_entropy(logits, truth, 3.0)) == pytest.approx((3 * math.log(2) + math.log(4)) / 2)
    assert float(focal_loss(logits, truth)) == pytest.approx((math.log(2) / 4 + math.log(4) * 9 / 16) / 2)
    assert float(dice_loss(logits, truth)) == pytest.approx(1 - (2 * 0.5 + 1) / (1.25 + 1 + 1))
    # errors 1 + ln 3 (background) and 1 (foreground), elu + 1 adds one to each; wrong one after the other, half the
    # union is lost, then all of it
    assert float(lovasz_hinge(logits, truth)) == pytest.approx(0.5 * (2 + math.log(3)) + 0.5 * 2)


def test_focal_loss_with_gamma_0_is_cross_entropy():
    logits, truth = one_image(-3, -1, 0.5, 4), one_image(0, 1, 0, 1)
    assert torch.allclose(focal_loss(logits, truth, 0.0, 3.0), binary_cross_entropy(logits, truth, 3.0))


def test_dice_of_a_batch_is_dice_of_its_images_side_by_side():
    logits, truth = one_image(2, -1, 0.5, -3), one_image(1, 0, 0, 0)
    assert torch.equal(dice_loss(logits.view(2, 1, 1, 2), truth.view(2, 1, 1, 2)), dice_loss(logits, truth))


@pytest.mark.parametrize(("name", "tolerance"), [("bce", 1e-6), ("focal", 1e-6), ("lovasz", 1e-6), ("dice", 0.01)])
def test_weights_keep_their_meaning_when_the_batch_size_changes(name, tolerance):
    """The same images eight times over: the same loss, but for dice's one pixel of smoothing."""
    noise = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 1, 16, 16), generator=noise)
    truth = (torch.rand((2, 1, 16, 16), generator=noise) < 0.3).float()
    once, eight_times = (LOSSES[name](logits.repeat(n, 1, 1, 1), truth.repeat(n, 1, 1, 1)) for n in (1, 8))
    assert float(eight_times) == pytest.approx(float(once), abs=tolerance)


# gradients


TRUTHS = {"empty": [0, 0, 0, 0], "some": [1, 0, 1, 0], "full": [1, 1, 1, 1]}
PREDICTIONS = {
    "empty": [-3, -4, -5, -6],
    "undecided": [0.1, 0.1, -0.1, -0.1],
    "full": [3, 4, 5, 6],
    "certain": [500, 500, -500, -500],
    "certainly full": [30, 110, 1000, 2e4],
    "certainly empty": [-30, -110, -1000, -2e4],
}


@each_loss
@pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=PREDICTIONS)
@pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS)
def test_gradients_are_finite_and_point_to_the_truth(loss, truth, prediction):
    """Not one pixel is pushed the wrong way; and a pixel that is far off is pushed the right way, while it can be."""
    logits, truth = one_image(*prediction), one_image(*truth)
    assert torch.isfinite(loss(logits, truth))
    slope = gradient(loss, logits, truth)
    assert torch.isfinite(slope).all()
    assert (slope[truth == 1] <= 0).all()
    assert (slope[truth == 0] >= 0).all()
    wrong = (logits > 0) != (truth == 1)
    if wrong.any() and logits.abs().max() < 10:
        assert slope[wrong].abs().max() > 0


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0])
def test_focal_gradients_are_finite_for_every_gamma(gamma):
    logits, truth = one_image(-1e4, -200, -50, 50, 200, 1e4).repeat(2, 1, 1, 1), torch.zeros(2, 1, 1, 6)
    truth[1] = 1
    slope = gradient(lambda x, t: focal_loss(x, t, gamma), logits, truth)
    assert torch.isfinite(slope).all()


# images without foreground


@each_loss
@pytest.mark.parametrize("beside", [0.0, 1.0], ids=["in an all-empty batch", "beside an image with foreground"])
def test_foreground_predicted_on_an_empty_image_is_punished(loss, beside):
    truth = torch.zeros(2, 1, 2, 2)
    truth[1] = beside
    quiet = torch.where(truth == 1, 4.0, -4.0)
    loud = quiet.clone()
    loud[0, 0, 0, 0] = 3.0
    assert loss(loud, truth) > loss(quiet, truth)
    assert gradient(loss, loud, truth)[0, 0, 0, 0] > 0


@each_loss
def test_nothing_is_lost_where_truth_and_prediction_are_both_empty(loss):
    assert float(loss(torch.full((2, 1, 3, 3), -200.0), torch.zeros(2, 1, 3, 3))) == pytest.approx(0, abs=1e-12)


def test_cross_entropy_pushes_each_pixel_of_an_empty_image_to_background():
    assert (gradient(binary_cross_entropy, one_image(-5, -1, 0, 3), one_image(0, 0, 0, 0)) > 0).all()


def test_easy_pixels_of_an_empty_image_weigh_almost_nothing_in_the_focal_loss():
    easy, empty = one_image(-5, -5, -6, -7), one_image(0, 0, 0, 0)
    assert focal_loss(easy, empty) < 1e-4 * binary_cross_entropy(easy, empty)


def test_dice_in_a_batch_without_foreground():
    """sum(p) / (sum(p) + smooth), as its docstring says."""
    logits = torch.tensor([-2.0, 0.3, 1.0, -5.0, 0.0, 2.0]).reshape(2, 1, 1, 3)
    p = torch.sigmoid(logits).sum()
    for smooth in (1.0, 0.25):
        assert float(dice_loss(logits, torch.zeros_like(logits), smooth)) == pytest.approx(float(p / (p + smooth)))


def test_lovasz_on_an_empty_image_punishes_the_most_confident_false_positive_alone():
    logits, truth = one_image(-2, 1.5, 0.7, -4), one_image(0, 0, 0, 0)
    assert float(lovasz_hinge(logits, truth)) == pytest.approx((1 + 1.5) + 1)
    assert gradient(lovasz_hinge, logits, truth).flatten().tolist() == [0, 1, 0, 0]
    assert float(lovasz_hinge(logits - 4, truth)) == pytest.approx(math.exp(1 - 2.5)), "elu below zero"


def test_lovasz_does_not_let_go_of_pixels_that_are_right():
    """With relu in the place of elu + 1 these gradients are zero: all pixels are right by more than the margin."""
    slope = gradient(lovasz_hinge, one_image(2, 3, -2, -3), one_image(1, 1, 0, 0))
    assert (slope[..., :2] < 0).all()
    assert slope[..., 2] > 0


# the weighted sum


WEIGHTS = {"bce": 0.5, "dice": 2.0, "focal": 3.0, "lovasz": 0.25}


def test_weights_sum():
    logits, truth = one_image(-1, 2, 0.5, -3), one_image(0, 1, 0, 1)
    options = recipe.Loss(**WEIGHTS, positive_weight=3, focal_gamma=1.5)
    expected = (
        0.5 * binary_cross_entropy(logits, truth, 3.0)
        + 2 * dice_loss(logits, truth)
        + 3 * focal_loss(logits, truth, 1.5, 3.0)
        + 0.25 * lovasz_hinge(logits, truth)
    )
    assert float(weighted_loss(options, logits, truth)) == pytest.approx(float(expected))


@pytest.mark.parametrize("name", WEIGHTS)
def test_one_loss_alone_computes_no_other(name, monkeypatch):
    def not_asked_for(*_: object) -> Tensor:
        raise AssertionError("a loss of weight 0 was computed")

    for other in LOSSES.keys() - {name}:
        monkeypatch.setattr(losses, LOSSES[other].__name__, not_asked_for)
    logits, truth = one_image(-1, 2, 0.5, -3), one_image(0, 1, 0, 1)
    options = recipe.Loss(**({"bce": 0} | {name: 2}))
    assert float(weighted_loss(options, logits, truth)) == pytest.approx(2 * float(LOSSES[name](logits, truth)))


def test_losses_are_computed_in_float32_whatever_the_network_ran_in():
    noise = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn((2, 1, 32, 32), generator=noise)).bfloat16().requires_grad_()
    truth = torch.rand((2, 1, 32, 32), generator=noise) < 0.2
    options = recipe.Loss(**WEIGHTS)
    loss = weighted_loss(options, logits, truth.to(torch.uint8))
    assert loss.dtype == torch.float32
    assert torch.equal(loss, weighted_loss(options, logits.float(), truth.float()))
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


# Pixels that count less, or not at all

EVERY_LOSS = [recipe.Loss(**({"bce": 0.0} | {name: 1.0})) for name in ("bce", "dice", "focal", "lovasz")]


def half_usable() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits and truth of which the right half is not usable, and differs wildly from the left."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 6, 8, generator=rng)
    truth = (torch.rand(2, 2, 6, 8, generator=rng) < 0.4).float()
    logits[..., 4:] *= 30
    weight = torch.ones(2, 1, 6, 8)
    weight[..., 4:] = 0
    return logits, truth, weight


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_an_unusable_pixel_is_as_good_as_absent(loss):
    logits, truth, weight = half_usable()
    logits.requires_grad_(True)
    found = weighted_loss(loss, logits, truth, weight)
    assert torch.allclose(found, weighted_loss(loss, logits[..., :4], truth[..., :4]))
    found.backward()
    assert not logits.grad[..., 4:].any()
    assert logits.grad[..., :4].any()


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_weights_of_one_change_nothing(loss):
    logits, truth, weight = half_usable()
    assert torch.allclose(
        weighted_loss(loss, logits, truth, torch.ones_like(weight)), weighted_loss(loss, logits, truth)
    )


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_nothing_usable_is_no_loss_and_no_gradient(loss):
    logits, truth, weight = half_usable()
    logits.requires_grad_(True)
    found = weighted_loss(loss, logits, truth, 0 * weight)
    found.backward()
    assert float(found) == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("fit", ["pad", "resize", "chip"])
def test_no_gradient_reaches_an_ignored_pixel(tmp_path, loss, fit):
    levels = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], np.uint8), (16, 16))
    for name, pixels in (("images", np.zeros((16, 16, 3), np.uint8)), ("masks", levels)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), pixels)
    side = 24 if fit == "pad" else 16
    chips = cut(ingest(tmp_path), recipe.Data(fit=fit, input_hw=(side, side), padding="reflect"))
    (batch,) = chip_batches(chips, [0], 1, workers=0)
    logits = torch.linspace(-2, 2, 2 * side * side).reshape(1, 2, side, side).requires_grad_(True)
    weight = pixel_weight(batch.valid, torch.ones(1), logits)
    weighted_loss(recipe.Loss(**({"bce": 0} | {loss: 1})), logits, batch.masks, weight).backward()
    ignored = torch.from_numpy(np.pad(levels, (side - 16) // 2, mode="reflect") == 255)
    assert not logits.grad[:, :, ignored].any()
    assert (logits.grad[:, :, ~ignored] != 0).float().mean() > (0.3 if loss == "lovasz" else 0.99)


def test_an_image_less_trusted_pulls_less():
    logits, truth = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    truth[1] = 1
    logits.requires_grad_(True)
    weight = pixel_weight(None, torch.tensor([1.0, 0.25]), logits)
    weighted_loss(recipe.Loss(bce=1), logits, truth, weight).backward()
    assert torch.allclose(logits.grad[1], -0.25 * logits.grad[0])


def test_the_weight_of_pixels():
    logits = torch.zeros(2, 3, 2, 2)
    assert pixel_weight(None, torch.ones(2), logits) is None
    valid = torch.tensor([[[1, 0], [1, 1]], [[1, 1], [0, 0]]], dtype=torch.uint8)
    found = pixel_weight(valid, torch.tensor([1.0, 0.5]), logits)
    assert found.shape == (2, 1, 2, 2)
    assert found[:, 0].tolist() == [[[1, 0], [1, 1]], [[0.5, 0.5], [0, 0]]]

"""The sum a recipe names: every loss, on classes that may overlap and on those that exclude each other."""

import re
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from segsmith import recipe
from segsmith.data.ingest_masks import ingest
from segsmith.errors import ModelError
from segsmith.losses import losses
from segsmith.losses.cross_entropies import binary_cross_entropy, binary_focal_loss
from segsmith.losses.losses import check_losses, image_losses, pixel_weight, weighted_loss
from segsmith.losses.lovasz import lovasz_hinge
from segsmith.losses.overlaps import dice_loss
from segsmith.samples.batches import chip_batches
from segsmith.samples.chips import cut

AREAS = {
    name: options
    for loss in ("dice", "jaccard", "tversky")
    for name, options in ((loss, {loss: 1}), (f"{loss} by image", {loss: 1, "over": "image"}))
}
OVERLAPPING: dict[str, dict[str, Any]] = {
    "bce": {"bce": 1},
    "bce, positive": {"bce": 1, "positive_weight": 3},
    "bce, classes": {"bce": 1, "class_weights": (1, 3)},
    "bce, hard": {"bce": 1, "top_k": 0.3},
    "bce, outlines": {"bce": 1, "boundary": 4, "boundary_px": 2},
    "focal": {"focal": 1},
    "focal, all": {"focal": 1, "boundary": 1, "top_k": 0.5, "focal_gamma": 0.5, "class_weights": (2, 1)},
    "kl": {"kl": 1},
    **AREAS,
    "dice, classes": {"dice": 1, "class_weights": (1, 3)},
    "lovasz": {"lovasz": 1},
    "lovasz relu": {"lovasz": 1, "lovasz_slope": "relu"},
    "lovasz symmetric": {"lovasz": 1, "lovasz_symmetric": True, "class_weights": (1, 3)},
}
EXCLUSIVE: dict[str, dict[str, Any]] = {
    "cross_entropy": {"cross_entropy": 1},
    "cross_entropy, all": {"cross_entropy": 1, "class_weights": (1, 6, 2), "top_k": 0.3, "boundary": 2},
    "focal": {"focal": 1, "positive_weight": 3},
    "kl": {"kl": 1},
    **AREAS,
    "dice, with background": {"dice": 1, "class_weights": (1, 2, 2)},
    "lovasz_softmax": {"lovasz_softmax": 1},
}
CASES = {
    **{f"{name} (overlapping)": (options, False) for name, options in OVERLAPPING.items()},
    **{f"{name} (exclusive)": (options, True) for name, options in EXCLUSIVE.items()},
}
each_loss = pytest.mark.parametrize(("options", "exclusive"), CASES.values(), ids=CASES)
Options = dict[str, Any]


def summed(options: Options, exclusive: bool, *args: Tensor) -> Tensor:
    return weighted_loss(recipe.Loss(**({"bce": 0} | options)), *args, exclusive=exclusive)


def channels(logits: Tensor, exclusive: bool) -> Tensor:
    """The logits of classes, with a background of 0 before them where they exclude each other."""
    return torch.cat([torch.zeros_like(logits[:, :1]), logits], 1) if exclusive else logits


def one_class(options: Options, exclusive: bool) -> Options:
    """The options for one class in the place of two."""
    weights = options.get("class_weights")
    return options if weights is None else {**options, "class_weights": weights[: 1 + exclusive]}


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(loss, logits)[0]


# what is punished, and where


TRUTHS = {"empty": [0, 0, 0, 0], "some": [1, 0, 1, 0], "full": [1, 1, 1, 1]}
PREDICTIONS = {
    "empty": [-3, -4, -5, -6],
    "undecided": [0.1, 0.2, -0.1, -0.2],
    "full": [3, 4, 5, 6],
    "certain": [500, 400, -500, -400],
    "certainly full": [30, 110, 1000, 2e4],
    "certainly empty": [-30, -110, -1000, -2e4],
}


@each_loss
@pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=PREDICTIONS)
@pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS)
def test_gradients_are_finite_and_point_to_the_truth(options, exclusive, truth, prediction):
    """Not one pixel is pushed the wrong way; and one that is far off is pushed the right way, while it can be."""
    logits, truth = row(*prediction).requires_grad_(), row(*truth)
    found = summed(one_class(options, exclusive), exclusive, channels(logits, exclusive), truth)
    assert torch.isfinite(found)
    slope = gradient(found, logits)
    assert torch.isfinite(slope).all()
    assert (slope[truth == 1] <= 0).all()
    assert (slope[truth == 0] >= 0).all()
    wrong = (logits > 0) != (truth == 1)
    if wrong.any() and logits.abs().max() < 10:
        assert slope[wrong].abs().max() > 0


@each_loss
@pytest.mark.parametrize("beside", [0.0, 1.0], ids=["in an all-empty batch", "beside an image with foreground"])
def test_foreground_predicted_on_an_empty_image_is_punished(options, exclusive, beside):
    truth = torch.zeros(2, 2, 4, 4)
    truth[1, 0, :2] = beside
    quiet = torch.where(truth == 1, 4.0, -4.0)
    loud = quiet.clone()
    loud[0, 0, 0, 0] = 3.0
    loud.requires_grad_()
    found = summed(options, exclusive, channels(loud, exclusive), truth)
    assert found > summed(options, exclusive, channels(quiet, exclusive), truth)
    assert gradient(found, loud)[0, 0, 0, 0] > 0


@each_loss
def test_nothing_is_lost_where_truth_and_prediction_are_both_empty(options, exclusive):
    empty = torch.zeros(2, 2, 3, 3)
    found = summed(options, exclusive, channels(torch.full_like(empty, -200.0), exclusive), empty)
    assert float(found) == pytest.approx(0, abs=1e-12)


@each_loss
def test_an_empty_prediction_of_a_target_costs_and_is_pulled_up(options, exclusive):
    truth = torch.zeros(2, 2, 4, 4)
    truth[1, 0, 1], truth[1, 1, 2] = 1, 1
    logits = torch.full_like(truth, -4.0).requires_grad_()
    found = summed(options, exclusive, channels(logits, exclusive), truth)
    assert found > 0.005
    slope = gradient(found, logits)
    assert (slope[truth == 1] < 0).any()
    assert not (slope[truth == 1] > 0).any()


# the sum


def test_weights_sum():
    logits, truth = row(-1, 2, 0.5, -3), row(0, 1, 0, 1)
    options = recipe.Loss(bce=0.5, dice=2, focal=3, lovasz=0.25, positive_weight=3, focal_gamma=1.5)
    expected = (
        0.5 * binary_cross_entropy(logits, truth, positive_weight=3.0)
        + 2 * dice_loss(logits.sigmoid(), truth)
        + 3 * binary_focal_loss(logits, truth, gamma=1.5, positive_weight=3.0)
        + 0.25 * lovasz_hinge(logits, truth)
    )
    assert float(weighted_loss(options, logits, truth)) == pytest.approx(float(expected))


def test_every_loss_of_a_recipe_can_be_named():
    known = {name for options, _ in CASES.values() for name in options if name in recipe.LOSSES}
    assert known == set(recipe.LOSSES), "or the tests here leave one out"


@each_loss
def test_a_weight_multiplies(options, exclusive):
    logits, truth, weight = half_usable(exclusive)
    doubled = {name: 2 * value if name in recipe.LOSSES else value for name, value in options.items()}
    once, twice = (summed(chosen, exclusive, logits, truth, weight) for chosen in (options, doubled))
    assert torch.allclose(2 * once, twice)


@pytest.mark.parametrize("name", ["binary_cross_entropy", "dice_loss", "binary_focal_loss", "lovasz_hinge"])
def test_a_loss_of_weight_0_is_not_computed(name, monkeypatch):
    def not_asked_for(*_: object, **__: object) -> Tensor:
        raise AssertionError("a loss of weight 0 was computed")

    monkeypatch.setattr(losses, name, not_asked_for)
    loss = {"binary_cross_entropy": "bce", "dice_loss": "dice", "binary_focal_loss": "focal", "lovasz_hinge": "lovasz"}
    others = {other: 1 for other in loss.values() if other != loss[name]}
    assert torch.isfinite(summed(others, False, row(-1, 2), row(0, 1)))


@each_loss
def test_losses_are_computed_in_float32_whatever_the_network_ran_in(options, exclusive):
    noise = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn((2, 2 + exclusive, 32, 32), generator=noise)).bfloat16().requires_grad_()
    truth = torch.rand((2, 2, 32, 32), generator=noise) < 0.2
    loss = summed(options, exclusive, logits, truth.to(torch.uint8))
    assert loss.dtype == torch.float32
    assert torch.equal(loss, summed(options, exclusive, logits.float(), truth.float()))
    assert torch.isfinite(gradient(loss, logits)).all()


@pytest.mark.parametrize(
    ("options", "exclusive"),
    [case for name, case in CASES.items() if "softmax" not in name],
    ids=[name for name in CASES if "softmax" not in name],
)
def test_weights_keep_their_meaning_when_the_batch_size_changes(options, exclusive):
    """The same images eight times over: the same loss, but for the pixel of smoothing of an overlap."""
    logits, truth, _ = half_usable(exclusive)
    once, eight_times = (
        summed(options, exclusive, logits.repeat(n, 1, 1, 1), truth.repeat(n, 1, 1, 1)) for n in (1, 8)
    )
    assert float(eight_times) == pytest.approx(float(once), rel=0.05)


def test_of_two_exclusive_classes_that_claim_a_pixel_the_later_one_has_it():
    logits = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    both, later = torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2, 2)
    later[:, 0] = 0
    for options in EXCLUSIVE.values():
        assert torch.equal(summed(options, True, logits, both), summed(options, True, logits, later))


def test_areas_leave_the_background_out_unless_it_is_given_a_weight():
    logits, truth, _ = half_usable(True)
    for name in ("dice", "jaccard", "tversky"):
        without, none_for_it, with_it = (
            float(summed({name: 1, "class_weights": weights}, True, logits, truth))
            for weights in (None, (0, 1, 1), (1, 1, 1))
        )
        assert without == pytest.approx(none_for_it)
        assert abs(with_it - without) > 0.01


def test_outlines_count_more():
    truth = torch.zeros(1, 1, 1, 9)
    truth[..., 4:] = 1
    options = {"bce": 1, "boundary": 3, "boundary_px": 1e-3}
    for wrong, counts in ((0, 1), (3, 4), (4, 4), (8, 1)):
        logits = torch.where(truth == 1, 100.0, -100.0)
        logits[..., wrong] *= -1
        assert float(summed(options, False, logits, truth)) == pytest.approx(100 * counts / (7 + 2 * 4))


@pytest.mark.parametrize("which", ["empty", "filled"])
def test_bce_on_some_images(which):
    logits, truth, weight = half_usable(False)
    truth[0, ..., :4] = 0  # foreground in the unusable half is none
    chosen = [0] if which == "empty" else [1]
    options = {"bce": 1, "bce_images": which}
    found = summed(options, False, logits.requires_grad_(), truth, weight)
    assert torch.allclose(found, summed({"bce": 1}, False, logits[chosen], truth[chosen], weight[chosen]))
    neither = truth.clone()
    neither[...] = 0.0 if which == "filled" else 1.0
    found = summed(options, False, logits, neither)
    assert found.item() == 0
    assert not gradient(found, logits).any(), "connected, and no pull"


# pixels that count less, or not at all


def half_usable(exclusive: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and truth of which the right half is not usable, and differs wildly from the left."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2 + exclusive, 6, 8, generator=rng)
    truth = (torch.rand(2, 2, 6, 8, generator=rng) < 0.4).float()
    logits[..., 4:] *= 30
    weight = torch.ones(2, 1, 6, 8)
    weight[..., 4:] = 0
    return logits, truth, weight


@each_loss
def test_an_unusable_pixel_is_as_good_as_absent(options, exclusive):
    logits, truth, weight = half_usable(exclusive)
    logits.requires_grad_()
    found = summed(options, exclusive, logits, truth, weight)
    assert torch.allclose(found, summed(options, exclusive, logits[..., :4], truth[..., :4]))
    slope = gradient(found, logits)
    assert not slope[..., 4:].any()
    assert slope[..., :4].any()


@each_loss
def test_weights_of_one_change_nothing(options, exclusive):
    logits, truth, weight = half_usable(exclusive)
    found = summed(options, exclusive, logits, truth, torch.ones_like(weight))
    assert torch.allclose(found, summed(options, exclusive, logits, truth))


@each_loss
def test_nothing_usable_is_no_loss_and_no_gradient(options, exclusive):
    logits, truth, weight = half_usable(exclusive)
    logits.requires_grad_()
    found = summed(options, exclusive, logits, truth, 0 * weight)
    assert found.item() == 0
    assert not gradient(found, logits).any()


@pytest.mark.parametrize("loss", ["bce", "focal", "dice", "lovasz"])
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


@each_loss
def test_an_image_less_trusted_pulls_less(options, exclusive):
    """Of two copies of one image, its pull is to the other's as the trust in it is; or 0 where hard pixels leave it
    out."""
    logits, truth, _ = half_usable(exclusive)
    logits, truth = logits[:1].repeat(2, 1, 1, 1).requires_grad_(), truth[:1].repeat(2, 1, 1, 1)
    weight = pixel_weight(None, torch.tensor([1.0, 0.25]), logits)
    assert weight is not None
    slope = gradient(summed(options, exclusive, logits, truth, weight), logits)
    assert slope[0].any()
    assert slope[1].norm() < 0.5 * slope[0].norm()


def test_the_weight_of_pixels():
    logits = torch.zeros(2, 3, 2, 2)
    assert pixel_weight(None, torch.ones(2), logits) is None
    valid = torch.tensor([[[1, 0], [1, 1]], [[1, 1], [0, 0]]], dtype=torch.uint8)
    found = pixel_weight(valid, torch.tensor([1.0, 0.5]), logits)
    assert found.shape == (2, 1, 2, 2)
    assert found[:, 0].tolist() == [[[1, 0], [1, 1]], [[0.5, 0.5], [0, 0]]]


def test_how_hard_an_image_is():
    probabilities = torch.tensor([[0.5, 0.25], [0.5, 0.1]]).view(2, 1, 1, 2)
    weight = torch.tensor([[1.0, 0.5], [0.0, 0.0]]).view(2, 1, 1, 2)
    found = image_losses(probabilities, torch.ones(2, 1, 1, 2), weight)
    assert found.tolist() == pytest.approx([-torch.tensor([0.5, 0.25]).log().mean().item(), 0])


# what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"data": {"exclusive": True}, "train": {"stages": [{}, {"loss": {"focal": 1, "class_weights": [1, 6]}}]}},
            "train.stages.1.loss.class_weights: 2 numbers [1.0, 6.0], but there are 3 to weigh: background, rust, "
            "scratch; give one for each, in this order",
        ),
        (
            {"network": {"heads": {"fine": {"loss": {"dice": 1, "class_weights": [1, 2, 3]}}}}},
            "network.heads.fine.loss.class_weights: 3 numbers [1.0, 2.0, 3.0], but there are 2 to weigh: rust, "
            "scratch; give one for each, in this order",
        ),
        (
            {"train": {"stages": [{"loss": {"dice": 1, "class_weights": [0, 0]}}]}},
            "train.stages.0.loss.class_weights: all are 0; give one of rust, scratch a weight",
        ),
    ],
)
def test_class_weights_that_do_not_fit_the_classes_are_refused(options, message):
    if options.get("data"):
        options["train"]["stages"][0] = {"loss": {"cross_entropy": 1, "class_weights": [1, 6, 6]}}
    with pytest.raises(ModelError, match=re.escape(message)):
        check_losses(recipe.Recipe.model_validate(options), ["rust", "scratch"])


def test_class_weights_that_fit_are_taken():
    loss = {"loss": {"dice": 1, "class_weights": [0, 1]}}
    check_losses(recipe.Recipe.model_validate({"train": {"stages": [loss]}}), ["rust", "scratch"])
    loss = {"loss": {"cross_entropy": 1, "class_weights": [1, 6]}}
    check_losses(recipe.Recipe.model_validate({"data": {"exclusive": True}, "train": {"stages": [loss]}}), ["house"])

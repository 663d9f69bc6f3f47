"""Losses of how far two areas overlap, against segmentation_models.pytorch where it agrees, and where it does not."""

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor

from segsmith.losses.overlaps import dice_loss, jaccard_loss, tversky_loss

LOSSES = {"dice": dice_loss, "jaccard": jaccard_loss, "tversky": tversky_loss}
BY_OTHERS = {
    "dice": smp.losses.DiceLoss("multilabel", from_logits=False, smooth=0.0, eps=0),
    "jaccard": smp.losses.JaccardLoss("multilabel", from_logits=False, smooth=0.0, eps=0),
    "tversky": smp.losses.TverskyLoss("multilabel", from_logits=False, smooth=0.0, eps=0, alpha=0.3, beta=0.7),
}
TERMS = {"dice": (0.5, 0.5, 0.5), "jaccard": (1.0, 1.0, 1.0), "tversky": (0.3, 0.7, 1.0)}
"""a, b and s of 1 - (tp + s) / (tp + a fp + b fn + s)."""
each_loss = pytest.mark.parametrize("name", LOSSES)


def made() -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, truth and weights of three images with two classes each, in float64."""
    rng = torch.Generator().manual_seed(0)
    probabilities = torch.rand(3, 2, 4, 5, generator=rng, dtype=torch.float64)
    truth = (torch.rand(3, 2, 4, 5, generator=rng) < 0.4).double()
    weight = torch.rand(3, 1, 4, 5, generator=rng, dtype=torch.float64)
    weight[:, :, :, 3:] = 0
    return probabilities, truth, weight


def test_values_by_hand():
    p, t = torch.tensor([0.5, 0.75]).view(1, 1, 1, 2), torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert float(dice_loss(p, t)) == pytest.approx(1 - (2 * 0.5 + 1) / (1.25 + 1 + 1))
    assert float(jaccard_loss(p, t)) == pytest.approx(1 - (0.5 + 1) / (1.75 + 1))
    found = tversky_loss(p, t, alpha=0.2, beta=0.9)
    assert float(found) == pytest.approx(1 - (0.5 + 1) / (0.5 + 0.2 * 0.75 + 0.9 * 0.5 + 1))


@each_loss
def test_with_foreground_they_are_those_of_segmentation_models(name):
    probabilities, truth, _ = made()
    assert torch.allclose(LOSSES[name](probabilities, truth, smooth=0.0), BY_OTHERS[name](probabilities, truth))


@each_loss
def test_without_foreground_false_positives_are_punished_where_others_ignore_them(name):
    probabilities = made()[0].requires_grad_()
    empty = torch.zeros_like(probabilities)
    assert BY_OTHERS[name](probabilities, empty).item() == 0
    found = LOSSES[name](probabilities, empty)
    a, _, s = TERMS[name]
    seen = probabilities.sum((0, 2, 3))
    assert torch.allclose(found, (a * seen / (a * seen + s)).mean())
    (slope,) = torch.autograd.grad(found, probabilities)
    assert torch.allclose(slope, (a * s / (a * seen + s) ** 2 / 2)[:, None, None].expand_as(slope))


@each_loss
@pytest.mark.parametrize("over", ["batch", "image"])
def test_empty_beside_filled(name, over):
    """Foreground seen on an empty image is punished whatever stands beside it, over the batch and by image."""
    probabilities, truth, _ = made()
    truth[0] = 0
    probabilities.requires_grad_()
    (slope,) = torch.autograd.grad(LOSSES[name](probabilities, truth, over=over), probabilities)
    assert (slope[0] > 0).all()


@each_loss
def test_an_empty_prediction_is_pulled_towards_the_target_and_not_elsewhere(name):
    _, truth, _ = made()
    probabilities = torch.zeros_like(truth, requires_grad=True)
    found = LOSSES[name](probabilities, truth)
    a, b, s = TERMS[name]
    true = truth.sum((0, 2, 3))[:, None, None]
    assert torch.allclose(found, (b * true / (b * true + s)).mean())
    (slope,) = torch.autograd.grad(found, probabilities)
    pulls = torch.where(truth == 1, -b * (true + s), a * s) / (b * true + s) ** 2
    assert torch.allclose(slope, pulls / 2), "the mean over two classes"


@each_loss
@pytest.mark.parametrize("over", ["batch", "image"])
def test_nothing_is_lost_where_both_are_empty(name, over):
    empty = torch.zeros(2, 1, 3, 3)
    assert float(LOSSES[name](empty, empty, over=over)) == 0


def test_alpha_0_never_punishes_a_false_positive():
    """By definition, as the docstring says: on an empty target there is nothing to lose."""
    probabilities, truth, _ = made()
    probabilities.requires_grad_()
    for target in (torch.zeros_like(truth), truth):
        found = tversky_loss(probabilities, target, alpha=0.0, beta=1.0)
        (slope,) = torch.autograd.grad(found, probabilities)
        assert not slope[target == 0].any()
    assert tversky_loss(probabilities, torch.zeros_like(truth), alpha=0.0).item() == 0


def test_tversky_of_halves_is_dice_and_of_ones_jaccard():
    found = made()
    assert torch.allclose(tversky_loss(*found, alpha=0.5, beta=0.5, smooth=0.5), dice_loss(*found, smooth=1.0))
    assert torch.allclose(tversky_loss(*found, alpha=1.0, beta=1.0), jaccard_loss(*found))


@each_loss
def test_over_the_batch_is_of_its_images_side_by_side(name):
    probabilities, truth, weight = made()
    beside = [torch.cat(planes.unbind(0), dim=2)[None] for planes in (probabilities, truth, weight)]
    assert torch.allclose(LOSSES[name](*beside), LOSSES[name](probabilities, truth, weight))


@each_loss
def test_image_by_image_is_the_mean_by_how_much_each_counts(name):
    probabilities, truth, weight = made()
    trust = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64).view(3, 1, 1, 1)
    usable = trust * (weight > 0)
    alone = [LOSSES[name](probabilities[[n]], truth[[n]], usable[[n]]) for n in (0, 1)]
    found = LOSSES[name](probabilities, truth, usable, over="image")
    assert torch.allclose(found, (alone[0] + 0.5 * LOSSES[name](probabilities[[1]], truth[[1]], usable[[1]])) / 1.5)
    assert not torch.allclose(found, (alone[0] + alone[1]) / 2)


@each_loss
@pytest.mark.parametrize("over", ["batch", "image"])
def test_class_weights_are_relative(name, over):
    probabilities, truth, _ = made()
    alone = [LOSSES[name](probabilities[:, [n]], truth[:, [n]], over=over) for n in (0, 1)]
    for scale in (1, 10):
        found = LOSSES[name](probabilities, truth, over=over, class_weights=(3.0 * scale, 1.0 * scale))
        assert torch.allclose(found, (3 * alone[0] + alone[1]) / 4)


@each_loss
@pytest.mark.parametrize("over", ["batch", "image"])
def test_gradients(name, over):
    probabilities, truth, weight = made()
    loss = LOSSES[name]
    assert torch.autograd.gradcheck(
        lambda p: loss(p, truth, weight, over=over, class_weights=(1.0, 3.0)), probabilities.requires_grad_()
    )

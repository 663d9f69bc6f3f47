"""Losses taken pixel by pixel, against torch's, segmentation_models.pytorch's, and numbers by hand."""

import math

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor

from segsmith.losses.cross_entropies import (
    binary_cross_entropy,
    binary_divergence,
    binary_focal_loss,
    cross_entropy,
    divergence,
    focal_loss,
)

BINARY = {"bce": binary_cross_entropy, "focal": binary_focal_loss, "kl": binary_divergence}
EXCLUSIVE = {"cross_entropy": cross_entropy, "focal": focal_loss, "kl": divergence}


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def made(channels: int, *, soft: bool = False, exclusive: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, truth and weights of two images of 5 x 6 pixels, in float64."""
    rng = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, channels, 5, 6, generator=rng, dtype=torch.float64)
    chances = torch.rand(2, channels, 5, 6, generator=rng, dtype=torch.float64)
    if exclusive:
        truth = chances / chances.sum(1, keepdim=True) if soft else planes_of(chances.argmax(1), channels)
    else:
        truth = chances if soft else (chances < 0.3).double()
    weight = torch.rand(2, 1, 5, 6, generator=rng, dtype=torch.float64)
    weight[:, :, :, 4:] = 0
    return logits, truth, weight


def planes_of(labels: Tensor, channels: int) -> Tensor:
    return F.one_hot(labels, channels).permute(0, 3, 1, 2).double()


def test_values_by_hand():
    logits, truth = row(0, math.log(3)), row(1, 0)  # probabilities 1/2 and 3/4
    assert float(binary_cross_entropy(logits, truth)) == pytest.approx((math.log(2) + math.log(4)) / 2)
    found = binary_cross_entropy(logits, truth, positive_weight=3.0)
    assert float(found) == pytest.approx((3 * math.log(2) + math.log(4)) / 2)
    assert float(binary_focal_loss(logits, truth)) == pytest.approx((math.log(2) / 4 + math.log(4) * 9 / 16) / 2)
    soft = row(0.5, 0.25)  # the first as predicted, the second predicted as 3/4
    assert float(binary_divergence(logits, soft)) == pytest.approx((0.25 * math.log(1 / 3) + 0.75 * math.log(3)) / 2)


@pytest.mark.parametrize("class_weights", [None, (1.0, 6.0, 0.5)])
def test_cross_entropy_is_that_of_torch(class_weights):
    logits, truth, _ = made(3, exclusive=True)
    weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float64)
    expected = F.cross_entropy(logits, truth.argmax(1), weight=weights)
    assert torch.allclose(cross_entropy(logits, truth, class_weights=class_weights), expected)


def test_an_ignored_pixel_is_torchs_ignore_index():
    logits, truth, weight = made(3, exclusive=True)
    labels = truth.argmax(1).masked_fill(weight[:, 0] == 0, -100)
    assert torch.allclose(cross_entropy(logits, truth, (weight > 0).double()), F.cross_entropy(logits, labels))


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.5])
def test_binary_focal_loss_is_that_of_segmentation_models(gamma):
    logits, truth, _ = made(2)
    expected = smp.losses.FocalLoss("multilabel", gamma=gamma)(logits, truth)
    assert torch.allclose(binary_focal_loss(logits, truth, gamma=gamma), expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_weighs_each_pixel_by_how_far_its_class_is_missed(gamma):
    logits, truth, _ = made(3, exclusive=True)
    chance = (logits.softmax(1) * truth).sum(1)
    factor = 1 + 2 * (truth[:, 0] == 0)
    expected = (factor * (1 - chance) ** gamma * -chance.log()).mean()
    assert torch.allclose(focal_loss(logits, truth, gamma=gamma, positive_weight=3.0), expected)


def test_focal_losses_with_gamma_0_are_cross_entropies():
    logits, truth, weight = made(3)
    expected = binary_cross_entropy(logits, truth, weight, positive_weight=3.0)
    assert torch.allclose(binary_focal_loss(logits, truth, weight, gamma=0.0, positive_weight=3.0), expected)
    logits, truth, weight = made(3, exclusive=True)
    expected = cross_entropy(logits, truth, weight, class_weights=(1.0, 2.0, 3.0))
    assert torch.allclose(focal_loss(logits, truth, weight, gamma=0.0, class_weights=(1.0, 2.0, 3.0)), expected)


@pytest.mark.parametrize("class_weights", [None, (1.0, 6.0, 0.5)])
def test_divergences_from_hard_labels_are_cross_entropies(class_weights):
    logits, truth, weight = made(3)
    expected = binary_cross_entropy(logits, truth, weight, class_weights=class_weights)
    assert torch.allclose(binary_divergence(logits, truth, weight, class_weights=class_weights), expected)
    logits, truth, weight = made(3, exclusive=True)
    expected = cross_entropy(logits, truth, weight, class_weights=class_weights)
    assert torch.allclose(divergence(logits, truth, weight, class_weights=class_weights), expected)


def test_divergence_is_that_of_torch_and_0_at_the_labels():
    logits, truth, _ = made(3, soft=True, exclusive=True)
    expected = F.kl_div(logits.log_softmax(1), truth, reduction="none").sum(1).mean()
    assert torch.allclose(divergence(logits, truth), expected)
    assert float(divergence(truth.log(), truth)) == pytest.approx(0, abs=1e-12)
    logits, truth, _ = made(3, soft=True)
    assert float(binary_divergence(truth.logit(), truth)) == pytest.approx(0, abs=1e-12)
    assert float(binary_divergence(logits, truth)) > 0.1


def test_the_weights_of_classes_that_may_overlap_are_relative():
    logits, truth, _ = made(2)
    alone = [binary_cross_entropy(logits[:, [n]], truth[:, [n]]) for n in (0, 1)]
    found = binary_cross_entropy(logits, truth, class_weights=(3.0, 1.0))
    assert torch.allclose(found, (3 * alone[0] + alone[1]) / 4)
    assert torch.allclose(found, binary_cross_entropy(logits, truth, class_weights=(30.0, 10.0)))


def test_weights_of_each_class_and_pixel():
    logits, truth, _ = made(2)
    weight = torch.zeros_like(logits)
    weight[0, 1, 2, 3], weight[1, 0, 0, 0] = 3, 1
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    assert torch.allclose(binary_cross_entropy(logits, truth, weight), (3 * each[0, 1, 2, 3] + each[1, 0, 0, 0]) / 4)


# hard pixels


def test_the_hardest_pixels_that_count_make_the_mean():
    logits, truth, weight = made(2)
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    counted = weight.expand_as(each)
    order = (each * counted).flatten().argsort(descending=True)[: math.ceil(0.1 * (counted > 0).sum())]
    expected = (each * counted).flatten()[order].sum() / counted.flatten()[order].sum()
    assert torch.allclose(binary_cross_entropy(logits, truth, weight, top_k=0.1), expected)


def test_easy_pixels_have_no_gradient_under_top_k():
    logits, truth, _ = made(3, exclusive=True)
    logits.requires_grad_()
    cross_entropy(logits, truth, top_k=0.2).backward()
    assert logits.grad is not None
    each = F.cross_entropy(logits.detach(), truth.argmax(1), reduction="none")
    moved = logits.grad.abs().sum(1) > 0
    assert int(moved.sum()) == math.ceil(0.2 * each.numel())
    assert each[moved].min() > each[~moved].max()


def test_the_smallest_share_is_one_pixel():
    logits, truth = row(-1, 2, 3), row(0, 0, 0)
    assert float(binary_cross_entropy(logits, truth, top_k=1e-6)) == pytest.approx(math.log(1 + math.exp(3)))


# gradients


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("class_weights", [None, (2.0, 0.5)])
def test_gradients_of_binary_losses(name, class_weights):
    logits, truth, weight = made(2, soft=True)
    loss = BINARY[name]
    assert torch.autograd.gradcheck(
        lambda x: loss(x, truth, weight, class_weights=class_weights), logits.requires_grad_()
    )


@pytest.mark.parametrize("name", EXCLUSIVE)
@pytest.mark.parametrize("class_weights", [None, (2.0, 0.5, 1.0)])
def test_gradients_of_exclusive_losses(name, class_weights):
    logits, truth, weight = made(3, soft=True, exclusive=True)
    loss = EXCLUSIVE[name]
    assert torch.autograd.gradcheck(
        lambda x: loss(x, truth, weight, class_weights=class_weights), logits.requires_grad_()
    )


def test_gradients_of_hard_pixels():
    logits, truth, weight = made(2)
    loss = lambda x: binary_focal_loss(x, truth, weight, positive_weight=2.0, top_k=0.3)  # noqa: E731
    assert torch.autograd.gradcheck(loss, logits.requires_grad_())


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0])
def test_focal_gradients_are_finite_for_every_gamma(gamma):
    values = torch.tensor([-1e4, -200, -50, 0, 50, 200, 1e4])
    logits = torch.stack([torch.zeros(7), values]).view(1, 2, 1, 7).repeat(2, 1, 1, 1).requires_grad_()
    truth = torch.zeros(2, 2, 1, 7)
    truth[0, 0], truth[1, 1] = 1, 1
    for loss in (focal_loss, binary_focal_loss):
        found = loss(logits, truth, gamma=gamma)
        (slope,) = torch.autograd.grad(found, logits)
        assert torch.isfinite(found)
        assert torch.isfinite(slope).all()


# images without foreground


def test_each_pixel_of_an_empty_image_is_pushed_to_background():
    logits = row(-5, -1, 0, 3).requires_grad_()
    (slope,) = torch.autograd.grad(binary_cross_entropy(logits, row(0, 0, 0, 0)), logits)
    assert (slope > 0).all()


def test_easy_pixels_of_an_empty_image_weigh_almost_nothing_in_the_focal_loss():
    easy, empty = row(-5, -5, -6, -7), row(0, 0, 0, 0)
    assert binary_focal_loss(easy, empty) < 1e-4 * binary_cross_entropy(easy, empty)


def test_a_background_of_weight_0_leaves_false_positives_on_empty_images_unpunished():
    """By definition, as the docstring says."""
    logits = made(2)[0].requires_grad_()
    empty = torch.zeros_like(logits)
    empty[:, 0] = 1
    found = cross_entropy(logits, empty, class_weights=(0.0, 1.0))
    assert found.item() == 0
    assert not torch.autograd.grad(found, logits)[0].any()

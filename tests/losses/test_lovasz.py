"""The Lovasz extension against its definition, over all orders of pixels, and against segmentation_models.pytorch."""

import itertools
import math

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segsmith.losses.lovasz import lovasz_hinge, lovasz_softmax

logit = st.floats(-6, 6, width=32)
batches = st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 4)).flatmap(
    lambda size: st.tuples(
        st.lists(logit, min_size=math.prod(size), max_size=math.prod(size)).map(lambda x: shaped(x, size)),
        st.lists(st.booleans(), min_size=math.prod(size), max_size=math.prod(size)).map(lambda x: shaped(x, size)),
    )
)
sizes = st.sampled_from([0.0, 0.25, 1.0])


def shaped(values: list, size: tuple[int, int, int]) -> Tensor:
    """Values as float32 (batch, classes, 1, width)."""
    batch, classes, width = size
    return torch.tensor(values, dtype=torch.float32).reshape(batch, classes, 1, width)


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


def slow_extension(errors: list[float], foreground: set[int], sizes: list[float]) -> float:
    """The largest value over all orders in which pixels may go wrong, one after another."""
    return max(
        sum(
            errors[pixel] * (lost(set(order[: n + 1]), foreground, sizes) - lost(set(order[:n]), foreground, sizes))
            for n, pixel in enumerate(order)
        )
        for order in itertools.permutations(range(len(errors)))
    )


def lost(wrong: set[int], foreground: set[int], sizes: list[float]) -> float:
    """1 - IoU of a prediction that is right but for the pixels `wrong`, each of a size of its own."""
    union = sum(sizes[pixel] for pixel in foreground | wrong)
    return sum(sizes[pixel] for pixel in wrong) / union if union else 0.0


def slow_hinge(logits: Tensor, truth: Tensor, sizes: list[float], slope: str) -> float:
    values = []
    for scores, labels in zip(logits.flatten(0, 1).flatten(1), truth.flatten(0, 1).flatten(1), strict=True):
        foreground = {n for n, label in enumerate(labels.tolist()) if label}
        margins = [1 - x if n in foreground else 1 + x for n, x in enumerate(scores.double().tolist())]
        below = {"relu": lambda x: 0.0, "elu": math.exp}[slope]
        errors = [error + (slope == "elu") if error > 0 else below(error) for error in margins]
        values.append(slow_extension(errors, foreground, sizes))
    return float(np.mean(values))


@settings(max_examples=40)
@given(batch=batches, slope=st.sampled_from(["relu", "elu"]), weights=st.lists(sizes, min_size=4, max_size=4))
def test_hinge_is_the_extension_per_image_and_class(batch, slope, weights):
    logits, truth = batch
    width = logits.shape[3]
    found = lovasz_hinge(logits, truth, slope=slope)
    assert float(found) == pytest.approx(slow_hinge(logits, truth, [1.0] * width, slope), rel=1e-4, abs=1e-5)
    weight = torch.tensor(weights[:width]).expand(len(logits), 1, 1, width)
    expected = slow_hinge(logits, truth, weights[:width], slope) if any(weights[:width]) else 0.0
    assert float(lovasz_hinge(logits, truth, weight, slope=slope)) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@settings(max_examples=40)
@given(
    scores=st.lists(st.tuples(logit, logit, logit), min_size=1, max_size=5),
    labels=st.lists(st.integers(0, 2), min_size=5, max_size=5),
    weights=st.lists(sizes, min_size=5, max_size=5),
)
def test_softmax_is_the_extension_per_class_present_over_the_batch(scores, labels, weights):
    count = len(scores)
    probabilities = torch.tensor(scores).softmax(1)  # pixels are images here: all of one batch
    truth = F.one_hot(torch.tensor(labels[:count]), 3).float()
    values = []
    for channel in range(3):
        foreground = {n for n in range(count) if labels[n] == channel}
        errors = (probabilities - truth)[:, channel].abs().double().tolist()
        if any(weights[n] for n in foreground):
            values.append(slow_extension(errors, foreground, weights[:count]))
    found = lovasz_softmax(
        probabilities[:, :, None, None], truth[:, :, None, None], torch.tensor(weights[:count]).view(-1, 1, 1, 1)
    )
    assert float(found) == pytest.approx(np.mean(values) if values else 0.0, rel=1e-4, abs=1e-5)


def made(channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels and weights of three images, in float64."""
    rng = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3, channels, 4, 5, generator=rng, dtype=torch.float64)
    labels = torch.randint(0, channels, (3, 4, 5), generator=rng)
    weight = torch.rand(3, 1, 4, 5, generator=rng, dtype=torch.float64)
    weight[:, :, :, 3:] = 0
    return logits, labels, weight


def planes_of(labels: Tensor, channels: int) -> Tensor:
    return F.one_hot(labels, channels).permute(0, 3, 1, 2).double()


def test_both_are_those_of_segmentation_models():
    logits, labels = made(3)[0].float(), made(3)[1]
    expected = smp.losses.LovaszLoss("multiclass", per_image=False)(logits, labels)
    assert torch.allclose(lovasz_softmax(logits.softmax(1), planes_of(labels, 3).float()), expected)
    logits, truth = logits[:, :1], (labels == 1).float()[:, None]
    expected = smp.losses.LovaszLoss("binary", per_image=True)(logits, truth)
    assert torch.allclose(lovasz_hinge(logits, truth, slope="relu"), expected)


def test_values_by_hand():
    logits, truth = row(0, math.log(3)), row(1, 0)
    # errors 1 + ln 3 (background) and 1 (foreground), elu + 1 adds one to each; wrong one after the other, half the
    # union is lost, then all of it
    assert float(lovasz_hinge(logits, truth)) == pytest.approx(0.5 * (2 + math.log(3)) + 0.5 * 2)
    assert float(lovasz_hinge(logits, truth, slope="relu")) == pytest.approx(0.5 * (1 + math.log(3)) + 0.5)


def test_symmetric_is_the_mean_with_that_of_the_background():
    logits, truth = row(-1, 2, 0.5, -3), row(0, 1, 0, 1)
    of_background = lovasz_hinge(-logits, 1 - truth, slope="relu")
    found = lovasz_hinge(logits, truth, slope="relu", symmetric=True)
    assert torch.allclose(found, (lovasz_hinge(logits, truth, slope="relu") + of_background) / 2)
    assert torch.allclose(found, lovasz_hinge(-logits, 1 - truth, slope="relu", symmetric=True))


def test_class_weights_are_relative():
    logits, labels, _ = made(2)
    truth = planes_of(labels, 2)
    alone = [lovasz_hinge(logits[:, [n]], truth[:, [n]]) for n in (0, 1)]
    for scale in (1, 10):
        found = lovasz_hinge(logits, truth, class_weights=(3.0 * scale, 1.0 * scale))
        assert torch.allclose(found, (3 * alone[0] + alone[1]) / 4)
    probabilities = logits.softmax(1)
    alone = [lovasz_softmax(probabilities, truth, class_weights=weights) for weights in ((1.0, 0.0), (0.0, 1.0))]
    found = lovasz_softmax(probabilities, truth, class_weights=(3.0, 1.0))
    assert torch.allclose(found, (3 * alone[0] + alone[1]) / 4)


def test_an_image_counts_as_its_heaviest_pixel():
    logits = made(1)[0]
    truth = torch.ones(3, 1, 4, 5, dtype=torch.float64)
    trust = torch.tensor([1.0, 0.25, 0.0], dtype=torch.float64).view(3, 1, 1, 1)
    alone = [lovasz_hinge(logits[[n]], truth[[n]]) for n in (0, 1)]
    found = lovasz_hinge(logits, truth, trust.expand(3, 1, 4, 5))
    assert torch.allclose(found, (alone[0] + 0.25 * alone[1]) / 1.25)


def test_every_pixel_of_a_large_image_is_pushed_the_right_way():
    """But for background that is less wrong than all foreground: the loss cannot grow any more. In float32, four in ten
    of these pixels are not pushed at all."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 1, 768, 768, generator=rng).requires_grad_()
    truth = (torch.rand(1, 1, 768, 768, generator=rng) < 0.01).float()
    (slope,) = torch.autograd.grad(lovasz_hinge(logits, truth), logits)
    assert (slope[truth == 1] < 0).all()
    matters = (truth == 0) & (-logits < logits[truth == 1].max())
    assert matters.float().mean() > 0.9
    assert (slope[matters] > 0).all()


@pytest.mark.parametrize("slope", ["relu", "elu"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_gradients_of_the_hinge(slope, symmetric):
    logits, labels, weight = made(2)
    truth = planes_of(labels, 2)
    loss = lambda x: lovasz_hinge(x, truth, weight, slope=slope, symmetric=symmetric)  # noqa: E731
    assert torch.autograd.gradcheck(loss, logits.requires_grad_())


def test_gradients_of_the_softmax():
    logits, labels, weight = made(3)
    truth = planes_of(labels, 3)
    loss = lambda x: lovasz_softmax(x.softmax(1), truth, weight, class_weights=(1.0, 2.0, 3.0))  # noqa: E731
    assert torch.autograd.gradcheck(loss, logits.requires_grad_())


# empty images


def slope_of(loss: Tensor, logits: Tensor) -> list[float]:
    return torch.autograd.grad(loss, logits)[0].flatten().tolist()


@pytest.mark.parametrize(("slope", "more"), [("relu", 0), ("elu", 1)])
def test_on_an_empty_image_the_most_confident_false_positive_is_punished_alone(slope, more):
    logits, truth = row(-2, 1.5, 0.7, -4).requires_grad_(), row(0, 0, 0, 0)
    found = lovasz_hinge(logits, truth, slope=slope)
    assert float(found) == pytest.approx(1 + 1.5 + more)
    assert slope_of(found, logits) == [0, 1, 0, 0]
    right = float(lovasz_hinge(logits - 4, truth, slope=slope))
    assert right == pytest.approx(math.exp(1 - 2.5) if slope == "elu" else 0), "the largest is -2.5: right"


def test_symmetric_punishes_every_false_positive_on_an_empty_image():
    logits, truth = row(-2, 1.5, 0.7, -4).requires_grad_(), row(0, 0, 0, 0)
    found = lovasz_hinge(logits, truth, slope="relu", symmetric=True)
    assert slope_of(found, logits) == pytest.approx([0, (1 + 1 / 4) / 2, 1 / 8, 0])


@pytest.mark.parametrize(("slope", "more"), [("relu", 0), ("elu", 1)])
def test_an_empty_prediction_of_a_target(slope, more):
    logits, truth = row(-3, -3, -3, -3).requires_grad_(), row(1, 1, 0, 0)
    found = lovasz_hinge(logits, truth, slope=slope)
    assert float(found) == pytest.approx(1 + 3 + more)
    assert slope_of(found, logits) == [-0.5, -0.5, 0, 0], "all is lost before the others could go wrong"


def test_elu_does_not_let_go_of_pixels_that_are_right():
    logits, truth = row(2, 3, -2, -3).requires_grad_(), row(1, 1, 0, 0)
    pulls = slope_of(lovasz_hinge(logits, truth), logits)
    assert pulls[0] < 0 > pulls[1]
    assert pulls[2] > 0
    assert not any(slope_of(lovasz_hinge(logits, truth, slope="relu"), logits))


def test_softmax_on_an_empty_batch_punishes_what_is_seen_through_the_background():
    logits = made(3)[0].requires_grad_()
    probabilities = logits.softmax(1)
    empty = planes_of(torch.zeros(3, 4, 5, dtype=torch.long), 3)
    found = lovasz_softmax(probabilities, empty)
    assert torch.allclose(found, (1 - probabilities[:, 0]).mean())
    (slope,) = torch.autograd.grad(found, logits)
    assert (slope[:, 1:] > 0).all()
    assert (slope[:, 0] < 0).all()
    certain = torch.zeros(3, 3, 4, 5)
    certain[:, 0] = 1
    assert float(lovasz_softmax(certain, certain)) == 0


def test_softmax_with_a_background_of_weight_0_leaves_false_positives_on_an_empty_batch():
    """By definition, as the docstring says."""
    probabilities = made(3)[0].softmax(1).requires_grad_()
    empty = planes_of(torch.zeros(3, 4, 5, dtype=torch.long), 3)
    found = lovasz_softmax(probabilities, empty, class_weights=(0.0, 1.0, 1.0))
    assert float(found) == 0
    assert not any(slope_of(found, probabilities))


def test_softmax_of_an_empty_prediction_loses_all_of_each_class_that_is_missed():
    truth = planes_of(torch.tensor([[[0, 0, 1, 2]]]), 3)
    nothing = torch.zeros_like(truth)
    nothing[:, 0] = 1
    of_background = 2 / 4  # of the union of what is and what is said to be background
    assert float(lovasz_softmax(nothing, truth)) == pytest.approx((1 + 1 + of_background) / 3)

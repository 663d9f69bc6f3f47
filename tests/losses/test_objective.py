"""Outputs of all heads -> one number, and the probabilities they mean; with outputs made by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from segsmith.errors import ModelError
from segsmith.losses.losses import weighted_loss
from segsmith.losses.objective import class_probabilities, most_probable, objective, plane_probabilities
from segsmith.recipe import Loss, Recipe

RNG = torch.Generator().manual_seed(0)
BATCH, CLASSES, HW = 3, 2, (4, 5)
MASKS = torch.randn(BATCH, CLASSES, *HW, generator=RNG)
TRUTH = (torch.rand(BATCH, CLASSES, *HW, generator=RNG) < 0.4).float()
TRUTH[1] = 0


def made(heads: dict[str, dict[str, Any]], stage: dict[str, Any] | None = None, **data: Any) -> Recipe:
    stages = [{"loss": {"cross_entropy": 1} if data.get("exclusive") else {"bce": 1}, **(stage or {})}]
    return Recipe.model_validate({"network": {"heads": heads}, "train": {"stages": stages}, "data": data})


def found(options: Recipe, *args: Any, **further: Any) -> Tensor:
    return objective(options, options.train.stages[0], *args, **further)


def of_head(options: Recipe, outputs: dict[str, Tensor], *args: Any, **further: Any) -> Tensor:
    """What the heads add to the loss of the mask."""
    return found(options, {"mask": MASKS, **outputs}, *args, **further) - found(made({}), {"mask": MASKS}, *args)


def output(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).requires_grad_()


def test_without_heads_it_is_the_loss_of_the_mask():
    options = made({}, {"loss": {"bce": 1, "lovasz": 2}})
    loss = options.train.stages[0].loss
    assert torch.equal(found(options, {"mask": MASKS}, TRUTH), weighted_loss(loss, MASKS, TRUTH))


def test_exclusive_classes_have_a_channel_for_the_background():
    options = made({}, exclusive=True)
    logits = output(BATCH, CLASSES + 1, *HW)
    expected = weighted_loss(options.train.stages[0].loss, logits, TRUTH, exclusive=True)
    assert torch.equal(found(options, {"mask": logits}, TRUTH), expected)


def test_a_mask_head_has_a_loss_of_its_own_or_that_of_the_stage():
    second = output(BATCH, CLASSES, *HW)
    stage = made({}).train.stages[0].loss
    for loss in ({"dice": 1}, None):
        options = made({"second": {"weight": 0.5, "loss": loss}})
        own = options.network.heads["second"].loss or stage
        added = of_head(options, {"second": second}, TRUTH)
        assert torch.allclose(added, 0.5 * weighted_loss(own, second, TRUTH))


def test_a_stage_replaces_the_weights_it_names():
    second, third = output(BATCH, CLASSES, *HW), output(BATCH, CLASSES, *HW) + 1
    options = made({"second": {"weight": 0.5}, "third": {"weight": 2}}, {"heads": {"second": 3}})
    loss = options.train.stages[0].loss
    added = of_head(options, {"second": second, "third": third}, TRUTH)
    assert torch.allclose(added, 3 * weighted_loss(loss, second, TRUTH) + 2 * weighted_loss(loss, third, TRUTH))


def test_a_head_of_weight_0_is_left_out():
    options = made({"depth": {"kind": "scale"}}, {"heads": {"depth": 0}})
    assert of_head(options, {}, TRUTH) == 0, "not even its output is looked for"


def test_deep_supervision_is_the_mean_over_levels():
    levels = output(BATCH, 3, CLASSES, *HW)
    options = made({"deep": {"kind": "deep"}})
    each = [weighted_loss(options.train.stages[0].loss, levels[:, n], TRUTH) for n in range(3)]
    assert torch.allclose(of_head(options, {"deep": levels}, TRUTH), sum(each, torch.zeros(())) / 3)


@pytest.mark.parametrize("kind", ["mask", "deep"])
@pytest.mark.parametrize("loss", [{"bce": 1}, {"dice": 1, "over": "image"}, {"lovasz": 1}])
def test_filled_takes_images_with_usable_foreground_alone(kind, loss):
    options = made({"extra": {"kind": kind, "images": "filled", "loss": loss}})
    own = options.network.heads["extra"].loss
    assert own is not None
    logits = output(BATCH, CLASSES, *HW)
    outputs = {"extra": logits if kind == "mask" else logits[:, None]}
    filled = [0, 2]
    assert torch.allclose(of_head(options, outputs, TRUTH), weighted_loss(own, logits[filled], TRUTH[filled]))
    weight = torch.ones(BATCH, 1, *HW)
    weight[0] = 0  # so that none of its foreground is usable
    added = of_head(options, outputs, TRUTH, weight)
    assert torch.allclose(added, weighted_loss(own, logits[[2]], TRUTH[[2]]), atol=1e-6)


def test_filled_in_a_batch_without_foreground_is_0_and_connected():
    options = made({"deep": {"kind": "deep", "images": "filled", "loss": {"bce": 1, "dice": 1, "lovasz": 1}}})
    levels = output(BATCH, 2, CLASSES, *HW)
    added = of_head(options, {"deep": levels}, torch.zeros_like(TRUTH))
    assert added.item() == 0
    (slope,) = torch.autograd.grad(added, levels)
    assert not slope.any()


def test_presence_asks_of_each_class_whether_it_is_there():
    options = made({"there": {"kind": "presence"}})
    truth = torch.zeros_like(TRUTH)
    truth[0, 0, 1, 1] = truth[2, 1, 3, 4] = 1
    logits = output(BATCH, CLASSES)
    chance = logits.sigmoid()
    right = torch.stack([chance[0, 0], 1 - chance[0, 1], *(1 - chance[1]), 1 - chance[2, 0], chance[2, 1]])
    assert torch.allclose(of_head(options, {"there": logits}, truth), -right.log().mean(), atol=1e-6)


def test_presence_knows_nothing_of_unusable_pixels_and_images():
    options = made({"there": {"kind": "presence"}})
    truth, weight = torch.zeros_like(TRUTH), torch.ones(BATCH, 1, *HW)
    truth[0, 0, 0, 0], weight[0, 0, 0, 0] = 1, 0  # the only foreground
    weight[1], weight[2] = 0, 0.5
    logits = output(BATCH, CLASSES)
    added = of_head(options, {"there": logits}, truth, weight)
    absent = -(1 - logits.sigmoid()).log().mean(1)
    assert torch.allclose(added, (absent[0] + 0.5 * absent[2]) / 1.5, atol=1e-6)
    assert not torch.autograd.grad(added, logits)[0][1].any()


def test_scale_is_the_smooth_l1_of_its_logarithm():
    options = made({"zoom": {"kind": "scale", "weight": 2}})
    zoom = torch.tensor([0.5, -1.0, 3.0])
    added = of_head(options, {"zoom": zoom}, TRUTH, scale=torch.tensor([1.0, 0.5, 2.0]))
    assert float(added) == pytest.approx(2 * (0.5**2 / 2 + 0 + (2 - 0.5)) / 3, rel=1e-4)


def test_scale_without_scales_is_refused():
    options = made({"zoom": {"kind": "scale"}})
    with pytest.raises(ModelError, match=r"network\.heads\.zoom: kind scale needs to know how much each image"):
        found(options, {"mask": MASKS, "zoom": torch.zeros(BATCH)}, TRUTH)


HEADS: dict[str, dict[str, Any]] = {
    "second": {"loss": {"focal": 1, "dice": 1}},
    "deep": {"kind": "deep"},
    "there": {"kind": "presence"},
    "zoom": {"kind": "scale"},
}


@pytest.mark.parametrize("exclusive", [False, True])
def test_four_heads_at_once_each_have_a_gradient_and_an_unusable_image_none(exclusive):
    options = made(HEADS, exclusive=exclusive)
    channels = CLASSES + exclusive
    outputs = {
        "mask": output(BATCH, channels, *HW),
        "second": output(BATCH, channels, *HW),
        "deep": output(BATCH, 2, channels, *HW),
        "there": output(BATCH, CLASSES),
        "zoom": output(BATCH),
    }
    weight = torch.ones(BATCH, 1, *HW)
    weight[2] = 0
    loss = found(options, outputs, TRUTH, weight, torch.ones(BATCH))
    for name, slope in zip(outputs, torch.autograd.grad(loss, list(outputs.values())), strict=True):
        assert torch.isfinite(slope).all(), name
        assert slope[0].any(), name
        assert slope[1].any(), name
        assert not slope[2].any(), name


# probabilities


def test_probabilities_are_the_mean_over_mask_heads_by_their_shares():
    options = made({**HEADS, "second": {"share": 3.0}, "third": {"share": 0.0}})
    second = output(BATCH, CLASSES, *HW).detach()
    outputs = {"mask": MASKS, "second": second, "deep": second[:, None], "there": second[:, :, 0, 0]}
    expected = (MASKS.sigmoid() + 3 * second.sigmoid()) / 4
    assert torch.allclose(class_probabilities(options, outputs), expected)


def test_probabilities_of_exclusive_classes_leave_the_background_out():
    logits = torch.tensor([0.0, math.log(2), math.log(5)]).view(1, 3, 1, 1)
    found = class_probabilities(made({}, exclusive=True), {"mask": logits})
    assert found.flatten().tolist() == pytest.approx([2 / 8, 5 / 8])


PLANES = st.tuples(st.integers(1, 4), st.just(2), st.just(3)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 100, 101, 255]))
)


@given(PLANES)
def test_the_most_probable_class_keeps_its_probability_and_of_equals_the_later(planes):
    alone = most_probable(planes)
    assert alone.dtype == np.uint8
    for row, column in np.ndindex(planes.shape[1:]):
        values = planes[:, row, column].tolist()
        winner = max(range(len(values)), key=lambda n: (values[n], n))
        assert alone[:, row, column].tolist() == [value * (n == winner) for n, value in enumerate(values)]


def test_borders_are_learnt_class_by_class_even_where_classes_exclude_each_other():
    borders = (torch.rand(BATCH, CLASSES, *HW, generator=torch.Generator().manual_seed(3)) < 0.2).float()
    logits = output(BATCH, CLASSES, *HW)
    for loss in ({"bce": 2, "class_weights": [1, 3]}, None):
        head = {"kind": "border", "weight": 0.5} | ({"loss": loss} if loss else {})
        own = Loss(**(loss or {"bce": 1, "dice": 1}))
        added = of_head(made({"edge": head}), {"edge": logits}, TRUTH, borders=borders)
        assert torch.allclose(added, 0.5 * weighted_loss(own, logits, borders))
    exclusive = made({"edge": {"kind": "border"}}, exclusive=True)
    masks = output(BATCH, CLASSES + 1, *HW)
    both = found(exclusive, {"mask": masks, "edge": logits}, TRUTH, borders=borders)
    alone = found(made({}, exclusive=True), {"mask": masks}, TRUTH)
    assert torch.allclose(both - alone, weighted_loss(Loss(bce=1, dice=1), logits, borders))
    planes = plane_probabilities(exclusive, {"mask": masks, "edge": logits})
    assert torch.allclose(planes, torch.cat([masks.softmax(1)[:, 1:], logits.sigmoid()], 1)), "classes, then borders"


def test_borders_that_no_batch_tells_of_are_refused():
    with pytest.raises(ModelError, match="kind border needs to know where objects touch"):
        found(made({"edge": {"kind": "border"}}), {"mask": MASKS, "edge": MASKS}, TRUTH)

"""Learning rates as functions of the step, and which parameters are decayed."""

import math
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from segsmith import recipe
from segsmith.errors import ModelError
from segsmith.modeling.optim import (
    WARMUP_START,
    build_optimizer,
    cycle_ends,
    encoder_stages,
    learning_rate,
    plateau_factor,
    set_learning_rate,
)
from segsmith.networks.networks import IMAGENET_MEAN, IMAGENET_STD, Network, build_network

LR = 0.02
HW = (64, 64)
warmups = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])


def rates(steps: int, epochs: int = 1, **schedule: object) -> list[float]:
    """The learning rate of each step of a stage."""
    stage = recipe.Stage(epochs=epochs, optimizer=recipe.Optimizer(lr=LR), schedule=recipe.Schedule(**schedule))
    return [learning_rate(stage, step, steps) for step in range(steps)]


@pytest.mark.parametrize("name", ["constant", "plateau"])
def test_constant_and_plateau_do_not_depend_on_the_step(name):
    assert rates(7, name=name) == [LR] * 7


def test_one_cycle_at_start_peak_and_end():
    lrs = rates(101, name="onecycle", warmup=0.25, final=0.001)
    assert lrs[0] == pytest.approx(LR * WARMUP_START)
    assert max(lrs) == pytest.approx(LR, rel=1e-3)
    assert lrs.index(max(lrs)) in (25, 26), "after a quarter of the steps"
    assert lrs[-1] == pytest.approx(LR * 0.001)


def test_one_cycle_is_torchs():
    """The same curve; only that torch's reaches its peak one step before a quarter of the steps is over."""
    steps, warmup = 400, 0.25
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LR, steps, pct_start=warmup, div_factor=25, final_div_factor=40, cycle_momentum=False
    )
    for lr in rates(steps, name="onecycle", warmup=warmup, final=0.001):
        assert lr == pytest.approx(theirs.get_last_lr()[0], abs=0.02 * LR)
        optimizer.step()
        theirs.step()


def test_cosine_at_start_peak_and_end():
    lrs = rates(101, name="cosine", warmup=0.1, final=0.05)
    climb = [after - before for before, after in pairwise(lrs[:11])]
    assert climb == [pytest.approx(climb[0])] * len(climb), "a straight line"
    assert lrs[0] == pytest.approx(climb[0]), "that comes from zero"
    assert max(lrs) == pytest.approx(LR, rel=1e-3)
    assert lrs[-1] == pytest.approx(LR * 0.05)


def test_cosine_without_warmup():
    lrs = rates(101, name="cosine", warmup=0, final=0)
    assert lrs[0] == LR
    assert lrs[50] == pytest.approx(LR / 2)
    assert lrs == [pytest.approx(LR * (1 + math.cos(math.pi * step / 100)) / 2) for step in range(101)]


def test_cosine_restarts_are_torchs():
    """Cycles of 10, 20 and 40 epochs; torch's would reach its least one step after the end of each, at the restart."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=100, T_mult=2, eta_min=0.1 * LR)
    for lr in rates(700, name="cosine", warmup=0, cycles=3, growth=2, final=0.1):
        assert lr == pytest.approx(theirs.get_last_lr()[0], abs=0.02 * LR)
        optimizer.step()
        theirs.step()


@settings(max_examples=60)
@given(
    name=st.sampled_from(["cosine", "cyclic"]),
    cycles=st.integers(1, 4),
    growth=st.sampled_from([1.0, 1.5, 2.0]),
    warmup=st.sampled_from([0.0, 0.1, 0.3]),
    steps=st.integers(60, 90),
)
def test_the_rate_is_at_its_least_at_the_end_of_each_cycle_and_nowhere_else(name, cycles, growth, warmup, steps):
    schedule = recipe.Schedule(name=name, cycles=cycles, growth=growth, warmup=warmup, final=0.01)
    ends = cycle_ends(schedule, steps)
    lrs = rates(steps, **schedule.model_dump())
    assert [step + 1 for step, lr in enumerate(lrs) if lr == pytest.approx(0.01 * LR)] == ends
    assert ends[-1] == steps
    if name == "cosine":
        assert [lrs[end] for end in ends[:-1]] == [pytest.approx(LR)] * (cycles - 1), "it restarts at the peak"
    if name == "cyclic":
        lengths = [after - before for before, after in pairwise([0, *ends])]
        assert max(lengths) - min(lengths) <= 1, "growth is for cosine"


def test_cycles_by_hand():
    schedule = recipe.Schedule(name="cosine", warmup=0.1, cycles=3, growth=2)
    assert cycle_ends(schedule, 80) == [18, 39, 80], "72 steps after the warm-up, as 1 : 2 : 4"
    assert cycle_ends(recipe.Schedule(name="onecycle", cycles=3), 80) == []


def test_cyclic_by_hand():
    """Two triangles of four steps: half way, at the peak, half way, at the least."""
    assert rates(8, name="cyclic", cycles=2, final=0.2) == pytest.approx([0.6 * LR, LR, 0.6 * LR, 0.2 * LR] * 2)


def test_noam_climbs_in_a_line_and_falls_with_the_root_of_the_step():
    lrs = rates(100, name="noam", warmup=0.25)
    assert lrs[:25] == pytest.approx([LR * (step + 1) / 25 for step in range(25)])
    assert lrs[24] == LR, "its peak"
    assert lrs[99] == pytest.approx(LR / 2), "four times as many steps, half the rate"
    width, climb = 512, 25
    theirs = [width**-0.5 * min(n**-0.5, n * climb**-1.5) for n in range(1, 101)]
    assert lrs == pytest.approx([LR * rate / max(theirs) for rate in theirs]), "arXiv 1706.03762, section 5.3, scaled"


def test_step_multiplies_after_every_so_many_epochs():
    lrs = rates(35, epochs=7, name="step", every=2, factor=0.5)
    assert lrs == pytest.approx([LR] * 10 + [LR / 2] * 10 + [LR / 4] * 10 + [LR / 8] * 5)


def test_schedules_are_drawn_as_they_are():
    """The little pictures in the documentation: eight epochs of five steps, eight heights."""
    page = Path(__file__).parents[2] / "docs" / "recipes.md"
    drawn = re.findall(r"^\| `(\{name: .*\})` \| `([▁-█]+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert {yaml.safe_load(schedule)["name"] for schedule, _ in drawn} == {
        "constant", "step", "onecycle", "cosine", "cyclic", "noam",
    }  # fmt: skip
    for schedule, picture in drawn:
        lrs = rates(40, epochs=8, **yaml.safe_load(schedule))
        assert picture == "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * lr / LR))] for lr in lrs), schedule


@settings(max_examples=60)
@given(
    name=st.sampled_from(["onecycle", "cosine"]),
    steps=st.integers(1, 60),
    warmup=warmups,
    final=st.sampled_from([0.0, 0.001, 0.1, 1.0]),
)
def test_every_schedule_climbs_once_and_falls_once(name, steps, warmup, final):
    lrs = rates(steps, name=name, warmup=warmup, final=final)
    peak = lrs.index(max(lrs))
    assert all(0 <= lr <= LR * (1 + 1e-9) for lr in lrs)
    assert lrs[: peak + 1] == sorted(lrs[: peak + 1])
    assert lrs[peak:] == sorted(lrs[peak:], reverse=True)
    assert abs(peak - warmup * steps) <= 1
    if steps - 1 - warmup * steps >= 1:
        assert lrs[-1] == pytest.approx(LR * final), "the last step has the last learning rate"


@settings(max_examples=60)
@given(
    scores=st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), max_size=20),
    patience=st.integers(0, 4),
    factor=st.sampled_from([0.1, 0.5, 0.9]),
)
def test_plateau_is_torchs(scores, patience, factor):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=factor, patience=patience, threshold=0, eps=0
    )
    schedule = recipe.Schedule(name="plateau", factor=factor, patience=patience)
    for epoch, score in enumerate(scores):
        assert plateau_factor(schedule, scores[:epoch]) == pytest.approx(optimizer.param_groups[0]["lr"])
        theirs.step(score)
    assert plateau_factor(schedule, scores) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_plateau_by_hand():
    """Patience 1: the second epoch in a row without a better score cuts, and so does every second one after it."""
    schedule = recipe.Schedule(name="plateau", factor=0.5, patience=1)
    scores = [0.3, 0.5, 0.5, 0.4, 0.4, 0.4, 0.6, 0.1]
    factors = [plateau_factor(schedule, scores[:epoch]) for epoch in range(len(scores) + 1)]
    assert factors == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]


@pytest.mark.parametrize("name", ["constant", "onecycle", "cosine"])
def test_only_plateau_looks_at_scores(name):
    assert plateau_factor(recipe.Schedule(name=name), [0.5] * 20) == 1


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.Linear(4, 1))


NAMES = ["sgd", "adam", "adamw", "rmsprop", "adagrad"]
KINDS = [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad]


@pytest.mark.parametrize("name", NAMES)
def test_biases_and_norms_are_not_decayed(name):
    net = network()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.5)
        parameter.grad = torch.zeros_like(parameter)
    build_optimizer(net, recipe.Optimizer(name=name, lr=0.1, weight_decay=0.1), HW).step()
    for key, parameter in net.named_parameters():
        decayed = key in ("0.weight", "2.weight", "4.weight")
        assert (parameter < 0.5).all() if decayed else (parameter == 0.5).all(), key


@pytest.mark.parametrize(("name", "kind"), zip(NAMES, KINDS, strict=True))
def test_the_optimiser_named_over_every_parameter_that_learns(name, kind):
    net = network()
    net[2].weight.requires_grad_(False)
    nesterov = name == "sgd"
    optimizer = build_optimizer(net, recipe.Optimizer(name=name, lr=0.1, momentum=0.7, nesterov=nesterov), HW)
    assert type(optimizer) is kind
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(id(p) for p in net.parameters() if p.requires_grad)
    assert {group["lr"] for group in optimizer.param_groups} == {0.1}
    if name in ("sgd", "rmsprop"):
        assert {group["momentum"] for group in optimizer.param_groups} == {0.7}
    if nesterov:
        assert {group["nesterov"] for group in optimizer.param_groups} == {True}
    set_learning_rate(optimizer, 0.05)
    assert {group["lr"] for group in optimizer.param_groups} == {0.05}


@pytest.mark.parametrize("change", [{"name": "adam"}, {"name": "sgd", "momentum": 0}])
def test_nesterov_without_momentum_is_refused(change):
    with pytest.raises(ValueError, match="nesterov is for sgd with momentum"):
        recipe.Optimizer(nesterov=True, **change)


# the encoder learns at its own rate


def segmenter(encoder: str, depth: int = 5) -> Network:
    options = recipe.Network(encoder=encoder, encoder_weights=None, encoder_depth=depth)
    return build_network(options, 1, IMAGENET_MEAN, IMAGENET_STD)


def rate_of(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The learning rate of each parameter, relative to that of the decoder; those that are frozen are missing."""
    names = {parameter: name for name, parameter in net.named_parameters()}
    return {names[p]: group["lr"] / LR for group in optimizer.param_groups for p in group["params"]}


def test_the_encoder_learns_at_its_share_of_the_rate():
    net = segmenter("tu-test_resnet")
    optimizer = build_optimizer(net, recipe.Optimizer(lr=LR, encoder_lr=0.1), HW)
    set_learning_rate(optimizer, LR)
    found = rate_of(net, optimizer)
    assert found.keys() == dict(net.named_parameters()).keys()
    assert all(rate == pytest.approx(0.1 if ".encoder." in name else 1) for name, rate in found.items())


def test_a_rate_of_nothing_freezes_the_encoder():
    net = segmenter("tu-test_resnet")
    found = rate_of(net, build_optimizer(net, recipe.Optimizer(lr=LR, encoder_lr=0), HW))
    assert found.keys() == {name for name, _ in net.named_parameters() if ".encoder." not in name}
    assert not any(parameter.requires_grad for parameter in net.body.encoder.parameters())


def test_each_stage_of_the_encoder_learns_slower_than_the_next():
    """A ResNet's stages are its stem and its four layers."""
    net = segmenter("resnet18")
    found = rate_of(net, build_optimizer(net, recipe.Optimizer(lr=LR, encoder_lr=0.5, layer_decay=0.8), HW))
    steps = {"conv1": 4, "bn1": 4, "layer1": 3, "layer2": 2, "layer3": 1, "layer4": 0}
    for name, rate in found.items():
        if name.startswith("body.encoder."):
            assert rate == pytest.approx(0.5 * 0.8 ** steps[name.split(".")[2]]), name
        else:
            assert rate == 1, name


@pytest.mark.parametrize(
    ("encoder", "first", "last"),
    [
        ("mit_b0", "patch_embed1.", "block4."),
        ("efficientnet-b0", "_conv_stem.", "_blocks.15."),
        ("vgg11_bn", "features.0.", "features.25."),
        ("tu-convnext_atto", "model.stem_0.", "model.stages_3."),
        ("tu-test_resnet", "model.conv1.", "model.layer4."),
    ],
)
def test_stages_are_found_in_encoders_of_any_build(encoder, first, last):
    net = segmenter(encoder)
    modes = [module.training for module in net.modules()]
    stages = encoder_stages(net, net.body.encoder, HW)
    by_name = {name: stages[parameter] for name, parameter in net.body.encoder.named_parameters()}
    assert {stage for name, stage in by_name.items() if name.startswith(first)} == {0}
    assert {stage for name, stage in by_name.items() if name.startswith(last)} == {max(by_name.values())}
    assert set(by_name.values()) == set(range(max(by_name.values()) + 1))
    assert [module.training for module in net.modules()] == modes
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("change", [{"encoder_lr": 0.1}, {"layer_decay": 0.5}])
def test_a_network_without_encoder_has_no_rate_for_it(change):
    with pytest.raises(ModelError, match="for networks with an encoder"):
        build_optimizer(network(), recipe.Optimizer(**change), HW)

"""Learning rates as functions of the step, and which parameters are decayed."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from segsmith import recipe
from segsmith.modeling.optim import WARMUP_START, build_optimizer, learning_rate, plateau_factor, set_learning_rate

LR = 0.02
warmups = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])


def rates(steps: int, **schedule: object) -> list[float]:
    """The learning rate of each step of a stage."""
    stage = recipe.Stage(optimizer=recipe.Optimizer(lr=LR), schedule=recipe.Schedule(**schedule))
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


@settings(deadline=None, max_examples=60)
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


@settings(deadline=None, max_examples=60)
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


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_biases_and_norms_are_not_decayed(name):
    net = network()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.5)
        parameter.grad = torch.zeros_like(parameter)
    build_optimizer(net, recipe.Optimizer(name=name, lr=0.1, weight_decay=0.1)).step()
    for key, parameter in net.named_parameters():
        decayed = key in ("0.weight", "2.weight", "4.weight")
        assert (parameter < 0.5).all() if decayed else (parameter == 0.5).all(), key


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_the_optimiser_named_over_every_parameter_that_learns(name, kind):
    net = network()
    net[2].weight.requires_grad_(False)
    optimizer = build_optimizer(net, recipe.Optimizer(name=name, lr=0.1, momentum=0.7))
    assert type(optimizer) is kind
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(id(p) for p in net.parameters() if p.requires_grad)
    assert {group["lr"] for group in optimizer.param_groups} == {0.1}
    if name == "sgd":
        assert {group["momentum"] for group in optimizer.param_groups} == {0.7}
    set_learning_rate(optimizer, 0.05)
    assert {group["lr"] for group in optimizer.param_groups} == {0.05}

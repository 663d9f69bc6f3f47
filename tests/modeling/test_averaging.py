"""Weights of many steps -> one network: when they go in, what the mean is, what its batch norms know."""

import copy

import pytest
import torch
from torch import nn

from segsmith import recipe
from segsmith.modeling.averaging import averaged_after, equal_mean, follow, measure_norms, running_average


@pytest.mark.parametrize(
    ("swa", "schedule", "expected"),
    [
        (0.5, {"name": "constant"}, [24, 32, 40]),
        (0.3, {"name": "constant"}, [32, 40]),  # 1.5 of 5 epochs, rounded up
        (0.01, {"name": "onecycle"}, [40]),
        (1, {"name": "step"}, [8, 16, 24, 32, 40]),
        (1, {"name": "cosine", "warmup": 0, "cycles": 1}, [8, 16, 24, 32, 40]),
        (0.5, {"name": "cosine", "warmup": 0, "cycles": 4}, [30, 40]),
        (1, {"name": "cyclic", "cycles": 3}, [13, 27, 40]),
        (None, {"name": "cyclic", "cycles": 3}, []),
    ],
)
def test_the_last_epochs_or_cycles_go_into_the_mean(swa, schedule, expected):
    """Of five epochs of eight steps each."""
    stage = recipe.Stage(epochs=5, swa=swa, schedule=recipe.Schedule(**schedule))
    assert averaged_after(stage, 40) == expected


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))


def test_all_weights_of_an_equal_mean_count_alike():
    net = network()
    mean = equal_mean(net)
    for value in (1.0, 2.0, 6.0):
        nn.init.constant_(net[0].weight, value)
        mean.update_parameters(net)
    assert torch.allclose(mean.module[0].weight, torch.full((4, 3, 1, 1), 3.0))
    assert int(mean.n_averaged) == 3


def test_a_running_average_follows():
    """The first weights as they are; then by 2/11 and 3/12 of what was, as the limit of 0.9 is not yet reached."""
    net = network()
    average = running_average(net)
    for value in (1.0, 2.0, 6.0):
        nn.init.constant_(net[0].weight, value)
        follow(average, net, 0.9)
    expected = 3 / 12 * (2 / 11 * 1 + 9 / 11 * 2) + 9 / 12 * 6
    assert torch.allclose(average.module[0].weight, torch.full((4, 3, 1, 1), expected))


def test_norms_are_measured_on_the_images_alone():
    """The mean over batches of what each batch holds, whatever was known before."""
    net = network()
    net[1].running_mean += 100
    batches = [torch.randn(5, 3, 6, 6) + shift for shift in (0, 3, 8)]
    measure_norms(net, batches)
    inner = [net[0](batch) for batch in batches]
    assert torch.allclose(net[1].running_mean, torch.stack([x.mean((0, 2, 3)) for x in inner]).mean(0), atol=1e-5)
    assert torch.allclose(net[1].running_var, torch.stack([x.var((0, 2, 3)) for x in inner]).mean(0), atol=1e-4)
    assert net[1].momentum == 0.1


def test_frozen_norms_stay():
    net = network()
    before = copy.deepcopy(net.state_dict())
    measure_norms(net, [torch.randn(5, 3, 6, 6)], frozen=net[2])
    after = net.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}

"""Recipe -> images a second that this machine trains its network on."""

import time

import numpy as np
import torch

from segsmith.losses.objective import objective
from segsmith.modeling.hardware import choose_hardware
from segsmith.modeling.optim import build_optimizer
from segsmith.networks.networks import build_network
from segsmith.recipe import Recipe


def training_rate(recipe: Recipe, bands: int, classes: int, *, batch: int = 8, steps: int = 3) -> float:
    """Images a second that this machine trains the recipe's network on, without reading them: the median of a few
    steps on noise, from random weights."""
    hardware, stage = choose_hardware(recipe.train), recipe.train.stages[0]
    mean, std, exclusive = [0.5] * bands, [0.25] * bands, recipe.data.exclusive
    network = build_network(recipe.network, classes, mean, std, exclusive=exclusive, weights=False)
    network = network.to(hardware.device).train()
    optimizer = build_optimizer(network, stage.optimizer, recipe.data.input_hw)
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, bands, *recipe.data.input_hw), generator=rng, dtype=torch.uint8)
    truth = torch.randint(0, 2, (batch, classes, *recipe.data.input_hw), generator=rng, dtype=torch.uint8)
    seconds = []
    for _ in range(1 + steps):
        began = time.perf_counter()
        with hardware.autocast():
            outputs = network(images.to(hardware.device))
        loss = objective(recipe, stage, outputs, truth.to(hardware.device), scale=torch.ones(batch))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        float(loss.detach())  # waits for the device
        seconds.append(time.perf_counter() - began)
    return batch / float(np.median(seconds[1:]))

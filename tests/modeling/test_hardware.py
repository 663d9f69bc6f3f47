"""Device and precision for this machine, and for others it is made to look like."""

import pytest
import torch

from segsmith import recipe
from segsmith.modeling.hardware import Hardware, choose_hardware


@pytest.fixture
def machine(monkeypatch):
    """Makes this machine look like another: a CPU with or without bf16, a GPU of some generation."""

    def look(*, amx: bool = False, avx512_bf16: bool = False, gpu: tuple[int, int] | None = None) -> None:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: gpu)

    return look


@pytest.mark.parametrize(
    ("looks", "device", "precision"),
    [
        ({}, "cpu", "fp32"),
        ({"amx": True}, "cpu", "bf16"),
        ({"avx512_bf16": True}, "cpu", "bf16"),
        ({"gpu": (7, 5), "amx": True}, "cuda", "fp32"),  # Turing emulates it
        ({"gpu": (8, 0)}, "cuda", "bf16"),
        ({"gpu": (9, 0)}, "cuda", "bf16"),
        ({"gpu": (12, 0)}, "cuda", "bf16"),
    ],
)
def test_auto_takes_a_gpu_and_bf16_where_they_are(machine, looks, device, precision):
    machine(**looks)
    chosen = choose_hardware(recipe.Train())
    assert (chosen.device.type, chosen.precision) == (device, precision)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("looks", [{}, {"amx": True}, {"gpu": (7, 5)}, {"gpu": (9, 0)}])
def test_a_precision_that_is_said_is_taken(machine, looks, precision):
    machine(**looks)
    assert choose_hardware(recipe.Train(precision=precision)).precision == precision


@pytest.mark.parametrize(
    ("augment_on", "looks", "augments"),
    [
        ("auto", {"amx": True}, False),
        ("auto", {"gpu": (9, 0)}, True),
        ("cpu", {"gpu": (9, 0)}, False),
        ("device", {}, True),
    ],
)
def test_a_gpu_augments_and_a_cpu_only_where_it_is_asked_to(machine, augment_on, looks, augments):
    machine(**looks)
    assert choose_hardware(recipe.Train(augment_on=augment_on)).augments == augments


def test_this_machine_answers():
    chosen = choose_hardware(recipe.Train())
    assert chosen.precision in ("fp32", "bf16")
    assert chosen.name


@pytest.mark.parametrize(("precision", "computed"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_that_precision_and_leaves_weights_in_float32(precision, computed):
    layer = torch.nn.Conv2d(3, 4, 1)
    with Hardware(torch.device("cpu"), precision).autocast():
        assert layer(torch.ones(1, 3, 2, 2)).dtype == computed
    assert layer.weight.dtype == torch.float32

"""What this machine multiplies fast -> device and precision."""

import platform
from dataclasses import dataclass

import torch

from segsmith import recipe


@dataclass(frozen=True)
class Hardware:
    """Where tensors live and what convolutions are computed in; weights stay float32."""

    device: torch.device
    precision: str
    """'fp32' or 'bf16' (autocast)."""
    augments: bool = False
    """Whether samples are augmented there, a batch at a time."""

    @property
    def name(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        threads = torch.get_num_threads()
        return f"{threads} {'thread' if threads == 1 else 'threads'} of {platform.machine()}"

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def choose_hardware(options: recipe.Train) -> Hardware:
    """A GPU if there is one, and bf16 where it multiplies it natively: on CPUs with AMX or AVX512-BF16, on GPUs since
    Ampere.

    Elsewhere bf16 is emulated: on a CPU with AVX2 alone it was seen to train 18 times slower than fp32. A CPU augments
    samples faster one by one, by OpenCV.
    """
    if torch.cuda.is_available():
        device, fast = torch.device("cuda"), torch.cuda.get_device_capability() >= (8, 0)
    else:
        device, fast = torch.device("cpu"), _cpu_multiplies_bf16()
    precision = options.precision
    if precision == "auto":
        precision = "bf16" if fast else "fp32"
    on = options.augment_on
    return Hardware(device, precision, augments=on == "device" or (on == "auto" and device.type == "cuda"))


def _cpu_multiplies_bf16() -> bool:
    return bool(
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    )  # torch has no public name for it

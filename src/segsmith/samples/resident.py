"""Rows of samples -> the same on a device, where they stay as they come, as far as there is room."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from segsmith.samples.rows import Facts, Form

MOST_OF_FREE = 0.6
"""Share of a device's free memory that samples may take: validation, or another process, may want some of it."""
BEFORE_ROOM = 2
"""Batches that are made before free memory is measured: by then a network has learnt from one of them."""

Rows = UInt8[Tensor, "samples bytes"]


class Resident:
    """The untouched samples of one size that lie on a device. Nothing ever leaves."""

    def __init__(
        self,
        form: Form,
        chips: int,
        wanted: int,
        device: torch.device,
        free_bytes: Callable[[torch.device], int] | None = None,
    ):
        """For `wanted` of `chips` at the most. `free_bytes` measures a device's free memory; by default a GPU's, and
        none of a CPU, whose samples lie in its memory as it is."""
        self.form, self.wanted, self.device = form, wanted, device
        self.here: Bool[Tensor, " chips"] = torch.zeros(chips, dtype=torch.bool)
        """Which chips lie on the device. Workers look at it, so as not to send them."""
        self.here.share_memory_()  # type: ignore[no-untyped-call]
        self._free_bytes = free_bytes or _free_bytes
        self._batches = 0
        self._rows: Rows | None = None
        self._places: dict[int, int] = {}
        self._facts: list[Facts] = []

    def next_batch(self) -> None:
        """To be called before each batch: when a network has learnt from one, there is room for samples."""
        if self._batches == 0 and self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        if self._batches == BEFORE_ROOM:
            count = min(self.wanted, int(MOST_OF_FREE * self._free_bytes(self.device)) // self.form.row_bytes)
            try:
                self._rows = torch.empty(count, self.form.row_bytes, dtype=torch.uint8, device=self.device)
            except torch.OutOfMemoryError:  # another process was faster
                self._rows = None
        self._batches += 1

    def keep(self, chips: Mapping[int, int], rows: Rows, facts: Sequence[Facts]) -> None:
        """Keep samples, while there is room: chips, and which of the rows, on the device, and facts are theirs."""
        first, room = len(self._places), 0 if self._rows is None else len(self._rows)
        new = [chip for chip in chips if chip not in self._places][: max(0, room - first)]
        if self._rows is None or not new:
            return
        self._rows[first : first + len(new)] = rows[numbers_on(self.device, [chips[chip] for chip in new])]
        self._places |= {chip: first + number for number, chip in enumerate(new)}
        self._facts += [facts[chips[chip]] for chip in new]
        self.here[new] = True

    def rows(self, chips: Sequence[int]) -> tuple[Rows, list[Facts]]:
        """Those of chips that lie there."""
        assert self._rows is not None
        places = [self._places[chip] for chip in chips]
        return self._rows[numbers_on(self.device, places)], [self._facts[place] for place in places]


def numbers_on(device: torch.device, numbers: Sequence[int]) -> Int64[Tensor, " numbers"]:
    """Numbers on a device, which nobody waits for."""
    tensor = torch.tensor(numbers, dtype=torch.int64)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _free_bytes(device: torch.device) -> int:
    """Of a GPU what nobody took, and what torch took but did not need since the first batch."""
    if device.type != "cuda":
        return 0
    unused = torch.cuda.memory_reserved(device) - torch.cuda.max_memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused

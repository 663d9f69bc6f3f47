"""Recipe -> the largest batch that fits into memory, or the smallest that trains as fast as any."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from segsmith.data.dataset import Dataset
from segsmith.errors import DataError, ModelError
from segsmith.modeling.hardware import choose_hardware
from segsmith.modeling.train import check_recipe
from segsmith.recipe import Recipe
from segsmith.tuning.training_rate import training_rate

SMALLEST = 2
"""Norms of batches need two images where a network pools them to a pixel."""
LARGEST = 4096
"""No batch is looked for beyond it."""
OF_FREE = 0.8
"""Share of the memory free on a machine without a GPU that a batch may take, unless another limit is told."""
NEAR = 0.05
"""What a rate may lie below the best one's and still be as good."""
ROUNDS = 3
"""How often each size is timed, while there is time."""
STEPS = 2
"""Steps of a size that are timed at once, after one that is not."""
GIB = 2**30


@dataclass(frozen=True)
class Tried:
    """Training steps with a batch: whether they fit, and if they were made, images a second and the peak of memory."""

    batch: int
    fits: bool
    images_per_second: float
    gib: float


def find_batch(
    dataset: Path,
    recipe: Recipe,
    *,
    memory_gib: float | None = None,
    tell: Callable[[Tried], None] = lambda tried: None,
) -> Tried:
    """The largest batch, of one forward pass, whose training steps fit; by doubling, then by bisection.

    On a GPU what fits is tried. A process on a CPU that asks for too much is killed, so there its peak of memory may
    not pass `memory_gib`, by default the present use and OF_FREE of what is free; and a size is not tried at all when
    those before it say what it will need. The largest image of the recipe's stages is taken, of noise, without workers
    and averages. Raises ModelError where not even two images fit, DataError for images of several kinds.
    """
    check_recipe(recipe)
    opened = Dataset.open(dataset)
    bands = set(opened.images["bands"].iloc[opened.labelled].tolist())
    if len(bands) != 1:
        raise DataError(f"{dataset}: labelled images have {', '.join(map(str, sorted(bands)))} bands; a training takes "
                        "images of one kind")  # fmt: skip
    sizes = [stage.input_hw or recipe.data.input_hw for stage in recipe.train.stages]
    largest_hw = max(sizes, key=lambda hw: hw[0] * hw[1])
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"input_hw": largest_hw})})
    finder = _Finder(recipe, bands.pop() + len(recipe.data.extra), len(opened.classes), memory_gib, tell)
    return finder.largest()


def timed_batches(
    recipe: Recipe,
    bands: int,
    classes: int,
    sizes: Sequence[int],
    *,
    seconds: float,
    memory_gib: float | None = None,
) -> list[Tried]:
    """Training steps, on noise, with each of some sizes, ascending, as far as these fit into memory and into `seconds`.

    The first two are always tried. What time is left goes into further rounds, of which the fastest of each size
    stands: whatever else a machine does can only slow a step down, and a pass over all sizes spreads that out. Memory
    is bounded as by `find_batch`. Raises ModelError where not even the first size fits.
    """
    finder = _Finder(recipe, bands, classes, memory_gib, lambda tried: None)
    best: dict[int, Tried] = {}
    began = time.perf_counter()
    for turn in range(ROUNDS):
        for place, size in enumerate(sizes):
            rate = max((one.images_per_second for one in best.values()), default=float("inf"))
            late = time.perf_counter() - began + (STEPS + 1) * size / rate > seconds
            if late and (turn or place > 1):
                break
            fits, found = finder.fits(size), finder.tried[size]
            if size not in best or found.images_per_second > best[size].images_per_second:
                best[size] = found
            if not fits:
                break
    if not best[sizes[0]].fits:
        raise finder.nothing_fits(sizes[0])
    return list(best.values())


def smallest_near_best(tried: Sequence[Tried]) -> Tried:
    """Of sizes that were tried, the smallest that fits and is within NEAR of the best rate."""
    best = max(one.images_per_second for one in tried if one.fits)
    near = [one for one in tried if one.fits and one.images_per_second >= (1 - NEAR) * best]
    return min(near, key=lambda one: one.batch)


class _Finder:
    def __init__(
        self, recipe: Recipe, bands: int, classes: int, memory_gib: float | None, tell: Callable[[Tried], None]
    ):
        self.recipe, self.bands, self.classes, self.tell = recipe, bands, classes, tell
        self.gpu = choose_hardware(recipe.train).device.type == "cuda"
        self.limit = memory_gib or (float("inf") if self.gpu else _used() + OF_FREE * _free())
        self.tried: dict[int, Tried] = {}

    def largest(self) -> Tried:
        batch = SMALLEST
        while batch <= LARGEST and self.fits(batch):
            batch *= 2
        if batch == SMALLEST:
            raise self.nothing_fits(SMALLEST)
        low, high = batch // 2, batch
        while high - low > max(1, low // 16):  # finer than that, no training is the better for it
            middle = (low + high) // 2
            low, high = (middle, high) if self.fits(middle) else (low, middle)
        return self.tried[low]

    def nothing_fits(self, smallest: int) -> ModelError:
        height, width = self.recipe.data.input_hw
        into = f" into {self.limit:.3g} GiB" if self.limit < float("inf") else ""
        return ModelError(
            f"not even {smallest} images of {height} x {width} pixels fit{into}; lower data.input_hw, or take a "
            "smaller network"
        )

    def fits(self, batch: int) -> bool:
        if batch > LARGEST:
            return False
        expected = self._expected_gib(batch)
        found = Tried(batch, False, 0.0, expected) if expected > self.limit else self._try(batch)
        self.tried[batch] = found
        self.tell(found)
        return found.fits

    def _try(self, batch: int) -> Tried:
        try:
            _forget_peak(self.gpu)
            rate = training_rate(self.recipe, self.bands, self.classes, batch=batch, steps=STEPS)
        except (torch.OutOfMemoryError, MemoryError):
            return Tried(batch, False, 0.0, float("nan"))
        except RuntimeError as error:
            if "DefaultCPUAllocator" not in str(error):
                raise
            return Tried(batch, False, 0.0, float("nan"))
        finally:
            if self.gpu:
                torch.cuda.empty_cache()
        peak = _peak(self.gpu)
        return Tried(batch, peak <= self.limit, rate, peak)

    def _expected_gib(self, batch: int) -> float:
        """Of a size not tried yet, along a straight line through the two largest that were; 0 before there are two."""
        made = sorted((size, tried.gib) for size, tried in self.tried.items() if tried.images_per_second)
        if len(made) < 2 or self.gpu:
            return 0.0
        (small, less), (large, more) = made[-2:]
        return more + max(0.0, (more - less) / (large - small)) * (batch - large)


def _forget_peak(gpu: bool) -> None:
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak of resident memory begins anew


def _peak(gpu: bool) -> float:
    """GiB."""
    return torch.cuda.max_memory_allocated() / GIB if gpu else _status("VmHWM")


def _used() -> float:
    return _status("VmRSS")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[1]) * 1024 / GIB


def _free() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024 / GIB

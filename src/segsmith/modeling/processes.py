"""Processes that train one network together: what each takes of a batch, and how their parts become one again.

Whatever is computed over a batch - losses, norms' statistics, gradients - is computed over all of it, so how many
processes there are changes sums by no more than their rounding. Alone, a process does nothing here.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from segsmith.errors import RecipeError, RunError
from segsmith.networks.networks import Outputs
from segsmith.samples.batches import Batch

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """All processes of a training, as the one of number `rank` sees them. Every method is called by all of them, in the
    same order, but for `part`. One that does not answer any more raises RunError in the others."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and talks."""
        return self.rank == 0

    def part(self, batch: Sequence[Value], passes: int) -> list[Value]:
        """This one's of a batch that is gone through in so many passes: of each pass as much as the others have; all of
        it where there are no others, whether it divides by the passes or not."""
        if self.count == 1:
            return list(batch)
        size = len(batch) // (passes * self.count)
        starts = [(number * self.count + self.rank) * size for number in range(passes)]
        return [one for start in starts for one in batch[start : start + size]]

    def check_divides(self, batch_size: int, passes: int) -> None:
        """Raise RecipeError for a batch that cannot be shared out evenly."""
        shares = passes * self.count
        if self.count > 1 and batch_size % shares:
            each = f"{self.count} processes" + (f" of {passes} passes each (train.accumulate)" if passes > 1 else "")
            raise RecipeError(
                f"train.batch_size: {batch_size} images of a batch do not split evenly over {each}; set it to a "
                f"multiple of {shares}, such as {-(-batch_size // shares) * shares}"
            )

    def whole(self, batch: Batch, outputs: Outputs) -> tuple[Batch, Outputs]:
        """A pass, of this one's part of it: all its samples and what the networks made of them, on the device of the
        outputs. Gradients flow through this one's own outputs alone; `add_gradients` brings the others'."""
        if self.count == 1:
            return batch, outputs
        device = next(iter(outputs.values())).device
        there = self.each((batch.valid is not None, batch.soft is not None))
        if batch.valid is None and any(valid for valid, _ in there):
            batch = replace(batch, valid=torch.ones_like(batch.masks[:, 0]))
        if batch.soft is None and any(soft for _, soft in there):
            batch = replace(batch, soft=255 * batch.masks)
        values = {column.name: getattr(batch, column.name) for column in fields(batch)}
        del values["images"]  # nobody asks for them any more
        gathered = {n: self._gathered(value.to(device)) for n, value in values.items() if value is not None}
        return replace(batch, **gathered), {name: self._gathered(output) for name, output in outputs.items()}

    def add_gradients(self, network: nn.Module) -> None:
        """Make every parameter's gradient the sum over all processes."""
        with_gradient = [p.grad for p in network.parameters() if p.grad is not None]
        if self.count > 1 and with_gradient:
            flat = torch.cat([gradient.reshape(-1) for gradient in with_gradient])
            self._together(dist.all_reduce, flat)
            for gradient, summed in zip(
                with_gradient, torch.split(flat, [g.numel() for g in with_gradient]), strict=True
            ):
                gradient.copy_(summed.view_as(gradient))

    def norms(self) -> AbstractContextManager[Any]:
        """Within it, batch norms in training take their statistics over the samples of all processes."""
        return nullcontext() if self.count == 1 else _SharedNorms(self)

    def any(self, said: bool) -> bool:
        """Whether one of them says so."""
        return any(self.each(said))

    def each(self, value: Value) -> list[Value]:
        """The values of all of them, by rank."""
        values: list[Any] = [value] * self.count
        if self.count > 1:
            self._together(dist.all_gather_object, values, value)
        return values

    def same(self, make: Callable[[], Value]) -> Value:
        """What the first one makes, for all of them."""
        values: list[Any] = [make() if self.first else None]
        if self.count > 1:
            self._together(dist.broadcast_object_list, values)
        return values[0]  # type: ignore[no-any-return]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all of them, which gradients flow through."""
        return _Sum.apply(tensor, self)  # type: ignore[no-any-return]

    def _gathered(self, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.count)]
        self._together(dist.all_gather, parts, tensor.detach().contiguous())
        parts[self.rank] = tensor
        return torch.cat(parts)

    def _together(self, collective: Callable[..., Any], *arguments: Any) -> None:
        try:
            collective(*arguments)
        except RuntimeError as error:
            raise self._lost(error) from error

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Raise RunError where torch, within it, waits for one that does not answer any more."""
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and "gloo" not in str(error):
                raise
            raise self._lost(error) from error

    def _lost(self, error: RuntimeError) -> RunError:
        return RunError(
            f"one of the {self.count} processes of this training ended or does not answer "
            f"({str(error).splitlines()[0]}); what it said stands above, if it could; the same command continues "
            "from the last checkpoint"
        )


ALONE = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes that torchrun, or `launch.py`, started together with this one; this one alone where none did."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"process {os.environ.get('RANK')} of {count} does not reach the others ({str(error).splitlines()[0]}); "
            "start all of them with torchrun, on machines that reach one another"
        ) from error
    try:
        yield Processes(dist.get_rank(), count)
    finally:
        dist.destroy_process_group()


class _Sum(torch.autograd.Function):
    """The loss of each process counts its own outputs alone, so the gradient of a sum is the sum of gradients too."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        total = tensor.detach().clone()
        processes._together(dist.all_reduce, total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.contiguous().clone()
        ctx.processes._together(dist.all_reduce, total)
        return total, None


class _SharedNorms(TorchFunctionMode):
    """Puts another batch norm in the place of torch's, whichever module calls it (torch's SyncBatchNorm knows no CPU,
    and timm's norms that hold an activation are none it would replace)."""

    def __init__(self, processes: Processes):
        super().__init__()
        self.processes = processes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.batch_norm:
            return self._batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        over = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        values = input.float()
        values_in_all = self.processes.count * input.numel() // input.shape[1]
        mean = self.processes.sum(values.sum(over)) / values_in_all
        centred = values - mean.view(shape)
        variance = self.processes.sum(centred.square().sum(over)) / values_in_all
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean), momentum)
                unbiased = variance * (values_in_all / max(1, values_in_all - 1))
                running_var.lerp_(unbiased.to(running_var), momentum)
        normed = centred * (variance + eps).rsqrt().view(shape)
        if weight is not None:
            normed = normed * weight.view(shape)
        if bias is not None:
            normed = normed + bias.view(shape)
        return normed.to(input.dtype)

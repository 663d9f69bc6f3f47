"""What networks are to see -> whether it may hold anything, by a look that costs little."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8

from segsmith.data.images import resized_image
from segsmith.errors import ModelError
from segsmith.modeling.bundle import Bundle, Skip
from segsmith.prediction.chip_rows import ChipBatch
from segsmith.prediction.network_calls import NetworkCall, as_batch
from segsmith.recipe import Recipe
from segsmith.types import HW, InputImage

Extra = UInt8[np.ndarray, " extra"]

Worth = Callable[[UInt8[np.ndarray, "chips input_height input_width bands"], Extra], Bool[np.ndarray, " chips"]]
"""Which chips of one image may hold something; beside them the levels of its further channels."""


class Passed(NamedTuple):
    """What was computed of an image, and what was not."""

    chips: int = 1
    """Chips, or the image as a whole, that went through all networks, flips and scales."""
    skipped: int = 0
    """Chips, or the image as a whole, that a first look ruled out."""


def first_values(
    call: NetworkCall, recipe: Recipe, classes: int, images: Sequence[InputImage], extra: Sequence[Extra], scale: float
) -> Float32[np.ndarray, " images"]:
    """The highest probability 0..1 of any class in each image, all of one size, by a network that sees it once, its
    sides shrunk to `scale` of theirs. It is a function of the image alone, whichever others it is looked at with."""
    hw = _looked_at_hw((images[0].shape[0], images[0].shape[1]), scale, call.stride)
    shrunk = [resized_image(image, hw) for image in images]
    with torch.inference_mode():
        said = call(as_batch(shrunk, extra, call.device, recipe.predict.batch_size))
        highest = said.planes[: len(images), :classes].amax(dim=(1, 2, 3))
    return np.asarray(highest.float().cpu().numpy())


def worthwhile(
    batches: Iterable[ChipBatch],
    worth: Callable[[UInt8[np.ndarray, "_chips _height _width _bands"]], Bool[np.ndarray, " _chips"]],
    batch_size: int,
) -> Iterator[ChipBatch]:
    """The batches without the chips that are not worth it, filled up again within each row of chips: networks see as
    many chips at once as without a first look."""
    windows, pixels, skipped = [], None, 0
    for batch in batches:
        kept = worth(batch.pixels) if batch.windows else np.zeros(0, bool)
        windows += [window for window, keep in zip(batch.windows, kept, strict=True) if keep]
        more = batch.pixels[kept]
        pixels = more if pixels is None else np.concatenate([pixels, more])
        skipped += int(np.sum(~kept))
        while len(windows) > batch_size:
            yield ChipBatch(windows[:batch_size], pixels[:batch_size], windows[0].top)
            windows, pixels = windows[batch_size:], pixels[batch_size:]
        if batch.last:
            yield ChipBatch(windows, pixels, batch.rows, batch.blank, last=True, skipped=skipped)
            windows, pixels, skipped = [], None, 0


def check_skip(bundle: Bundle, name: object, *, by_chips: bool) -> Skip:
    """What the bundle's decision lets predictions skip. Raises ModelError where it was decided without, and where
    networks see an image as chips of several kinds, `by_chips`, of which a first look knows one."""
    skip = bundle.decision.skip
    if skip is None:
        raise ModelError(
            f"{name}: was decided without a share of the foreground that may be lost to skipping; first: segsmith "
            "decide RUN --skip-loss 0.01"
        )
    if by_chips and (bundle.parts or len(bundle.recipe.predict.scales) > 1):
        what = "several runs combined" if bundle.parts else "several scales (predict.scales)"
        raise ModelError(
            f"{name}: {what} see a raster, or an image that is cut into chips, each by chips of its own, and a first "
            "look rules out those of one; predict without skipping"
        )
    return skip


def _looked_at_hw(hw: HW, scale: float, stride: int) -> HW:
    """The nearest size that the network sees; the own one, whatever the stride, at scale 1."""
    if scale == 1:
        return hw
    height, width = (max(1, round(side * scale / stride)) * stride for side in hw)
    return height, width

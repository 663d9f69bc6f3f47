"""A chip -> Sample: pixels and truth at the size the network sees, and the way back."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import UInt8

from segsmith import recipe
from segsmith.data.augment import apply_change, draw_change
from segsmith.data.chips import Chips
from segsmith.data.images import resized_image, resized_mask
from segsmith.errors import DataError
from segsmith.types import HW, Image, InputClassMask, InputImage, InputMask, InputProbabilities, Mask, Probabilities


@dataclass(frozen=True)
class Sample:
    """One chip as the network sees it, with its truth and which pixels are usable; all of `input_hw` pixels."""

    image: InputImage
    mask: InputMask
    valid: InputClassMask | None = None
    """None where every pixel is, the common case."""


def read_sample(chips: Chips, chip: int) -> Sample:
    """A chip and its truth, brought to `input_hw`. Raises DataError for a file that broke, or an image too large to
    pad."""
    found, options = chips.read(chip), chips.options
    valid = None if found.valid.all() else fit_mask(found.valid[None], options)[0]
    return Sample(fit_image(found.image, options), fit_mask(found.mask, options), valid)


def augmented(sample: Sample, augment: recipe.Augment, options: recipe.Data, rng: np.random.Generator) -> Sample:
    """The sample after one augmentation drawn from `rng`."""
    change = draw_change(augment, options.input_hw, rng)
    return Sample(*apply_change(change, sample.image, sample.mask, sample.valid, options.padding))


def with_extra(sample: Sample, levels: UInt8[np.ndarray, " extra"]) -> Sample:
    """The sample with one more channel for each level, of that level everywhere."""
    planes = np.broadcast_to(levels, (*sample.image.shape[:2], len(levels)))
    return replace(sample, image=np.concatenate([sample.image, planes], axis=2))


def fit_image(image: Image, options: recipe.Data) -> InputImage:
    """An image brought to `input_hw`: resized (by area when it shrinks), or padded around its centre."""
    if options.fit == "pad":
        return _padded(image, options)
    return resized_image(image, options.input_hw)


def fit_mask(mask: Mask, options: recipe.Data) -> InputMask:
    """A mask brought to `input_hw` as its image is; a pixel is foreground when at least half of what it covers is."""
    if options.fit == "pad":
        planes = np.ascontiguousarray(mask.transpose(1, 2, 0)).view(np.uint8)
        return _padded(planes, options).transpose(2, 0, 1).view(bool)
    return resized_mask(mask, options.input_hw)


def unfit_probabilities(probabilities: InputProbabilities, hw: HW, options: recipe.Data) -> Probabilities:
    """Probabilities of `input_hw` cut or resized back to an image of `hw` pixels: the way back of fit_image."""
    if options.fit == "pad":
        (top, _), (left, _) = _margins(hw, options.input_hw)
        return probabilities[:, top : top + hw[0], left : left + hw[1]]
    if hw == options.input_hw:
        return probabilities
    return np.stack([cv2.resize(plane, hw[::-1], interpolation=cv2.INTER_LINEAR) for plane in probabilities])


def _margins(hw: HW, input_hw: HW) -> tuple[tuple[int, int], tuple[int, int]]:
    if hw[0] > input_hw[0] or hw[1] > input_hw[1]:
        raise DataError(
            f"an image of {hw[0]} x {hw[1]} pixels cannot be padded to data.input_hw {input_hw[0]} x {input_hw[1]}; "
            "set input_hw larger, or data.fit=resize"
        )
    rows, columns = input_hw[0] - hw[0], input_hw[1] - hw[1]
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)


def _padded(pixels: UInt8[np.ndarray, "h w c"], options: recipe.Data) -> UInt8[np.ndarray, "input_h input_w c"]:
    margins = (*_margins(pixels.shape[:2], options.input_hw), (0, 0))
    if options.padding == "zero":
        return np.pad(pixels, margins)
    return np.pad(pixels, margins, mode="reflect")

"""A chip -> Sample: pixels and truth at the size the network sees, and the way back."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from segsmith import recipe
from segsmith.data.images import resized_image, resized_mask
from segsmith.data.windows import scaled_hw
from segsmith.errors import DataError
from segsmith.samples.augment import Change
from segsmith.samples.chips import Chips, base_scale
from segsmith.samples.margins import Margins, continued
from segsmith.types import (
    HW,
    Image,
    InputClassMask,
    InputImage,
    InputMask,
    InputProbabilities,
    Mask,
    Probabilities,
)


@dataclass(frozen=True)
class Sample:
    """One chip as the network sees it, with its truth and which pixels are usable; all of `input_hw` pixels."""

    image: InputImage
    mask: InputMask
    """Of each class; behind these, where chips have borders, the border in each class."""
    valid: InputClassMask | None = None
    """None where every pixel is, the common case."""
    scale: float = 0.0
    """Log2 of the enlargement it is seen at: of its chip, beyond what `gsd_m` brings all images to, and by its
    augmentation."""
    soft: InputProbabilities | None = None
    """Of a taught chip, the levels that are learnt in place of the mask, plane by plane; None of any other."""

    @property
    def levels(self) -> InputProbabilities:
        """What is learnt, as levels: the soft labels, or the mask as 0 and 255."""
        return self.mask.view(np.uint8) * np.uint8(255) if self.soft is None else self.soft


Reader = Callable[[int], Sample]
"""Chip number -> its sample, untouched."""


def of_size(options: recipe.Data, input_hw: HW | None) -> recipe.Data:
    """The options for a network that sees `input_hw`; None leaves them. What is resized before it is padded grows or
    shrinks as much as the input does."""
    if input_hw is None or input_hw == options.input_hw:
        return options
    resize_hw = options.resize_hw
    if resize_hw is not None:
        height, width = (
            max(1, round(side * new / old))
            for side, new, old in zip(resize_hw, input_hw, options.input_hw, strict=True)
        )
        resize_hw = height, width
    return options.model_copy(update={"input_hw": input_hw, "resize_hw": resize_hw})


def enlarged(options: recipe.Data, factor: float, hw: HW, stride: int) -> recipe.Data:
    """The options that show a whole image of `hw` pixels so many times as large as these do, to a network that sees
    multiples of `stride`."""
    if factor == 1:
        return options
    height, width = (-(-round(side * factor) // stride) * stride for side in options.input_hw)
    resize_hw = scaled_hw(options.resize_hw or hw, factor) if options.fit == "pad" else None
    return options.model_copy(update={"input_hw": (height, width), "resize_hw": resize_hw})


def read_sample(chips: Chips, chip: int, options: recipe.Data | None = None) -> Sample:
    """A chip and its truth, brought to the `input_hw` of `options`, by default the chips' own. Raises DataError for a
    file that broke, or an image too large to pad."""
    options = options or chips.options
    found = chips.read(chip)
    mask = np.concatenate([found.mask, chips.borders(chip)]) if chips.border_px else found.mask
    valid = None if found.valid.all() else fit_mask(found.valid[None], options)[0]
    scale = 0.0 if chips.whole else _log2_scale(chips, chip)
    soft = chips.soft(chip)
    fitted = None if soft is None else fit_levels(soft, options)
    return Sample(fit_image(found.image, options), fit_mask(mask, options), valid, scale, fitted)


def changed(sample: Sample, change: Change, options: recipe.Data) -> Sample:
    """The sample after an augmentation."""
    image, mask, valid = change.apply(sample.image, sample.mask, sample.valid, options.padding)
    soft = sample.soft
    if soft is not None and change.warp is not None:
        soft = change.warp.levels(soft, options.padding)
    return Sample(image, mask, valid, sample.scale + math.log2(change.zoom), soft)


def with_extra(sample: Sample, levels: UInt8[np.ndarray, " extra"]) -> Sample:
    """The sample with one more channel for each level, of that level everywhere."""
    planes = np.broadcast_to(levels, (*sample.image.shape[:2], len(levels)))
    return replace(sample, image=np.concatenate([sample.image, planes], axis=2))


def fit_image(image: Image, options: recipe.Data) -> InputImage:
    """An image brought to `input_hw`: resized (by area when it shrinks), or padded around its centre, after a resize
    to `resize_hw` where that is given."""
    if options.fit != "pad":
        return resized_image(image, options.input_hw)
    resized = resized_image(image, options.resize_hw or _hw(image))
    margins = _margins(_hw(resized), options.input_hw)
    if options.padding == "biharmonic":
        return continued(resized, margins)
    return np.pad(resized, (*margins, (0, 0)), mode="constant" if options.padding == "zero" else "reflect")


def fit_mask(mask: Mask, options: recipe.Data) -> InputMask:
    """A mask brought to `input_hw` as its image is; a pixel is foreground when at least half of what it covers is.
    Beside an image that goes on smoothly, the outermost pixels of its mask go on."""
    if options.fit != "pad":
        return resized_mask(mask, options.input_hw)
    return _with_margins(resized_mask(mask, options.resize_hw or _hw(mask[0])), options)


def fit_levels(levels: Probabilities, options: recipe.Data) -> InputProbabilities:
    """Soft labels brought to `input_hw` as a mask is, and resized as an image is."""
    planes = np.ascontiguousarray(levels.transpose(1, 2, 0))
    if options.fit != "pad":
        return resized_image(planes, options.input_hw).transpose(2, 0, 1)
    return _with_margins(resized_image(planes, options.resize_hw or _hw(planes)).transpose(2, 0, 1), options)


def unfit_probabilities(
    probabilities: Float32[np.ndarray, "classes input_height input_width"], hw: HW, options: recipe.Data
) -> Float32[np.ndarray, "classes height width"]:
    """Probabilities of `input_hw` brought back to an image of `hw` pixels: the way back of fit_image, which cuts
    margins off first and then resizes (linearly)."""
    if options.fit == "pad":
        height, width = options.resize_hw or hw
        (top, _), (left, _) = _margins((height, width), options.input_hw)
        probabilities = probabilities[:, top : top + height, left : left + width]
    if probabilities.shape[1:] == hw:
        return probabilities
    return np.stack([cv2.resize(plane, hw[::-1], interpolation=cv2.INTER_LINEAR) for plane in probabilities])


def _with_margins(planes: np.ndarray, options: recipe.Data) -> np.ndarray:
    margins = ((0, 0), *_margins(_hw(planes[0]), options.input_hw))
    modes = {"zero": "constant", "reflect": "reflect", "biharmonic": "edge"}
    return np.pad(planes, margins, mode=modes[options.padding])  # type: ignore[call-overload, no-any-return]


def _hw(pixels: np.ndarray) -> HW:
    return pixels.shape[0], pixels.shape[1]


def _margins(hw: HW, input_hw: HW) -> Margins:
    if hw[0] > input_hw[0] or hw[1] > input_hw[1]:
        raise DataError(
            f"an image of {hw[0]} x {hw[1]} pixels cannot be padded to data.input_hw {input_hw[0]} x {input_hw[1]}; "
            "set input_hw larger, or data.fit=resize"
        )
    rows, columns = input_hw[0] - hw[0], input_hw[1] - hw[1]
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)


def _log2_scale(chips: Chips, chip: int) -> float:
    brought = base_scale(chips.dataset, int(chips.image[chip]), chips.options)
    return math.log2(float(chips.scale[chip]) / brought)

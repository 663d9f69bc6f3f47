"""Dataset + recipe -> what is taken off the images: mean and deviation of each channel, or the mean image."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from segsmith.data.dataset import Dataset
from segsmith.data.extra import extra_levels, extra_ranges
from segsmith.eda.profile import band_statistics
from segsmith.errors import ModelError
from segsmith.networks.networks import IMAGENET_MEAN, IMAGENET_STD
from segsmith.progress import track
from segsmith.recipe import Recipe
from segsmith.samples.chips import Chips
from segsmith.samples.samples import read_sample


def normalisation(dataset: Dataset, recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel of images scaled to 0..1, as the recipe asks: bands, then the columns of
    `data.extra`. Raises ModelError where that cannot be."""
    bands = set(dataset.images["bands"])
    if len(bands) > 1 or bands == {0}:
        raise ModelError(
            "the dataset was indexed without its images; inspect it with them"
            if bands == {0}
            else f"images have {', '.join(map(str, sorted(bands)))} bands; one training takes images of one kind"
        )
    count = bands.pop()
    mean, std = _of_bands(dataset, recipe, count)
    levels = extra_levels(dataset.images, recipe.data.extra, extra_ranges(dataset.images, recipe.data.extra)) / 255
    return (*mean, *levels.mean(axis=0).tolist()), (*std, *levels.std(axis=0).tolist())


def _of_bands(dataset: Dataset, recipe: Recipe, count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if recipe.data.normalise == "imagenet":
        if count == 3:
            return IMAGENET_MEAN, IMAGENET_STD
        if count == 1:
            return (sum(IMAGENET_MEAN) / 3,), (sum(IMAGENET_STD) / 3,)
        raise ModelError(
            f"data.normalise=imagenet goes with 1 or 3 bands, the images have {count}; set data.normalise=measured"
        )
    mean, std = band_statistics(dataset)
    return tuple(value / 255 for value in mean), tuple(max(value, 1.0) / 255 for value in std)


def mean_image(
    chips: Chips, training: Int[np.ndarray, " training"], mean: Sequence[float]
) -> Float[Tensor, "bands height width"]:
    """The mean of all training images at the size the network sees, on the scale 0..1, less the mean of each band."""
    total = np.zeros((*chips.options.input_hw, len(mean) - len(chips.options.extra)))
    for chip in track(training.tolist(), "mean image", len(training)):
        total += read_sample(chips, chip).image
    image = np.pad(total / (255 * len(training)), ((0, 0), (0, 0), (0, len(chips.options.extra))))
    bands = total.shape[2]
    image[:, :, :bands] -= np.array(mean[:bands])
    return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))

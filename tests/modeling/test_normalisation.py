"""What is taken off the images: ImageNet's mean and deviation, or those measured; where that cannot be."""

from dataclasses import replace

import numpy as np
import pytest

from segsmith.data.dataset import Dataset
from segsmith.data.ingest_rle import ingest
from segsmith.errors import ModelError
from segsmith.modeling.normalisation import normalisation
from segsmith.networks.networks import IMAGENET_MEAN, IMAGENET_STD
from segsmith.recipe_files import override


def test_normalisation_by_imagenet_or_as_measured(squares, tiny):
    dataset = Dataset.open(squares)
    pixels = np.concatenate([dataset.image(n).reshape(-1, 3) for n in range(len(dataset))]) / 255
    mean, std = normalisation(dataset, tiny)
    assert mean == pytest.approx(pixels.mean(axis=0).tolist())
    assert std == pytest.approx(pixels.std(axis=0).tolist())
    assert normalisation(dataset, override(tiny, ["data.normalise=imagenet"])) == (IMAGENET_MEAN, IMAGENET_STD)


def test_a_deviation_of_nothing_does_not_divide_by_nothing(squares, tiny):
    dataset = Dataset.open(squares)
    black = replace(dataset, images=dataset.images.assign(band_mean=[[0, 0, 0]] * 24, band_std=[[0, 0, 0]] * 24))
    assert normalisation(black, tiny) == ((0, 0, 0), (1 / 255,) * 3)


def test_bands_that_cannot_be_normalised(squares, make_squares, tiny, tmp_path):
    imagenet = override(tiny, ["data.normalise=imagenet"])
    four = Dataset.open(make_squares(tmp_path / "four", bands=4))
    with pytest.raises(ModelError, match=r"1 or 3 bands, the images have 4; set data\.normalise=measured"):
        normalisation(four, imagenet)
    assert len(normalisation(four, tiny)[0]) == 4
    dataset = Dataset.open(squares)
    mixed = replace(dataset, images=dataset.images.assign(bands=[1, 3] * 12))
    with pytest.raises(ModelError, match="images have 1, 3 bands; one training takes images of one kind"):
        normalisation(mixed, tiny)
    labels = ingest(dataset.raw, assume_hw=(32, 32))
    with pytest.raises(ModelError, match="indexed without its images; inspect it with them"):
        normalisation(labels, tiny)

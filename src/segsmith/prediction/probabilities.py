"""Bundle + images -> probabilities of 0..255 at each image's own size, in memory or as PNG files."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from segsmith.data.dataset import Dataset
from segsmith.data.images import read_image
from segsmith.data.samples import fit_image, unfit_probabilities
from segsmith.errors import DataError, ModelError
from segsmith.files import write_bytes
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.hardware import choose_hardware
from segsmith.progress import track
from segsmith.types import Image, Probabilities

View = tuple[bool, bool, bool]
"""Whether an image is transposed, then turned upside down, then mirrored."""

VIEWS: dict[str, tuple[View, ...]] = {
    "none": ((False, False, False),),
    "horizontal": ((False, False, False), (False, False, True)),
    "both": tuple((False, v, h) for v in (False, True) for h in (False, True)),
    "all": tuple((t, v, h) for t in (False, True) for v in (False, True) for h in (False, True)),
}

Item = TypeVar("Item")

Images = list[UInt8[np.ndarray, "_height _width _bands"]]
"""Of any sizes; likewise the probabilities of each."""
ImageProbabilities = list[UInt8[np.ndarray, "classes _height _width"]]


class Predictor:
    """A bundle's network on this machine's hardware; the mean over the recipe's flips is taken of probabilities."""

    def __init__(self, bundle: Bundle):
        self.recipe = bundle.recipe
        self.bands = len(bundle.mean)
        self.hardware = choose_hardware(bundle.recipe.train)
        self.network = bundle.network().to(self.hardware.device)

    def __call__(self, images: Images) -> ImageProbabilities:
        """Probabilities of each image, (classes, its height, its width). Raises ModelError for another number of
        bands."""
        for image in images:
            if image.shape[2] != self.bands:
                raise ModelError(f"the image has {image.shape[2]} bands, the model was trained on {self.bands}")
        fitted = np.stack([fit_image(image, self.recipe.data) for image in images])
        batch = torch.from_numpy(np.ascontiguousarray(fitted.transpose(0, 3, 1, 2))).to(self.hardware.device)
        mean = self._mean_of_views(batch)
        levels = (mean * 255).round().to(torch.uint8).cpu().numpy()
        return [
            unfit_probabilities(of_image, (image.shape[0], image.shape[1]), self.recipe.data)
            for of_image, image in zip(levels, images, strict=True)
        ]

    def stream(self, items: Iterable[tuple[Item, Image]]) -> Iterator[tuple[Item, Image, Probabilities]]:
        """The items with their probabilities, batch by batch, in order."""
        remaining = iter(items)
        while chunk := list(islice(remaining, self.recipe.predict.batch_size)):
            found = self([image for _, image in chunk])
            for (item, image), probabilities in zip(chunk, found, strict=True):
                yield item, image, probabilities

    @torch.inference_mode()
    def _mean_of_views(self, batch: Tensor) -> Tensor:
        views = VIEWS[self.recipe.predict.flips]
        total: Tensor | float = 0.0
        for view in views:
            with self.hardware.autocast():
                logits = self.network(_seen(batch, view))
            total = total + _unseen(torch.sigmoid(logits.float()), view)
        return torch.as_tensor(total / len(views))


class ProbabilityFiles:
    """Probabilities of a run's images as 8-bit grey PNG, one file per image and class; each is whole or not there."""

    def __init__(self, folder: Path, classes: tuple[str, ...]):
        self.folder, self.classes = folder, classes

    def path(self, image_id: str, class_name: str) -> Path:
        return self.folder / class_name / f"{image_id}.png"

    def has(self, image_id: str) -> bool:
        return all(self.path(image_id, name).exists() for name in self.classes)

    def write(self, image_id: str, probabilities: Probabilities) -> None:
        for name, plane in zip(self.classes, probabilities, strict=True):
            write_bytes(self.path(image_id, name), png(plane))

    def read(self, image_id: str) -> Probabilities:
        return np.stack([read_image(self.path(image_id, name))[:, :, 0] for name in self.classes])


def predict_dataset(
    predictor: Predictor, dataset: Dataset, indices: list[int], files: ProbabilityFiles, what: str
) -> None:
    """Fill in the probability files of the images `indices` that are not there yet."""
    ids = dataset.images["image_id"]
    missing = [index for index in indices if not files.has(ids.iloc[index])]
    images = ((index, dataset.image(index)) for index in missing)
    for index, _, probabilities in track(predictor.stream(images), what, len(missing)):
        files.write(ids.iloc[index], probabilities)


def png(plane: np.ndarray) -> bytes:
    """An 8-bit image as PNG, quickly rather than tightly packed. Raises DataError where OpenCV cannot."""
    written, content = cv2.imencode(".png", plane, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not written:
        raise DataError(f"an image of shape {plane.shape} does not encode as PNG")
    return content.tobytes()


def _seen(batch: Tensor, view: View) -> Tensor:
    transpose, upside_down, mirror = view
    batch = batch.transpose(2, 3) if transpose else batch
    return batch.flip([axis for axis, flipped in ((2, upside_down), (3, mirror)) if flipped])


def _unseen(batch: Tensor, view: View) -> Tensor:
    transpose, upside_down, mirror = view
    batch = batch.flip([axis for axis, flipped in ((2, upside_down), (3, mirror)) if flipped])
    return batch.transpose(2, 3) if transpose else batch

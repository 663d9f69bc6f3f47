"""Bundle + images -> probabilities of 0..255 at each image's own size, in memory or as PNG files."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, product
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from segsmith.data.chips import Chips
from segsmith.data.images import read_image, resized_image
from segsmith.data.samples import fit_image, unfit_probabilities
from segsmith.data.windows import Window, scaled_hw
from segsmith.errors import DataError, ModelError
from segsmith.files import write_bytes
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.hardware import choose_hardware
from segsmith.modeling.objective import plane_probabilities, quantised
from segsmith.prediction.sweep import Sweep
from segsmith.progress import track
from segsmith.types import ClassMask, Image, InputImage, Probabilities

View = tuple[bool, bool, bool]
"""Whether an image is transposed, then turned upside down, then mirrored."""

VIEWS: dict[str, tuple[View, ...]] = {
    "none": ((False, False, False),),
    "horizontal": ((False, False, False), (False, False, True)),
    "both": tuple((False, v, h) for v in (False, True) for h in (False, True)),
    "all": tuple((t, v, h) for t in (False, True) for v in (False, True) for h in (False, True)),
}

Item = TypeVar("Item")

Levels = UInt8[np.ndarray, " extra"]
"""Of the channels that stand for numbers of an image; none for a model without."""

Images = list[UInt8[np.ndarray, "_height _width _bands"]]
"""Of any sizes; likewise the probabilities of each."""
ImageProbabilities = list[UInt8[np.ndarray, "planes _height _width"]]


class Predictor:
    """A bundle's networks on this machine's hardware; the mean over them and the recipe's flips is taken of
    probabilities."""

    def __init__(self, bundle: Bundle):
        self.recipe = bundle.recipe
        self.bands = len(bundle.mean) - len(bundle.extra)
        self.planes = bundle.planes
        self.hardware = choose_hardware(bundle.recipe.train)
        self.networks = [network.to(self.hardware.device) for network in bundle.networks()]

    def __call__(self, images: Images, extra: Sequence[Levels] | None = None) -> ImageProbabilities:
        """Probabilities of each image, (planes, its height, its width), of what the bundle's `planes` name; `extra`
        are the levels of its further channels.

        An image larger than a chip goes through the network chip by chip; where chips overlap, their mean is taken.
        Raises ModelError for another number of bands.
        """
        for image in images:
            if image.shape[2] != self.bands:
                raise ModelError(f"the image has {image.shape[2]} bands, the model was trained on {self.bands}")
        options = self.recipe.data
        extra = [np.empty(0, np.uint8)] * len(images) if extra is None else extra
        if options.fit == "chip":
            return [self._by_chips(image, levels) for image, levels in zip(images, extra, strict=True)]
        levels = quantised(self._probabilities([fit_image(image, options) for image in images], extra))
        return [
            unfit_probabilities(of_image, (image.shape[0], image.shape[1]), options)
            for of_image, image in zip(levels, images, strict=True)
        ]

    def stream(self, items: Iterable[tuple[Item, Image, Levels]]) -> Iterator[tuple[Item, Image, Probabilities]]:
        """The items with their probabilities, batch by batch, in order."""
        remaining = iter(items)
        while chunk := list(islice(remaining, self.recipe.predict.batch_size)):
            found = self([image for _, image, _ in chunk], [levels for _, _, levels in chunk])
            for (item, image, _), probabilities in zip(chunk, found, strict=True):
                yield item, image, probabilities

    def of_chips(
        self, chips: UInt8[np.ndarray, "chips input_height input_width bands"], extra: Levels
    ) -> Float32[np.ndarray, "chips planes input_height input_width"]:
        """Probabilities 0..1 of pieces of one image at the size the networks see."""
        return np.asarray(self._probabilities(list(chips), [extra] * len(chips)).cpu().numpy())

    def _by_chips(self, image: Image, extra: Levels) -> Probabilities:
        """Probabilities of an image of any size, from overlapping chips; in memory of the whole image."""
        options = self.recipe.data
        hw = (image.shape[0], image.shape[1])
        seen = resized_image(image, scaled_hw(hw, options.scales[0]))

        def read(window: Window) -> tuple[Image, ClassMask]:
            return seen[window.rows, window.columns], np.ones(window.hw, bool)

        sweep = Sweep(self.recipe, len(self.planes), (seen.shape[0], seen.shape[1]), hw)
        return np.concatenate([strip.levels for strip in sweep.strips(read, self.of_chips, extra)], axis=1)

    def _probabilities(
        self,
        images: Sequence[InputImage],
        extra: Sequence[Levels],
    ) -> Float[Tensor, "batch planes input_height input_width"]:
        """Of images at the size the networks see, the mean over them and the recipe's views."""
        pixels = np.stack(images)
        planes = np.stack(extra)[:, None, None, :]
        planes = np.broadcast_to(planes, (*pixels.shape[:3], planes.shape[-1]))
        batch = np.concatenate([pixels, planes], axis=3).transpose(0, 3, 1, 2)
        return self._mean_of_views(torch.from_numpy(np.ascontiguousarray(batch)).to(self.hardware.device))

    @torch.inference_mode()
    def _mean_of_views(self, batch: Tensor) -> Tensor:
        views = VIEWS[self.recipe.predict.flips]
        total: Tensor | float = 0.0
        for network, view in product(self.networks, views):
            with self.hardware.autocast():
                outputs = network(_seen(batch, view))
            total = total + _unseen(plane_probabilities(self.recipe, outputs), view)
        return torch.as_tensor(total / (len(views) * len(self.networks)))


class ProbabilityFiles:
    """Probabilities of a run's images as 8-bit grey PNG, one file per image and plane; each is whole or not there.
    `planes` are those of the bundle, or some of them, such as its classes."""

    def __init__(self, folder: Path, planes: tuple[str, ...]):
        self.folder, self.planes = folder, planes

    def path(self, image_id: str, plane: str) -> Path:
        return self.folder / plane / f"{image_id}.png"

    def has(self, image_id: str) -> bool:
        return all(self.path(image_id, name).exists() for name in self.planes)

    def write(self, image_id: str, probabilities: Probabilities) -> None:
        for name, plane in zip(self.planes, probabilities, strict=True):
            write_bytes(self.path(image_id, name), png(plane))

    def read(self, image_id: str) -> Probabilities:
        return np.stack([read_image(self.path(image_id, name))[:, :, 0] for name in self.planes])


def predict_chips(predictor: Predictor, chips: Chips, indices: list[int], files: ProbabilityFiles, what: str) -> None:
    """Fill in the probability files of the chips `indices` that are not there yet; 0 where no pixel is usable."""
    missing = [index for index in indices if not files.has(chips.id(index))]

    def read() -> Iterator[tuple[tuple[int, ClassMask], Image, Levels]]:
        for index in missing:
            chip = chips.read(index)
            yield (index, chip.valid), chip.image, chips.extra(index)

    for (index, valid), _, probabilities in track(predictor.stream(read()), what, len(missing)):
        files.write(chips.id(index), probabilities * valid)


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

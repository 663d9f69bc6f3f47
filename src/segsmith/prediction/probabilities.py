"""Bundle + images -> probabilities of 0..255 at each image's own size, in memory or as PNG files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor

from segsmith.data.images import MOST_PIXELS, read_image, resized_image
from segsmith.data.windows import Window, scaled_hw
from segsmith.errors import DataError, ModelError
from segsmith.files import write_bytes
from segsmith.losses.objective import quantised
from segsmith.modeling.bundle import Bundle, Skip
from segsmith.modeling.hardware import choose_hardware
from segsmith.prediction.average import Average
from segsmith.prediction.chip_rows import Read
from segsmith.prediction.crf import refined
from segsmith.prediction.first_look import Passed, Worth, first_values
from segsmith.prediction.network_calls import Calls, as_batch, torch_calls
from segsmith.prediction.sweep import Sweep
from segsmith.prediction.sweeps import AveragedSweeps, Swept
from segsmith.progress import track
from segsmith.samples.chips import Chips
from segsmith.samples.samples import enlarged, fit_image, unfit_probabilities
from segsmith.types import HW, ClassMask, Image, InputImage, Probabilities

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


class Predicted(NamedTuple):
    """What networks say of an image, as levels 0..255."""

    levels: Probabilities
    presence: UInt8[np.ndarray, " classes"] | None = None
    """How probable each class is to be there at all; None of networks without a presence head, and of chips. 0 where
    the image was skipped."""
    passed: Passed = Passed()


class _Found(NamedTuple):
    """Likewise, as probabilities 0..1."""

    values: Float[Tensor, "planes height width"]
    presence: Float[Tensor, " classes"] | None
    passed: Passed = Passed()


@runtime_checkable
class Turn(Protocol):
    """Does a piece of work when its turn has come, and gives back what it makes."""

    def __call__(self, work: Callable[[], Item], /) -> Item: ...


def at_once(work: Callable[[], Item], /) -> Item:
    return work()


class Predictor:
    """A bundle's networks on this machine's hardware, by PyTorch or by other calls of them. Probabilities are averaged
    as the recipe says, over networks and flips, then over scales; of a combined bundle, over its parts. What is rounded
    to levels is the average.

    What is said of an image does not depend on which others it is predicted with. `turn` is asked before the networks
    see chips of a raster, whichever thread sweeps it; images are predicted in the thread that asks for them.

    With `skip`, what a first look finds nothing in (first_look.py) is not looked at again, and is said to be of
    probability 0; of what is chips, each chip is skipped by itself, and adds 0 to the mean with those that overlap it.
    """

    def __init__(
        self,
        bundle: Bundle,
        calls: Calls = torch_calls,
        place: str = "",
        *,
        turn: Turn = at_once,
        skip: Skip | None = None,
    ):
        self.recipe = bundle.recipe
        self.turn = turn
        self.skip = skip
        self.bands = len(bundle.mean) - len(bundle.extra)
        self.planes = bundle.planes
        self.sight = bundle.sight
        self.classes = len(bundle.classes)
        self.exclusive = len(bundle.classes) if bundle.recipe.data.exclusive else 0
        self.hardware = choose_hardware(bundle.recipe.train)
        self.networks = calls(bundle, place)
        self.stride = self.networks[0].stride if self.networks else 1
        self.parts = [
            Predictor(part.bundle, calls, f"{place}part-{number}.", turn=turn)
            for number, part in enumerate(bundle.parts)
        ]
        self.weights = [part.weight for part in bundle.parts] or [1.0] * len(self.recipe.predict.scales)

    def __call__(self, images: Images, extra: Sequence[Levels] | None = None) -> ImageProbabilities:
        """Probabilities of each image, (planes, its height, its width), of what the bundle's `planes` name; see
        `predict`."""
        return [predicted.levels for predicted in self.predict(images, extra)]

    def predict(self, images: Images, extra: Sequence[Levels] | None = None) -> list[Predicted]:
        """What is said of each image, at its own size; `extra` are the levels of its further channels.

        An image larger than a chip goes through the network chip by chip; where chips overlap, their mean is taken.
        Raises ModelError for another number of bands.
        """
        for image in images:
            if image.shape[2] != self.bands:
                raise ModelError(f"the image has {image.shape[2]} bands, the model was trained on {self.bands}")
        extra = [np.empty(0, np.uint8)] * len(images) if extra is None else extra
        worth = [True] * len(images)
        if self.skip is not None and self.recipe.data.fit != "chip":
            seen = [fit_image(image, self.first.recipe.data) for image in images]
            worth = (self.first_look(seen, extra, self.skip.scale) >= self.skip.below).tolist()
        kept = [number for number, keep in enumerate(worth) if keep]
        found = iter(self._found([images[number] for number in kept], [extra[number] for number in kept]))
        return [
            self._levelled(next(found), image) if keep else self._nothing((image.shape[0], image.shape[1]))
            for image, keep in zip(images, worth, strict=True)
        ]

    @property
    def first(self) -> "Predictor":
        """The part that looks first; of networks that are not combined, these."""
        return self.parts[0].first if self.parts else self

    def first_look(
        self, seen: Sequence[InputImage], extra: Sequence[Levels], scale: float
    ) -> Float32[np.ndarray, " images"]:
        """What the first network finds in images of the size it sees, shrunk to `scale` of it, see `first_values`."""
        first = self.first
        return first_values(first.networks[0], first.recipe, self.classes, seen, extra, scale)

    def _levelled(self, found: _Found, image: Image) -> Predicted:
        presence = None if found.presence is None else quantised(found.presence)
        return Predicted(quantised(self._refined(found.values, image)), presence, found.passed)

    def _nothing(self, hw: HW) -> Predicted:
        """Of an image that a first look ruled out."""
        return Predicted(
            np.zeros((len(self.planes), *hw), np.uint8), np.zeros(self.classes, np.uint8), Passed(chips=0, skipped=1)
        )

    @property
    def _worth(self) -> Worth | None:
        """What chips are not skipped, if any may be."""
        skip = self.skip
        if skip is None:
            return None

        def worth(
            chips: UInt8[np.ndarray, "chips input_height input_width bands"], extra: Levels
        ) -> Bool[np.ndarray, " chips"]:
            look = partial(self.first_look, list(chips), [extra] * len(chips), skip.scale)
            return np.asarray(self.turn(look) >= skip.below)

        return worth

    def _refined(self, values: Float[Tensor, "planes height width"], image: Image) -> Tensor:
        options = self.recipe.predict.crf
        if options is None:
            return values
        of_classes = values[: self.classes].float().numpy()
        found = refined(of_classes, image, options, exclusive=self.recipe.data.exclusive)
        return torch.cat([torch.from_numpy(found), values[self.classes :]])

    def stream(self, items: Iterable[tuple[Item, Image, Levels]]) -> Iterator[tuple[Item, Image, Predicted]]:
        """The items with what is said of them, batch by batch, in order."""
        remaining = iter(items)
        while chunk := list(islice(remaining, self.recipe.predict.batch_size)):
            found = self.predict([image for _, image, _ in chunk], [levels for _, _, levels in chunk])
            for (item, image, _), predicted in zip(chunk, found, strict=True):
                yield item, image, predicted

    def sweep(self, hw: HW, scale: float, read: Callable[[float], Read], extra: Levels) -> AveragedSweeps:
        """A raster of `hw` pixels that is enlarged `scale` times for the networks, and at the recipe's scales beyond
        that. `read` makes of an enlargement what reads windows of the enlarged raster."""
        each: list[Swept | AveragedSweeps]
        if self.parts:
            each = [
                part.sweep(hw, scale * part.sight.enlarged / self.sight.enlarged, read, extra) for part in self.parts
            ]
        else:
            each = [
                Swept(
                    Sweep(self.recipe, len(self.planes), scaled_hw(hw, scale * factor), hw),
                    read(scale * factor),
                    self.of_chips,
                    extra,
                    self._worth,
                )
                for factor in self.recipe.predict.scales
            ]
        return AveragedSweeps(each, self.weights, self.recipe.predict.average, self.recipe.data.exclusive)

    def of_chips(
        self, chips: UInt8[np.ndarray, "chips input_height input_width bands"], extra: Levels
    ) -> Float32[np.ndarray, "chips planes input_height input_width"]:
        """Probabilities 0..1 of pieces of one image at the size the networks see."""
        return np.asarray(self.turn(lambda: self._of_networks(list(chips), [extra] * len(chips)))[0].numpy())

    def _found(self, images: Images, extra: Sequence[Levels]) -> list[_Found]:
        """Of each image at its own size, averaged over parts, or over scales."""
        if not images:
            return []
        if self.parts:
            each = [part._found(images, extra) for part in self.parts]
        else:
            each = [self._at_scale(images, extra, scale) for scale in self.recipe.predict.scales]
        return [self._averaged(of_image) for of_image in zip(*each, strict=True)]

    def _averaged(self, of_image: Sequence[_Found]) -> _Found:
        how, weights = self.recipe.predict.average, self.weights
        values, presence = Average(how, exclusive=self.exclusive), Average(how)
        for found, weight in zip(of_image, weights, strict=True):
            values.add(found.values, weight)
            if found.presence is not None:
                presence.add(found.presence, weight)
        everywhere = all(found.presence is not None for found in of_image)
        return _Found(values.result(), presence.result() if everywhere else None, of_image[0].passed)

    def _at_scale(self, images: Images, extra: Sequence[Levels], scale: float) -> list[_Found]:
        """Of each image at its own size, seen so many times as large as in training."""
        options = self.recipe.data
        if options.fit == "chip":
            return [self._by_chips(image, levels, scale) for image, levels in zip(images, extra, strict=True)]
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        seen = [enlarged(options, scale, hw, self.stride) for hw in sizes]
        fitted = [fit_image(image, of) for image, of in zip(images, seen, strict=True)]
        values, presence = self._of_networks(fitted, extra)
        return [
            _Found(
                torch.from_numpy(unfit_probabilities(of_image.numpy(), hw, of)),
                None if presence is None else presence[number],
            )
            for number, (of_image, hw, of) in enumerate(zip(values, sizes, seen, strict=True))
        ]

    def _by_chips(self, image: Image, extra: Levels, scale: float) -> _Found:
        """Of an image of any size, from overlapping chips; in memory of the whole image."""
        hw = (image.shape[0], image.shape[1])
        times = self.recipe.data.scales[0] * scale
        seen_hw = scaled_hw(hw, times)
        if seen_hw[0] * seen_hw[1] > MOST_PIXELS:
            raise ModelError(
                f"an image of {hw[0]:,} x {hw[1]:,} pixels, enlarged {times:g} times as the bundle's data.scales and "
                f"predict.scales have it, is more than {MOST_PIXELS:,} pixels; cut it"
            )
        seen = resized_image(image, seen_hw)

        def read(window: Window) -> tuple[Image, ClassMask]:
            return seen[window.rows, window.columns], np.ones(window.hw, bool)

        sweep = Sweep(self.recipe, len(self.planes), (seen.shape[0], seen.shape[1]), hw)
        strips = list(sweep.values(read, self.of_chips, extra, worth=self._worth))
        passed = Passed(sum(strip.chips for strip in strips), sum(strip.skipped for strip in strips))
        return _Found(torch.from_numpy(np.concatenate([strip.values for strip in strips], axis=1)), None, passed)

    @torch.inference_mode()
    def _of_networks(
        self, images: Sequence[InputImage], extra: Sequence[Levels]
    ) -> tuple[Float[Tensor, "batch planes input_height input_width"], Float[Tensor, "batch classes"] | None]:
        """Of images at the size the networks see, averaged over them and the recipe's flips; on the CPU."""
        batch = as_batch(images, extra, self.networks[0].device, self.recipe.predict.batch_size)
        how, presence = self.recipe.predict.average, None
        values, presences = Average(how, exclusive=self.exclusive), Average(how)
        for network, view in product(self.networks, VIEWS[self.recipe.predict.flips]):
            said, presence = network(_seen(batch, view))
            values.add(_unseen(said, view))
            if presence is not None:
                presences.add(presence)
        found = values.result()[: len(images)].cpu()
        return found, None if presence is None else presences.result()[: len(images)].cpu()


class ProbabilityFiles:
    """Probabilities of a run's images as 8-bit grey PNG, one file per image and plane; each is whole or not there.
    `planes` are those of the bundle, or some of them, such as its classes.

    What a presence head says of an image stands in a folder beside them: a file of one row, a pixel for each class.
    """

    def __init__(self, folder: Path, planes: tuple[str, ...]):
        self.folder, self.planes = folder, planes

    def path(self, image_id: str, plane: str) -> Path:
        return self.folder / plane / f"{image_id}.png"

    def has(self, image_id: str) -> bool:
        return all(self.path(image_id, name).exists() for name in self.planes)

    def presence_path(self, image_id: str) -> Path:
        return self.folder.with_name("presence") / f"{image_id}.png"

    def write(
        self, image_id: str, probabilities: Probabilities, presence: UInt8[np.ndarray, " classes"] | None = None
    ) -> None:
        if presence is not None:  # before the others, by which `has` tells
            write_bytes(self.presence_path(image_id), png(presence[None]))
        for name, plane in zip(self.planes, probabilities, strict=True):
            write_bytes(self.path(image_id, name), png(plane))

    def presence(self, image_id: str) -> UInt8[np.ndarray, " classes"] | None:
        """What a presence head said of each class; None where none was asked."""
        file = self.presence_path(image_id)
        return read_image(file)[0, :, 0] if file.exists() else None

    def read(self, image_id: str) -> Probabilities:
        return np.stack([read_image(self.path(image_id, name))[:, :, 0] for name in self.planes])


def predict_chips(predictor: Predictor, chips: Chips, indices: list[int], files: ProbabilityFiles, what: str) -> None:
    """Fill in the probability files of the chips `indices` that are not there yet; 0 where no pixel is usable."""
    missing = [index for index in indices if not files.has(chips.id(index))]

    def read() -> Iterator[tuple[tuple[int, ClassMask], Image, Levels]]:
        for index in missing:
            chip = chips.read(index)
            yield (index, chip.valid), chip.image, chips.extra(index)

    for (index, valid), _, found in track(predictor.stream(read()), what, len(missing)):
        files.write(chips.id(index), found.levels * valid, found.presence)


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

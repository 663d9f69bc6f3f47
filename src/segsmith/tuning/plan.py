"""Dataset + minutes -> a recipe for it, and why: what the images are like and what this machine manages decide.

A plan is a place to start from that needs no opinion of its user: each choice is a rule on something measured, stands
in the recipe like any other option, and comes with its reason.
"""

import json
from dataclasses import dataclass, field
from math import ceil, log2
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from segsmith.audit.audit_images import small_grey
from segsmith.data.dataset import Dataset
from segsmith.data.windows import Window, whole
from segsmith.eda.profile import object_pixels
from segsmith.errors import DataError
from segsmith.modeling.hardware import choose_hardware
from segsmith.progress import track
from segsmith.recipe import Folds, Recipe
from segsmith.samples.chips import cut
from segsmith.samples.split import split
from segsmith.tuning.find_batch import NEAR, Tried, smallest_near_best, timed_batches
from segsmith.tuning.training_rate import training_rate
from segsmith.types import HW, Image

LARGEST_SIDE_PX = 1024
"""Images with a longer side are cut into chips."""
CHIP_PX = {"cpu": 256, "cuda": 512}
LEAST_EPOCHS = 8
"""Below so many, images are shown smaller, so that each is seen more often."""
LEAST_IMAGES = 64
"""Of an epoch, however little time there is."""
MOST_EPOCHS = 120
SMALLEST_OBJECT_PX = 8
"""The median object is not shown narrower than this."""
WIDE_OBJECT_PX = 64
"""Where the median object is wider, chips are cut at half scale or less."""
ALIKE = 0.15
"""What gradients across and down may differ by, in octaves, and brightness may go with the rows, as a correlation, in
images that have no up and down."""
LOOKED_AT = 64
"""Images that are read, at most."""
OVERHEAD = 0.75
"""Share of the time that goes into training steps; the rest validates."""
BATCHES = (4, 8, 16, 32, 64)
"""Sizes that are timed; beyond the last, a learning rate of 1e-3 would no longer fit."""
LEAST_STEPS, LEAST_BATCHES = 500, 8
"""Steps of a training, and of an epoch, that a batch must leave, unless it is the smallest."""
BATCH_SECONDS, BATCH_SHARE = 20.0, 0.05
"""Batches are timed so long at most, and for no larger share of the time there is for the training."""


@dataclass
class Plan:
    """A recipe and the reasons for what it says, by dotted key."""

    recipe: Recipe
    reasons: dict[str, str] = field(default_factory=dict)

    def told(self) -> list[str]:
        """A line for each choice: its key, its value where that is no section of its own, and its reason."""
        lines = []
        for key, reason in self.reasons.items():
            value: Any = self.recipe.model_dump(mode="json")
            for name in key.split("."):
                value = value[int(name) if name.isdigit() else name]
            stated = "" if isinstance(value, dict) else f"={value if isinstance(value, str) else json.dumps(value)}"
            lines.append(f"{key}{stated}: {reason}")
        return lines

    def to_yaml(self) -> str:
        """What was chosen, defaults among it, under its reasons as comments."""
        reasons = "".join(f"# {line}\n" for line in self.told())
        stated = self.recipe.model_dump(mode="json", exclude_unset=True)
        return reasons + yaml.safe_dump(stated, sort_keys=False, allow_unicode=True)


def plan(dataset: Path, *, minutes: float = 20.0) -> Plan:
    """A recipe that trains on this dataset, on this machine, in about `minutes`.

    Reads LOOKED_AT images at most and times a few training steps on noise. Raises DataError for a dataset without
    foreground, without images, or with too few labelled images to hold any back.
    """
    opened = Dataset.open(dataset)
    planner = _Planner(opened, minutes)
    return planner.plan()


class _Planner:
    def __init__(self, dataset: Dataset, minutes: float):
        self.dataset, self.minutes = dataset, minutes
        self.tree: dict[str, Any] = {"name": dataset.raw.name, "data": {}, "network": {}, "folds": {}}
        self.reasons: dict[str, str] = {}
        self.labelled = dataset.images.iloc[dataset.labelled]
        if not self.labelled["foreground"].any():
            raise DataError(
                f"{dataset.raw}: no labelled image holds foreground; there is nothing to plan a training for"
            )
        bands = set(self.labelled["bands"])
        if len(bands) != 1 or bands == {0}:
            raise DataError(
                f"{dataset.raw}: labelled images have {', '.join(map(str, sorted(bands)))} bands; a training takes "
                "images of one kind" + ("; inspect them with their images" if 0 in bands else "")
            )
        self.bands = int(bands.pop())
        self.hardware = choose_hardware(Recipe().train)
        self.gpu = self.hardware.device.type == "cuda"
        self.object_px = float(np.sqrt(np.median(object_pixels(dataset))))
        self._rates: dict[HW, float] = {}

    def plan(self) -> Plan:
        self._network()
        fits = self._chips() if self._hw().max() > LARGEST_SIDE_PX else self._whole()
        self._classes()
        stage = self._batches()
        self.tree["train"] = {"stages": [stage]}
        training = self._folds()
        if not fits:
            self._smaller(training)
        batch = self._batch(training)
        stage["augment"] = self._augment()
        self.tree["train"] = self._train(stage, training, batch)
        return Plan(Recipe.model_validate(self.tree), self.reasons)

    def _say(self, section: str, name: str, value: Any, reason: str) -> None:
        self.tree[section][name] = value
        self.reasons[f"{section}.{name}"] = reason

    def _hw(self) -> np.ndarray:
        return np.asarray(self.labelled[["height", "width"]].to_numpy())

    def _network(self) -> None:
        self._say("network", "encoder", "resnet34" if self.gpu else "resnet18", f"trained on {self.hardware.name}")
        self._say("network", "encoder_weights", None, "random weights need no download; imagenet scores better")
        self._say("data", "normalise", "measured", f"{self.bands} bands, as the index measured them")

    def _chips(self) -> bool:
        side = CHIP_PX[self.hardware.device.type]
        height, width = self._hw().max(axis=0)
        self._say("data", "fit", "chip", f"images of up to {height} x {width} pixels are cut, not shrunk")
        gsds = self.labelled["gsd_m"].to_numpy(np.float64)
        object_px = self.object_px
        if (gsds > 0).all() and gsds.max() > 1.1 * gsds.min():
            gsd_m = float(f"{np.median(gsds):.2g}")
            self._say("data", "gsd_m", gsd_m, f"{gsds.min():.2g} to {gsds.max():.2g} metres a pixel")
            object_px *= float(np.median(gsds)) / gsd_m
        halvings = max(0, round(log2(object_px / WIDE_OBJECT_PX)))
        if halvings:
            self._say("data", "scales", [0.5**halvings], f"the median object is {object_px:.0f} pixels wide")
        side = min(side, 32 * int(max(1, self._hw().min() * 0.5**halvings // 32)))
        self._say("data", "input_hw", [side, side], "what this machine trains well on")
        return True

    def _whole(self) -> bool:
        """Images as they are; whether that is settled, or has to be seen by how long it takes."""
        sizes = self._hw()
        height, width = sizes.max(axis=0)
        stride = 16 if min(height, width) <= 128 else 32
        if stride == 16:
            self._say("network", "encoder_depth", 4, f"four halvings leave something of {height} x {width} pixels")
            self._say("network", "decoder_channels", [128, 64, 32, 16], "one block for each halving")
        alike = bool((sizes == sizes[0]).all())
        self._say(
            "data",
            "fit",
            "pad" if alike else "resize",
            "all images are of one size, which stays as it is" if alike else "images are of several sizes",
        )
        hw = [stride * ceil(int(side) / stride) for side in (height, width)]
        self._say("data", "input_hw", hw, f"the next multiples of {stride} above {height} x {width}")
        return False

    def _classes(self) -> None:
        if len(self.dataset.classes) < 2:
            return
        several = [n for n in self.dataset.labelled.tolist() if self._several(n)][:LOOKED_AT]
        overlapping = any((self._read(n).mask.sum(axis=0) > 1).any() for n in several)
        reason = (
            f"in {len(several)} images with several classes no pixel has two"
            if not overlapping
            else "some pixels have several classes"
        )
        if several or not overlapping:
            self._say("data", "exclusive", bool(several) and not overlapping, reason)

    def _several(self, image: int) -> bool:
        first, last = self.dataset.first_object[image : image + 2]
        return bool(self.dataset.objects["class"].iloc[first:last].nunique() > 1)

    def _batches(self) -> dict[str, Any]:
        exclusive = bool(self.tree["data"].get("exclusive"))
        loss = {"cross_entropy": 1.0, "dice": 1.0} if exclusive else {"bce": 1.0, "dice": 1.0}
        self.reasons["train.stages.0.loss"] = "cross-entropy for each pixel, Dice for rare foreground"
        stage: dict[str, Any] = {"loss": loss}
        empty = float((self.labelled["foreground"] == 0).mean())
        if empty > 0.5 and self.tree["data"]["fit"] != "chip":
            stage["mix"] = {"empty": 0.35, "filled": 0.65}
            self.reasons["train.stages.0.mix"] = f"{empty:.0%} of the images are empty"
        return stage

    def _augment(self) -> dict[str, Any]:
        chosen = self.dataset.labelled[:: max(1, len(self.dataset.labelled) // LOOKED_AT)][:LOOKED_AT]
        found = np.array([_directions(self._read(n).image) for n in track(chosen.tolist(), "images", len(chosen))])
        slopes, rows = np.median(found, axis=0)
        turned = abs(slopes) < ALIKE and abs(rows) < ALIKE
        augment: dict[str, Any] = {
            "hflip": 0.5,
            "affine": 0.5,
            "shift": 0.05,
            "scale": 0.15,
            "colour": 0.5,
            "rotate": 10,
        }
        if turned:
            height, width = self.tree["data"]["input_hw"]
            augment |= {"vflip": 0.5, "rotate": 45, "transpose": 0.5 if height == width else 0.0}
        self.tree["predict"] = {"flips": "both" if turned else "horizontal"}
        self.reasons["train.stages.0.augment"] = (
            f"gradients across and down differ by {abs(slopes):.2f} octaves, brightness and rows correlate by "
            f"{abs(rows):.2f}: images have {'no' if turned else 'an'} up and down"
        )
        return augment

    def _read(self, image: int) -> Any:
        """An image, or of a large one a window around its middle."""
        height, width = self.dataset.hw(image)
        side = LARGEST_SIDE_PX
        if max(height, width) <= side:
            return self.dataset.read(image, whole((height, width)))
        window = Window(max(0, (height - side) // 2), max(0, (width - side) // 2), min(side, height), min(side, width))
        return self.dataset.read(image, window)

    def _folds(self) -> int:
        """As many folds, of blocks as large, as can be made; how many chips are left to train on."""
        chips = cut(self.dataset, Recipe.model_validate(self.tree).data)
        if chips.whole:
            self.tree["decide"] = {"metric": "mean_dice"}
            count = min(5, max(2, len(self.labelled) // 4))
            if count != Folds().count:
                self._say("folds", "count", count, f"{len(self.labelled)} labelled images")
            return len(split(chips, Folds(count=count), 0).training)
        self.tree["decide"] = {"metric": "global_iou"}
        self.reasons["decide.metric"] = "chips are parts of images; their pixels are counted together"
        for count, block in ((5, 4), (5, 2), (5, 1), (3, 1), (2, 1)):
            try:
                found = split(chips, Folds(count=count, block=block), 0)
            except DataError:
                continue
            if len(found.validation) >= max(4, len(chips) // 20) and chips.foreground[found.validation].any():
                self._say("folds", "count", count, f"{len(chips)} chips")
                self._say("folds", "block", block, f"chips on a side of a block, so that {count} folds can be dealt")
                return len(found.training)
        raise DataError(
            f"{self.dataset.raw}: {len(chips)} chips are too few to hold any back; label more, or learn them by heart: "
            "folds.by_heart=true"
        )

    def _smaller(self, training: int) -> None:
        """Halve the size images are shown at while too few epochs would fit and objects stay wide enough."""
        shown = 1.0
        while (
            self._images() < LEAST_EPOCHS * training
            and self.object_px * shown / 2 >= SMALLEST_OBJECT_PX
            and min(self.tree["data"]["input_hw"]) >= 128
        ):
            shown /= 2
            hw = [32 * ceil(side / 64) for side in self.tree["data"]["input_hw"]]
            self._say("data", "fit", "resize", f"at {shown:g} of their size, or {self.minutes:g} minutes were few")
            self._say("data", "input_hw", hw, f"the median object is still {self.object_px * shown:.0f} pixels wide")

    def _batch(self, training: int) -> int:
        """The batch that trains fastest here, or nearly so, of those that leave enough steps; its rate is what epochs
        are counted by from here on."""
        images = self._images()
        most = min(images // LEAST_STEPS, training // LEAST_BATCHES)
        sizes = [size for size in BATCHES if size <= most] or [BATCHES[0]]
        few = (
            f"larger ones would leave less than {LEAST_STEPS} steps of {images:,} images in all, or {LEAST_BATCHES} of "
            f"{training:,} in an epoch"
        )
        key = "train.batch_size"
        if len(sizes) == 1:
            self.reasons[key] = f"the smallest; {few}"
            return sizes[0]
        tried = timed_batches(
            Recipe.model_validate(self.tree),
            self.bands,
            len(self.dataset.classes),
            sizes,
            seconds=min(BATCH_SECONDS, BATCH_SHARE * 60 * self.minutes),
        )
        chosen = smallest_near_best(tried)
        self._rates[tuple(self.tree["data"]["input_hw"])] = chosen.images_per_second
        self.reasons[key] = f"the smallest within {NEAR:.0%} of the fastest; measured here: {_told(tried)}"
        if sizes[-1] < BATCHES[-1]:
            self.reasons[key] += f"; {few}"
        return chosen.batch

    def _train(self, stage: dict[str, Any], training: int, batch: int) -> dict[str, Any]:
        images = self._images()
        epochs = int(np.clip(images / training, 1, MOST_EPOCHS))
        per_epoch = training
        if images < LEAST_EPOCHS * training:
            epochs, per_epoch = LEAST_EPOCHS, max(LEAST_IMAGES, images // LEAST_EPOCHS)
            stage["images_per_epoch"] = per_epoch
        stage |= {
            "epochs": epochs,
            "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 1e-2},
            "schedule": {"name": "onecycle"},
        }
        self.reasons["train.stages.0.epochs"] = (
            f"{self._rate():.1f} images/s of {self.tree['data']['input_hw']} pixels here: {images:,} images in "
            f"--minutes {self.minutes:g}, {training:,} to train on"
        )
        if epochs * per_epoch > images:
            takes = self.minutes * epochs * per_epoch / max(1, images)
            self.reasons["train.stages.0.epochs"] += (
                f"; {epochs} epochs of {per_epoch} are the least that a training is worth, and take {takes:.1f} minutes"
            )
        return {"batch_size": batch, "ema_decay": 0.998, "keep": "last", "gradient_clip": 5, "stages": [stage]}

    def _images(self) -> int:
        return int(60 * self.minutes * OVERHEAD * self._rate())

    def _rate(self) -> float:
        """Images a second that train at the present size, measured once for each."""
        hw = tuple(self.tree["data"]["input_hw"])
        if hw not in self._rates:
            self._rates[hw] = training_rate(Recipe.model_validate(self.tree), self.bands, len(self.dataset.classes))
        return self._rates[hw]


def _told(tried: list[Tried]) -> str:
    """What each batch gave, for people."""
    return ", ".join(
        f"{one.batch} {one.images_per_second:.1f} images/s" if one.fits else f"{one.batch} does not fit into memory"
        for one in tried
    )


def _directions(image: Image) -> tuple[float, float]:
    """How much steeper an image is across than down, in octaves, and how its brightness goes with the rows, as a
    correlation."""
    grey = small_grey(image)
    across, down = float(np.abs(np.diff(grey, axis=1)).mean()), float(np.abs(np.diff(grey, axis=0)).mean())
    rows = grey.mean(axis=1)
    flat = rows.std() < 1e-3 or len(rows) < 3
    correlation = 0.0 if flat else float(np.corrcoef(rows, np.arange(len(rows)))[0, 1])
    # of a row's brightness, only what stands out from the image's own contrast counts
    return log2((across + 1e-3) / (down + 1e-3)), correlation * min(1.0, float(rows.std() / (grey.std() + 1e-6)) * 2)

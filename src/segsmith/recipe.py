"""The typed, frozen Recipe: every option, its default, its unit, one sentence each. recipe_files.py reads them.

Nothing in the code knows a ship from a salt dome; what differs between two jobs stands in their recipes.
"""

import difflib
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Metric = Literal["mean_dice", "mean_iou", "mean_iou_map", "global_dice", "global_f1", "global_iou"]

Stratum = Literal["classes", "objects", "coverage"]

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Section):
    """A part of the data, such as a folder of other origin."""

    weight: Amount = Field(1.0, description="How often its images are drawn, relative to other parts.")
    trust: Share = Field(
        1.0, description="Factor of its loss; below 1 it is trained on, but never validated or scored on."
    )


class Data(Section):
    classes: tuple[str, ...] | None = Field(
        None, min_length=1, description="Names of the classes, as many as the dataset has; null takes the dataset's."
    )
    input_hw: tuple[Count, Count] = Field(
        (256, 256), description="Pixels, height first: the size the network sees; a multiple of its stride."
    )
    fit: Literal["resize", "pad", "chip"] = Field(
        "resize",
        description="How an image gets to input_hw: resized, padded around its centre, or cut into chips of that size.",
    )
    stride: Count | None = Field(
        None, description="chip: pixels from one training chip to the next; it divides input_hw. null is input_hw."
    )
    scales: tuple[Annotated[float, Field(gt=0, le=16)], ...] = Field(
        (1.0,), min_length=1, description="chip: enlargements at which chips are cut; scores are made at the first."
    )
    gsd_m: Annotated[float, Field(gt=0)] | None = Field(
        None, description="chip: metres a pixel that images are brought to first; null takes them as they are."
    )
    blank_most: Share = Field(
        0.5, description="chip: share of unusable pixels above which a chip without foreground is left out."
    )
    extra: tuple[str, ...] = Field(
        (), description="Columns of numbers in the index, such as a depth, that become channels of one value each."
    )
    padding: Literal["reflect", "zero"] = Field(
        "reflect", description="What stands outside the image when padded or moved."
    )
    normalise: Literal["imagenet", "measured", "mean_image"] = Field(
        "imagenet",
        description="Taken off each band: ImageNet's mean and deviation, the measured ones, or the mean of all "
        "training images pixel by pixel.",
    )
    sources: dict[str, Source] = Field({}, description="How much parts of the data count; those not named in full.")

    @property
    def stride_hw(self) -> tuple[int, int]:
        """Pixels from one training chip to the next, down and across."""
        return (self.stride, self.stride) if self.stride else self.input_hw

    @model_validator(mode="after")
    def _stride_divides(self) -> "Data":
        if self.stride and any(side % self.stride for side in self.input_hw):
            raise ValueError(f"stride={self.stride} does not divide input_hw {list(self.input_hw)}")
        return self


class Folds(Section):
    count: int = Field(5, ge=2, le=100, description="Parts the labelled images are split into.")
    validation: int = Field(0, ge=0, description="The fold that chooses the best epoch and tunes the decision.")
    held_out: int | None = Field(
        None, ge=0, description="A fold neither trained nor tuned on, kept for evaluate; null trains on it."
    )
    stratify_by: Stratum | Annotated[tuple[Stratum, ...], Field(min_length=1)] = Field(
        ("classes", "objects", "coverage"),
        description="What each fold holds equal shares of, one or several: classes present, objects per image, "
        "foreground share in eleven steps.",
    )

    split: Literal["blocks", "images"] = Field(
        "blocks", description="chip: what folds are made of: square blocks of chips, or whole images."
    )
    block: Count = Field(4, description="chip: chips on a side of a block.")
    guard: int = Field(
        0, ge=0, description="chip: pixels around validation blocks that no training chip may touch either."
    )

    @model_validator(mode="after")
    def _folds_exist(self) -> "Folds":
        for name, fold in (("validation", self.validation), ("held_out", self.held_out)):
            if fold is not None and fold >= self.count:
                raise ValueError(f"{name}={fold} but folds are numbered 0 to {self.count - 1}")
        if self.held_out == self.validation:
            raise ValueError(f"held_out and validation are both fold {self.validation}")
        if self.held_out is not None and self.count < 3:
            raise ValueError("with a held-out fold, count must be at least 3")
        return self


class Network(Section):
    architecture: Literal[
        "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet",
        "Segformer", "DPT",
    ] = Field("Unet", description="Architecture of segmentation_models.pytorch.")  # fmt: skip
    encoder: str = Field(
        "resnet18", description="Encoder of segmentation_models.pytorch, or tu-NAME for any of timm's."
    )
    encoder_weights: str | None = Field(
        "imagenet", description="imagenet (downloaded), a local .safetensors or .pth file, or null for random weights."
    )
    encoder_depth: int | None = Field(
        None, ge=3, le=5, description="Halvings of the size; null takes the architecture's own."
    )
    decoder_channels: tuple[Count, ...] | None = Field(
        None, description="Channels of each decoder block, coarse to fine; null takes the architecture's own."
    )
    attention: Literal["scse"] | None = Field(
        None, description="Attention in the decoder blocks, where the architecture has it."
    )
    dropout: Share = Field(0.0, description="Share of channels zeroed before the last convolution, while training.")


STRATA = ("empty", "single", "multi", "filled", "class:NAME", "source:NAME", "coverage:0.1-0.5", "objects:2-9",
          "objects:10+", "rest")  # fmt: skip
_STRATUM = re.compile(
    r"empty|single|multi|filled|rest|(class|source):.+|coverage:(0|1|0?\.\d+)-(1|0?\.\d+)|objects:\d+(\+|-\d+)"
)


def _stratum(name: str) -> str:
    if not _STRATUM.fullmatch(name):
        near = difflib.get_close_matches(name, STRATA, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"strata are {', '.join(STRATA)}"
        raise ValueError(f"no such stratum; {hint}")
    return name


def _mixes(mix: dict[str, float]) -> dict[str, float]:
    if not sum(mix.values()) > 0:
        raise ValueError("all shares are 0")
    return mix


Mix = Annotated[dict[Annotated[str, AfterValidator(_stratum)], Amount], AfterValidator(_mixes)]
"""Stratum -> its share of a batch, relative to the others. A sample belongs to the first stratum named that it fits."""


class Augment(Section):
    hflip: Share = Field(0.5, description="Probability of a left-right flip.")
    vflip: Share = Field(0.0, description="Probability of an upside-down flip.")
    transpose: Share = Field(0.0, description="Probability of swapping rows and columns; needs a square input.")
    affine: Share = Field(0.0, description="Probability of one shift, scale and rotation together.")
    shift: Share = Field(0.1, description="Largest shift, as a share of the input size, each way.")
    scale: Annotated[float, Field(ge=0, lt=1)] = Field(0.2, description="Largest relative change of scale, each way.")
    rotate: float = Field(45.0, ge=0, le=180, description="Largest rotation, degrees, each way.")
    colour: Share = Field(0.0, description="Probability of one brightness, contrast and gamma change together.")
    brightness: Share = Field(0.1, description="Largest change of brightness, as a share of full scale, each way.")
    contrast: Share = Field(0.1, description="Largest relative change of contrast, each way.")
    gamma: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="Largest relative change of gamma, each way.")
    blur: Share = Field(0.0, description="Probability of a Gaussian blur.")
    blur_sigma: Amount = Field(1.0, description="Largest deviation of the blur, pixels.")
    noise: Share = Field(0.0, description="Probability of Gaussian noise.")
    noise_sigma: Amount = Field(4.0, description="Largest deviation of the noise, grey levels of 255.")
    cutout: Share = Field(0.0, description="Probability of blanking one square of the image; its mask stays.")
    cutout_size: Share = Field(0.125, description="Side of that square, as a share of the input size.")


class Loss(Section):
    """A weighted sum; a weight of 0 leaves a loss out."""

    bce: Amount = Field(1.0, description="Weight of binary cross-entropy.")
    dice: Amount = Field(0.0, description="Weight of the Dice loss.")
    focal: Amount = Field(0.0, description="Weight of the focal loss.")
    lovasz: Amount = Field(0.0, description="Weight of the Lovasz hinge with elu+1.")
    positive_weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        1.0, description="Weight of a foreground pixel in bce and focal."
    )
    focal_gamma: Amount = Field(2.0, description="How fast the focal loss forgets easy pixels.")

    @model_validator(mode="after")
    def _any(self) -> "Loss":
        if self.bce + self.dice + self.focal + self.lovasz == 0:
            raise ValueError("all losses have weight 0")
        return self


class Optimizer(Section):
    name: Literal["adam", "adamw", "sgd"] = Field("adamw", description="Optimiser.")
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        1e-3, description="Learning rate; the peak of one-cycle."
    )
    weight_decay: Amount = Field(1e-2, description="Weight decay, not applied to biases and norms.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Momentum of sgd.")


class Schedule(Section):
    name: Literal["constant", "onecycle", "cosine", "plateau"] = Field(
        "onecycle", description="Learning-rate schedule."
    )
    warmup: Share = Field(0.25, description="onecycle, cosine: share of the stage's steps that climb to lr.")
    final: Amount = Field(1e-3, description="onecycle, cosine: last learning rate, relative to lr.")
    factor: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="plateau: what the learning rate is multiplied by."
    )
    patience: int = Field(1, ge=0, description="plateau: epochs without a better validation score before that.")


class Stage(Section):
    epochs: Count = Field(10, description="Epochs of this stage.")
    start_from: Literal["best", "last"] = Field(
        "best", description="Weights of the stages before that this one starts from."
    )
    images_per_epoch: Count | None = Field(
        None, description="Images of one epoch; null takes all that need not repeat."
    )
    mix: Mix | None = Field(
        None,
        description="Shares of a batch by stratum: empty, single, multi, filled, rest, class:NAME, source:NAME, "
        "coverage:LOW-HIGH (shares of the image), objects:FEWEST-MOST or objects:FEWEST+; null as the data has them.",
    )
    hard: Annotated[float, Field(ge=1, le=100)] | None = Field(
        None, description="Images of a loss above the mean are drawn more often, up to so many times; null draws alike."
    )
    loss: Loss = Field(Loss(), description="Losses and their weights.")
    optimizer: Optimizer = Field(Optimizer(), description="Optimiser.")
    schedule: Schedule = Field(Schedule(), description="Learning-rate schedule.")
    augment: Augment = Field(Augment(), description="Random changes to the training images.")


class Train(Section):
    batch_size: Count = Field(16, description="Images of one optimiser step.")
    stages: tuple[Stage, ...] = Field((Stage(),), min_length=1, description="Training phases, one after the other.")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="Decay per step of averaged weights, which are then validated and bundled; null for none.",
    )
    select_by: Metric | None = Field(
        None, description="Validation score that marks the best epoch; null takes decide.metric."
    )
    keep: Literal["best", "last"] = Field("best", description="Weights that go into the bundle.")
    gradient_clip: Amount | None = Field(None, description="Largest norm of the gradient; null for none.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto takes bf16 where the hardware multiplies it."
    )
    workers: int | None = Field(None, ge=0, description="Processes that prepare images; null measures the machine.")
    keep_every: int = Field(0, ge=0, description="Epochs between checkpoints that are kept for good; 0 keeps none.")
    checkpoint_minutes: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Minutes between checkpoints within an epoch."
    )


class Decide(Section):
    metric: Metric = Field("mean_dice", description="What threshold and smallest area are tuned for.")
    thresholds: int = Field(64, ge=1, le=255, description="Levels of probability tried, evenly over 1 to 255 of 255.")
    areas: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None, description="Smallest object areas tried, pixels; null tries twenty from 0 to 5 % of the image."
    )
    parts: int = Field(5, ge=2, description="Parts of the cross-fit that keeps the reported score honest.")


class Predict(Section):
    flips: Literal["none", "horizontal", "both", "all"] = Field(
        "horizontal", description="Views averaged: 1, 2, 4 flips, or all 8 with transposes (square input)."
    )
    batch_size: Count = Field(16, description="Images of one forward pass.")


class Recipe(Section):
    """One job: everything that may differ between two trainings."""

    name: str = Field("custom", description="Name of the job, for people.")
    seed: int = Field(0, ge=0, description="All randomness is counted from it.")
    data: Data = Field(Data(), description="What the network sees.")
    folds: Folds = Field(Folds(), description="How labelled images are split.")
    network: Network = Field(Network(), description="What is trained.")
    train: Train = Field(Train(), description="How it is trained.")
    decide: Decide = Field(Decide(), description="How probabilities become masks.")
    predict: Predict = Field(Predict(), description="How probabilities are made.")

    @model_validator(mode="after")
    def _square_for_transposes(self) -> "Recipe":
        height, width = self.data.input_hw
        if height != width:
            if self.predict.flips == "all":
                raise ValueError(f"predict.flips=all transposes images, but data.input_hw is {height} x {width}")
            if any(stage.augment.transpose for stage in self.train.stages):
                raise ValueError(f"augment.transpose needs a square input, but data.input_hw is {height} x {width}")
        return self

"""The typed, frozen Recipe: every option, its default, its unit, one sentence each. recipe_files.py reads them.

Nothing in the code knows a ship from a salt dome; what differs between two jobs stands in their recipes.
"""

import difflib
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Metric = Literal["mean_dice", "mean_iou", "mean_iou_map", "global_dice", "global_f1", "global_iou", "global_accuracy"]

DecideMetric = Literal[Metric, "f2_objects"]
"""What a decision can be tuned for; objects are too slow to count after every epoch."""

Gate = Literal["none", "top_k", "presence"]

Averaging = Literal["mean", "geometric", "median"]

Separate = Literal["none", "distance", "border"]

Stratum = Literal["classes", "objects", "coverage"]

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Number = int | Annotated[float, Field(allow_inf_nan=False)]

PIXELS_AT_ONCE = 2**26
"""Of the images of one forward pass of a prediction: 64 of 1024 x 1024. More keep no hardware busier, and a recipe may
come with a bundle from anywhere."""


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
    exclusive: bool = Field(
        False,
        description="Whether a pixel belongs to one class at most (softmax with background) or to any (sigmoids).",
    )
    input_hw: tuple[Count, Count] = Field(
        (256, 256), description="Pixels, height first: the size the network sees; a multiple of its stride."
    )
    fit: Literal["resize", "pad", "chip"] = Field(
        "resize",
        description="How an image gets to input_hw: resized, padded around its centre, or cut into chips of that size.",
    )
    resize_hw: tuple[Count, Count] | None = Field(
        None, description="pad: size an image is resized to before it is padded; null leaves it."
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
    padding: Literal["reflect", "zero", "biharmonic"] = Field(
        "reflect",
        description="What stands outside the image when padded or moved; biharmonic goes on smoothly, and "
        "reflects when moved.",
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
    def _sizes_fit(self) -> "Data":
        if self.stride and any(side % self.stride for side in self.input_hw):
            raise ValueError(f"stride={self.stride} does not divide input_hw {list(self.input_hw)}")
        if self.resize_hw and any(side > most for side, most in zip(self.resize_hw, self.input_hw, strict=True)):
            raise ValueError(f"resize_hw={list(self.resize_hw)} cannot be padded to input_hw {list(self.input_hw)}")
        return self


class Folds(Section):
    count: int = Field(5, ge=2, le=100, description="Parts the labelled images are split into.")
    validation: Annotated[int, Field(ge=0)] | Literal["all"] = Field(
        0,
        description="The fold that chooses the best epoch and tunes the decision; all trains once for each fold that "
        "is not held out, and bundles the networks together.",
    )
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
    by_heart: bool = Field(
        False,
        description="Train and score on the same images, all of them, to learn them by heart; the scores then say "
        "nothing of others.",
    )

    @property
    def validated(self) -> tuple[int, ...]:
        """The fold that validates; of `all`, those that do in turn."""
        if self.validation == "all":
            return tuple(fold for fold in range(self.count) if fold != self.held_out)
        return (self.validation,)

    @model_validator(mode="after")
    def _folds_exist(self) -> "Folds":
        for name, fold in (("validation", self.validation), ("held_out", self.held_out)):
            if isinstance(fold, int) and fold >= self.count:
                raise ValueError(f"{name}={fold} but folds are numbered 0 to {self.count - 1}")
        if self.by_heart and self.held_out is not None:
            raise ValueError("by_heart=true trains on every image; set held_out=null")
        if self.by_heart and self.validation == "all":
            raise ValueError("by_heart=true trains on every image at once; set validation=0")
        if self.held_out == self.validation:
            raise ValueError(f"held_out and validation are both fold {self.validation}")
        if self.held_out is not None and self.count < 3:
            raise ValueError("with a held-out fold, count must be at least 3")
        return self


class Head(Section):
    """A further output, trained together with the mask."""

    kind: Literal["mask", "deep", "presence", "scale", "border"] = Field(
        "mask",
        description="mask: a mask of its own; deep: a mask from each decoder block (deep supervision); presence: "
        "whether each class is there at all; scale: how much the image is enlarged; border: where two objects of a "
        "class touch, or nearly do.",
    )
    weight: Amount = Field(1.0, description="Weight of its loss beside that of the mask.")
    loss: "Loss | None" = Field(
        None,
        description="mask, deep, border: its losses; null takes those of the stage, of border bce and dice alike.",
    )
    images: Literal["all", "filled"] = Field(
        "all", description="mask, deep: images its loss is taken on; filled are those with foreground."
    )
    share: Amount = Field(1.0, description="mask: its share in the probabilities, beside 1 of the first mask.")
    width_px: Count = Field(
        1, description="border: how near a pixel is to both objects, in pixels of the image at its own size."
    )

    @model_validator(mode="after")
    def _options_fit(self) -> "Head":
        kinds_of = {
            "loss": ("mask", "deep", "border"),
            "images": ("mask", "deep"),
            "share": ("mask",),
            "width_px": ("border",),
        }
        for name, kinds in kinds_of.items():
            if self.kind not in kinds and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is for kind {' or '.join(kinds)}, and means nothing to kind {self.kind}")
        return self


class Network(Section):
    architecture: Literal[
        "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet",
        "Segformer", "DPT", "FCNN", "FCNN2",
    ] = Field(
        "Unet",
        description="Architecture of segmentation_models.pytorch; or FCNN, FCNN2: four convolutions without encoder.",
    )  # fmt: skip
    encoder: str = Field(
        "resnet18", description="Encoder of segmentation_models.pytorch, or tu-NAME for any of timm's."
    )
    encoder_weights: str | None = Field(
        "imagenet", description="imagenet (downloaded), a local .safetensors or .pth file, or null for random weights."
    )
    weights: str | None = Field(
        None,
        description="Weights of a whole network to begin with: a bundle, or a .safetensors or .pth file; null for "
        "none. Heads of other classes begin from random ones.",
    )
    encoder_depth: int | None = Field(
        None, ge=3, le=5, description="Halvings of the size; null takes the architecture's own."
    )
    decoder_channels: tuple[Count, ...] | None = Field(
        None, description="Channels of each decoder block, coarse to fine; null takes the architecture's own."
    )
    activation: Literal["mish"] | None = Field(
        None, description="What replaces every ReLU and SiLU; null leaves them as they are."
    )
    drop_path: Share = Field(
        0.0, description="Probability of skipping a residual block of the encoder, rising to it with depth."
    )
    first_pool: bool = Field(True, description="Whether the encoder halves by max-pooling after its first layer.")
    dilated: Literal[8, 16] | None = Field(
        None, description="Stride beyond which the encoder dilates instead of halving; null for none."
    )
    context: bool = Field(False, description="A global context block after each stage of the encoder.")
    centre: Literal["fpa", "gcn", "ocr", "ppm"] | None = Field(
        None,
        description="Between encoder and decoder: feature pyramid attention, global convolution, object context, or "
        "pyramid pooling.",
    )
    attention: Literal["scse", "cbam"] | None = Field(
        None, description="Attention in the decoder blocks, where the architecture has it."
    )
    hypercolumn: bool = Field(False, description="The mask is made from all decoder blocks, not from the last alone.")
    dropout: Share = Field(0.0, description="Share of channels zeroed before the last convolution, while training.")
    heads: dict[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")], Head] = Field(
        {}, description="Further outputs by name; the first mask is called 'mask'."
    )

    @property
    def border_px(self) -> int:
        """How wide the borders are that a head of kind border learns, pixels; 0 without such a head."""
        return next((head.width_px for head in self.heads.values() if head.kind == "border"), 0)

    @model_validator(mode="after")
    def _mask_is_taken(self) -> "Network":
        if "mask" in self.heads:
            raise ValueError("heads.mask: 'mask' is the name of the first mask, which every network has")
        borders = [name for name, head in self.heads.items() if head.kind == "border"]
        if len(borders) > 1:
            raise ValueError(f"heads: {' and '.join(borders)} are both of kind border; one is enough")
        return self


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
    crop: Share = Field(0.0, description="Probability of enlarging a random part to the whole.")
    crop_least: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="Smallest side of that part, relative.")
    elastic: Share = Field(0.0, description="Probability of an elastic distortion.")
    elastic_alpha: Amount = Field(120.0, description="Strength of the elastic distortion, pixels before smoothing.")
    elastic_sigma: Annotated[float, Field(gt=0)] = Field(6.0, description="Smoothness of it, pixels.")
    grid: Share = Field(0.0, description="Probability of stretching the cells of a grid.")
    grid_cells: int = Field(5, ge=2, le=32, description="Cells of that grid on a side.")
    grid_stretch: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.3, description="Largest relative change of a cell's side, each way."
    )
    optical: Share = Field(0.0, description="Probability of a lens's barrel or pincushion distortion.")
    optical_strength: Annotated[float, Field(ge=0, le=1)] = Field(0.5, description="Largest strength of it, each way.")
    colour: Share = Field(0.0, description="Probability of one brightness, contrast and gamma change together.")
    brightness: Share = Field(0.1, description="Largest change of brightness, as a share of full scale, each way.")
    contrast: Share = Field(0.1, description="Largest relative change of contrast, each way.")
    gamma: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="Largest relative change of gamma, each way.")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="Largest turn of hue with the colour change, in turns, each way; three bands only."
    )
    saturation: Share = Field(
        0.0, description="Largest relative change of saturation with the colour change, each way; three bands only."
    )
    invert: Share = Field(0.0, description="Probability of inverting all levels.")
    blur: Share = Field(0.0, description="Probability of a Gaussian blur.")
    blur_sigma: Amount = Field(1.0, description="Largest deviation of the blur, pixels.")
    noise: Share = Field(0.0, description="Probability of Gaussian noise.")
    noise_sigma: Amount = Field(4.0, description="Largest deviation of the noise, grey levels of 255.")
    cutout: Share = Field(0.0, description="Probability of blanking squares of the image; its mask stays.")
    cutout_size: Share = Field(0.125, description="Side of each square, as a share of the input size.")
    cutouts: Count = Field(1, description="How many squares are blanked.")
    cutmix: Share = Field(0.0, description="Probability of replacing a rectangle, with its mask, by that of another.")
    paste: Share = Field(
        0.0, description="Probability of pasting an object of another image, changed likewise, onto an empty one."
    )
    least_objects: int = Field(
        0,
        ge=0,
        description="Only images with so many objects are changed beyond flips; paste is for empty ones.",
    )


class Loss(Section):
    """A weighted sum; a weight of 0 leaves a loss out."""

    bce: Amount = Field(0.0, description="Weight of binary cross-entropy, for classes that may overlap.")
    cross_entropy: Amount = Field(0.0, description="Weight of cross-entropy over exclusive classes and background.")
    focal: Amount = Field(0.0, description="Weight of the focal loss.")
    dice: Amount = Field(0.0, description="Weight of the Dice loss.")
    jaccard: Amount = Field(0.0, description="Weight of the Jaccard loss.")
    tversky: Amount = Field(0.0, description="Weight of the Tversky loss.")
    lovasz: Amount = Field(0.0, description="Weight of the Lovasz hinge, for classes that may overlap.")
    lovasz_softmax: Amount = Field(0.0, description="Weight of the Lovasz softmax, for exclusive classes.")
    kl: Amount = Field(0.0, description="Weight of the Kullback-Leibler divergence from soft labels.")
    class_weights: tuple[Amount, ...] | None = Field(
        None, description="Weight of each class in every loss; background first where classes are exclusive."
    )
    positive_weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        1.0, description="Weight of a foreground pixel in bce and focal."
    )
    focal_gamma: Amount = Field(2.0, description="How fast the focal loss forgets easy pixels.")
    tversky_alpha: Amount = Field(0.3, description="What a false positive counts in the Tversky loss.")
    tversky_beta: Amount = Field(0.7, description="What a false negative counts in the Tversky loss.")
    over: Literal["batch", "image"] = Field(
        "batch", description="dice, jaccard, tversky: pixels of the whole batch together, or image by image."
    )
    lovasz_slope: Literal["relu", "elu"] = Field(
        "elu", description="lovasz: relu as published, or elu + 1, which also moves pixels that are right."
    )
    lovasz_symmetric: bool = Field(False, description="lovasz: the mean of it for foreground and for background.")
    boundary: Amount = Field(0.0, description="bce, cross_entropy, focal: what a pixel at an outline counts more.")
    boundary_px: Amount = Field(5.0, description="How fast that falls with the distance from the outline, pixels.")
    top_k: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="bce, cross_entropy, focal: share of pixels, hardest first, that count."
    )
    bce_images: Literal["all", "empty", "filled"] = Field("all", description="bce: images it is taken on.")

    @model_validator(mode="after")
    def _any(self) -> "Loss":
        if not any(getattr(self, name) for name in LOSSES):
            raise ValueError(f"all losses have weight 0; give one of {', '.join(LOSSES)} a weight")
        return self


LOSSES = ("bce", "cross_entropy", "focal", "dice", "jaccard", "tversky", "lovasz", "lovasz_softmax", "kl")
OVERLAPPING_ONLY = {
    "bce": "cross_entropy",
    "lovasz": "lovasz_softmax",
}
"""Losses that take each class by itself, and what takes their place where classes exclude each other."""
EXCLUSIVE_ONLY = {other: loss for loss, other in OVERLAPPING_ONLY.items()}


class Optimizer(Section):
    name: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"] = Field("adamw", description="Optimiser.")
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        1e-3, description="Learning rate; the peak of one-cycle."
    )
    weight_decay: Amount = Field(1e-2, description="Weight decay, not applied to biases and norms.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Momentum of sgd and rmsprop.")
    nesterov: bool = Field(False, description="sgd: Nesterov's momentum.")
    encoder_lr: Amount = Field(
        1.0, description="Learning rate of the encoder, relative to lr; 0 freezes it, its norms' statistics too."
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="What the learning rate is multiplied by from one stage of the encoder to the one before."
    )

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> "Optimizer":
        if self.nesterov and (self.name != "sgd" or not self.momentum):
            raise ValueError(f"nesterov is for sgd with momentum, not {self.name} with momentum={self.momentum:g}")
        return self


class Schedule(Section):
    name: Literal["constant", "step", "plateau", "onecycle", "cosine", "cyclic", "noam"] = Field(
        "onecycle", description="Learning-rate schedule."
    )
    warmup: Share = Field(0.25, description="onecycle, cosine, noam: share of the stage's steps that climb to lr.")
    final: Amount = Field(1e-3, description="onecycle, cosine, cyclic: least learning rate, relative to lr.")
    cycles: Count = Field(1, description="cosine, cyclic: times the rate falls to its least; cosine restarts at lr.")
    growth: Annotated[float, Field(ge=1)] = Field(1.0, description="cosine: length of a cycle relative to the last.")
    every: Count = Field(10, description="step: epochs after which the rate is multiplied by factor.")
    factor: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="step, plateau: what the learning rate is multiplied by."
    )
    patience: int = Field(1, ge=0, description="plateau: epochs without a better value of watch before that.")
    watch: Literal["score", "loss"] = Field(
        "score", description="plateau: the validation score, or the validation loss."
    )


class Stage(Section):
    epochs: Count = Field(10, description="Epochs of this stage.")
    start_from: Literal["best", "last", "averaged"] = Field(
        "best",
        description="Weights of the stages before that this one starts from: best epoch, last, or the mean of swa.",
    )
    images_per_epoch: Count | None = Field(
        None, description="Images of one epoch; null takes all that need not repeat."
    )
    input_hw: tuple[Count, Count] | None = Field(
        None, description="Size the network sees in this stage; null takes data.input_hw. Not with data.fit=chip."
    )
    mix: Mix | None = Field(
        None,
        description="Shares of a batch by stratum: empty, single, multi, filled, rest, class:NAME, source:NAME, "
        "coverage:LOW-HIGH (shares of the image), objects:FEWEST-MOST or objects:FEWEST+; null as the data has them.",
    )
    hard: Annotated[float, Field(ge=1, le=100)] | None = Field(
        None, description="Images of a loss above the mean are drawn more often, up to so many times; null draws alike."
    )
    loss: Loss = Field(Loss(bce=1), description="Losses and their weights.")
    heads: dict[str, Amount] = Field(
        {}, description="Weights of further heads' losses in this stage; those not named keep their own."
    )
    optimizer: Optimizer = Field(Optimizer(), description="Optimiser.")
    schedule: Schedule = Field(Schedule(), description="Learning-rate schedule.")
    augment: Augment = Field(Augment(), description="Random changes to the training images.")
    augment_last: Augment | None = Field(None, description="What replaces augment in the last epochs of the stage.")
    last_epochs: Count = Field(1, description="How many epochs augment_last is for.")
    swa: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="Share of the stage's epochs, the last ones, whose weights are averaged equally; of its cycles, "
        "where the schedule has several; null none.",
    )
    snapshots: bool = Field(
        False, description="The weights at the end of each cycle of the schedule go into the bundle, as an ensemble."
    )
    stop_after: Count | None = Field(
        None, description="Epochs without a better validation score after which the stage ends; null never."
    )

    @model_validator(mode="after")
    def _ends_where_it_is_counted_to(self) -> "Stage":
        counted = "swa averages" if self.swa else "snapshots are of" if self.snapshots else None
        if self.stop_after and counted:
            raise ValueError(
                f"stop_after={self.stop_after} may end the stage before the epochs or cycles that {counted}; give the "
                "one or the other, or a stage of its own to each"
            )
        return self


class Train(Section):
    batch_size: Count = Field(16, description="Images of one optimiser step.")
    accumulate: Count = Field(1, description="Forward passes that make up one step; batch_size is a multiple of it.")
    stages: tuple[Stage, ...] = Field((Stage(),), min_length=1, description="Training phases, one after the other.")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="Decay per step of averaged weights, which are then validated and bundled; null for none.",
    )
    select_by: Metric | None = Field(
        None,
        description="Validation score that marks the best epoch; null takes decide.metric, mean_iou for f2_objects.",
    )
    keep: Literal["best", "last", "averaged", "snapshots"] = Field(
        "best", description="Weights that go into the bundle: best epoch, last, mean of swa, or all snapshots."
    )
    keep_best: Count = Field(1, description="Best epochs whose weights are kept as files.")
    keep_best_by: tuple[Metric, ...] = Field((), description="Further scores whose best epoch's weights are kept.")
    gradient_clip: Amount | None = Field(None, description="Largest norm of the gradient; null for none.")
    shard: bool = Field(
        False,
        description="Several processes: each holds a share of weights, averages, gradients and optimiser, not all.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto takes bf16 where the hardware multiplies it."
    )
    workers: int | None = Field(None, ge=0, description="Processes that prepare images; null measures the machine.")
    cache: bool | str = Field(
        True,
        description="Keep decoded samples on disk, so that each image is decoded once: true beside the dataset, or a "
        "folder; false decodes in every epoch.",
    )
    augment_on: Literal["auto", "cpu", "device"] = Field(
        "auto",
        description="Where samples are augmented: one by one by workers (cpu), or a batch at a time where the network "
        "is (device); auto takes the device where that is a GPU.",
    )
    keep_every: int = Field(0, ge=0, description="Epochs between checkpoints that are kept for good; 0 keeps none.")
    checkpoint_minutes: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Minutes between checkpoints within an epoch."
    )
    mlflow: bool | str = Field(
        False,
        description="Log to MLflow as well: true for mlflow.db beside the run folder, or a tracking URI; needs "
        "segsmith[mlflow].",
    )

    @model_validator(mode="after")
    def _whole_passes(self) -> "Train":
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate={self.accumulate} does not divide batch_size={self.batch_size}")
        return self


class Decide(Section):
    metric: DecideMetric = Field("mean_dice", description="What threshold, smallest area and gate are tuned for.")
    areas: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None,
        min_length=1,
        description="Smallest object areas tried, pixels; null tries up to 48 from 0 to 5 % of the image.",
    )
    gate: Gate = Field(
        "top_k",
        description="What whole images are taken to be empty by: the mean of the top_k most probable pixels, what the "
        "network's presence head says of each class, or none.",
    )
    top_k: Count = Field(100, description="Pixels, the most probable of an image and class, whose mean is its gate.")
    fill_holes: bool = Field(False, description="Fill holes in objects, before their area is asked for.")
    separate: Separate = Field(
        "none",
        description="f2_objects: how objects that touch are taken apart: at necks of their outline (distance), or "
        "where a head of kind border says so; how readily is chosen on validation, not at all unless that helps.",
    )
    calibrate: bool = Field(False, description="Calibrate the probabilities that are written of rasters, and scores.")
    parts: int = Field(5, ge=2, description="Parts of the cross-fit that keeps the reported score honest.")


class Crf(Section):
    """A dense conditional random field over probabilities and image."""

    alike: Amount = Field(0.5, description="How strongly pixels of like grey level are drawn to one label.")
    reach_px: Annotated[float, Field(gt=0)] = Field(10.0, description="How far that reaches: deviation, pixels.")
    levels: Annotated[float, Field(ge=4, le=128)] = Field(
        20.0, description="How unlike such pixels may be: deviation, grey levels of 255."
    )
    near: Amount = Field(0.5, description="How strongly near pixels are, whatever they look like.")
    near_px: Annotated[float, Field(gt=0)] = Field(2.0, description="How far that reaches: deviation, pixels.")


class Predict(Section):
    flips: Literal["none", "horizontal", "both", "all"] = Field(
        "horizontal", description="Views averaged: 1, 2, 4 flips, or all 8 with transposes (square input)."
    )
    scales: tuple[Annotated[float, Field(ge=0.25, le=4)], ...] = Field(
        (1.0,),
        min_length=1,
        max_length=8,
        description="Enlargements, beyond what the network was trained at, that images are also seen at; averaged.",
    )
    average: Averaging = Field(
        "mean",
        description="How probabilities of networks and flips, then of scales, become one: their mean, the geometric "
        "mean of their odds, or the median.",
    )
    crf: Crf | None = Field(
        None,
        description="Images: a dense conditional random field that moves masks to edges of the image; null for none.",
    )
    batch_size: Count = Field(16, description="Images of one forward pass.")
    overlap: Annotated[float, Field(ge=0, le=0.9)] = Field(
        0.5, description="chip: share of its side that a chip has in common with the next one; their mean is weighted."
    )

    def stride_hw(self, chip_hw: tuple[int, int]) -> tuple[int, int]:
        """Pixels from one chip to the next, down and across."""
        height, width = chip_hw
        return max(1, round(height * (1 - self.overlap))), max(1, round(width * (1 - self.overlap)))


class Values(Section):
    """What a search tries for one key of the recipe: a list of choices, or all between two numbers."""

    choices: Annotated[tuple[Any, ...], Field(min_length=1)] | None = Field(
        None, description="Values of any kind; a plain list says the same."
    )
    low: Number | None = Field(None, description="Least value.")
    high: Number | None = Field(None, description="Largest value.")
    log: bool = Field(False, description="Whether values are spread evenly over their logarithms.")
    step: Annotated[float, Field(gt=0)] | None = Field(
        None, description="From one value to the next, from low on; null tries any, or any whole number."
    )

    @model_validator(mode="before")
    @classmethod
    def _list_of_choices(cls, given: Any) -> Any:
        return {"choices": given} if isinstance(given, list | tuple) else given

    @model_validator(mode="after")
    def _choices_or_range(self) -> "Values":
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("give a list of values, or low and high")
        if self.choices is not None and (self.low is not None or self.high is not None or self.log or self.step):
            raise ValueError("low, high, log and step are for a range, not beside choices")
        if self.low is not None and self.high is not None:
            if not self.low < self.high:
                raise ValueError(f"low={self.low:g} is not below high={self.high:g}")
            if self.log and self.low <= 0:
                raise ValueError(f"log=true needs low above 0, not {self.low:g}")
            if self.log and self.step:
                raise ValueError("log and step do not go together; list the values")
        return self


class Search(Section):
    """What `segsmith search` tries; a training does not ask."""

    over: dict[str, Values] = Field(
        description="Dotted key of the recipe: a list of values, or {low, high, log, step}.", min_length=1
    )
    trials: Count = Field(20, description="Trainings in all; a grid makes one of each combination instead.")
    sampler: Literal["tpe", "random", "grid"] = Field(
        "tpe", description="tpe learns from the trials so far where to look; random does not; grid tries everything."
    )
    pruner: Literal["median", "halving", "none"] = Field(
        "median",
        description="What gives up a trial early: a score below the median of others at its epoch, or successive "
        "halving.",
    )
    prune_after: Count = Field(1, description="Epochs that every trial is given before it may be given up.")

    @model_validator(mode="after")
    def _grid_is_finite(self) -> "Search":
        endless = [key for key, of_key in self.over.items() if of_key.choices is None and of_key.step is None]
        if self.sampler == "grid" and endless:
            raise ValueError(f"sampler=grid needs a list of values, or a step, for over.{endless[0]}")
        return self


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
    search: Search | None = Field(None, description="What segsmith search tries; a training does not ask.")

    @property
    def gate(self) -> Gate:
        """What images are taken to be empty by; nothing for chips, since what is predicted is the image around them."""
        return "none" if self.data.fit == "chip" else self.decide.gate

    @property
    def metric_of_pixels(self) -> Metric:
        """What is decided by; for objects, which are not counted everywhere, the nearest that is made of pixels."""
        return "mean_iou" if self.decide.metric == "f2_objects" else self.decide.metric

    @property
    def selected_by(self) -> Metric:
        """The validation score that marks the best epoch."""
        return self.train.select_by or self.metric_of_pixels

    @model_validator(mode="after")
    def _square_for_transposes(self) -> "Recipe":
        for number, stage in enumerate(self.train.stages):
            height, width = stage.input_hw or self.data.input_hw
            changes = [stage.augment, *([stage.augment_last] if stage.augment_last else [])]
            if height != width and any(augment.transpose for augment in changes):
                raise ValueError(
                    f"augment.transpose needs a square input, but that of stage {number} is {height} x {width}"
                )
        height, width = self.data.input_hw
        if height != width and self.predict.flips == "all":
            raise ValueError(f"predict.flips=all transposes images, but data.input_hw is {height} x {width}")
        return self

    @model_validator(mode="after")
    def _scales_fit(self) -> "Recipe":
        scales = self.predict.scales
        if len(set(scales)) < len(scales):
            raise ValueError(f"predict.scales={list(scales)} names an enlargement twice; leave one out")
        if scales != (1.0,) and self.data.fit != "chip" and self.data.normalise == "mean_image":
            raise ValueError(
                f"predict.scales={list(scales)} shows images at other sizes, but data.normalise=mean_image is an image "
                "of data.input_hw; set predict.scales=[1]"
            )
        return self

    @model_validator(mode="after")
    def _passes_are_bounded(self) -> "Recipe":
        largest = 1.0 if self.data.fit == "chip" else max(self.predict.scales)
        height, width = (round(side * largest) for side in self.data.input_hw)
        most, given = PIXELS_AT_ONCE // (height * width), self.predict.batch_size
        if given > most:
            enlarged = "" if largest == 1 else f", enlarged {largest:g} times as predict.scales has it,"
            less = f"set predict.batch_size={most} or less" if most else "set a smaller data.input_hw"
            raise ValueError(
                f"data.input_hw={list(self.data.input_hw)}{enlarged} and predict.batch_size={given} are "
                f"{given * height * width:,} pixels at once, more than {PIXELS_AT_ONCE:,}; {less}"
            )
        return self

    @model_validator(mode="after")
    def _gate_is_there(self) -> "Recipe":
        if self.decide.gate == "presence" and all(head.kind != "presence" for head in self.network.heads.values()):
            raise ValueError(
                "decide.gate=presence asks a head that is not there; add network.heads={present: {kind: presence}}, or "
                "set decide.gate=top_k"
            )
        return self

    @model_validator(mode="after")
    def _holes_are_of_one_class(self) -> "Recipe":
        if self.decide.fill_holes and self.data.exclusive:
            raise ValueError(
                "decide.fill_holes may give a pixel to two classes, but data.exclusive=true; set one to false"
            )
        return self

    @model_validator(mode="after")
    def _objects_can_be_separated(self) -> "Recipe":
        if self.decide.separate != "none" and self.decide.metric != "f2_objects":
            raise ValueError(
                f"decide.separate={self.decide.separate} is tuned for f2_objects, the metric that tells objects apart, "
                f"but decide.metric={self.decide.metric}; set metric=f2_objects, or separate=none"
            )
        if self.decide.separate == "border" and not self.network.border_px:
            raise ValueError(
                "decide.separate=border needs a head that learns borders, and network.heads has none; add "
                "network.heads.border.kind=border, or set separate=distance"
            )
        return self

    @model_validator(mode="after")
    def _losses_fit_classes(self) -> "Recipe":
        named = [(f"train.stages.{number}.loss", stage.loss) for number, stage in enumerate(self.train.stages)]
        for name, head in self.network.heads.items():
            if head.loss and head.kind == "border":
                if wrong := [loss for loss in EXCLUSIVE_ONLY if getattr(head.loss, loss)]:
                    raise ValueError(
                        f"network.heads.{name}.loss.{wrong[0]} is for classes that exclude each other, and borders of "
                        f"several classes may overlap; set {EXCLUSIVE_ONLY[wrong[0]]}"
                    )
            elif head.loss:
                named.append((f"network.heads.{name}.loss", head.loss))
        for where, loss in named:
            for name, instead in (OVERLAPPING_ONLY if self.data.exclusive else EXCLUSIVE_ONLY).items():
                if getattr(loss, name) and self.data.exclusive:
                    raise ValueError(
                        f"{where}.{name} takes each class by itself, but data.exclusive=true; set {instead}"
                    )
                if getattr(loss, name):
                    raise ValueError(
                        f"{where}.{name} is for classes that exclude each other, and here they may overlap; "
                        f"set {instead}, or data.exclusive=true"
                    )
        return self

    @model_validator(mode="after")
    def _stages_fit(self) -> "Recipe":
        averaged = False
        for number, stage in enumerate(self.train.stages):
            where = f"train.stages.{number}"
            if unknown := [name for name in stage.heads if name not in self.network.heads]:
                near = difflib.get_close_matches(unknown[0], self.network.heads, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"heads: {', '.join(self.network.heads) or 'none'}"
                raise ValueError(f"{where}.heads: no head '{unknown[0]}' in network.heads; {hint}")
            if stage.input_hw and self.data.fit == "chip":
                raise ValueError(f"{where}.input_hw: chips are cut at data.input_hw in every stage")
            if stage.start_from == "averaged" and not averaged:
                before = "the stage before it has no swa" if number else "there is no stage before it"
                raise ValueError(f"{where}.start_from=averaged, but {before}")
            if stage.snapshots and stage.schedule.name not in ("cosine", "cyclic"):
                raise ValueError(f"{where}.snapshots needs a schedule of cycles, not {stage.schedule.name}")
            averaged = stage.swa is not None
        if self.train.keep == "averaged" and not averaged:
            raise ValueError("train.keep=averaged, but the last stage has no swa")
        if self.train.keep == "snapshots" and not any(stage.snapshots for stage in self.train.stages):
            raise ValueError("train.keep=snapshots, but no stage has snapshots")
        return self

"""Dataset + recipe -> a page of batches as a stage's network sees them, each sample beside its untouched chip."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from segsmith.data.dataset import Dataset
from segsmith.data.images import as_rgb
from segsmith.eda.page import Section, figure_grid, legend, render_page
from segsmith.eda.pictures import CLASSES, Picture, hatched, image_uri, outlined
from segsmith.errors import RecipeError
from segsmith.files import write_text
from segsmith.recipe import Recipe, Stage
from segsmith.samples.augment import check_augment
from segsmith.samples.batches import TrainingBatches
from segsmith.samples.chips import Chips, cut
from segsmith.samples.samples import Sample
from segsmith.samples.sampling import EpochPlan, plan_epochs
from segsmith.samples.split import split
from segsmith.samples.stage_samples import Position

TINY_PX = 128
"""Samples up to this size are enlarged, so that single pixels can be seen."""
ENLARGED = 3
PAIR_PX = 960
"""Longest side of a sample beside its chip, on the page."""


def preview(dataset: Path, recipe: Recipe, out: Path, *, stage: int = 1, batches: int = 2) -> Path:
    """Draw the first batches of a stage (counted from 1) as training will draw them, and the first of its last epoch
    where that is changed otherwise. Returns the page: `out`, or preview.html within it where it is no .html file.

    Raises RecipeError for a stage that is not there, DataError as training does, WriteError.
    """
    stages = recipe.train.stages
    if not 1 <= stage <= len(stages):
        raise RecipeError(f"the recipe has stages 1 to {len(stages)}. Received: --stage {stage}")
    data = Dataset.open(dataset).named(recipe.data.classes)
    check_augment(recipe, int(data.images["bands"].max()))
    chips = cut(data, recipe.data)
    training = split(chips, recipe.folds, recipe.seed).training
    chosen = stages[stage - 1]
    plan = plan_epochs(training, chips.strata(), stage - 1, chosen, recipe.train.batch_size, recipe.seed)
    source = TrainingBatches(chips, chosen, plan, workers=0)
    sections = [
        Section(f"Batch {number}", _batch(chips, source, positions))
        for number, positions in enumerate(source.positions(0)[:batches], start=1)
    ]
    if chosen.augment_last is not None and chosen.epochs > chosen.last_epochs:
        last = source.positions(chosen.epochs - 1)[0]
        sections.append(Section("Batch 1 of the last epoch", _batch(chips, source, last)))
    height, width = source.samples.options.input_hw
    facts = [
        ("stage", f"{stage} of {len(stages)}"),
        ("epochs", f"{chosen.epochs}"),
        ("images an epoch", f"{plan.images:,}"),
        ("images a batch", f"{plan.batch_size}"),
        ("pixels seen", f"{height} x {width}"),
    ]
    sections.insert(0, Section("How to read it", _how_to_read(data, chosen, plan)))
    page = out if out.suffix.lower() == ".html" else out / "preview.html"
    write_text(page, render_page(f"Preview: {recipe.name}", str(dataset), facts, sections))
    return page


def _how_to_read(data: Dataset, stage: Stage, plan: EpochPlan) -> list[str]:
    said = "Left, or above, a chip as it is brought to the size the network sees; right, or below, what is trained on."
    mixed = ", ".join(f"{share:.0%} {name}" for name, share in zip(plan.names, plan.shares, strict=True))
    parts: list[str] = [
        f"{said} Outlines are the truth; hatched pixels are unusable and count in no loss. Every draw is a function of "
        "seed, stage, epoch and place in the epoch, so training draws exactly these.",
        f"A batch holds {mixed}." if stage.mix else "A batch holds what comes: the stage has no mix.",
    ]
    if stage.augment.least_objects:
        parts.append(f"Images of fewer than {stage.augment.least_objects} objects are flipped at most.")
    return [*parts, legend(list(zip(CLASSES, data.classes, strict=False)))]


def _batch(chips: Chips, source: TrainingBatches, positions: Sequence[Position]) -> list[str]:
    return [figure_grid(list(_figures(chips, source, positions)), min_px=330)]


def _figures(chips: Chips, source: TrainingBatches, positions: Sequence[Position]) -> Iterator[tuple[str, str]]:
    for position in positions:
        chip = position[2]
        seen, untouched = source.samples.sample(position), source.samples.untouched(chip)
        words = ", ".join(source.samples.words(source.samples.draw(position))) or "unchanged"
        yield _pair(untouched, seen), f"{chips.id(chip)} ({_stratum(chips, source.plan, chip)}): {words}"


def _stratum(chips: Chips, plan: EpochPlan, chip: int) -> str:
    """The stratum of the mix that a chip was drawn for; without a mix how many objects it holds."""
    if plan.names != ("all",):
        return next(name for name, group in zip(plan.names, plan.groups, strict=True) if chip in group)
    count = int(chips.objects[chip])
    return "empty" if not count else "1 object" if count == 1 else f"{count} objects"


def _pair(untouched: Sample, seen: Sample) -> str:
    """Both side by side, wide ones one above the other, as a data URI."""
    pictures = [_drawn(sample) for sample in (untouched, seen)]
    height, width = pictures[0].shape[:2]
    stacked = width > 1.5 * height
    gap_px = max(2, max(height, width) // 64)
    gap = np.full((gap_px, width, 3) if stacked else (height, gap_px, 3), 255, np.uint8)
    return image_uri(np.concatenate([pictures[0], gap, pictures[1]], axis=0 if stacked else 1), max_side=PAIR_PX)


def _drawn(sample: Sample) -> Picture:
    times = ENLARGED if max(sample.image.shape[:2]) <= TINY_PX else 1
    picture = np.ascontiguousarray(_large(as_rgb(sample.image), times))
    if sample.valid is not None:
        picture = hatched(picture, _large(~sample.valid, times))
    for number, plane in enumerate(sample.mask):
        if plane.any():
            picture = outlined(picture, _large(plane, times), CLASSES[number % len(CLASSES)])
    return picture


def _large(pixels: np.ndarray, times: int) -> np.ndarray:
    """Each pixel repeated, down and across."""
    return pixels.repeat(times, axis=0).repeat(times, axis=1)

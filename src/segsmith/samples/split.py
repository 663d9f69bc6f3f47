"""Chips + folds -> what is trained on, what decides, what is held out; no pixel stands on two sides.

Whole images go by their fold. Chips of large images go by square blocks of ground: a chip is judged where it lies
within the blocks of one fold, and trained on where it touches no block that is kept away from training, not even with
the guard band around it. So no pixel that is judged was ever in a training window, at whatever scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from segsmith import recipe
from segsmith.audit.folds import make_folds, stratified_folds
from segsmith.data.dataset import TRAINED_ON
from segsmith.errors import DataError
from segsmith.progress import track
from segsmith.samples.chips import Chips, base_scale

PARTS = ("training", "validation", "held_out", "unused")


@dataclass(frozen=True)
class Split:
    """Chip numbers of each part, ascending, and the fold of every chip; -1 for one that lies in no fold or several.

    Only where a recipe learns its images by heart, or validates on all folds in turn, does a chip stand in two parts.
    """

    training: Int[np.ndarray, " training"]
    validation: Int[np.ndarray, " validation"]
    held_out: Int[np.ndarray, " held_out"]
    fold: Int[np.ndarray, " chips"]

    def part(self) -> list[str]:
        """The name of each chip's part; of two, with a plus between them."""
        names: list[list[str]] = [[] for _ in range(len(self.fold))]
        for name in PARTS[:3]:
            for chip in getattr(self, name).tolist():
                names[chip].append(name)
        return ["+".join(of_chip) or PARTS[3] for of_chip in names]


def split(chips: Chips, options: recipe.Folds, seed: int) -> Split:
    """Which chips train, validate, and are held out, as the recipe's folds say; with `by_heart` all train and, where
    they are judged, validate; with `validation: all` likewise all that are not held out, though no training has both.

    Chips of a source that is not fully trusted, and mined ones, train where they may and are never judged. Raises
    DataError where there are too few images, or too few blocks, for the folds, or nothing is left to train or validate
    on. Of a dataset with soft labels, also where their teacher knows what is to judge the student: no image that it, or
    a teacher before it, was trained on may validate, none that one was trained or tuned on may be held out.
    """
    judged = chips.judged & (trust(chips) >= 1)
    if options.by_heart:
        labelled = np.isin(chips.image, chips.dataset.labelled)
        fold = np.where(labelled, options.validated[0], -1).astype(np.int8)
        return _checked(labelled, judged, np.zeros(len(chips), bool), fold)
    in_turn = options.validation == "all"
    kept_away = [fold for fold in (*(() if in_turn else options.validated), options.held_out) if fold is not None]
    if chips.whole or options.split == "images":
        fold = make_folds(chips.dataset, options, seed)[chips.image]
        mined = chips.dataset.mined[chips.image] & (fold < 0)
        trains = mined | ((fold >= 0) & ~np.isin(fold, kept_away))
    else:
        fold, touched = _by_blocks(chips, options, seed)
        trains = ~touched[:, kept_away].any(axis=1)
    held_out = np.zeros(len(chips), bool) if options.held_out is None else judged & (fold == options.held_out)
    validates = judged & np.isin(fold, options.validated)
    if chips.dataset.known.any():
        _check_unknown(chips, options, validates, held_out, fold)
    return _checked(trains, validates, held_out, fold)


def _check_unknown(
    chips: Chips,
    options: recipe.Folds,
    validates: Bool[np.ndarray, " chips"],
    held_out: Bool[np.ndarray, " chips"],
    fold: Int[np.ndarray, " chips"],
) -> None:
    """Raise DataError where a student would be judged on what it was told."""
    known = chips.dataset.known[chips.image]
    if not chips.whole and options.split == "blocks":
        raise DataError(
            "the dataset has soft labels, whose teacher knows images, not blocks of them; set folds.split=images"
        )
    trained_on, tuned_on = validates & (known >= TRAINED_ON), held_out & (known > 0)
    if trained_on.any():
        free = [
            f
            for f in range(options.count)
            if f != options.held_out and (known[(fold == f) & chips.judged] < TRAINED_ON).all()
        ]
        advice = f"set folds.validation={free[0]}" if free else "set seed and folds as the teacher's"
        raise DataError(
            f"{trained_on.sum()} images that are to validate are some that the teacher of the dataset's soft labels, "
            f"or a teacher before it, was trained on, so scores would be too good; {advice}"
        )
    if tuned_on.any():
        raise DataError(
            f"{tuned_on.sum()} images that are to be held out are some that the teacher of the dataset's soft labels, "
            "or a teacher before it, was trained or tuned on, so scores would be too good; hold out the fold that it "
            "held out, or none (folds.held_out=null)"
        )


def _checked(
    trains: Bool[np.ndarray, " chips"],
    validates: Bool[np.ndarray, " chips"],
    held_out: Bool[np.ndarray, " chips"],
    fold: Int[np.ndarray, " chips"],
) -> Split:
    for name, chosen in (("trained", trains), ("validated", validates)):
        if not chosen.any():
            raise DataError(f"no chip is left to be {name} on; set folds.guard or folds.block lower, or add images")
    return Split(np.flatnonzero(trains), np.flatnonzero(validates), np.flatnonzero(held_out), fold)


def unjudged(
    chips: Chips,
    validation: Sequence[int] | Int[np.ndarray, " validation"],
    fold: Int[np.ndarray, " chips"],
    options: recipe.Folds,
) -> dict[str, str]:
    """The classes that no chip of the validation fold holds, each with a line for people: what that means, and what to
    do. Whatever predicts nothing of such a class scores 1, so neither an epoch nor a decision can be chosen by it.

    `fold` is that of each chip, -1 for one that lies in none.
    """
    told, judged = {}, chips.judged & (trust(chips) >= 1) & (fold >= 0)
    lower = "folds.count" if chips.whole or options.split == "images" else "folds.block or folds.count"
    for number, name in enumerate(chips.dataset.classes):
        if chips.present[validation, number].any():
            continue
        elsewhere = set(fold[judged & chips.present[:, number]].tolist()) - {options.held_out}
        if len(elsewhere) > 1:  # one of them is to train on
            advice = f"set folds.validation={min(elsewhere)}, a fold with some, or lower {lower}"
        elif elsewhere:
            advice = f"lower {lower}, or label more images with some"
        else:
            advice = "label images with some"
        told[name] = (
            f"the validation fold holds nothing of class {name}: scores of it, and a decision tuned on it, mean "
            f"nothing; {advice}"
        )
    return told


def trust(chips: Chips) -> Float[np.ndarray, " chips"]:
    """The factor of each chip's loss, 0..1: the trust in its source."""
    of_source = {name: source.trust for name, source in chips.options.sources.items()}
    of_image = np.array([of_source.get(name, 1.0) for name in chips.dataset.images["source"]], np.float32)
    return np.asarray(of_image[chips.image])


def _by_blocks(
    chips: Chips, options: recipe.Folds, seed: int
) -> tuple[Int[np.ndarray, " chips"], Bool[np.ndarray, "chips folds"]]:
    """The fold of chips that lie in the blocks of one, else -1; and the folds whose blocks each chip, with the guard
    band, touches.

    Images of one group, such as scenes of the same ground, are one block: squares of theirs could lie on one another.
    """
    side = np.array(chips.options.input_hw) * options.block
    group = chips.dataset.images["group"].to_numpy()
    sizes = np.bincount(group)
    scales = [base_scale(chips.dataset, int(image), chips.options) for image in range(len(chips.dataset))]
    ratio = np.array(scales)[chips.image] / chips.scale * chips.options.scales[0]
    first = np.stack([chips.top, chips.left], axis=1) * ratio[:, None]
    last = first + np.array(chips.options.input_hw) * ratio[:, None]

    def blocks(chip: int, margin: int) -> list[tuple[int, int, int]]:
        image = int(chips.image[chip])
        if sizes[group[image]] > 1:
            return [(-1 - int(group[image]), 0, 0)]
        low = np.maximum(0, np.floor((first[chip] - margin) / side + 1e-9)).astype(int)
        high = np.ceil((last[chip] + margin) / side - 1e-9).astype(int)
        return [(image, row, column) for row in range(low[0], high[0]) for column in range(low[1], high[1])]

    shares: dict[tuple[int, int, int], list[float]] = {}
    judged = np.flatnonzero(chips.judged).tolist()
    for chip in track(judged, "blocks", len(judged)):
        for block in blocks(chip, 0):
            shares.setdefault(block, []).append(float(chips.foreground[chip]))
    if len(shares) < options.count:
        raise DataError(
            f"{len(shares)} blocks of {options.block} x {options.block} chips cannot be split into {options.count} "
            "folds; set folds.block lower, or folds.count"
        )
    keys = sorted(shares)
    coverage = np.array([np.mean(shares[key]) for key in keys])
    names = [":".join((_name(chips, key[0]), str(key[1]), str(key[2]))) for key in keys]
    dealt = stratified_folds(names, np.ceil(10 * coverage).astype(int), options.count, seed)
    fold_of = dict(zip(keys, dealt.tolist(), strict=True))
    fold = np.full(len(chips), -1, np.int8)
    touched = np.zeros((len(chips), options.count), bool)
    for chip in track(range(len(chips)), "folds", len(chips)):
        within = {fold_of.get(block, -1) for block in blocks(chip, 0)}
        if len(within) == 1:
            fold[chip] = within.pop()
        for block in blocks(chip, options.guard):
            if block in fold_of:
                touched[chip, fold_of[block]] = True
    return fold, touched


def _name(chips: Chips, key: int) -> str:
    """Of a block's image, or of its group: folds must not depend on the order of images."""
    table = chips.dataset.images
    ids = table["image_id"] if key >= 0 else table.loc[table["group"] == -1 - key, "image_id"]
    return str(ids.iloc[key] if key >= 0 else min(ids))

"""A way to read a raw folder + what to leave out -> Dataset with its groups, and all that was found on the way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from segsmith import recipe
from segsmith.audit.audit import Neighbours, audit, missing_classes
from segsmith.audit.duplicates import Descriptions, Duplicates, describe, find_duplicates
from segsmith.audit.folds import make_folds
from segsmith.audit.groups import Groups, make_groups, read_groups
from segsmith.audit.mosaics import Mosaics, find_mosaics
from segsmith.data.cleaning import read_exclusions
from segsmith.data.dataset import Dataset
from segsmith.data.findings import KINDS, BrokenFilesError, Finding, ids_of_kinds, worst_first
from segsmith.errors import DataError


@dataclass(frozen=True)
class Examination:
    """What looking at every image told; None where no image was looked at."""

    described: Descriptions
    duplicates: Duplicates
    mosaics: Mosaics


@dataclass(frozen=True)
class Examined:
    dataset: Dataset
    """Without what was left out, its column `group` filled in."""
    findings: list[Finding]
    """Worst first; also of images that were left out."""
    groups: Groups
    examination: Examination | None


def examine(
    read: Callable[[Mapping[str, str]], Dataset],
    exclude: Sequence[str] = (),
    *,
    of_user: Path | None = None,
    look: bool = True,
) -> Examined:
    """The dataset that `read` gives when told which ids to leave out and why, without what `exclude` names.

    Each name is a kind of finding, or a text file of image ids. `of_user` is a CSV of ids and groups. Without `look`
    no image is audited or compared, and groups are the user's and the index's alone. Raises DataError for a name that
    is neither, and what `read` raises.
    """
    kinds = [name for name in exclude if name in KINDS]
    out: dict[str, str] = {}
    for name in exclude:
        if name not in KINDS:
            out |= _listed(name)
    if kinds and not look:
        raise DataError(f"--exclude {kinds[0]} needs the audit; leave out --no-audit")
    broken: list[Finding] = []
    while True:
        try:
            dataset = read(out)
            break
        except BrokenFilesError as error:
            unwanted = ids_of_kinds(error.findings, kinds)
            if any(found.image_id not in unwanted for found in error.findings):
                raise
            broken += error.findings
            out |= unwanted
    if not look or not dataset.images["bands"].any():
        return _grouped(dataset, broken, of_user, None)
    examination = _compared(dataset)
    findings = _audited(dataset, examination)
    if unwanted := ids_of_kinds(findings, kinds):
        out |= unwanted
        dataset = read(out)
        examination = _compared(dataset)
    return _grouped(dataset, [*broken, *findings], of_user, examination)


def _compared(dataset: Dataset) -> Examination:
    described = describe(dataset)
    return Examination(described, find_duplicates(dataset, described), find_mosaics(dataset))


def _audited(dataset: Dataset, seen: Examination) -> list[Finding]:
    neighbours = [
        Neighbours(joint.first, joint.second, "below" if joint.below else "right") for joint in seen.mosaics.joints
    ]
    disagreeing = [(pair.first, pair.second) for pair in seen.duplicates.pairs if pair.labels_differ]
    return audit(dataset, neighbours=neighbours, disagreeing=disagreeing)


def _folds(dataset: Dataset) -> Int[np.ndarray, " images"] | None:
    """The folds a recipe without options makes of it; None where it makes none."""
    try:
        return make_folds(dataset, recipe.Folds(), 0)
    except DataError:
        return None


def _grouped(
    dataset: Dataset, findings: list[Finding], of_user: Path | None, examination: Examination | None
) -> Examined:
    groups = make_groups(
        dataset,
        examination.duplicates if examination else None,
        examination.mosaics if examination else None,
        read_groups(dataset, of_user) if of_user else None,
    )
    notes = [*dataset.notes]
    if groups.together:
        why = ", ".join(f"{count:,} by {reason}" for reason, count in groups.joined.items())
        notes.append(f"groups: {groups.together:,} images stand with others in one fold ({why})")
    grouped = replace(dataset, images=dataset.images.assign(group=groups.group), notes=tuple(notes))
    folds = _folds(grouped) if examination else None
    lacking = [] if folds is None else missing_classes(grouped, folds)
    return Examined(grouped, worst_first([*findings, *lacking]), groups, examination)


def _listed(name: str) -> dict[str, str]:
    if not Path(name).is_file():
        raise DataError(f"--exclude '{name}' is neither a kind of finding nor a file of ids; kinds: {', '.join(KINDS)}")
    return read_exclusions(Path(name))

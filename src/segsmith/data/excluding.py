"""Raw folder + what to leave out -> Dataset without it, and everything the audit found."""

from collections.abc import Sequence
from pathlib import Path

from segsmith.data.audit import audit
from segsmith.data.dataset import Dataset
from segsmith.data.findings import KINDS, BrokenFilesError, Finding, ids_of_kinds, worst_first
from segsmith.data.ingest_rle import ingest
from segsmith.errors import DataError
from segsmith.types import HW


def ingest_excluding(
    raw: Path, exclude: Sequence[str], *, labels: Path | None = None, assume_hw: HW | None = None
) -> tuple[Dataset, list[Finding]]:
    """The dataset of a raw folder without what `exclude` names, and all findings, also those left out.

    Each name is a kind of finding, or a text file of image ids, one a line. The dataset's notes say how many images
    were left out, and why. Raises DataError for a name that is neither, and like `ingest`.
    """
    kinds = [name for name in exclude if name in KINDS]
    out: dict[str, str] = {}
    for name in exclude:
        if name not in KINDS:
            out |= dict.fromkeys(_listed_ids(name), f"listed in {Path(name).name}")
    broken: list[Finding] = []
    while True:
        try:
            dataset = ingest(raw, labels=labels, assume_hw=assume_hw, exclude=out)
            break
        except BrokenFilesError as error:
            unwanted = ids_of_kinds(error.findings, kinds)
            if any(found.image_id not in unwanted for found in error.findings):
                raise
            broken += error.findings
            out |= unwanted
    findings = audit(dataset)
    if unwanted := ids_of_kinds(findings, kinds):
        out |= unwanted
        dataset = ingest(raw, labels=labels, assume_hw=assume_hw, exclude=out)
    return dataset, worst_first([*broken, *findings])


def _listed_ids(name: str) -> list[str]:
    file = Path(name)
    if not file.is_file():
        raise DataError(f"--exclude '{name}' is neither a kind of finding nor a file of ids; kinds: {', '.join(KINDS)}")
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: does not read as a list of ids, one a line ({error})") from None
    return [line.strip() for line in lines if line.strip()]

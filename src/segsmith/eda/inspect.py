"""Raw folder -> dataset folder: index, profile.json, report.html. The raw files stay as they are."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from segsmith.audit.examine import examine
from segsmith.data.dataset import Dataset
from segsmith.data.findings import Finding, to_csv
from segsmith.data.ingest import Family, ingest
from segsmith.data.ingest_masks import Foreground
from segsmith.eda.data_report import data_report
from segsmith.eda.profile import Profile, profile
from segsmith.errors import WriteError
from segsmith.samples.cache import FOLDER as CACHE
from segsmith.types import HW

WRITTEN = frozenset(
    {"dataset.json", "images.parquet", "objects.parquet", "profile.json", "report.html", "findings.csv", CACHE}
)
"""What a dataset that is replaced may hold: what was written of it, and samples that trainings decoded of it."""


@dataclass(frozen=True)
class Inspection:
    """What was found, and where it was written."""

    folder: Path
    dataset: Dataset
    profile: Profile
    findings: list[Finding]
    """Worst first; also of images that were left out."""
    audited: bool
    """Whether the images were looked at for faults and copies."""


def inspect(
    raw: Path,
    out: Path,
    *,
    layout: Family | None = None,
    labels: Path | None = None,
    assume_hw: HW | None = None,
    classes: Path | None = None,
    foreground: Foreground | None = None,
    class_field: str | None = None,
    exclude: Sequence[str] = (),
    smallest_file: int = 0,
    groups: Path | None = None,
    audit: bool = True,
) -> Inspection:
    """Index and audit a raw folder into `out`, whole or not at all; a dataset that stands there is replaced.

    `exclude` names kinds of findings, or files of ids, whose images are left out; `groups` is a CSV of ids and the
    group each belongs to; without `audit` images are indexed and not compared. The other options are those of
    `ingest`. Raises DataError naming what is wrong with the raw files, WriteError if `out` holds something else or
    cannot be written.
    """
    if out.is_dir():
        there = {path.name for path in out.iterdir()}
        if there - WRITTEN or (there and "dataset.json" not in there):
            other = min(there - WRITTEN, default=min(there))
            raise WriteError(f"{out}: holds {other}, which inspect did not write; choose a new folder")
    read = partial(
        ingest,
        raw,
        layout=layout,
        labels=labels,
        assume_hw=assume_hw,
        classes=classes,
        foreground=foreground,
        class_field=class_field,
        smallest_file=smallest_file,
    )
    examined = examine(lambda out: read(exclude=out), exclude, of_user=groups, look=audit and not assume_hw)
    dataset, findings = examined.dataset, examined.findings
    found = profile(dataset, findings)
    dataset.write(
        out,
        {
            "profile.json": json.dumps(found.as_dict(), indent=2),
            "findings.csv": to_csv(findings),
            "report.html": data_report(examined, found),
        },
    )
    return Inspection(out, dataset, found, findings, examined.examination is not None)

"""Raw folder -> dataset folder: index, profile.json, report.html. The raw files stay as they are."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from segsmith.data.dataset import Dataset
from segsmith.data.examine import examine
from segsmith.data.findings import Finding, to_csv
from segsmith.data.ingest import Family, ingest
from segsmith.data.ingest_masks import Foreground
from segsmith.eda.charts import bar_chart, binned, histogram
from segsmith.eda.findings import as_rgb, findings_section
from segsmith.eda.page import Section, chart_grid, figure_grid, render_page, table
from segsmith.eda.pictures import image_uri, outlined
from segsmith.eda.profile import Profile, object_pixels, profile
from segsmith.errors import WriteError
from segsmith.types import HW

WRITTEN = frozenset(
    {"dataset.json", "images.parquet", "objects.parquet", "profile.json", "report.html", "findings.csv"}
)
SHOWN = 12
"""Sample images per group in the report."""


@dataclass(frozen=True)
class Inspection:
    """What was found, and where it was written."""

    folder: Path
    dataset: Dataset
    profile: Profile
    findings: list[Finding]
    """Worst first; also of images that were left out."""


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
    found = profile(dataset)
    dataset.write(
        out,
        {
            "profile.json": json.dumps(found.as_dict(), indent=2),
            "findings.csv": to_csv(findings),
            "report.html": _report(dataset, found, findings, not assume_hw),
        },
    )
    return Inspection(out, dataset, found, findings)


def _report(dataset: Dataset, found: Profile, findings: Sequence[Finding], with_images: bool) -> str:
    labelled = dataset.images.iloc[dataset.labelled]
    coverage = 100 * (labelled["foreground"] / (labelled["height"].astype(np.int64) * labelled["width"])).to_numpy()
    empty_share = found.empty / max(1, found.labelled)
    facts = [
        ("images", f"{found.images:,}"),
        ("labelled", f"{found.labelled:,}"),
        ("empty", f"{empty_share:.1%}"),
        ("objects", f"{found.objects:,}"),
        ("foreground pixels", f"{found.foreground_share:.2%}"),
    ]
    sizes = sorted(found.sizes.items(), key=lambda item: -item[1])
    sections = [
        Section("What was found", [*dataset.notes, _findings(found, with_images), *_class_table(found)]),
        Section(
            "Labels",
            [
                chart_grid(
                    [
                        bar_chart(
                            list(found.objects_per_image),
                            list(found.objects_per_image.values()),
                            title="Labelled images by number of objects",
                            x_label="images",
                            value_format=",.0f",
                        ),
                        histogram(
                            *binned(object_pixels(dataset), log=True),
                            title=f"Pixels per {'object' if dataset.layout.one_row_per == 'object' else 'mask'}",
                            x_label="pixels",
                            log_x=True,
                        ),
                        histogram(
                            *binned(coverage[coverage > 0]),
                            title="Foreground share of images that have any",
                            x_label="per cent of the image",
                        ),
                    ]
                )
            ],
        ),
        Section(
            "Images",
            [
                table(
                    ["size (height x width)", "images"],
                    [[size, f"{count:,}"] for size, count in sizes[:20]],
                    numeric=[1],
                ),
                *_image_figures(dataset, found, with_images),
            ],
        ),
    ]
    if with_images:
        sections.insert(1, findings_section(dataset, findings))
        sections += [
            Section(f"Samples: {name}", [figure_grid(_samples(dataset, chosen))])
            for name, chosen in _sample_groups(dataset)
            if len(chosen)
        ]
    return render_page(
        f"Data report: {dataset.raw.name}",
        f"Layout {dataset.layout.name}, fingerprint {found.fingerprint}",
        facts,
        sections,
    )


def _class_table(found: Profile) -> list[str]:
    if len(found.classes) == 1:
        return []
    rows = [[name, f"{of['images']:,}", f"{of['pixels']:,}"] for name, of in found.classes.items()]
    return [table(["class", "images", "pixels"], rows, numeric=[1, 2], caption="Images that have it, and its pixels")]


def _findings(found: Profile, with_images: bool) -> str:
    lines = []
    if len(found.sizes) > 1:
        lines.append(f"Images have {len(found.sizes)} different sizes.")
    if len(found.bands) > 1:
        lines.append("Images have different numbers of bands; one training takes images of one kind.")
    if found.labelled and found.empty == found.labelled:
        lines.append("All labelled images are empty: there is nothing to learn.")
    if not lines and with_images:
        return "All images decode, have one size and one number of bands, and all labels fit their images."
    return " ".join(lines) or "All labels fit images of that size."


def _image_figures(dataset: Dataset, found: Profile, with_images: bool) -> list[str]:
    if not with_images:
        return []
    rows = [
        [str(band), f"{mean:.1f}", f"{std:.1f}"]
        for band, (mean, std) in enumerate(zip(found.band_mean, found.band_std, strict=True), start=1)
    ]
    return [
        table(["band", "mean", "deviation"], rows, numeric=[0, 1, 2], caption="Of grey levels 0 to 255, all images"),
        histogram(*binned(dataset.images["file_bytes"].to_numpy() / 1000), title="File size", x_label="kB"),
    ]


def _sample_groups(dataset: Dataset) -> list[tuple[str, Sequence[int]]]:
    """Image numbers evenly spread over each group, so that the same data always shows the same samples."""
    objects = dataset.images["objects"].to_numpy()
    labelled = np.zeros(len(dataset), bool)
    labelled[dataset.labelled] = True
    groups = (
        ("no object", labelled & (objects == 0)),
        ("one object", labelled & (objects == 1)),
        ("several objects", labelled & (objects > 1)),
        ("unlabelled", ~labelled),
    )
    spread = []
    for name, chosen in groups:
        indices = np.flatnonzero(chosen)
        places = np.unique(np.linspace(0, len(indices) - 1, min(SHOWN, len(indices))).astype(int))
        spread.append((name, indices[places].tolist()))
    return spread


def _samples(dataset: Dataset, indices: Sequence[int]) -> list[tuple[str, str]]:
    items = []
    for index in indices:
        image, mask = as_rgb(dataset.image(index)), dataset.mask(index)
        enlarge = 3 if max(image.shape[:2]) <= 128 else 1
        row = dataset.images.iloc[index]
        caption = str(row["image_id"])
        if row["foreground"]:
            caption += f": {row['objects']} object{'' if row['objects'] == 1 else 's'}, {row['foreground']:,} px"
        if len(mask) > 1:
            present = [name for name, plane in zip(dataset.classes, mask, strict=True) if plane.any()]
            caption += f" ({', '.join(present)})" if present else ""
        drawn = outlined(image, np.asarray(mask.any(axis=0)))
        items.append((image_uri(drawn, max_side=480, enlarge=enlarge), caption))
    return items

"""What examining a dataset told + its profile -> report.html, one page that needs no other file.

A section stands there only where it has something to say. Images are opened for pictures, for the levels of their
bands, and for the leak check; of large rasters parts of bounded size.
"""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from segsmith.audit.examine import Examined
from segsmith.data.dataset import Dataset
from segsmith.eda.bands import band_chart, count_levels, ends_in_words
from segsmith.eda.charts import bar_chart, binned, heat_map, histogram
from segsmith.eda.findings import findings_section
from segsmith.eda.page import Section, chart_grid, figure_grid, render_page, table
from segsmith.eda.profile import Profile, object_m2, object_pixels
from segsmith.eda.report_duplicates import duplicates_section
from segsmith.eda.report_folds import folds_section
from segsmith.eda.views import LARGE_PX, view, view_uri

SHOWN = 12
"""Sample images per group."""
FEWEST = 3
"""Images from which on a chart of a number for each of them says anything."""
MOST_BARS = 15
"""Objects per image up to which each number has a bar of its own."""
MOST_CLASSES = 30
"""Classes up to which a matrix of them can be read."""
MOST_ROWS = 20


def data_report(examined: Examined, found: Profile) -> str:
    """The page. Raises DataError when an image that is to be shown has broken since it was indexed."""
    dataset = examined.dataset
    opened = bool(dataset.images["bands"].any())
    sections = [_what_was_found(dataset, found, opened)]
    if opened:
        sections.append(_findings(examined))
    sections.append(_labels(dataset, found))
    sections.append(_images(dataset, found, opened))
    if len(found.sources) > 1:
        sections.append(_sources(dataset, found))
    if examined.examination:
        sections.append(duplicates_section(dataset, examined.groups, examined.examination))
    if found.labelled:
        sections.append(folds_section(dataset, examined.examination.described if examined.examination else None))
    if opened:
        sections += _samples(dataset)
    subtitle = f"Layout {dataset.layout.name}, fingerprint {found.fingerprint}"
    return render_page(f"Data report: {dataset.raw.name}", subtitle, _facts(found), sections)


def _facts(found: Profile) -> list[tuple[str, str]]:
    return [
        ("images", f"{found.images:,}"),
        ("left out", f"{sum(found.left_out.values()):,}"),
        ("labelled", f"{found.labelled:,}"),
        ("empty", f"{found.empty / max(1, found.labelled):.1%}"),
        ("objects", f"{found.objects:,}"),
        ("foreground pixels", f"{found.foreground_share:.2%}"),
    ]


def _what_was_found(dataset: Dataset, found: Profile, opened: bool) -> Section:
    lines = []
    if len(found.sizes) > 1:
        lines.append(f"Images have {len(found.sizes)} different sizes.")
    if len(found.bands) > 1:
        lines.append("Images have different numbers of bands; one training takes images of one kind.")
    if found.labelled and found.empty == found.labelled:
        lines.append("All labelled images are empty: there is nothing to learn.")
    if not lines:
        lines.append(
            "All images decode, have one size and one number of bands, and all labels fit their images."
            if opened
            else "All labels fit images of that size."
        )
    if not opened:
        lines.append("No image was opened, so this report says nothing of how images look, repeat or leak.")
    return Section("What was found", [*dataset.notes, " ".join(lines)])


def _findings(examined: Examined) -> Section:
    if examined.examination or examined.findings:
        return findings_section(examined.dataset, examined.findings)
    return Section("Findings", ["Images were indexed and not audited or compared, as asked for."])


def _labels(dataset: Dataset, found: Profile) -> Section:
    charts = _areas(dataset)
    if found.labelled >= FEWEST:
        charts = [_objects_per_image(dataset, found), *charts, _coverage(dataset)]
    parts: list[str] = []
    if found.labelled:
        empty = f"{found.empty:,} of {found.labelled:,} labelled images are empty ({found.empty / found.labelled:.1%})"
        parts.append(f"{empty}{': predicting nothing is right on these' if found.empty else ''}.")
    parts.append(chart_grid(charts))
    if len(found.classes) > 1:
        parts += _classes(dataset, found)
    return Section("Labels", parts)


def _objects_per_image(dataset: Dataset, found: Profile) -> Markup:
    title = "Labelled images by number of objects"
    if max(map(int, found.objects_per_image), default=0) <= MOST_BARS:
        return bar_chart(
            list(found.objects_per_image),
            list(found.objects_per_image.values()),
            title=title,
            x_label="images",
            value_format=",.0f",
        )
    counts = dataset.images["objects"].to_numpy()[dataset.labelled]
    return histogram(*binned(counts), title=title, x_label="objects", y_label="images")


def _areas(dataset: Dataset) -> list[Markup]:
    """Of objects, or of whole masks where a row of labels is an image's; in square metres too where they are known."""
    what = "object" if dataset.layout.one_row_per == "object" else "mask"
    pixels, metres = object_pixels(dataset), object_m2(dataset)
    charts = [histogram(*binned(pixels, log=True), title=f"Pixels per {what}", x_label="pixels", log_x=True)]
    if len(metres):
        title = f"Square metres per {what}"
        charts.append(histogram(*binned(metres, log=True), title=title, x_label="square metres", log_x=True))
    return charts


def _coverage(dataset: Dataset) -> Markup:
    labelled = dataset.images.iloc[dataset.labelled]
    coverage = 100 * labelled["foreground"].to_numpy() / np.maximum(1, dataset.known_pixels[dataset.labelled])
    return histogram(
        *binned(coverage[coverage > 0]),
        title="Foreground share of images that have any",
        x_label="per cent of the image",
        y_label="images",
    )


def _classes(dataset: Dataset, found: Profile) -> list[str]:
    names = list(found.classes)
    pixels = [of["pixels"] for of in found.classes.values()]
    total = max(1, sum(pixels))
    rows = [
        [name, f"{of['images']:,}", f"{of['images'] / max(1, found.labelled):.1%}", f"{of['pixels'] / total:.1%}"]
        for name, of in found.classes.items()
    ]
    parts: list[str] = [
        table(
            ["class", "images", "of labelled images", "of foreground"],
            rows,
            numeric=[1, 2, 3],
            caption="Images that have a class, and its share of all labelled pixels of objects",
        )
    ]
    if len(names) > MOST_CLASSES:
        return [*parts, f"{len(names)} classes are too many for a matrix; profile.json holds it."]
    shares = [count / total for count in pixels]
    both = np.array([list(row.values()) for row in found.co_occurrence.values()])
    return [
        *parts,
        chart_grid(
            [
                bar_chart(names, shares, title="Foreground by class", x_label="share", value_format=".1%"),
                heat_map(
                    np.where(np.eye(len(names), dtype=bool), np.nan, both),
                    names,
                    names,
                    title="Images that have both classes",
                    x_label="class",
                    y_label="class",
                    value_label="images",
                    value_format=",.0f",
                    written=True,
                ),
            ]
        ),
        _together(dataset.classes, both),
    ]


def _together(names: Sequence[str], both: np.ndarray) -> str:
    """Which two classes stand together most often, in words."""
    upper = np.triu(both, 1)
    if not upper.any():
        return "No image has two classes."
    first, second = divmod(int(upper.argmax()), len(names))
    count = int(upper[first, second])
    share = count / max(1, min(int(both[first, first]), int(both[second, second])))
    return (
        f"{names[first]} and {names[second]} stand together most often: in {count:,} images, {share:.0%} of those "
        "that have the rarer of the two."
    )


def _images(dataset: Dataset, found: Profile, opened: bool) -> Section:
    sizes = sorted(found.sizes.items(), key=lambda item: -item[1])
    rows = [[size, f"{count:,}"] for size, count in sizes[:MOST_ROWS]]
    parts: list[str] = [table(["size (height x width)", "images"], rows, numeric=[1])]
    if len(sizes) > MOST_ROWS:
        parts.append(f"and {len(sizes) - MOST_ROWS:,} more sizes: see profile.json")
    return Section("Images", [*parts, *(_looks(dataset, found) if opened else [])])


def _looks(dataset: Dataset, found: Profile) -> list[str]:
    """What the pixels are like."""
    levels = count_levels(dataset)
    rows = [
        [str(band), f"{mean:.1f}", f"{std:.1f}"]
        for band, (mean, std) in enumerate(zip(found.band_mean, found.band_std, strict=True), start=1)
    ]
    charts = [band_chart(levels)]
    if len(dataset) >= FEWEST:
        bytes_ = dataset.images["file_bytes"].to_numpy()
        brightness = np.array([np.mean(means) if len(means) else np.nan for means in dataset.images["band_mean"]])
        charts += [
            histogram(*binned(brightness), title="Brightness", x_label="mean grey level of an image", y_label="images"),
            histogram(*binned(bytes_ / 1000), title="File size", x_label="kB", y_label="images"),
        ]
    caption = "Of grey levels 0 to 255, all images"
    return [
        table(["band", "mean", "deviation"], rows, numeric=[0, 1, 2], caption=caption),
        chart_grid(charts),
        ends_in_words(levels),
    ]


def _sources(dataset: Dataset, found: Profile) -> Section:
    gsd_m = dataset.images.groupby("source")["gsd_m"].median().to_dict()
    known = any(value > 0 for value in gsd_m.values())
    rows = [
        [
            name,
            *(f"{of[key]:,}" for key in ("images", "labelled", "empty", "objects")),
            f"{of['foreground'] / max(1, of['labelled_pixels']):.2%}",
            *([f"{gsd_m[name]:.3g}"] if known else []),
        ]
        for name, of in found.sources.items()
    ]
    headers = ["source", "images", "labelled", "empty", "objects", "foreground pixels", *["metres a pixel"] * known]
    said = "data.sources in a recipe gives each source a weight and a trust."
    return Section("Sources", [table(headers, rows, numeric=range(1, len(headers))), said])


def _samples(dataset: Dataset) -> list[Section]:
    large = dataset.images[["height", "width"]].max(axis=1).median() > LARGE_PX
    return [
        Section(f"Samples: {name}", [figure_grid([_sample(dataset, i) for i in chosen], min_px=300 if large else 150)])
        for name, chosen in _sample_groups(dataset)
        if chosen
    ]


def _sample_groups(dataset: Dataset) -> list[tuple[str, list[int]]]:
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


def _sample(dataset: Dataset, index: int) -> tuple[str, str]:
    row, seen = dataset.images.iloc[index], view(dataset, index)
    caption = str(row["image_id"])
    if row["foreground"]:
        caption += f": {row['objects']:,} object{'' if row['objects'] == 1 else 's'}, {row['foreground']:,} px"
    if len(seen.mask) > 1:
        present = [name for name, plane in zip(dataset.classes, seen.mask, strict=True) if plane.any()]
        caption += f" ({', '.join(present)})" if present else ""
    return view_uri(seen), caption + seen.note

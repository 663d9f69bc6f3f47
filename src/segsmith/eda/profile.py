"""Dataset -> profile.json: what the data says, measured and not configured."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float64, Num
from shapely import area, from_wkb

from segsmith.data.cleaning import left_out
from segsmith.data.dataset import Dataset
from segsmith.data.findings import Finding

QUANTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class Profile:
    """Counts and measures of a dataset. Sizes are 'HEIGHTxWIDTH' in pixels; quantiles are named by percent."""

    fingerprint: str
    images: int
    labelled: int
    empty: int
    """Labelled images without foreground."""
    objects: int
    sizes: dict[str, int]
    bands: dict[str, int]
    file_bytes: dict[str, float]
    objects_per_image: dict[str, int]
    """How many labelled images have how many objects."""
    object_pixels: dict[str, float]
    """Of the layouts that label objects one by one; of whole masks otherwise. Of polygons the area."""
    object_m2: dict[str, float]
    """The same in square metres, of images whose ground sampling distance is known."""
    coverage: dict[str, float]
    """Share of foreground in the images that have any."""
    foreground_share: float
    """Of all labelled pixels."""
    classes: dict[str, dict[str, int]]
    """Of each class: labelled images that have it, and its pixels."""
    co_occurrence: dict[str, dict[str, int]]
    """Of each class and each class: labelled images that have both."""
    sources: dict[str, dict[str, int]]
    """Of each source: images, and of them labelled, empty, objects, foreground pixels and labelled pixels."""
    groups: dict[str, int]
    """Images that stand with others in one group, and images of the largest group."""
    findings: dict[str, int]
    """How many findings of each kind, the kind with the worst finding first."""
    left_out: dict[str, int]
    """How many images were left out, by reason."""
    notes: tuple[str, ...]
    """What was read, taken for granted and left out."""
    band_mean: tuple[float, ...]
    band_std: tuple[float, ...]
    """Of 0..255, over images of the most common number of bands."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def profile(dataset: Dataset, findings: Sequence[Finding] = ()) -> Profile:
    """Measure a dataset from its index alone; no image is opened again. `findings` are counted as they come."""
    images = dataset.images
    labelled = images.iloc[dataset.labelled]
    pixels = np.maximum(1, dataset.known_pixels[dataset.labelled])
    filled = labelled["foreground"] > 0
    counts = labelled["objects"].value_counts().sort_index()
    sizes = (images["height"].astype(str) + "x" + images["width"].astype(str)).value_counts()
    bands = images["bands"].value_counts()
    mean, std = band_statistics(dataset)
    return Profile(
        fingerprint=dataset.fingerprint,
        images=len(images),
        labelled=len(labelled),
        empty=int((~filled).sum()),
        objects=int(labelled["objects"].sum()),
        sizes={str(name): int(count) for name, count in sizes.items()},
        bands={str(name): int(count) for name, count in bands.items()},
        file_bytes=_quantiles(images["file_bytes"].to_numpy()),
        objects_per_image={str(name): int(count) for name, count in counts.items()},
        object_pixels=_quantiles(object_pixels(dataset)),
        object_m2=_quantiles(object_m2(dataset)),
        coverage=_quantiles((labelled["foreground"] / pixels)[filled].to_numpy()),
        foreground_share=float(labelled["foreground"].sum() / max(1, pixels.sum())),
        classes=_classes(dataset),
        co_occurrence=_co_occurrence(dataset),
        sources=_sources(dataset),
        groups=_groups(dataset),
        findings=dict(Counter(found.kind for found in findings)),
        left_out=left_out(dataset.notes),
        notes=dataset.notes,
        band_mean=mean,
        band_std=std,
    )


def _classes(dataset: Dataset) -> dict[str, dict[str, int]]:
    of_class, image = dataset.objects["class"].to_numpy(), dataset.objects["image"].to_numpy()
    pixels = object_pixels(dataset)
    return {
        name: {
            "images": len(np.unique(image[of_class == class_id])),
            "pixels": int(pixels[of_class == class_id].sum()),
        }
        for class_id, name in enumerate(dataset.classes)
    }


def _co_occurrence(dataset: Dataset) -> dict[str, dict[str, int]]:
    present = classes_present(dataset).astype(np.float64)
    both = np.rint(present.T @ present).astype(int).tolist()
    return {name: dict(zip(dataset.classes, row, strict=True)) for name, row in zip(dataset.classes, both, strict=True)}


def _sources(dataset: Dataset) -> dict[str, dict[str, int]]:
    table = dataset.images[["source", "labelled", "objects", "foreground"]]
    pixels = dataset.known_pixels * table["labelled"]
    counted = table.assign(images=1, empty=table["labelled"] & (table["foreground"] == 0), labelled_pixels=pixels)
    columns = ["images", "labelled", "empty", "objects", "foreground", "labelled_pixels"]
    sums = counted.groupby("source", sort=False)[columns].sum()
    return {str(name): {column: int(row[column]) for column in columns} for name, row in sums.iterrows()}


def _groups(dataset: Dataset) -> dict[str, int]:
    sizes = dataset.images["group"].value_counts().to_numpy()
    return {"together": int(sizes[sizes > 1].sum()), "largest": int(sizes.max(initial=0))}


def classes_present(dataset: Dataset) -> Bool[np.ndarray, "images classes"]:
    """Which classes each image has."""
    present = np.zeros((len(dataset), len(dataset.classes)), bool)
    present[dataset.objects["image"].to_numpy(), dataset.objects["class"].to_numpy()] = True
    return present


def object_pixels(dataset: Dataset) -> Num[np.ndarray, " objects"]:
    """Pixels of each labelled row of objects, in the order of the index; of polygons their area in pixels, also of
    what lies beyond the image."""
    if dataset.of_polygons:
        return np.asarray(area(from_wkb(dataset.objects["shape"].to_numpy())))
    lengths = np.concatenate([[0], np.cumsum(dataset.runs[:, 1], dtype=np.int64)])
    return np.asarray(lengths[dataset.offsets[1:]] - lengths[dataset.offsets[:-1]])


def object_m2(dataset: Dataset) -> Float64[np.ndarray, " known"]:
    """Square metres of each object, of the images whose ground sampling distance is known."""
    gsd_m = dataset.images["gsd_m"].to_numpy(np.float64)[dataset.objects["image"].to_numpy()]
    return np.asarray((object_pixels(dataset) * gsd_m**2)[gsd_m > 0])


def band_statistics(dataset: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per band of 0..255 over all pixels (exactly so when images are of one size), for images of
    the most common number of bands; nothing for a dataset indexed without images."""
    bands = dataset.images["bands"].mode().iloc[0]
    of_kind = dataset.images[dataset.images["bands"] == bands]
    means, stds = np.array(of_kind["band_mean"].tolist()), np.array(of_kind["band_std"].tolist())
    mean = means.mean(axis=0)
    std = np.sqrt((stds**2 + (means - mean) ** 2).mean(axis=0))
    return tuple(mean.tolist()), tuple(std.tolist())


def _quantiles(values: Num[np.ndarray, " values"]) -> dict[str, float]:
    if not len(values):
        return {}
    return {str(q): float(value) for q, value in zip(QUANTILES, np.percentile(values, QUANTILES), strict=True)}

"""Dataset -> profile.json: what the data says, measured and not configured."""

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Num

from segsmith.data.dataset import Dataset

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
    """Of the layouts that label objects one by one; of whole masks otherwise."""
    coverage: dict[str, float]
    """Share of foreground in the images that have any."""
    foreground_share: float
    """Of all labelled pixels."""
    classes: dict[str, dict[str, int]]
    """Of each class: labelled images that have it, and its pixels."""
    notes: tuple[str, ...]
    """What was read, taken for granted and left out."""
    band_mean: tuple[float, ...]
    band_std: tuple[float, ...]
    """Of 0..255, over images of the most common number of bands."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def profile(dataset: Dataset) -> Profile:
    """Measure a dataset from its index alone; no image is opened again."""
    images = dataset.images
    labelled = images.iloc[dataset.labelled]
    pixels = labelled["height"].astype(np.int64) * labelled["width"]
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
        coverage=_quantiles((labelled["foreground"] / pixels)[filled].to_numpy()),
        foreground_share=float(labelled["foreground"].sum() / max(1, pixels.sum())),
        classes=_classes(dataset),
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


def object_pixels(dataset: Dataset) -> Num[np.ndarray, " objects"]:
    """Pixels of each labelled row of objects, in the order of the index."""
    lengths = np.concatenate([[0], np.cumsum(dataset.runs[:, 1], dtype=np.int64)])
    return np.asarray(lengths[dataset.offsets[1:]] - lengths[dataset.offsets[:-1]])


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

"""Predictions of rasters, as `predict` writes them, of levels that a test knows."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from segsmith.data.rasters import inspect_raster
from segsmith.delivery.polygons import FoundObject
from segsmith.delivery.strip_files import StripFiles
from segsmith.delivery.vectors import write_vectors

UTM = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)


@dataclass(frozen=True)
class Made:
    """A folder, the raster it is of, and what is in both: `image` and `levels` bands first."""

    folder: Path
    raster: Path
    image: np.ndarray
    levels: np.ndarray
    known: np.ndarray


def write_raster(path: Path, image: np.ndarray, *, crs: str | None = "EPSG:32631", transform=UTM, **profile) -> Path:
    """A GeoTIFF, bands first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(image), height=image.shape[1], width=image.shape[2], dtype=image.dtype,
        crs=crs, transform=transform, **({"tiled": True, "blockxsize": 256, "blockysize": 256} | profile),
    ) as file:  # fmt: skip
        file.write(image)
    return path


def make_prediction(
    folder: Path,
    image: np.ndarray,
    levels: np.ndarray,
    *,
    known: np.ndarray | None = None,
    threshold: int | None = 100,
    objects: list[FoundObject] | None = None,
    vectors: tuple[str, ...] = ("gpkg",),
    name: str = "field",
    **raster,
) -> Made:
    """What `predict` would write beside a raster, had a network said `levels`, a plane per class, and the decision kept
    what is at `threshold` or higher."""
    path = write_raster(folder / "in" / f"{name}.tif", image, **raster)
    facts = inspect_raster(path)
    out = folder / "out"
    known = np.ones(facts.hw, bool) if known is None else known
    classes = [f"class{number}" for number in range(len(levels))]
    strips = StripFiles(folder / "strips", facts, [0, facts.hw[0]])
    strips.write(0, np.concatenate([levels * known, known[None] * np.uint8(255)]).astype(np.uint8))
    strips.write_cog(out / "probabilities" / f"{name}.tif", classes)
    masks = StripFiles(folder / "masks", facts, [0, facts.hw[0]])
    masks.write(0, np.where(known, levels >= (threshold or 128), 255).astype(np.uint8))
    masks.write_cog(out / "masks" / f"{name}.tif", classes, nodata=255, resampling="nearest")
    if objects is not None:
        for suffix in vectors:
            write_vectors(out / "objects" / f"{name}.{suffix}", objects, Affine(*facts.transform), facts.crs)
    told = {
        "raster": str(path), "hw": facts.hw, "bands": facts.bands, "levels": None,
        "thresholds": dict.fromkeys(classes, threshold), "foreground_pixels": dict.fromkeys(classes, 0),
    }  # fmt: skip
    if threshold is None:
        del told["thresholds"]
    (out / "prediction.json").write_text(json.dumps([told]))
    return Made(out, path, image, levels, known)

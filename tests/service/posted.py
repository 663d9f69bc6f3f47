"""What tests post to a service, and what its bundle is made with."""

from pathlib import Path

import cv2
import numpy as np
import rasterio

OPTIONS = ("data.input_hw=[32,32]", "predict.batch_size=4", "predict.flips=none", "decide.gate=none")


def noise(*hw: int, seed: int = 0) -> np.ndarray:
    """Of four pixels' width, so that objects are larger than one."""
    coarse = np.random.default_rng(seed).integers(0, 256, (-(-hw[0] // 4), -(-hw[1] // 4), 3), np.uint8)
    return np.kron(coarse, np.ones((4, 4, 1), np.uint8))[: hw[0], : hw[1]]


def encoded(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def geotiff(path: Path, pixels: np.ndarray, **profile: object) -> bytes:
    """A GeoTIFF in UTM, of pixels with their bands last; it stays where it was made."""
    place = {"crs": "EPSG:32631", "transform": rasterio.transform.from_origin(500_000, 5_000_000, 0.2, 0.2)}
    height, width, count = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=pixels.dtype, **place | profile
    ) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path.read_bytes()

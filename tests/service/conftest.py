"""A bundle with something to find, and a service of it in this process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio

from segsmith.data.rasters import Levels
from segsmith.data.sight import Sight
from segsmith.modeling.bundle import Bundle
from segsmith.prediction.probabilities import Predictor

pytest.importorskip("fastapi", reason="the service is an extra: pip install 'segsmith[serve]'")

from starlette.testclient import TestClient

from segsmith.service.app import make_app
from segsmith.service.limits import Limits

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


@pytest.fixture(scope="session")
def bundle(tmp_path_factory, make_bundle) -> Path:
    """It finds some objects in noise, the smallest of which go."""
    path = tmp_path_factory.mktemp("served") / "bundle.safetensors"
    level = int(np.percentile(Predictor(make_bundle(*OPTIONS))([noise(48, 48)])[0], 80))
    made = make_bundle(*OPTIONS, level=level, smallest_area=6)
    replace(made, sight=Sight(gsd_m=(0.2, 0.2), levels=(Levels((100.0,) * 3, (1100.0,) * 3),))).write(path)
    return path


Serving = Callable[..., "Iterator[TestClient]"]


@pytest.fixture(scope="session")
def serving(bundle):
    """`with serving(pixels=100) as client`: a service with these limits."""

    @contextmanager
    def serve(of: Bundle | None = None, token: str | None = None, **limits: float) -> Iterator[TestClient]:
        app = make_app(of or Bundle.read(bundle), Limits(**limits), token)
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client

    return serve


@pytest.fixture(scope="module")
def client(serving) -> Iterator[TestClient]:
    with serving() as client:
        yield client

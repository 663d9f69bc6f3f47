"""One made-up scene of any size: its footprints lie on its roofs in every cell, and memory does not follow the size."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.features import rasterize
from rasterio.warp import transform_geom

from segsmith.data.scenes import RasterForm, make_large_scene, rasters
from segsmith.data.scenes.aerial import draw_town
from segsmith.data.scenes.files import TRAIN

CELL = 256
HW = (600, 700)


@pytest.fixture(autouse=True)
def small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine cells of a settlement that is quick to draw."""
    monkeypatch.setattr(rasters, "_CELL", CELL)


def truth(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a scene, and which of them lie in a footprint."""
    features = json.loads(path.with_suffix(".geojson").read_text())["features"]
    assert [feature["properties"]["osm_id"] for feature in features] == list(range(1, len(features) + 1))
    polygons = [feature["geometry"] for feature in features]
    assert all(shapely.geometry.shape(polygon).is_valid for polygon in polygons)
    with rasterio.open(path) as file:
        moved = transform_geom("EPSG:4326", file.crs, polygons)
        return file.read(), np.asarray(rasterize(moved, file.shape, transform=file.transform, dtype="uint8")).astype(
            bool
        )


@pytest.mark.parametrize("form", [RasterForm(), RasterForm(bands=3, blank="none", turned="rotated", epsg=32737)])
def test_footprints_lie_on_the_roofs_of_every_cell(tmp_path: Path, form: RasterForm) -> None:
    path = tmp_path / "area" / "area_0.tif"
    make_large_scene(path, hw=HW, gsd_m=0.3, seed=2, form=form)
    pixels, filled = truth(path)
    assert pixels.shape == (form.bands, *HW)
    town = draw_town(np.random.default_rng([2, TRAIN]), (CELL, CELL), gsd_m=0.3, share=0.15, inside=True)
    ways: list[Any] = [town.mask, town.mask.T]
    ways = [way[::down, ::right] for way in ways for down in (1, -1) for right in (1, -1)]
    used = set[int]()
    for top in range(0, HW[0], CELL):
        for left in range(0, HW[1], CELL):
            seen, label = pixels[:, top : top + CELL, left : left + CELL], filled[top : top + CELL, left : left + CELL]
            if form.blank == "alpha" and not seen[3].any():
                assert not label.any()
                continue
            height, width = label.shape
            scores = [(way[:height, :width] & label).sum() / (way[:height, :width] | label).sum() for way in ways]
            used.add(int(np.argmax(scores)))
            assert max(scores) > 0.95
            # And the picture is laid down the same way as the labels.
            turned = [town.image.transpose(2, 0, 1), town.image.transpose(2, 1, 0)]
            turned = [image[:, ::down, ::right] for image in turned for down in (1, -1) for right in (1, -1)]
            close = [np.corrcoef(image[:, :height, :width].ravel(), seen[:3].ravel())[0, 1] for image in turned]
            assert np.argmax(close) == np.argmax(scores)
            assert max(close) > 0.98
    assert len(used) > 2


@pytest.mark.parametrize(("dtype", "blank"), [("uint8", "nodata"), ("uint16", "nodata"), ("float32", "alpha")])
def test_blank_cells_are_all_that_is_blank(tmp_path: Path, dtype: Any, blank: Any) -> None:
    form = RasterForm(bands=4, dtype=dtype, blank=blank)
    make_large_scene(tmp_path / "a.tif", hw=(64 + 4 * CELL, 64 + 4 * CELL), gsd_m=0.4, seed=1, form=form)
    with rasterio.open(tmp_path / "a.tif") as file:
        valid = file.read(4) != 0 if blank == "alpha" else file.read(1) != 0
    cells = valid[: 4 * CELL, : 4 * CELL].reshape(4, CELL, 4, CELL).transpose(0, 2, 1, 3).reshape(16, -1)
    assert (cells.all(1) == cells.any(1)).all()
    assert cells[0].all()


def test_the_same_call_writes_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_large_scene(tmp_path / f"{name}.tif", hw=(300, 260), gsd_m=0.4, seed=seed)
    for suffix in (".tif", ".geojson"):
        a, b, c = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "abc")
        assert a == b
        assert a != c


def test_importing_the_makers_loads_no_raster_library() -> None:
    code = "import sys, segsmith.data.scenes; print({'rasterio', 'pyogrio', 'shapely', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"

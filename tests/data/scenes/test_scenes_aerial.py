"""Settlements from above: outlines are where the roofs are, at every resolution; one image and its truth from them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from rasterio.features import rasterize

from segsmith.data import scenes
from segsmith.data.scenes.aerial import Town, draw_town


def rasterised(town: Town) -> np.ndarray:
    shapes = [(shapely.Polygon(b.rings[0], b.rings[1:]), 1) for b in town.buildings]
    return np.asarray(rasterize(shapes, town.mask.shape, dtype="uint8")).astype(bool)


@pytest.mark.parametrize(("gsd", "share", "least"), [(0.07, 0.2, 0.02), (0.15, 0.12, 0.08), (0.4, 0.2, 0.16)])
def test_outlines_are_the_mask_and_cover_the_share(gsd: float, share: float, least: float) -> None:
    town = draw_town(np.random.default_rng(7), (448, 512), gsd_m=gsd, share=share)
    filled = rasterised(town)
    # A rasteriser asks for the middle of a pixel, the mask for half of it: only borders differ.
    assert (filled & town.mask).sum() / (filled | town.mask).sum() > 0.96
    assert least < town.mask.mean() < 1.3 * share
    assert town.buildings
    outlines = [shapely.Polygon(b.rings[0], b.rings[1:]) for b in town.buildings]
    assert all(outline.is_valid for outline in outlines)
    tree = shapely.STRtree(outlines)
    pairs = tree.query(outlines, predicate="intersects")
    assert (pairs[0] == pairs[1]).all(), "no building touches another"


def test_roofs_end_where_their_outlines_do() -> None:
    """Fails when outlines are half a pixel or more off, transposed or mirrored against what is drawn."""
    town = draw_town(np.random.default_rng(3), (512, 512), gsd_m=0.15, share=0.2)
    grey = cv2.cvtColor(town.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    steep = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    filled = rasterised(town).astype(np.uint8)
    border = cv2.morphologyEx(filled, cv2.MORPH_GRADIENT, np.ones((3, 3)))

    def steepness(down: int, right: int) -> float:
        moved = np.roll(border, (down, right), (0, 1))[8:-8, 8:-8].astype(bool)
        return float(steep[8:-8, 8:-8][moved].mean())

    moved = {(y, x): steepness(y, x) for y in range(-3, 4) for x in range(-3, 4)}
    assert max(moved, key=moved.__getitem__) == (0, 0)
    assert steepness(0, 0) > 1.5 * steepness(6, 6)


def test_inside_keeps_every_building_whole() -> None:
    town = draw_town(np.random.default_rng(5), (300, 300), gsd_m=0.15, share=0.2, inside=True)
    points = np.concatenate([ring for building in town.buildings for ring in building.rings])
    assert points.min() >= 2
    assert points.max() <= 298


def test_some_building_has_a_courtyard_that_is_no_building() -> None:
    for seed in range(20):
        town = draw_town(np.random.default_rng(seed), (400, 400), gsd_m=0.3, share=0.2)
        for building in town.buildings:
            if len(building.rings) > 1:
                x, y = building.rings[1].mean(0).astype(int).tolist()
                if 0 <= x < 400 and 0 <= y < 400:
                    assert not town.mask[y, x]
                    return
    pytest.fail("no courtyard in twenty settlements")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_houses_are_black_on_white_and_as_rare_as_promised(tmp_path: Path, seed: int) -> None:
    scenes.make_houses(tmp_path, hw=(320, 400), seed=seed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gt.png", "rgb.png"]
    image, truth = (cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED) for name in ("rgb.png", "gt.png"))
    assert image is not None
    assert truth is not None
    assert image.shape == truth.shape == (320, 400, 3)
    assert set(np.unique(truth)) == {0, 255}
    assert (np.ptp(truth, axis=2) == 0).all()
    assert 0.07 <= (truth == 0).mean() <= 0.13


def test_houses_are_the_same_for_the_same_seed_and_refused_when_too_small(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        scenes.make_houses(tmp_path / name, hw=(256, 256), seed=seed)
    a, b, c = ([(tmp_path / name / file).read_bytes() for file in ("rgb.png", "gt.png")] for name in ("a", "b", "c"))
    assert a == b
    assert a != c
    with pytest.raises(ValueError, match=r"at least 256.*\(200, 300\)"):
        scenes.make_houses(tmp_path / "d", hw=(200, 300))

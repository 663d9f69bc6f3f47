"""Dataset -> mosaics: patches of one made section find their places; patches of nothing in common stay apart."""

from pathlib import Path

import cv2
import numpy as np

from segsmith.audit.mosaics import find_mosaics, rebuilt
from segsmith.data.dataset import Dataset
from segsmith.data.ingest_rle import ingest

SIDE = 60


def texture(seed: int, hw: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    fields = [cv2.GaussianBlur(rng.normal(size=hw), (0, 0), sigma) * sigma for sigma in (1.5, 4)]
    return np.clip(128 + 60 * sum(fields), 0, 255).astype(np.uint8)


def cut(picture: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    down, across = (side // SIDE for side in picture.shape)
    return {
        (row, column): picture[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
        for row in range(down)
        for column in range(across)
    }


def dataset_of(raw: Path, images: dict[str, np.ndarray]) -> Dataset:
    """Labelled images, shuffled by name."""
    (raw / "images").mkdir(parents=True)
    for name, image in images.items():
        cv2.imwrite(str(raw / "images" / name), image)
    (raw / "train.csv").write_text("ImageId,EncodedPixels\n" + "".join(f"{name},\n" for name in sorted(images)))
    return ingest(raw)


def test_two_sections_are_put_together_again(tmp_path):
    sections = [texture(seed, (2 * SIDE, 3 * SIDE)) for seed in (0, 1)]
    order = np.random.default_rng(0).permutation(12)
    patches = [patch for section in sections for patch in cut(section).values()]
    dataset = dataset_of(tmp_path, {f"{order[n]:02d}.png": patch for n, patch in enumerate(patches)})
    found = find_mosaics(dataset)
    assert [len(mosaic.images) for mosaic in found.mosaics] == [6, 6]
    assert found.contradictions == 0
    whole = {rebuilt(dataset, mosaic)[:, :, 0].tobytes() for mosaic in found.mosaics}
    assert whole == {section.tobytes() for section in sections}


def test_contrast_of_single_patches_does_not_matter(tmp_path):
    patches = cut(texture(2, (SIDE, 4 * SIDE)))
    images = {
        f"{n}.png": cv2.convertScaleAbs(p, alpha=0.6 + 0.1 * n, beta=4 * n) for n, p in enumerate(patches.values())
    }
    (mosaic,) = find_mosaics(dataset_of(tmp_path, images)).mosaics
    assert mosaic.images == (0, 1, 2, 3)
    assert (mosaic.rows, mosaic.columns) == ((0, 0, 0, 0), (0, 1, 2, 3))


def test_a_missing_patch_leaves_a_black_place(tmp_path):
    patches = cut(texture(3, (2 * SIDE, 2 * SIDE)))
    del patches[0, 1]
    dataset = dataset_of(tmp_path, {f"{row}{column}.png": patch for (row, column), patch in patches.items()})
    (mosaic,) = find_mosaics(dataset).mosaics
    picture = rebuilt(dataset, mosaic)
    assert picture.shape == (2 * SIDE, 2 * SIDE, 1)
    assert not picture[:SIDE, SIDE:].any()
    assert picture[SIDE:].any()


def test_unlike_and_plain_patches_stay_apart(tmp_path):
    unlike = {f"a{n}.png": texture(10 + n, (SIDE, SIDE)) for n in range(12)}
    plain = {f"b{n}.png": np.full((SIDE, SIDE), 100 + n, np.uint8) for n in range(4)}
    level = {}
    for n in range(6):  # one bright line across an even patch fits any other
        level[f"c{n}.png"] = np.full((SIDE, SIDE), 90, np.uint8)
        level[f"c{n}.png"][29 + n % 2 : 32] = 220
    assert find_mosaics(dataset_of(tmp_path, unlike | plain | level)).mosaics == ()

"""The measures of a dataset against counts made here, from files written here."""

import json
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest

from segsmith.data.cleaning import Cleaning
from segsmith.data.findings import Finding
from segsmith.data.ingest import ingest as ingest_any
from segsmith.data.ingest_rle import ingest
from segsmith.data.scenes.buildings import make_buildings
from segsmith.eda.profile import band_statistics, object_m2, object_pixels, profile

SIZES = {"a": (20, 24), "b": (20, 24), "c": (20, 24), "d": (16, 30), "e": (20, 24), "x": (10, 10)}
ROWS = {"a": [""], "b": ["1 3"], "c": ["1 4 40 6", "101 1"], "d": ["7 30"], "e": ["0"]}
"""Run lengths by image; x is unlabelled."""


def save(path, image) -> None:
    _, content = cv2.imencode(path.suffix, image)
    path.write_bytes(content.tobytes())


@pytest.fixture
def raw(tmp_path):
    """Images of two sizes, one of them unlabelled."""
    for folder in ("raw/train", "raw/test"):
        (tmp_path / folder).mkdir(parents=True)
    noise = np.random.default_rng(0)
    for number, (name, hw) in enumerate(SIZES.items()):
        folder = "test" if name == "x" else "train"
        pixels = noise.integers(10 * number, 256 - 20 * number, (*hw, 3), np.uint8)
        save(tmp_path / "raw" / folder / f"{name}.png", pixels)
    lines = [f"{name}.png,{text}" for name, texts in ROWS.items() for text in texts]
    (tmp_path / "raw" / "train.csv").write_text("\n".join(["ImageId,EncodedPixels", *lines]) + "\n")
    return tmp_path / "raw"


def lengths(text: str) -> int:
    return sum(int(word) for word in text.split()[1::2])


def pictures(raw) -> dict[str, np.ndarray]:
    """Pixels as RGB by name."""
    return {path.stem: cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in sorted(raw.glob("*/*.png"))}


def test_counts(raw):
    found = profile(ingest(raw))
    pixels = {name: [lengths(text) for text in texts if lengths(text)] for name, texts in ROWS.items()}
    assert (found.images, found.labelled) == (len(SIZES), len(ROWS))
    assert found.empty == sum(not of_image for of_image in pixels.values()) == 2
    assert found.objects == sum(map(len, pixels.values())) == 4
    assert found.sizes == Counter(f"{height}x{width}" for height, width in SIZES.values())
    assert found.bands == {"3": len(SIZES)}
    assert found.objects_per_image == Counter(str(len(of_image)) for of_image in pixels.values())
    area = {name: height * width for name, (height, width) in SIZES.items()}
    labelled_area = sum(area[name] for name in ROWS)
    assert found.foreground_share == pytest.approx(sum(map(sum, pixels.values())) / labelled_area)
    assert object_pixels(ingest(raw)).tolist() == [count for of_image in pixels.values() for count in of_image]
    for quantiles, values in (
        (found.object_pixels, [count for of_image in pixels.values() for count in of_image]),
        (found.coverage, [sum(of_image) / area[name] for name, of_image in pixels.items() if of_image]),
        (found.file_bytes, [path.stat().st_size for path in raw.glob("*/*.png")]),
    ):
        assert {int(name) for name in quantiles} == {0, 5, 25, 50, 75, 95, 100}
        for name, value in quantiles.items():
            assert value == pytest.approx(np.percentile(values, int(name)))


def test_bands_are_measured_over_all_pixels_of_images_of_one_size(raw):
    for name in ("d", "x"):
        save(next(raw.glob(f"*/{name}.png")), np.zeros((20, 24, 3), np.uint8))
    text = (raw / "train.csv").read_text()
    (raw / "train.csv").write_text(text)
    mean, std = band_statistics(ingest(raw))
    pixels = np.concatenate([image.reshape(-1, 3) for image in pictures(raw).values()])
    assert mean == pytest.approx(pixels.mean(axis=0))
    assert std == pytest.approx(pixels.std(axis=0))


def test_bands_are_those_of_most_images(raw):
    for name in ("a", "x"):
        save(next(raw.glob(f"*/{name}.png")), np.zeros(SIZES[name], np.uint8))
    dataset = ingest(raw)
    found = profile(dataset)
    assert found.bands == {"3": 4, "1": 2}
    means = [image.reshape(-1, 3).mean(axis=0) for name, image in pictures(raw).items() if name not in "ax"]
    assert found.band_mean == pytest.approx(np.mean(means, axis=0))
    assert len(found.band_std) == 3


def test_whole_masks_are_measured_where_a_row_is_an_image(raw):
    lines = [f"{name},{text}" for name, text in (("a", ""), ("b", "1 3"), ("c", "1 4 101 2"), ("d", ""), ("e", ""))]
    (raw / "train.csv").write_text("\n".join(["id,rle_mask", *lines]) + "\n")
    dataset = ingest(raw)
    assert object_pixels(dataset).tolist() == [3, 6]
    assert profile(dataset).objects == 3, "two apart in c"


def test_labels_alone_have_no_bands(raw):
    found = profile(ingest(raw, assume_hw=(20, 24)))
    assert (found.images, found.labelled) == (5, 5)
    assert found.sizes == {"20x24": 5}
    assert found.band_mean == found.band_std == ()
    assert found.foreground_share == pytest.approx(44 / (5 * 20 * 24))


def test_nothing_but_empty_images(raw):
    (raw / "train.csv").write_text("ImageId,EncodedPixels\na.png,\nb.png,\n")
    found = profile(ingest(raw))
    assert (found.labelled, found.empty, found.objects, found.foreground_share) == (2, 2, 0, 0)
    assert found.object_pixels == found.coverage == {}


def test_it_is_json_and_follows_the_labels(raw):
    first = profile(ingest(raw))
    told = json.loads(json.dumps(first.as_dict()))
    assert told["objects"] == 4
    assert told["band_mean"] == list(first.band_mean)
    assert told["fingerprint"] == ingest(raw).fingerprint
    (raw / "train.csv").write_text((raw / "train.csv").read_text().replace("1 3", "1 4"))
    assert profile(ingest(raw)).fingerprint != first.fingerprint


def test_what_was_left_out_found_and_grouped_is_counted(raw):
    dataset = ingest(raw, cleaning=Cleaning({"b.png": "listed in ids.txt", "x.png": "noise"}, 0))
    dataset = replace(dataset, images=dataset.images.assign(group=np.array([0, 0, 0, 3], np.int32)))
    found = profile(dataset, [Finding("speck", 0.5, "c.png", "train/c.png", "is tiny")] * 2)
    assert found.left_out == {"listed in ids.txt": 1, "noise": 1}
    assert found.findings == {"speck": 2}
    assert found.groups == {"together": 3, "largest": 3}
    assert found.sources["all"]["images"] == len(dataset)
    assert found.sources["all"]["empty"] == found.empty


def test_polygons_have_their_area_and_square_metres(tmp_path):
    make_buildings(tmp_path / "raw", areas=1, noisy_areas=0, scenes=2, hw=(96, 96), gsds_m=(0.5, 0.25))
    dataset = ingest_any(tmp_path / "raw")
    pixels = object_pixels(dataset)
    assert (pixels > 0).all()
    gsd_m = dataset.images["gsd_m"].to_numpy()[dataset.objects["image"].to_numpy()]
    assert object_m2(dataset) == pytest.approx(pixels * gsd_m**2)
    assert profile(dataset).object_m2["50"] == pytest.approx(np.median(pixels * gsd_m**2))

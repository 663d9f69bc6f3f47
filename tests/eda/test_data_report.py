"""The page of a dataset: which sections it has, and that what they say is what the data holds."""

import re

import cv2
import numpy as np
import pytest
from html_page import Page

from segsmith.audit.examine import examine
from segsmith.data.ingest import ingest
from segsmith.data.rasters import read_window
from segsmith.data.scenes import make_steel
from segsmith.data.scenes.buildings import make_buildings
from segsmith.eda import views
from segsmith.eda.data_report import data_report
from segsmith.eda.profile import profile


def report(raw, exclude=(), look=True, **options) -> Page:
    examined = examine(lambda out: ingest(raw, exclude=out, **options), exclude, look=look)
    return Page(data_report(examined, profile(examined.dataset, examined.findings)))


def test_every_section_that_has_something_to_say_is_there(raw):
    found = report(raw)
    assert found.all("h1") == ["Data report: raw"]
    assert found.facts == {
        "images": "7", "left out": "0", "labelled": "5", "empty": "40.0%", "objects": "5",
        "foreground pixels": f"{13 / 2400:.2%}",
    }  # fmt: skip
    assert found.all("h2") == [
        "What was found", "Findings", "Labels", "Images", "Duplicates and mosaics", "Folds", "Samples: no object",
        "Samples: one object", "Samples: several objects", "Samples: unlabelled",
    ]  # fmt: skip
    pictures = [attributes["alt"].split(":")[0] for tag, attributes in found.elements if tag == "img"]
    assert pictures[-7:] == ["a.png", "d.png", "b.png", "c.png", "e.png", "x.png", "y.png"]
    assert "2 of 5 labelled images are empty (40.0%): predicting nothing is right on these." in found.all("p")


def test_what_was_left_out_is_counted(raw, tmp_path):
    (tmp_path / "ids.txt").write_text("a.png\ny.png\n")
    found = report(raw, [str(tmp_path / "ids.txt")])
    assert (found.facts["images"], found.facts["left out"]) == ("5", "2")
    assert "left out: 2 images (listed in ids.txt)" in found.all("p")


def test_without_the_audit_that_is_said_and_nothing_is_compared(raw):
    found = report(raw, look=False)
    assert "Images were indexed and not audited or compared, as asked for." in found.all("p")
    assert "Duplicates and mosaics" not in found.all("h2")
    assert "Whether the split leaks was not checked: images were not compared." in found.all("p")
    assert "Samples: one object" in found.all("h2")


def test_of_labels_alone_no_more_than_is_true_is_said(raw):
    found = report(raw, look=False, assume_hw=(20, 24))
    assert found.all("h2") == ["What was found", "Labels", "Images", "Folds"]
    assert not [text for text in found.all("p") if "decode" in text]
    assert [text for text in found.all("p") if "No image was opened" in text]
    assert not [tag for tag, _ in found.elements if tag == "img"]


@pytest.mark.parametrize(
    ("labels", "says"),
    [("a.png,\nd.png,\n", "All labelled images are empty: there is nothing to learn."), ("a.png,1 2\n", "All images")],
)
def test_what_the_labels_say_first(raw, labels, says):
    (raw / "train.csv").write_text(f"ImageId,EncodedPixels\n{labels}")
    found = report(raw)
    assert [text for text in found.all("p") if text.startswith(says)]
    assert [text for text in found.all("p") if text.startswith("There is no split by whole images: ")]


def test_images_of_several_sizes_and_bands_are_told(raw):
    for folder, name, shape in (("train", "a", (30, 24, 3)), ("test", "x", (20, 24)), ("test", "y", (20, 24, 4))):
        _, png = cv2.imencode(".png", np.zeros(shape, np.uint8))
        (raw / folder / f"{name}.png").write_bytes(png.tobytes())
    (said,) = [text for text in report(raw).all("p") if "sizes" in text]
    assert said.startswith("Images have 2 different sizes. Images have different numbers of bands")


def test_classes_are_told_with_what_stands_together(tmp_path):
    make_steel(tmp_path / "raw", images=40, test_images=0, hw=(64, 64))
    examined = examine(lambda out: ingest(tmp_path / "raw", exclude=out), look=False)
    dataset = examined.dataset
    measured = profile(dataset)
    found = Page(data_report(examined, measured))
    pairs = {
        (one, other): count
        for one, row in measured.co_occurrence.items()
        for other, count in row.items()
        if one < other
    }
    classes, image = dataset.objects["class"], dataset.objects["image"]
    having = {name: set(image[classes == number]) for number, name in enumerate(dataset.classes)}
    assert all(count == len(having[one] & having[other]) for (one, other), count in pairs.items())
    assert "Images that have both classes" in found.html
    assert "Foreground by class" in found.html
    best = max(pairs.values())
    if best:
        assert [text for text in found.all("p") if f"stand together most often: in {best} images" in text]


def test_scenes_of_two_tiers_have_sources_and_square_metres(tmp_path):
    make_buildings(tmp_path / "raw", areas=1, noisy_areas=1, scenes=2, hw=(96, 96))
    examined = examine(lambda out: ingest(tmp_path / "raw", exclude=out), look=False)
    measured = profile(examined.dataset)
    found = Page(data_report(examined, measured))
    assert "Sources" in found.all("h2")
    assert len(measured.sources) == 2
    assert sum(of["images"] for of in measured.sources.values()) == len(examined.dataset)
    assert sum(of["objects"] for of in measured.sources.values()) == measured.objects
    assert {"metres a pixel", "foreground pixels"} <= set(found.all("th"))
    assert "Square metres per object" in found.html
    assert measured.object_pixels["50"] > 0


def test_of_a_large_scene_only_parts_are_read(tmp_path, monkeypatch):
    make_buildings(tmp_path / "raw", areas=1, noisy_areas=0, scenes=1, hw=(512, 640))
    examined = examine(lambda out: ingest(tmp_path / "raw", exclude=out), look=False)
    read = []

    def noting(path, window, scale, levels):
        read.append(window.height * window.width)
        return read_window(path, window, scale, levels)

    monkeypatch.setattr("segsmith.data.dataset.read_window", noting)
    monkeypatch.setattr(views, "LARGEST_PIXELS", 512 * 640 - 1)
    monkeypatch.setattr(views, "PART", 128)
    found = Page(data_report(examined, profile(examined.dataset)))
    assert max(read) <= 256 * 256
    captions = [text for text in found.all("figcaption") if re.search(r"a part of it: 128 x 128 pixels", text)]
    assert captions


def test_a_scene_too_large_to_be_compared_is_said_to_be(tmp_path, monkeypatch):
    make_buildings(tmp_path / "raw", areas=1, noisy_areas=0, scenes=1, hw=(128, 160))
    for place in ("audit.TOO_LARGE_PX", "duplicates.LARGEST_PIXELS", "mosaics.LARGEST_PIXELS"):
        monkeypatch.setattr(f"segsmith.audit.{place}", 128 * 160 - 1)
    found = report(tmp_path / "raw")
    assert "Images too large to be read whole, which were not compared: 1." in found.all("p")

"""The preview shows what training draws, and says what it is."""

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest
from html_page import Page

from segsmith.data.dataset import Dataset
from segsmith.data.scenes import RasterForm, make_buildings, make_steel
from segsmith.eda.preview import _drawn
from segsmith.recipe_files import load_recipe
from segsmith.samples.batches import TrainingBatches
from segsmith.samples.chips import cut
from segsmith.samples.samples import Sample
from segsmith.samples.sampling import plan_epochs
from segsmith.samples.split import split

SMALL = ["data.input_hw=[96,96]", "train.batch_size=4"]


def pictures(page: Path) -> list[np.ndarray]:
    uris = [attributes["src"] for tag, attributes in Page(page.read_text("utf-8")).elements if tag == "img"]
    assert all(uri.startswith("data:image/") for uri in uris), "the page asks for something else"
    return [cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8), 1) for uri in uris]


def captions(page: Path) -> list[str]:
    return Page(page.read_text("utf-8")).all("figcaption")


def test_the_command_draws_the_very_samples_of_training(journey, command, tmp_path):
    out = tmp_path / "seen.html"
    options = [*SMALL, "train.stages.0.augment={hflip: 0.5, affine: 1, paste: 1, cutmix: 0.5}"]
    said = command("preview", "ships-demo", *options, "--data", journey.dataset, "--out", out, "--batches", 2)
    assert (said.code, said.out.strip()) == (0, f"preview {out}")

    loaded, data = load_recipe("ships-demo", options), Dataset.open(journey.dataset)
    chips, stage = cut(data, loaded.data), loaded.train.stages[0]
    training = split(chips, loaded.folds, loaded.seed).training
    plan = plan_epochs(training, chips.strata(), 0, stage, 4, loaded.seed)
    batches = list(TrainingBatches(chips, stage, plan, 0).epoch(0))[:2]
    ids = [chips.id(int(chip)) for batch in batches for chip in batch.indices]
    assert [caption.split(" (")[0] for caption in captions(out)] == ids
    assert all("affine" in caption for caption in captions(out))
    pasted = [caption for caption in captions(out) if "(empty)" in caption]
    assert pasted
    assert all("paste from" in caption for caption in pasted)

    shown = pictures(out)
    assert len(shown) == 8
    for picture, image in zip(shown, [image for batch in batches for image in batch.images], strict=True):
        right = cv2.cvtColor(picture[:, -288:], cv2.COLOR_BGR2RGB)  # enlarged three times, and WebP
        seen = image.numpy().transpose(1, 2, 0)[:, :, :3].repeat(3, axis=0).repeat(3, axis=1)
        assert np.median(np.abs(right.astype(int) - seen)) < 6


def test_chips_of_five_bands_with_unusable_pixels_are_drawn(command, tmp_path):
    raw, dataset, out = tmp_path / "raw", tmp_path / "dataset", tmp_path / "folder"
    make_buildings(raw, hw=(256, 256), areas=2, noisy_areas=0, form=RasterForm(bands=6))
    assert command("inspect", raw, "--to", dataset, "--no-audit").code == 0
    small = ["data.input_hw=[64,64]", "data.scales=[1.0]", "folds.block=1"]
    said = command("preview", "buildings", *small, "--data", dataset, "--out", out, "--batches", 1)
    assert said.code == 0, said.err
    assert len(pictures(out / "preview.html")) == 5

    said = command("preview", "buildings", *small, "train.stages.0.augment.hue=0.1", "--data", dataset, "--out", out)
    assert said.code == 2
    assert "train.stages.0.augment.hue=0.1 is for images of three bands, these have 5" in said.err


def test_wide_samples_of_several_classes_and_the_last_epoch_are_drawn(command, tmp_path):
    raw, dataset, out = tmp_path / "raw", tmp_path / "dataset", tmp_path / "seen.html"
    make_steel(raw, images=40, test_images=1, hw=(64, 160))
    assert command("inspect", raw, "--to", dataset, "--no-audit").code == 0
    options = ["data.input_hw=[64,160]", "train.stages.0.augment_last={hflip: 1}"]
    said = command("preview", "steel", *options, "--data", dataset, "--out", out, "--batches", 1)
    assert said.code == 0, said.err
    page = Page(out.read_text("utf-8"))
    assert "Batch 1 of the last epoch" in page.all("h2")
    said = captions(out)
    assert all("left-right" in caption for caption in said[len(said) // 2 :])
    assert all(picture.shape[0] == 2 * 64 + 2 and picture.shape[1] == 160 for picture in pictures(out)), "not stacked"


def test_a_stage_that_is_not_there_is_refused(journey, command, tmp_path):
    said = command("preview", "ships-demo", "--data", journey.dataset, "--stage", 2, "--out", tmp_path / "x.html")
    assert said.code == 2
    assert "the recipe has stages 1 to 1. Received: --stage 2" in said.err
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize("classes", [1, 3, 12])
def test_each_class_has_an_outline_and_unusable_pixels_lines(classes):
    image = np.full((200, 200, 5), 90, np.uint8)
    mask, valid = np.zeros((classes, 200, 200), bool), np.ones((200, 200), bool)
    for number in range(classes):
        mask[number, 10:20, 2 + 16 * number : 12 + 16 * number] = True
    valid[100:] = False
    drawn = _drawn(Sample(image, mask, valid))
    outlines = {tuple(drawn[9, 5 + 16 * number].tolist()) for number in range(classes)}
    assert len(outlines) == min(classes, 8)
    assert (drawn[:80] == 90).all(axis=2).mean() > 0.7, "the outlines are not thin"
    share = (drawn[100:] != 90).any(axis=2).mean()
    assert 0.1 < share < 0.5

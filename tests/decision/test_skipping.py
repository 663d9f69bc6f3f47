"""What may be skipped: the promise, held against new images that networks look at; what decide stores and says."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import torch

from segsmith.data.images import read_image
from segsmith.decision.decide import decide
from segsmith.decision.risk import skipped_below
from segsmith.decision.skipping import skipping
from segsmith.errors import RunError
from segsmith.modeling.bundle import Bundle, Part
from segsmith.modeling.run import Run
from segsmith.prediction.probabilities import Predictor

OPTIONS = (
    "data.fit=resize",
    "data.input_hw=[32,32]",
    "folds.count=2",
    "decide.areas=[0,2]",
    "decide.parts=2",
    "decide.gate=none",
)
NO_NUMBERS = np.empty(0, np.uint8)


def made_image(rng: np.random.Generator) -> np.ndarray:
    """Squares of a colour of their own on a ground of another, of any contrast."""
    image = np.full((32, 32, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(rng.integers(1, 4)):
        top, left = rng.integers(0, 26, 2)
        image[top : top + rng.integers(1, 7), left : left + rng.integers(1, 7)] = rng.integers(0, 256, 3)
    return image


@pytest.fixture(scope="module")
def population(make_bundle) -> np.ndarray:
    """What a network finds at first in images with foreground."""
    predictor = Predictor(make_bundle(*OPTIONS[:2]))
    rng = np.random.default_rng(0)
    images = [made_image(rng) for _ in range(400)]
    values = predictor.first_look(images, [NO_NUMBERS] * len(images), 0.5)
    assert len(np.unique(values)) > 350
    return values


@pytest.mark.parametrize(("images", "loss"), [(9, 0.1), (30, 0.05), (40, 0.05), (60, 0.3)])
def test_the_share_of_new_images_that_is_lost_is_what_was_allowed(population, images, loss):
    """Over 400 validation folds drawn from a population, each with all of it as new images: the mean is below the loss,
    but for chance, and not far below it."""
    rng = np.random.default_rng(images)
    lost = [
        (population < skipped_below(population[rng.integers(0, len(population), images)], loss)).mean()
        for _ in range(400)
    ]
    chance = 3 * np.std(lost) / np.sqrt(len(lost))
    assert np.mean(lost) <= loss + chance
    assert np.mean(lost) >= loss - 1.5 / (images + 1) - chance


def test_the_limit_by_hand():
    values = np.array([0.9, 0.2, 0.4, 0.3], np.float32)
    assert skipped_below(values, 0.19) == 0, "1 / 5 of which none may be lost"
    assert skipped_below(values, 0.2) == np.float32(0.2), "what lies at the limit is kept"
    assert skipped_below(values, 0.4) == np.float32(0.3)
    assert skipped_below(values, 0.8) == np.float32(0.9), "(3 + 1) / 5"
    assert skipped_below(values, 0.0) == skipped_below(values[:0], 0.9) == 0


@pytest.fixture(scope="module")
def made(make_run):
    """Half of the images hold one object or two."""
    truths = []
    for number in range(40):
        truth = np.zeros((48, 40), bool)
        truth[4:9, 4:9] = number % 2
        truth[20:25, 20:25] = number % 4 == 1
        truths.append(truth)
    return make_run(truths, [truth * np.uint8(200) for truth in truths], *OPTIONS)


def first_value(made, image_id: str, side: int) -> float:
    """The highest probability of the network in an image that is resized twice, by hand."""
    image = read_image(made.dataset.parent / "raw" / "train" / image_id)
    for hw in ((32, 32), (side, side)):
        image = cv2.resize(image, hw, interpolation=cv2.INTER_AREA)
    (network,) = Bundle.read(made.folder / "bundle.safetensors").networks()
    with torch.inference_mode():
        logits = network(torch.from_numpy(image).permute(2, 0, 1)[None].repeat(2, 1, 1, 1))["mask"]
    return float(torch.sigmoid(logits).max())


@pytest.mark.parametrize("look", [0.5, 1.0])
def test_what_is_stored_is_found_on_the_validation_fold(made, look):
    skip = decide(made.folder, skip_loss=0.2, look=look).skip
    values = {image_id: first_value(made, image_id, int(32 * look)) for image_id in made.fold(0)}
    filled = sorted(values[image_id] for image_id in values if made.truths[image_id].any())
    assert len(filled) == 10
    assert skip.below == pytest.approx(filled[1], abs=1e-5), "of 10 images (1 + 1) / 11 is below 0.2"
    skipped = [image_id for image_id in values if values[image_id] < filled[1] - 1e-5]
    assert (skip.loss, skip.scale, skip.filled, skip.looked_at) == (0.2, look, (10,), len(values))
    assert skip.skipped == len(skipped) > 1
    objects = {image_id: int(truth[4, 4]) + int(truth[20, 20]) for image_id, truth in made.truths.items()}
    assert skip.objects == sum(objects[image_id] for image_id in values)
    assert skip.lost == sum(objects[image_id] for image_id in skipped) > 0
    assert Bundle.read(made.folder / "bundle.safetensors").decision.skip == skip
    assert decide(made.folder).skip is None


def test_it_is_said_what_is_lost_and_what_it_takes(made, command):
    said = " ".join(command("decide", made.folder, "--skip-loss", 0.2).out.split())
    skip = Bundle.read(made.folder / "bundle.safetensors").decision.skip
    assert "loses at most 20.0% of the foreground of new images on average, judging by 10 of ship;" in said
    assert f"of 20 validation images it skips {skip.skipped}, with {skip.lost} of {skip.objects} objects" in said
    said = " ".join(command("decide", made.folder, "--skip-loss", 0.01).out.split())
    assert "nothing may be skipped: it takes 99 of each class, and there are 10 of ship" in said
    assert Bundle.read(made.folder / "bundle.safetensors").decision.skip.below == 0


def test_each_class_is_kept_its_promise(made):
    """By the limit of the one that can bear least."""
    run = Run(made.folder)
    chips = run.chips()
    of_two = np.stack([chips.present[:, 0], chips.present[:, 0] & (chips.objects == 2)], axis=1)
    bundle = Bundle.read(run.bundle)
    first, second, both = (
        skipping(run, bundle, replace(chips, present=present), 0.25, 0.5).below
        for present in (of_two[:, :1], of_two[:, 1:], of_two)
    )
    assert 0 < both == min(first, second) < max(first, second)


def test_of_folds_in_turn_only_images_are_judged_that_the_first_network_did_not_learn_from(make_run):
    truths = [np.pad(np.ones((5, 5), bool), ((4, 39), (4, 31)))] * 24
    made = make_run(truths, [truth * np.uint8(200) for truth in truths], *OPTIONS, "folds.validation=all")
    run = Run(made.folder)
    bundle = Bundle.read(run.bundle)
    other = {name: tensor + 1 for name, tensor in bundle.members[0].items()}
    replace(bundle, members=(bundle.members[0], other)).write(run.bundle)
    skip = decide(made.folder, skip_loss=0.2).skip
    assert skip.looked_at == len(made.fold(0)) == 12
    assert skip.skipped == 1
    parts = (Part(1.0, Bundle.read(run.bundle)),)
    replace(bundle, members=(), parts=parts).write(run.bundle)
    with pytest.raises(RunError, match=r"trained on all folds in turn.*combine with a run of one fold as the first"):
        decide(made.folder, skip_loss=0.2)


@pytest.mark.parametrize(
    ("loss", "look", "says"),
    [
        (1.0, 0.5, r"lies from 0 to below 1, and 1 does not; try 0\.01"),
        (-0.1, 0.5, r"lies from 0 to below 1, and -0\.1 does not"),
        (0.1, 0.0, r"sides of more than 0 and up to 1 of theirs, and 0 is not"),
        (0.1, 1.5, r"and 1\.5 is not; try 0\.5"),
    ],
)
def test_what_is_no_share_is_refused(made, loss, look, says):
    with pytest.raises(RunError, match=says):
        decide(made.folder, skip_loss=loss, look=look)


def test_a_network_of_one_size_does_not_look_at_shrunk_images(make_run):
    truths = [np.ones((32, 32), bool)] * 4
    made = make_run(truths, [truth * np.uint8(200) for truth in truths], *OPTIONS, "data.normalise=mean_image")
    with pytest.raises(RunError, match=r"takes off the mean image.*choose --look 1"):
        decide(made.folder, skip_loss=0.2)


def test_the_example_of_the_docs(made, command, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("segsmith ") and "--skip" in line]
    assert len(lines) == 2
    (tmp_path / "rasters").mkdir()
    place = rasterio.transform.from_origin(500_000, 5_000_000, 0.2, 0.2)
    with rasterio.open(
        tmp_path / "rasters" / "a.tif", "w", driver="GTiff", height=40, width=40, count=3, dtype="uint8",
        crs="EPSG:32631", transform=place,
    ) as file:  # fmt: skip
        file.write(np.random.default_rng(0).integers(0, 256, (3, 40, 40), np.uint8))
    monkeypatch.chdir(tmp_path)
    for line in lines:
        said = command(*(str(made.folder) if word == "RUN" else word for word in line.split()[1:]))
        assert said.code == 0, said.err
    assert (tmp_path / "mapped" / "masks" / "a.tif").exists()

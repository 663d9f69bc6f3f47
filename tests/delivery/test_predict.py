"""A bundle and a folder of images -> a folder of files to hand in, whole or not there."""

import resource
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import by_hand
import cv2
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from by_hand import files_in
from processes import in_child

from segsmith.audit.mosaics import Joint
from segsmith.data.images import read_image
from segsmith.decision.masks import decided_by
from segsmith.decision.separation import objects_by
from segsmith.delivery.predict import overlay, predict
from segsmith.errors import DataError, ModelError, WriteError
from segsmith.modeling.bundle import FORMAT, Bundle, Cell, Decision, Skip
from segsmith.prediction.joints import agreed
from segsmith.prediction.probabilities import Predictor
from segsmith.samples.samples import fit_image

SIZES = {"c": (20, 24), "a": (33, 17), "b": (40, 40), "e": (9, 9), "d": (24, 20)}
OPTIONS = ("data.input_hw=[32,32]", "predict.batch_size=2")


@pytest.fixture
def images(tmp_path):
    """Noise of several sizes, one of them in a folder below."""
    (tmp_path / "images" / "more").mkdir(parents=True)
    for seed, (name, hw) in enumerate(SIZES.items()):
        folder = "images/more" if name == "d" else "images"
        save(tmp_path / folder / f"{name}.png", np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8))
    return tmp_path / "images"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, make_bundle):
    """What it finds in noise is neither nothing nor everything, in several objects an image."""
    path = tmp_path_factory.mktemp("bundle") / "bundle.safetensors"
    made = make_bundle(*OPTIONS)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    level = int(np.percentile(Predictor(made)([image])[0], 85))
    make_bundle(*OPTIONS, level=level, smallest_area=2).write(path)
    return path


@pytest.fixture(scope="module")
def masks_bundle(tmp_path_factory, make_bundle):
    path = tmp_path_factory.mktemp("bundle") / "masks.safetensors"
    make_bundle(*OPTIONS, layout="rle-masks", level=128).write(path)
    return path


def save(path: Path, image: np.ndarray) -> None:
    _, content = cv2.imencode(path.suffix, image)
    path.write_bytes(content.tobytes())


def read(path: Path) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)


def submission(folder: Path) -> dict[str, list[str]]:
    return by_hand.named((folder / "submission.csv").read_text().splitlines()[1:])


# What is written


def test_images_of_one_picture_agree_where_they_meet(tmp_path, bundle):
    draw = np.random.default_rng(0)
    picture = sum(cv2.GaussianBlur(draw.normal(size=(40, 120, 3)), (0, 0), sigma) * sigma for sigma in (1.5, 4))
    picture = np.clip(128 + 60 * picture, 0, 255).astype(np.uint8)
    pieces = {
        "b.png": picture[:, :40],
        "d.png": picture[:, 40:80] // 2,  # so that something else is predicted there
        "a.png": picture[:, 80:],
        "c.png": picture[::-1, 59:19:-1],
    }
    (tmp_path / "images").mkdir()
    for name, piece in pieces.items():
        save(tmp_path / "images" / name, piece)
    plain = predict(bundle, tmp_path / "images", tmp_path / "plain").folder
    done = predict(bundle, tmp_path / "images", tmp_path / "out", mosaics=True).folder
    opened = Bundle.read(bundle)
    levels = {name: Predictor(opened)([read_image(tmp_path / "images" / name)])[0] for name in pieces}
    of_number = dict(enumerate(["b.png", "d.png", "a.png"]))
    met = agreed({n: levels[name] for n, name in of_number.items()}, [Joint(0, 1, False, 1), Joint(1, 2, False, 1)])
    for number, name in of_number.items():
        # in other batches the last digit may be another, and then a pixel at the threshold
        assert np.mean((read(done / "masks" / name) > 0) == decided_by(opened.decision, met[number])[0]) > 0.99
    changed = [np.mean(read(done / "masks" / name) != read(plain / "masks" / name)) for name in of_number.values()]
    assert max(changed) > 0.03
    assert np.mean(read(done / "masks" / "c.png") == read(plain / "masks" / "c.png")) > 0.99
    assert list(submission(done)) == sorted(pieces)


def test_masks_submission_and_overlays_say_the_same(tmp_path, images, bundle):
    before = files_in(images)
    done = predict(bundle, images, tmp_path / "out")
    found = submission(tmp_path / "out")
    assert list(found) == ["a.png", "b.png", "c.png", "e.png", "d.png"], "by name, folder by folder"
    for image_id, texts in found.items():
        stem, hw = Path(image_id).stem, SIZES[Path(image_id).stem]
        written = read(tmp_path / "out" / "masks" / f"{stem}.png")
        decoded = [by_hand.decode(text, hw) for text in texts]
        assert written.shape == hw
        assert np.unique(written).tolist() in ([0], [0, 255])
        assert (np.sum(decoded, axis=0) == written // 255).all(), "the mask, and no pixel in two objects"
        assert len([text for text in texts if text]) == len(by_hand.objects(written > 0))
        assert read(tmp_path / "out" / "overlays" / f"{stem}.jpg").shape == (*hw, 3)
    assert {path.name for path in (tmp_path / "out" / "masks").iterdir()} == {f"{name}.png" for name in SIZES}
    assert (tmp_path / "out").stat().st_mode & 0o777 == (images.stat().st_mode & 0o777)
    assert done.folder == tmp_path / "out"
    assert done.images == 5
    assert done.rows == sum(map(len, found.values()))
    assert done.with_foreground == sum(texts != [""] for texts in found.values())
    assert done.rows > done.images, "several objects somewhere, or this test would be too easy"
    assert files_in(images) == before


def test_masks_are_what_the_decision_makes_of_the_probabilities(tmp_path, images, bundle):
    opened = Bundle.read(bundle)
    predict(bundle, images, tmp_path / "out")
    image = cv2.cvtColor(read(images / "b.png"), cv2.COLOR_BGR2RGB)
    (plane,) = Predictor(opened)([image])[0]
    expected = by_hand.decided(plane, opened.decision.cells[0].level, 2)
    differing = (read(tmp_path / "out" / "masks" / "b.png") > 0) ^ expected
    assert 0 < expected.sum() < expected.size
    assert differing.sum() <= 4, "batched otherwise, a pixel at the threshold may fall to the other side"


def test_objects_are_told_one_by_one(tmp_path, images, bundle):
    predict(bundle, images, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "objects.csv")
    assert set(table["class"]) == {"ship"}
    for image_id, texts in submission(tmp_path / "out").items():
        sizes = [by_hand.decode(text, SIZES[Path(image_id).stem]).sum() for text in texts if text]
        of_image = table[table["image_id"] == image_id]
        assert of_image["area_px"].tolist() == sizes, "in the order of the submission"
        assert of_image["object"].tolist() == list(range(1, len(sizes) + 1))
    assert table["score"].between(Bundle.read(bundle).decision.cells[0].level / 255 - 1e-4, 1).all()


def test_touching_objects_are_taken_apart_as_it_was_decided(tmp_path, images, make_bundle):
    """On noise, whose valleys are deep: a row per object of what the decision makes of the network's probabilities."""
    made = make_bundle(*OPTIONS, "network.heads={border: {kind: border}}", "predict.batch_size=1")
    pixels = {path.name: cv2.cvtColor(read(path), cv2.COLOR_BGR2RGB) for path in sorted(images.rglob("*.png"))}
    predictor = Predictor(made)
    planes = {name: predictor([image])[0] for name, image in pixels.items()}
    level = int(np.percentile(planes["b.png"][0], 40))
    counts = {}
    for how, depth in (("none", 0), ("border", 2)):
        decision = Decision((Cell(level, 3, depth=depth),), separate_by=how)
        replace(made, decision=decision).write(tmp_path / "bundle.safetensors")
        predict(tmp_path / "bundle.safetensors", images, tmp_path / how, overlays=False)
        expected = {}
        for name, found in planes.items():
            (labels,) = objects_by(decision, decided_by(decision, found[:1]), found)
            expected[name] = {frozenset(by_hand.pixels(labels == n)) for n in range(1, labels.max() + 1)}
        written = {
            name: {
                frozenset(by_hand.pixels(by_hand.decode(text, pixels[name].shape[:2]) > 0)) for text in texts if text
            }
            for name, texts in submission(tmp_path / how).items()
        }
        assert written == expected
        counts[how] = sum(map(len, written.values()))
    assert counts["border"] > counts["none"], "or nothing was taken apart"
    assert files_in(tmp_path / "none" / "masks") == files_in(tmp_path / "border" / "masks"), "the mask is the same"


def test_one_row_per_image_where_the_labels_had_that(tmp_path, images, masks_bundle):
    done = predict(masks_bundle, images, tmp_path / "out", masks=False, overlays=False)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"submission.csv", "objects.csv"}
    assert (tmp_path / "out" / "submission.csv").read_text().startswith("id,rle_mask\na,")
    assert list(submission(tmp_path / "out")) == ["a", "b", "c", "e", "d"]
    assert done.rows == done.images == 5


def test_images_in_which_nothing_is_found_at_first_are_empty(tmp_path, images, masks_bundle, command):
    opened = Bundle.read(masks_bundle)
    seen = [fit_image(read_image(file), opened.recipe.data) for file in sorted(images.rglob("*.png"))]
    values = Predictor(opened).first_look(seen, [np.empty(0, np.uint8)] * len(seen), 1.0)
    skip = Skip(0.1, float(np.sort(values)[2]), 1.0, (20,), 40, 9, 30, 1)
    decision = replace(opened.decision, cells=(Cell(1),), skip=skip)
    replace(opened, decision=decision).write(tmp_path / "b.safetensors")
    whole = predict(tmp_path / "b.safetensors", images, tmp_path / "whole")
    said = command("predict", tmp_path / "b.safetensors", images, "--to", tmp_path / "out", "--skip")
    assert "2 of 5 skipped, since a first look found nothing" in said.out
    assert (whole.chips, whole.skipped) == (5, 0)
    for file, value in zip(sorted(images.rglob("*.png")), values, strict=True):
        before, after = (read(tmp_path / out / "masks" / file.name) for out in ("whole", "out"))
        assert before.any()
        assert (after == (before if value >= skip.below else 0)).all()
    rows = pd.read_csv(tmp_path / "out" / "submission.csv")
    assert rows["rle_mask"].isna().sum() == 2


def test_a_sample_submission_fixes_images_and_order(tmp_path, images, bundle):
    (tmp_path / "sample.csv").write_text("ImageId,EncodedPixels\nd.png,1 2\nc.png,1 2\na.png,1 2\nc.png,5 1\n")
    done = predict(bundle, images, tmp_path / "out", sample_submission=tmp_path / "sample.csv")
    assert list(submission(tmp_path / "out")) == ["d.png", "c.png", "a.png"]
    assert sorted(path.stem for path in (tmp_path / "out" / "masks").iterdir()) == ["a", "c", "d"]
    assert done.images == 3


def test_a_run_folder_stands_for_its_bundle(tmp_path, journey):
    done = predict(journey.run, journey.raw / "test_v2", tmp_path / "out", sample_submission=journey.sample)
    assert files_in(tmp_path / "out") == files_in(journey.prediction)
    assert done.images == 6


def test_names_with_dots_are_told_apart(tmp_path, masks_bundle):
    (tmp_path / "dots").mkdir()
    for seed, name in enumerate(("a.1.png", "a.2.png", "a.png")):
        image = np.random.default_rng(seed).integers(0, 256, (20 + seed, 20, 3), np.uint8)
        save(tmp_path / "dots" / name, image)
    predict(masks_bundle, tmp_path / "dots", tmp_path / "out")
    masks = {path.name: read(path).shape for path in (tmp_path / "out" / "masks").iterdir()}
    assert masks == {"a.1.png": (20, 20), "a.2.png": (21, 20), "a.png": (22, 20)}
    assert sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir()) == ["a.1.jpg", "a.2.jpg", "a.jpg"]


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_an_overlay_tints_the_mask_and_leaves_the_rest(bands):
    image = np.random.default_rng(0).integers(0, 200, (12, 14, bands), np.uint8)
    mask = np.zeros((12, 14), bool)
    mask[3:9, 4:10] = True
    drawn = overlay(image, mask[None])
    rgb = image[:, :, :3] if bands >= 3 else np.repeat(image[:, :, :1], 3, axis=2)
    assert drawn.shape == (12, 14, 3)
    assert (drawn[~mask] == rgb[~mask]).all()
    assert (drawn[3, 4:10] == (230, 159, 0)).all(), "the outline"
    assert (drawn[4:8, 5:9] != rgb[4:8, 5:9]).any(axis=2).all()
    assert (drawn[4:8, 5:9] != (230, 159, 0)).any(axis=2).all(), "the image shines through"


def test_masks_that_nobody_decided_on_are_said_to_be(tmp_path, images, bundle, command):
    opened = Bundle.read(bundle)
    for decision, told in ((Decision(), True), (replace(opened.decision, metric="mean_dice"), False)):
        file = tmp_path / f"{told}.safetensors"
        replace(opened, decision=decision).write(file)
        said = command("predict", file, images, "--to", tmp_path / "out")
        assert said.code == 0, said.err
        assert ("no decision was tuned, so masks are what is at least half probable" in said.out) == told


# Whole or not at all


def test_an_earlier_prediction_is_replaced_as_a_whole(tmp_path, images, bundle):
    predict(bundle, images, tmp_path / "out")
    for name in ("a", "b"):
        (images / f"{name}.png").unlink()
    predict(bundle, images, tmp_path / "out", overlays=False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["masks", "objects.csv", "submission.csv"]
    assert sorted(path.stem for path in (tmp_path / "out" / "masks").iterdir()) == ["c", "d", "e"]


def test_an_empty_folder_is_filled(tmp_path, images, bundle):
    (tmp_path / "out").mkdir()
    assert predict(bundle, images, tmp_path / "out").images == 5


def test_killed_in_the_middle(tmp_path, images, bundle):
    """The last image blocks whoever reads it, so that the kill comes when the masks of the first two are on disk."""

    def read(path):
        if path.name == "e.png":
            time.sleep(600)
        return read_image(path)

    before = files_in(tmp_path)

    def under_way() -> bool:
        return len(list(tmp_path.glob(".out.partial/masks/*.png"))) == 2

    def work() -> None:
        with patch("segsmith.delivery.predict.read_image", read):
            predict(bundle, images, tmp_path / "out")

    assert in_child(work, kill_when=under_way) == -signal.SIGKILL
    left = {path for path in files_in(tmp_path) if path not in before}
    assert left
    assert all(path.startswith(".out.partial") for path in left), "nothing that anyone would take for a prediction"

    assert predict(bundle, images, tmp_path / "out").images == 5
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.parametrize("earlier", [False, True])
def test_a_full_disk(tmp_path, images, bundle, earlier):
    if earlier:
        predict(bundle, images, tmp_path / "out")
    save(images / "big.png", np.random.default_rng(9).integers(0, 256, (300, 300, 3), np.uint8))
    before = files_in(tmp_path)

    def refused() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))  # an overlay of the big image does not fit
        with pytest.raises(WriteError) as caught:
            predict(bundle, images, tmp_path / "out")
        return str(caught.value)

    said = in_child(refused)
    assert said == f"{tmp_path / 'out'}: cannot be written: the file would be larger than allowed; " + (
        "raise the limit and run the same command again"
    )
    assert files_in(tmp_path) == before


def stranger(out: Path) -> None:
    out.mkdir()
    (out / "thesis.txt").write_text("mine")


def stranger_with_a_submission(out: Path) -> None:
    (out / "train").mkdir(parents=True)
    (out / "train" / "a.jpg").write_text("mine")
    (out / "submission.csv").write_text("ImageId,EncodedPixels\n")


def truths(out: Path) -> None:
    (out / "masks").mkdir(parents=True)
    (out / "masks" / "a.png").write_text("mine")


def file(out: Path) -> None:
    out.write_text("mine")


@pytest.mark.parametrize("stands_there", [stranger, stranger_with_a_submission, truths, file])
def test_what_no_prediction_wrote_is_left_alone(tmp_path, images, bundle, stands_there):
    stands_there(tmp_path / "out")
    before = files_in(tmp_path)
    with pytest.raises(WriteError, match=rf"{tmp_path / 'out'}: .*choose"):
        predict(bundle, images, tmp_path / "out")
    assert files_in(tmp_path) == before


# What is refused


def test_the_images_cannot_be_replaced_by_their_prediction(tmp_path, images, bundle):
    before = files_in(tmp_path)
    with pytest.raises(WriteError):
        predict(bundle, images, images)
    assert files_in(tmp_path) == before


def no_images(images: Path) -> None:
    for path in images.rglob("*.png"):
        path.rename(path.with_suffix(".txt"))


def broken(images: Path) -> None:
    (images / "e.png").write_bytes((images / "e.png").read_bytes()[:-40])


def two_of_one_stem(images: Path) -> None:
    save(images / "a.jpg", np.zeros((9, 9, 3), np.uint8))


def two_of_one_name(images: Path) -> None:
    save(images / "more" / "a.png", np.zeros((9, 9, 3), np.uint8))


def grey(images: Path) -> None:
    save(images / "e.png", np.zeros((9, 9), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (no_images, DataError, ["images: no image files"]),
        (broken, DataError, ["e.png: does not decode as an image"]),
        (two_of_one_stem, DataError, ["several images with the same name without suffix", "- a\n"]),
        (two_of_one_name, DataError, ["several images with the same id", "- a.png\n"]),
        (grey, ModelError, ["e.png: number of bands is 1, the model was trained on 3"]),
    ],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_images_that_cannot_be_predicted(tmp_path, images, bundle, spoil, error, says, earlier):
    if earlier:
        predict(bundle, images, tmp_path / "out")
    spoil(images)
    before = files_in(tmp_path)
    with pytest.raises(error) as caught:
        predict(bundle, images, tmp_path / "out")
    for fragment in says:
        assert fragment in str(caught.value)
    assert files_in(tmp_path) == before


def test_what_was_predicted_among_the_images_is_none_of_them(tmp_path, images, bundle):
    """A folder that was written, and one that a prediction was stopped in."""
    for _ in range(2):
        assert predict(bundle, images, images / "prediction").images == len(SIZES)
    shutil.copytree(images / "prediction", images / ".prediction.partial")
    (images / ".prediction.partial" / "submission.csv").unlink()
    assert predict(bundle, images, images / "prediction").images == len(SIZES)


def test_a_folder_that_is_not_there(tmp_path, bundle):
    with pytest.raises(DataError, match="images: no such file or folder"):
        predict(bundle, tmp_path / "images", tmp_path / "out")


def test_a_sample_submission_with_unknown_ids(tmp_path, images, bundle):
    (tmp_path / "sample.csv").write_text("ImageId,EncodedPixels\na.png,1 2\nq.png,1 2\nr.png,1 2\n")
    with pytest.raises(DataError) as caught:
        predict(bundle, images, tmp_path / "out", sample_submission=tmp_path / "sample.csv")
    assert str(caught.value) == (
        f"{tmp_path / 'sample.csv'} names 2 images that are not in {images}:\n  - q.png\n  - r.png"
    )
    assert not (tmp_path / "out").exists()


def text(path: Path) -> None:
    path.write_text("weights")


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def empty_folder(path: Path) -> None:
    path.mkdir()


def other_safetensors(path: Path) -> None:
    safetensors.torch.save_file({"w": torch.zeros(2)}, path)


def other_version(path: Path) -> None:
    safetensors.torch.save_file({"w": torch.zeros(2)}, path, {"segsmith": FORMAT, "facts": '{"recipe": {"nose": 1}}'})


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (None, "no such file; train writes bundle.safetensors into its run folder"),
        (text, "does not read as a bundle"),
        (nothing, "does not read as a bundle"),
        (empty_folder, "no such file"),
        (other_safetensors, "safetensors, but no segsmith bundle"),
        (other_version, "written by another version of segsmith"),
    ],
)
def test_a_bundle_that_is_none(tmp_path, images, make, says):
    path = tmp_path / "bundle"
    if make:
        make(path)
    before = files_in(tmp_path)
    with pytest.raises(ModelError, match=rf"^{tmp_path / 'bundle'}.*{says}"):
        predict(path, images, tmp_path / "out")
    assert files_in(tmp_path) == before

"""Journeys other than the plain one: every other layout, images cut into chips, numbers as channels, a mean image."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from segsmith.data.scenes import make_buildings, make_coco, make_folder, make_houses, make_salt, make_steel

CHIPS = ["data.fit=chip", "data.input_hw=[64,64]", "folds.block=1", "folds.count=3"]
LAYOUTS = {
    "separate classes": (lambda raw: make_steel(raw, images=24, test_images=4, hw=(64, 160)), "rle-classes", []),
    "joined classes": (
        lambda raw: make_steel(raw, images=24, test_images=4, hw=(64, 160), columns="joined"),
        "rle-id-class",
        [],
    ),
    "areas": (lambda raw: make_buildings(raw, hw=(256, 256), scenes=1), "area-vectors", CHIPS),
    "tiles": (lambda raw: make_buildings(raw, hw=(256, 256), scenes=2, style="spacenet"), "tile-vectors", CHIPS),
    "stac": (lambda raw: make_buildings(raw, hw=(256, 256), scenes=2, style="stac"), "stac", CHIPS),
    "one image": (lambda raw: make_houses(raw, hw=(256, 320)), "masks", CHIPS),
    "index masks": (lambda raw: make_folder(raw, images=24, hw=(64, 64), masks="index"), "masks", []),
    "colour masks": (lambda raw: make_folder(raw, images=24, hw=(64, 64), masks="colour"), "masks", []),
    "coco": (lambda raw: make_coco(raw, images=24, hw=(64, 64)), "coco", []),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_from_raw_files_to_scores(name, command, smallest, tmp_path):
    make, layout, overrides = LAYOUTS[name]
    make(tmp_path / "raw")
    before = contents(tmp_path / "raw")
    said = command("inspect", tmp_path / "raw", "--to", tmp_path / "dataset")
    assert said.code == 0, said.err
    assert said.out.startswith(f"layout {layout}: ")
    run, known = tmp_path / "run", {"network", "train"}
    small = [word for word in smallest("ships-demo") if word.split(".")[0] in known]
    said = command(
        *("train", tmp_path / "dataset", run, "-r", "ships-demo", "data.classes=null", "data.input_hw=[64,64]"),
        *("train.stages.0.mix=null", "folds.held_out=null", "train.stages.0.images_per_epoch=16", *small, *overrides),
    )
    assert said.code == 0, said.err
    for step in ("decide", "evaluate"):
        said = command(step, run)
        assert said.code == 0, said.err
    assert (run / "report.html").is_file()
    assert contents(tmp_path / "raw") == before, "the raw files are untouched"


@pytest.mark.parametrize(("things", "masks"), [("cracks", "binary"), ("cells", "index")])
def test_a_job_of_another_kind_needs_no_option_and_no_code(things, masks, command, tmp_path):
    make_folder(tmp_path / "raw", images=30, hw=(64, 64), things=things, masks=masks)
    steps = [
        ("inspect", tmp_path / "raw", "--to", tmp_path / "dataset"),
        ("plan", tmp_path / "dataset", "--to", tmp_path / "recipe.yaml", "--minutes", "0.1"),
        ("train", tmp_path / "dataset", tmp_path / "run", "--recipe", tmp_path / "recipe.yaml"),
        ("decide", tmp_path / "run"),
        ("evaluate", tmp_path / "run"),
        ("predict", tmp_path / "run", tmp_path / "raw" / "images", "--to", tmp_path / "prediction"),
    ]
    for step in steps:
        said = command(*step)
        assert said.code == 0, said.err
    assert len(list((tmp_path / "prediction").rglob("*.png"))) > 0


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """1 where both are empty."""
    both = int(one.sum() + other.sum())
    return 2 * int((one & other).sum()) / both if both else 1.0


def test_exclusive_classes_share_no_pixel_and_the_written_masks_score_what_evaluate_says(command, smallest, tmp_path):
    """Index masks of 0 to 3; a held-out fold, which is scored with the decision that predict uses."""
    raw, run, to = tmp_path / "raw", tmp_path / "run", tmp_path / "prediction"
    make_folder(raw, images=36, hw=(64, 64), masks="index")
    names = ("round", "rod", "star")
    (raw / "classes.csv").write_text("class,name\n" + "".join(f"{n},{name}\n" for n, name in enumerate(names, 1)))
    small = [word for word in smallest("ships-demo") if word.startswith(("network", "train.workers"))]
    stage = "{epochs: 6, images_per_epoch: 48, optimizer: {lr: 0.02},"
    stage += " loss: {cross_entropy: 1, dice: 1, class_weights: [1, 4, 6, 12]}}"
    options = ["data.classes=null", "data.exclusive=true", "data.input_hw=[64,64]", f"train.stages=[{stage}]"]
    options += ["folds.count=3", "folds.held_out=1", "train.batch_size=4", "decide.metric=global_f1"]
    for step in (
        ("inspect", raw, "--to", tmp_path / "dataset", "--classes", raw / "classes.csv"),
        ("train", tmp_path / "dataset", run, "-r", "ships-demo", *small, *options),
        ("decide", run),
        ("evaluate", run),
        ("predict", run, raw / "images", "--to", to),
    ):
        said = command(*step)
        assert said.code == 0, said.err

    with (run / "folds.csv").open() as file:
        held_out = [row["chip"] for row in csv.DictReader(file) if row["part"] == "held_out"]
    index = np.stack([cv2.imread(str(raw / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED) for name in held_out])
    truth = np.stack([index == number for number in (1, 2, 3)], axis=1)
    written = np.array(
        [[cv2.imread(str(to / "masks" / of_class / f"{name}.png"), 0) > 0 for of_class in names] for name in held_out]
    )
    assert written.any(axis=(0, 2, 3)).sum() >= 2, "or nothing could be shared"
    assert written.sum(axis=1).max() == 1, "no pixel is of two classes"

    scores = {name: found["value"] for name, found in json.loads((run / "scores.json").read_text())["scores"].items()}
    by_hand = {
        "global_precision": (written & truth).sum() / written.sum(),
        "global_recall": (written & truth).sum() / truth.sum(),
        "global_f1": dice(written, truth),
        "global_accuracy": (written == truth).mean(),
    }
    each = np.array(
        [[dice(*pair) for pair in zip(*of_image, strict=True)] for of_image in zip(written, truth, strict=True)]
    )
    by_hand["mean_dice"] = each.mean()
    for number, name in enumerate(names):
        filled = truth[:, number].any(axis=(1, 2))
        by_hand[f"dice_foreground:{name}"] = each[filled, number].mean()
        by_hand[f"dice_empty:{name}"] = each[~filled, number].mean()
    assert {name: scores[name] for name in by_hand} == pytest.approx(by_hand, abs=1e-6)

    with (run / "metrics.csv").open() as file:
        epochs = list(csv.DictReader(file))
    for name in names:
        found = {kind: float(epochs[-1][f"{kind}:{name}"]) for kind in ("dice", "dice_foreground", "dice_empty")}
        low, high = sorted((found["dice_foreground"], found["dice_empty"]))
        assert low <= found["dice"] <= high


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def salt(tmp_path_factory, command):
    folder = tmp_path_factory.mktemp("salt")
    make_salt(folder / "raw", train_images=36, test_images=5)
    assert command("inspect", folder / "raw", "--to", folder / "dataset").code == 0
    return folder


def test_chips_numbers_and_a_mean_image(salt, command, smallest, tmp_path):
    run, to = tmp_path / "run", tmp_path / "prediction"
    overrides = ["data.fit=chip", "data.input_hw=[48,48]", "data.stride=24", "data.extra=[z]", "folds.block=1"]
    overrides += ["data.normalise=mean_image", "folds.count=3"]
    said = command("train", salt / "dataset", run, "-r", "salt", *smallest("salt"), *overrides)
    assert said.code == 0, said.err
    parts = {row["chip"]: row["part"] for row in csv.DictReader((run / "folds.csv").open())}
    judged = [chip for chip, part in parts.items() if part == "validation"]
    assert judged
    assert all(chip.split("@")[1].startswith("1-") for chip in judged)

    assert "tuned" not in command("decide", run).err
    said = command("evaluate", run)
    assert said.code == 0, said.err
    assert f"{len(judged):,} images of the validation fold" in said.out
    assert (run / "report.html").is_file()

    sample = salt / "raw" / "sample_submission.csv"
    arguments = ["predict", run, salt / "raw" / "test" / "images", "--to", to, "--sample-submission", sample]
    said = command(*arguments)
    assert said.code == 2
    assert "the model was trained with z of each image; say where: --numbers FILE" in said.err
    assert not to.exists()
    said = command(*arguments, "--numbers", salt / "raw" / "depths.csv")
    assert said.code == 0, said.err
    assert "5 images" in said.out

    few = tmp_path / "few.csv"
    few.write_text("id,z\nnobody,3\n")
    said = command(*arguments, "--numbers", few)
    assert said.code == 2
    assert f"{few}: has no row for 5 images" in said.err


def test_numbers_that_are_not_there(salt, command, smallest, tmp_path):
    said = command("train", salt / "dataset", tmp_path / "run", "-r", "salt", *smallest("salt"), "data.extra=[depth]")
    assert said.code == 2
    assert "data.extra: the index has no column of numbers 'depth'; it has " in said.err
    assert not (tmp_path / "run").exists()


def test_all_folds_are_one_run_to_every_command(command, smallest, journey, tmp_path):
    """Trained, decided and evaluated at once; with a presence head that gates. Combined with itself, it is the same."""
    run, both = tmp_path / "run", tmp_path / "both"
    options = ["folds.count=3", "folds.held_out=1", "network.heads={present: {kind: presence}}", "decide.gate=presence"]
    said = command(
        "train", journey.dataset, run, "--folds", "all", "-r", "ships-demo", *smallest("ships-demo"), *options,
        "predict.scales=[0.5,1]",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert [line for line in said.out.splitlines() if line.startswith("fold ")] == [
        "fold 0, 1 of 2", "fold 2, 2 of 2"
    ]  # fmt: skip
    assert "when cross-fitted" in said.out
    assert "of all folds, by networks that had not seen them, " in said.out
    assert "next: segsmith" not in said.out, "all is done"
    assert "images of the held-out fold" in said.out
    page = (run / "report.html").read_text()
    assert "Of each fold, with the networks that were not trained on it" in page
    with (run / "folds.csv").open() as file:
        parts = {row["chip"]: row["part"] for row in csv.DictReader(file)}
    assert set(parts.values()) == {"training+validation", "held_out"}
    assert len(list((run / "presence").glob("*.png"))) == len(parts)
    decision = (run / "decision.json").read_bytes()
    said = command("train", journey.dataset, run, "-r", run / "recipe.yaml", "--folds", "all")
    assert said.code == 0, said.err
    assert (run / "decision.json").read_bytes() == decision, "a finished run stays as it is"
    for step in (
        ("evaluate", run, "--on", "validation"),
        ("combine", run, run, "--to", both),
        ("decide", both),
        ("evaluate", both, "--on", "validation"),
        ("compare", run, both),
        ("predict", both, journey.raw / "test_v2", "--to", tmp_path / "prediction"),
    ):
        said = command(*step)
        assert said.code == 0, said.err
        if step[0] == "compare":
            assert "+0.0000" in said.out
    assert (run / "images.csv").read_bytes() == (both / "images.csv").read_bytes()

"""Journeys other than the plain one: every other layout, images cut into chips, numbers as channels, a mean image."""

import csv
from pathlib import Path

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
def test_every_layout_from_raw_files_to_scores(name, command, tiny, tmp_path):
    make, layout, overrides = LAYOUTS[name]
    make(tmp_path / "raw")
    before = contents(tmp_path / "raw")
    said = command("inspect", tmp_path / "raw", "--to", tmp_path / "dataset")
    assert said.code == 0, said.err
    assert said.out.startswith(f"layout {layout}: ")
    run, known = tmp_path / "run", {"network", "train"}
    small = [word for word in tiny("ships-demo") if word.split(".")[0] in known]
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


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def salt(tmp_path_factory, command):
    folder = tmp_path_factory.mktemp("salt")
    make_salt(folder / "raw", train_images=36, test_images=5)
    assert command("inspect", folder / "raw", "--to", folder / "dataset").code == 0
    return folder


def test_chips_numbers_and_a_mean_image(salt, command, tiny, tmp_path):
    run, to = tmp_path / "run", tmp_path / "prediction"
    overrides = ["data.fit=chip", "data.input_hw=[48,48]", "data.stride=24", "data.extra=[z]", "folds.block=1"]
    overrides += ["data.normalise=mean_image", "folds.count=3"]
    said = command("train", salt / "dataset", run, "-r", "salt", *tiny("salt"), *overrides)
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


def test_numbers_that_are_not_there(salt, command, tiny, tmp_path):
    said = command("train", salt / "dataset", tmp_path / "run", "-r", "salt", *tiny("salt"), "data.extra=[depth]")
    assert said.code == 2
    assert "data.extra: the index has no column of numbers 'depth'; it has " in said.err
    assert not (tmp_path / "run").exists()

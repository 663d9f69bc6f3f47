"""Journeys other than the plain one: images cut into chips, numbers as channels, a mean image."""

import csv

import pytest

from segsmith.data.scenes import make_salt


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

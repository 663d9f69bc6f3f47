"""Chips on disk: the pixels, the truth and the place on the ground that the dataset has."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from by_hand import files_in

from segsmith import cluster
from segsmith.data.dataset import Dataset
from segsmith.data.ingest import ingest
from segsmith.data.scenes import make_buildings, make_folder
from segsmith.errors import WriteError
from segsmith.recipe import Data
from segsmith.samples import chip_files
from segsmith.samples.chip_files import write_chips
from segsmith.samples.chips import cut


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_buildings(folder / "raw", hw=(200, 240), areas=1, noisy_areas=0, scenes=1)
    ingest(folder / "raw").write(folder / "dataset")
    return folder / "dataset"


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.5])
def test_a_chip_lies_where_it_was_cut(dataset, tmp_path, scale):
    options = Data(fit="chip", input_hw=(64, 64), scales=(scale,))
    chips = cut(Dataset.open(dataset), options)
    assert write_chips(dataset, options, tmp_path / "chips") == (len(chips), (chips.foreground > 0).sum())
    files = sorted(path.name for path in (tmp_path / "chips").iterdir())
    ids = [chips.id(n) for n in range(len(chips))]
    assert files == sorted([f"{i}.tif" for i in ids] + [f"{i}_mask.png" for i in ids])
    with rasterio.open(chips.dataset.path(0)) as scene:
        for n in (0, len(chips) - 1):
            chip = chips.read(n)
            with rasterio.open(tmp_path / "chips" / f"{ids[n]}.tif") as file:
                assert file.crs == scene.crs
                assert np.array_equal(np.moveaxis(file.read(), 0, 2), chip.image)
                assert np.array_equal(file.dataset_mask() > 0, chip.valid)
                corner = (int(chips.left[n]) / scale, int(chips.top[n]) / scale)
                assert file.transform * (0, 0) == pytest.approx(scene.transform * corner, abs=1e-6)
                end = (corner[0] + 64 / scale, corner[1] + 64 / scale)
                assert file.transform * (64, 64) == pytest.approx(scene.transform * end, abs=1e-6)
            mask = cv2.imread(str(tmp_path / "chips" / f"{ids[n]}_mask.png"), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(mask, chip.mask[0] * np.uint8(255))


def test_pictures_have_no_place_and_several_classes_are_numbered(tmp_path):
    make_folder(tmp_path / "raw", images=4, hw=(64, 64), masks="index")
    ingest(tmp_path / "raw").write(tmp_path / "dataset")
    options = Data(fit="chip", input_hw=(32, 32), blank_most=1)
    chips = cut(Dataset.open(tmp_path / "dataset"), options)
    write_chips(tmp_path / "dataset", options, tmp_path / "chips", file_format="jpg")
    seen = set()
    for n in range(len(chips)):
        mask = cv2.imread(str(tmp_path / "chips" / f"{chips.id(n)}_mask.png"), cv2.IMREAD_UNCHANGED)
        for number, plane in enumerate(chips.truth(n), start=1):
            assert np.array_equal(mask == number, plane)
        image = cv2.imread(str(tmp_path / "chips" / f"{chips.id(n)}.jpg"))[:, :, ::-1]
        assert np.abs(image.astype(int) - chips.pixels(n)).mean() < 6
        seen |= set(np.unique(mask))
    assert seen >= {0, 1, 2}


def test_a_folder_that_holds_something_is_left_alone(dataset, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(WriteError, match="is not empty; choose a new folder"):
        write_chips(dataset, Data(fit="chip", input_hw=(64, 64)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_stride_that_does_not_divide_the_size_is_refused_as_it_was_said(tmp_path, command):
    said = command("chips", tmp_path / "dataset", tmp_path / "chips", "--size", 64, "--gsd-m", 0.3, "--stride", 30)
    assert (said.code, said.err) == (2, "segsmith: --stride 30 does not divide --size 64; choose one that does\n")


def test_on_a_cluster_the_same_files(monkeypatch, tmp_path, command, two_workers):
    make_folder(tmp_path / "raw", images=9, hw=(64, 64), masks="index")
    ingest(tmp_path / "raw").write(tmp_path / "dataset")
    monkeypatch.setattr(chip_files, "JOB_PIXELS", 2 * 64 * 64)
    asked = ["chips", tmp_path / "dataset"]
    alone = command(*asked, tmp_path / "alone", "--size", 32)
    spread = command(*asked, tmp_path / "spread", "--size", 32, "--cluster", two_workers)
    assert spread.code == 0, spread.err
    assert spread.out.split(":")[0] == alone.out.split(":")[0]
    assert files_in(tmp_path / "spread") == files_in(tmp_path / "alone")
    assert len(files_in(tmp_path / "alone")) >= 2 * 4


@pytest.fixture
def many(monkeypatch, tmp_path) -> Path:
    """A dataset of which each image is a job, that takes long enough to be killed in it."""
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'segsmith[cluster]'")
    make_folder(tmp_path / "raw", images=8, hw=(320, 320), masks="index")
    ingest(tmp_path / "raw").write(tmp_path / "dataset")
    monkeypatch.setattr(chip_files, "JOB_PIXELS", 1)
    return tmp_path / "dataset"


def written_midway(image_ids: list[str], new: Path) -> dict[str, int] | None:
    """When each file of the images that are done was written, while all others that were begun are half done."""
    begun = {int(lock.parent.name) for lock in new.glob(".notes/*/.lock")}
    done = {int(note.parent.name) for note in new.glob(".notes/*/done.json")}
    files = {row: list(new.glob(f"{image_ids[row]}@*")) for row in begun}
    if not done or begun == done or not all(files.values()):
        return None
    return {file.name: file.stat().st_mtime_ns for row in done for file in files[row]}


def test_a_worker_that_is_killed_midway_changes_no_file_and_none_that_is_done_is_written_again(tmp_path, many, command):
    from dask_kills import workers_killed

    alone = command("chips", many, tmp_path / "alone", "--size", 32)
    to, image_ids = tmp_path / "spread", Dataset.open(many).images["image_id"].tolist()
    with workers_killed(1, lambda: written_midway(image_ids, tmp_path / ".spread.partial")) as killed:
        said = command("chips", many, to, "--size", 32, "--cluster", "local", "--workers", 2)
    assert said.code == 0, said.err
    assert said.out.split(":")[0] == alone.out.split(":")[0]
    assert files_in(to) == files_in(tmp_path / "alone")
    (done,) = killed
    assert {name: (to / name).stat().st_mtime_ns for name in done} == done


def test_where_workers_are_killed_again_and_again_a_message_and_no_chips(monkeypatch, tmp_path, many, command):
    from dask_kills import workers_killed

    monkeypatch.setattr(cluster, "MOST_LOST", 2)
    before = set(tmp_path.iterdir())
    with workers_killed(100, lambda: True) as killed:
        said = command("chips", many, tmp_path / "chips", "--size", 32, "--cluster", "local", "--workers", 2)
    assert said.code == 2
    assert said.err.splitlines()[-1].startswith(
        "segsmith: 2 workers were lost over the same job, the last of them tcp:"
    )
    assert "Traceback" not in said.err
    assert len(killed) >= 2
    assert set(tmp_path.iterdir()) == before


def test_the_command(command, dataset, tmp_path, capfd):
    said = command("chips", dataset, tmp_path / "chips", "--size", 64, "--scale", 1, "--scale", 0.5)
    assert said.code == 0, said.err
    assert capfd.readouterr().err == "", "no library speaks on its own"
    tifs = list((tmp_path / "chips").glob("*.tif"))
    assert {path.stem.split("@")[1].split("-")[0] for path in tifs} == {"1", "0.5"}
    assert said.out.startswith(f"{len(tifs)} chips, ")
    said = command("chips", dataset, tmp_path / "more", "--size", 64, "--stride", 60)
    assert said.code == 2
    assert "--stride 60 does not divide --size 64" in said.err

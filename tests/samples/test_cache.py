"""Samples from a cache are those of the raw files, to the last bit, whatever happened to the cache on the way."""

import os
import pickle
import random
import resource
import shutil
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from processes import begun

from segsmith import recipe
from segsmith.data.corrections import Correction, corrected
from segsmith.data.ingest_rle import ingest
from segsmith.samples import cache
from segsmith.samples.cache import SampleCache, SampleCaches, cache_folder, kept_samples, key, remove_samples
from segsmith.samples.chips import Chips, cut
from segsmith.samples.samples import Sample, read_sample

WHOLE = recipe.Data(fit="pad", input_hw=(32, 32))


@pytest.fixture
def chips(ships) -> Chips:
    """Seven labelled images of 20 x 24 pixels, padded, and two unlabelled ones."""
    return cut(ingest(ships), WHOLE)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def told() -> list[str]:
    return []


def same(left: Sample, right: Sample) -> bool:
    if (left.valid is None) != (right.valid is None) or left.scale != right.scale:
        return False
    pairs = [(left.image, right.image), (left.mask, right.mask), (left.valid, right.valid)]
    return all(one is other is None or np.array_equal(one, other) for one, other in pairs)


def opened(chips: Chips, folder: Path, options: recipe.Data | None = None) -> SampleCache:
    return SampleCache.open(chips, options or chips.options, folder, pytest.fail)


def labelled(chips: Chips) -> list[int]:
    return np.flatnonzero(np.isin(chips.image, chips.dataset.labelled)).tolist()


def test_soft_labels_are_read_anew(chips, folder, tmp_path):
    dataset = chips.dataset
    taught = labelled(chips)[2]
    image_id, hw = dataset.images["image_id"].iloc[taught], dataset.hw(taught)
    levels = np.random.default_rng(0).integers(0, 256, hw, np.uint8)
    (tmp_path / "soft" / "class-1").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "soft" / "class-1" / f"{image_id}.png"), levels)
    digests = ["digest" if row == taught else "" for row in range(len(dataset))]
    dataset = replace(dataset, images=dataset.images.assign(soft=digests), soft_labels=tmp_path / "soft")
    read = opened(replace(chips, dataset=dataset), folder)
    for _ in range(2):
        soft = read(taught).soft
        assert soft is not None
        assert set(np.unique(soft)) == set(np.unique(levels)), "padded by its own pixels"
        assert read(labelled(chips)[0]).soft is None


@pytest.mark.parametrize(
    ("options", "border_px"),
    [
        (WHOLE, 0),
        (WHOLE, 1),
        (recipe.Data(input_hw=(13, 11)), 0),
        (recipe.Data(fit="pad", padding="zero", resize_hw=(9, 9), input_hw=(16, 16)), 0),
        (recipe.Data(fit="chip", input_hw=(16, 16), scales=(1, 0.5), blank_most=1), 0),
        (recipe.Data(fit="chip", input_hw=(16, 16), stride=8), 2),
    ],
)
def test_samples_are_those_of_the_raw_files(ships, folder, options, border_px):
    """The first time, again, by another process's eyes, and when the raw files are gone."""
    chips = replace(cut(ingest(ships), options), border_px=border_px)
    expected = {chip: read_sample(chips, chip) for chip in range(len(chips))}
    assert any(sample.mask.any() for sample in expected.values())
    partly = [sample.valid is not None for sample in expected.values()]
    assert any(partly) == (options.fit == "chip"), "chips go beyond the edge"
    first, second = opened(chips, folder), opened(chips, folder)
    for read in (first, first, second):
        assert all(same(read(chip), expected[chip]) for chip in expected)
    shutil.rmtree(ships)
    assert all(same(second(chip), expected[chip]) for chip in labelled(chips))


def test_nobody_can_write_to_what_is_kept(chips, folder):
    read = opened(chips, folder)
    read(1)
    with pytest.raises(ValueError, match="read-only"):
        read(1).image[:] = 0


# what a cache is of


def test_another_sample_is_another_key(ships, chips):
    before = {key(chips, WHOLE)}

    def is_new(chips: Chips, options: recipe.Data = WHOLE) -> bool:
        found = key(chips, options)
        new = found not in before
        before.add(found)
        return new

    assert not is_new(cut(ingest(ships), WHOLE)), "the same again"
    assert is_new(chips, WHOLE.model_copy(update={"input_hw": (64, 32)}))
    assert is_new(chips, WHOLE.model_copy(update={"padding": "zero"}))
    assert is_new(chips, WHOLE.model_copy(update={"resize_hw": (32, 32)}))
    assert is_new(chips, WHOLE.model_copy(update={"fit": "resize"}))
    assert is_new(replace(chips, border_px=1))
    for verdict in (Correction("b.jpg", "", "leave out"), Correction("b.jpg", "object", "empty")):
        assert is_new(cut(corrected(chips.dataset, [verdict], Path("corrections.csv")), WHOLE))
    chipped = WHOLE.model_copy(update={"fit": "chip", "input_hw": (16, 16)})
    assert is_new(cut(chips.dataset, chipped), chipped)
    halves = chipped.model_copy(update={"scales": (0.5,)})
    assert is_new(cut(chips.dataset, halves), halves)

    image = ships / "train_v2" / "a.jpg"
    content = bytearray(image.read_bytes())
    content[-3] ^= 1
    state = image.stat()
    image.write_bytes(content)
    os.utime(image, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert is_new(chips), "as large as before, and someone set its time back"
    image.unlink()
    (ships / "test_v2" / "x.jpg").unlink()
    assert is_new(cut(chips.dataset, WHOLE)), "that it is gone is for who reads it to say"


def test_what_changes_no_sample_changes_no_key(ships, chips):
    dataset = replace(chips.dataset, images=chips.dataset.images.assign(z=np.arange(9.0)))
    resized = recipe.Data(input_hw=(16, 16))
    chipped = resized.model_copy(update={"fit": "chip", "blank_most": 1.0})
    for options, free in (
        (WHOLE, {"normalise": "measured", "exclusive": True, "gsd_m": 1.0, "scales": (2.0,), "extra": ("z",)}),
        (resized, {"padding": "zero", "blank_most": 0.1, "sources": {"all": recipe.Source(weight=2)}}),
        (chipped, {"padding": "zero", "stride": 16, "blank_most": 0.99}),
    ):
        expected = key(cut(dataset, options), options)
        for name, value in free.items():
            other = options.model_copy(update={name: value})
            assert key(cut(dataset, other), other) == expected, name
    (ships / "test_v2" / "x.jpg").unlink()
    assert key(cut(dataset.named(["ship"]), WHOLE), WHOLE) == key(chips, WHOLE), "unlabelled, and a name"


def test_another_version_of_the_code_is_another_key(chips, monkeypatch):
    before = key(chips, WHOLE)
    monkeypatch.setattr(cache, "version", lambda name: "another" if name == "pillow" else "the same")
    decoder = key(chips, WHOLE)
    monkeypatch.setattr(cache, "version", lambda name: "the same")
    assert len({before, decoder, key(chips, WHOLE)}) == 3


# several at once, killed, deleted


def fill(chips: Chips, folder: Path, seed: int, rounds: int) -> None:
    """Read all samples in some order, round after round, and compare them."""
    expected = {chip: read_sample(chips, chip) for chip in labelled(chips)}
    order = random.Random(seed)
    for _ in range(rounds):
        read = opened(chips, folder)
        assert all(same(read(chip), expected[chip]) for chip in order.sample(list(expected), len(expected)))


def test_several_fill_one_cache_at_once(chips, folder):
    """They make the file together, too, and each finds every sample right."""
    started = [begun(lambda seed=seed: fill(chips, folder, seed, 3)) for seed in range(4)]
    for process in started:
        process.join(60)
        assert process.exitcode == 0
    assert len(list(folder.glob("*.samples"))) == 1


def test_killed_at_any_moment(chips, folder):
    """Twelve times, while files and rows are written; what is left is never wrong."""
    moments = random.Random(0)

    def work() -> None:
        fill(chips, folder, 0, 10**6)

    def emptied() -> None:
        while True:
            fill(chips, folder, 0, 1)
            remove_samples(folder)

    for number in range(12):
        process = begun(emptied if number % 2 else work)
        time.sleep(moments.uniform(0.01, 0.1))
        process.kill()
        process.join()
        fill(chips, folder, number, 1)
    assert not list(folder.glob(".*.partial"))


def test_a_row_that_was_not_written_to_its_end_counts_as_absent(chips, folder):
    """As a machine that goes down may leave it: pages of a row reach the disk in any order."""
    expected = read_sample(chips, 1)
    assert same(opened(chips, folder)(1), expected)
    (file,) = folder.glob("*.samples")
    whole = file.read_bytes()
    size = (len(whole) - 4096) // 7
    row = slice(4096 + size, 4096 + 2 * size)
    for lost in (slice(0, 4), slice(0, 8), slice(0, 100), slice(2000, 3000), slice(3088, size), slice(4, 5)):
        content = bytearray(whole[row])
        assert any(content[lost])
        content[lost] = bytes(len(content[lost]))
        file.write_bytes(whole[: row.start] + content + whole[row.stop :])
        assert same(opened(chips, folder)(1), expected)
        assert file.read_bytes() == whole, "and written again"


def test_deleted_while_it_is_read(chips, folder):
    expected = {chip: read_sample(chips, chip) for chip in labelled(chips)}
    read = opened(chips, folder)
    read(1)
    assert remove_samples(folder) > 0
    assert not kept_samples(folder)
    assert all(same(read(chip), expected[chip]) for chip in expected)
    shutil.rmtree(folder)
    assert all(same(read(chip), expected[chip]) for chip in expected)
    assert all(same(opened(chips, folder)(chip), expected[chip]) for chip in expected)


def test_a_file_that_is_none_of_ours_is_replaced(chips, folder):
    opened(chips, folder)
    (file,) = folder.glob("*.samples")
    file.write_bytes(b"something else")
    assert same(opened(chips, folder)(1), read_sample(chips, 1))


# room


def test_a_full_disk_is_told_and_the_samples_are_right(chips, folder, told, monkeypatch):
    read = SampleCaches(chips, folder, told.append).reader(WHOLE)
    read(1)
    held = kept_samples(folder)[0].bytes
    monkeypatch.setattr(cache, "LEAST_FREE_BYTES", 2**62)
    for chip in labelled(chips):
        assert same(read(chip), read_sample(chips, chip))
    (message,) = told
    assert message.endswith("no more decoded samples are kept, the training goes on")
    assert kept_samples(folder)[0].bytes == held


def test_a_write_that_fails_is_told_and_the_samples_are_right(chips, folder):
    """A limit of the file's size stands in for a disk that fills: the same call fails alike."""

    def work() -> None:
        told: list[str] = []
        read = SampleCaches(chips, folder, told.append).reader(WHOLE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
        assert all(same(read(chip), read_sample(chips, chip)) for chip in labelled(chips))
        assert len(told) == 1
        assert "no more decoded samples are kept" in told[0]
        other = SampleCaches(chips, folder.with_name("other"), told.append).reader(WHOLE)
        assert same(other(1), read_sample(chips, 1))
        assert "raise the limit" in told[1]
        assert told[1].endswith("images are decoded in every epoch")

    process = begun(work)
    process.join(60)
    assert process.exitcode == 0
    fill(chips, folder, 0, 1)


def test_where_much_is_kept_is_told_once(chips, folder, told, monkeypatch):
    monkeypatch.setattr(cache, "TOLD_FROM_BYTES", 20_000)
    for _ in range(2):
        SampleCaches(chips, folder, told.append).reader(WHOLE)
    assert told == [f"{folder}: up to {kept_samples(folder)[0].full_bytes / 1000:.3g} kB of decoded samples are kept "
                    "here (train.cache)"]  # fmt: skip


def test_too_little_room_is_told_before_anything_is_written(chips, folder, told, monkeypatch):
    monkeypatch.setattr(cache, "MOST_OF_DISK", 1e-12)
    read = SampleCaches(chips, folder, told.append).reader(WHOLE)
    assert same(read(1), read_sample(chips, 1))
    assert "would take more than half of the" in told[0]
    assert "set train.cache to a folder with more room, or to false; images are decoded in every epoch" in told[0]
    assert not kept_samples(folder)


def test_a_folder_that_cannot_be_made_is_told(chips, tmp_path, told):
    (tmp_path / "file").write_text("")
    read = SampleCaches(chips, tmp_path / "file" / "cache", told.append).reader(WHOLE)
    assert same(read(1), read_sample(chips, 1))
    assert len(told) == 1


def test_a_file_that_cannot_be_written_is_told(chips, folder, told):
    (folder / f"{key(chips, WHOLE)}.samples").mkdir(parents=True)
    read = SampleCaches(chips, folder, told.append).reader(WHOLE)
    assert same(read(1), read_sample(chips, 1))
    assert len(told) == 1
    assert "cannot be written: " in told[0]


def test_images_of_several_kinds_are_not_kept(ships, folder, told):
    cv2.imwrite(str(ships / "train_v2" / "a.jpg"), np.zeros((20, 24), np.uint8))
    chips = cut(ingest(ships), WHOLE)
    read = SampleCaches(chips, folder, told.append).reader(WHOLE)
    assert read(0).image.shape == (32, 32, 1)
    assert "images of 1, 3 bands are not kept together" in told[0]


def test_the_longest_unused_goes_when_room_is_needed(chips, folder, told, monkeypatch):
    sizes = [WHOLE.model_copy(update={"input_hw": (side, 32)}) for side in (32, 40, 48, 4000)]
    caches = SampleCaches(chips, folder, told.append)
    for options in sizes[:2]:
        read = caches.reader(options)
        assert same(read(1), read_sample(chips, 1, options))
    first, second = sorted(kept_samples(folder), key=lambda kept: kept.hw)
    os.utime(second.file, (time.time() - 3600,) * 2)
    room = shutil.disk_usage(folder).free
    monkeypatch.setattr(cache, "MOST_OF_DISK", 2.6 * second.full_bytes / room)
    caches.reader(sizes[2])
    assert {kept.hw for kept in kept_samples(folder)} == {(32, 32), (48, 32)}
    assert same(read(2), read_sample(chips, 2, sizes[1])), "whoever used it goes on"
    assert not told
    caches.reader(sizes[3])
    assert len(told) == 1
    assert {kept.hw for kept in kept_samples(folder)} == {(32, 32), (48, 32)}, "nothing goes for what cannot fit"
    assert first.samples == 7


def test_what_was_not_used_for_a_month_goes(chips, folder):
    opened(chips, folder)
    (old,) = folder.glob("*.samples")
    os.utime(old, (time.time() - 31 * 86400,) * 2)
    opened(chips, folder, WHOLE.model_copy(update={"input_hw": (64, 64)}))
    assert not old.exists()


def test_where_samples_are_kept(tmp_path):
    assert cache_folder(tmp_path, True) == tmp_path / "cache"
    assert cache_folder(tmp_path, "elsewhere") == Path("elsewhere")
    assert cache_folder(tmp_path, False) is None


def test_in_a_worker_that_is_no_fork_it_is_opened_anew_and_decodes_where_its_file_is_gone(chips, folder):
    expected = {chip: read_sample(chips, chip) for chip in labelled(chips)}
    reader = opened(chips, folder)
    for _ in range(2):
        again = pickle.loads(pickle.dumps(reader))
        assert all(same(again(chip), sample) for chip, sample in expected.items())
        remove_samples(folder)
    assert kept_samples(folder) == []

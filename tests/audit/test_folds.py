"""Dataset -> folds: equal in size and in strata, and the same whatever the order of the images."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsmith import recipe
from segsmith.audit.folds import grouped_folds, make_folds, stratified_folds
from segsmith.data.dataset import Dataset
from segsmith.data.ingest_rle import ingest
from segsmith.errors import DataError


def labels_alone(raw: Path, objects: list[int]) -> Dataset:
    """Images i0, i1 ... with so many objects; i0 comes last in the CSV."""
    raw.mkdir()
    rows = []
    for image, count in reversed(list(enumerate(objects))):
        rows += [f"i{image},{1 + 2 * n} 1" for n in range(count)] or [f"i{image},"]
    (raw / "train.csv").write_text("ImageId,EncodedPixels\n" + "\n".join(rows) + "\n")
    return ingest(raw, assume_hw=(100, 100))


def folds_by_id(dataset: Dataset, **options) -> dict[str, int]:
    seed = options.pop("seed", 0)
    folds = make_folds(dataset, recipe.Folds(**options), seed)
    return dict(zip(dataset.images["image_id"], folds.tolist(), strict=True))


@settings(max_examples=60)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=80), st.integers(2, 10), st.integers(0, 3))
def test_folds_are_equal_in_size_and_in_every_stratum(strata, count, seed):
    folds = stratified_folds([f"i{n}" for n in range(len(strata))], np.array(strata), count, seed)
    for chosen in (np.ones(len(strata), bool), *(np.array(strata) == stratum for stratum in set(strata))):
        sizes = np.bincount(folds[chosen], minlength=count)
        assert len(sizes) == count
        assert sizes.max() - sizes.min() <= 1


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=30), st.randoms(use_true_random=False))
def test_an_image_keeps_its_fold_whatever_the_order(strata, random):
    ids = [f"i{n}" for n in range(len(strata))]
    shuffled = random.sample(range(len(ids)), len(ids))
    folds = stratified_folds(ids, np.array(strata), 3, seed=1)
    again = stratified_folds([ids[n] for n in shuffled], np.array(strata)[shuffled], 3, seed=1)
    assert again.tolist() == folds[shuffled].tolist()


def test_the_order_of_the_labels_does_not_matter(ships):
    before = folds_by_id(ingest(ships), count=3)
    head, *rows = (ships / "train.csv").read_text().splitlines()
    (ships / "train.csv").write_text("\n".join([head, *reversed(rows)]) + "\n")
    after = folds_by_id(ingest(ships), count=3)
    assert list(after) != list(before)
    assert after == before


def test_unlabelled_images_are_in_no_fold(ships):
    folds = folds_by_id(ingest(ships), count=3)
    assert (folds["x.jpg"], folds["y.jpg"]) == (-1, -1)
    assert sorted(Counter(folds[f"{name}.jpg"] for name in "abcdefg").values()) == [2, 2, 3]


def test_stratified_by_objects_as_the_recipe_counts_them(tmp_path):
    objects = [0] * 12 + [1] * 6 + [2] * 3 + [5, 7, 9]  # five and more are one stratum
    folds = folds_by_id(labels_alone(tmp_path / "raw", objects), count=3)
    for first, last in ((0, 12), (12, 18), (18, 21), (21, 24)):
        in_stratum = Counter(folds[f"i{n}"] for n in range(first, last))
        assert set(in_stratum.values()) == {(last - first) // 3}


def test_images_of_five_objects_and_more_are_one_stratum(tmp_path):
    folds = folds_by_id(labels_alone(tmp_path / "five", [0, 1, 4, 4] * 5 + [5, 7, 9] * 4))
    assert folds_by_id(labels_alone(tmp_path / "more", [0, 1, 4, 4] * 5 + [9, 5, 6] * 4)) == folds
    assert folds_by_id(labels_alone(tmp_path / "four", [0, 1, 4, 4] * 5 + [5, 4, 9] * 4)) != folds


def test_stratified_by_coverage_in_eleven_classes(tmp_path):
    # of 10 000 pixels 1000 is the end of the class up to a tenth, 1001 the start of the next
    rows = [f"{name}{n},{runs}" for name, runs in (("u", "1 1000"), ("v", "1 1001"), ("w", "")) for n in range(9)]
    (tmp_path / "train.csv").write_text("ImageId,EncodedPixels\n" + "\n".join(rows) + "\n")
    folds = folds_by_id(ingest(tmp_path, assume_hw=(100, 100)), count=3, stratify_by="coverage")
    for name in "uvw":
        assert Counter(folds[f"{name}{n}"] for n in range(9)) == {0: 3, 1: 3, 2: 3}, name


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 15)), min_size=4, max_size=60),
    st.integers(2, 5),
    st.randoms(use_true_random=False),
)
def test_groups_stay_whole_whatever_the_order(images, count, random):
    strata, groups = (np.array(column) for column in zip(*images, strict=True))
    ids = [f"i{n}" for n in range(len(images))]
    folds = grouped_folds(ids, strata, groups, count, seed=2)
    assert ((folds >= 0) & (folds < count)).all()
    for group in set(groups.tolist()):
        assert len(set(folds[groups == group])) == 1
    shuffled = random.sample(range(len(ids)), len(ids))
    again = grouped_folds([ids[n] for n in shuffled], strata[shuffled], groups[shuffled], count, seed=2)
    assert again.tolist() == folds[shuffled].tolist()


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.integers(2, 5))
def test_groups_of_one_are_dealt_like_single_images(strata, count):
    ids = [f"i{n}" for n in range(len(strata))]
    alone = grouped_folds(ids, np.array(strata), np.arange(len(ids)) * 7, count, seed=0)
    assert alone.tolist() == stratified_folds(ids, np.array(strata), count, seed=0).tolist()


def test_groups_are_dealt_so_that_strata_and_sizes_come_out_even():
    rng = np.random.default_rng(0)
    strata = rng.choice(4, 1000, p=[0.6, 0.2, 0.15, 0.05])
    groups = np.concatenate([np.repeat(np.arange(100), rng.integers(2, 6, 100))[:300], 1000 + np.arange(700)])
    folds = grouped_folds([f"i{n}" for n in range(1000)], strata, groups, 5, seed=0)
    for chosen in (np.ones(1000, bool), *(strata == stratum for stratum in range(4))):
        sizes = np.bincount(folds[chosen], minlength=5)
        assert sizes.max() - sizes.min() <= 4


def test_a_group_larger_than_a_fold_takes_one_alone():
    groups = np.array([0] * 30 + list(range(1, 31)))
    folds = grouped_folds([f"i{n}" for n in range(60)], np.zeros(60, int), groups, 3, seed=0)
    assert sorted(np.bincount(folds).tolist()) == [15, 15, 30]


def test_groups_of_the_index_are_never_split(tmp_path):
    dataset = labels_alone(tmp_path / "raw", [0, 1] * 10)
    dataset.images["group"] = np.repeat(np.arange(10), 2).astype(np.int32)
    folds = make_folds(dataset, recipe.Folds(count=4), 0)
    assert (folds[::2] == folds[1::2]).all()
    dataset.images["group"] = np.repeat(np.arange(2), 10).astype(np.int32)
    with pytest.raises(DataError, match=r"20 labelled images in 2 groups .* cannot be split into 4 folds"):
        make_folds(dataset, recipe.Folds(count=4), 0)


def test_stratified_by_several_at_once(tmp_path):
    # one object of 20 %, or two of 10 % each, or one of 60 %: either property alone takes two of them for one
    rows = []
    for n in range(9):
        rows += [f"u{n},1 2000", f"v{n},1 1000", f"v{n},3001 1000", f"w{n},1 6000"]
    (tmp_path / "train.csv").write_text("ImageId,EncodedPixels\n" + "\n".join(rows) + "\n")
    folds = folds_by_id(ingest(tmp_path, assume_hw=(100, 100)), count=3, stratify_by=("objects", "coverage"))
    for name in "uvw":
        assert Counter(folds[f"{name}{n}"] for n in range(9)) == {0: 3, 1: 3, 2: 3}, name


def test_another_seed_gives_other_folds(tmp_path):
    dataset = labels_alone(tmp_path / "raw", [0, 1] * 20)
    seeds = [tuple(folds_by_id(dataset, seed=seed).values()) for seed in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_fewer_images_than_folds_are_refused(tmp_path):
    dataset = labels_alone(tmp_path / "raw", [1, 0, 2])
    assert sorted(folds_by_id(dataset, count=3).values()) == [0, 1, 2]
    with pytest.raises(DataError, match=r"3 labelled images cannot be split into 4 folds; .* set folds\.count lower"):
        folds_by_id(dataset, count=4)


def test_only_empty_images_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"all 6 labelled images are empty: there is nothing to learn"):
        folds_by_id(labels_alone(tmp_path / "raw", [0] * 6))

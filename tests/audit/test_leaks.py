"""Dataset and folds -> leaks: a copy in training is named first; parts are told apart only where they differ."""

from pathlib import Path

import cv2
import numpy as np

from segsmith.audit.leaks import find_leaks, tell_apart
from segsmith.data.dataset import Dataset
from segsmith.data.ingest_rle import ingest


def texture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    fields = [cv2.GaussianBlur(rng.normal(size=(64, 64)), (0, 0), sigma) * sigma for sigma in (2, 5)]
    return np.clip(120 + 50 * sum(fields), 0, 255).astype(np.uint8)


def dataset_of(raw: Path, labelled: list[np.ndarray], test: list[np.ndarray]) -> Dataset:
    for folder, images in (("train", labelled), ("test", test)):
        (raw / folder).mkdir(parents=True)
        for n, image in enumerate(images):
            cv2.imwrite(str(raw / folder / f"{folder}{n:03d}.png"), image)
    rows = [f"train{n:03d}.png,1 {5 + n}\n" for n in range(len(labelled))]
    (raw / "train.csv").write_text("ImageId,EncodedPixels\n" + "".join(rows))
    return ingest(raw)


def test_copies_in_training_come_first_and_are_counted(tmp_path):
    images = [texture(n) for n in range(40)]
    images[3] = images[30][:, ::-1]
    images[7] = cv2.convertScaleAbs(images[25], alpha=0.9, beta=5)
    dataset = dataset_of(tmp_path, images, [cv2.add(texture(n), 40) for n in range(100, 130)])
    folds = np.array([0] * 12 + [1] * 28 + [-1] * 30)
    leaks = find_leaks(dataset, folds, 0)
    assert [near[:2] for near in leaks.nearest[:2]] == [(3, 30), (7, 25)]
    assert leaks.nearest[0].similarity == 1.0
    assert leaks.leaking == 2
    assert len(leaks.nearest) == 12
    assert leaks.groups_split == 0
    assert leaks.train_or_test is not None
    assert leaks.train_or_test.tells
    assert leaks.train_or_validation is not None
    assert not leaks.train_or_validation.tells
    assert leaks.train_or_validation.images == (28, 12)


def test_split_groups_are_counted(tmp_path):
    dataset = dataset_of(tmp_path, [texture(n) for n in range(12)], [])
    dataset.images["group"] = np.array([0, 1, 2, 3, 4, 5, 0, 1, 8, 8, 10, 11], np.int32)
    leaks = find_leaks(dataset, np.repeat([0, 1], 6), 0)
    assert (leaks.groups_split, leaks.leaking) == (2, 0)
    assert leaks.train_or_test is None  # there are no unlabelled images
    assert leaks.train_or_validation is None  # six of each are too few


def test_copies_in_both_parts_do_not_let_the_classifier_learn_by_heart(tmp_path):
    images = [texture(n // 5) for n in range(60)]
    dataset = dataset_of(tmp_path, images, [])
    dataset.images["group"] = (np.arange(60) // 5).astype(np.int32)
    parts = np.arange(60) // 5 % 2
    first, second = (np.flatnonzero(parts == part) for part in (0, 1))
    whole = tell_apart(dataset, first, second)
    dataset.images["group"] = np.arange(60, dtype=np.int32)
    loose = tell_apart(dataset, first, second)
    assert whole is not None
    assert loose is not None
    assert loose.auc > 0.95 > whole.auc

"""Two tiny raw folders in the contests' layouts; images that are not square let no swap of rows and columns pass."""

from pathlib import Path

import cv2
import numpy as np
import pytest

SHIPS_CSV = """\
ImageId,EncodedPixels
a.jpg,
b.jpg,1 3
c.jpg,22 3 42 3
d.jpg,0
e.jpg,476 5
f.jpg,1 2 21 2
f.jpg,101 4
c.jpg,301 4
f.jpg,400 1
g.jpg,
"""

SALT_CSV = """\
id,rle_mask
b1,
b2,1 4 14 4
b3,
b4,1 2 45 2
"""


@pytest.fixture
def ships(tmp_path: Path) -> Path:
    """One CSV row per ship; JPEG of 20 x 24 pixels: a d g empty, b e one ship, c two, f three; x y unlabelled."""
    raw = tmp_path / "ships"
    noise = np.random.default_rng(0)
    for folder, names in (("train_v2", "abcdefg"), ("test_v2", "xy")):
        (raw / folder).mkdir(parents=True)
        for name in names:
            cv2.imwrite(str(raw / folder / f"{name}.jpg"), noise.integers(0, 256, (20, 24, 3), np.uint8))
    (raw / "train.csv").write_text(SHIPS_CSV)
    (raw / "sample_submission_v2.csv").write_text("ImageId,EncodedPixels\nx.jpg,1 2\ny.jpg,1 2\n")
    return raw


@pytest.fixture
def salt(tmp_path: Path) -> Path:
    """One CSV row per image; PNG of 13 x 11 pixels with masks, of 16 bits where not empty; t1 unlabelled."""
    raw = tmp_path / "salt"
    for folder in ("train/images", "train/masks", "test/images"):
        (raw / folder).mkdir(parents=True)
    noise = np.random.default_rng(1)
    for path in ("train/images/b1", "train/images/b2", "train/images/b3", "train/images/b4", "test/images/t1"):
        cv2.imwrite(str(raw / f"{path}.png"), noise.integers(0, 256, (13, 11, 3), np.uint8))
    b2, b4 = np.zeros((13, 11), np.uint16), np.zeros((13, 11), np.uint16)
    b2[0:4, 0:2] = 65535
    b4[0:2, 0] = b4[5:7, 3] = 65535
    empty = np.zeros((13, 11), np.uint8)
    for name, mask in (("b1", empty), ("b2", b2), ("b3", empty), ("b4", b4)):
        cv2.imwrite(str(raw / "train/masks" / f"{name}.png"), mask)
    (raw / "train.csv").write_text(SALT_CSV)
    (raw / "depths.csv").write_text("id,z\nb1,100\nb2,200\nb3,300\nb4,400\nz9,999\n")
    (raw / "sample_submission.csv").write_text("id,rle_mask\nt1,1 1\n")
    return raw

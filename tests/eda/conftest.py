"""A raw folder that several tests look at."""

import cv2
import numpy as np
import pytest


@pytest.fixture
def raw(tmp_path):
    """Five labelled images and two others; two empty, one with one object, two with two."""
    noise = np.random.default_rng(0)
    for folder, names in (("train", ["a", "b", "c", "d", "e"]), ("test", ["x", "y"])):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        for name in names:
            _, png = cv2.imencode(".png", noise.integers(0, 256, (20, 24, 3), np.uint8))
            (tmp_path / "raw" / folder / f"{name}.png").write_bytes(png.tobytes())
    labels = "a.png,\nb.png,1 3\nc.png,1 3\nc.png,50 4\nd.png,\ne.png,1 1\ne.png,99 2\n"
    (tmp_path / "raw" / "train.csv").write_text(f"ImageId,EncodedPixels\n{labels}")
    return tmp_path / "raw"

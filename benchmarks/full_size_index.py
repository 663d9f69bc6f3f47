"""Claim: the ships contest's labels at full size (231 723 rows, 192 556 images) are indexed, profiled and folded in
under a minute and 2 GB, without their images.

    python benchmarks/full_size_index.py
"""

import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from segsmith import inspect, load_recipe
from segsmith.audit.folds import make_folds
from segsmith.data.scenes import make_ship_labels


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "raw")
        raw.mkdir()
        make_ship_labels(raw / "train_ship_segmentations_v2.csv")
        start = time.perf_counter()
        found = inspect(raw, Path(folder, "dataset"), assume_hw=(768, 768))
        indexed = time.perf_counter()
        recipe = load_recipe("ships")
        folds = make_folds(found.dataset, recipe.folds, recipe.seed)
        folded = time.perf_counter()
        print(f"{found.profile.images:,} images, {found.profile.objects:,} objects")
        print(f"indexed and profiled in {indexed - start:.1f} s, folded in {folded - indexed:.1f} s (at most 60 s)")
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB (at most 2)")
        print(f"folds of {np.bincount(folds).tolist()} images")


if __name__ == "__main__":
    main()

"""Memory of predicting a raster is bounded by its width: 30 000 x 30 000 pixels in the memory of 10 000 x 10 000.

Two made rasters of three bands are predicted by the command line with a tiny network, each in a process of its own,
whose largest resident size is taken. Then the large one is predicted again and killed (kill -9) now and then; what
comes out must be the same to the last byte.

    python benchmarks/raster_memory.py folder
    python benchmarks/raster_memory.py folder --small 3000 --large 10000 --kills 5
"""

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.windows import Window

from segsmith.data.dataset import Layout
from segsmith.modeling.bundle import Bundle, Cell, Decision
from segsmith.networks.networks import build_network
from segsmith.recipe_files import load_recipe
from segsmith.samples.sight import Sight

BLOCK = 512
GSD_M = 0.15


def make_raster(path, height, width):
    """Soft blobs that repeat, in blocks, so that it is written fast and read as any other."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (3, BLOCK // 8, BLOCK // 8), np.uint8)
    block = np.kron(coarse, np.ones((1, 8, 8), np.uint8))
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": height, "width": width, "tiled": True}
    profile |= {"blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "zlevel": 1, "photometric": "rgb"}
    place = rasterio.transform.from_origin(500_000, 5_000_000, GSD_M, GSD_M)
    row = np.tile(block, (1, 1, -(-width // BLOCK)))[:, :, :width]
    with rasterio.open(path, "w", crs="EPSG:32631", transform=place, bigtiff="if_safer", **profile) as file:
        for top in range(0, height, BLOCK):
            rows = min(BLOCK, height - top)
            file.write(row[:, :rows], window=Window(0, top, width, rows))


def make_bundle(path, chip, overlap):
    options = ["network.encoder=tu-test_resnet", "network.encoder_depth=3", "network.decoder_channels=[8,8,8]"]
    options += ["data.fit=chip", f"data.input_hw=[{chip},{chip}]", f"predict.overlap={overlap}", "predict.flips=none"]
    recipe = load_recipe("ships-demo", [*options, "predict.batch_size=8", "data.classes=[building]"])
    torch.manual_seed(0)
    network = build_network(recipe.network, 1, (0.5,) * 3, (0.25,) * 3, weights=False)
    Bundle(
        members=(network.state_dict(),),
        recipe=recipe,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        classes=("building",),
        layout=Layout("area-vectors", "ImageId", "EncodedPixels", one_row_per="object", id_has_suffix=False),
        fingerprint="0" * 16,
        sight=Sight(gsd_m=(GSD_M, GSD_M)),
        decision=Decision((Cell(128, smallest_area=200),)),
    ).write(path)


def predict(bundle, raster, out, kill_after=None):
    """Peak resident bytes and seconds of one process; killed once so many more strips are there, if that is said."""
    progress = out.with_name(f".{out.name}.progress")
    strips = lambda: len(list(progress.glob("work/*/probabilities/*.tif")))  # noqa: E731
    began, before = time.time(), strips()
    command = [sys.executable, "-m", "segsmith", "predict", str(bundle), str(raster), "--to", str(out)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while kill_after is not None and strips() < before + kill_after and child.poll() is None:
        time.sleep(0.05)
    if kill_after is not None and child.poll() is None:
        child.send_signal(signal.SIGKILL)
    _, status, usage = os.wait4(child.pid, 0)
    if kill_after is None and status:
        sys.exit(f"the prediction failed ({status})")
    return usage.ru_maxrss * 1024, time.time() - began


def digest(folder):
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as content:
                digests[str(path.relative_to(folder))] = hashlib.file_digest(content, "sha256").hexdigest()
    return digests


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=30_000)
    parser.add_argument("--height", type=int, help="rows of both; as many as columns if unset")
    parser.add_argument("--chip", type=int, default=256)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--kills", type=int, default=5)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    bundle = args.folder / "bundle.safetensors"
    make_bundle(bundle, args.chip, args.overlap)
    peaks = []
    for width in (args.small, args.large):
        raster, out = args.folder / f"{width}.tif", args.folder / f"out-{width}"
        make_raster(raster, args.height or width, width)
        shutil.rmtree(out, ignore_errors=True)
        peak, seconds = predict(bundle, raster, out)
        peaks.append(peak)
        print(f"{args.height or width} x {width}: {peak / 1e9:.3f} GB, {seconds:.0f} s", flush=True)
    print(f"ratio {peaks[1] / peaks[0]:.3f}", flush=True)
    if args.kills:
        again = args.folder / "out-killed"
        shutil.rmtree(again, ignore_errors=True)
        rows = -(-(args.height or args.large) // max(1, round(args.chip * (1 - args.overlap))))
        for _ in range(args.kills):
            _, seconds = predict(bundle, raster, again, kill_after=max(1, rows // (args.kills + 1)))
            print(f"killed after {seconds:.0f} s", flush=True)
        predict(bundle, raster, again)
        print("the same to the last byte" if digest(out) == digest(again) else "NOT the same", flush=True)


if __name__ == "__main__":
    main()

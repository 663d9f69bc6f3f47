"""Claim: a raster is predicted, from file to files, at 90 % of the speed of its network alone on chips that are in
memory already, and three times as fast as loops of the usual kinds, in less memory.

The others predict the same chips with the same network (U-Net ResNet-18) in fp32, as their documentation does it: the
grid sampler's loop reads each chip from the file in a DataLoader of two workers, puts its probabilities into an array
of the whole raster, the last one to come winning, and writes that; the whole-array blend reads the raster at once,
weights each chip by a Gaussian, divides by the sum of weights and writes. Each side runs by itself, in turns; medians
of megapixels a second, and the largest resident size.

    python benchmarks/raster_speed.py FOLDER [--side 3000] [--turns 3]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import rasterio
import torch
from raster_memory import GSD_M, make_raster
from rasterio.windows import Window

from segsmith.data.dataset import Layout
from segsmith.modeling.bundle import Bundle, Cell, Decision
from segsmith.networks.networks import build_network
from segsmith.prediction.network_calls import torch_calls
from segsmith.recipe_files import load_recipe
from segsmith.samples.sight import Sight

CHIP, STRIDE, BATCH, WORKERS = 256, 192, 8, 2


def make_bundle(path: Path) -> None:
    options = ["network.encoder=resnet18", "network.encoder_depth=5", "network.decoder_channels=[256,128,64,32,16]"]
    options += ["data.fit=chip", f"data.input_hw=[{CHIP},{CHIP}]", f"predict.overlap={1 - STRIDE / CHIP}"]
    options += ["predict.flips=none", f"predict.batch_size={BATCH}", "data.classes=[building]"]
    recipe = load_recipe("ships-demo", [*options, "network.encoder_weights=null"])
    torch.manual_seed(0)
    network = build_network(recipe.network, 1, (0.5,) * 3, (0.25,) * 3, weights=False)
    layout = Layout("area-vectors", "ImageId", "EncodedPixels", one_row_per="object", id_has_suffix=False)
    Bundle(
        members=(network.state_dict(),),
        recipe=recipe,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        classes=("building",),
        layout=layout,
        fingerprint="0" * 16,
        sight=Sight(gsd_m=(GSD_M, GSD_M)),
        decision=Decision((Cell(128, smallest_area=200),)),
    ).write(path)


def starts(side: int) -> list[int]:
    """Where chips begin: side by side at the stride, the last one at the edge."""
    return [*range(0, side - CHIP, STRIDE), side - CHIP]


def network_of(bundle: Path) -> torch.nn.Module:
    """The bundle's network as a script has it: images scaled to mean 0 in, logits out, fp32."""
    import segmentation_models_pytorch as smp

    (network,) = Bundle.read(bundle).networks()
    model = smp.Unet("resnet18", encoder_weights=None, classes=1)
    model.load_state_dict(model.state_dict() | network.body.state_dict())
    return model.eval()


def scaled(chip: np.ndarray) -> np.ndarray:
    return ((chip / 255.0 - 0.5) / 0.25).astype(np.float32)


def network_alone(bundle: Path, raster: Path, out: Path) -> float:
    """As our predictions call it, on the chips of one row again and again."""
    side = rasterio.open(raster).width
    (call,) = torch_calls(Bundle.read(bundle))
    with rasterio.open(raster) as file:
        row = torch.from_numpy(file.read(window=Window(0, 0, side, CHIP)))
    chips = torch.stack([row[:, :, left : left + CHIP] for left in starts(side)])
    call(chips[:BATCH])
    began = time.perf_counter()
    for _ in starts(side):
        for first in range(0, len(chips), BATCH):
            call(chips[first : first + BATCH])
    return time.perf_counter() - began


def segsmith(bundle: Path, raster: Path, out: Path) -> float:
    from segsmith.delivery.predict_rasters import predict_rasters

    began = time.perf_counter()
    predict_rasters(bundle, raster, out, backend="torch", vectors=())
    return time.perf_counter() - began


class Chips(torch.utils.data.Dataset[tuple[np.ndarray, int, int]]):
    def __init__(self, raster: Path):
        self.raster = raster
        side = rasterio.open(raster).width
        self.places = [(top, left) for top in starts(side) for left in starts(side)]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int, int]:
        top, left = self.places[index]
        with rasterio.open(self.raster) as file:
            return scaled(file.read(window=Window(left, top, CHIP, CHIP))), top, left


def grid_sampler(bundle: Path, raster: Path, out: Path) -> float:
    model, began = network_of(bundle), time.perf_counter()
    with rasterio.open(raster) as file:
        profile, whole = file.profile, np.zeros((1, file.height, file.width), np.float32)
    loader = torch.utils.data.DataLoader(Chips(raster), BATCH, num_workers=WORKERS)
    with torch.no_grad():
        for batch, tops, lefts in loader:
            found = torch.sigmoid(model(batch)).numpy()
            for one, top, left in zip(found, tops.tolist(), lefts.tolist(), strict=True):
                whole[:, top : top + CHIP, left : left + CHIP] = one
    write(out, profile, whole)
    return time.perf_counter() - began


def whole_array(bundle: Path, raster: Path, out: Path) -> float:
    model, began = network_of(bundle), time.perf_counter()
    with rasterio.open(raster) as file:
        profile, image = file.profile, scaled(file.read())
    bell = np.exp(-(((np.arange(CHIP) - CHIP / 2 + 0.5) / (CHIP / 4)) ** 2) / 2)
    weight = np.outer(bell, bell).astype(np.float32)
    whole, weights = np.zeros((1, *image.shape[1:]), np.float32), np.zeros((1, *image.shape[1:]), np.float32)
    places = [(top, left) for top in starts(image.shape[1]) for left in starts(image.shape[2])]
    with torch.no_grad():
        for first in range(0, len(places), BATCH):
            some = places[first : first + BATCH]
            batch = np.stack([image[:, top : top + CHIP, left : left + CHIP] for top, left in some])
            for one, (top, left) in zip(torch.sigmoid(model(torch.from_numpy(batch))).numpy(), some, strict=True):
                whole[:, top : top + CHIP, left : left + CHIP] += one * weight
                weights[:, top : top + CHIP, left : left + CHIP] += weight
    write(out, profile, whole / weights)
    return time.perf_counter() - began


def write(out: Path, profile: dict[str, object], whole: np.ndarray) -> None:
    out.mkdir()
    of_file = {key: profile[key] for key in ("driver", "height", "width", "crs", "transform")}
    with rasterio.open(out / "probabilities.tif", "w", **of_file, count=1, dtype="uint8", compress="deflate") as file:
        file.write(np.rint(whole * 255).astype(np.uint8))


SIDES = {
    "network alone": network_alone, "segsmith": segsmith, "grid sampler": grid_sampler, "whole array": whole_array,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=3000, help="pixels of the made raster")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--run", choices=list(SIDES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    bundle, raster, out = args.folder / "bundle.safetensors", args.folder / f"{args.side}.tif", args.folder / "out"
    if args.run:
        print(json.dumps(SIDES[args.run](bundle, raster, out)))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    make_bundle(bundle)
    make_raster(raster, args.side, args.side)
    speeds: dict[str, list[float]] = {side: [] for side in SIDES}
    peaks: dict[str, float] = {}
    for turn in range(args.turns):
        for side in SIDES:
            shutil.rmtree(out, ignore_errors=True)
            command = [sys.executable, __file__, str(args.folder), "--side", str(args.side), "--run", side]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            said = child.stdout.read() if child.stdout else ""
            _, status, usage = os.wait4(child.pid, 0)
            if status:
                sys.exit(f"{side} failed ({status})")
            speeds[side].append(args.side**2 / 1e6 / json.loads(said.splitlines()[-1]))
            peaks[side] = usage.ru_maxrss / 1024
        print(f"turn {turn + 1}: " + ", ".join(f"{side} {of[-1]:.2f} MP/s" for side, of in speeds.items()), flush=True)
    middle = {side: median(of) for side, of in speeds.items()}
    for side in SIDES:
        ratio = middle["segsmith"] / middle[side]
        print(f"{side:14s} {middle[side]:6.2f} MP/s  segsmith {ratio:5.2f} times as fast  {peaks[side]:,.0f} MiB")


if __name__ == "__main__":
    main()

"""Claim: at equal network, salt reaches a given score in a fifth of the processor time of the plain script
(`salt_plain.py`) in fp32, and in half of that of the same script in bf16 and channels last.

All sides train U-Net ResNet-18 (smp's own, depth 5) from random weights at 128 x 128 and are scored on the same fifth
held out, by the contest's metric with threshold and smallest area tuned on other images of it (`against_plain.py`). How
long a training has to be to reach the score is not known beforehand, and each one-cycle schedule is laid out for its
length. So every side trains anew with more and more images until it reaches the score, and what counts are the minutes
of that one training: user and system time of the process and its workers, on as many threads as there are cores, from
its start to its end, with all it reads, and of ours with a validation after every epoch.

    python benchmarks/minutes_to_score.py FOLDER bench/minutes [--score 0.7] [--images 2500 5000 10000 20000 40000]

Where bfloat16 is only emulated (no AVX512-BF16, no AMX), `--against fp32` leaves that script out.
"""

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
from against_plain import both_scores
from salt_plain import __file__ as PLAIN

from segsmith.data.dataset import Dataset
from segsmith.eda.inspect import inspect
from segsmith.modeling.run import Run
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.samples.chips import cut

CLAIMED = {"fp32": 5.0, "bf16": 2.0}
NETWORK = ("attention=null", "encoder_depth=null", "decoder_channels=null")
STAGE = (
    "{epochs: %d, loss: {bce: 1, dice: 1}, optimizer: {name: adamw, lr: 1e-3, weight_decay: 1e-2}, "
    "schedule: {name: onecycle}, augment: {hflip: 0.5, affine: 0.5, shift: 0.06, scale: 0.1, rotate: 8, colour: 0.5}}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="raw folder of salt")
    parser.add_argument("to", type=Path, help="where runs and probabilities are written")
    parser.add_argument("--score", type=float, default=0.7)
    parser.add_argument("--images", type=int, nargs="+", default=[2500, 5000, 10_000, 20_000, 40_000])
    parser.add_argument("--against", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    args = parser.parse_args()
    dataset = args.to / "salt.dataset"
    if not dataset.exists():
        inspect(args.folder, dataset, audit=False)
    reached: dict[str, float] = {}
    for images in args.images:
        for side in ("ours", *args.against):
            if side in reached:
                continue
            minutes, seen, score = ours(dataset, args.to, images) if side == "ours" else plain(side, args, images)
            print(f"{side}: {seen:,} images, {minutes:.2f} minutes of processor time, {score:.4f}", flush=True)
            if score >= args.score:
                reached[side] = minutes
    for side in args.against:
        if missing := [one for one in ("ours", side) if one not in reached]:
            print(f"{args.score:g} was not reached by {' nor by '.join(missing)}: no ratio to {side}")
        else:
            times = reached[side] / reached["ours"]
            print(f"{args.score:g} by {side} in {times:.2f} times the minutes (claimed: {CLAIMED[side]:g})")


def ours(dataset: Path, to: Path, images: int) -> tuple[float, int, float]:
    """Minutes, images seen, score."""
    run = Run(to / f"ours-{images}")
    training = 0.8 * len(Dataset.open(dataset).labelled)
    said = [f"network.{option}" for option in NETWORK] + ["data.input_hw=[128,128]", "train.keep=last"]
    said += [f"train.cache={to / f'cache-{images}'}"]  # decoded anew
    said += [f"train.stages=[{STAGE % max(1, round(images / training))}]"]
    minutes = _minutes("-m", "segsmith", "train", str(dataset), str(run.folder), "--recipe", "salt", *said)
    _minutes("-m", "segsmith", "decide", str(run.folder))
    chips = cut(run.dataset(), run.recipe().data)
    files = ProbabilityFiles(run.probabilities, chips.dataset.classes)
    validation = run.part(chips, "validation")
    maps = {chips.id(chip): files.read(chips.id(chip)) for chip in validation}
    _, tuned = both_scores("mean_iou_map", chips, validation, maps)
    (to / "held_out.txt").write_text("\n".join(maps) + "\n")
    seen = sum(int(line.split(",")[2]) for line in (run.folder / "metrics.csv").read_text().splitlines()[1:])
    return minutes, seen, float(tuned.mean())


def plain(side: str, args: argparse.Namespace, images: int) -> tuple[float, int, float]:
    """Likewise, of the script on the images that our first run was not validated on."""
    first = Run(args.to / f"ours-{args.images[0]}")
    chips = cut(first.dataset(), first.recipe().data)
    out = args.to / f"{side}-{images}.npz"
    more = ["--bf16"] if side == "bf16" else []
    held_out = args.to / "held_out.txt"
    minutes = _minutes(PLAIN, str(args.folder), str(held_out), str(out), "--images", str(images), *more)
    found = np.load(out)
    levels = np.rint(255 * found["probabilities"]).astype(np.uint8)
    maps = dict(zip(found["ids"].tolist(), levels, strict=True))
    _, tuned = both_scores("mean_iou_map", chips, first.part(chips, "validation"), maps)
    return minutes, images, float(tuned.mean())


def _minutes(*command: str) -> float:
    """Of processor time that a Python command and its children take."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, env={**os.environ})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) / 60


if __name__ == "__main__":
    main()

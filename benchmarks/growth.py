"""Claim: indexing, auditing, an epoch of training, and prediction take time in proportion to the number of images, and
memory that does not grow with it, over two orders of magnitude.

Made images of ships, of 64 x 64 pixels so that many can be had, and a tiny network: what is told is what grows with a
dataset, not what a network costs. Each command runs by itself; its processor time and its largest resident size are
taken, those of its workers with it.

    python benchmarks/growth.py FOLDER [--sizes 300 3000 30000] [--page growth.html]
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from segsmith.data.scenes import make_ships
from segsmith.eda.charts import Line, line_chart
from segsmith.eda.page import Section, chart_grid, render_page, table
from segsmith.files import write_text

SIDE = 64
TINY = [
    "network.encoder=tu-test_resnet", "network.encoder_depth=3", "network.decoder_channels=[8,8,8]",
    f"data.input_hw=[{SIDE},{SIDE}]", "train.workers=0", "train.stages.0.epochs=1", "folds.held_out=null",
    "train.stages.0.mix={rest: 1.0}", "predict.flips=none",
]  # fmt: skip
STEPS = ("index", "audit", "train", "predict")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where all is written; images that are there are taken again")
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 3000, 30_000])
    parser.add_argument("--page", type=Path, default=Path("growth.html"))
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {step: [] for step in STEPS}
    peaks: dict[str, list[float]] = {step: [] for step in STEPS}
    print(f"{'images':>8}" + "".join(f"{step:>24}" for step in STEPS), flush=True)
    for size in args.sizes:
        folder = args.folder / str(size)
        if not (folder / "raw").exists():
            make_ships(folder / "raw.partial", train_images=size, test_images=1, size=SIDE)
            (folder / "raw.partial").rename(folder / "raw")
        for step, command in commands(folder, size).items():
            took, peak = measured(command)
            seconds[step].append(took)
            peaks[step].append(peak)
        told = "".join(f"{seconds[step][-1]:12.1f} s {peaks[step][-1]:6.0f} MiB" for step in STEPS)
        print(f"{size:>8}{told}", flush=True)
    times = args.sizes[-1] / args.sizes[-2]
    for step in STEPS:
        longer, larger = (of_step[step][-1] / of_step[step][-2] for of_step in (seconds, peaks))
        print(f"{step}: {longer:.1f} times the time and {larger:.2f} the memory for {times:g} times the images")
    write_text(args.page, page(args.sizes, seconds, peaks))
    print(f"page {args.page}")


def commands(folder: Path, size: int) -> dict[str, list[str]]:
    """What a user would type, in this order; all that an earlier start left is removed."""
    for name in ("indexed", "dataset", "run", "prediction"):
        shutil.rmtree(folder / name, ignore_errors=True)
    raw, run = folder / "raw", folder / "run"
    every = f"train.stages.0.images_per_epoch={size}"
    return {
        "index": ["inspect", str(raw), "--to", str(folder / "indexed"), "--no-audit"],
        "audit": ["inspect", str(raw), "--to", str(folder / "dataset")],
        "train": ["train", str(folder / "dataset"), str(run), "-r", "ships-demo", *TINY, every],
        "predict": ["predict", str(run), str(images_of(raw)), "--to", str(folder / "prediction"), "--no-overlays"],
    }


def images_of(raw: Path) -> Path:
    """The folder of the training images."""
    return max((path for path in raw.iterdir() if path.is_dir()), key=lambda path: len(list(path.iterdir())))


def measured(command: list[str]) -> tuple[float, float]:
    """Processor seconds of a command, and MiB that it held at the most."""
    child = subprocess.Popen([sys.executable, "-m", "segsmith", *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"failed ({status}): segsmith {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def page(sizes: list[int], seconds: dict[str, list[float]], peaks: dict[str, list[float]]) -> str:
    each = {step: [1000 * s / size for s, size in zip(seconds[step], sizes, strict=True)] for step in STEPS}
    charts = []
    for title, y_label, of_step in (
        ("Processor time of an image", "milliseconds", each),
        ("Largest resident size", "MiB", peaks),
    ):
        lines = [Line(step, np.log10(sizes), of_step[step]) for step in STEPS]
        charts.append(line_chart(lines, title=title, x_label="images, as a power of ten", y_label=y_label))
    rows = [
        [f"{size:,}", *(f"{seconds[step][at]:.1f} s, {peaks[step][at]:,.0f} MiB" for step in STEPS)]
        for at, size in enumerate(sizes)
    ]
    explained = "A flat line on the left is time in proportion; one on the right, memory that does not grow."
    parts = [explained, chart_grid(charts), table(["images", *STEPS], rows)]
    subtitle = f"Made images of {SIDE} x {SIDE} pixels"
    return render_page("Growth", subtitle, [], [Section("Against the number of images", parts)])


if __name__ == "__main__":
    main()

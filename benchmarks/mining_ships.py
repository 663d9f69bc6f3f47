"""Question: on made ships, what do mined false alarms and harder draws of hard images bring, at as many images seen?

A first run is trained, and the images without ships of its own dataset are mined with it (`segsmith mine`): those that
raise false alarms are then a fifth of each batch, in the place of other empty ones. The others see as many images as
both trainings together. Scores are of images that no run was trained or tuned on; intervals of the gain are of the mean
over seeds (Student's t), seed by seed against the first row.

    python benchmarks/mining_ships.py FOLDER
"""

import argparse
from pathlib import Path

import numpy as np

from segsmith.data.scenes import make_ships
from segsmith.decision.decide import decide
from segsmith.decision.evaluate import evaluate
from segsmith.decision.mine import mine
from segsmith.eda.inspect import inspect
from segsmith.modeling.run import Run
from segsmith.modeling.train import train
from segsmith.recipe_files import load_recipe

SIZE, IMAGES, PER_EPOCH = 128, 1200, 400
OPTIONS = [
    "folds.held_out=1",
    f"data.input_hw=[{SIZE},{SIZE}]",
    "network.encoder_depth=4",
    "network.decoder_channels=[48,32,24,16]",
    f"train.stages.0.images_per_epoch={PER_EPOCH}",
    "train.workers=0",
]
MINED = 'train.stages.0.mix={"source:mined": 0.2, empty: 0.45, single: 0.2, multi: 0.15}'
FIGURES = ("mean_dice", "dice_foreground", "dice_empty")
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where images and runs are written; a second call goes on there")
    parser.add_argument("--seeds", type=int, default=3, choices=sorted(T_95))
    parser.add_argument("--epochs", type=int, default=4, help=f"of {PER_EPOCH} images, of the run that is mined with")
    args = parser.parse_args()
    folder = args.folder
    if not (folder / "dataset").exists():
        make_ships(folder / "raw", train_images=IMAGES, test_images=1, size=SIZE, seed=11)
        inspect(folder / "raw", folder / "dataset", audit=False)
    rows: dict[str, list[list[float]]] = {"as it is": [], "hard images oftener": [], "mined false alarms": []}
    for seed in range(args.seeds):
        first = _trained(folder, "dataset", f"first-{seed}", seed, args.epochs)
        if not (folder / f"mined-{seed}").exists():
            found = mine(first, folder / "dataset", folder / f"mined-{seed}")
            print(f"seed {seed}: {len(found.kept)} false alarms among {found.looked_at} images", flush=True)
        longer, twice = 3 * args.epochs, 2 * args.epochs
        runs = (
            _trained(folder, "dataset", f"longer-{seed}", seed, longer),
            _trained(folder, "dataset", f"hard-{seed}", seed, longer, "train.stages.0.hard=3"),
            _trained(folder, f"mined-{seed}", f"mined-run-{seed}", seed, twice, MINED),
        )
        for of_row, run in zip(rows.values(), runs, strict=True):
            of_row.append(_scores(run))
    base = np.array(rows["as it is"])
    print(f"{'':22s}" + "".join(f"{name:>34s}" for name in FIGURES))
    for name, found in rows.items():
        scores = np.array(found)
        told = [
            f"{mean:.4f}  {_interval(gains) if name != 'as it is' else '':26s}"
            for mean, gains in zip(scores.mean(axis=0), (scores - base).T, strict=True)
        ]
        print(f"{name:22s}" + "".join(f"{text:>34s}" for text in told), flush=True)


def _trained(folder: Path, dataset: str, run: str, seed: int, epochs: int, *options: str) -> Path:
    recipe = load_recipe("ships-demo", [*OPTIONS, f"seed={seed}", f"train.stages.0.epochs={epochs}", *options])
    trained: Run = train(folder / dataset, recipe, folder / run)
    decide(trained.folder)
    return trained.folder


def _scores(run: Path) -> list[float]:
    found = evaluate(run, on="held_out")
    return [found.score(name).value for name in FIGURES]


def _interval(gains: np.ndarray) -> str:
    half = T_95[len(gains)] * gains.std(ddof=1) / len(gains) ** 0.5
    return f"{gains.mean():+.4f} ({gains.mean() - half:+.3f} {gains.mean() + half:+.3f})"


if __name__ == "__main__":
    main()

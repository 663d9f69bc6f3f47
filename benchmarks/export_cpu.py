"""CPU prediction through the best export is 7 times PyTorch fp32 eager as peers predict, score within 0.002.

    python benchmarks/export_cpu.py

U-Net ResNet-18 at 256 x 256 on made satellite images of ships. The network is trained by `segsmith train` for some
minutes (`--images`, from random weights), decided, and exported. Its opponent predicts as the documentation of
segmentation_models.pytorch does: float32, `eval()`, `inference_mode`, batches of NCHW floats normalised by numpy,
sigmoid, threshold. Both predict the same held-out images from memory, in turns, with as many threads; medians of
milliseconds an image, of every backend and of the opponent, whose weights are those of the same network. Scores are of
decided masks, against the same decision of what the opponent's probabilities are.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import segmentation_models_pytorch as smp
import torch

from segsmith.data.scenes import make_ships
from segsmith.decision.decide import decide
from segsmith.decision.evaluate import image_rows, judge, score_of
from segsmith.delivery.export import export
from segsmith.eda.inspect import inspect
from segsmith.errors import ModelError
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.run import Run
from segsmith.modeling.train import train
from segsmith.prediction.backends import EXPORTED, choose_backend
from segsmith.prediction.probabilities import Predictor
from segsmith.recipe_files import load_recipe

CLAIMED_TIMES, CLAIMED_SCORE_CHANGE = 7.0, 0.002


class Peer:
    """What a script on segmentation_models.pytorch does with a batch: images to probabilities 0..1."""

    def __init__(self, bundle: Bundle):
        (network,) = bundle.networks()
        self.model = smp.Unet("resnet18", encoder_weights=None, classes=1)
        body = network.body.state_dict()
        self.model.load_state_dict(self.model.state_dict() | body)
        self.model = self.model.eval().to(memory_format=torch.contiguous_format)
        self.mean, self.std = np.array(bundle.mean, np.float32), np.array(bundle.std, np.float32)

    def __call__(self, images: list[np.ndarray]) -> np.ndarray:
        scaled = (np.stack(images).astype(np.float32) / 255 - self.mean) / self.std
        batch = torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))
        with torch.inference_mode():
            return torch.sigmoid(self.model(batch)).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=480, help="Seen in training.")
    parser.add_argument("--compared", type=int, default=32, help="Held-out images that are predicted.")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="Where all is kept; gone on with if it is there.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        run = Run(trained(folder, args.images, args.batch))
        if not (run.folder / "bundle.export").exists():
            export(run.folder, images=args.compared)
        measure(run, args.compared, args.batch)


def trained(folder: Path, images: int, batch: int) -> Path:
    """A decided run."""
    if not (folder / "dataset").exists():
        make_ships(folder / "raw", train_images=240, test_images=2, size=256)
        inspect(folder / "raw", folder / "dataset", audit=False)
    run = folder / "run"
    if not (run / "decision.json").exists():
        recipe = load_recipe(
            "ships-demo",
            [
                "network.encoder=resnet18", "network.encoder_depth=5", "network.decoder_channels=[256,128,64,32,16]",
                "network.encoder_weights=null", "data.input_hw=[256,256]", "train.workers=0", "predict.flips=none",
                f"predict.batch_size={batch}", "folds.held_out=1",
                *(
                    f"train.stages.{number}.{key}"
                    for number in range(len(load_recipe("ships-demo").train.stages))
                    for key in ("epochs=1", f"images_per_epoch={images // len(load_recipe('ships-demo').train.stages)}")
                ),
            ],
        )  # fmt: skip
        train(folder / "dataset", recipe, run)
        decide(run)
    return run


def measure(run: Run, count: int, size: int) -> None:
    bundle, chips = Bundle.read(run.bundle), run.chips()
    indices = run.part(chips, "held_out")[:count]
    read = {index: chips.read(index).image for index in indices}
    peer = Peer(bundle)
    sides = {"peer": peer, "torch": Predictor(bundle)}
    for name in EXPORTED:
        try:
            sides[name] = Predictor(bundle, choose_backend(run.bundle, bundle, name).calls)
        except ModelError as error:
            print(f"{name} left out: {error}")
    took: dict[str, list[float]] = {name: [] for name in sides}
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in sides}
    names = list(sides)
    for turn, start in enumerate(range(0, len(indices), size)):
        batch = indices[start : start + size]
        images = [read[index] for index in batch]
        for name in (*names[turn % len(names) :], *names[: turn % len(names)]):
            if turn == 0:
                sides[name](images)
            began = time.perf_counter()
            found = sides[name](images)
            took[name].append((time.perf_counter() - began) / len(batch))
            for index, said in zip(batch, found, strict=True):
                levels = np.rint(said * 255).astype(np.uint8) if name == "peer" else said
                rows[name] += image_rows(judge(chips, index, levels, None, bundle.decision))
    score = {name: score_of(rows[name], bundle.decision.metric) for name in names}
    print(f"{len(indices)} images of 256 x 256, batches of {size}, {torch.get_num_threads()} threads,", end=" ")
    print(f"{torch.backends.cpu.get_cpu_capability()}")
    for name in names:
        ratio = median(took["peer"]) / median(took[name])
        each = [one / other for one, other in zip(took["peer"], took[name], strict=True)]
        print(
            f"{name:17} {1000 * median(took[name]):7.1f} ms  {ratio:5.2f} times (turns {min(each):.2f} to "
            f"{max(each):.2f})  {bundle.decision.metric} {score[name]:.4f} ({score[name] - score['peer']:+.4f})"
        )
    best = min(names, key=lambda name: median(took[name]))
    ratio, change = median(took["peer"]) / median(took[best]), abs(score[best] - score["peer"])
    held = ratio >= CLAIMED_TIMES and change <= CLAIMED_SCORE_CHANGE
    print(f"claim {'holds' if held else 'does not hold'}: {best} {ratio:.2f} times, score changed by {change:.4f}")


if __name__ == "__main__":
    main()

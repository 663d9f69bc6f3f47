"""The opponent: the script of the steel contest on segmentation_models.pytorch, as the system's author wrote it.

U-Net ResNet-18 with one sigmoid per class, BCE-with-logits, Adam 5e-4, batches of 4 whose gradients are accumulated to
32, plateau on the validation loss (patience 3), horizontal flips, ImageNet normalisation, best epoch by validation
loss (of the very images it is scored on: its one advantage); fp32. It knows nothing of segsmith: it gets the folder,
a file of held-out ids and as many minutes of processor time, and writes the probabilities of the held-out images
(float32, classes x height x width), which `against_plain.py` scores beside ours. Sides are padded by zeros to a
multiple of 32. From random weights unless there is a file of them.

    segsmith inspect FOLDER --to steel.dataset
    segsmith train steel.dataset runs/steel --recipe benchmarks/recipes/steel-small.yaml && segsmith decide runs/steel
    python benchmarks/against_plain.py runs/steel --held-out held_out.txt
    python benchmarks/steel_plain.py FOLDER held_out.txt plain.npz --minutes 13
    python benchmarks/against_plain.py runs/steel --plain plain.npz
"""

import argparse
import csv
import random
import time
from pathlib import Path

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch.utils.data import DataLoader, Dataset

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class Steel(Dataset):
    def __init__(self, folder: Path, ids: list[str], runs: dict, classes: list[str], train: bool):
        self.folder, self.ids, self.runs, self.classes, self.train = folder, ids, runs, classes, train

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        name = self.ids[index]
        image = cv2.imread(str(self.folder / "train_images" / name))[:, :, ::-1]
        height, width = image.shape[:2]
        mask = np.zeros((len(self.classes), height, width), np.float32)
        for channel, of_class in enumerate(self.classes):
            flat = np.zeros(height * width, np.float32)
            numbers = list(map(int, self.runs.get((name, of_class), "").split()))
            for start, length in zip(numbers[::2], numbers[1::2], strict=True):
                flat[start - 1 : start - 1 + length] = 1
            mask[channel] = flat.reshape(width, height).T
        if self.train and random.random() < 0.5:
            image, mask = image[:, ::-1], mask[:, :, ::-1]
        image = ((image / 255.0 - MEAN) / STD).transpose(2, 0, 1).astype(np.float32)
        margin = ((0, 0), (0, -height % 32), (0, -width % 32))
        return torch.from_numpy(np.pad(image, margin)), torch.from_numpy(np.pad(mask, margin))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--weights", type=Path, help="encoder weights, such as ImageNet's")
    parser.add_argument("--seed", type=int, default=69)
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    held_out = args.held_out.read_text().split()
    with (args.folder / "train.csv").open() as file:
        runs = {(row["ImageId"], row["ClassId"]): row["EncodedPixels"] for row in csv.DictReader(file)}
    classes = sorted({of_class for _, of_class in runs})
    images = {path.stem: path.name for path in (args.folder / "train_images").iterdir()}
    held_out_names = [images.get(i, i) for i in held_out]
    train_names = sorted(set(images.values()) - set(held_out_names))
    loader = DataLoader(Steel(args.folder, train_names, runs, classes, True), 4, shuffle=True, drop_last=True)
    validation = DataLoader(Steel(args.folder, held_out_names, runs, classes, False), 4)

    model = smp.Unet("resnet18", encoder_weights=None, classes=len(classes))
    if args.weights:
        model.encoder.load_state_dict(torch.load(args.weights, weights_only=True))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", patience=3)
    criterion = torch.nn.BCEWithLogitsLoss()
    accumulate, best, best_state, seen = 8, float("inf"), None, 0
    start = time.process_time()
    while time.process_time() - start < 60 * args.minutes:
        model.train()
        optimizer.zero_grad()
        for step, (x, y) in enumerate(loader, start=1):
            (criterion(model(x), y) / accumulate).backward()
            seen += len(x)
            if step % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
            if time.process_time() - start >= 60 * args.minutes:
                break
        model.eval()
        with torch.no_grad():
            loss = np.mean([criterion(model(x), y).item() for x, y in validation])
        scheduler.step(loss)
        if loss < best:
            best, best_state = loss, {name: value.clone() for name, value in model.state_dict().items()}
        print(f"{seen} images, validation loss {loss:.4f}, {time.process_time() - start:.0f} s", flush=True)

    model.load_state_dict(best_state)
    model.eval()
    height, width = cv2.imread(str(args.folder / "train_images" / train_names[0])).shape[:2]
    with torch.no_grad():
        probabilities = [torch.sigmoid(model(x))[:, :, :height, :width].numpy() for x, _ in validation]
    np.savez_compressed(args.out, ids=np.array(held_out), probabilities=np.concatenate(probabilities))
    print(f"{seen} images seen in {time.process_time() - start:.0f} s")


if __name__ == "__main__":
    main()

"""The opponent: the script a practitioner writes for the salt contest on segmentation_models.pytorch.

U-Net ResNet-18 from random weights, BCE + Dice, one-cycle, horizontal flips in training and prediction, 101 -> 128 by
reflection, fp32. It knows nothing of segsmith: it gets the folder and a file of held-out ids, and writes one
probability map per held-out image (float32, 1 x 101 x 101), which `against_plain.py` scores beside ours. `--bf16` is
what a practitioner may add in a few lines: autocast to bfloat16, and channels last.

    python benchmarks/salt_plain.py FOLDER held_out.txt plain.npz --images 40000
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


class Salt(Dataset):
    def __init__(self, folder: Path, ids: list[str], train: bool):
        self.folder, self.ids, self.train = folder, ids, train

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        name = f"{self.ids[index]}.png"
        image = cv2.imread(str(self.folder / "images" / name))[:, :, ::-1]
        mask = cv2.imread(str(self.folder / "masks" / name), cv2.IMREAD_UNCHANGED) > 0
        if self.train and random.random() < 0.5:
            image, mask = image[:, ::-1], mask[:, ::-1]
        image = (image / 255.0 - MEAN) / STD
        image = np.pad(image, ((13, 14), (13, 14), (0, 0)), mode="reflect")
        mask = np.pad(mask, ((13, 14), (13, 14)), mode="reflect")
        return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)), torch.from_numpy(
            mask[None].astype(np.float32)
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 by autocast, and channels last")
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    held_out = args.held_out.read_text().split()
    with (args.folder / "train.csv").open() as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    train_ids = [i for i in ids if i not in set(held_out)]
    loader = DataLoader(Salt(args.folder / "train", train_ids, True), args.batch, shuffle=True, drop_last=True)
    epochs = max(1, args.images // (len(loader) * args.batch))

    model = smp.Unet("resnet18", encoder_weights=None)
    if args.bf16:
        model = model.to(memory_format=torch.channels_last)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=args.bf16)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=epochs * len(loader))
    bce, dice = torch.nn.BCEWithLogitsLoss(), smp.losses.DiceLoss("binary")
    start = time.time()
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for x, y in loader:
            with autocast:
                logits = model(x)
            logits = logits.float()
            loss = bce(logits, y) + dice(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs} loss {total / len(loader):.4f} {time.time() - start:.0f} s", flush=True)

    model.eval()
    probabilities = []
    with torch.no_grad(), autocast:
        for x, _ in DataLoader(Salt(args.folder / "train", held_out, False), 32):
            p = (torch.sigmoid(model(x)) + torch.sigmoid(model(x.flip(-1))).flip(-1)) / 2
            probabilities.append(p[:, 0, 13:114, 13:114].float().numpy())
    np.savez_compressed(args.out, ids=np.array(held_out), probabilities=np.concatenate(probabilities)[:, None])
    print(f"{epochs * len(loader) * args.batch} images seen in {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()

"""The opponent: the houses system re-written plainly in PyTorch: FCNN2 on half-overlapping patches of one image.

Patches of 128 x 128 every 64 pixels with zeros beyond the border, those more than half blank dropped unless they hold a
house, less their mean image; two-class softmax with weights 1 and 6, SGD momentum 0.9, 1e-4 halved every 40 epochs,
weight decay 5e-3, batch 1, He-normal weights. Levels stay 0..255, as the system had them. F1 is over the pixels of
the whole image, put together from patches side by side, after each epoch.

    python benchmarks/houses_plain.py rgb.png gt.png --epochs 45
"""

import argparse
import time

import cv2
import numpy as np
import torch
from torch import nn

SIDE, STRIDE = 128, 64


def patches(pixels, stride):
    """Windows of SIDE x SIDE, `stride` apart, zeros beyond the border."""
    height, width = pixels.shape[:2]
    rows, columns = range(0, height, stride), range(0, width, stride)
    padded = np.pad(pixels, ((0, SIDE), (0, SIDE), *[(0, 0)] * (pixels.ndim - 2)))
    return np.stack([padded[top : top + SIDE, left : left + SIDE] for top in rows for left in columns])


class FCNN2(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 16, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 16, 3, stride=2, padding=1, output_padding=1),
            nn.Conv2d(16, 2, 5, padding=2),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x):
        return self.layers(x)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("image")
    parser.add_argument("truth")
    parser.add_argument("--epochs", type=int, default=45)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--scale", type=float, default=1.0, help="what levels are divided by")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    image = cv2.imread(args.image)[:, :, ::-1]
    truth = cv2.imread(args.truth, cv2.IMREAD_GRAYSCALE) < 128  # houses are black
    x, y = patches(image, STRIDE), patches(truth, STRIDE)
    blank = patches(np.ones(truth.shape, bool), STRIDE).mean(axis=(1, 2)) < 0.5
    kept = ~blank | y.any(axis=(1, 2))
    x, y = x[kept].astype(np.float32) / args.scale, y[kept]
    mean = x.mean(axis=0)
    whole = torch.from_numpy((patches(image, SIDE) / args.scale - mean).transpose(0, 3, 1, 2).astype(np.float32))
    true = patches(truth, SIDE)
    inside = patches(np.ones(truth.shape, bool), SIDE)
    x = torch.from_numpy((x - mean).transpose(0, 3, 1, 2).copy())
    y = torch.from_numpy(y.astype(np.int64))
    model = FCNN2()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 40, 0.5)
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 6.0]))
    start, best = time.time(), 0.0
    for epoch in range(1, args.epochs + 1):
        total = 0.0
        for index in rng.permutation(len(x)):
            loss = criterion(model(x[index : index + 1]), y[index : index + 1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        with torch.no_grad():
            found = torch.cat([model(part).argmax(1) for part in whole.split(16)]).numpy() == 1
        hits, said, there = (found & true & inside).sum(), (found & inside).sum(), (true & inside).sum()
        f1 = 2 * hits / max(1, said + there)
        best = max(best, f1)
        print(
            f"epoch {epoch} loss {total / len(x):.4f} precision {hits / max(1, said):.4f} recall {hits / there:.4f} "
            f"F1 {f1:.4f} best {best:.4f} {time.time() - start:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()

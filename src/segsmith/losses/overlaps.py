"""Probabilities and truth -> losses of how far two areas overlap: Dice, Jaccard, Tversky.

All are 1 - (tp + s) / (tp + a fp + b fn + s) per class, of soft counts over the pixels of the whole batch or of each
image; then the mean over classes, by their weights, and over images, each as its heaviest pixel. `s` smooths by a
pixel or half of one.

Target and prediction both empty: 0. Target empty, P the sum of the probabilities: a P / (a P + s), so what is seen is
punished, each pixel's probability with the slope a s / (a P + s)^2, which is little once P is large. Over a batch, an
empty image is punished with the others: its P stands in their denominator. With a = 0 false positives are never
punished, by definition. Prediction empty, T the pixels of the target: b T / (b T + s), with the slope
-b (T + s) / (b T + s)^2 on them. A pixel of weight 0 is as good as absent; where none counts, loss and gradient are 0.

Soft truth is taken as it is, but the least of these losses then lies at certain predictions, not at the truth.
"""

from collections.abc import Sequence
from typing import Literal

from segsmith.losses.targets import TINY, Logits, Scalar, Truth, Weight, image_weight

Over = Literal["batch", "image"]


def dice_loss(
    probabilities: Logits,
    truth: Truth,
    weight: Weight | None = None,
    *,
    over: Over = "batch",
    class_weights: Sequence[float] | None = None,
    smooth: float = 1.0,
) -> Scalar:
    """1 - (2 tp + smooth) / (predicted + true + smooth) (Milletari et al. 2016, arXiv 1606.04797)."""
    return _loss(probabilities, truth, weight, 0.5, 0.5, over, class_weights, smooth / 2)


def jaccard_loss(
    probabilities: Logits,
    truth: Truth,
    weight: Weight | None = None,
    *,
    over: Over = "batch",
    class_weights: Sequence[float] | None = None,
    smooth: float = 1.0,
) -> Scalar:
    """1 - (tp + smooth) / (predicted + true - tp + smooth)."""
    return _loss(probabilities, truth, weight, 1.0, 1.0, over, class_weights, smooth)


def tversky_loss(
    probabilities: Logits,
    truth: Truth,
    weight: Weight | None = None,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    over: Over = "batch",
    class_weights: Sequence[float] | None = None,
    smooth: float = 1.0,
) -> Scalar:
    """1 - (tp + smooth) / (tp + alpha fp + beta fn + smooth) (Salehi et al. 2017, arXiv 1706.05721)."""
    return _loss(probabilities, truth, weight, alpha, beta, over, class_weights, smooth)


def _loss(
    probabilities: Logits,
    truth: Truth,
    weight: Weight | None,
    alpha: float,
    beta: float,
    over: Over,
    class_weights: Sequence[float] | None,
    smooth: float,
) -> Scalar:
    axes = (0, 2, 3) if over == "batch" else (2, 3)
    counted = 1.0 if weight is None else weight
    overlap = (counted * probabilities * truth).sum(axes)
    false_positive = (counted * probabilities * (1 - truth)).sum(axes)
    false_negative = (counted * (1 - probabilities) * truth).sum(axes)
    losses = 1 - (overlap + smooth) / (overlap + alpha * false_positive + beta * false_negative + smooth)
    if class_weights is None:
        losses = losses.mean(-1)
    else:
        of_class = losses.new_tensor(class_weights)
        losses = (losses * of_class).sum(-1) / of_class.sum().clamp_min(TINY)
    if over == "batch":
        return losses
    if weight is None:
        return losses.mean()
    of_image = image_weight(weight)
    return (losses * of_image).sum() / of_image.sum().clamp_min(TINY)

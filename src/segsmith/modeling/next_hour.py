"""Epochs of a training -> what another hour of it is expected to bring.

The score is taken to follow a power law of the images seen, s(n) = a - d n^-c with d >= 0, c > 0 and an asymptote a of
at most 1, as learning curves were found to (Cortes et al. 1993, "Learning curves: asymptotic values and rate of
convergence"; Hestness et al. 2017, arXiv 1712.00409; pow3 of Domhan et al. 2015, "Speeding up automatic hyperparameter
optimization of deep neural networks by extrapolation of learning curves"). Like the last of these we ask for all laws
that the epochs allow, not for the best one: the posterior over a, d, c and the noise, whose tails are those of
Student's t, so that a wild epoch counts little. It is summed over a grid: the same epochs give the same answer.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from segsmith.modeling.run import Run
from segsmith.recipe import Recipe

LEAST_EPOCHS = 8
"""Fewer say nothing of a law with three numbers."""
FARTHEST = 10.0
"""How many times as long as the training an hour may be; beyond, the law is no more than a guess."""
FIRST_LEFT_OUT = 0.1
"""Epochs within this share of the images are of the time before the law holds, and left out if enough are left."""
MOST_POINTS = 60
"""Of more epochs, the means of neighbours are fitted."""
EXPONENTS = (0.1, 4.0)
"""The least and the largest that are asked for, all alike likely on a logarithmic scale."""
EACH, ZOOMS, UNLIKELY = 13, 4, 10.0
"""Exponents of a grid; how often it is narrowed down to those whose best fit is less than e^-UNLIKELY times worse."""
FREEDOM = 4.0
"""Degrees of freedom of the noise."""
SMALLEST_NOISE = 5e-4
NOISES = np.geomspace(0.5, 8.0, 8)
"""Deviations that are asked for, relative to that of the best fit: few epochs say little of it."""
STEPS = np.sinh(np.linspace(-3.5, 3.5, 19))
"""Standard errors around the best fit, dense where it is likely, up to 17 of them."""
STEP_WIDTHS = np.cosh(np.linspace(-3.5, 3.5, 19))

Curve = Float[np.ndarray, " epochs"]
Grid = Float[np.ndarray, "now left"]


@dataclass(frozen=True)
class NextHour:
    """What the validation score is expected to gain, and its 95 % interval; or why nothing can be said."""

    metric: str
    gain: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    unsaid: str | None = None

    def __str__(self) -> str:
        if self.unsaid is not None:
            return f"what another hour would bring cannot be told: {self.unsaid}"
        interval = f"({self.low:.3f} to {self.high:.3f})"
        return f"another hour of this is expected to bring {self.metric} {self.gain:+.3f} {interval}"


def next_hour(run: Path) -> NextHour:
    """Of a run: an hour of training steps at its pace, validation not counted.

    The law is that of the epochs of all stages as they were; a schedule stretched to be an hour longer may do better
    or worse. Raises RunError if the folder holds no run.
    """
    recipe, file = Run(run).recipe(), run / "metrics.csv"
    return of_training(recipe, pd.read_csv(file) if file.is_file() else pd.DataFrame())


def of_training(recipe: Recipe, epochs: pd.DataFrame) -> NextHour:
    """From a run's recipe and the rows of its metrics.csv, none where no epoch is over."""
    metric: str = recipe.selected_by
    if recipe.folds.validation == "all":
        return NextHour(metric, unsaid="each fold was trained by itself; see the runs of the folds")
    if epochs.empty:
        return NextHour(metric, unsaid="there are no epochs yet")
    return of_epochs(metric, epochs)


def of_epochs(metric: str, epochs: pd.DataFrame) -> NextHour:
    """From the rows of metrics.csv."""
    scores, images = epochs[metric].to_numpy(float), epochs["images"].to_numpy(float)
    if len(scores) < LEAST_EPOCHS:
        told = "1 epoch is" if len(scores) == 1 else f"{len(scores)} epochs are"
        return NextHour(metric, unsaid=f"{told} too few, {LEAST_EPOCHS} are the least")
    if not np.isfinite(scores).all():
        return NextHour(metric, unsaid="some epochs have no score")
    farther = 3600 / float(epochs["seconds"].sum())
    if farther > FARTHEST:
        return NextHour(
            metric, unsaid=f"an hour is {farther:.0f} times as long as the training, {FARTHEST:g} times is the most"
        )
    seen = np.cumsum(images) / images.sum()
    low, gain, high = gains(seen, scores, 1 + farther)
    return NextHour(metric, gain, low, high)


def gains(seen: Curve, scores: Curve, until: float) -> tuple[float, float, float]:
    """The 2.5, 50 and 97.5 % quantiles of the law's gain from 1 to `until`, where `seen` ascends from above 0 to 1."""
    settled = seen > FIRST_LEFT_OUT
    if settled.sum() >= LEAST_EPOCHS:
        seen, scores = seen[settled], scores[settled]
    pieces = np.array_split(np.arange(len(seen)), min(MOST_POINTS, len(seen)))
    points, means = (np.array([of[piece].mean() for piece in pieces]) for of in (seen, scores))
    laws = _laws(points, means)
    noise = max(SMALLEST_NOISE, min(law.noise for law in laws))
    logs, found = [], []
    for law in laws:
        now, left, volume = law.around(noise)
        off = means - now[..., None] - left[..., None] * law.shape
        of_noises = noise * NOISES[:, None, None, None]
        fit = -(FREEDOM + 1) / 2 * np.log1p((off / of_noises) ** 2 / FREEDOM) - np.log(of_noises)
        allowed = (left >= 0) & (now + left <= 1)
        logs.append(np.where(allowed, fit.sum(axis=-1) + np.log(volume), -np.inf).ravel())
        found.append(np.broadcast_to(left * (1 - until**-law.exponent), (len(NOISES), *left.shape)).ravel())
    weights, each = np.concatenate(logs), np.concatenate(found)
    if not np.isfinite(weights).any():
        return 0.0, 0.0, 0.0  # it falls, and surely so
    weights = np.exp(weights - weights.max())
    order = np.argsort(each)
    share = np.cumsum(weights[order]) / weights.sum()
    low, middle, high = (float(each[order[np.searchsorted(share, quantile)]]) for quantile in (0.025, 0.5, 0.975))
    return low, middle, high


@dataclass(frozen=True)
class _Law:
    """With one exponent, the best fit of now + left (1 - n^-exponent): `now` is the score at n = 1, where training
    stands, and `left` what lies between that and the asymptote."""

    exponent: float
    shape: Float[np.ndarray, " points"]
    """1 - n^-exponent at each point."""
    best: Float[np.ndarray, " now_and_left"]
    spread: Float[np.ndarray, " now_and_left now_and_left"]
    """Times the noise, a Cholesky factor of their covariance."""
    noise: float
    """Deviation of the points."""

    def around(self, noise: float) -> tuple[Grid, Grid, Grid]:
        """A grid around the best fit: `now`, `left` and the volume of each cell."""
        first, second = np.meshgrid(STEPS, STEPS, indexing="ij")
        both = self.best[:, None, None] + noise * np.tensordot(self.spread, np.stack([first, second]), axes=1)
        # alike likely beforehand is what was gained since the first point: of what is left, small exponents would
        # be given most by far
        volume = -self.shape[0] * noise**2 * np.linalg.det(self.spread) * np.outer(STEP_WIDTHS, STEP_WIDTHS)
        return both[0], both[1], volume


def _laws(points: Curve, means: Curve) -> list[_Law]:
    """Of exponents evenly spread, logarithmically, over those that are likely at all."""
    low, high = EXPONENTS
    for zoom in range(ZOOMS):
        laws = [_law(points, means, exponent) for exponent in np.geomspace(low, high, EACH)]
        worse = len(points) * np.log([law.noise for law in laws])
        likely = np.flatnonzero(worse - worse.min() < UNLIKELY)
        first, last = max(0, likely[0] - 1), min(EACH - 1, likely[-1] + 1)
        if zoom + 1 == ZOOMS or (first, last) == (0, EACH - 1):
            break
        low, high = laws[first].exponent, laws[last].exponent
    return laws


def _law(points: Curve, means: Curve, exponent: float) -> _Law:
    """Least squares, reweighted as Student's t asks for, so that wild epochs count little."""
    shape = 1 - points**-exponent
    columns = np.stack([np.ones_like(points), shape], axis=1)
    weights = np.ones_like(points)
    for _ in range(20):
        normal = columns.T @ (weights[:, None] * columns)
        best = np.linalg.solve(normal, columns.T @ (weights * means))
        off = means - columns @ best
        noise = max(SMALLEST_NOISE, float(np.sqrt((weights * off**2).sum() / max(1, len(points) - 3))))
        weights = (FREEDOM + 1) / (FREEDOM + (off / noise) ** 2)
    return _Law(exponent, shape, best, np.linalg.cholesky(np.linalg.inv(normal)), noise)

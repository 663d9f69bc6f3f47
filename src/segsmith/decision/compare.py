"""Several evaluated runs -> which is better, how sure that is, and how far a public leaderboard may mislead.

Images are resampled, the same ones for every run: paired, since what is hard for one run is hard for the others. The
scored images are a sample of the ones to come, so each draw first gives them random weights that could as well be those
of all images (the Bayesian bootstrap, Rubin 1981), and then draws a set of unseen images by these weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Num

from segsmith.decision.evaluate import COUNTED
from segsmith.errors import RunError, listed
from segsmith.modeling.metrics import Counts, image_scores
from segsmith.modeling.run import Run
from segsmith.recipe import Metric

DRAWS = 2000
DRAWN_AT_ONCE = 100
"""Their weights of 20 000 images take 16 MB."""
Draws = Float[np.ndarray, "draws runs"]


@dataclass(frozen=True)
class Standing:
    """One run among those compared. `gain` is its score less that of the best; intervals are of 95 %."""

    run: Path
    score: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float
    beats_best: float
    """Probability that its true score is higher than that of the best."""
    beats_best_unseen: float
    """Probability that it scores higher on as many unseen images."""
    wins_public: float
    """How often it is first on the public part of unseen images."""
    wins_private: float
    public_spread: float
    """Standard deviation of its score on the public part, over sets of unseen images."""


@dataclass(frozen=True)
class Comparison:
    """Runs from the highest score down."""

    metric: Metric
    images: int
    unseen: int
    public: int
    standings: tuple[Standing, ...]
    shaken: float
    """How often the run that is first on the public part is not first on the private one."""


def compare(
    runs: Sequence[Path],
    *,
    metric: Metric | None = None,
    unseen: int | None = None,
    public: float = 0.3,
    seed: int = 0,
) -> Comparison:
    """Compare runs that `evaluate` scored on the same images.

    `metric` is by default the first run's decide.metric; mean_iou where that is f2_objects. `unseen` is how many images
    a leaderboard would hold, as many as were scored by default, of which the share `public` is shown. Every number is a
    function of `seed`. Raises RunError for fewer than two runs, one that is not evaluated, or runs scored on other
    images or other truths.
    """
    if len(runs) < 2 or len({run.resolve() for run in runs}) < len(runs):
        raise RunError(f"two different runs or more can be compared. Received: {', '.join(map(str, runs)) or 'none'}")
    metric = metric or Run(runs[0]).recipe().metric_of_pixels
    tables = [_images(run) for run in runs]
    for run, table in zip(runs[1:], tables[1:], strict=True):
        _must_be_same(runs[0], tables[0], run, table)
    places = pd.factorize(tables[0].index.get_level_values("image_id"))[0]
    counts = np.stack([table[COUNTED].to_numpy(np.int64) for table in tables])  # runs, rows, counted
    images = int(places.max()) + 1
    unseen = unseen or images
    shown = round(public * unseen)
    if not 0 < shown < unseen:
        raise RunError(
            f"public {public} of {unseen} unseen images leaves {shown} public, {unseen - shown} private ones"
        )
    draws: dict[str, list[Draws]] = {"true": [], "unseen": [], "public": [], "private": []}
    rng = np.random.default_rng([seed, 0xC0])
    for _ in range(DRAWS // DRAWN_AT_ONCE):
        weights = rng.dirichlet(np.ones(images), DRAWN_AT_ONCE)
        of_public, of_private = (rng.multinomial(count, weights) for count in (shown, unseen - shown))
        for name, often in (
            ("true", weights),
            ("unseen", of_public + of_private),
            ("public", of_public),
            ("private", of_private),
        ):
            draws[name].append(_scores(metric, counts, often[:, places]))
    true, whole, left, right = (np.concatenate(some) for some in draws.values())
    scored = _scores(metric, counts, np.ones((1, len(places))))[0]
    best = int(scored.argmax())
    first_public, first_private = left.argmax(axis=1), right.argmax(axis=1)
    standings = []
    for number in np.argsort(-scored, kind="stable").tolist():
        gain = true[:, number] - true[:, best]
        (low, high), (gain_low, gain_high) = (np.percentile(of, [2.5, 97.5]) for of in (true[:, number], gain))
        standings.append(
            Standing(
                run=runs[number],
                score=float(scored[number]),
                low=float(low),
                high=float(high),
                gain=float(scored[number] - scored[best]),
                gain_low=float(gain_low),
                gain_high=float(gain_high),
                beats_best=_higher(true[:, number], true[:, best]),
                beats_best_unseen=_higher(whole[:, number], whole[:, best]),
                wins_public=float((first_public == number).mean()),
                wins_private=float((first_private == number).mean()),
                public_spread=float(left[:, number].std()),
            )
        )
    shaken = float((first_public != first_private).mean())
    return Comparison(metric, images, unseen, shown, tuple(standings), shaken)


def _images(run: Path) -> pd.DataFrame:
    """The rows of images.csv by image and class, in one order for all runs."""
    file = Run(run).folder / "images.csv"
    if not file.exists():
        raise RunError(f"{run}: not evaluated yet; first: segsmith evaluate {run}")
    table = pd.read_csv(file, dtype={"image_id": str, "class": str}, keep_default_na=False)
    return table.set_index(["image_id", "class"]).sort_index()


def _must_be_same(first: Path, table: pd.DataFrame, other: Path, against: pd.DataFrame) -> None:
    """The runs must have been scored on the same images, whose truth is the same."""
    differing = table.index.symmetric_difference(against.index)
    if len(differing):
        names = sorted({image_id for image_id, _ in differing})
        raise RunError(
            f"{first} and {other} were not scored on the same images and classes; {len(names)} differ:\n"
            f"{listed(names)}\ntrain both with the same dataset and folds, and evaluate both on the same fold"
        )
    truths = (table[COUNTED[2:]] != against[COUNTED[2:]]).any(axis=1)
    if truths.any():
        names = sorted(table.index[truths].get_level_values("image_id"))
        raise RunError(f"{first} and {other} have other truths for {len(names)} images:\n{listed(names)}")


def _scores(metric: Metric, counts: Int[np.ndarray, "runs rows 4"], weights: Num[np.ndarray, "draws rows"]) -> Draws:
    """The metric of each run over rows that count as often as their weights say, draw by draw."""
    if metric.startswith("global_"):
        return image_scores(metric, Counts(*np.moveaxis(np.einsum("dn,rnc->drc", weights, counts), 2, 0)))
    of_rows = image_scores(metric, Counts(*np.moveaxis(counts, 2, 0)))
    return np.asarray(weights @ of_rows.T / weights.sum(axis=1, keepdims=True))


def _higher(scores: Float[np.ndarray, " draws"], others: Float[np.ndarray, " draws"]) -> float:
    """How often a score is the higher one; a tie counts half."""
    return float((scores > others).mean() + 0.5 * (scores == others).mean())

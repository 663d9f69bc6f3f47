"""Scores of the epochs so far -> which epochs' weights are kept as files, and which go."""

from collections.abc import Sequence

from segsmith.modeling.logbook import Row
from segsmith.modeling.run import Run
from segsmith.recipe import Metric

Epoch = tuple[int, int]
"""Stage and epoch, both from 1."""


def best_epochs(rows: Sequence[Row], metric: Metric, count: int) -> list[Epoch]:
    """The `count` epochs with the highest scores, best first; of equal ones the earlier."""
    ranked = sorted(rows, key=lambda row: -float(row[metric]))
    return [(int(row["stage"]), int(row["epoch"])) for row in ranked[:count]]


def epochs_to_keep(rows: Sequence[Row], metric: Metric, count: int, others: Sequence[Metric]) -> set[Epoch]:
    """The `count` best epochs by the metric that selects, and the best one by each of the others."""
    return {*best_epochs(rows, metric, count), *(epoch for other in others for epoch in best_epochs(rows, other, 1))}


def drop_others(run: Run, kept: set[Epoch]) -> None:
    """Remove the weights of epochs that are no longer among the best."""
    wanted = {run.best_weights(stage, epoch) for stage, epoch in kept}
    for file in run.best_weights(1, 1).parent.glob("*.pt"):
        if file not in wanted:
            file.unlink()


def epochs_without_better(scores: Sequence[float]) -> int:
    """How many epochs passed since the best score; since the earliest of equal ones."""
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0

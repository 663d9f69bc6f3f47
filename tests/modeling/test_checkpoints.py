"""Scores of the epochs so far -> which epochs' weights are kept, and which files go."""

from segsmith.modeling.checkpoints import best_epochs, drop_others, epochs_to_keep, epochs_without_better
from segsmith.modeling.logbook import Row
from segsmith.modeling.run import Run, save_state

DICE = [0.2, 0.5, 0.5, 0.4]
IOU = [0.1, 0.2, 0.3, 0.4]
ROWS: list[Row] = [
    {"stage": 1 + number // 2, "epoch": 1 + number % 2, "mean_dice": dice, "mean_iou": iou}
    for number, (dice, iou) in enumerate(zip(DICE, IOU, strict=True))
]


def test_the_best_come_first_and_of_equal_ones_the_earlier():
    assert best_epochs(ROWS, "mean_dice", 3) == [(1, 2), (2, 1), (2, 2)]
    assert best_epochs(ROWS[:1], "mean_dice", 3) == [(1, 1)]


def test_the_best_by_other_scores_are_kept_beside():
    assert epochs_to_keep(ROWS, "mean_dice", 2, ()) == {(1, 2), (2, 1)}
    assert epochs_to_keep(ROWS, "mean_dice", 2, ("mean_iou",)) == {(1, 2), (2, 1), (2, 2)}


def test_what_is_no_longer_among_the_best_goes_and_nothing_else(tmp_path):
    run = Run(tmp_path)
    stay = [run.best_weights(1, 2), run.snapshot(1, 1), run.averaged(1), run.kept_for_good(1, 1), run.last]
    for file in [*stay, run.best_weights(1, 1), run.best_weights(2, 1)]:
        save_state(file, {})
    drop_others(run, {(1, 2)})
    assert set(tmp_path.rglob("*.pt")) == set(stay)


def test_patience_counts_from_the_earliest_of_the_best():
    assert [epochs_without_better(DICE[:count]) for count in range(5)] == [0, 0, 0, 1, 2]

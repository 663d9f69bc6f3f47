"""What several commands print: lines, tables of scores, a training as it goes on."""

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from segsmith.decision.evaluate import Evaluation, Score
    from segsmith.modeling.training import Step

RANK = int(os.environ.get("RANK", "0"))
"""Which of several processes that train together this is, as torchrun numbers them; the first one talks."""
out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False, quiet=RANK > 0)  # names of files are no code


def warn(line: str) -> None:
    """Print a line that nobody should miss."""
    out.print(line, style="bold red")


class TrainingLine:
    """Shows training: one live line on a terminal, one printed line per epoch everywhere."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.shown = 0.0
        self.stage = ("", -1)

    def __call__(self, step: "Step") -> None:
        if (step.fold, step.stage) != self.stage:
            begins = self.stage[1] < 0 or step.fold != self.stage[0]
            if step.fold != self.stage[0]:
                self._print(step.fold)
            for warning in step.warnings if begins else ():
                self._print(warning)
            self.stage = (step.fold, step.stage)
            plan = step.plan
            shares = ", ".join(f"{share:.0%} {name}" for name, share in zip(plan.names, plan.shares, strict=True))
            self._print(
                f"stage {step.stage + 1}: {plan.images:,} images an epoch in batches of {plan.batch_size} ({shares})"
            )
            if plan.left_out:
                self._print(f"  {plan.left_out:,} training images fit no stratum of the mix and are not drawn")
            for name, times in plan.repeats.items():
                self._print(f"  {name} images must repeat: each is drawn {times:.2f} times an epoch")
        if step.epoch_is_over and step.last_epoch is not None:
            row = step.last_epoch
            metric = list(row)[6]
            self._print(
                f"stage {row['stage']} epoch {row['epoch']:>3}  loss {row['loss']:.4f}  "
                f"validation {row['validation_loss']:.4f}  "
                f"{metric} {row[metric]:.4f} at {row['threshold']:.2f}  {row['images_per_second']:.1f} images/s"
            )
        elif self.live and time.monotonic() - self.shown > 0.2:
            self.shown = time.monotonic()
            left = (step.images_in_all - step.images_seen) / max(step.images_per_second, 1e-9)
            score = ""
            if step.last_epoch is not None:
                metric = list(step.last_epoch)[6]
                score = f"  {metric} {step.last_epoch[metric]:.4f}"
            done = step.images_seen / step.images_in_all
            told = (
                f"{done:4.0%}  {int(left // 60)}:{int(left % 60):02d} left  loss {step.loss:.4f}{score}  "
                f"{step.images_per_second:.1f} images/s  epoch {step.epoch + 1} step {step.step}/{step.plan.batches}"
            )
            width = _columns()
            line = f"{_bar(done, cells=min(20, max(5, width - len(told) - 1)))} {told}"
            sys.stdout.write(f"\r{line[:width]:<{width}}")
            sys.stdout.flush()

    def _print(self, line: str) -> None:
        if self.live:
            sys.stdout.write(f"\r{' ' * _columns()}\r")
        print(line, flush=True)


def _columns() -> int:
    """Characters a line of the terminal takes without wrapping; some terminals say they have none at all."""
    return shutil.get_terminal_size().columns - 1


def say(line: str) -> None:
    print(line, flush=True)


def _bar(share: float, cells: int) -> str:
    full = int(cells * share)
    return "█" * full + "░" * (cells - full)


def print_scores(evaluation: "Evaluation") -> None:
    how = "cross-fitted decision" if evaluation.cross_fitted else "decision tuned on other images"
    if evaluation.tuned_on_these:
        how = "decision tuned on these very images: the score is too good"
    which = "learnt by heart" if evaluation.by_heart else f"of the {evaluation.part.replace('_', '-')} fold"
    out.print(score_table(f"{evaluation.count:,} images {which}, {how}", evaluation.scores))
    worst = evaluation.images.head(3)
    out.print("worst: " + ", ".join(f"{row.image_id} (Dice {row.dice:.3f})" for row in worst.itertuples()))


def score_table(title: str, scores: "Sequence[Score]") -> "Table":
    from rich.table import Table

    table = Table(title=title)
    for heading in ("metric", "score", "95 % interval", "all empty"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for found in scores:
        table.add_row(
            found.name, f"{found.value:.4f}", f"{found.low:.4f} to {found.high:.4f}", f"{found.all_empty:.4f}"
        )
    return table

"""Rows of epochs -> metrics.csv, losses of steps -> losses.csv, and the same for TensorBoard."""

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

from segsmith.files import write_error, write_text

Row = dict[str, float | int | str]
"""One epoch: what stands in one row of metrics.csv."""


class Logbook:
    """The epochs of a run, written anew when it is continued: the kill may have come before they were written."""

    def __init__(self, folder: Path, also: Callable[[Sequence[Row]], None] | None = None):
        """`also` is told all epochs so far whenever there is another."""
        self.folder, self.also = folder, also
        # TensorBoard reads on where it stopped, so its file grows; what older files say of the same epochs is hidden
        self.events = folder / "tensorboard" / f"events.out.tfevents.{time.time_ns()}"

    def write(self, rows: Sequence[Row], losses: Sequence[Sequence[float]], new: int) -> None:
        """Write all epochs so far, the last `new` of which have not been written: their rows, and the losses of their
        steps. Those of an epoch without a row wait for it. Raises WriteError."""
        if new:
            steps: list[Row] = [
                {"stage": row["stage"], "epoch": row["epoch"], "step": step, "loss": loss}
                for row, of_epoch in zip(rows, losses, strict=False)
                for step, loss in enumerate(of_epoch, start=1)
            ]
            write_rows(self.folder / "metrics.csv", rows)
            write_rows(self.folder / "losses.csv", steps)
            self._tell_tensorboard(rows, losses, first=len(rows) - new)
        if self.also is not None:
            self.also(rows)

    def _tell_tensorboard(self, rows: Sequence[Row], losses: Sequence[Sequence[float]], first: int) -> None:
        """Append the epochs from `first`, counted from 0: their rows by epoch, the losses by step, both from 1.

        Not by its own writer, which works in a thread and tells of a full disk by that thread's traceback.
        """
        events = []
        if not self.events.exists():
            events.append(Event(file_version="brain.Event:2"))
            events.append(Event(step=1, session_log=SessionLog(status=SessionLog.START)))
        step = 1 + sum(len(of_epoch) for of_epoch in losses[:first])
        for number in range(first, len(rows)):
            for loss in losses[number]:
                events.append(_event(step, {"step_loss": loss}))
                step += 1
            row = rows[number].items()
            events.append(_event(number + 1, {n: float(value) for n, value in row if n not in ("stage", "epoch")}))
        records = io.BytesIO()
        for event in events:
            event.wall_time = time.time()
            RecordWriter(records).write(event.SerializeToString())
        try:
            self.events.parent.mkdir(exist_ok=True)
            with self.events.open("ab") as file:
                file.write(records.getvalue())
        except OSError as error:
            raise write_error(error, self.events) from error


def _event(step: int, values: Mapping[str, float]) -> Event:
    return Event(step=step, summary=Summary(value=[Summary.Value(tag=n, simple_value=v) for n, v in values.items()]))


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows of the same columns as CSV, whole or not at all. Raises WriteError."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())

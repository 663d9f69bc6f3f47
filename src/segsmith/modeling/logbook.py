"""Rows of epochs -> metrics.csv, and the same for TensorBoard."""

import csv
import io
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

from segsmith.files import write_error, write_text

Row = dict[str, float | int | str]
"""One epoch: what stands in one row of metrics.csv."""


class Logbook:
    """The epochs of a run, written anew when it is continued: the kill may have come before they were written."""

    def __init__(self, folder: Path):
        self.folder = folder
        # TensorBoard reads on where it stopped, so its file grows; what older files say of the same epochs is hidden
        self.events = folder / "tensorboard" / f"events.out.tfevents.{time.time_ns()}"

    def write(self, rows: list[Row], new: int) -> None:
        """Write all rows so far, the last `new` of which have not been written. Raises WriteError."""
        if new:
            write_rows(self.folder / "metrics.csv", rows)
            self._tell_tensorboard(1 + len(rows) - new, rows[-new:])

    def _tell_tensorboard(self, first: int, rows: list[Row]) -> None:
        """Append the rows of epoch `first` and those after it.

        Not by its own writer, which works in a thread and tells of a full disk by that thread's traceback.
        """
        events = []
        if not self.events.exists():
            events.append(Event(file_version="brain.Event:2"))
            events.append(Event(step=1, session_log=SessionLog(status=SessionLog.START)))
        for epoch, row in enumerate(rows, start=first):
            named = {name: float(value) for name, value in row.items() if name not in ("stage", "epoch")}
            values = [Summary.Value(tag=name, simple_value=value) for name, value in named.items()]
            events.append(Event(step=epoch, summary=Summary(value=values)))
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


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write rows of the same columns as CSV, whole or not at all. Raises WriteError."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())

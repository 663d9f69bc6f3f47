"""What can go wrong, as a person using segsmith sees it.

    SegsmithError            caught by the command line: one message, exit code 2, no traceback
    |-- RecipeError          a key, type or value of a recipe or an override
    |-- DataError            raw files and labels: missing, broken, contradictory
    |   |-- RunLengthError   run lengths that are no mask; carries no file, its caller adds file and row
    |   `-- StaleError       a correction of a label that was corrected since it was looked at
    |-- ModelError           network, encoder weights, bundle
    |   `-- ResolutionError  metres a pixel unknown, or far from those trained on; its caller adds how to scale
    |-- RunError             a run folder that does not fit the command
    `-- WriteError           a file could not be written; what stood there before still stands

Every message says what is wrong, the value, the file and row, and what to do.
"""

from collections.abc import Sequence
from pathlib import Path


class SegsmithError(Exception):
    """Base of every error that is the input's fault, not the program's."""


class RecipeError(SegsmithError):
    """A recipe or an override names a wrong key, type or value."""


class DataError(SegsmithError):
    """Raw files or labels are missing, broken or contradict each other."""


class RunLengthError(DataError):
    """A text is not a list of run lengths, or does not fit its image."""


class StaleError(DataError):
    """A label was corrected by someone else since it was looked at."""


class ModelError(SegsmithError):
    """A network, its weights or a bundle cannot be used."""


class ResolutionError(ModelError):
    """An image's metres a pixel are unknown, or far from those that were trained on.

    The message ends by asking for an enlargement; the command and the service, each of which has its own way to say
    one, add which."""


class RunError(SegsmithError):
    """A run folder holds something other than the command expects."""


class WriteError(SegsmithError):
    """A file could not be written; nothing half-written was left behind."""


def unreadable(path: Path, kind: str, error: Exception) -> str:
    """What is wrong with a file that was to be read as `kind`, such as 'a bundle'."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such file"
    if isinstance(error, IsADirectoryError):
        return f"{path}: is a folder, not {kind}"
    reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
    return f"{path}: does not read as {kind} ({reason or type(error).__name__})"


def listed(problems: Sequence[str], shown: int = 10) -> str:
    """The first `shown` problems, one a line, and how many more there are."""
    lines = [f"  - {problem}" for problem in problems[:shown]]
    if len(problems) > shown:
        lines.append(f"  - and {len(problems) - shown} more")
    return "\n".join(lines)

"""A private folder for what must lie in files for a moment; what a killed service left of its own is removed."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from segsmith.errors import SegsmithError
from segsmith.files import held

PREFIX = "segsmith-serve-"
_ours: set[Path] = set()
"""Those of this process, whom its own locks do not keep out."""


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder below the system's for temporary files, readable by this user alone, removed when the block ends."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if left not in _ours and not left.is_symlink():
            with suppress(SegsmithError, OSError), held(left, "place for uploads"):  # its owner holds it while it lives
                shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    _ours.add(folder)
    try:
        with held(folder, "place for uploads"):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _ours.discard(folder)

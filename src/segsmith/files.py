"""Bytes -> files that are whole or not there: written beside their place, then moved onto it."""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from segsmith.errors import RunError, WriteError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, moved onto `path` when the block ends well; otherwise removed, and `path` is as it was.

    The move is atomic and on disk before it returns. Raises WriteError for a full disk, a missing right, a read-only
    disk.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise write_error(error, path) from error
    finally:
        with suppress(
            OSError
        ):  # where nothing can be written nothing can be removed: the first error is the one to tell
            partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A new folder to fill, put in the place of `folder` when the block ends well; otherwise removed. Raises
    WriteError."""
    if folder.exists() and not folder.is_dir():
        raise WriteError(f"{folder}: is a file, where a folder is to stand; choose another place")
    folder = folder.resolve()
    if folder == Path.cwd():
        raise WriteError(f"{folder}: is the folder you stand in, and would be replaced; name a new one")
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        put_in_place(partial, folder)
    except OSError as error:
        raise write_error(error, folder) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def put_in_place(new: Path, folder: Path) -> None:
    """Move a folder that is whole to where `folder` is to stand, and remove what stood there. Raises OSError."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    new.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def held(folder: Path, what: str, *, wait: bool = False, lock: str = ".lock") -> Iterator[None]:
    """Hold a folder, made if it is not there, against other processes that hold it by the same `lock`. Raises RunError
    when another one holds it, or waits for it; WriteError when it cannot be made; `what` says what it is to be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / lock).open("w")
    except OSError as error:
        raise WriteError(f"{folder}: cannot be used as a {what}: {error.strerror}") from error
    with file:
        try:  # lockf, not flock: loader workers that outlive a killed process must not go on holding its lock
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except (BlockingIOError, PermissionError):
            raise RunError(
                f"{folder}: another process is at work here; wait for it, or choose another folder"
            ) from None
        yield


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises WriteError."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a UTF-8 file whole or not at all. Raises WriteError."""
    write_bytes(path, content.encode())


def digest(file: Path) -> str:
    """What tells the content of a file from any other. Raises OSError."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def write_error(error: OSError, path: Path) -> WriteError:
    """What went wrong at a path, and what to do about it."""
    advice = {
        errno.ENOSPC: "the disk is full; make room and run the same command again",
        errno.EDQUOT: "the disk quota is used up; make room and run the same command again",
        errno.EFBIG: "the file would be larger than allowed; raise the limit and run the same command again",
        errno.EACCES: "no right to write there; choose another place",
        errno.EROFS: "that disk is read-only; choose another place",
    }
    reason = advice.get(error.errno or 0, error.strerror or str(error))
    return WriteError(f"{path}: cannot be written: {reason}")

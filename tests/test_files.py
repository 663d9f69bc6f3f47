"""Files are whole or not there: what stood in a place before stands until what replaces it is complete."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from segsmith.errors import WriteError
from segsmith.files import replacing, replacing_folder, write_bytes, write_text

NOBODY = 65534


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class StoppedError(Exception):
    """What goes wrong inside a block and is no affair of the file."""


def test_a_file_stands_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "a.bin"
    with replacing(path) as partial:
        partial.write_bytes(b"new")
        assert not path.exists()
        assert partial.parent == path.parent, "on one disk, or the move is not atomic"
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["a.bin"]


def test_write_text_is_utf8(tmp_path):
    write_text(tmp_path / "a.txt", "é\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\n"


@pytest.mark.parametrize("error", [StoppedError, KeyboardInterrupt])
def test_a_file_stays_when_the_block_raises(tmp_path, error):
    write_bytes(tmp_path / "a.bin", b"old")

    def interrupted() -> None:
        with replacing(tmp_path / "a.bin") as partial:
            partial.write_bytes(b"half of")
            raise error

    with pytest.raises(error):
        interrupted()
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    write_bytes(tmp_path / "a.bin", b"old")
    with pytest.raises(WriteError, match=r"a\.bin: cannot be written"), replacing(tmp_path / "a.bin"):
        pass
    assert (tmp_path / "a.bin").read_bytes() == b"old"


def test_a_place_that_can_hold_no_file_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"a\.bin: cannot be written"):
        write_bytes(tmp_path / "file" / "a.bin", b"new")
    with pytest.raises(WriteError, match="File name too long"):
        write_bytes(tmp_path / ("a" * 255), b"new")
    with pytest.raises(WriteError, match="Is a directory"):
        write_bytes(tmp_path, b"new")


def test_a_folder_stands_when_the_block_ends(tmp_path):
    folder = tmp_path / "new" / "index"
    with replacing_folder(folder) as partial:
        (partial / "a").write_text("1")
        assert not folder.exists()
    with replacing_folder(folder) as partial:
        (partial / "b").write_text("2")
        assert names(folder) == ["a"], "the old one stands until the new one is whole"
    assert names(folder) == ["b"]
    assert names(folder.parent) == ["index"]


@pytest.mark.parametrize("error", [StoppedError, KeyboardInterrupt])
def test_a_folder_stays_when_the_block_raises(tmp_path, error):
    folder = tmp_path / "index"
    with replacing_folder(folder) as partial:
        (partial / "a").write_text("1")

    def interrupted() -> None:
        with replacing_folder(folder) as partial:
            (partial / "b").write_text("2")
            raise error

    with pytest.raises(error):
        interrupted()
    assert names(folder) == ["a"]
    assert names(tmp_path) == ["index"]


def test_what_a_killed_process_left_of_a_folder_is_cleared(tmp_path):
    for left_over in (".index.partial", ".index.old"):
        (tmp_path / left_over).mkdir()
        (tmp_path / left_over / "stale").write_text("")
    with replacing_folder(tmp_path / "index") as partial:
        assert names(partial) == []
        (partial / "a").write_text("1")
    assert names(tmp_path) == ["index"]
    assert names(tmp_path / "index") == ["a"]


def test_what_a_killed_process_left_of_a_file_is_overwritten(tmp_path):
    (tmp_path / ".a.bin.partial").write_bytes(b"a long piece of something else")
    write_bytes(tmp_path / "a.bin", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "notes").write_text("mine")
    with (
        pytest.raises(WriteError, match=r"notes: is a file, where a folder is to stand"),
        replacing_folder(tmp_path / "notes"),
    ):
        pass
    assert (tmp_path / "notes").read_text() == "mine"
    assert names(tmp_path) == ["notes"]


def test_the_folder_one_stands_in_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "mine").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WriteError, match="is the folder you stand in"), replacing_folder(Path()):
        pass
    assert names(tmp_path) == ["mine"]


# Disks that are full, and folders that may not be written


WRITE = """
import sys
from pathlib import Path
from segsmith.errors import WriteError
from segsmith.files import replacing_folder, write_bytes

here = Path(sys.argv[1])
try:
    write_bytes(here / "a.bin", bytes(100_000))
except WriteError as error:
    print(error)
try:
    with replacing_folder(here / "index") as partial:
        (partial / "a").write_bytes(bytes(100_000))
except WriteError as error:
    print(error)
print(sorted(path.name for path in here.iterdir()), (here / "a.bin").read_text(), (here / "index" / "a").read_text())
"""
"""Tries to replace a file and a folder in the place given; prints what it was told and what stands there then."""


def old_files(here: Path) -> None:
    (here / "index").mkdir()
    (here / "index" / "a").write_text("old")
    (here / "a.bin").write_text("old")


def told(*command: str | Path) -> list[str]:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


UNCHANGED = "['a.bin', 'index'] old old"


def test_a_file_larger_than_allowed(tmp_path):
    old_files(tmp_path)
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
    reason = "cannot be written: the file would be larger than allowed; raise the limit and run the same command again"
    assert told(sys.executable, "-c", limited + WRITE, tmp_path) == [
        f"{tmp_path}/a.bin: {reason}", f"{tmp_path}/index: {reason}", UNCHANGED,
    ]  # fmt: skip


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB, where the machine lets a test have one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a small disk needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk(small_disk):
    old_files(small_disk)
    reason = "cannot be written: the disk is full; make room and run the same command again"
    for write in (lambda: write_bytes(small_disk / "a.bin", bytes(100_000)), lambda: fill_folder(small_disk / "index")):
        with pytest.raises(WriteError, match=reason):
            write()
        assert names(small_disk) == ["a.bin", "index"]
        assert (small_disk / "a.bin").read_text() == "old"
        assert (small_disk / "index" / "a").read_text() == "old"
    write_bytes(small_disk / "a.bin", bytes(40_000))  # room for it, now that nothing half-written is left


def fill_folder(folder: Path) -> None:
    with replacing_folder(folder) as partial:
        (partial / "a").write_bytes(bytes(100_000))


def test_a_disk_that_is_read_only(small_disk):
    old_files(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(WriteError, match=r"a\.bin: cannot be written: that disk is read-only; choose another place"):
        write_bytes(small_disk / "a.bin", b"new")
    with pytest.raises(WriteError, match="index: cannot be written: that disk is read-only"):
        fill_folder(small_disk / "index")


def test_a_folder_without_the_right_to_write():
    with tempfile.TemporaryDirectory() as folder:  # tmp_path lies where another user does not come in
        here = Path(folder)
        old_files(here)
        here.chmod(0o555)
        try:
            os.seteuid(NOBODY if os.geteuid() == 0 else os.geteuid())
            with pytest.raises(WriteError, match=r"a\.bin: cannot be written: no right to write there; choose another"):
                write_bytes(here / "a.bin", b"new")
            with pytest.raises(WriteError, match="index: cannot be written: no right to write there"):
                fill_folder(here / "index")
            with pytest.raises(WriteError, match="new: cannot be written: no right to write there"):
                fill_folder(here / "new")
        finally:
            os.seteuid(os.getuid())
            here.chmod(0o755)
        assert names(here) == ["a.bin", "index"]
        assert (here / "a.bin").read_text() == "old"

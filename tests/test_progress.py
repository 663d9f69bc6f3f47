"""What a long loop says where nobody watches: nothing if it is short, else a line now and then."""

import time
from collections.abc import Iterator

from segsmith import progress
from segsmith.progress import track


def slowly(count: int) -> Iterator[int]:
    for number in range(count):
        time.sleep(0.02)
        yield number


def test_a_short_loop_says_nothing_and_a_long_one_how_far_it_is(capsys, monkeypatch):
    assert list(track(slowly(5), "chips", 5)) == list(range(5))
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress, "QUIET_S", 0.1)
    assert list(track(slowly(20), "chips", 20)) == list(range(20))
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("chips: ")
    assert " of 20, about 0 s to go" in line
    assert said.out == ""


def test_what_lasts_longer_is_told_again(capsys, monkeypatch):
    monkeypatch.setattr(progress, "QUIET_S", 0.1)
    monkeypatch.setattr(progress, "BETWEEN_S", 0.1)
    list(track(slowly(20), "chips", 20))
    counts = [int(line.split()[1]) for line in capsys.readouterr().err.splitlines()]
    assert 2 <= len(counts) <= 4
    assert counts == sorted(counts)

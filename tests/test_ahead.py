"""Reading ahead and writing behind: in order, bounded, and honest about what goes wrong."""

import threading

import pytest

from segsmith.ahead import ahead, behind


def test_items_come_in_order_from_another_thread_and_not_too_far_ahead():
    made, threads = [], set()

    def items():
        for number in range(20):
            made.append(number)
            threads.add(threading.current_thread())
            yield number

    found = []
    for item in ahead(items(), depth=3):
        found.append(item)
        assert len(made) <= item + 1 + 3
    assert found == list(range(20))
    assert threading.current_thread() not in threads


def test_what_items_raise_comes_after_those_before():
    def items():
        yield 1
        raise ValueError("no more")

    stream = ahead(items())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="no more"):
        next(stream)


def test_whoever_stops_listening_stops_the_reading():
    made = []

    def items():
        for number in range(1000):
            made.append(number)
            yield number

    stream = ahead(items())
    next(stream)
    stream.close()
    assert len(made) <= 4


def test_work_is_done_behind_in_order_and_all_of_it():
    done, go = [], threading.Event()

    def work(number: int) -> None:
        go.wait()
        done.append(number)

    with behind(work, depth=2) as give:
        give(0)
        give(1)
        assert done == []
        go.set()
        for number in range(2, 10):
            give(number)
    assert done == list(range(10))


def test_work_that_fails_is_told():
    def work(number: int) -> None:
        if number == 3:
            raise OSError("disk full")

    def many() -> None:
        with behind(work) as give:
            for number in range(100):
                give(number)

    def one() -> None:
        with behind(work) as give:
            give(3)

    for working in (many, one):
        with pytest.raises(OSError, match="disk full"):
            working()

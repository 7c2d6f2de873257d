"""The room where members meet, tried by threads: what is said reaches all, whoever is late, asleep or gone."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from funcnn.team.meeting import CAPACITY, MeetingRoom, Stopped, size_of_room


class Bell(threading.Semaphore):
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        return super().acquire(block, timeout)


def rooms(size: int, look: Callable[[], None] = lambda: None) -> list[MeetingRoom]:
    """A room as each of its members sees it, all in this process."""
    memory = bytearray(size_of_room(size))
    bells = [Bell(0) for _ in range(size)]
    return [MeetingRoom(memory, rank, bells, look) for rank in range(size)]


def at_once(*tasks: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(tasks)) as pool:
        return [each.result(timeout=30) for each in [pool.submit(task) for task in tasks]]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_all_know_what_all_have_said(size: int) -> None:
    def member(room: MeetingRoom) -> list[Any]:
        heard = []
        for i in range(50):
            if i % 10 == room.rank:
                time.sleep(0.005)  # long enough for the others to fall asleep
            heard.append(room.gather((room.rank, i, np.full(room.rank + 1, i))))
        return heard

    for heard in at_once(*[lambda room=room: member(room) for room in rooms(size)]):
        for i, said in enumerate(heard):
            assert [(rank, number, array.tolist()) for rank, number, array in said] == [
                (rank, i, [i] * (rank + 1)) for rank in range(size)
            ]


def test_who_waits_sleeps() -> None:
    first, second = rooms(2)

    def late() -> list[Any]:
        time.sleep(0.5)
        return second.gather("late")

    before = time.process_time()
    assert at_once(lambda: first.gather("early"), late) == [["early", "late"]] * 2
    assert time.process_time() - before < 0.25


def test_a_failure_reaches_all_who_wait() -> None:
    first, second, third = rooms(3)

    def waits(room: MeetingRoom) -> Any:
        with pytest.raises(Stopped) as stopped:
            room.gather(None)
        return room.failure(stopped.value.by)

    def fails() -> None:
        time.sleep(0.02)
        third.stop(failed=ValueError("wrong"))
        third.stop()  # somebody was first

    errors = at_once(lambda: waits(first), lambda: waits(second), fails)[:2]
    assert [(type(error), str(error)) for error in errors] == [(ValueError, "wrong")] * 2


def test_who_waits_for_the_dead_is_told() -> None:
    class Dead(Exception):
        pass

    def look() -> None:
        raise Dead

    start = time.monotonic()
    with pytest.raises(Dead):
        rooms(2, look)[0].gather(None)
    assert time.monotonic() - start < 2


def test_what_is_said_is_bounded() -> None:
    (room,) = rooms(1)
    assert len(room.gather(b" " * (CAPACITY - 100))[0]) == CAPACITY - 100
    with pytest.raises(
        ValueError, match=r"^a meeting of processes: 1,0[\d,]+ bytes were to be said, at most 1,048,568"
    ):
        room.gather(b" " * CAPACITY)

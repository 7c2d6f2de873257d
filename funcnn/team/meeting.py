"""Where the members of a team meet: each says something, waits for the others, and knows what all have said.

What is said lies in memory that all see, and so does a counter for each member of the meetings that it has come to. Who
waits looks at the counters for a moment, as the others are often about to come, and then sleeps until it is woken: a
member that polled would take the core that another needs.
"""

import os
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

__all__ = ["CAPACITY", "MeetingRoom", "Stopped", "size_of_room"]

CAPACITY = 2**20  # bytes that a member may say at a meeting
_LINE = 64  # bytes: counters of different members in one line of the cache would slow each other down
_SPIN = 300e-6  # seconds of looking before sleeping: more than the first member works between two steps of a small net
_SLEEP = (1e-3, 0.1)  # seconds, first and longest, after which a sleeper looks again, woken or not
_yield = getattr(os, "sched_yield", lambda: time.sleep(0))


class Bell(Protocol):
    """A semaphore that processes share."""

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...

    def release(self) -> None: ...


class Stopped(Exception):
    """The team was stopped, by the member of a number (from 0) that failed, or in good order (-1)."""

    def __init__(self, by: int) -> None:
        super().__init__(by)
        self.by = by


def size_of_room(members: int) -> int:
    """The bytes of memory that a room takes: a line for all, two lines and three mailboxes for each member."""
    return _LINE * (1 + 2 * members) + 3 * CAPACITY * members


class MeetingRoom:
    """The room as one of its members sees it: `gather` is the meeting.

    `bells` wake the members, and `look` is called now and then by one who waits: it raises if the others are dead.
    """

    def __init__(self, memory: Any, rank: int, bells: Sequence[Bell], look: Callable[[], None]) -> None:
        self.rank, self.size = rank, len(bells)
        self.look = look
        self._bells = bells
        self._others = [other for other in range(self.size) if other != rank]
        self._count = 0
        counters = _LINE * (1 + 2 * self.size)
        self._words = memoryview(memory)[:counters].cast("q")
        self._mail = memoryview(memory)[counters:]
        # Locking orders what this member writes before its counter, and what it reads after another's; processors
        # that reorder stores (ARM) need that, and it costs nothing.
        self._order = threading.Lock()

    # The words: whether it is stopped, then for each member the meetings that it has come to, and whether it sleeps.
    _STOPPED = 0

    def _come(self, rank: int) -> int:
        return (1 + 2 * rank) * _LINE // 8

    def _asleep(self, rank: int) -> int:
        return (2 + 2 * rank) * _LINE // 8

    def gather(self, words: Any) -> list[Any]:
        """Say something; what all members have said, in the order of their ranks.

        Raises Stopped if the team is, ValueError for what is too much to say.
        """
        self._count += 1
        # Two mailboxes in turn: when a member writes to one again, all have read it, since they came to the meeting
        # between.
        self._write(self._count % 2, words)
        self._announce(self._come(self.rank), self._count)
        said = []
        for member in range(self.size):
            if member == self.rank:
                said.append(words)
                continue
            self._wait_for(member)
            said.append(self._read(member, self._count % 2))
        return said

    def stop(self, *, failed: BaseException | None = None) -> None:
        """Let nobody wait any longer: in good order, or for the failure of this member, which the others can read."""
        if self._words[self._STOPPED]:
            return  # somebody was first
        if failed is not None:
            self._write(2, failed)
        self._announce(self._STOPPED, -1 if failed is None else self.rank + 1)

    def leave(self) -> None:
        """Look after nobody any more."""
        self.look = lambda: None

    def failure(self, rank: int) -> BaseException:
        """Why a member failed."""
        return self._read(rank, 2)  # type: ignore[no-any-return]

    def check(self) -> None:
        """Raise Stopped if the team is stopped."""
        stopped = self._words[self._STOPPED]
        if stopped:
            raise Stopped(stopped - 1 if stopped > 0 else -1)

    # --- Mail -------------------------------------------------------------------------------------------------

    def _box(self, rank: int, box: int) -> memoryview:
        start = (3 * rank + box) * CAPACITY
        return self._mail[start : start + CAPACITY]

    def _write(self, box: int, words: Any) -> None:
        text = pickle.dumps(words, protocol=5)
        if len(text) > CAPACITY - 8:
            raise ValueError(
                f"a meeting of processes: {len(text):,} bytes were to be said, at most {CAPACITY - 8:,}. What chunks "
                "say of a batch is meant to be small, as sums are"
            )
        mail = self._box(self.rank, box)
        mail[:8] = len(text).to_bytes(8, "little")
        mail[8 : 8 + len(text)] = text

    def _read(self, rank: int, box: int) -> Any:
        mail = self._box(rank, box)
        return pickle.loads(mail[8 : 8 + int.from_bytes(mail[:8], "little")])

    # --- Waiting ----------------------------------------------------------------------------------------------

    def _announce(self, word: int, value: int) -> None:
        with self._order:
            self._words[word] = value
        for other in self._others:
            if self._words[self._asleep(other)]:
                self._bells[other].release()

    def _wait_for(self, member: int) -> None:
        words, word, count = self._words, self._come(member), self._count
        end = time.perf_counter() + _SPIN
        while words[word] < count:
            if time.perf_counter() > end:
                self._sleep_until(word, count)
                break
            _yield()
        with self._order:
            pass

    def _sleep_until(self, word: int, count: int) -> None:
        pause, longest = _SLEEP
        words, asleep = self._words, self._asleep(self.rank)
        words[asleep] = 1
        try:
            while words[word] < count:
                self.check()
                self._bells[self.rank].acquire(timeout=pause)
                if pause == longest:
                    self.look()
                pause = min(2 * pause, longest)
        finally:
            words[asleep] = 0

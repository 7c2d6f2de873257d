"""Signals that stop a run: all as Ctrl-C does, and none of them lost."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["heeded", "stopped_by"]


@contextmanager
def stopped_by(*names: str) -> Iterator[None]:
    """While the block runs, these signals raise KeyboardInterrupt, unless the process was told to do otherwise.

    >>> with stopped_by("SIGTERM"):
    ...     try:
    ...         signal.raise_signal(signal.SIGTERM)
    ...     except KeyboardInterrupt:
    ...         print("stopped")
    stopped
    """

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    default = signal.SIG_DFL  # nohup ignores SIGHUP
    changed = [number for number in _numbers(names) if signal.getsignal(number) is default]
    for number in changed:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, default)


@contextmanager
def heeded(*names: str) -> Iterator[Callable[[], None]]:
    """While the block runs, ``heed()`` raises KeyboardInterrupt if the handler of one of these signals has.

    A handler raises wherever Python happens to be; what is raised while an object is finalised (``__del__``, a weak
    reference's callback, a generator that nobody exhausted) Python prints and drops. A KeyboardInterrupt that the block
    has caught itself counts as well. In a thread that gets no signals ``heed()`` does nothing.

    >>> with heeded("SIGINT") as heed:
    ...     heed()
    """
    told: list[int] = []

    def heed() -> None:
        if told:
            raise KeyboardInterrupt

    def noting(handler: Callable[[int, Any], Any]) -> Callable[[int, Any], Any]:
        def note(number: int, frame: Any) -> None:
            try:
                handler(number, frame)
            except KeyboardInterrupt:
                told.append(number)
                raise

        return note

    before = {number: signal.getsignal(number) for number in _numbers(names)}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    for number, handler in handlers.items():
        signal.signal(number, noting(handler))
    try:
        yield heed
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _numbers(names: tuple[str, ...]) -> list[int]:
    """The numbers of those signals that this system has."""
    return [getattr(signal, name) for name in names if hasattr(signal, name)]

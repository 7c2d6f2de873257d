"""What a fuzzing process does: in a file of its own, which a fresh process can import."""

from collections import Counter

from funcnn.arrays.threads import set_threads
from fuzz.engine import MEGABYTES, Finding, allow_memory, run_cases
from fuzz.targets import TARGETS

__all__ = ["start", "work"]


def start() -> None:
    """Make a fresh process one that fuzzes: on one thread, with a bound of memory."""
    set_threads(1)
    allow_memory(MEGABYTES)


def work(name: str, seed: int, first: int, last: int) -> tuple[str, Counter[str], list[Finding]]:
    """Run some cases of a target."""
    return name, *run_cases(name, TARGETS[name], seed, range(first, last))

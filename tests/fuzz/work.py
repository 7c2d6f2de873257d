"""What a fuzzing process does: in a file of its own, which a fresh process can import."""

from collections import Counter

from funcnn.arrays.threads import set_threads
from fuzz.engine import MEGABYTES, Finding, allow_memory, run_cases
from fuzz.targets import TARGETS

__all__ = ["work"]


def work(name: str, seed: int, first: int, last: int) -> tuple[str, Counter[str], list[Finding]]:
    """Run some cases of a target, with a bound of memory."""
    set_threads(1)  # a case may have set another number
    allow_memory(MEGABYTES)
    return name, *run_cases(name, TARGETS[name], seed, range(first, last))

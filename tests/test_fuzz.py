"""A short form of the fuzzing (tests/fuzz): the same cases in every run, a few of each target."""

import pytest
from fuzz.engine import run_cases
from fuzz.targets import TARGETS

CASES = 60


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_wild_input_is_taken_or_refused_by_this_library(name: str) -> None:
    outcomes, findings = run_cases(name, TARGETS[name], seed=0, cases=range(CASES))
    assert findings == []
    assert sum(outcomes.values()) == CASES


def test_a_foreign_error_is_found() -> None:
    def broken(rng: object) -> None:
        [].pop()

    def slow(rng: object) -> None:
        import time

        time.sleep(1.1)

    for target, what in ((broken, "IndexError: pop from empty list"), (slow, "taken after 1.1 s")):
        _, findings = run_cases("broken", target, seed=0, cases=range(1))
        assert [finding.what.splitlines()[-1] for finding in findings] == [what]

"""Fuzz this library: seeded mutations of every file that it reads, wild arguments, wild arrays.

python tests/fuzz                       # 100,000 cases
python tests/fuzz --cases 1000000 --seed 1
python tests/fuzz --only checkpoint     # one target
python tests/fuzz --only checkpoint --case 17
"""

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from funcnn.sweep.workers import Processes, WorkerDied
from fuzz.engine import Finding, run_case
from fuzz.targets import TARGETS
from fuzz.work import work

_AT_ONCE = 500  # cases handed to a process at a time


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cases", type=int, default=100_000, help="in all, shared by the targets (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", choices=sorted(TARGETS), metavar="NAME", help=", ".join(sorted(TARGETS)))
    parser.add_argument("--case", type=int, help="one case of the target, with its traceback")
    options = parser.parse_args()
    names = [options.only] if options.only else list(TARGETS)
    if options.case is not None:
        outcome, what = run_case(names[0], TARGETS[names[0]], options.seed, options.case)
        print(f"{names[0]}, case {options.case}: {outcome}\n{what}")
        return int(bool(what))

    each = max(1, options.cases // len(names))
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in names}
    findings: list[Finding] = []
    started = time.perf_counter()
    with Processes(options.jobs) as pool:
        parts = [(name, first, min(first + _AT_ONCE, each)) for first in range(0, each, _AT_ONCE) for name in names]
        futures = {pool.submit(work, name, options.seed, first, last): name for name, first, last in parts}
        for future in as_completed(futures):
            try:
                name, counted, found = future.result()
            except WorkerDied as error:
                findings.append(Finding(futures[future], -1, f"a process died: {error}"))
                continue
            outcomes[name] += counted
            findings += found
    for name, counted in outcomes.items():
        print(
            f"{name:<28} {sum(counted.values()):>9,}  {', '.join(f'{key} {n:,}' for key, n in counted.most_common())}"
        )
    kinds = Counter(finding.what.splitlines()[-1][:100] for finding in findings)
    for kind, count in kinds.most_common(40):
        first = next(each for each in findings if each.what.splitlines()[-1][:100] == kind)
        print(
            f"\n{count} x {kind}\n  python tests/fuzz --seed {options.seed} --only {first.target} --case {first.case}"
        )
    total = sum(sum(counted.values()) for counted in outcomes.values())
    print(f"\n{total:,} cases in {time.perf_counter() - started:.0f} s, {len(findings)} findings")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())

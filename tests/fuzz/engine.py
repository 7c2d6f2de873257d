"""Fuzzing: a target is a function of a random generator that tries one thing; what comes of it is counted.

A case is right if it is taken, or refused by this library: by an error of one of its own classes, or by a ValueError or
TypeError that one of its own lines raises, within a second and a bound of memory. Anything else is a finding: an
exception of NumPy's, of a parser's, of Python's own, a warning, a hang, a crash.

Case `i` of a target is the same in every run with the same seed: ``python tests/fuzz --only NAME --case I``.
"""

import ast
import resource
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import numpy as np

import funcnn
from funcnn.checkpoint import CheckpointError
from funcnn.checks import FuncnnWarning
from funcnn.data import DataError
from funcnn.grad_check import GradientError
from funcnn.layer import LayerError
from funcnn.sweep import SweepError
from funcnn.train import NonFiniteError
from funcnn.tree import TreeError

__all__ = ["Finding", "Target", "allow_memory", "run_cases"]

Target = Callable[[np.random.Generator], Any]

PACKAGE = str(Path(funcnn.__file__).parent)
OWN = (CheckpointError, DataError, GradientError, LayerError, NonFiniteError, SweepError, TreeError, FileNotFoundError)
SECONDS = 1.0
MEGABYTES = 500
HANG = 10  # seconds after which a case is stopped


@attrs.frozen
class Finding:
    """A case that went wrong, and how."""

    target: str
    case: int
    what: str


class Hang(BaseException):
    """A case that took too long."""


def allow_memory(megabytes: int) -> None:
    """Let this process take so much more memory than it has now; beyond, it gets a MemoryError."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, hard))


def run_cases(name: str, target: Target, seed: int, cases: range) -> tuple[Counter[str], list[Finding]]:
    """The outcomes of some cases of a target, by name of the error, and the findings."""
    outcomes: Counter[str] = Counter()
    findings = []
    for case in cases:
        outcome, what = run_case(name, target, seed, case)
        outcomes[outcome] += 1
        if what:
            findings.append(Finding(name, case, what))
    return outcomes, findings


def run_case(name: str, target: Target, seed: int, case: int) -> tuple[str, str]:
    """What came of a case, and what is wrong about it, if anything is."""
    rng = np.random.default_rng([seed, case, *name.encode()])
    signal.signal(signal.SIGALRM, _hang)
    signal.alarm(HANG)
    started = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # NumPy says so of numbers that are infinite or too large, and is right.
            warnings.simplefilter("ignore", RuntimeWarning)
            warnings.simplefilter("ignore", FuncnnWarning)
            target(rng)
        outcome, what = "taken", ""
    except Hang:
        outcome, what = "hang", f"still at it after {HANG} s"
    except OWN as error:
        outcome, what = type(error).__name__, ""
    except OSError as error:
        outcome = type(error).__name__
        what = "" if error.filename is not None else f"{outcome} without the file: {error}"
    except Exception as error:
        ours = isinstance(error, (ValueError, TypeError)) and _is_raised_here(error)
        outcome = type(error).__name__ if ours else f"foreign {type(error).__name__}"
        what = "" if ours else "".join(traceback.format_exception(error)[-3:]).strip()
    finally:
        signal.alarm(0)
    seconds = time.perf_counter() - started
    if seconds > SECONDS and not what:
        what = f"{outcome} after {seconds:.1f} s"
    return outcome, what


def _hang(signum: int, frame: Any) -> None:
    raise Hang


def _is_raised_here(error: BaseException) -> bool:
    """Whether a ``raise`` of this library's gave the error: NumPy's functions leave no frame of their own."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None:
        return False
    file = at.tb_frame.f_code.co_filename
    return file.startswith(PACKAGE) and any(at.tb_lineno in lines for lines in _raising(file))


@cache
def _raising(file: str) -> list[range]:
    """The lines of every ``raise`` in a file."""
    nodes = ast.walk(ast.parse(Path(file).read_text("utf-8")))
    return [range(node.lineno, (node.end_lineno or node.lineno) + 1) for node in nodes if isinstance(node, ast.Raise)]

"""What the checks of a problem set are made of, and how one is run.

A problem set is a folder: README.md, the file that students fill in, and test_set_N.py with the checks. A check is a
function marked by `check`, which says its task and its points; it returns, or raises `Wrong` with what was expected,
what came, and the likely mistake. pytest runs these files too; `grade.py` is the command that gives points.
"""

import importlib.util
import inspect
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "NOT_WRITTEN", "Check", "Problems", "Student", "Wrong", "check", "close", "equal", "load_problems",
    "numeric_gradient", "replaced", "run_check", "that", "unchanged", "work",
]  # fmt: skip

NOT_WRITTEN = "not written yet"  # what is said of a function that still raises NotImplementedError
_MEMORY = 4 * 2**30  # bytes that a student's process may have
_PRINTED = 2**26  # bytes that it may print, or write to a file


class Wrong(AssertionError):
    """What is wrong with an answer, in words for a student."""


# --- Comparing ------------------------------------------------------------------------------------------------


def that(condition: object, problem: str) -> None:
    """Raise Wrong with a problem unless a condition holds."""
    if not condition:
        raise Wrong(problem)


def equal(what: str, got: Any, expected: Any, advice: str = "") -> None:
    """Raise Wrong unless two plain values are equal."""
    that(type(got) is not np.ndarray and got == expected, _text(what, repr(expected), _shown(got), advice))


def close(
    what: str,
    got: Any,
    expected: Any,
    *,
    mistakes: Mapping[str, Any] | None = None,
    rtol: float = 1e-7,
    atol: float = 1e-10,
) -> None:
    """Raise Wrong unless numbers are close to the expected ones.

    `mistakes` are what well-known mistakes give: advice -> the numbers that lead to it.

    >>> close("dweight", np.ones((2, 3)), 4 * np.ones((2, 3)))
    Traceback (most recent call last):
    grading.Wrong: dweight: expected 4 at (0, 0), got 1; 6 of 6 numbers differ. Yours is 1/4 of the right one
    """
    want = np.asarray(expected)
    if got is None:
        raise Wrong(_text(what, _form(want), "None", "Does the function return its result?"))
    try:
        have = np.asarray(got)
        fits = have.dtype.kind in "fiub"
    except ValueError:  # a ragged list
        fits = False
    if not fits:
        raise Wrong(_text(what, _form(want), _shown(got)))
    advice = _advice(have, want, mistakes or {}, rtol, atol)
    if have.shape != want.shape:
        raise Wrong(_text(what, _form(want), _form(have), advice))
    if not _near(have, want, rtol, atol):
        differs = ~np.isclose(have, want, rtol=rtol, atol=atol, equal_nan=True)
        at = tuple(int(i) for i in np.argwhere(differs)[0])
        place = f" at {at[0] if len(at) == 1 else at}" if at else ""
        got_text = _number(have[at], want[at])
        count = f"; {int(differs.sum())} of {want.size} numbers differ" if want.size > 1 else ""
        raise Wrong(_text(what, f"{_number(want[at], have[at])}{place}", f"{got_text}{count}", advice))


@contextmanager
def unchanged(**arguments: Any) -> Iterator[None]:
    """Raise Wrong if what runs inside writes to one of these arguments."""
    before = {name: [np.array(leaf) for leaf in _leaves(value)] for name, value in arguments.items()}
    yield
    for name, value in arguments.items():
        now = _leaves(value)
        same = len(now) == len(before[name]) and all(map(_same, now, before[name]))
        that(same, f"{name}: the function writes to this argument. Make a new array: `a = a + b` in place of `a += b`")


def numeric_gradient(function: Callable[[Any], float], x: Any, step: float = 1e-6) -> Any:
    """The gradient of a function of an array, by central differences, element by element: what checks compare with.

    >>> numeric_gradient(lambda x: float((x * x).sum()), np.array([1.0, 3.0])).round(6)
    array([2., 6.])
    """
    slopes = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        nudge = np.zeros(x.shape)
        nudge[at] = step
        slopes[at] = (function(x + nudge) - function(x - nudge)) / (2 * step)
    return slopes


def _near(have: Any, want: Any, rtol: float, atol: float) -> bool:
    return bool(have.shape == want.shape) and bool(np.allclose(have, want, rtol=rtol, atol=atol, equal_nan=True))


def _advice(have: Any, want: Any, mistakes: Mapping[str, Any], rtol: float, atol: float) -> str:
    """What a difference gives away."""
    for advice, wrong in mistakes.items():
        if _near(have, np.asarray(wrong), rtol, atol):
            return advice
    if have.ndim == 2 and have.shape[::-1] == want.shape and _near(have.T, want, rtol, atol):
        return "Yours is transposed"
    if have.shape != want.shape:
        return ""
    if not np.isfinite(have).all():
        return "Yours has numbers that are not finite"
    if want.any() and not have.any():
        return "Yours is zero everywhere"
    size = np.abs(want).max(initial=0.0) * 1e-6
    big = np.abs(want) > size
    if big.any() and (np.abs(have[big]) > size).all():
        ratio = float(np.median(have[big] / want[big]))
        for factor, words in ((ratio, "{:g} times"), (1 / ratio, "1/{:g} of")):
            whole = round(factor)
            if whole not in (0, 1) and abs(factor / whole - 1) < 1e-5 and _near(have, want * ratio, 1e-5, atol):
                return "Yours has the opposite sign" if whole == -1 else f"Yours is {words.format(whole)} the right one"
    return ""


def _text(what: str, expected: str, got: str, advice: str = "") -> str:
    return f"{what}: expected {expected}, got {got}" + (f". {advice}" if advice else "")


def _number(value: Any, other: Any) -> str:
    """A number with as many digits as tell it from another."""
    short = f"{float(value):.6g}"
    return short if short != f"{float(other):.6g}" else f"{float(value):.12g}"


def _form(array: Any) -> str:
    if array.ndim == 0 and array.dtype.kind in "fiub":
        return f"{float(array):.6g}"
    return f"{array.dtype} of shape {array.shape}"


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return _form(value)
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _leaves(value: Any) -> list[Any]:
    """The arrays and numbers in dicts, lists, tuples and the library's trees."""
    children = getattr(type(value), "__tree_fields__", None)
    if children is not None:
        value = [getattr(value, name) for name in children]
    if isinstance(value, Mapping):
        value = [key_or_value for pair in value.items() for key_or_value in pair]
    if isinstance(value, (list, tuple)):
        return [leaf for each in value for leaf in _leaves(each)]
    return [value]


def _same(a: Any, b: Any) -> bool:
    a = np.asarray(a)
    return bool(a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())


# --- The student's file ---------------------------------------------------------------------------------------


class Student:
    """The student's module, loaded when a check first asks for a function of it.

    So the checks can be read without running a student's code, and an error in the file is an error of each check.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.module: ModuleType | None = None

    def load(self) -> ModuleType:
        """The module; raises Wrong if there is no file, and whatever it raises itself."""
        if self.module is None:
            if not self.path.is_file():
                raise Wrong(f"there is no file {self.path.name} in {self.path.parent.name or '.'}/")
            name = f"student_{self.path.stem}"
            spec = importlib.util.spec_from_file_location(name, self.path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module  # where pickle and attrs look for its classes
            with quiet():
                spec.loader.exec_module(module)
            self.module = module
        return self.module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python asks of any object
            raise AttributeError(name)
        module = self.load()
        if not hasattr(module, name):
            raise Wrong(f"{self.path.name} has no {name}. Keep the names of the file that was handed out")
        return getattr(module, name)


@contextmanager
def replaced(student: Student, **functions: Any) -> Iterator[None]:
    """Put right functions in the place of a student's own, so that a mistake costs the points of its task alone."""
    module = student.load()
    own = {name: getattr(module, name, None) for name in functions}
    vars(module).update(functions)
    try:
        yield
    finally:
        vars(module).update(own)


@contextmanager
def quiet() -> Iterator[None]:
    """Neither warnings nor floating-point errors of a student's code stop a check, whoever runs it."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


# --- Checks ---------------------------------------------------------------------------------------------------


class Check(NamedTuple):
    """One check: the function's name, its task, the points that it gives, and what it looks at."""

    name: str
    task: int
    points: int
    title: str


def check(task: int, points: int) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Mark a function without arguments as a check of a task, worth some points; its docstring is its title."""

    def mark(function: Callable[[], None]) -> Callable[[], None]:
        @wraps(function)
        def run() -> None:
            with quiet():
                function()

        title = str(inspect.getdoc(function)).splitlines()[0]
        run.check = Check(function.__name__, task, points, title)  # type: ignore[attr-defined]
        return run

    return mark


class Problems(NamedTuple):
    """A problem set: the titles of its tasks by number, its checks, the student's module, the functions."""

    tasks: dict[int, str]
    checks: tuple[Check, ...]
    student: Student
    functions: dict[str, Callable[[], None]]

    @property
    def most(self) -> int:
        """The points that it gives at most."""
        return sum(each.points for each in self.checks)


def load_problems(folder: Path, submission: Path | None = None) -> Problems:
    """The problem set in a folder, to be asked of the student's file in `submission` (a folder, or the file).

    Nothing of the student's runs by this. Raises ValueError for a folder that holds no problem set.
    """
    tests = sorted(folder.glob("test_set_*.py"))
    if len(tests) != 1:
        raise ValueError(f"{folder}: expected a problem set, a folder with one test_set_*.py, found {len(tests)}")
    spec = importlib.util.spec_from_file_location(f"checks_of_{folder.name}", tests[0])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    functions: dict[str, Any] = {
        name: value for name, value in vars(module).items() if inspect.isfunction(value) and hasattr(value, "check")
    }
    student: Student = module.student
    if submission is not None:
        student.path = submission if submission.is_file() else submission / student.path.name
    checks = tuple([function.check for function in functions.values()])
    return Problems(module.TASKS, checks, student, functions)


def run_check(problems: Problems, name: str) -> str | None:
    """Run one check in this process: None if it gives its points, else what is wrong. It catches whatever is raised."""
    try:
        problems.functions[name]()
    except NotImplementedError:
        return NOT_WRITTEN
    except AssertionError as error:  # Wrong; or of the library's own checks of layers and losses
        return str(error) or _problem(error, problems.student.path)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        return _problem(error, problems.student.path)
    return None


def _problem(error: BaseException, path: Path) -> str:
    """An exception with the line of the student's file that it comes from."""
    problem = ", ".join([f"{type(error).__name__}: {error}".strip(": "), *getattr(error, "__notes__", ())])
    problem = problem if len(problem) < 600 else f"{problem[:600]}..."
    if isinstance(error, SyntaxError):
        return problem
    frames = [each for each in traceback.extract_tb(error.__traceback__) if Path(each.filename) == path]
    return f"{problem} (line {frames[-1].lineno} of {path.name}: {frames[-1].line})" if frames else problem


def work(folder: str, submission: str, names: str, results: str) -> None:
    """A process of `grade.py`: run checks, given as JSON, and write what begins and ends to a file, line by line."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (_PRINTED, _PRINTED))
    except (ImportError, ValueError, OSError):  # there is no such limit on this system
        pass
    with Path(results).open("w", encoding="utf-8") as file:

        def say(**words: Any) -> None:
            file.write(json.dumps(words) + "\n")
            file.flush()

        problems = load_problems(Path(folder), Path(submission))
        for name in json.loads(names):
            say(begun=name)
            problem = run_check(problems, name)
            say(ended=name, problem=problem)

"""What a value is, told by its content: in another process too, and however it prints."""

import os
import subprocess
import sys
import threading
from functools import lru_cache, partial, wraps
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from cases import message
from processes import TESTS

from funcnn.system.content import content_hash


class Settings:
    """A callable whose repr is an address."""

    def __init__(self, **settings: Any) -> None:
        self.__dict__.update(settings)

    def __call__(self, config: Any, seed: int) -> dict[str, Any]:
        return {}


class Other(Settings):
    def __call__(self, config: Any, seed: int) -> dict[str, Any]:
        return {"other": 1}


@attrs.frozen
class Frozen:
    depth: int
    hidden: Any = attrs.field(default=None, repr=False)


def double(x: Any, *, by: float = 2.0) -> Any:
    return by * x


def scaled(by: Any) -> Any:
    @wraps(double)
    def inner(x: Any) -> Any:
        return by * x

    return inner


def zeros(where: int = -1, **more: Any) -> np.ndarray:
    array = np.zeros(5000, **more)
    if where >= 0:
        array[where] = 7
    return array


def records(hidden: int) -> np.ndarray:
    """Two fields, with what lies between them."""
    array = np.zeros(3, dtype=np.dtype({"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [0, 8]}))
    array.view(np.uint8).reshape(3, -1)[:, 1:8] = hidden
    return array


def circle(last: int) -> list[Any]:
    found: list[Any] = [1]
    found += [found, last]
    return found


class Texts:
    """A value whose repr says nothing."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "Texts"


def late(value: Any) -> Any:
    return lru_cache(scaled(value))


# Of each pair, made anew, the two are the same to repr (without addresses) or to ==, and are not.
DIFFERENT = {
    "a callable's settings": lambda: (Settings(depth=2), Settings(depth=5)),
    "settings within settings": lambda: (Settings(of=Settings(a=[1])), Settings(of=Settings(a=[2]))),
    "a callable's class": lambda: (Settings(), Other()),
    "an array's middle": lambda: (zeros(), zeros(2500)),
    "an array's dtype": lambda: (zeros(), zeros(dtype=np.float32)),
    "an array's shape": lambda: (zeros(), zeros().reshape(50, 100)),
    "an array's byte order": lambda: (np.arange(3, dtype="<i4"), np.arange(3, dtype="<i4").byteswap()),
    "an array of objects": lambda: (np.array([1, "a"], object), np.array([1, "b"], object)),
    "a partial's keyword": lambda: (partial(double, by=zeros()), partial(double, by=zeros(2500))),
    "a partial's argument": lambda: (partial(double, zeros()), partial(double, zeros(2500))),
    "a partial in a partial": lambda: (partial(map, partial(double, 1)), partial(map, partial(double, 2))),
    "a wrapped function": lambda: (scaled(2), scaled(3)),
    "a cached function": lambda: (late(2), late(3)),
    "functions on one line": lambda: (lambda x: x + 1, lambda x: x + 2),
    "defaults": lambda: tuple((lambda at: lambda x, n=at: x)(zeros(at)) for at in (0, 2500)),
    "a bound method": lambda: (Settings(a=1).__call__, Settings(a=2).__call__),
    "what an attrs class does not print": lambda: (Frozen(1, zeros()), Frozen(1, zeros(2500))),
    "a repr that says nothing": lambda: (Texts("a"), Texts("b")),
    "1 and True": lambda: (1, True),
    "1 and 1.0": lambda: ([1], [1.0]),
    "0.0 and -0.0": lambda: (0.0, -0.0),
    "a list and a tuple": lambda: ([1, 2], (1, 2)),
    "a text and bytes": lambda: ("a", b"a"),
    "how a list is cut": lambda: (["ab", "c"], ["a", "bc"]),
    "a list within itself": lambda: (circle(1), circle(2)),
    "the order of a dictionary": lambda: ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "a masked array": lambda: (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[1, 0])),
    "a generator's position": lambda: (np.random.default_rng(0), np.random.default_rng(1)),
    "a path": lambda: (Path("a"), Path("b")),
}
SAME = {
    "two of a class": lambda: (Settings(depth=2, a=1), Settings(a=1, depth=2)),
    "arrays": lambda: (zeros(2500), zeros(2500)),
    "an array and its view": lambda: (np.arange(10)[::2].copy(), np.arange(10)[::2]),
    "what lies between fields": lambda: (records(0), records(7)),
    "keywords in another order": lambda: (partial(double, a=1, b=2), partial(double, b=2, a=1)),
    "closures": lambda: (scaled(2), scaled(2)),
    "sets": lambda: ({"a", "b", "c", 1}, {1, "c", "b", "a"}),
    "shared or not": lambda: ((lambda a: [a, a])([1]), [[1], [1]]),
    "digits without end": lambda: (10**5000, 10**5000),
    "a name that is not UTF-8": lambda: ("\udc80", "\udc80"),
}


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_anywhere_is_another(pair: Any) -> None:
    first, second = pair()
    assert content_hash(first) != content_hash(second)


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_what_was_made_alike_is_the_same(pair: Any) -> None:
    first, second = pair()
    assert content_hash(first) == content_hash(second)


def all_hashes() -> list[str]:
    return [content_hash(each) for pair in (DIFFERENT | SAME).values() for each in pair()]


def test_it_is_the_same_in_another_process() -> None:
    program = "import test_content; print(*test_content.all_hashes())"
    found = set()
    for seed in ("1", "2"):  # by which Python orders sets
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(TESTS)}
        command = [sys.executable, "-c", program]
        run = subprocess.run(command, cwd=TESTS / "system", env=environment, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr
        found.add(run.stdout)
    assert len(found) == 1


def test_what_is_typed_in_counts_by_what_it_does() -> None:
    made: list[Any] = []
    for text in ("1", "2", "1"):
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(f"def f(c, s): return {text}\nclass C:\n  a = 1\n  def __call__(self): return {text}", names)
        made.append((content_hash(names["f"]), content_hash(names["C"]())))
    assert made[0] == made[2]
    assert not set(made[0]) & set(made[1])


DEEP: list[Any] = []
for _ in range(3000):
    DEEP = [DEEP]
HOPELESS = {
    "a lock": (threading.Lock(), "lock: a lock cannot be told by its content (cannot pickle"),
    "within": (partial(double, by=Settings(a=[threading.Lock()])), "partial.by.a[0]: a lock cannot be told by its con"),
    "a generator": ((i for i in range(3)), "generator: a generator cannot be told by its content"),
    "what is enclosed": (scaled(threading.Lock()), "function.by: a lock cannot be told by its content"),
    "nested": (DEEP, "list: nested too deeply to be told by its content"),
}


@pytest.mark.parametrize(("value", "text"), HOPELESS.values(), ids=HOPELESS)
def test_what_has_more_to_it_than_its_content_is_named(value: Any, text: str) -> None:
    assert message(TypeError, content_hash, value).startswith(text)

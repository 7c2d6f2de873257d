"""What rules are made of: results compared leaf by leaf, and the two ways in which a rule is not kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from funcnn import tree
from funcnn.checks import LayerError
from funcnn.tree import TreeError

__all__ = [
    "NEW_ARRAYS", "UPCASTS", "Broken", "Skipped", "check_form", "check_refusal", "check_unwritten", "difference",
    "form", "kind", "named",
]  # fmt: skip

NEW_ARRAYS = "Make a new array, x = 2 * x, never x *= 2; `out=` is for arrays that the function made itself"
UPCASTS = "NumPy's float64 upcasts what it meets: take float(setting), and draws.astype(x.dtype)"


class Broken(Exception):
    """A rule does not hold: the problem, and the fix."""


class Skipped(Exception):
    """A rule cannot be checked on this layer: the reason."""


def named(**trees: Any) -> list[tuple[str, Any]]:
    """The leaves of trees by name.

    >>> named(params=(1, (2,)), x=3)
    [('params.0', 1), ('params.1.0', 2), ('x', 3)]
    """
    return [
        (f"{name}.{path}".rstrip("."), leaf)
        for name, each in trees.items()
        for path, leaf in zip(tree.paths(each), tree.flatten(each), strict=True)
    ]


def difference(first: Any, second: Any, tolerance: float = 0.0) -> str | None:
    """Where two results first differ, with both values; None if they do not.

    A result is what a layer's function returns, or a dictionary of trees. A tolerance is a share of a leaf's largest
    value, since sums of mixed signs cancel.
    """
    first, second = (each if isinstance(each, dict) else each._asdict() for each in (first, second))
    for name, its in first.items():
        try:
            tree.check_like(its, second[name], ("one", "the other"), shapes=True)
        except TreeError as error:
            return f"{name}: {error}"
        for (path, a), b in zip(named(**{name: its}), tree.flatten(second[name]), strict=True):
            if not tree.equal(a, b) and not (tolerance and np.abs(a - b).max() <= tolerance * np.abs(b).max()):
                return f"{path}: {_values(a, b)}"
    return None


def _values(a: Any, b: Any) -> str:
    """Two leaves where they differ most."""
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.dtype == b.dtype):
        return f"{getattr(a, 'dtype', a)} and {getattr(b, 'dtype', b)}"
    i = int(np.argmax(np.abs(np.subtract(a, b, dtype=np.float64))))
    return f"{a.flat[i]:.10g} and {b.flat[i]:.10g}"


def form(value: Any) -> str:
    """An array's dtype and shape, anything else's type."""
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def kind(error: Exception) -> str:
    """An error with its type."""
    return f"{type(error).__name__}: {error}"


def check_form(name: str, like: Any, its: str, other: Any, *, structure: str, shape: str, dtype: str) -> None:
    """Raise unless a tree has the structure of another, and its arrays their shapes and dtypes; a fix for each."""
    try:
        tree.check_like(like, other, (name, its))
    except TreeError as error:
        raise Broken(str(error), structure) from None
    for (path, leaf), got in zip(named(**{its: like}), tree.flatten(other), strict=True):
        if form(got) != form(leaf):
            fix = dtype if np.shape(got) == leaf.shape and isinstance(got, np.ndarray) else shape
            raise Broken(f"expected {form(leaf)} for {path}, got {form(got)}", fix)


def check_refusal(what: str, call: Callable[[], Any], fix: str) -> None:
    """Raise unless a call raises a LayerError."""
    try:
        call()
    except LayerError:
        return
    except Exception as error:
        raise Broken(f"expected a LayerError from {what}, got {kind(error)}", fix) from None
    raise Broken(f"expected a LayerError from {what}, and it goes through", fix)


@contextmanager
def check_unwritten(call: str, **arguments: Any) -> Iterator[None]:
    """Raise if what happens within changes the bytes of an argument."""
    arrays = [(name, leaf) for name, leaf in named(**arguments) if isinstance(leaf, np.ndarray)]
    copies = [leaf.copy() for _, leaf in arrays]
    yield
    for (name, leaf), before in zip(arrays, copies, strict=True):
        if not tree.equal(before, leaf):
            raise Broken(f"{call} writes to {name}: before and after, {_values(before, leaf)}", NEW_ARRAYS)

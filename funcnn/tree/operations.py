"""What is done with trees: going through several side by side, comparing, replacing, showing."""

import difflib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np

from funcnn.system.devices import has_form, is_device_array, module_of
from funcnn.system.text import Text, text_table
from funcnn.tree.nodes import (
    Shape,
    TreeError,
    arrays_of,
    children_of,
    flatten,
    labels_of,
    nbytes,
    paths,
    too_deep,
    unflatten,
)

__all__ = ["check_like", "equal", "form", "map", "read_only", "replace", "rows", "show"]

T = TypeVar("T")


def map(fn: Callable[..., Any], tree: T, *others: Any) -> T:
    """The tree of ``fn(leaf, *leaves of the others at the same path)``.

    >>> map(lambda a, b: a + b, (1, (2, None)), (10, (20, None)))
    (11, (22, None))

    Raises TreeError, naming the first path that differs, if not all have the structure of `tree`, TypeError for no fn.
    """
    if not callable(fn):
        raise TypeError(f"map: fn must be a function of a leaf, got {type(fn).__name__}. It comes before the tree")
    return unflatten(tree, [fn(*row) for row in rows(tree, *others)])


def rows(tree: Any, *others: Any, names: Sequence[str] = (), shapes: bool = False) -> list[tuple[Any, ...]]:
    """The leaves of several trees side by side, a row for each path.

    >>> rows((1, (2, None)), (10, (20, None)))
    [(1, 10), (2, 20)]

    Raises TreeError as `check_like` of each of the others, by the `names` of all.
    """
    try:
        leaves = _alike((tree, *others), shapes)
        if leaves is None:
            i = next(i for i, other in enumerate(others, 1) if _alike((tree, other), shapes) is None)
            _name_difference(tree, others[i - 1], (), (names[0], names[i]) if names else _NAMES, shapes)
    except RecursionError:
        raise too_deep() from None
    return list(zip(*leaves, strict=True))


_NAMES = ("the first tree", "the second")


def check_like(tree: Any, other: Any, names: tuple[str, str] = _NAMES, *, shapes: bool = False) -> None:
    """Raise TreeError unless `other` has the structure of `tree` (and its arrays' shapes), naming where they differ.

    >>> check_like((1, 2), (1, None), names=("params", "gradients"))
    Traceback (most recent call last):
    funcnn.tree.TreeError: trees differ at '1': params has a leaf (int), gradients has None
    """
    if type(shapes) is not bool:
        raise TypeError(f"check_like: shapes must be True or False, got {type(shapes).__name__}")
    rows(tree, other, names=names if type(names) is tuple and len(names) == 2 else _NAMES, shapes=shapes)


def _alike(trees: Sequence[Any], shapes: bool) -> list[list[Any]] | None:
    """The leaves of each tree, if all have one structure, and their arrays the same shapes; otherwise None."""
    its_form: list[Any] = []
    leaves = [_formed(trees[0], [], its_form)]
    its_shapes = _shapes(leaves[0]) if shapes else None
    for tree in trees[1:]:
        form: list[Any] = []
        leaves.append(_formed(tree, [], form))
        if form != its_form or (shapes and _shapes(leaves[-1]) != its_shapes):
            return None
    return leaves


def form(tree: Any) -> tuple[Any, ...]:
    """What trees have in common if they have one structure, and leaves of the same types, shapes and dtypes.

    >>> form((np.zeros(2), None)) == form((np.ones(2), None)), form((np.zeros(2), None)) == form((None, np.zeros(2)))
    (True, False)
    """
    found: list[Any] = []
    try:
        leaves = _formed(tree, [], found)
    except RecursionError:
        raise too_deep() from None
    return (*found, *[(type(leaf), leaf.shape, leaf.dtype) if has_form(leaf) else type(leaf) for leaf in leaves])


def _shapes(leaves: list[Any]) -> list[Shape]:
    return [leaf.shape if type(leaf) is np.ndarray else np.shape(leaf) for leaf in leaves]


def _formed(tree: Any, leaves: list[Any], form: list[Any]) -> list[Any]:
    """The leaves, as `flatten` gives them, and what tells its structure: node by node its class and its length."""
    children = children_of(tree)
    if children is None:
        form.append(1)
        leaves.append(tree)
        return leaves
    form += type(tree), len(children)
    for child in children:
        if type(child) is np.ndarray:
            form.append(1)
            leaves.append(child)
        elif child is None:
            form.append(0)
        else:
            _formed(child, leaves, form)
    return leaves


def _name_difference(tree: Any, other: Any, path: tuple[str, ...], names: tuple[str, str], shapes: bool) -> NoReturn:
    """Raise TreeError for the first path where two trees that are not alike differ."""
    children, others = children_of(tree) or (), children_of(other) or ()
    if type(tree) is type(other) and len(children) == len(others):
        for label, child, its_other in zip(labels_of(tree), children, others, strict=True):
            if _alike((child, its_other), shapes) is None:
                _name_difference(child, its_other, (*path, label), names, shapes)
    where = repr(".".join(path)) if path else "their root"
    raise TreeError(f"trees differ at {where}: {names[0]} has {_kind(tree)}, {names[1]} has {_kind(other)}")


def _kind(tree: Any) -> str:
    children = children_of(tree)
    if tree is None:
        return "None"
    if isinstance(tree, np.generic) or has_form(tree):
        return f"an array of shape {tree.shape}"
    if children is None:
        return f"a leaf ({type(tree).__name__})"
    return f"a tuple of {len(children)}" if type(tree) is tuple else f"the node {type(tree).__name__}"


def replace(tree: T, path: str, value: Any) -> T:
    """The tree with the leaf (or subtree) at a path replaced; an array is taken as a read-only view.

    >>> replace((1, (2, 3)), "1.0", 20)
    (1, (20, 3))

    Raises TreeError for a path that leads nowhere, with the nearest ones that do, TypeError for one that is no text.
    """
    if not isinstance(path, str):
        raise TypeError(f"replace: path must be a text such as '2.weight', got {path!r}")
    if isinstance(value, np.ndarray):
        value = read_only(value.view())
    try:
        return _replace(tree, path.split(".") if path else [], value)  # type: ignore[no-any-return]
    except RecursionError:
        raise too_deep() from None
    except KeyError:
        near = difflib.get_close_matches(path, filter(None, paths(tree)), n=3, cutoff=0.0)
        hint = f"; nearest: {', '.join(near)}" if near else " (it is empty)"
        raise TreeError(f"no path {path!r} in this tree{hint}") from None


def _replace(tree: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    position = dict(zip(labels_of(tree), range(len(labels_of(tree))), strict=True))[path[0]]
    children = list(children_of(tree) or ())
    children[position] = _replace(children[position], path[1:], value)
    return tuple(children) if type(tree) is tuple else type(tree)(*children)


def equal(tree: Any, other: Any) -> bool:
    """Whether two trees have the same structure and leaves of the same type, dtype, shape and bits.

    >>> equal((np.zeros(2),), (np.zeros(2),)), equal((np.zeros(2),), (np.zeros(2, np.float32),))
    (True, False)
    """
    try:
        leaves = _alike((tree, other), shapes=False)
    except RecursionError:
        raise too_deep() from None
    return leaves is not None and all(_same_bits(a, b) for a, b in zip(*leaves, strict=True))


def _same_bits(a: Any, b: Any) -> bool:
    if type(a) is type(b) and is_device_array(a):
        return _same_bits(*map(module_of(a).asnumpy, (a, b)))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a is b or (a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    return type(a) is type(b) and bool(a == b)


def read_only(tree: T) -> T:
    """The same tree, its arrays marked read-only, so that a stray in-place write fails where it happens.

    >>> frozen = read_only((np.zeros(2),))
    >>> frozen[0][0] = 1.0
    Traceback (most recent call last):
    ValueError: assignment destination is read-only
    """
    for leaf in flatten(tree):
        if isinstance(leaf, np.ndarray):
            leaf.flags.writeable = False
    return tree


def show(tree: Any) -> Text:
    """The table of a tree: each leaf's path, shape, dtype (or type) and bytes, totals as `nbytes`; it prints itself.

    >>> show((np.zeros((2, 3), np.float32), None, (np.ones(2), 5)))
    path   shape      dtype    bytes
    0      (2, 3)     float32     24
    2.0    (2,)       float64     16
    2.1    -          int          -
    total  8 numbers              40

    Raises TreeError for what is no tree.
    """
    rows: list[tuple[Any, ...]] = [
        (path, leaf.shape, leaf.dtype, f"{leaf.nbytes:,}")
        if has_form(leaf)
        else (path, None, type(leaf).__name__, None)
        for path, leaf in zip(paths(tree), flatten(tree), strict=True)
    ]
    total = ("total", f"{sum(array.size for array in arrays_of(tree)):,} numbers", "", f"{nbytes(tree):,}")
    return text_table(("path", "shape", "dtype", "bytes"), [*rows, total], left=3)

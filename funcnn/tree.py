"""Immutable trees: the one shape that parameters, states, residuals and gradients have.

A tree is a node, a tuple, ``None`` (an empty tree) or a leaf. A node is a value of a class made by `node`; its fields
are its children. Everything else is a leaf, an array as a rule. Lists, dicts and named tuples are refused: they could
be changed in place, or rebuilt wrongly.

A leaf's path joins the fields and positions that lead to it by dots: ``"2.weight"``.

>>> @node
... class Params:
...     weight: np.ndarray
...     bias: np.ndarray | None
>>> params = (Params(np.ones((2, 3)), np.zeros(3)), None, Params(np.ones(3), None))
>>> paths(params)
['0.weight', '0.bias', '2.weight']
>>> doubled = map(lambda leaf: 2 * leaf, params)
>>> doubled[2].weight
array([2., 2., 2.])

A node prints as dtypes and shapes, and `show` gives the table of a whole tree.

>>> params
(Params(weight=float64 (2, 3), bias=float64 (3,)), None, Params(weight=float64 (3,), bias=None))
"""

import difflib
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, NoReturn, TypeVar, cast, dataclass_transform

import attrs
import numpy as np
from numpy.typing import NDArray

from funcnn.system.devices import has_form, is_device_array, module_of
from funcnn.system.text import Text, call_text, cut, text_table

__all__ = [
    "Array", "Shape", "TreeError", "brief", "check_like", "equal", "flatten", "map", "nbytes", "node", "paths",
    "read_only", "replace", "show", "unflatten",
]  # fmt: skip

Array = NDArray[Any]
Shape = tuple[int, ...]
T = TypeVar("T")
_REFUSED = (list, dict, set, tuple)


class TreeError(ValueError):
    """A value that is no tree, two trees that differ in structure, or a path that leads nowhere."""


class _TooDeep(TreeError):
    """A tree that Python's recursion cannot go through."""

    def __init__(self) -> None:
        super().__init__("the tree is nested too deep, by hundreds of levels. Use one tuple of many leaves")


@dataclass_transform(frozen_default=True, eq_default=False)
def node(cls: type[T]) -> type[T]:
    """Make a class of annotated fields a tree node: frozen, slotted, compared by identity.

    Nodes carry no validators, since they would run every time a tree is rebuilt. Compare with `equal`.

    >>> @node
    ... class Moments:
    ...     mean: np.ndarray
    ...     var: np.ndarray
    >>> Moments(np.zeros(2), np.ones(2))
    Moments(mean=float64 (2,), var=float64 (2,))
    """
    made = attrs.frozen(slots=True, eq=False, repr=False)(cls)
    names = tuple(field.name for field in attrs.fields(cast(Any, made)))
    made.__tree_fields__ = names  # type: ignore[attr-defined]
    made.__tree_children__ = _getter(names)  # type: ignore[attr-defined]
    if made.__repr__ is object.__repr__:
        made.__repr__ = _node_text  # type: ignore[method-assign]
    return made


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """The function from a node to its fields; attrgetter gives a tuple for several names alone."""
    if len(names) > 1:
        return staticmethod(attrgetter(*names))
    return staticmethod(lambda node: tuple([getattr(node, name) for name in names]))


def _children(tree: Any) -> tuple[Any, ...] | None:
    """A tree's children in order, or None for a leaf."""
    kind = type(tree)
    if kind is tuple:
        return tree  # type: ignore[no-any-return]
    if kind is np.ndarray:
        return None
    if tree is None:
        return ()
    children = getattr(kind, "__tree_children__", None)
    if children is not None:
        return children(tree)  # type: ignore[no-any-return]
    if isinstance(tree, _REFUSED):
        raise TreeError(f"a tree cannot hold a {kind.__name__}: use a tuple, or a class made by @node")
    return None


def _labels(tree: Any) -> tuple[str, ...]:
    """The names of a tree's children, in the order of `_children`."""
    return (
        tuple([f"{i}" for i in range(len(tree))]) if type(tree) is tuple else getattr(type(tree), "__tree_fields__", ())
    )


def _append_leaves(tree: Any, leaves: list[Any]) -> None:
    children = _children(tree)
    if children is None:
        leaves.append(tree)
    else:
        for child in children:
            if type(child) is np.ndarray:  # most are: a call less for each, in code that runs at every step
                leaves.append(child)
            elif child is not None:
                _append_leaves(child, leaves)


def flatten(tree: Any) -> list[Any]:
    """The leaves of a tree, depth first, in the order of `paths`.

    >>> flatten((1, (2, None), 3))
    [1, 2, 3]

    Raises TreeError for what is no tree, or nested deeper than Python's recursion reaches.
    """
    leaves: list[Any] = []
    try:
        _append_leaves(tree, leaves)
        return leaves
    except RecursionError:
        raise _TooDeep from None


def unflatten(like: T, leaves: list[Any]) -> T:
    """The tree with the structure of `like` and the given leaves; the inverse of `flatten`.

    >>> unflatten((0, (0, None), 0), [1, 2, 3])
    (1, (2, None), 3)

    Raises TreeError unless there is exactly one leaf for each leaf of `like`, TypeError for leaves that are no list.
    """
    if not isinstance(leaves, (list, tuple)):
        raise TypeError(f"unflatten: leaves must be a list, got {type(leaves).__name__}")
    remaining = iter(leaves)
    try:
        tree = _rebuild(like, remaining)
    except RecursionError:
        raise _TooDeep from None
    except StopIteration:
        raise TreeError(f"{len(flatten(like))} leaves expected, got {len(leaves)}") from None
    if list(remaining):
        raise TreeError(f"{len(flatten(like))} leaves expected, got {len(leaves)}")
    return cast(T, tree)


def _rebuild(like: Any, leaves: Iterator[Any]) -> Any:
    children = _children(like)
    if children is None:
        return next(leaves)
    if like is None:
        return None
    # A list, since a generator expression would turn a missing leaf's StopIteration into a RuntimeError.
    rebuilt = [next(leaves) if type(child) is np.ndarray else _rebuild(child, leaves) for child in children]
    return tuple(rebuilt) if type(like) is tuple else type(like)(*rebuilt)


def map(fn: Callable[..., Any], tree: T, *others: Any) -> T:
    """The tree of ``fn(leaf, *leaves of the others at the same path)``.

    >>> map(lambda a, b: a + b, (1, (2, None)), (10, (20, None)))
    (11, (22, None))

    Raises TreeError, naming the first path that differs, if not all have the structure of `tree`, TypeError for no fn.
    """
    if not callable(fn):
        raise TypeError(f"map: fn must be a function of a leaf, got {type(fn).__name__}. It comes before the tree")
    for other in others:
        check_like(tree, other)
    leaves = [flatten(each) for each in (tree, *others)]
    return unflatten(tree, [fn(*values) for values in zip(*leaves, strict=True)])


def paths(tree: Any) -> list[str]:
    """The path of every leaf, in the order of `flatten`; a lone leaf's path is the empty string.

    >>> paths((1, (2, None), 3))
    ['0', '1.0', '2']
    """
    try:
        return [".".join(path) for path in _walk(tree, ())]
    except RecursionError:
        raise _TooDeep from None


def _walk(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    children = _children(tree)
    if children is None:
        yield path
    else:
        for label, child in zip(_labels(tree), children, strict=True):
            yield from _walk(child, (*path, label))


def check_like(
    tree: Any, other: Any, names: tuple[str, str] = ("the first tree", "the second"), *, shapes: bool = False
) -> None:
    """Raise TreeError unless `other` has the structure of `tree` (and its arrays' shapes), naming where they differ.

    >>> check_like((1, 2), (1, None), names=("params", "gradients"))
    Traceback (most recent call last):
    funcnn.tree.TreeError: trees differ at '1': params has a leaf (int), gradients has None
    """
    if type(shapes) is not bool:
        raise TypeError(f"check_like: shapes must be True or False, got {type(shapes).__name__}")
    try:
        if not _alike(tree, other, shapes):
            _name_difference(tree, other, (), names, shapes)
    except RecursionError:
        raise _TooDeep from None


def _alike(tree: Any, other: Any, shapes: bool) -> bool:
    """Whether two trees have one structure, and their arrays the same shapes."""
    children, others = _children(tree), _children(other)
    if children is None or others is None:
        return children is others and (not shapes or np.shape(tree) == np.shape(other))
    if type(tree) is not type(other) or len(children) != len(others):
        return False
    for child, its_other in zip(children, others, strict=True):
        if type(child) is np.ndarray and type(its_other) is np.ndarray:
            if shapes and child.shape != its_other.shape:
                return False
        elif child is not its_other and not _alike(child, its_other, shapes):
            return False
    return True


def _name_difference(tree: Any, other: Any, path: tuple[str, ...], names: tuple[str, str], shapes: bool) -> NoReturn:
    """Raise TreeError for the first path where two trees that are not alike differ."""
    children, others = _children(tree) or (), _children(other) or ()
    if type(tree) is type(other) and len(children) == len(others):
        for label, child, its_other in zip(_labels(tree), children, others, strict=True):
            if not _alike(child, its_other, shapes):
                _name_difference(child, its_other, (*path, label), names, shapes)
    where = repr(".".join(path)) if path else "their root"
    one, two = names if type(names) is tuple and len(names) == 2 else ("the first tree", "the second")
    raise TreeError(f"trees differ at {where}: {one} has {_kind(tree)}, {two} has {_kind(other)}")


def _kind(tree: Any) -> str:
    children = _children(tree)
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
        raise _TooDeep from None
    except KeyError:
        near = difflib.get_close_matches(path, filter(None, paths(tree)), n=3, cutoff=0.0)
        hint = f"; nearest: {', '.join(near)}" if near else " (it is empty)"
        raise TreeError(f"no path {path!r} in this tree{hint}") from None


def _replace(tree: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    position = dict(zip(_labels(tree), range(len(_labels(tree))), strict=True))[path[0]]
    children = list(_children(tree) or ())
    children[position] = _replace(children[position], path[1:], value)
    return tuple(children) if type(tree) is tuple else type(tree)(*children)


def equal(tree: Any, other: Any) -> bool:
    """Whether two trees have the same structure and leaves of the same type, dtype, shape and bits.

    >>> equal((np.zeros(2),), (np.zeros(2),)), equal((np.zeros(2),), (np.zeros(2, np.float32),))
    (True, False)
    """
    try:
        check_like(tree, other)
    except _TooDeep:
        raise
    except TreeError:
        return False
    return all(_same_bits(a, b) for a, b in zip(flatten(tree), flatten(other), strict=True))


def _same_bits(a: Any, b: Any) -> bool:
    if type(a) is type(b) and is_device_array(a):
        return _same_bits(*map(module_of(a).asnumpy, (a, b)))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a is b or (a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    return type(a) is type(b) and bool(a == b)


def nbytes(tree: Any) -> int:
    """The bytes that a tree's arrays hold; an array that appears twice counts once.

    >>> nbytes((np.zeros(3), None, np.zeros(2, np.float32)))
    32
    """
    return sum(array.nbytes for array in _arrays(tree))


def _arrays(tree: Any) -> list[Array]:
    """A tree's arrays, each once."""
    return list({id(leaf): leaf for leaf in flatten(tree) if has_form(leaf)}.values())


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


# --- Printing -------------------------------------------------------------------------------------------------


def brief(value: Any) -> str:
    """A value in a few words: an array by dtype and shape, a tuple that holds arrays by counts, else as it prints.

    >>> brief(np.zeros((2, 3))), brief((np.zeros((2, 3)), None, (np.ones(3),))), brief((1, None))
    ('float64 (2, 3)', '<2 arrays of float64: 9 numbers, 72 bytes>', '(1, None)')
    """
    if has_form(value):
        return f"{value.dtype} {value.shape}"
    if type(value) is not tuple:
        return repr(value)
    try:
        arrays = _arrays(value)
    except TreeError:  # what is no tree prints too
        arrays = []
    if not arrays:
        return cut(repr(value), 60)
    count = f"{len(arrays):,} array{'s'[: len(arrays) > 1]}"
    dtypes = "/".join(sorted({str(array.dtype) for array in arrays}))
    return f"<{count} of {dtypes}: {sum(array.size for array in arrays):,} numbers, {nbytes(value):,} bytes>"


def _node_text(self: Any) -> str:
    """A node as the call that makes it, its fields in brief."""
    return call_text(type(self).__name__, {name: brief(getattr(self, name)) for name in type(self).__tree_fields__})


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
    total = ("total", f"{sum(array.size for array in _arrays(tree)):,} numbers", "", f"{nbytes(tree):,}")
    return text_table(("path", "shape", "dtype", "bytes"), [*rows, total], left=3)

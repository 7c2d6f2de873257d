"""What a tree is made of: nodes, tuples and leaves, and how they are taken apart, put together and told in brief.

`funcnn.tree` says what trees are, and has all that is done with them; users import from there.
"""

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, TypeVar, cast, dataclass_transform

import attrs
import numpy as np
from numpy.typing import NDArray

from funcnn.system.devices import has_form
from funcnn.system.text import call_text, cut

__all__ = [
    "Array", "Shape", "TreeError", "arrays_of", "brief", "children_of", "flatten", "labels_of", "nbytes", "node",
    "paths", "too_deep", "unflatten",
]  # fmt: skip

Array = NDArray[Any]
Shape = tuple[int, ...]
T = TypeVar("T")
_REFUSED = (list, dict, set, tuple)


class TreeError(ValueError):
    """A value that is no tree, two trees that differ in structure, or a path that leads nowhere."""

    __module__ = "funcnn.tree"  # as users import it, and tracebacks name it


def too_deep() -> TreeError:
    """What is told of a tree that Python's recursion cannot go through."""
    return TreeError("the tree is nested too deep, by hundreds of levels. Use one tuple of many leaves")


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


def children_of(tree: Any) -> tuple[Any, ...] | None:
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


def labels_of(tree: Any) -> tuple[str, ...]:
    """The names of a tree's children, in the order of `children_of`."""
    return (
        tuple([f"{i}" for i in range(len(tree))]) if type(tree) is tuple else getattr(type(tree), "__tree_fields__", ())
    )


def _append_leaves(tree: Any, leaves: list[Any]) -> None:
    children = children_of(tree)
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
        raise too_deep() from None


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
        raise too_deep() from None
    except StopIteration:
        raise TreeError(f"{len(flatten(like))} leaves expected, got {len(leaves)}") from None
    if list(remaining):
        raise TreeError(f"{len(flatten(like))} leaves expected, got {len(leaves)}")
    return cast(T, tree)


def _rebuild(like: Any, leaves: Iterator[Any]) -> Any:
    children = children_of(like)
    if children is None:
        return next(leaves)
    if like is None:
        return None
    # A list, since a generator expression would turn a missing leaf's StopIteration into a RuntimeError.
    rebuilt = [
        next(leaves) if type(child) is np.ndarray else None if child is None else _rebuild(child, leaves)
        for child in children
    ]
    return tuple(rebuilt) if type(like) is tuple else type(like)(*rebuilt)


def paths(tree: Any) -> list[str]:
    """The path of every leaf, in the order of `flatten`; a lone leaf's path is the empty string.

    >>> paths((1, (2, None), 3))
    ['0', '1.0', '2']
    """
    try:
        return [".".join(path) for path in _walk(tree, ())]
    except RecursionError:
        raise too_deep() from None


def _walk(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    children = children_of(tree)
    if children is None:
        yield path
    else:
        for label, child in zip(labels_of(tree), children, strict=True):
            yield from _walk(child, (*path, label))


def nbytes(tree: Any) -> int:
    """The bytes that a tree's arrays hold; an array that appears twice counts once.

    >>> nbytes((np.zeros(3), None, np.zeros(2, np.float32)))
    32
    """
    return sum(array.nbytes for array in arrays_of(tree))


def arrays_of(tree: Any) -> list[Array]:
    """A tree's arrays, each once."""
    return list({id(leaf): leaf for leaf in flatten(tree) if has_form(leaf)}.values())


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
        arrays = arrays_of(value)
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

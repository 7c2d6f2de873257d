"""Arrays put into a tree of parameters by their paths, each checked where it is put."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from funcnn import tree
from funcnn.system.text import cut
from funcnn.tree import Array, TreeError

__all__ = ["put"]

T = TypeVar("T")


def put(params: T, arrays: Mapping[str, Array]) -> T:
    """The tree with arrays at their paths (`funcnn.tree.paths`), each of the shape and dtype of the one it replaces.

    >>> from funcnn import Key
    >>> from funcnn.layers import dense
    >>> params = dense(2).init(Key(0), (3,)).params
    >>> put(params, {"bias": np.ones(2, np.float32)}).bias
    array([1., 1.], dtype=float32)
    >>> put(params, {"weight": np.ones((2, 3)), "biass": np.ones(2)})
    Traceback (most recent call last):
    funcnn.tree.TreeError: put: 2 of 2 arrays do not fit
      weight: expected float32 (3, 2), got float64 (2, 3). Transpose it: weight.T
      biass: no such path; nearest: bias

    Of a net's params, of its state, or of a `Model` of both. The arrays are copied, and read-only in the result; all
    others stay. Raises TreeError, which names every array that does not fit, TypeError for no mapping.
    """
    if not isinstance(arrays, Mapping):
        raise TypeError(f"put: arrays must be a mapping from paths to arrays, got {type(arrays).__name__}")
    paths, leaves = tree.paths(params), tree.flatten(params)
    places = {path: i for i, path in enumerate(paths)}
    problems = []
    for path, array in arrays.items():
        if path not in places:
            near = difflib.get_close_matches(str(path), paths, n=1, cutoff=0.0)
            problems.append(f"{cut(str(path), 100)}: no such path" + (f"; nearest: {near[0]}" if near else ""))
        elif found := _misfit(path, leaves[places[path]], array):
            problems.append(found)
        else:
            leaves[places[path]] = _own(array)
    if problems:
        raise TreeError("\n  ".join([f"put: {len(problems)} of {len(arrays)} arrays do not fit", *problems]))
    return tree.unflatten(params, leaves)


def _own(array: Array) -> Array:
    """A read-only copy in C order; the array itself if it is one that nobody can write to."""
    if array.flags.c_contiguous and array.base is None and not array.flags.writeable:
        return array
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy


def _misfit(path: str, leaf: Any, array: Any) -> str:
    """What is wrong with an array for the place of a leaf; "" for nothing."""
    if not isinstance(leaf, np.ndarray):
        return f"{path}: expected {type(leaf).__name__}, which is no array"
    wanted = f"{path}: expected {leaf.dtype} {leaf.shape}, got"
    if not isinstance(array, np.ndarray):
        return f"{wanted} {type(array).__name__}. Convert it: np.asarray(..., np.{leaf.dtype})"
    name = path.rpartition(".")[2]
    if array.shape != leaf.shape:
        turned = array.ndim == 2 and array.shape[::-1] == leaf.shape
        return f"{wanted} {array.dtype} {array.shape}" + (f". Transpose it: {name}.T" if turned else "")
    if array.dtype != leaf.dtype:
        return f"{wanted} {array.dtype}. Convert it: {name}.astype(np.{leaf.dtype})"
    return ""

"""Immutable trees: the one shape that parameters, states, residuals and gradients have.

A tree is a node, a tuple, ``None`` (an empty tree) or a leaf. A node is a value of a class made by `node`; its fields
are its children. Everything else is a leaf, an array as a rule. Lists, dicts and named tuples are refused: they could
be changed in place, or rebuilt wrongly.

A leaf's path joins the fields and positions that lead to it by dots: ``"2.weight"``.

>>> import numpy as np
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

from funcnn.tree.nodes import Array, Shape, TreeError, brief, flatten, nbytes, node, paths, unflatten
from funcnn.tree.operations import check_like, equal, form, map, read_only, replace, rows, show

__all__ = [
    "Array", "Shape", "TreeError", "brief", "check_like", "equal", "flatten", "form", "map", "nbytes", "node",
    "paths", "read_only", "replace", "rows", "show", "unflatten",
]  # fmt: skip

"""Trees of arrays to a device and back: the same nets on a GPU, by CuPy's arrays in NumPy's place (docs/gpu.md).

Everything that takes arrays takes a device's: layers, losses, optimizers, a training step. What it computes lies where
the arrays lie that it is given. Random numbers are drawn on the host from the same keys, so that masks and shuffles are
the same everywhere; results differ by rounding.
"""

from typing import Any, TypeVar

import numpy as np

from funcnn import tree
from funcnn.arrays.seam import DeviceError
from funcnn.system.devices import device_module, device_of, has_form, is_device_array, module_of

__all__ = ["DeviceError", "device_of_tree", "first_array", "to_device", "to_host"]

T = TypeVar("T")


def to_device(values: T, device: str) -> T:
    """The same tree with its arrays on a device: "cuda", or "cpu" for the host.

    Numbers and what is there already stay as they are; dtypes and shapes do, too.

    >>> params = (np.ones((2, 3)), None)
    >>> tree.equal(to_device(params, "cpu"), params)
    True

    Raises ValueError for a device that is not known, RuntimeError for one that is not here, TreeError for what is no
    tree.
    """
    if device == "cpu":
        return to_host(values)
    module = device_module(device)

    def moved(leaf: Any) -> Any:
        if is_device_array(leaf) and device_of(leaf) == device:
            return leaf
        host = _hosted(leaf)
        return module.asarray(host, order="C") if isinstance(host, np.ndarray) else host

    return tree.map(moved, values)


def to_host(values: T) -> T:
    """The same tree with its arrays on the host, as NumPy's; those that come from a device are read-only.

    >>> to_host((np.ones(2), 3))
    (array([1., 1.]), 3)

    Raises TreeError for what is no tree.
    """
    return tree.map(_hosted, values)


def _hosted(leaf: Any) -> Any:
    return tree.read_only(module_of(leaf).asnumpy(leaf)) if is_device_array(leaf) else leaf


def device_of_tree(values: Any) -> str:
    """The name of the device on which a tree's first array lies, "cpu" for the host's and for a tree without arrays.

    >>> device_of_tree((None, np.ones(2)))
    'cpu'
    """
    return device_of(first_array(values))


def first_array(values: Any) -> Any:
    """The first array of a tree, found without a walk through all of it; None if there is none.

    >>> first_array((None, 1, (np.ones(2), np.zeros(2))))
    array([1., 1.])
    """
    kind = type(values)
    if kind is np.ndarray or values is None:
        return values
    fields = () if kind is tuple else getattr(kind, "__tree_fields__", None)
    if fields is None:
        return values if has_form(values) else None
    for child in values if kind is tuple else [getattr(values, name) for name in fields]:
        if child is not None:
            found = first_array(child)
            if found is not None:
                return found
    return None

"""The seam between the host and devices: a function tuned for NumPy's arrays, and its plain form for all others.

Tuned forms cut work into blocks for caches and threads, and lay arrays out for one kind of BLAS: on a device none of
that holds. There the plain form runs, the function of the same name in `funcnn.arrays.plain`, written for any module
made like NumPy. Which of the two is asked once a call, of the array's class, and only here: no layer knows.
"""

import importlib
import inspect
from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from funcnn import tree
from funcnn.system.devices import device_of, has_form, module_of

__all__ = ["TUNED", "DeviceError", "faster", "named", "plain_module", "refuse_both_kinds", "tuned", "tuned_by"]

P = ParamSpec("P")
T = TypeVar("T")

TUNED: list[tuple[str, str]] = []  # the modules and names of all functions that have a plain form


def tuned(function: Callable[P, T]) -> Callable[P, T]:
    """A function whose first argument is an array, for NumPy's; called with any other, its plain form."""
    return _chosen(function, next(iter(inspect.signature(function).parameters)))


def tuned_by(array: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """`tuned`, for a function that has the array elsewhere among its arguments: ``"x"``, or ``"run.gates"``."""
    return lambda function: _chosen(function, array)


def _chosen(function: Callable[P, T], array: str) -> Callable[P, T]:
    """A function of the same arguments that asks of the array's class, and hands them on.

    It is written as text, since small nets would notice ``*arguments``: they take 0.12 to 0.22 µs more, this 0.05.
    """
    TUNED.append((function.__module__, function.__name__))
    taken, handed, known = [], [], {"here": function, "there": partial(_plain_form, function), "ndarray": np.ndarray}
    for name, each in inspect.signature(function).parameters.items():
        named_only = each.kind is each.KEYWORD_ONLY
        if named_only and "*" not in taken:
            taken.append("*")
        if each.default is not each.empty:
            known[f"default_{name}"] = each.default
        taken.append(name if each.default is each.empty else f"{name}=default_{name}")
        handed.append(f"{name}={name}" if named_only else name)
    text = f"lambda {', '.join(taken)}: (here if isinstance({array}, ndarray) else there())({', '.join(handed)})"
    return wraps(function)(eval(text, known))


def _plain_form(function: Callable[..., Any]) -> Callable[..., Any]:
    return getattr(plain_module(function.__module__.rpartition(".")[2]), function.__name__)  # type: ignore[no-any-return]


@cache
def plain_module(name: str) -> Any:
    """A module of `funcnn.arrays.plain`, imported when a device first asks for it.

    >>> plain_module("products").matmul(np.ones((2, 3)), np.ones((3, 1)))
    array([[3.],
           [3.]])
    """
    return importlib.import_module(f"funcnn.arrays.plain.{name}")


def faster(name: str, *arguments: Any) -> Any:
    """A module of `funcnn.arrays.cuda`, if arrays are CuPy's and it fits what it is to compute with; else None.

    The first argument is an array; all of them are handed to the module's `fits`.
    """
    if module_of(arguments[0]).__name__ != "cupy":
        return None
    module = _cuda_module(name)
    return module if module.fits(*arguments) else None


@cache
def _cuda_module(name: str) -> Any:
    return importlib.import_module(f"funcnn.arrays.cuda.{name}")


class DeviceError(TypeError):
    """Arrays of the host and of a device in one call; names a leaf of either, and says which to move."""


def refuse_both_kinds(error: Exception, place: str, /, **arguments: Any) -> None:
    """Raise DeviceError for a call that failed because of arrays of the host and of a device together.

    That is looked at once it has failed, since neither NumPy nor CuPy takes the other's arrays unasked.
    """
    if isinstance(error, DeviceError):
        return
    found: dict[str, str] = {}  # devices, and the first array on each
    try:
        for name, value in arguments.items():
            for path, leaf in zip(tree.paths(value), tree.flatten(value), strict=True):
                if has_form(leaf):
                    found.setdefault(device_of(leaf), ".".join(filter(None, (name, path))))
    except tree.TreeError:
        return
    if len(found) > 1:
        (one, here), (other, there), *_ = found.items()
        where = {"cpu": "on the host"}
        moved, device = (here, other) if one == "cpu" else (there, one)  # to the device, where the work is
        raise DeviceError(
            f"{place}: {here} is {where.get(one, f'on {one!r}')}, {there} {where.get(other, f'on {other!r}')}. "
            f"Move one of them: to_device({moved.partition('.')[0]}, {device!r})"
        ) from error


def named(function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by their names; none of one that does not fit."""
    try:
        return inspect.signature(function).bind(*arguments, **options).arguments
    except TypeError:
        return {}

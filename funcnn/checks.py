"""Errors that name the place, and the checks of what a layer is given."""

from typing import Any

import numpy as np

from funcnn.keys import Key
from funcnn.settings import Described
from funcnn.tree import Array

__all__ = [
    "LayerError", "ShapeError", "add_place", "check_array", "check_dy", "check_float", "check_input", "check_key",
    "check_residuals",
]  # fmt: skip


class LayerError(ValueError):
    """A layer that was misused; says where, what is wrong, and how to fix it.

    Combinators add their place at the front as the error passes outward (`add_place`), so that it reads
    ``serial[4] dense(units=10): ...``.
    """

    def __init__(self, place: str, problem: str, fix: str) -> None:
        super().__init__(place, problem, fix)
        self.places = [place]
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{' '.join(self.places)}: {self.problem}. {self.fix}"


class ShapeError(LayerError):
    """An array or an input shape of the wrong rank or size."""


def add_place(error: Exception, place: str) -> None:
    """Add a combinator's place to an error on its way outward; to a foreign error, as a note."""
    if isinstance(error, LayerError):
        error.places.insert(0, place)
    else:
        error.add_note(f"in {place}")


def check_input(settings: Described, x: Array, shape: tuple[int | None, ...], dtype: Any) -> None:
    """Raise unless `x` is a batch of examples of a shape (None: any size) and has the params' dtype."""
    if not isinstance(x, np.ndarray):
        check_array(settings, x, dtype)
    fits = x.ndim == len(shape) + 1
    if fits:
        for want, have in zip(shape, x.shape[1:], strict=True):  # runs for every layer at every step: no calls
            fits = fits and (want is None or want == have)
    if not fits:
        wanted = ", ".join(["n", *("any" if size is None else str(size) for size in shape)])
        raise ShapeError(
            repr(settings),
            f"expected an input of shape ({wanted}), got {x.shape}",
            "Pass a batch of examples of the shape that init was given",
        )
    if x.dtype != dtype:
        raise LayerError(
            repr(settings),
            f"expected an input of dtype {dtype} like the parameters, got {x.dtype}",
            f"Convert it: x.astype(np.{dtype})",
        )


def check_float(settings: Described, x: Array) -> None:
    """Raise unless `x` is an array of floats."""
    if not isinstance(x, np.ndarray):
        check_array(settings, x, np.dtype(np.float32))
    if x.dtype.kind != "f":
        raise LayerError(
            repr(settings), f"expected an input of floats, got dtype {x.dtype}", "Convert it: x.astype(np.float32)"
        )


def check_array(settings: Described, x: Array, dtype: Any) -> None:
    """Raise unless `x` is an array, and suggest a dtype."""
    if not isinstance(x, np.ndarray):
        raise LayerError(
            repr(settings), f"expected a NumPy array, got {type(x).__name__}", f"Convert it: np.asarray(x, np.{dtype})"
        )


def check_dy(settings: Described, dy: Array, shape: tuple[int, ...], dtype: Any = None) -> None:
    """Raise unless `dy` has the shape of the output that it is the gradient of (and its dtype, if that is known)."""
    if not isinstance(dy, np.ndarray):
        check_array(settings, dy, dtype or np.dtype(np.float32))
    if dy.shape != shape or (dtype is not None and dy.dtype != dtype):
        raise ShapeError(
            repr(settings),
            f"expected dy of shape {shape}{f' and dtype {dtype}' if dtype is not None else ''} like the output, "
            f"got {dy.shape} and {dy.dtype}",
            "Pass the gradient in this layer's own output, and the residuals of the same batch",
        )


def check_key(settings: Described, key: Key | None) -> Key:
    """The key, or an error that shows the corrected call."""
    if key is None:
        raise LayerError(
            repr(settings),
            "training draws random numbers and needs a key, got key=None",
            "Call apply(params, state, x, key=Key(0), train=True), with a fresh key for every step",
        )
    return key


def check_residuals(settings: Described, residuals: Any) -> Any:
    """The residuals, or an error that says how to get them."""
    if residuals is None:
        raise LayerError(
            repr(settings),
            "backward needs the residuals of a training pass, got None",
            "Call apply(params, state, x, key=key, train=True) and pass on its residuals",
        )
    return residuals

"""Weight initialisers: frozen values called as ``initialiser(key, shape, fan_in, fan_out, dtype)``.

`fan_in` and `fan_out` count the inputs that one output sums and the outputs that one input reaches: for a
dense layer its two sizes, for a convolution kernel area times channels. Draws are made in float64 and then
rounded, so a float32 net starts at the float64 net's values.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import DTypeLike

from funcnn.keys import Key, check_is_key, generator
from funcnn.settings import (
    Described,
    as_int,
    check_finite,
    check_positive,
    config,
    float_dtype,
    number,
    refuse,
    shown,
)
from funcnn.tree import Array, Shape

__all__ = [
    "Initializer", "constant", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "normal",
    "ones", "uniform", "zeros",
]  # fmt: skip


class Initializer(Described):
    """The base of initialisers: a subclass made by `config` has a `name`, settings, and says how to fill an array.

    docs/extending.md shows one of your own.
    """

    def __call__(self, key: Key, shape: Shape, fan_in: int, fan_out: int, dtype: DTypeLike = np.float32) -> Array:
        """A new read-only array of a shape.

        Raises TypeError for what is no key, ValueError for a shape or dtype that no weight can have, or unless `fill`
        gives an array of the shape.
        """
        check_is_key(self.name, key)
        if not (isinstance(shape, tuple) and all(type(as_int(size)) is int and size >= 0 for size in shape)):
            refuse(self.name, "shape", "a tuple of ints, none negative", shape)
        if float_dtype(dtype) is None:
            refuse(self.name, "dtype", "a float type such as np.float32", dtype)
        if _SHAPES_ONLY.get():
            return np.broadcast_to(np.zeros((), dtype), shape)
        filled = np.array(self.fill(key, shape, fan_in, fan_out), dtype=dtype, order="C")
        if filled.shape != shape:
            refuse(self.name, "what fill gives", f"an array of shape {shape}", filled)
        filled.flags.writeable = False
        return filled

    def fill(self, key: Key, shape: Shape, fan_in: int, fan_out: int) -> Array:
        """The array's values in float64."""
        raise TypeError(f"{type(self).__name__} does not define fill")


_SHAPES_ONLY = ContextVar("shapes_only", default=False)


@contextmanager
def shapes_only() -> Iterator[None]:
    """While the block runs, initialisers give zeros of the shape and dtype that are asked for, and take no memory.

    For what needs a net's structure alone, as a file's reader does before it knows that the file has such arrays.

    >>> with shapes_only():
    ...     ones()(Key(0), (10**9, 10**9), 1, 1).shape
    (1000000000, 1000000000)
    """
    token = _SHAPES_ONLY.set(True)
    try:
        yield
    finally:
        _SHAPES_ONLY.reset(token)


def zeros() -> Initializer:
    """All zeros: the usual start of a bias.

    >>> zeros()(Key(0), (2,), 1, 1)
    array([0., 0.], dtype=float32)
    """
    return _Zeros()


def ones() -> Initializer:
    """All ones.

    >>> ones()(Key(0), (2,), 1, 1)
    array([1., 1.], dtype=float32)
    """
    return _Ones()


def constant(value: float) -> Initializer:
    """All one finite value; ValueError for any other.

    >>> constant(0.5)(Key(0), (2,), 1, 1)
    array([0.5, 0.5], dtype=float32)
    """
    return _Constant(value)


def normal(stddev: float) -> Initializer:
    """Normal with mean 0 and the given standard deviation, whatever the fan; ValueError unless positive.

    >>> normal(0.01)(Key(0), (3, 2), 3, 2).shape
    (3, 2)
    """
    return _Normal(stddev)


def uniform(limit: float) -> Initializer:
    """Uniform on (-limit, limit), whatever the fan; ValueError unless the limit is positive.

    >>> float(abs(uniform(0.1)(Key(0), (100,), 1, 1)).max()) <= 0.1
    True
    """
    return _Uniform(limit)


def lecun_normal() -> Initializer:
    """Normal with variance 1 / fan_in, which keeps a linear layer's variance (LeCun et al. 1998).

    >>> lecun_normal()
    lecun_normal()
    """
    return _VarianceScaling("lecun_normal", 1.0, "in", "normal")


def he_normal() -> Initializer:
    """Normal with variance 2 / fan_in, which keeps the variance through relu (He et al. 2015, equation 10).

    >>> bool(abs(he_normal()(Key(0), (200, 100), 200, 100).std() - 0.1) < 0.01)
    True
    """
    return _VarianceScaling("he_normal", 2.0, "in", "normal")


def he_uniform() -> Initializer:
    """Uniform on ±sqrt(6 / fan_in): variance 2 / fan_in, as `he_normal` (He et al. 2015).

    >>> he_uniform()
    he_uniform()
    """
    return _VarianceScaling("he_uniform", 2.0, "in", "uniform")


def glorot_normal() -> Initializer:
    """Normal with variance 2 / (fan_in + fan_out) (Glorot & Bengio 2010, equation 12).

    >>> glorot_normal()
    glorot_normal()
    """
    return _VarianceScaling("glorot_normal", 1.0, "average", "normal")


def glorot_uniform() -> Initializer:
    """Uniform on ±sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, equation 16).

    >>> glorot_uniform()
    glorot_uniform()
    """
    return _VarianceScaling("glorot_uniform", 1.0, "average", "uniform")


# --- What they make -------------------------------------------------------------------------------------------


@config
class _Constant(Initializer):
    name: ClassVar[str] = "constant"
    value: float = number(check_finite)

    def fill(self, key: Key, shape: Shape, fan_in: int, fan_out: int) -> Array:
        return np.full(shape, self.value)


@config
class _Zeros(Initializer):
    name: ClassVar[str] = "zeros"

    def fill(self, key: Key, shape: Shape, fan_in: int, fan_out: int) -> Array:
        return np.zeros(shape)


@config
class _Ones(Initializer):
    name: ClassVar[str] = "ones"

    def fill(self, key: Key, shape: Shape, fan_in: int, fan_out: int) -> Array:
        return np.ones(shape)


@config
class _Normal(Initializer):
    name: ClassVar[str] = "normal"
    stddev: float = number(check_positive)

    def fill(self, key: Key, shape: Shape, fan_in: int, fan_out: int) -> Array:
        return self.stddev * generator(key).standard_normal(shape)


@config
class _Uniform(Initializer):
    name: ClassVar[str] = "uniform"
    limit: float = number(check_positive)

    def fill(self, key: Key, shape: Shape, fan_in: int, fan_out: int) -> Array:
        return generator(key).uniform(-self.limit, self.limit, shape)  # of variance limit² / 3


@config
class _VarianceScaling(Initializer):
    """Zero-mean draws of variance gain / fan; the initialisers named after people are its instances."""

    name: str  # type: ignore[misc]  # an instance's, where the other initialisers have one for the class
    gain: float
    fan: Literal["in", "average"]
    distribution: Literal["normal", "uniform"]

    def arguments(self) -> dict[str, Any]:
        return {}

    def fill(self, key: Key, shape: Shape, fan_in: int, fan_out: int) -> Array:
        fan = fan_in if self.fan == "in" else (fan_in + fan_out) / 2
        stddev = math.sqrt(self.gain / max(fan, 1))
        draws = _Normal(stddev) if self.distribution == "normal" else _Uniform(math.sqrt(3) * stddev)
        return draws.fill(key, shape, fan_in, fan_out)


def check_initializer(instance: Any, attribute: Any, value: Any) -> None:
    """The attrs validator of a setting that is an initialiser."""
    if not isinstance(value, Initializer):
        raise TypeError(
            f"{instance.name}: {attribute.name} must be an initialiser such as he_normal(), called, got {shown(value)}"
        )

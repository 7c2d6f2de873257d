"""Weight initialisers: frozen values called as ``initialiser(key, shape, fan_in, fan_out, dtype)``.

`fan_in` and `fan_out` count the inputs that one output sums and the outputs that one input reaches: for a
dense layer its two sizes, for a convolution kernel area times channels. Draws are made in float64 and then
rounded, so a float32 net starts at the float64 net's values.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Literal, get_args

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.keys import Key, check_is_key, generator
from funcnn.settings import (
    Described,
    as_int,
    check_choice,
    check_finite,
    check_positive,
    config,
    count,
    float_dtype,
    number,
    refuse,
    shown,
)
from funcnn.tree import Array, Shape

__all__ = [
    "Initializer", "constant", "dirac", "eye", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform",
    "lecun_normal", "lecun_uniform", "normal", "ones", "orthogonal", "truncated_normal", "uniform", "variance_scaling",
    "zeros",
]  # fmt: skip


Mode = Literal["fan_in", "fan_out", "fan_avg"]
Distribution = Literal["normal", "truncated_normal", "uniform"]


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


def truncated_normal(stddev: float) -> Initializer:
    """Normal with mean 0, draws beyond two deviations drawn again; ValueError unless the deviation is positive.

    `stddev` is that of what is left, which ends at ±2.27 · stddev; PyTorch's ``trunc_normal_`` is told the one before.

    >>> draws = truncated_normal(0.1)(Key(0), (1000,), 1, 1)
    >>> bool(abs(draws.std() - 0.1) < 0.01), bool(abs(draws).max() < 0.2274)
    (True, True)
    """
    return _TruncatedNormal(stddev)


def variance_scaling(
    scale: float = 1.0, *, mode: Mode = "fan_in", distribution: Distribution = "normal"
) -> Initializer:
    """Draws with mean 0 and variance scale / fan; the mean of both fans is `fan_avg`.

    Those named after LeCun, He and Glorot are its instances. With `fan_out` gradients keep theirs (He et al. 2015).

    >>> weight = variance_scaling(2.0, mode="fan_out")(Key(0), (100, 400), 100, 400)
    >>> bool(abs(weight.var() / (2 / 400) - 1) < 0.05)
    True

    Raises ValueError unless the scale is positive, or for another mode or distribution.
    """
    return _VarianceScaling(scale, mode, distribution)


def lecun_normal() -> Initializer:
    """Normal with variance 1 / fan_in, which keeps a linear layer's variance (LeCun et al. 1998).

    >>> lecun_normal()
    lecun_normal()
    """
    return _Named(1.0, "fan_in", "normal", "lecun_normal")


def lecun_uniform() -> Initializer:
    """Uniform on ±sqrt(3 / fan_in): variance 1 / fan_in, as `lecun_normal` (LeCun et al. 1998).

    >>> lecun_uniform()
    lecun_uniform()
    """
    return _Named(1.0, "fan_in", "uniform", "lecun_uniform")


def he_normal() -> Initializer:
    """Normal with variance 2 / fan_in, which keeps the variance through relu (He et al. 2015, equation 10).

    >>> bool(abs(he_normal()(Key(0), (200, 100), 200, 100).std() - 0.1) < 0.01)
    True
    """
    return _Named(2.0, "fan_in", "normal", "he_normal")


def he_uniform() -> Initializer:
    """Uniform on ±sqrt(6 / fan_in): variance 2 / fan_in, as `he_normal` (He et al. 2015).

    >>> he_uniform()
    he_uniform()
    """
    return _Named(2.0, "fan_in", "uniform", "he_uniform")


def glorot_normal() -> Initializer:
    """Normal with variance 2 / (fan_in + fan_out) (Glorot & Bengio 2010, equation 12).

    >>> glorot_normal()
    glorot_normal()
    """
    return _Named(1.0, "fan_avg", "normal", "glorot_normal")


def glorot_uniform() -> Initializer:
    """Uniform on ±sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, equation 16).

    >>> glorot_uniform()
    glorot_uniform()
    """
    return _Named(1.0, "fan_avg", "uniform", "glorot_uniform")


def orthogonal(gain: float = 1.0) -> Initializer:
    """gain times a matrix with orthonormal columns, or rows if it has fewer (Saxe et al. 2014).

    All axes but the last count as one: a convolution's outputs are columns. It is the Q of a normal matrix's QR
    decomposition with the signs of R's diagonal, without which not all such matrices are as likely (Mezzadri 2007).

    >>> weight = orthogonal()(Key(0), (5, 3), 5, 3)
    >>> bool(np.allclose(weight.T @ weight, np.eye(3), atol=1e-6))
    True

    Raises ValueError unless the gain is positive; called, for a shape of less than two axes.
    """
    return _Orthogonal(gain)


def eye(gain: float = 1.0) -> Initializer:
    """gain times the identity matrix, zeros in what is left of a matrix that is not square: a dense layer gives its x.

    Recurrent nets of relus that start so remember long (Le et al. 2015).

    >>> eye()(Key(0), (2, 3), 2, 3)
    array([[1., 0., 0.],
           [0., 1., 0.]], dtype=float32)

    Raises ValueError unless the gain is finite; called, for a shape that is not of two axes.
    """
    return _Eye(gain)


def dirac(groups: int = 1) -> Initializer:
    """A kernel (..., in / groups, out) with which a convolution gives its input (Zagoruyko & Komodakis 2017).

    It has a 1 in the middle, cell k // 2 of k, from each channel to its own, as many as there are on both sides; with
    `groups`, those of the layer, in each of them.

    >>> dirac()(Key(0), (3, 1, 2), 6, 6)[:, 0]
    array([[0., 0.],
           [1., 0.],
           [0., 0.]], dtype=float32)

    Raises ValueError unless `groups` is a positive int; called, for a shape of less than three axes, or outputs that
    cannot be divided among the groups.
    """
    return _Dirac(groups)


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


_TRUNCATED = 0.8796256610342397  # the deviation of a standard normal's draws that are within two of it


@config
class _TruncatedNormal(Initializer):
    name: ClassVar[str] = "truncated_normal"
    stddev: float = number(check_positive)

    def fill(self, key: Key, shape: Shape, fan_in: int, fan_out: int) -> Array:
        draw = generator(key)
        draws = draw.standard_normal(shape)
        flat = draws.reshape(-1)
        while (far := np.flatnonzero(abs(flat) > 2)).size:  # one in 22, and so on
            flat[far] = draw.standard_normal(far.size)
        return self.stddev / _TRUNCATED * draws


@config
class _VarianceScaling(Initializer):
    name: ClassVar[str] = "variance_scaling"
    scale: float = number(check_positive, default=1.0)
    mode: Mode = attrs.field(default="fan_in", validator=check_choice(*get_args(Mode)))
    distribution: Distribution = attrs.field(default="normal", validator=check_choice(*get_args(Distribution)))

    def fill(self, key: Key, shape: Shape, fan_in: int, fan_out: int) -> Array:
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(fan, 1))
        kinds = {"normal": _Normal(stddev), "truncated_normal": _TruncatedNormal(stddev)}
        draws = kinds.get(self.distribution, _Uniform(math.sqrt(3) * stddev))
        return draws.fill(key, shape, fan_in, fan_out)


@config
class _Named(_VarianceScaling):
    """An instance with the name of those who found it, which stands for its settings."""

    name: str = ""  # type: ignore[misc]  # an instance's, where the others have one for the class

    def arguments(self) -> dict[str, Any]:
        return {}


@config
class _Orthogonal(Initializer):
    name: ClassVar[str] = "orthogonal"
    gain: float = number(check_positive, default=1.0)

    def fill(self, key: Key, shape: Shape, fan_in: int, fan_out: int) -> Array:
        if len(shape) < 2:
            refuse(self.name, "shape", "one of a matrix or a kernel, with two axes or more", shape)
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, triangle = np.linalg.qr(generator(key).standard_normal((max(rows, columns), min(rows, columns))))
        q *= np.where(np.diag(triangle) < 0, -self.gain, self.gain)
        return (q if rows >= columns else q.T).reshape(shape)


@config
class _Eye(Initializer):
    name: ClassVar[str] = "eye"
    gain: float = number(check_finite, default=1.0)

    def fill(self, key: Key, shape: Shape, fan_in: int, fan_out: int) -> Array:
        if len(shape) != 2:
            refuse(self.name, "shape", "one of a matrix, with two axes", shape, "For a convolution use dirac()")
        return self.gain * np.eye(*shape)


@config
class _Dirac(Initializer):
    name: ClassVar[str] = "dirac"
    groups: int = count(default=1)

    def fill(self, key: Key, shape: Shape, fan_in: int, fan_out: int) -> Array:
        if len(shape) < 3 or shape[-1] % self.groups:
            refuse(self.name, "shape", f"a kernel's, (..., in, out), of outputs for {self.groups} equal groups", shape)
        kernel = np.zeros((*shape[:-1], self.groups, shape[-1] // self.groups))
        if kernel.size:
            kernel[tuple(size // 2 for size in shape[:-2])] = np.eye(shape[-2], kernel.shape[-1])[:, None]
        return kernel.reshape(shape)


def check_initializer(instance: Any, attribute: Any, value: Any) -> None:
    """The attrs validator of a setting that is an initialiser."""
    if not isinstance(value, Initializer):
        raise TypeError(
            f"{instance.name}: {attribute.name} must be an initialiser such as he_normal(), called, got {shown(value)}"
        )

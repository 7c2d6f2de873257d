"""Functions that NumPy lacks, step by step in place: each new array would leave the cache and be fetched again.

But for the sigmoid, each is a `Fill` (`funcnn.arrays.elementwise`): it writes y and, if it is given an array for that,
the slope dy/dx. Every one is finite, and raises no warning but that of underflow, over the whole range of floats.
"""

import math
from collections.abc import Sequence

import numpy as np

from funcnn.tree import Array

__all__ = ["erf_gelu", "hard_swish", "mish", "sigmoid_gate", "silu", "stable_sigmoid", "tanh_gelu", "tanh_shrink"]


_END = 40.0  # there 1 + exp(x) is exp(x) and exp(-x²/2) is 0 in every dtype, and no power of x overflows
_HALF_END = 11.0  # of float16, whose exp(x) overflows soon after


def stable_sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) = e / (1 + e), e = exp(min(x, 40)), or 11 in float16: accurate in both tails, never overflows.

    >>> stable_sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    y = np.empty_like(x)
    sigmoid_gate(x, y, None)
    return y


def sigmoid_gate(x: Array, y: Array, slope: Array | None) -> None:
    """y = sigmoid(x); slope = y · (1 - y)."""
    e = np.clip(x, -np.inf, _HALF_END if x.dtype.char == "e" else _END)
    np.exp(e, out=e)
    np.add(e, 1, out=y)
    np.divide(e, y, out=y)
    if slope is not None:
        np.subtract(1, y, out=slope)
        slope *= y


def silu(x: Array, y: Array, slope: Array | None) -> None:
    """y = x · s, s = sigmoid(x); slope = s + y · (1 - s)."""
    s = stable_sigmoid(x)
    np.multiply(x, s, out=y)
    if slope is not None:
        np.subtract(1, s, out=slope)
        slope *= y
        slope += s


def tanh_shrink(x: Array, y: Array, slope: Array | None) -> None:
    """y = x - tanh(x); slope = tanh(x)²."""
    t = np.tanh(x)
    np.subtract(x, t, out=y)
    if slope is not None:
        np.square(t, out=slope)


def hard_swish(x: Array, y: Array, slope: Array | None) -> None:
    """y = x · r, r = min(max(x/6 + 1/2, 0), 1); slope = r, and x/6 more where 0 < r < 1."""
    part = np.multiply(x, 1 / 6, out=slope)
    r = np.clip(part + 0.5, 0, 1)
    np.multiply(x, r, out=y)
    if slope is not None:
        inside = r > 0
        inside &= r < 1
        slope *= inside
        slope += r


# --- gelu by tanh ---------------------------------------------------------------------------------------------

_SLOPE = math.sqrt(2 / math.pi)
_CUBE = 0.044715


def tanh_gelu(x: Array, y: Array, slope: Array | None) -> None:
    """y = x · h, h = (1 + t) / 2, t = tanh(u), u = √(2/π) · (x + 0.044715 x³); slope = h · (1 + x · (1 - t) · du/dx).

    Beyond ±10, t is ±1 to the last bit, and x³ could overflow: there x is clipped.
    """
    near = np.clip(x, -10, 10)
    square = np.square(near)
    t = square * (_SLOPE * _CUBE)
    t += _SLOPE
    t *= near
    np.tanh(t, out=t)
    if slope is not None:
        square *= 3 * _SLOPE * _CUBE
        square += _SLOPE
        square *= near
        square *= np.subtract(1, t, out=near)
        square += 1
    t *= 0.5
    t += 0.5
    np.multiply(x, t, out=y)
    if slope is not None:
        np.multiply(square, t, out=slope)


# --- The exact gelu -------------------------------------------------------------------------------------------
#
# It takes the normal distribution Φ(x) = (1 + erf(x / √2)) / 2, of which Φ(-a) = exp(-a²/2) · P(a) / Q(a) for a >= 0.
# The rational function has no zero, no pole and no negative coefficient, so it loses no digit; it was fitted so that
# the largest error of Φ is least: 6e-8 for float32, 2e-17 for float64, in which each of its steps takes as long again.
# Far to the left, where 1 + erf has lost all digits, it keeps two and seven of them.

_DENSITY = 1 / math.sqrt(2 * math.pi)  # of the normal distribution at 0
_SINGLE = (
    (0.40590918854716874853, 2.1538936166206282243, 4.9946481436585550382),
    (5.6127862264263394008, 12.278176968569454433, 9.9892962873171100764),
)  # the coefficients of P and Q, the highest power first; that of Q is 1, and Q(0) = 2 P(0)
_DOUBLE = (
    (
        0.39894958074638970016, 7.9227227960160546768, 72.093057098758618335, 383.53183705039468881,
        1267.4157360090259757, 2501.3035697582895413, 2489.6242633270131032,
    ),
    (
        19.860078528671870881, 181.69509808667285244, 981.43630361131228171, 3353.6493480784354608,
        7206.5982726715356725, 8975.4726633342948247, 4979.2485266540262064,
    ),
)  # fmt: skip


def erf_gelu(x: Array, y: Array, slope: Array | None) -> None:
    """y = x · Φ(x), Φ(x) = h to the left and 1 - h to the right, h = Φ(-|x|); slope = Φ(x) + x · exp(-x²/2) / √(2π)."""
    h, bell = _normal_tail(x)
    h *= bell
    np.multiply(h, -2, out=y)
    y += 1
    y *= (x >= 0).astype(x.dtype)
    h += y  # Φ(x)
    np.multiply(x, h, out=y)
    if slope is not None:
        np.multiply(x, bell, out=slope)
        slope *= _DENSITY
        slope += h


def _normal_tail(x: Array) -> tuple[Array, Array]:
    """The factors of Φ(-|x|): P / Q, and exp(-x²/2)."""
    over, under = _SINGLE if x.dtype == np.float32 else _DOUBLE
    a = np.clip(x, -_END, _END)
    np.abs(a, out=a)
    share = a * over[0]
    share += over[1]
    _horner(share, a, over[2:])
    q = a + under[0]
    _horner(q, a, under[1:])
    share /= q
    bell = np.square(a, out=a)
    bell *= -0.5
    return share, np.exp(bell, out=bell)


def _horner(values: Array, x: Array, coefficients: Sequence[float]) -> None:
    """A polynomial's further coefficients, by Horner's rule."""
    for each in coefficients:
        values *= x
        values += each


# --- mish -----------------------------------------------------------------------------------------------------

_FLAT = 20.0  # beyond it mish is x to the last bit, and its slope 1


def mish(x: Array, y: Array, slope: Array | None) -> None:
    """y = x · t, t = tanh(log(1 + e)) = m / (m + 2), e = exp(x), m = e² + 2e.

    The slope is t + x · (1 - t²) · sigmoid(x) = (m + 4x · e (1 + e) / (m + 2)) / (m + 2).
    """
    near = np.clip(x, -np.inf, _FLAT)
    e = np.exp(near)
    m = e + 2
    m *= e
    below = m + 2
    np.divide(m, below, out=y)
    y *= x
    if slope is not None:
        np.add(e, 1, out=slope)
        slope *= e
        slope *= near
        slope *= 4
        slope /= below
        slope += m
        slope /= below

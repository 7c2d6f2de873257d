"""Rotary positions; the equations are in `funcnn.arrays.rotary`."""

from functools import lru_cache
from typing import Any

from funcnn.arrays.rotary import angle_tables
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["rotate", "rotate_back"]


def rotate(x: Array, *, offset: int = 0, base: float = 10000.0) -> Array:
    """Turn x (..., time, features) by its positions, which begin at `offset`."""
    return _turned(x, offset, base, 1)


def rotate_back(y: Array, *, offset: int = 0, base: float = 10000.0) -> Array:
    """Turn y the other way: the inverse of `rotate`, and its gradient."""
    return _turned(y, offset, base, -1)


def _turned(x: Array, offset: int, base: float, way: int) -> Array:
    xp, half = module_of(x), x.shape[-1] // 2
    cos, sin = _tables(xp, *x.shape[-2:], offset, float(base), x.dtype, way)
    exchanged = xp.concatenate([x[..., half:], x[..., :half]], axis=-1)
    return x * cos + exchanged * sin  # type: ignore[no-any-return]


@lru_cache(maxsize=64)  # each is a copy to the device
def _tables(xp: Any, *form: Any) -> tuple[Array, Array]:
    cos, sin = angle_tables(*form)
    return xp.asarray(cos), xp.asarray(sin)

"""Wild values: what a caller passes by mistake, and bytes that a disk or a stranger has changed."""

import gzip
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import Key, serial
from funcnn.data import Part, rescale
from funcnn.init import he_normal
from funcnn.layers import dense, max_pool2d, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import adam, sgd

__all__ = ["array", "choose", "mutated", "value"]

Rng = np.random.Generator

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 3, -1, 7, 2**31, 2**70, -(2**70), 0.0, -0.0, 0.5, 1.0, -1.5, 3.0, 1e-300, 1e300,
    math.inf, -math.inf, math.nan, 1j, "", "0.5", "same", "a", "π\x00", b"", b"abc", (), [], {}, set(), (1,), (2, 3),
    [2, 3], (2, 3, 1), (-1, 2), (2.5, 1), ("a", "b"), ((0, 1), (1, 0)), [[1, 2], [3]], {"name": "dense"}, {"a": 1},
    range(3), slice(None), object(), int, len, np.float32(0.5), np.float64(2), np.int64(3), np.bool_(True),
    np.array(2.0), np.array([1.0, 2.0]), np.zeros((0, 3)), np.zeros((2, 3), np.float32), np.array([0, 1]),
    np.array([None, "a"], object), np.dtype("float32"), np.float32, "float16", "int8", Key(0), dense(2), relu(), relu,
    serial(dense(3), relu()), max_pool2d(2), he_normal(), adam(1e-3), sgd(0.1), softmax_cross_entropy, rescale(255),
    Part(np.zeros((3, 2)), np.zeros(3, int)), iter([1, 2]), lambda *given: given, Ellipsis, NotImplemented,
    ValueError("a"), float, "x" * 1000, ("x",) * 50,
)  # fmt: skip

_DTYPES = ("f2", "f4", "f8", "f4", "f4", ">f4", "i1", "u1", "i8", "u2", "c8", "?", "O", "U3", "M8[s]")


def choose(rng: Rng, values: Any) -> Any:
    """One of some values."""
    return values[int(rng.integers(len(values)))]


def value(rng: Rng) -> Any:
    """Anything at all; a list or dictionary is always a new one."""
    found = choose(rng, _VALUES)
    return type(found)(found) if isinstance(found, (list, dict, set)) else found


def array(rng: Rng, shape: tuple[int, ...], dtype: str = "f4") -> Any:
    """An array that is nearly what is wanted: of a shape and dtype, but for something."""
    made: Any = rng.standard_normal(shape).astype(dtype)
    twist = int(rng.integers(16))
    if twist == 0:
        with np.errstate(all="ignore"):
            kind = str(choose(rng, _DTYPES))
            made = np.abs(made).astype("i8").astype(kind) if kind[0] in "MU" else made.astype(kind)
    elif twist == 1:
        made = made[..., None] if rng.integers(2) else made[None]
    elif twist == 2:
        made = made[0] if len(made) else made
    elif twist == 3:
        made = np.zeros([int(rng.integers(3)) for _ in range(int(rng.integers(6)))], dtype)
    elif twist == 4:
        made = np.asfortranarray(made)[::-1]
    elif twist == 5:
        made = made.tolist()
    elif twist == 6:
        made = np.ma.masked_greater(made, 0)
    elif twist == 7:
        made = made.reshape(len(made), -1).view(np.matrix) if made.size else made
    elif twist == 8:
        made = np.broadcast_to(made[:1], made.shape)
    elif twist == 9 and made.size:
        made.flat[int(rng.integers(made.size))] = choose(rng, (np.nan, np.inf, -np.inf, 1e20, 3e38, -9999))
    elif twist == 10:
        made = np.roll(made, 1, axis=0).T
    elif twist == 11:
        made = value(rng)
    return made


# --- Bytes ----------------------------------------------------------------------------------------------------

_JSON = (
    None, True, 0, -1, 10**9, 10**30, 1e400, 0.5, "", "x", "dense", [], {}, [[]], {"name": "dense"}, {"name": "serial"},
    "float32", "float99", ["a"] * 20, {"name": 3}, [1, "a", None], "../../x", "<script>", "\u202e\x1b[31m",
)  # fmt: skip


def mutated(rng: Rng, data: bytes) -> bytes:
    """Bytes, but for some: flipped, cut, inserted, repeated, swapped; or the JSON in them with other values."""
    for _ in range(int(rng.integers(1, 4))):
        how: Callable[[Rng, bytes], bytes] = choose(
            rng, (_flip, _cut, _insert, _repeat, _number, _text, _text, _wrapped)
        )
        data = how(rng, data)
    return data


def _place(rng: Rng, data: bytes) -> int:
    # Half of the time near the start, where headers are.
    return int(rng.integers(min(len(data), 64) if rng.integers(2) else len(data))) if data else 0


def _flip(rng: Rng, data: bytes) -> bytes:
    at, changed = _place(rng, data), bytearray(data)
    if changed:
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _cut(rng: Rng, data: bytes) -> bytes:
    return data[: _place(rng, data)]


def _insert(rng: Rng, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.bytes(int(rng.integers(1, 9))) + data[at:]


def _repeat(rng: Rng, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at : at + 50] * int(rng.integers(2, 20)) + data[at:]


def _number(rng: Rng, data: bytes) -> bytes:
    """Four bytes as another number, for sizes and counts in headers."""
    at = _place(rng, data)
    return data[:at] + int(choose(rng, (0, 1, 255, 2**16, 2**31 - 1, 2**32 - 1))).to_bytes(4, "big") + data[at + 4 :]


def _text(rng: Rng, data: bytes) -> bytes:
    """A value of the JSON that begins somewhere in the data, by another."""
    start = data.find(b"{")
    if start < 0:
        return _flip(rng, data)
    text = data[start:].decode("latin-1")
    try:
        tree, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return _flip(rng, data)
    tree = _other(rng, tree)
    if rng.integers(40) == 0:
        depth = 10 ** int(rng.integers(2, 6))
        return data[:start] + b"[" * depth + b"]" * depth
    new = json.dumps(tree).encode()
    if start == 8 and len(data) > 8:  # a safetensors file: the header's length, then the header
        return len(new).to_bytes(8, "little") + new + text[end:].encode("latin-1")
    return data[:start] + new + text[end:].encode("latin-1")


def _other(rng: Rng, tree: Any) -> Any:
    if isinstance(tree, str) and tree[:1] == "{":  # JSON within a text of JSON, as in a checkpoint's metadata
        try:
            return json.dumps(_other(rng, json.loads(tree)))
        except ValueError:
            return tree
    if not isinstance(tree, (dict, list)) or not tree or rng.integers(6) == 0:
        return choose(rng, _JSON)
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    key = choose(rng, keys)
    changed = dict(tree) if isinstance(tree, dict) else list(tree)
    if rng.integers(5) == 0:
        changed.pop(key)
    else:
        changed[key] = _other(rng, changed[key])
    return changed


def _wrapped(rng: Rng, data: bytes) -> bytes:
    """Compressed, or unpacked, or as something else."""
    if rng.integers(8):
        return _flip(rng, data)
    return choose(rng, (gzip.compress(data, 1), b"", b"\x00" * 100, data[::-1], b"PK\x03\x04" + data))  # type: ignore[no-any-return]

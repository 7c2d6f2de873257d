"""Explicit random keys.

A key is a seed and a path of words. The same key always gives the same draws; a different path gives independent ones.
Keys are derived (from the run's seed, a purpose, the step) and never carried along, so a run's position is its seed and
step number, and resuming is exact.

The generator is SFC64 seeded by ``numpy.random.SeedSequence(seed, spawn_key=path)``. `SeedSequence.spawn` is not used:
it counts its calls, which is hidden state.
"""

from typing import Any

import attrs
import numpy as np

from funcnn.settings import shown

__all__ = ["Key", "check_is_key", "fold_in", "generator", "split"]

_WORD_LIMIT = 2**32  # SeedSequence reads its spawn key as 32-bit words; larger ones could collide.
_MOST = 10**6  # keys from one split: some 200 MB


def _check_seed(instance: Any, attribute: Any, seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"Key: seed must be an int from 0 to 2**63 - 1, got {shown(seed)}")


def _check_path(instance: Any, attribute: Any, path: tuple[int, ...]) -> None:
    fits = type(path) is tuple
    for word in path if fits else ():
        fits = fits and type(word) is int and 0 <= word < _WORD_LIMIT
    if not fits:
        raise ValueError(
            f"Key: path must be a tuple of ints from 0 to 2**32 - 1, got {shown(path)}. Use fold_in to make it"
        )


@attrs.frozen
class Key:
    """A random key: a seed, and the words that were folded into it.

    A key is a value: what is given it twice draws the same twice. For other draws fold in another word, as training
    folds in the step.

    >>> Key(0)
    Key(seed=0, path=())

    Raises ValueError for a seed that is no int from 0 to 2**63 - 1, or a path that `fold_in` does not make.
    """

    seed: int = attrs.field(validator=_check_seed)
    path: tuple[int, ...] = attrs.field(default=(), validator=_check_path)


def check_is_key(place: str, key: Any) -> None:
    """Raise TypeError unless a place was given a key.

    >>> check_is_key("init", 5)
    Traceback (most recent call last):
    TypeError: init: key must be a Key, got 5. Pass Key(5)
    """
    if not isinstance(key, Key):
        whole = isinstance(key, int) and not isinstance(key, bool) and 0 <= key < 2**63
        raise TypeError(f"{place}: key must be a Key, got {shown(key)}. Pass Key({key if whole else 'seed'})")


def fold_in(key: Key, word: int | str) -> Key:
    """The key for a purpose (a string) or a position (an int from 0 to 2**32 - 1) below a key.

    >>> fold_in(Key(0), 7)
    Key(seed=0, path=(7,))
    >>> fold_in(Key(0), "dropout") == fold_in(Key(0), "dropout")
    True

    A string counts as the first 64 bits of its SHA-256, the same on every machine.
    Raises ValueError for an int out of range, TypeError for any other word and for what is no key.
    """
    check_is_key("fold_in", key)
    if isinstance(word, str):
        import hashlib  # here, since it takes longer to import than everything else in this file

        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        words = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little"))
        return Key(key.seed, key.path + words)
    if isinstance(word, (bool, np.bool_)) or not isinstance(word, (int, np.integer)):
        raise TypeError(f"fold_in: word must be an int or a str, got {shown(word)}")
    if not 0 <= word < _WORD_LIMIT:
        raise ValueError(f"fold_in: an int word must be from 0 to 2**32 - 1, got {shown(word)}")
    return Key(key.seed, (*key.path, int(word)))


def split(key: Key, n: int) -> tuple[Key, ...]:
    """`n` independent keys, at most a million: ``split(key, n)[i] == fold_in(key, i)``.

    >>> split(Key(0), 2)
    (Key(seed=0, path=(0,)), Key(seed=0, path=(1,)))

    Raises ValueError for any other `n`, TypeError for what is no key.
    """
    check_is_key("split", key)
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 0 <= n <= _MOST:
        raise ValueError(
            f"split: n must be an int from 0 to {_MOST:,}, got {shown(n)}. "
            "Take the i-th key where it is needed: fold_in(key, i)"
        )
    return tuple(fold_in(key, i) for i in range(n))


def generator(key: Key) -> "np.random.Generator":  # quoted: NumPy imports its random part when first asked for
    """A fresh NumPy generator for a key: the same key, the same draws.

    >>> generator(Key(0)).random() == generator(Key(0)).random()
    True

    Raises TypeError for what is no key.
    """
    check_is_key("generator", key)
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key.seed, spawn_key=key.path)))

"""The optimizers' arithmetic: each kernel against its formula, and updates over many leaves."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from cases import gaussian

from funcnn import tree
from funcnn.arrays import adaptive, updates
from funcnn.arrays.updates import over_leaves
from funcnn.layer import Array

# --- The updates ----------------------------------------------------------------------------------------------
#
# The formulas of their docstrings as one would write them down, with the same arguments.


def sgd(leaf: Array, g: Array, *, rate: float) -> tuple[Array, ...]:
    return (leaf - rate * g,)


def momentum(leaf: Array, g: Array, v: Array, *, rate: float, decay: float, nesterov: bool) -> tuple[Array, ...]:
    v = decay * v - rate * g
    return leaf + (decay * v - rate * g if nesterov else v), v


def rmsprop(leaf: Array, g: Array, c: Array, *, rate: float, decay: float, epsilon: float) -> tuple[Array, ...]:
    c = decay * c + (1 - decay) * g**2
    return leaf - rate * g / (np.sqrt(c) + epsilon), c


def adam(
    leaf: Array, g: Array, m: Array, v: Array, *,
    rate: float, b1: float, b2: float, epsilon: float, step: int, weight_decay: float,
) -> tuple[Array, ...]:  # fmt: skip
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
    m_hat, v_hat = m / (1 - b1 ** (step + 1)), v / (1 - b2 ** (step + 1))
    return leaf - rate * (m_hat / (np.sqrt(v_hat) + epsilon) + weight_decay * leaf), m, v


ADAM = {"rate": 0.1, "b1": 0.9, "b2": 0.8, "epsilon": 1e-3}
KERNELS = {  # name: (the kernel, the formula, how many moments they take, settings)
    "sgd": (updates.sgd_update, sgd, 0, {"rate": 0.1}),
    "momentum": (updates.momentum_update, momentum, 1, {"rate": 0.1, "decay": 0.9, "nesterov": False}),
    "nesterov": (updates.momentum_update, momentum, 1, {"rate": 0.1, "decay": 0.9, "nesterov": True}),
    "rmsprop": (adaptive.rmsprop_update, rmsprop, 1, {"rate": 0.1, "decay": 0.8, "epsilon": 1e-3}),
    "adam at the first step": (adaptive.adam_update, adam, 2, {**ADAM, "step": 0, "weight_decay": 0.0}),
    "adam with decay": (adaptive.adam_update, adam, 2, {**ADAM, "step": 6, "weight_decay": 0.5}),
}
every_kernel = pytest.mark.parametrize(("kernel", "formula", "moments", "settings"), KERNELS.values(), ids=KERNELS)


def row(moments: int, shape: tuple[int, ...], dtype: type = np.float64, seed: int = 0) -> tuple[Array, ...]:
    """A leaf, its gradient and its moments, which are positive as squares are."""
    leaf, gradient, *rest = (gaussian(shape, dtype, seed, i) for i in range(2 + moments))
    return leaf, gradient, *map(abs, rest)


@every_kernel
@pytest.mark.parametrize("shape", [(13,), (3, 4, 2), (), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_a_kernel_computes_its_formula(
    kernel: updates.Update, formula: updates.Update, moments: int, settings: dict[str, Any],
    shape: tuple[int, ...], dtype: type, rtol: float,
) -> None:  # fmt: skip
    arrays = row(moments, shape, dtype)
    before = [each.copy() for each in arrays]
    new, expected = kernel(*arrays, **settings), formula(*(each.astype(np.float64) for each in arrays), **settings)
    for have, want in zip(new, expected, strict=True):
        assert (have.dtype, have.shape) == (dtype, shape)
        np.testing.assert_allclose(have, want, rtol=rtol, atol=rtol)
        assert not any(np.shares_memory(have, each) for each in arrays)
    assert tree.equal(arrays, tuple(before))


# --- Over leaves ----------------------------------------------------------------------------------------------


def counted(update: updates.Update, calls: list[int]) -> updates.Update:
    """The update, which writes the size of what it is given into a list."""

    def call(leaf: Array, *others: Array) -> tuple[Array, ...]:
        calls.append(leaf.size)
        return update(leaf, *others)

    return call


@every_kernel
def test_joined_leaves_come_out_as_they_would_alone(
    kernel: updates.Update, formula: updates.Update, moments: int, settings: dict[str, Any]
) -> None:
    """Small leaves of one dtype and update share a call, and no bit differs; views of any layout may be given."""
    calls: list[int] = []
    one, other = (counted(partial(kernel, **{**settings, "rate": rate}), calls) for rate in (0.1, 0.2))
    large = updates._SMALL + 1
    given = [
        (one, row(moments, (3, 4), np.float32, 1)),
        (one, tuple(array.T for array in row(moments, (5, 2), np.float32, 2))),
        (one, row(moments, (large,), np.float32, 3)),
        (other, row(moments, (7,), np.float32, 4)),
        (one, row(moments, (6,), np.float64, 5)),
        (other, row(moments, (), np.float32, 6)),
        (one, row(moments, (0, 2), np.float32, 7)),
    ]
    the_updates, rows = zip(*given, strict=True)
    joined = over_leaves(the_updates, rows, join=True)
    assert calls == [12 + 10 + 0, large, 7 + 1, 6]
    alone = over_leaves(the_updates, rows)
    assert calls[4:] == [12, 10, large, 7, 6, 1, 0]
    assert tree.equal(tuple(map(tuple, joined)), tuple(map(tuple, alone)))
    assert not any(array.flags.writeable for result in (*joined, *alone) for array in result)


def test_results_are_the_leafs_own_kind_of_array() -> None:
    """An update may give back what it was given, NumPy's scalars, or another dtype; the arguments stay writable."""

    def halve(leaf: Array, gradient: Array) -> tuple[Array]:
        return (leaf * np.float64(0.5),)

    def keep(leaf: Array, gradient: Array) -> tuple[Array]:
        return (leaf,)

    leaf, scalar = np.ones(3, np.float32), np.array(2.0)
    (half,), (kept,), (small,) = over_leaves([halve, keep, halve], [(leaf, leaf), (leaf, leaf), (scalar, scalar)])
    assert (half.dtype, half.tolist(), kept.tolist()) == (np.float32, [0.5] * 3, [1.0] * 3)
    assert type(small) is np.ndarray
    assert (leaf.flags.writeable, kept.flags.writeable) == (True, False)


@pytest.mark.parametrize(
    ("update", "got"),
    [
        (lambda leaf, g, m: leaf, "ndarray"),
        (lambda leaf, g, m: [leaf, m], "list"),
        (lambda leaf, g, m: None, "NoneType"),
        (lambda leaf, g, m: (leaf,), "shapes [(2, 3)]"),
        (lambda leaf, g, m: (leaf, m.sum()), "shapes [(2, 3), ()]"),
        (lambda leaf, g, m: (leaf.T, m), "shapes [(3, 2), (2, 3)]"),
    ],
)
def test_an_update_that_returns_something_else_is_told_what_it_must_return(
    update: Callable[..., Any], got: str
) -> None:
    with pytest.raises(TypeError) as raised:
        over_leaves([update], [(np.ones((2, 3)),) * 3])
    assert str(raised.value) == (
        "update_leaves: expected update(leaf, gradient, *moments) to return (leaf, *moments), a tuple of arrays of "
        f"shapes [(2, 3), (2, 3)], got {got}"
    )


# --- What is small, and float16 -------------------------------------------------------------------------------


@every_kernel
def test_leaves_of_float16_are_updated_in_float32_and_so_are_moments_kept(
    kernel: updates.Update, formula: updates.Update, moments: int, settings: dict[str, Any]
) -> None:
    leaf, gradient, *its_moments = row(moments, (7,))
    given = leaf.astype(np.float16), (1e-4 * gradient).astype(np.float16), *(m.astype(np.float32) for m in its_moments)
    ((new, *kept),) = over_leaves([partial(kernel, **settings)], [given])
    expected, *expected_kept = formula(*(each.astype(np.float64) for each in given), **settings)
    assert (new.dtype, [each.dtype for each in kept]) == (np.float16, [np.float32] * moments)
    np.testing.assert_allclose(new, expected, rtol=2e-3)
    for have, want in zip(kept, expected_kept, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_epsilon_that_a_dtype_has_not_is_no_division_of_zero_by_zero(dtype: type) -> None:
    nothing = np.zeros(3, dtype)
    moment = np.zeros(3, updates.moment_dtype(nothing))
    for update, count in ((adaptive.rmsprop_update, 1), (partial(adaptive.adam_update, b1=0.9, b2=0.99, step=0), 2)):
        decay = {"decay": 0.9} if count == 1 else {}
        its_update = partial(update, rate=0.1, epsilon=1e-320, **decay)
        with np.errstate(all="raise"):
            ((new, *_),) = over_leaves([its_update], [(np.ones(3, dtype), nothing, *[moment] * count)])
        assert new.tolist() == [1.0] * 3

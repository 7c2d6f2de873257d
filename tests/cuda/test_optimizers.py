"""The GPU's updates of all leaves at once, on a GPU or emulated: the bits of the host's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import standin

from funcnn.arrays import adaptive, updates
from funcnn.arrays.cuda.optimizers import fits
from funcnn.layer import Array
from tests.cuda.device import OnDevice

pytestmark = pytest.mark.usefixtures("_there")
optimizers = OnDevice("optimizers")

SHAPES = [(3, 3, 2, 4), (4,), (), (0, 5), (5000,), (1,)]

ADAM = {"rate": 0.01, "b1": 0.9, "b2": 0.999, "epsilon": 1e-8}


def rows(shapes: list[tuple[int, ...]], moments: int, dtype: type) -> list[tuple[Array, ...]]:
    rng = np.random.default_rng(0)
    made = [[np.array(rng.standard_normal(shape), dtype) for _ in range(2 + moments)] for shape in shapes]
    return [(*row[:-1], np.asarray(np.abs(row[-1]))) for row in made]  # the last is Adam's mean of squares


def check(
    have: list[list[Array]], update: Callable[..., tuple[Array, ...]], leaves: list[tuple[Array, ...]], **settings: Any
) -> None:
    assert len(have) == len(leaves)
    for got, row in zip(have, leaves, strict=True):
        for one, other in zip(got, update(*row, **settings), strict=True):
            assert one.shape == row[0].shape
            np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shapes", [SHAPES, SHAPES * 10], ids=["few", "more than a table"])
def test_adam(shapes: list[tuple[int, ...]], dtype: type) -> None:
    leaves = rows(shapes, 2, dtype)
    assert optimizers.fits(leaves[0][0], leaves)
    settings = {**ADAM, "step": 3}
    check(optimizers.adam(leaves, **settings), adaptive.adam_update, leaves, **settings)
    settings["weight_decay"] = 0.1
    check(optimizers.adam(leaves, **settings), adaptive.adam_update, leaves, **settings)


def test_each_leaf_has_a_decay_of_its_own() -> None:
    leaves, settings = rows([(3,), (4,)], 2, np.float32), {**ADAM, "step": 0}
    made = optimizers.adam(leaves, **settings, weight_decay=[0.1, 0.0])
    check(made[:1], adaptive.adam_update, leaves[:1], **settings, weight_decay=0.1)
    check(made[1:], adaptive.adam_update, leaves[1:], **settings)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum(nesterov: bool) -> None:
    leaves, settings = rows(SHAPES, 1, np.float32), {"rate": 0.1, "decay": 0.9, "nesterov": nesterov}
    check(optimizers.momentum(leaves, **settings), updates.momentum_update, leaves, **settings)


def test_sgd() -> None:
    leaves = rows(SHAPES, 0, np.float32)
    check(optimizers.sgd(leaves, rate=0.1), updates.sgd_update, leaves, rate=0.1)
    check(optimizers.sgd(leaves[3:4], rate=0.1), updates.sgd_update, leaves[3:4], rate=0.1)


def test_what_is_not_for_the_kernels() -> None:
    one, other = np.ones(3, np.float32), np.ones(3)
    assert optimizers.module.fits(one, [(one, one)])
    assert not optimizers.module.fits(one, [(one, other)])
    assert not optimizers.module.fits(np, [(np.ones(3, np.float16),) * 2])
    assert not optimizers.module.fits(np, [(np.ones((3, 3))[:, 0],) * 2])


def test_rows_of_both_kinds_do_not_fit() -> None:
    leaf = np.ones(3, np.float32)
    there = standin.asarray(leaf)
    assert fits(there, [(there, there), (there, there)])
    for row in ((there, leaf), (leaf, there)):
        assert not fits(there, [(there, there), row])

"""Every layer, loss, optimizer and transform on a GPU: what it gives on the CPU, in float32 and float64."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from cases import CASES, Case, ready
from gpu.there import moved
from optimizer_cases import OPTIMIZERS, TRANSFORMS
from test_losses import CASES as LOSSES
from test_losses import Case as LossCase
from test_losses import class_numbers, gaussian

from funcnn import tree
from funcnn.device import to_host
from funcnn.losses import multiclass_hinge, softmax_cross_entropy
from funcnn.optimizers import Optimizer, Transform
from funcnn.system.devices import is_device_array

RTOL = {np.float64: 1e-11, np.float32: 1e-5}
HOST_ONLY = {"ctc"}  # refused by name

every_dtype = pytest.mark.parametrize("dtype", RTOL)


def assert_there_and_near(made: Any, wanted: Any, rtol: float) -> None:
    """Assert that a tree is on the device, and agrees with one of the host to `rtol` of the largest value there is.

    Of the whole tree's, since some leaves are zero but for rounding, as the gradient of a bias before batch norm.
    """
    arrays = [leaf for leaf in tree.flatten(made) if hasattr(leaf, "dtype")]
    assert all(map(is_device_array, arrays))
    tree.check_like(wanted, made, ("the CPU's", "the device's"), shapes=True)
    largest = max([float(np.abs(leaf).max(initial=0)) for leaf in tree.flatten(wanted)], default=0.0)
    for path, have, want in zip(tree.paths(wanted), tree.flatten(to_host(made)), tree.flatten(wanted), strict=True):
        assert np.asarray(have).dtype == np.asarray(want).dtype, path
        np.testing.assert_allclose(have, want, rtol=0, atol=rtol * largest, err_msg=f"at {path!r}")


@every_dtype
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layers(case: Case, dtype: type) -> None:
    here = ready(case, dtype)
    there = type(here)(here.layer, *moved((here.params, here.state, here.x, here.dy)))
    evaluated, wanted = (each.layer.apply(each.params, each.state, each.x).y for each in (there, here))
    assert_there_and_near(evaluated, wanted, RTOL[dtype])
    for one, other in zip(
        (*there.train()[:2], tuple(there.gradients())), (*here.train()[:2], here.gradients()), strict=True
    ):
        assert_there_and_near(one, tuple(other) if isinstance(one, tuple) else other, RTOL[dtype])


@every_dtype
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layers_give_the_same_bits_each_time(case: Case, dtype: type) -> None:
    here = ready(case, dtype)
    there = type(here)(here.layer, *moved((here.params, here.state, here.x, here.dy)))
    once, again = ((*there.train()[:2], tuple(there.gradients())) for _ in range(2))
    assert tree.equal(once, again)


@every_dtype
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("case", [case for case in LOSSES if case.name not in HOST_ONLY], ids=str)
def test_losses(case: LossCase, dtype: type, weighed: bool) -> None:
    outputs = case.outputs.astype(dtype)
    weights = (np.arange(len(outputs)) % 3 / 2,) if weighed else ()
    arguments = (outputs, case.targets, *weights)
    made, wanted = case.loss(*moved(arguments)), case.loss(*arguments)
    assert_there_and_near(tuple(made), tuple(map(np.asarray, wanted)), RTOL[dtype])


@pytest.mark.parametrize(
    "loss",
    [
        partial(softmax_cross_entropy, ignore=0), partial(softmax_cross_entropy, class_weights=[0.0, 1.0, 2.0, 3.0]),
        partial(multiclass_hinge, ignore=1), partial(softmax_cross_entropy, reduction="none"),
    ],
    ids=str,
)  # fmt: skip
def test_options_of_losses(loss: Any) -> None:
    arguments = gaussian(7, 4), class_numbers(7, 4)
    made, wanted = loss(*moved(arguments)), loss(*arguments)
    assert_there_and_near(tuple(made), tuple(map(np.asarray, wanted)), 1e-11)


def drawn(seed: int, dtype: type) -> Any:
    draw = np.random.default_rng(seed)
    shapes = ((3, 4), (4,)), ((4, 2), (2,))
    return *(tuple(draw.normal(size=shape).astype(dtype) for shape in pair) for pair in shapes), None


@every_dtype
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_optimizers(optimizer: Optimizer, dtype: type) -> None:
    params = drawn(0, dtype)
    state = optimizer.init(params)
    its_params, its_state = moved((params, state))
    for step in range(4):
        grads = drawn(step + 1, dtype)
        params, state = optimizer.update(grads, state, params, step)
        its_params, its_state = optimizer.update(moved(grads), its_state, its_params, step)
    assert_there_and_near(its_params, params, RTOL[dtype])


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_transforms(transform: Transform) -> None:
    params, grads = drawn(0, np.float32), drawn(1, np.float32)
    made, _ = transform.update(grads, transform.init(params), params, 0)
    its_params, its_grads = moved((params, grads))
    its_made, _ = transform.update(its_grads, transform.init(its_params), its_params, 0)
    assert_there_and_near(its_made, made, 1e-5)

"""Every optimizer and transform on a device's arrays, the stand-in's: the trajectory of the host."""

import numpy as np
import pytest
import standin
from cases import assert_close
from optimizer_cases import OPTIMIZERS, TRANSFORMS

from funcnn import tree
from funcnn.device import to_device, to_host
from funcnn.optimizers import Optimizer, Transform
from funcnn.system.devices import register
from funcnn.tree import node

register("standin", standin)

RTOL = {np.float64: 1e-12, np.float32: 1e-5, np.float16: 1e-2}
WAITING = {"plateau", "drop_below", "schedule_free_sgd", "schedule_free_adamw"}  # their states have numbers to read


@node
class Params:
    weight: np.ndarray
    bias: np.ndarray


def drawn(seed: int, dtype: type) -> tuple[Params, Params, None]:
    draw = np.random.default_rng(seed)
    shapes = ((3, 4), (4,)), ((4, 2), (2,))
    return *(Params(*[draw.normal(size=shape).astype(dtype) for shape in pair]) for pair in shapes), None


def names(rule: Optimizer | Transform) -> set[str]:
    return {rule.name}.union(*map(names, rule.parts))


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("dtype", RTOL)
def test_takes_the_steps_of_the_host(optimizer: Optimizer, dtype: type) -> None:
    params = drawn(0, dtype)
    state = optimizer.init(params)
    its_params, its_state = to_device((params, state), "standin")
    for step in range(4):
        grads = drawn(step + 1, dtype)
        params, state = optimizer.update(grads, state, params, step)
        its_grads = to_device(grads, "standin")
        with standin.synchronisations() as waits:
            its_params, its_state = optimizer.update(its_grads, its_state, its_params, step)
        assert waits == [] or names(optimizer) & WAITING
    assert_close(to_host(its_params), params, RTOL[dtype])
    assert_close(to_host(its_state), state, RTOL[dtype])


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_transforms_as_the_host(transform: Transform) -> None:
    params, grads = drawn(0, np.float32), drawn(1, np.float32)
    made, _ = transform.update(grads, transform.init(params), params, 0)
    its_params, its_grads = to_device((params, grads), "standin")
    with standin.synchronisations() as waits:
        its_made, _ = transform.update(its_grads, transform.init(its_params), its_params, 0)
    assert waits == []
    assert_close(to_host(its_made), made, 1e-6)
    assert [leaf.dtype for leaf in tree.flatten(its_made)] == [leaf.dtype for leaf in tree.flatten(made)]

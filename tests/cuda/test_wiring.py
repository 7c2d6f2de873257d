"""Every layer and every optimizer with the kernels in place, on the stand-in's arrays, by emulation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import standin
from cases import CASES, Case, assert_close, ready
from optimizer_cases import OPTIMIZERS

from funcnn import serial, tree
from funcnn.arrays import seam
from funcnn.arrays.threads import single_thread
from funcnn.device import to_device, to_host
from funcnn.layers import (
    avg_pool2d,
    batch_norm,
    conv2d,
    dropout,
    flatten,
    gelu,
    layer_norm,
    max_pool2d,
    relu,
)
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import Optimizer
from funcnn.system.devices import is_device_array, module_of, register
from tests.cuda.device import GPU

pytestmark = [pytest.mark.usefixtures("_there"), pytest.mark.skipif(GPU is not None, reason="tests/gpu does so")]
register("standin", standin)


class Emulated:
    """A module of `funcnn.arrays.cuda` for the stand-in's arrays: what it computes with are the host's."""

    def __init__(self, module: Any, used: set[str]) -> None:
        self.module, self.used = module, used

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.module, name)
        if not callable(value):
            return value

        def called(*arguments: Any, **options: Any) -> Any:
            self.used.add(f"{self.module.__name__.rpartition('.')[2]}.{name}")
            made = value(*_each(lambda array: module_of(array).asnumpy(array), arguments), **options)
            return _each(standin.asarray, made)

        return called


def _each(function: Any, value: Any) -> Any:
    if is_device_array(value) or isinstance(value, np.ndarray):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[_each(function, part) for part in value])
    return type(value)(_each(function, part) for part in value) if isinstance(value, tuple | list) else value


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The kernels in place; which of them were used."""
    names: set[str] = set()
    plain = seam._cuda_module
    monkeypatch.setattr(seam, "_cuda_module", lambda name: Emulated(plain(name), names))
    monkeypatch.setattr(standin, "__name__", "cupy")
    with single_thread():  # the emulation knows of no other
        yield names


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layers(case: Case, used: set[str]) -> None:
    here = ready(case, np.float32)
    there = type(here)(here.layer, *to_device((here.params, here.state, here.x, here.dy), "standin"))
    got = there.layer.apply(there.params, there.state, there.x).y, *there.train()[:2], tuple(there.gradients())
    wanted = here.layer.apply(here.params, here.state, here.x).y, *here.train()[:2], tuple(here.gradients())
    for one, other in zip(map(to_host, got), wanted, strict=True):
        tree.check_like(other, one, shapes=True)
        largest = max([float(np.abs(leaf).max(initial=0)) for leaf in tree.flatten(other)], default=0.0)
        for a, b in zip(tree.flatten(one), tree.flatten(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * largest, strict=True)


def test_the_kernels_are_used(used: set[str]) -> None:
    net = serial(
        conv2d(4, 3), batch_norm(), relu(), max_pool2d(2), dropout(0.5), avg_pool2d(2), layer_norm(), gelu(), flatten()
    )
    there = ready(Case(net, (9, 9, 2)), np.float32)
    there = type(there)(net, *to_device(tuple(there)[1:], "standin"))
    there.gradients()
    functions = {
        "convolution": ("conv_forward", "conv_weight_gradient", "conv_input_gradient"),
        "norms": ("statistics", "normalize", "normalize_back"),
        "row_norms": ("normalize_rows", "normalize_rows_back"),
        "pooling": ("max_pool_forward", "max_pool_backward", "avg_pool_forward", "avg_pool_backward"),
        "elementwise": ("activate", "activate_back", "masked"),
    }
    assert {f"{module}.{name}" for module, names in functions.items() for name in names} <= used


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_optimizers(optimizer: Optimizer, used: set[str]) -> None:
    rng = np.random.default_rng(0)
    params, *grads = [
        tuple([rng.normal(size=shape).astype(np.float32) for shape in ((3, 4), (4,), (4, 2))]) for _ in "0123"
    ]
    state = optimizer.init(params)
    its_params, its_state = to_device((params, state), "standin")
    for step, each in enumerate(grads):
        params, state = optimizer.update(each, state, params, step)
        its_params, its_state = optimizer.update(to_device(each, "standin"), its_state, its_params, step)
    assert_close(to_host(its_params), params, 1e-5)
    if optimizer.name in ("sgd", "momentum", "adam", "adamw") and not getattr(optimizer.config, "amsgrad", False):
        assert used & {"optimizers.sgd", "optimizers.momentum", "optimizers.adam"}


def test_cross_entropy(used: set[str]) -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(7, 5)).astype(np.float32), rng.integers(5, size=7)
    made = softmax_cross_entropy(*to_device((logits, labels), "standin"), label_smoothing=0.1)
    assert_close(
        tuple(map(np.asarray, to_host(made))),
        tuple(map(np.asarray, softmax_cross_entropy(logits, labels, label_smoothing=0.1))),
        1e-6,
    )
    assert "losses.cross_entropy" in used

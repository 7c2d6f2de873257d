"""A training on a GPU: the CPU's but for rounding, the same bits each time, and resumed to the bit from a file."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import assert_close
from gpu.there import DEVICE, moved

from funcnn import Key, checkpoint, serial, tree
from funcnn.data import load, shifted_crop
from funcnn.device import device_of_tree, to_host
from funcnn.layers import batch_norm, conv2d, dense, dropout, flatten, max_pool2d, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.models import gpt
from funcnn.optimizers import adam, adamw, averaged, chain, clip_by_global_norm, lbfgs, muon, weights_only
from funcnn.train import Epoch, Problem, TrainState, evaluate, init_state, make_step, predict, train

DATA = load("digits").thin(640, 200)
NET = serial(
    conv2d(16, 3, padding="same", use_bias=False), batch_norm(), relu(), max_pool2d(2),
    conv2d(32, 3, padding="same"), relu(), dropout(0.25), flatten(), dense(10),
)  # fmt: skip
PROBLEM = Problem(
    NET, partial(softmax_cross_entropy, label_smoothing=0.1), adam(3e-3), augment=(partial(shifted_crop, pad=1),)
)


def begun() -> TrainState:
    return init_state(PROBLEM, Key(0), DATA.in_shape)


def epochs(state: TrainState, number: int) -> list[Epoch]:
    events = train(PROBLEM, state, DATA, epochs=number, batch_size=64)
    return [event for event in events if isinstance(event, Epoch)]


@pytest.fixture(scope="module")
def both() -> tuple[list[Epoch], list[Epoch]]:
    """The epochs of the GPU, and of the CPU."""
    return epochs(moved(begun()), 3), epochs(begun(), 3)


def test_it_is_the_cpus_but_for_rounding(both: tuple[list[Epoch], list[Epoch]]) -> None:
    for there, here in zip(*both, strict=True):
        assert device_of_tree((there.state.params, there.state.state)) == DEVICE
        assert there.validation is not None
        assert here.validation is not None
        # Rounding grows from step to step: Adam divides by roots of squares that may be tiny.
        assert there.train.loss == pytest.approx(here.train.loss, rel=1e-3)
        assert there.validation.loss == pytest.approx(here.validation.loss, rel=1e-2)
    assert both[0][-1].train.accuracy == pytest.approx(both[1][-1].train.accuracy, abs=0.02)


def test_one_step_is_the_cpus() -> None:
    batch = DATA.train.take(slice(0, 64))
    there, here = (make_step(PROBLEM)(state, batch) for state in (moved(begun()), begun()))
    assert there[1].loss == pytest.approx(here[1].loss, rel=1e-5)
    assert_close(to_host(there[0].params), here[0].params, 1e-4)  # Adam's first step is as long as the rate


def test_the_same_bits_each_time(both: tuple[list[Epoch], list[Epoch]]) -> None:
    assert tree.equal(epochs(moved(begun()), 3)[-1].state, both[0][-1].state)


def test_it_is_resumed_to_the_bit(both: tuple[list[Epoch], list[Epoch]], tmp_path: Path) -> None:
    there = both[0]
    checkpoint.save(tmp_path / "state", there[0].state)
    again = epochs(checkpoint.load(tmp_path / "state", moved(begun())), 3)[-1]
    assert tree.equal(again.state, there[-1].state)


def test_it_goes_on_on_the_cpu_and_back(both: tuple[list[Epoch], list[Epoch]], tmp_path: Path) -> None:
    for first, start in zip(both, (begun(), moved(begun())), strict=True):
        checkpoint.save(tmp_path / "state", first[0].state)
        goes_on = epochs(checkpoint.load(tmp_path / "state", start), 2)[-1]
        assert goes_on.train.loss == pytest.approx(first[1].train.loss, rel=1e-3)


def test_it_evaluates_and_predicts(both: tuple[list[Epoch], list[Epoch]]) -> None:
    state = both[1][-1].state
    images = DATA.test.take(slice(0, 100))[0]
    assert_close(predict(NET, moved(state), images, batch_size=32), predict(NET, state, images, batch_size=32), 1e-5)
    found, wanted = evaluate(PROBLEM, moved(state), DATA.test), evaluate(PROBLEM, state, DATA.test)
    assert found.loss == pytest.approx(wanted.loss, rel=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        chain(clip_by_global_norm(1.0), adamw(1e-3, weight_decay=0.1, mask=weights_only)),
        averaged(adam(1e-3)), muon(1e-2), lbfgs(),
    ],
    ids=repr,
)  # fmt: skip
def test_a_transformer_takes_the_cpus_steps(optimizer: Any) -> None:
    draw = np.random.default_rng(0)
    texts = draw.integers(0, 11, (4, 9))
    problem = Problem(gpt(11, 8, layers=2, heads=2, features=16), softmax_cross_entropy, optimizer)
    here = init_state(problem, Key(0), (8,), np.float64)
    there = moved(here)
    for _ in range(3):
        (here, one), (there, other) = (
            make_step(problem)(each, (texts[:, :-1], texts[:, 1:])) for each in (here, there)
        )
        assert one.loss == pytest.approx(other.loss, rel=1e-9)
    assert_close(to_host(there.params), here.params, 1e-7)

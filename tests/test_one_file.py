"""docs/learn/one_file.py computes what funcnn does, and the page about it quotes all of it."""

import importlib.util
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from funcnn import Key, fold_in, generator, serial, tree
from funcnn.data import load
from funcnn.layer import Layer
from funcnn.layers import conv2d, dense, flatten, max_pool2d, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import adam
from funcnn.train import Problem, TrainState, make_step

LEARN = Path(__file__).parents[1] / "docs" / "learn"
FILE, PAGE = LEARN / "one_file.py", LEARN / "03_one_file.md"


@pytest.fixture(scope="module")
def one_file() -> ModuleType:
    spec = importlib.util.spec_from_file_location("one_file", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_tuples(value: Any) -> Any:
    """A tree of funcnn's with a tuple for each node."""
    if value is None or isinstance(value, np.ndarray):
        return value
    names = () if isinstance(value, tuple) else type(value).__tree_fields__
    return tuple(map(as_tuples, value if isinstance(value, tuple) else [getattr(value, name) for name in names]))


def deviation(its: Any, ours: Any) -> float:
    """How far two trees of the same leaves are apart, as a share of the largest number in a leaf."""
    pairs = list(zip(tree.flatten(its), tree.flatten(ours), strict=True))
    assert pairs
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


# Each net, made of the layers of either.
FUNCNN = SimpleNamespace(
    serial=serial, dense=dense, relu=relu, flatten=flatten, conv2d=conv2d, max_pool2d=partial(max_pool2d, 2)
)
NETS = {
    "dense": lambda its: its.serial(its.flatten(), its.dense(32), its.relu(), its.dense(10)),
    "convolution": lambda its: its.serial(
        its.conv2d(8, 3), its.max_pool2d(), its.conv2d(16, 2), its.relu(), its.max_pool2d(), its.flatten(),
        its.dense(32), its.relu(), its.dense(10),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_a_hundred_steps_agree(one_file: ModuleType, name: str) -> None:
    net, its_net = NETS[name](FUNCNN), NETS[name](one_file)
    inputs, labels = load("digits").train.take(slice(None))
    inputs = inputs.astype(np.float64)
    problem = Problem(net, softmax_cross_entropy, adam(3e-3))
    params, state, out_shape = net.init(Key(0), (8, 8, 1), np.float64)
    assert its_net.init((0,), (8, 8, 1))[1] == out_shape
    run = TrainState(params, state, problem.optimizer.init(params), 0, 0)
    its_optimizer = one_file.adam(3e-3)
    its_run = one_file.State(as_tuples(params), its_optimizer.init(as_tuples(params)), 0, 0)
    step = make_step(problem)
    losses = []
    for i in range(100):
        batch = generator(fold_in(Key(1), i)).choice(len(inputs), 64, replace=False)
        run, metrics = step(run, (inputs[batch], labels[batch]))
        its_run, loss = one_file.train_step(its_net, its_optimizer, its_run, (inputs[batch], labels[batch]))
        assert abs(loss - metrics.loss) < 1e-9
        losses.append(loss)
    assert losses[-1] < losses[0] / 2  # it has learned
    assert deviation(its_run.params, run.params) < 1e-9
    assert deviation(its_run.opt_state, run.opt_state) < 1e-9
    logits = net.apply(run.params, run.state, inputs[:50]).y
    assert deviation(its_net.apply(its_run.params, inputs[:50])[0], logits) < 1e-9


@pytest.mark.parametrize("name", NETS)
def test_gradients_agree(one_file: ModuleType, name: str) -> None:
    net, its_net = NETS[name](FUNCNN), NETS[name](one_file)
    draw = np.random.default_rng(0)
    x, dy = draw.standard_normal((5, 8, 8, 1)), draw.standard_normal((5, 10))
    params, state, _ = net.init(Key(0), (8, 8, 1), np.float64)
    y, _, residuals = net.apply(params, state, x, train=True)
    gradients, dx = net.backward(params, residuals, dy)
    its_y, its_residuals = its_net.apply(as_tuples(params), x)
    its_gradients, its_dx = its_net.backward(as_tuples(params), its_residuals, dy)
    for its, ours in ((its_y, y), (its_gradients, gradients), (its_dx, dx)):
        assert deviation(its, ours) < 1e-12


def ties(net: Layer, x: np.ndarray[Any, Any]) -> Any:
    y, _, residuals = net.apply(None, None, x, train=True)
    return net.backward(None, residuals, np.ones_like(y)).dx


def test_conventions_at_kinks_agree(one_file: ModuleType) -> None:
    x = np.random.default_rng(0).integers(-1, 2, (3, 4, 4, 2)).astype(float)
    for ours, its in ((relu(), one_file.relu()), (max_pool2d(2), one_file.max_pool2d())):
        y, residuals = its.apply(None, x)
        np.testing.assert_array_equal(its.backward(None, residuals, np.ones_like(y))[1], ties(ours, x))


def test_a_run_goes_on_to_the_bit(one_file: ModuleType) -> None:
    data = load("digits").validation.take(slice(None))
    net, optimizer = one_file.serial(one_file.flatten(), one_file.dense(10)), one_file.adam(0.01)
    start = one_file.init_state(net, optimizer, 3, (8, 8, 1))
    run = [state for state, _ in one_file.train(net, optimizer, start, data, epochs=3, batch_size=50)]
    again = [state for state, _ in one_file.train(net, optimizer, run[3], data, epochs=3, batch_size=50)]
    assert [state.step for state in run] == list(range(1, 10))
    assert len(again) == 5
    for leaf, other in zip(tree.flatten(run[-1].params), tree.flatten(again[-1].params), strict=True):
        np.testing.assert_array_equal(leaf, other)


def test_it_imports_numpy_alone() -> None:
    imported = re.findall(r"^ *(?:import|from) (\w+)", FILE.read_text("utf-8"), re.MULTILINE)
    assert {name for name in imported if name not in sys.stdlib_module_names} == {"numpy"}


def test_it_runs_by_itself() -> None:
    digits = Path(__file__).parents[1] / "funcnn" / "data" / "digits.npz"
    done = subprocess.run([sys.executable, FILE, digits], capture_output=True, text=True, timeout=120, check=False)
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert len(lines) == 10
    assert float(lines[-1].split()[-1]) > 0.95


def test_the_page_quotes_the_whole_file() -> None:
    text = re.sub(r"^(:{3,}) *\{dropdown\}.*?^\1$", "", PAGE.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    quoted = "\n".join(block for block in blocks if not block.startswith(">>> "))
    assert not_blank(quoted) == not_blank(FILE.read_text("utf-8"))


def not_blank(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.startswith("# ---")]

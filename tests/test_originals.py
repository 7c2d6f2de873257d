"""The mistakes of the systems that this library rebuilds, each with a test that would have caught it."""

import importlib.util
import math
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import numpy as np
import pytest
import references
from cases import assert_close, gaussian
from references import Spec

from funcnn import Key, serial, tree
from funcnn.data import Part, load, rescale, standardise, subtract_mean_image
from funcnn.data.formats import read_cifar10
from funcnn.layer import Array, Layer
from funcnn.layers import avg_pool2d, batch_norm, conv2d, dense, dropout, flatten, max_pool2d, relu, softmax, tanh
from funcnn.losses import softmax_cross_entropy
from funcnn.models import convnet, fully_connected
from funcnn.optimizers import add_decayed_weights, chain, momentum, sgd, weights_only
from funcnn.train import Batch, Model, Problem, TrainState, init_state, make_step, predict, train

DIGITS = load("digits")


# --- The gradient of a batch ----------------------------------------------------------------------------------

NETS = {
    "MLP": serial(flatten(), dense(7), tanh(), dense(6), relu(), dense(10)),
    "convnet": serial(conv2d(4, 3, padding="same"), relu(), max_pool2d(2), conv2d(3, 3), tanh(), flatten(), dense(10)),
}


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_a_full_batch_step_goes_along_the_mean_of_the_examples_gradients(net: Layer) -> None:
    """One had a gradient that was right for a single example, and wrong for all larger batches."""
    problem = Problem(net, softmax_cross_entropy, sgd(1.0))
    state = init_state(problem, Key(0), (8, 8, 1), np.float64)
    inputs, labels = gaussian((12, 8, 8, 1)), np.arange(12) % 10

    def step(part: slice) -> Any:
        new, _ = make_step(problem)(state, (inputs[part], labels[part]))
        return tree.map(np.subtract, state.params, new.params)

    singles = [step(slice(i, i + 1)) for i in range(12)]
    mean = tree.map(lambda *leaves: sum(leaves) / 12, *singles)
    assert_close(step(slice(12)), mean, 1e-12)
    # The examples differ: none of them could be taken for the mean.
    largest = [max(abs(leaf).max() for leaf in tree.flatten(each)) for each in (*singles, mean)]
    assert min(largest[:-1]) > largest[-1] > 0


# --- Dropout --------------------------------------------------------------------------------------------------


def test_dropout_is_the_identity_in_evaluation() -> None:
    x = gaussian((5, 6))
    np.testing.assert_array_equal(dropout(0.4).apply(None, None, x).y, x)
    net = fully_connected([8], 10, dropout=0.5)
    bare = fully_connected([8], 10)
    params, state, _ = net.init(Key(0), (8, 8, 1))
    its_params, its_state, _ = bare.init(Key(0), (8, 8, 1))
    its_params = tree.unflatten(its_params, tree.flatten(params))
    images, _ = DIGITS.test.take(slice(20))
    first, again = (predict(net, Model(params, state), images) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, predict(bare, Model(its_params, its_state), images))


@pytest.mark.parametrize("rate", [0.2, 0.3, 0.5])
def test_dropout_keeps_the_expectation(rate: float) -> None:
    """Values are scaled by 1 / (1 - rate): not by 1 / rate, which is the same for a half alone, nor not at all."""
    x, draws = gaussian((4, 25)), 4000
    mean = sum(dropout(rate).apply(None, None, x, key=Key(seed), train=True).y for seed in range(draws)) / draws
    # A value's draws have the variance x² · rate / (1 - rate).
    deviation = abs(x) * math.sqrt(rate / (1 - rate) / draws)
    assert (abs(mean - x) < 5 * deviation).all()


# --- Softmax --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e2, 1e3, 1e4])
def test_softmax_and_its_cross_entropy_never_overflow(dtype: type, size: float) -> None:
    logits = np.array([[size, 0, -size], [-size, size, size], [size, size - 1, -size], [0, 0, 0]], dtype)
    near = 1 / (1 + math.exp(-1))
    shares = np.array([[1, 0, 0], [0, 0.5, 0.5], [near, 1 - near, 0], [1 / 3] * 3])
    rtol = 1e-6 if dtype is np.float32 else 1e-13
    np.testing.assert_allclose(softmax().apply(None, None, logits).y, shares, rtol=rtol, atol=1e-30)
    losses = np.array(
        [
            [0, size, 2 * size],
            [2 * size + math.log(2), math.log(2), math.log(2)],
            [-math.log(near), 1 - math.log(near), 2 * size - math.log(near)],
            [math.log(3)] * 3,
        ]
    )
    for label in range(3):
        value, d_logits = softmax_cross_entropy(logits, np.full(4, label))
        assert value == pytest.approx(losses[:, label].mean(), rel=rtol)
        np.testing.assert_allclose(d_logits, (shares - np.eye(3)[label]) / 4, rtol=4 * rtol, atol=1e-30)


def test_a_net_with_huge_outputs_still_learns() -> None:
    """What overflows becomes NaN with the first step, and stays so."""
    problem = Problem(dense(3), softmax_cross_entropy, sgd(1.0))
    start = init_state(problem, Key(0), (2,), np.float64)
    huge = attrs.evolve(start, params=tree.map(lambda leaf: leaf + 5e3 * gaussian(leaf.shape), start.params))
    batch = gaussian((9, 2)), np.arange(9) % 3
    state, metrics = make_step(problem)(huge, batch)
    assert math.isfinite(metrics.loss)
    assert make_step(problem)(state, batch)[1].loss < metrics.loss


# --- Batch norm -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "net", [fully_connected([8], 10, batch_norm=True), convnet([3], [], 10, batch_norm=True)], ids=["dense", "spatial"]
)
def test_batch_norm_predicts_an_image_the_same_alone_or_among_others(net: Layer) -> None:
    problem = Problem(net, softmax_cross_entropy, sgd(0.1))
    state = init_state(problem, Key(0), (8, 8, 1), np.float64)
    inputs, labels = (DIGITS.train.inputs[:60] / 16), DIGITS.train.targets[:60]
    for _ in range(3):
        state, _ = make_step(problem)(state, (inputs, labels))
    together = predict(net, state, inputs)
    alone = np.concatenate([predict(net, state, inputs[i : i + 1]) for i in range(60)])
    np.testing.assert_allclose(alone, together, rtol=1e-10)
    pairs = predict(net, state, inputs[[7, 3]])
    np.testing.assert_allclose(pairs, together[[7, 3]], rtol=1e-10)
    # In training it would differ, or this test would show nothing.
    as_in_training = net.apply(state.params, state.state, inputs[:2], key=Key(0), train=True).y
    assert abs(as_in_training - together[:2]).max() > 0.01


def test_batch_norms_statistics_are_learnt_in_training_and_used_in_evaluation() -> None:
    layer = batch_norm(momentum=0.0)
    params, state, _ = layer.init(Key(0), (3,), np.float64)
    x = 5 + 2 * gaussian((50, 3))
    _, learnt, _ = layer.apply(params, state, x, train=True)
    y = layer.apply(params, learnt, x[:1]).y
    np.testing.assert_allclose(y, (x[:1] - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5), rtol=1e-12)
    assert layer.apply(params, learnt, x[:1]).state is learnt


# --- Momentum -------------------------------------------------------------------------------------------------


def slope(outputs: Array, targets: Array) -> tuple[float, Array]:
    """The mean output: for inputs of one, its gradient in every weight is 1."""
    return float(outputs.mean()), np.full_like(outputs, 1 / outputs.size)


@pytest.mark.parametrize(("batch_size", "epochs"), [(4, 1), (12, 3), (5, 1), (6, 2)], ids=str)
def test_momentum_is_kept_from_batch_to_batch_and_from_epoch_to_epoch(batch_size: int, epochs: int) -> None:
    """One reset it with every batch, which is SGD. Here w after k steps is w0 - lr · Σ_i (1 - d^i) / (1 - d)."""
    rate, decay = 0.1, 0.95
    problem = Problem(dense(1, use_bias=False), slope, momentum(rate, decay), metric=None)
    start = init_state(problem, Key(0), (2,), np.float64)
    part = Part(np.ones((12, 2)), np.zeros(12))
    events = list(train(problem, start, Namespace(train=part, validation=None), epochs=epochs, batch_size=batch_size))
    steps = events[-1].state.step
    assert steps >= 3
    moved = rate * sum((1 - decay**i) / (1 - decay) for i in range(1, steps + 1))
    np.testing.assert_allclose(events[-1].state.params.weight, start.params.weight - moved, rtol=1e-12)
    if steps == 3:
        assert moved == pytest.approx(rate * (3 + 2 * decay + decay**2), rel=1e-12)


# --- Shuffling ------------------------------------------------------------------------------------------------


class Noted:
    """A part that notes which examples are taken; each input is its number."""

    def __init__(self, size: int) -> None:
        self.part = Part(np.arange(size, dtype=np.float64)[:, None], np.zeros(size))
        self.taken: list[int] = []

    def __len__(self) -> int:
        return len(self.part)

    def take(self, index: Any) -> Batch:
        batch = self.part.take(index)
        self.taken += batch[0][:, 0].astype(int).tolist()
        return batch


@pytest.mark.parametrize("batch_size", [1, 7, 40, 64])
def test_every_epoch_has_every_example_once_in_a_new_order(batch_size: int) -> None:
    """One drew each batch anew, so that an epoch left out a third of the examples; one never shuffled at all."""
    noted, size, epochs = Noted(40), 40, 5
    problem = Problem(dense(1), slope, sgd(0.0), metric=None)
    state = init_state(problem, Key(0), (1,), np.float64)
    list(train(problem, state, Namespace(train=noted, validation=None), epochs=epochs, batch_size=batch_size))
    orders = [noted.taken[start : start + size] for start in range(0, size * epochs, size)]
    assert len(noted.taken) == size * epochs
    assert all(sorted(order) == list(range(size)) for order in orders)
    assert len({tuple(order) for order in [*orders, range(size)]}) == epochs + 1


# --- Pooling --------------------------------------------------------------------------------------------------

# The overlapping pool of the MNIST net with a bias for every position, and one whose windows share most of their cells.
SPECS = {
    "3x3, stride 2": Spec((3, 3), (2, 2), padding=((0, 1), (0, 1))),
    "3x3, stride 1": Spec((3, 3)),
    "2x3, stride 1": Spec((2, 3), padding="same"),
}
every_pool = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def gradient(layer: Layer, x: Array, dy: Array) -> Array:
    return layer.backward(None, layer.apply(None, None, x, train=True).residuals, dy).dx


@every_pool
def test_gradients_of_overlapping_maximum_windows_add_up(spec: Spec) -> None:
    """One let the gradient of each window overwrite those of the windows before it; one failed."""
    x = gaussian((2, 6, 6, 3))
    x[:, 2, 2] = 9  # the maximum of all windows that it is in
    dy = gaussian(references.max_pool(x, spec).shape, np.float64, "dy")
    dx = gradient(max_pool2d(spec.window, stride=spec.stride, padding=spec.padding), x, dy)
    np.testing.assert_allclose(dx, references.max_pool_gradient(x, dy, spec), rtol=1e-12, atol=1e-12)
    windows = [(i, j) for i, j, cells in references.window_cells(x, spec) if (2, 2) in {cell[2:] for cell in cells}]
    assert len(windows) > 1
    np.testing.assert_allclose(dx[:, 2, 2], sum(dy[:, i, j] for i, j in windows), rtol=1e-12)


@every_pool
def test_gradients_of_overlapping_average_windows_add_up(spec: Spec) -> None:
    x = gaussian((2, 6, 6, 3))
    dy = gaussian(references.avg_pool(x, spec).shape, np.float64, "dy")
    wanted = np.zeros_like(x)
    for i, j, cells in references.window_cells(x, spec):
        for _, _, row, column in cells:
            wanted[:, row, column] += dy[:, i, j] / len(cells)
    dx = gradient(avg_pool2d(spec.window, stride=spec.stride, padding=spec.padding), x, dy)
    np.testing.assert_allclose(dx, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
@pytest.mark.parametrize("window", [2, 3])
def test_of_equal_values_one_alone_has_the_gradient(value: float, window: int) -> None:
    """One gave it to every cell that equals the maximum: after relu, most windows of the background are all zero."""
    x = np.full((2, 6, 6, 2), value)
    dy = gaussian((2, 6 // window, 6 // window, 2), np.float64, "dy")
    dx = gradient(max_pool2d(window), x, dy)
    cells = dx.reshape(2, 6 // window, window, 6 // window, window, 2)
    assert (np.count_nonzero(cells, axis=(2, 4)) == 1).all()
    np.testing.assert_array_equal(cells.sum(axis=(2, 4)), dy)


# --- L2 -------------------------------------------------------------------------------------------------------


def no_slope(outputs: Array, targets: Array) -> tuple[float, Array]:
    return 0.0, np.zeros_like(outputs)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_weight_decay_does_not_depend_on_the_batch_size(batch_size: int) -> None:
    """One divided it by the batch's size, as if it were one of the examples' losses."""
    optimizer = chain(add_decayed_weights(0.01, mask=weights_only), sgd(0.5))
    problem = Problem(dense(3), no_slope, optimizer, metric=None)
    start = init_state(problem, Key(0), (4,), np.float64)
    start = attrs.evolve(start, params=tree.map(lambda leaf: leaf + 1, start.params))
    state, _ = make_step(problem)(start, (gaussian((batch_size, 4)), np.zeros(batch_size)))
    np.testing.assert_allclose(state.params.weight, start.params.weight * (1 - 0.5 * 0.01), rtol=1e-14)
    np.testing.assert_array_equal(state.params.bias, start.params.bias)


# --- The net that is set up on the command line ----------------------------------------------------------------

ACTIVATIONS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "linear": lambda x: x,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[1] / "experiments" / "notmnist_mlp.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def own(*activations: str, regularizers: tuple[str, ...] = ("nothing", "nothing")) -> Namespace:
    return Namespace(
        layers=[64, 12, 10], active_funcs=activations, regularizers=regularizers, dropout=0.2, l2=0.1, input_noise=None
    )


def outputs(net: Layer, images: Array) -> Array:
    params, state, _ = net.init(Key(0), (8, 8, 1), np.float64)
    return net.apply(params, state, images).y


def test_every_layer_has_the_activation_that_it_is_given(script: ModuleType) -> None:
    """One read the names and used none of them."""
    assert set(ACTIVATIONS) == set(script.ACTIVATIONS)
    images = gaussian((5, 8, 8, 1))
    found = {}
    for first, f in ACTIVATIONS.items():
        for second, g in ACTIVATIONS.items():
            net = script.build(own(first, second))
            params = net.init(Key(0), (8, 8, 1), np.float64).params
            (w1, b1), (w2, b2) = [(each.weight, each.bias) for each in params if each is not None]
            found[first, second] = outputs(net, images)
            wanted = g(f(images.reshape(5, 64) @ w1 + b1) @ w2 + b2)
            np.testing.assert_allclose(found[first, second], wanted, rtol=1e-12, atol=1e-12)
    assert len({each.tobytes() for each in found.values()}) == len(ACTIVATIONS) ** 2


def test_regularizers_do_nothing_in_evaluation_and_norm_no_activations(script: ModuleType) -> None:
    """One dropped values in evaluation too, and took L2Norm for normalising activations."""
    images = gaussian((5, 8, 8, 1))
    plain = outputs(script.build(own("relu", "linear")), images)
    for first in script.REGULARIZERS:
        net = script.build(own("relu", "linear", regularizers=(first, "nothing")))
        dropped = [layer.config.rate for layer in net.config.children if layer.name == "dropout"]
        assert dropped == ([0.2] if first == "dropOut" else [])
        params, state, _ = net.init(Key(0), (8, 8, 1), np.float64)
        weights = [leaf for leaf in params if leaf is not None]
        assert [leaf.weight.shape for leaf in weights] == [(64, 12), (12, 10)]
        same = net.apply(params, state, images).y
        assert same.shape == plain.shape
        w1, w2 = weights
        by_hand = np.maximum(images.reshape(5, 64) @ w1.weight + w1.bias, 0) @ w2.weight + w2.bias
        np.testing.assert_allclose(same, by_hand, rtol=1e-12, atol=1e-12)


class Called(Exception):
    """What stands for the run of a script: with what it was called."""


def called(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Problem, Any]:
    """The problem and the options that the script's main function makes of a command line, on the digits."""

    def run(problem: Problem, data: Any, options: Any, *, initial: Any = None) -> None:
        raise Called(problem, options)

    monkeypatch.setattr(script, "run", run)
    monkeypatch.setattr(script, "load_data", lambda name, options: DIGITS)
    monkeypatch.setattr(sys, "argv", ["notmnist_mlp.py", "--layers", "64,12,11,10", *arguments])
    with pytest.raises(Called) as caught:
        script.main()
    return caught.value.args


FUNCS = ("--active_funcs", "relu,tanh,linear")


def after_a_step(problem: Problem) -> tuple[TrainState, TrainState]:
    """The state before and after a step whose loss has no slope; biases are one."""
    start = init_state(problem, Key(0), (8, 8, 1), np.float64)
    start = attrs.evolve(start, params=tree.map(lambda leaf: leaf + 1, start.params))
    state, _ = make_step(attrs.evolve(problem, loss=no_slope, metric=None))(
        start, (gaussian((5, 8, 8, 1)), np.zeros(5))
    )
    return start, state


@pytest.mark.parametrize("which", range(3))
def test_l2norm_decays_the_weights_of_its_layer_alone(
    which: int, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Dropout in another layer moves the places of the layers after it.
    regularizers = ["dropOut", "nothing", "dropOut"]
    regularizers[which] = "L2Norm"
    arguments = ("--regularizers", ",".join(regularizers), "--l2", "0.01", "--lr", "0.5")
    problem, _ = called(script, monkeypatch, *FUNCS, *arguments)
    before, after = ([leaf for leaf in state.params if leaf is not None] for state in after_a_step(problem))
    assert len(before) == 3
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        np.testing.assert_allclose(new.weight, old.weight * (1 - 0.5 * 0.01 * (i == which)), rtol=1e-14)
        np.testing.assert_array_equal(new.bias, old.bias)


def test_without_l2norm_nothing_decays(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, _ = called(script, monkeypatch, *FUNCS, "--regularizers", "dropOut,nothing,nothing")
    before, after = after_a_step(problem)
    assert tree.equal(before.params, after.params)


@pytest.mark.parametrize(("optimizer", "batch_size"), [("GD", 1294), ("SGD", 1), ("momentum", 32), ("adam", 32)])
def test_gd_takes_the_whole_training_part_in_a_step_and_sgd_one_image(
    optimizer: str, batch_size: int, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--regularizers", "nothing,nothing,nothing", "--optimizer", optimizer, "--batch-size", "32")
    problem, options = called(script, monkeypatch, *FUNCS, *arguments, "--num_epochs", "3")
    assert (options.batch_size, options.epochs) == (batch_size, 3)
    assert problem.optimizer == script.OPTIMIZERS[optimizer](0.7)
    assert problem.loss is softmax_cross_entropy


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--active_funcs", "relu,linear", "--regularizers", "nothing,nothing,nothing"],
            "--active-funcs must have one name for each of the 3 layers after the input of --layers 64,12,11,10, "
            "got 2: relu,linear",
        ),
        (
            [*FUNCS, "--regularizers", "dropOut,nothing,nothing,L2Norm"],
            "--regularizers must have one name for each of the 3 layers after the input of --layers 64,12,11,10, "
            "got 4: dropOut,nothing,nothing,L2Norm",
        ),
        (
            ["--layers", "784,10", "--active_funcs", "linear", "--regularizers", "nothing"],
            "--layers must start with the 64 pixels and end with the 10 classes, got 784,10",
        ),
        (
            ["--layers", "64,9", "--active_funcs", "linear", "--regularizers", "nothing"],
            "--layers must start with the 64 pixels and end with the 10 classes, got 64,9",
        ),
    ],
)
def test_lists_that_do_not_match_are_refused_with_both_lengths(
    arguments: list[str], text: str, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that is too short would otherwise leave out layers, or what is wanted of them."""
    monkeypatch.setattr(script, "load_data", lambda name, options: DIGITS)
    monkeypatch.setattr(sys, "argv", ["notmnist_mlp.py", "--layers", "64,12,11,10", *arguments])
    with pytest.raises(SystemExit) as stopped:
        script.main()
    assert stopped.value.code == f"error: {text}"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--active_funcs", "relu,softmax"], "expected names out of sigmoid, linear, tanh, relu, got softmax"),
        (["--regularizers", "dropout"], "expected names out of dropOut, L2Norm, nothing, got dropout"),
        (["--layers", "784"], "expected the input's size and at least one layer's, as 784,10, got 784"),
        (["--layers", "784,0,10"], "must be more than 0, got 0"),
    ],
)
def test_names_and_sizes_that_there_are_not_are_refused(
    arguments: list[str], text: str, script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(sys, "argv", ["notmnist_mlp.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        script.main()
    assert stopped.value.code == 2
    assert text in " ".join(capsys.readouterr().err.split())


# --- Pixels ---------------------------------------------------------------------------------------------------


def test_pixels_do_not_wrap_around(tmp_path: Path) -> None:
    """In bytes 10 - 20 is 246: one subtracted so, and came to an accuracy of 0.32 on CIFAR-10."""
    raw = np.random.default_rng(0).integers(0, 256, (30, 3073), np.uint8)
    raw[:, 0] %= 10
    (tmp_path / "batch").write_bytes(raw.tobytes())
    images, _ = read_cifar10(tmp_path / "batch")
    assert images.dtype == np.uint8
    exact = images.astype(np.float64)
    mean, deviation = exact.mean(axis=(0, 1, 2)), exact.std(axis=(0, 1, 2))
    for preprocess, wanted in (
        (standardise(images), (exact - mean) / deviation),
        (subtract_mean_image(images), (exact - exact.mean(axis=0)) / 255),
        (rescale(255), exact / 255),
    ):
        inputs, _ = Part(images, np.zeros(30), preprocess).take(slice(None))
        assert inputs.dtype == np.float32
        np.testing.assert_allclose(inputs, wanted, rtol=1e-5, atol=1e-5)
    assert standardise(images)(images).min() < -1
    assert subtract_mean_image(images)(images).min() < -0.4


def test_nets_take_floats_alone() -> None:
    """Bytes that were forgotten to be converted are refused, where they could wrap around within the net."""
    net = partial(predict, dense(2), Model(*dense(2).init(Key(0), (4,))[:2]))
    with pytest.raises(ValueError, match=r"expected an input of dtype float32 .* got uint8\. Convert and scale it"):
        net(np.zeros((1, 4), np.uint8))

"""The doors for arrays: what is taken for an array, and by which values; what is refused, and how it is told."""

import re
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import CASES, ONE_INPUT, ONE_OUTPUT, Case, assert_close, gaussian, message, ready

from funcnn import tree
from funcnn.checks import FuncnnWarning, LayerError, as_array
from funcnn.data import Part, one_hot, rescale, standardise, stratified_split, subtract_mean_image, unit_norm
from funcnn.keys import Key
from funcnn.layer import Array
from funcnn.layers import avg_pool2d, batch_norm, dense, l2_normalize, position_bias
from funcnn.losses import mean_squared_error, multiclass_hinge, sigmoid_cross_entropy, softmax_cross_entropy
from funcnn.metrics import accuracy, binary_accuracy, confusion_matrix, top_k_accuracy

every_case = pytest.mark.parametrize("case", CASES, ids=str)


class Labelled:
    """What a pandas Series is here: values that are taken by label, and an array by position."""

    def __init__(self, values: Any, labels: Any) -> None:
        self.values = np.asarray(values)
        self.by_label = dict(zip(labels, self.values, strict=True))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Any:
        return Labelled([self.by_label[each] for each in index], index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.values if dtype is None else self.values.astype(dtype)


class Elsewhere:
    """A tensor on a GPU: it refuses to be an array."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


class Sparse:
    """What a sparse matrix of scipy is to NumPy: one object."""

    def toarray(self) -> Array:
        return np.eye(2)


def on_disk(values: Array) -> Array:
    path = Path(tempfile.mkdtemp()) / "x.npy"
    np.save(path, values)
    return np.load(path, mmap_mode="r")


@pytest.fixture(autouse=True)
def _no_warning_of_matrices() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the matrix subclass", PendingDeprecationWarning)
        yield


# --- Data sets, losses, metrics -------------------------------------------------------------------------------

ROWS = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])
CONVERTED: dict[str, Callable[[Array], Any]] = {
    "an array": lambda x: x,
    "a list": lambda x: x.tolist(),
    "a tuple of arrays": tuple,
    "by label": lambda x: Labelled(x, [2, 0, 1]),
    "a matrix": lambda x: np.matrix(x) if x.ndim == 2 else x,
    "nothing masked": lambda x: np.ma.masked_array(x, mask=np.zeros(x.shape, bool)),
    "on disk": on_disk,
    "a subclass": lambda x: x.view(type("Own", (np.ndarray,), {})),
}


@pytest.mark.parametrize("turn", CONVERTED.values(), ids=CONVERTED)
def test_what_is_certain_is_taken_by_position_as_a_plain_array(turn: Callable[[Array], Any]) -> None:
    labels = np.array([1, 0, 1])
    taken = as_array("here", "x", turn(ROWS))
    assert type(taken) is np.ndarray
    np.testing.assert_array_equal(taken, ROWS, strict=True)
    inputs, targets = Part(turn(ROWS), turn(labels)).take([2, 0])
    np.testing.assert_array_equal(inputs, ROWS[[2, 0]], strict=True)
    np.testing.assert_array_equal(targets, labels[[2, 0]], strict=True)
    # Whatever takes arrays gives the same.
    for function, second in DOORS:
        second = labels if second is None else second
        expected, got = function(ROWS, second), function(turn(ROWS), turn(second))
        assert tree.equal(
            got if isinstance(got, tuple) else (got,), expected if isinstance(expected, tuple) else (expected,)
        )
    for preprocess in (rescale(2), unit_norm(), standardise(turn(ROWS)), subtract_mean_image(turn(ROWS))):
        np.testing.assert_array_equal(preprocess(turn(ROWS)), preprocess(ROWS), strict=True)
    np.testing.assert_array_equal(one_hot(turn(labels), 2), one_hot(labels, 2), strict=True)
    assert tree.equal(stratified_split(turn(labels), 0.5, Key(0)), stratified_split(labels, 0.5, Key(0)))


DOORS: list[tuple[Callable[..., Any], Array | None]] = [
    (softmax_cross_entropy, None),
    (softmax_cross_entropy, np.eye(3, 2)[[0, 1, 1]]),
    (multiclass_hinge, None),
    (mean_squared_error, ROWS[::-1]),
    (sigmoid_cross_entropy, ROWS[::-1]),
    (accuracy, None),
    (accuracy, np.eye(2)[[0, 1, 1]]),
    (partial(top_k_accuracy, k=1), None),
    (binary_accuracy, ROWS[::-1]),
    (confusion_matrix, None),
]

MASKED = np.ma.masked_array(np.ones((3, 2)), mask=[[0, 0], [0, 1], [0, 0]])
REFUSED: dict[str, tuple[Any, str]] = {
    "a mask": (MASKED, "has 1 masked values of 6, which a net would take for numbers. Fill them, np.ma.filled({}, 0)"),
    "objects": (np.array([[1, None]] * 3), "must be numbers, got ndarray of dtype object. Convert it: np.asarray("),
    "names": (np.array(["cat", "dog", "cat"]), "must be numbers, got ndarray of dtype <U3. Number names by np.unique("),
    "names as objects": (np.array(["cat"] * 3, object), "must be numbers, got ndarray of dtype object. Number "),
    "bytes": ([b"cat"] * 3, "must be numbers, got list of dtype |S3. Number names by np.unique("),
    "uneven rows": ([[1.0], [1.0, 2.0]], "is no array of numbers, NumPy refuses this list: setting an array element"),
    "complex": (np.ones((3, 2), complex), "must be numbers, got ndarray of dtype complex128. Pass {}.real, or the "),
    "dates": (np.array(["2024-01-01"] * 3, "M8[D]"), "must be numbers, got ndarray of dtype datetime64[D]. Convert it"),
    "records": (np.zeros(3, [("a", "f4")]).view(np.recarray), "must be numbers, got recarray of dtype (numpy.record, "),
    "a tensor elsewhere": (Elsewhere(), "is no array of numbers, NumPy refuses this Elsewhere: can't convert cuda:0 "),
    "a sparse matrix": (Sparse(), "must be an array of numbers, got Sparse. Pass {}.toarray()"),
    "nothing": (None, "must be an array of numbers, got NoneType. Pass an array, or a list of numbers"),
    "a dictionary": ({"a": [1]}, "must be an array of numbers, got dict. Pass an array, or a list of numbers"),
    "a generator": (iter([1]), "must be an array of numbers, got list_iterator. Pass an array, or a list of numbers"),
}  # fmt: skip


@pytest.mark.parametrize(("value", "text"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_is_refused_by_name(value: Any, text: str) -> None:
    assert message(ValueError, as_array, "here", "x", value).startswith(f"here: x {text.format('x')}")
    good = np.array([1, 0, 1])
    assert message(ValueError, Part, value, good).startswith(f"Part: inputs {text.format('inputs')}")
    assert message(ValueError, Part, good, value).startswith(f"Part: targets {text.format('targets')}")
    for function, _ in DOORS:
        name = getattr(function, "func", function).__name__
        assert message(ValueError, function, value, good).startswith(f"{name}: outputs {text.format('outputs')}")
        which = "labels" if function not in (mean_squared_error, sigmoid_cross_entropy, binary_accuracy) else "targets"
        assert message(ValueError, function, ROWS, value).startswith(f"{name}: {which} {text.format(which)}")
    assert message(ValueError, rescale(2), value).startswith(f"rescale: stored {text.format('stored')}")
    assert message(ValueError, standardise, value).startswith(f"standardise: images {text.format('images')}")
    assert message(ValueError, one_hot, value, 3).startswith(f"one_hot: labels {text.format('labels')}")


def test_the_advice_for_what_is_refused_works() -> None:
    for value, expression in (
        (np.array([1, 2], object), "np.asarray(x, dtype=np.float32)"),
        (np.array(["b", "a"]), "np.unique(x, return_inverse=True)[1]"),
        (np.array(["1", "2"]), "np.asarray(x, np.float32)"),
        (np.array([1 + 2j]), "x.real"),
        (MASKED, "np.ma.filled(x, 0)"),
        (Sparse(), "x.toarray()"),
    ):
        assert expression in message(ValueError, as_array, "here", "x", value)
        as_array("here", "x", eval(expression, {"x": value, "np": np}))


def test_inputs_that_a_preprocessing_turns_into_numbers_may_be_anything() -> None:
    paths = ["a.png", "b.png"]
    part = Part(paths, [0, 1], lambda names: np.array([[float(ord(each[0]))] for each in names]))
    np.testing.assert_array_equal(part.take([1])[0], [[98.0]])
    assert "masked values" in message(ValueError, Part, MASKED, [0, 1, 0], rescale(2))
    assert message(ValueError, Part, ROWS, [0, 1, 0], 255) == (
        "Part: preprocess must be a function of stored examples, got 255"
    )


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_, ">f8"])
def test_losses_take_floats_alone(dtype: Any) -> None:
    outputs = np.ones((3, 2), dtype)
    for loss, targets in ((softmax_cross_entropy, np.zeros(3, int)), (mean_squared_error, ROWS)):
        text = message(ValueError, loss, outputs, targets)
        start = f"{loss.__name__}: outputs must be floats, got {outputs.dtype}. Convert them: "
        assert text == f"{start}outputs.astype(np.float32)"
        loss(eval(text.removeprefix(start), {"outputs": outputs, "np": np}), targets)


def test_a_warning_of_the_library_can_be_silenced_by_its_class() -> None:
    assert issubclass(FuncnnWarning, UserWarning)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore", FuncnnWarning)
        warnings.warn("x", FuncnnWarning, stacklevel=1)
    assert caught == []


# --- Layers: x ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ONE_INPUT, ids=str)
def test_a_layer_takes_plain_arrays_and_those_on_disk_alone(case: Case) -> None:
    layer, params, state, x, _ = ready(case, np.float32)
    apply = partial(layer.apply, params, state, key=Key(1), train=True)
    assert tree.equal((apply(on_disk(x)).y,), (apply(x).y,))
    others = [(np.ma.masked_array(x), "MaskedArray"), (x.view(np.recarray), "recarray")]
    if x.ndim == 2:
        others.append((np.matrix(x), "matrix"))
    for other, kind in others:
        text = message(LayerError, apply, other)
        assert (
            f"expected a plain NumPy array, got {kind}, which has rules of its own. Convert it: np.asarray(x)" in text
        )
        assert tree.equal((apply(np.asarray(other)).y,), (apply(x).y,))
    masked = np.ma.masked_array(x, mask=np.arange(x.size).reshape(x.shape) == 0)
    assert f"has 1 masked values of {x.size}" in message(ValueError, apply, masked)
    assert "expected a NumPy array, got list" in message(LayerError, apply, x.tolist())
    assert message(LayerError, apply, np.float32(1)).partition("expected")[2]
    assert message(LayerError, apply, np.ones((), np.float32)).partition("expected")[2]
    whole = case.layer.config.vocabulary is not None
    for kind in (np.float32 if whole else np.int64, np.bool_, np.complex64, object, ">f4"):
        text = message(LayerError, apply, x.astype(kind))
        dtype = "dtype " if "of floats" in text or "of whole numbers" in text else ""
        assert f", got {dtype}{np.dtype(kind)}" in text


# --- Layers: dy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ONE_OUTPUT, ids=str)
def test_dy_is_checked_as_x_is(case: Case) -> None:
    """By kind, dtype, batch and shape, whatever the layer does with dy, and whether dx is needed or not."""
    made = ready(case, np.float32)
    residuals, dy = made.train().residuals, made.dy
    back = partial(made.layer.backward, made.params, residuals)
    assert tree.equal((back(dy).dx,), (back(on_disk(dy)).dx,))
    wrong: list[Any] = [
        1.5, np.float32(1.5), (1.5, dy), dy.tolist(), None, np.ma.masked_array(dy), dy.view(np.recarray),
        dy.astype(np.float64), dy.astype(np.float16), np.ones(dy.shape, int),
        np.concatenate([dy, dy]), dy[:1], dy[..., None], np.zeros((), np.float32), np.swapaxes(dy[:, None], 0, 1),
    ]  # fmt: skip
    if dy.ndim == 2:
        wrong.append(np.matrix(dy))
    if dy.ndim == 4 and dy.shape[0] != dy.shape[2]:
        wrong.append(
            np.ascontiguousarray(np.swapaxes(dy, 0, 2))
        )  # in memory, images lie by (height, channels, width · n)
    if dy.ndim > 1:
        wrong += [dy[..., :0], dy.reshape(len(dy), -1)[:, :1].repeat(dy[0].size + 1, axis=1)]
    for each in wrong:
        text = message(LayerError, back, each)
        assert "expected dy" in text or "expected a" in text or "expected its" in text, text
    if any(leaf is not None for leaf in tree.flatten(made.params)):
        assert "expected dy" in message(LayerError, back, dy.astype(np.float64), need_dx=False)


@every_case
def test_residuals_of_another_layer_are_refused(case: Case) -> None:
    made = ready(case, np.float32)
    wrong: list[Any] = [1, "residuals", (1, 2), np.ones((1, 2, 3, 4, 5), np.float32), made.layer]
    if not isinstance(made.train().residuals, tuple | np.ndarray):
        wrong += [((2, 3), np.dtype(np.float32)), made.x, (None,)]
    for each in wrong:
        text = message(LayerError, made.layer.backward, made.params, each, made.dy)
        assert re.search("expected (residuals|the residuals|dy|an input) ", text)


def test_what_a_loss_gives_is_told_from_dy() -> None:
    layer = dense(2)
    params, _, _ = layer.init(Key(0), (3,))
    y, _, residuals = layer.apply(params, None, np.ones((4, 3), np.float32), train=True)
    value, dy = loss = softmax_cross_entropy(y, np.zeros(4, int))
    for given, got in ((value, f"the number {value}"), (loss, "a tuple")):
        text = message(LayerError, layer.backward, params, residuals, given)
        assert text == (
            f"dense(units=2): expected dy, the gradient of the output, got {got}. "
            "Pass the second value that a loss gives: value, dy = loss(y, targets)"
        )
    layer.backward(params, residuals, dy)


# --- Under the user's np.seterr, and in float16 ---------------------------------------------------------------

EXTREMES = [1e-30, 1e-3, 1.0, 90.0, 1e4]


@every_case
@pytest.mark.parametrize("size", EXTREMES)
def test_an_underflow_is_no_error(case: Case, size: float) -> None:
    layer, params, state, x, dy = ready(case, np.float32)
    whole = case.layer.config.vocabulary is not None
    if case.layer.name == "gaussian_sample" and size > 1e3:
        pytest.skip("the deviation exp(5000) is truly infinite")
    with np.errstate(all="raise"):
        small = tree.map(lambda each: (each * np.float64(1e-20)).astype(np.float32), dy)
        scaled = x if whole else tree.map(lambda each: (each * np.float64(size)).astype(np.float32), x)
        residuals = layer.apply(params, state, scaled, key=Key(1), train=True).residuals
        layer.backward(params, residuals, small)
        layer.apply(params, state, scaled)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e3, 1e15])
def test_an_underflow_in_a_loss_is_no_error(size: float) -> None:
    outputs, labels = (gaussian((5, 4)) * size).astype(np.float32), np.array([0, 1, 2, 3, 0])
    with np.errstate(all="raise"):
        for loss in (softmax_cross_entropy, partial(softmax_cross_entropy, label_smoothing=0.1), multiclass_hinge):
            loss(outputs, labels)
        for loss in (mean_squared_error, sigmoid_cross_entropy):
            loss(outputs, np.eye(5, 4))


def test_sums_of_float16_neither_end_nor_stop() -> None:
    """4,096 ones add to 2,048 in float16, and squares of 300 are infinite."""
    ones = np.ones((4096, 3), np.float16)
    layer = dense(3)
    params, _, _ = layer.init(Key(0), (3,), np.float16)
    gradients, _ = layer.backward(params, layer.apply(params, None, ones, train=True).residuals, ones)
    assert gradients.bias.tolist() == [4096] * 3
    params, _, _ = position_bias().init(Key(0), (3,), np.float16)
    residuals = position_bias().apply(params, None, ones, train=True).residuals
    assert position_bias().backward(params, residuals, ones).params.bias.tolist() == [4096] * 3
    assert mean_squared_error(np.full((2, 2), 300, np.float16), np.zeros((2, 2)))[0] == 90_000
    assert avg_pool2d(2).apply(None, None, np.full((1, 2, 2, 1), 40_000, np.float16)).y.item() == 40_000
    wide = np.full((1, 70_000), 2, np.float16)
    np.testing.assert_allclose(l2_normalize().apply(None, None, wide).y, 70_000**-0.5, rtol=1e-2)


@pytest.mark.parametrize("size", [0.1, 1.0, 1e2])
def test_batch_norm_of_float16_is_that_of_its_numbers(size: float) -> None:
    layer = batch_norm()
    x, dy = (gaussian((64, 4, 4, 2)) * size).astype(np.float16), gaussian((64, 4, 4, 2), np.float16, "dy")
    results = []
    for dtype in (np.float16, np.float64):
        params, state, _ = layer.init(Key(0), (4, 4, 2), dtype)
        y, state, residuals = layer.apply(params, state, x.astype(dtype), train=True)
        gradients, dx = layer.backward(params, residuals, dy.astype(dtype))
        assert {leaf.dtype for leaf in tree.flatten((y, state, gradients, dx))} == {np.dtype(dtype)}
        made = tree.map(lambda leaf: leaf.astype(np.float64), (y, layer.apply(params, state, x.astype(dtype)).y, state))
        results.append((*made, tree.map(lambda leaf: leaf.astype(np.float64), (gradients, dx))))
    assert_close(results[0], results[1], 3e-3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_unit_norm_is_l2_normalize_of_what_is_stored(dtype: type) -> None:
    limits = np.finfo(dtype)
    sizes = np.array(
        [float(limits.smallest_subnormal) * 64, float(limits.tiny), 1e-3, 1.0, 300.0, float(limits.max) / 8]
    )
    stored = (gaussian((6, 40)).clip(-2, 2) * sizes[:, None]).astype(dtype)
    normalised = unit_norm(epsilon=5e-324, dtype=dtype)(stored)
    # float16 is computed in float32 here.
    rtol = 2e-3 if dtype is np.float16 else 0
    np.testing.assert_allclose(normalised, l2_normalize().apply(None, None, stored).y, rtol=rtol, strict=True)
    lengths = np.sqrt(np.square(normalised.astype(np.float64)).sum(axis=1))
    np.testing.assert_allclose(lengths, 1, rtol=0.02)


def test_what_the_dtype_cannot_hold_is_normalised_too() -> None:
    for stored, dtype in (
        (np.array([[3e300, 4e300]]), np.float32),
        (np.array([[30_000, 40_000]], np.uint16), np.float16),
    ):
        assert unit_norm(dtype=dtype)(stored).tolist() == [pytest.approx([0.6, 0.8], rel=1e-3)]
    assert rescale(65_535, dtype=np.float16)(np.array([[65_535]], np.uint16)).item() == 1


def test_one_hot_vectors_take_memory_for_themselves_alone() -> None:
    """The two labels of 100,000 classes took 37 GiB: a row for every class."""
    assert one_hot(np.array([0, 99_999]), 100_000).sum() == 2
    text = message(ValueError, one_hot, np.zeros(10_000, int), 100_000)
    assert text == (
        "one_hot: 10,000 vectors of 100,000 values take 4,000 MB, more than 268. "
        "Pass the class numbers themselves: the losses and metrics take them"
    )
    assert message(ValueError, one_hot, [0], 2.0) == "one_hot: classes must be a positive int, got 2.0"
    assert re.match("one_hot: dtype must be a dtype of numbers", message(ValueError, one_hot, [0], 2, dtype="x"))

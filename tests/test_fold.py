"""Prediction with nothing done twice: `fold` and `predictor` give what the net's own layers give, but for rounding."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import own
import pytest
from cases import CASES, CONSTRUCTORS, Case, Ready, all_configs, assert_close, message, ready

from benchmarks.nets import NETS
from funcnn import metrics, tree
from funcnn.arrays import conv_winograd
from funcnn.arrays.threads import set_threads
from funcnn.arrays.threads import threads as number_of_threads
from funcnn.compose import chunked, parallel, residual, serial
from funcnn.data import load
from funcnn.keys import Key
from funcnn.layer import Applied, Array, Config, Gradients, Layer, LayerError, ShapeError, config, describe, make_layer
from funcnn.layers import (
    avg_pool2d,
    batch_norm,
    conv2d,
    dense,
    dropout,
    elu,
    flatten,
    gaussian_noise,
    global_avg_pool2d,
    identity,
    leaky_relu,
    log_softmax,
    max_pool2d,
    position_bias,
    relu,
    reshape,
    sigmoid,
    softmax,
    tanh,
)
from funcnn.losses import softmax_cross_entropy
from funcnn.model_file import Trained, load_trained, probabilities, save_trained
from funcnn.models import convnet, fully_connected
from funcnn.optimizers import adam
from funcnn.rebuild import rebuild
from funcnn.train import Model, Problem, evaluate, fold, predict, predictor

SAME = "same"
# Layers in all orders that matter: what may follow a flatten, what may stand before a batch norm, padding after each.
MADE = (
    Case(serial(conv2d(4, 3, padding=SAME), flatten(), relu(), dense(5), relu(), dense(3)), (6, 5, 3)),
    Case(serial(conv2d(4, 3, padding=SAME), flatten(), batch_norm(), dense(5)), (6, 5, 3)),
    Case(serial(conv2d(4, 3), flatten(), position_bias(), tanh(), dense(5)), (6, 5, 3)),
    Case(serial(conv2d(4, 3), batch_norm(), position_bias(), batch_norm(), relu(), conv2d(3, 3, padding=2)), (6, 5, 3)),
    Case(serial(conv2d(4, 3), global_avg_pool2d(), batch_norm(), dense(5), dropout(0.5), softmax()), (6, 5, 3)),
    Case(serial(conv2d(4, 3), avg_pool2d(3, padding=1), position_bias(), batch_norm(), elu()), (9, 8, 3)),
    Case(serial(relu(), max_pool2d(2), batch_norm(), relu(), max_pool2d(2), batch_norm(), flatten()), (4, 4, 2)),
    Case(serial(flatten(), position_bias(), relu(), batch_norm(), dense(9), flatten(), batch_norm()), (4, 4, 1)),
    Case(serial(reshape((4, 4, 1)), conv2d(32, 3), conv2d(32, (1, 2)), flatten(), sigmoid(), dense(3)), (16,)),
    Case(serial(conv2d(64, 3, padding=SAME), conv2d(32, 3, padding=SAME), conv2d(33, 3), leaky_relu()), (13, 12, 32)),
    Case(serial(conv2d(8, 3, padding=SAME, algorithm="winograd"), conv2d(3, 3, padding=1), relu()), (7, 6, 5)),
    Case(serial(conv2d(8, (3, 2), dilation=(1, 2), stride=(1, 2), algorithm="winograd"), relu()), (7, 9, 5)),
    Case(serial(conv2d(8, 3, algorithm="plain"), batch_norm(), conv2d(8, 3, groups=4), batch_norm()), (7, 9, 5)),
    Case(serial(conv2d(4, 1, stride=2), conv2d(4, 1), conv2d(4, (3, 1), dilation=2), max_pool2d(2)), (14, 9, 2)),
    Case(serial(conv2d(2, 2), max_pool2d(3, stride=1, padding=1), relu(), conv2d(2, 3, padding=1)), (5, 4, 2)),
    Case(residual(serial(reshape((2, 2, 1)), conv2d(3, 1), batch_norm(), relu(), conv2d(1, 1), flatten())), (4,)),
    Case(serial(residual(serial(conv2d(2, 3, padding=SAME), batch_norm(), relu())), residual(dropout(0.5))), (5, 4, 2)),
    Case(serial(conv2d(2, 1), residual(serial(batch_norm(), relu(), conv2d(2, 3, padding=1))), flatten()), (5, 4, 2)),
    Case(serial(parallel(serial(conv2d(4, 1), batch_norm()), serial(identity(), relu())), flatten()), (5, 4, 2)),
    Case(serial(chunked(serial(dense(200), batch_norm()), 2), residual(dense(200)), tanh(), log_softmax()), (7,)),
    Case(serial(dense(4), own.cube(), dense(3)), (5,)),
    Case(fully_connected([20, 10], 4, batch_norm=True, dropout=0.2), (3, 4, 1)),
    Case(convnet([4, 6], [10], 4, batch_norm=True, dropout=0.2), (8, 9, 2)),
)  # fmt: skip
BENCHMARKS = tuple(Case(net.funcnn, net.in_shape) for net in NETS.values())
every_case = pytest.mark.parametrize("case", [*CASES, *MADE, *BENCHMARKS], ids=str)
RTOL = {np.float32: 1e-5, np.float64: 1e-12}


def applied(made: Ready) -> Array:
    return made.layer.apply(made.params, made.state, made.x).y


# --- fold -----------------------------------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("dtype", RTOL)
def test_a_folded_net_gives_the_same_but_for_rounding(case: Case, dtype: type) -> None:
    made = ready(case, dtype)
    before = [leaf.copy() for leaf in tree.flatten((made.params, made.state))]
    net, params, state = fold(made.layer, made.params, made.state)
    assert_close(net.apply(params, state, made.x).y, applied(made), RTOL[dtype])
    tree.check_like(net.init(Key(0), case.in_shape, dtype)[:2], (params, state), ("init", "folded"))
    assert tree.equal(tuple(before), tuple(tree.flatten((made.params, made.state))))


@every_case
def test_a_folded_net_is_a_net_without_what_training_needs(case: Case) -> None:
    made = ready(case)
    net, params, state = fold(made.layer, made.params, made.state)
    names = [each.name for each in all_configs(net)]
    assert {"dropout", "gaussian_noise", "identity"}.isdisjoint(names)
    inside = [each for each in all_configs(net) if each.name == "serial"]
    assert all(child.name != "serial" for each in inside for child in each.children)
    assert eval(repr(net), {"__builtins__": {}}, CONSTRUCTORS) == net
    assert rebuild(describe(net), layers=[own.cube]) == net
    assert tree.equal(tuple(fold(net, params, state)), (net, params, state))  # there is nothing left to fold


@pytest.mark.parametrize(
    ("net", "in_shape", "folded"),
    [
        (serial(dense(3, use_bias=False), batch_norm()), (4,), dense(3)),
        (serial(dense(3), dropout(0.5), batch_norm(), batch_norm()), (4,), dense(3)),
        (serial(conv2d(3, 2), position_bias(), avg_pool2d(2), batch_norm()), (5, 5, 1),
         serial(conv2d(3, 2), position_bias(), avg_pool2d(2))),
        (serial(conv2d(3, 2), relu(), batch_norm()), (5, 5, 1), serial(conv2d(3, 2), relu(), batch_norm())),
        (serial(conv2d(3, 2), flatten(), batch_norm()), (5, 5, 1), serial(conv2d(3, 2), flatten(), batch_norm())),
        (serial(conv2d(3, 2), max_pool2d(2), batch_norm()), (5, 5, 1),
         serial(conv2d(3, 2), max_pool2d(2), batch_norm())),
        (serial(serial(serial(conv2d(3, 2))), serial(batch_norm(), relu())), (5, 5, 1), serial(conv2d(3, 2), relu())),
        (serial(conv2d(1, 1), residual(serial(batch_norm(), conv2d(1, 1), batch_norm()))), (5, 5, 1),
         serial(conv2d(1, 1), residual(serial(batch_norm(), conv2d(1, 1))))),
        (serial(conv2d(2, 1), parallel(batch_norm(), dropout(0.5), serial(conv2d(1, 1), batch_norm()))), (5, 5, 1),
         serial(conv2d(2, 1), parallel(batch_norm(), serial(), conv2d(1, 1)))),
        (chunked(serial(dense(3), batch_norm()), 2), (4,), chunked(dense(3), 2)),
        (gaussian_noise(0.1), (4,), serial()),
    ],
    ids=str,
)  # fmt: skip
def test_where_batch_norm_goes(net: Layer, in_shape: tuple[int, ...], folded: Layer) -> None:
    params, state, _ = net.init(Key(0), in_shape)
    assert fold(net, params, state).net == folded


def test_a_weight_takes_in_the_factor_and_a_bias_the_shift() -> None:
    net = serial(dense(2), batch_norm(epsilon=1.0))
    params, state, _ = net.init(Key(0), (1,), np.float64)
    values = {"0.weight": [[1.0, 2.0]], "0.bias": [5.0, 6.0], "1.scale": [8.0, -3.0], "1.shift": [1.0, 2.0]}
    for path, value in values.items():
        params = tree.replace(params, path, np.array(value))
    state = tree.replace(tree.replace(state, "1.mean", np.array([4.0, 8.0])), "1.var", np.array([15.0, 8.0]))
    _, folded, _ = fold(net, params, state)  # the factors are 8 / 4 and -3 / 3
    np.testing.assert_array_equal(folded.weight, [[2.0, -2.0]])
    np.testing.assert_array_equal(folded.bias, [2.0 * (5 - 4) + 1, -1.0 * (6 - 8) + 2])
    assert not folded.weight.flags.writeable


def test_what_cannot_be_folded_is_refused() -> None:
    net = serial(dense(2), batch_norm())
    params, state, _ = net.init(Key(0), (3,))
    problem = Problem(net, softmax_cross_entropy, adam(0.1))
    assert "Pass problem.net" in message(ValueError, fold, problem, params, state)
    assert "one for each layer" in message(LayerError, fold, net, params[:1], state)
    assert "BatchNormState" in message(LayerError, fold, net, params, (None, None))
    other = serial(dense(5), batch_norm()).init(Key(0), (3,))
    assert "(any, 2)" in message(LayerError, fold, net, (other.params[0], params[1]), state)


def test_a_folded_net_is_saved_and_read_again(tmp_path: Path) -> None:
    made = ready(BENCHMARKS[3], np.float32)
    net, params, state = fold(made.layer, made.params, made.state)
    save_trained(tmp_path / "model.safetensors", Trained(net, Model(params, state), BENCHMARKS[3].in_shape, ()))
    again = load_trained(tmp_path / "model.safetensors")
    assert again.net == net
    assert tree.equal(again.model, Model(params, state))


# --- predictor ------------------------------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("dtype", RTOL)
def test_a_predictor_gives_the_same_but_for_rounding(case: Case, dtype: type) -> None:
    for n in (1, 3, 70):
        made = ready(case, dtype, n=n)
        made = made._replace(x=tree.read_only(made.x))
        predict_all = predictor(made.layer, made.params, made.state)
        first = predict_all(made.x)
        assert_close(first, applied(made), RTOL[dtype])
        kept = tree.map(np.copy, first)
        other = tree.map(lambda x: x + 1 if x.dtype.kind == "f" else x[::-1].copy(), made.x)
        assert tree.equal(predict_all(other), predictor(made.layer, made.params, made.state)(other))
        assert tree.equal(first, kept), "a later call has written to what an earlier one returned"
        assert tree.equal(predict_all(made.x), kept), "what is returned depends on the calls before"


@pytest.mark.parametrize("case", [*MADE, *BENCHMARKS], ids=str)
def test_how_the_input_lies_in_memory_does_not_matter(case: Case) -> None:
    made = ready(case, np.float32, n=3)
    predict_all = predictor(made.layer, made.params, made.state)
    assert_close(predict_all(np.asfortranarray(made.x)), predict_all(made.x), RTOL[np.float32])


@pytest.mark.parametrize("case", BENCHMARKS, ids=list(NETS))
def test_the_number_of_threads_changes_no_bit(case: Case) -> None:
    made, before = ready(case, np.float32, n=256), number_of_threads()
    results = []
    try:
        for number in (1, 2, 3):
            set_threads(number)
            results.append(predictor(made.layer, made.params, made.state)(made.x))
    finally:
        set_threads(before)
    assert tree.equal(results[0], results[1])
    assert tree.equal(results[0], results[2])


def test_threads_may_share_a_predictor() -> None:
    made = ready(BENCHMARKS[1], np.float32, n=4)
    predict_all = predictor(made.layer, made.params, made.state)
    inputs = [made.x + i for i in range(8)]
    wanted = [predict_all(x) for x in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(30) if not tree.equal(predict_all(inputs[i]), wanted[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e9])
def test_a_value_that_stands_out_stays_in_its_windows(value: float) -> None:
    made = ready(Case(serial(conv2d(32, 3, padding=SAME), relu()), (16, 16, 32)), np.float32)
    spoilt = made.x.copy()
    spoilt[1, 8, 8, 0] = value
    assert conv_winograd.stands_out(spoilt)
    predict_all = predictor(made.layer, made.params, made.state)
    sound = predict_all(made.x)
    with np.errstate(invalid="ignore"):
        y = predict_all(spoilt)
    far = np.ones((3, 16, 16), bool)
    far[1, 7:10, 7:10] = False  # where the kernel meets it
    assert_close(y[far], applied(made)[far], RTOL[np.float32])
    assert not np.isclose(y[~far], applied(made)[~far]).all()
    assert tree.equal(predict_all(made.x), sound), "what stood out has left something behind"


def test_errors_are_those_of_the_net_at_every_call() -> None:
    made = ready(Case(serial(dropout(0.5), conv2d(4, 3), relu()), (5, 5, 2)), np.float32)
    predict_all = predictor(made.layer, made.params, made.state)
    predict_all(made.x)
    for wrong in (made.x[..., :1], made.x.astype(np.float64), made.x.astype(">f4"), made.x[0], 1.0, made.x[:, :2]):
        for _ in range(2):
            expected = message(LayerError, made.layer.apply, made.params, made.state, wrong)
            assert message(LayerError, predict_all, wrong) == expected
    assert "serial[1]" in message(ShapeError, predict_all, made.x[..., :1])


def test_no_examples_and_half_precision_go_through_the_layers() -> None:
    made = ready(BENCHMARKS[1], np.float16)
    assert tree.equal(predictor(made.layer, made.params, made.state)(made.x), applied(made))
    made = ready(BENCHMARKS[1], np.float32, n=0)
    assert predictor(made.layer, made.params, made.state)(made.x).shape == (0, 10)


def test_what_underflows_is_zero() -> None:
    made = ready(BENCHMARKS[3], np.float32)
    made = made._replace(x=made.x * np.float32(1e-37))
    with np.errstate(under="raise"):
        y = [predictor(made.layer, made.params, made.state)(made.x) for _ in range(2)]
    assert_close(y[1], applied(made), RTOL[np.float32])


@config
class Centred(Config):
    """A layer of one's own that couples the examples of a batch in evaluation too."""

    name = "centred"


def centred_apply(settings: Any, params: Any, state: Any, x: Array, *, key: Any = None, train: bool = False) -> Applied:
    return Applied(x - x.mean(axis=0), state, x if train else None)


def centred_backward(settings: Any, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    return Gradients(None, dy - dy.mean(axis=0))


@pytest.mark.parametrize(
    "around", [serial, residual, lambda layer: parallel(layer, combine="add")], ids=["plain", "residual", "parallel"]
)
def test_a_batch_is_not_cut_where_examples_may_be_coupled(around: Any) -> None:
    layer = around(make_layer(Centred(), centred_apply, centred_backward))
    case = Case(serial(conv2d(16, 3, padding=SAME), layer, relu(), flatten(), dense(300), dense(8)), (24, 24, 8))
    made = ready(case, np.float32, n=70)
    assert_close(predictor(made.layer, made.params, made.state)(made.x), applied(made), RTOL[np.float32])


# --- Where it is used -----------------------------------------------------------------------------------------


def test_prediction_and_evaluation_in_many_batches_use_it() -> None:
    digits = load("digits")
    net = convnet([8], [16], 10, batch_norm=True, dropout=0.5)
    made = ready(Case(net, digits.in_shape), np.float32)
    model = Model(made.params, made.state)
    inputs, targets = digits.test.take(slice(0, 359))
    logits = applied(made._replace(x=inputs))
    planned = predict(net, model, inputs, batch_size=32)
    assert tree.equal(planned, predict(net, model, digits.test, batch_size=32))
    assert_close(planned, logits, 1e-5)
    forward = predictor(net, made.params, made.state)
    assert tree.equal(planned, np.concatenate([forward(inputs[i : i + 32]) for i in range(0, 359, 32)]))
    problem = Problem(net, softmax_cross_entropy, adam(0.1), metric=metrics.accuracy)
    measured = evaluate(problem, model, digits.test, batch_size=32)
    assert measured == evaluate(problem, model, digits.test, batch_size=32)
    assert measured.loss == pytest.approx(softmax_cross_entropy(logits, targets)[0], rel=1e-5)
    assert measured.accuracy == pytest.approx(metrics.accuracy(planned, targets))
    trained = Trained(net, model, digits.in_shape, range(10))
    shares = probabilities(trained, inputs, batch_size=32)
    assert_close(shares, softmax().apply(None, None, logits).y, 1e-5)

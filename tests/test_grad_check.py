"""The gradient checker is checked: what is right passes, and every way of being wrong is caught and named."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from funcnn import Key, serial, tree
from funcnn.grad_check import GradientError, Report, check_contract, check_layer, check_loss
from funcnn.layer import Applied, Array, Config, Gradients, Layer, LayerError, config, make_layer
from funcnn.layers import dense, dropout, gaussian_noise, relu
from funcnn.losses import Loss, mean_squared_error, softmax_cross_entropy
from funcnn.settings import function_of

SEEDS = range(5)  # no fault may depend on lucky directions to be found
SQUARE = (4,)  # dense(4) on four features: a transposed weight has the same shape
DENSE = dense(4)
SLOPES = re.compile(
    r"(?P<leaf>.+): backward gives the slope (?P<analytic>\S+), finite differences (?P<numeric>\S+) "
    r"at step (?P<step>\S+): their difference is (?P<error>\S+) of (?P<what>.+), (?P<unit>\S+), and may be 1e-06\. "
    r"(?P<mistake>.+)"
)

Change = Callable[[Gradients, Any, Array], Gradients]


def changed_backward(
    change: Change, config: Config, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    return change(function_of(DENSE.backward)(config, params, residuals, dy, need_dx=need_dx), residuals, dy)


def faulty(change: Change, units: int = 4) -> Layer:
    """A dense layer whose gradients are changed by ``change(gradients, x, dy)``."""
    real = dense(units)
    return make_layer(real.config, function_of(real.apply), partial(changed_backward, change), function_of(real._init))


def with_weight(change: Callable[[Array], Any]) -> Change:
    """The fault that the weight's gradient alone is changed."""
    return lambda gradients, x, dy: gradients._replace(
        params=tree.replace(gradients.params, "weight", change(gradients.params.weight))
    )


def with_bias(change: Callable[[Array], Any]) -> Change:
    """The fault that ``change(dy)`` is given for the bias's gradient."""
    return lambda gradients, x, dy: gradients._replace(params=tree.replace(gradients.params, "bias", change(dy)))


def with_dx(change: Callable[[Array], Any]) -> Change:
    """The fault that dx is changed, where it is asked for."""
    return lambda gradients, x, dy: gradients._replace(dx=None if gradients.dx is None else change(gradients.dx))


def flip_one(array: Array) -> Array:
    flipped = array.copy()
    flipped.flat[flipped.size // 3] *= -1
    return flipped


def message(layer: Layer, in_shape: tuple[int, ...], seed: int = 0) -> str:
    """What the checker says of a faulty layer."""
    with pytest.raises(GradientError) as caught:
        check_layer(layer, in_shape, key=Key(seed))
    return str(caught.value)


# --- Layers that are right ------------------------------------------------------------------------------------


def test_every_leaf_of_a_right_layer_is_checked_along_several_directions() -> None:
    report = check_layer(DENSE, (5,), key=Key(0))
    leaves = [check.leaf for check in report.checks]
    assert leaves == [leaf for leaf in ("params.weight", "params.bias", "x") for _ in range(3)]
    assert len({check.analytic for check in report.checks}) == 9
    assert report.largest_error == max(check.error for check in report.checks) < 1e-6
    assert report.kinks == 0


def test_leaves_of_a_net_are_named_by_their_paths() -> None:
    report = check_layer(serial(dense(3), serial(relu(), dense(2, use_bias=False))), (4,), key=Key(0))
    assert {check.leaf for check in report.checks} == {"params.0.weight", "params.0.bias", "params.1.1.weight", "x"}


def test_equal_keys_give_equal_reports_and_others_do_not() -> None:
    assert check_layer(DENSE, SQUARE, key=Key(3)) == check_layer(DENSE, SQUARE, key=Key(3))
    assert check_layer(DENSE, SQUARE, key=Key(3)) != check_layer(DENSE, SQUARE, key=Key(4))


def test_a_report_of_nothing_has_no_error() -> None:
    assert Report((), 0).largest_error == 0


@pytest.mark.parametrize(
    "layer", [dropout(0.5), gaussian_noise(1.0), serial(dropout(0.5), DENSE, dropout(0.3))], ids=str
)
def test_one_mask_serves_every_forward_pass(layer: Layer) -> None:
    report = check_layer(layer, (40,), key=Key(0))
    assert report.largest_error < 1e-6
    assert report.kinks == 0


@pytest.mark.parametrize("layer", [DENSE, dropout(0.5), serial(DENSE, relu())], ids=str)
def test_without_training_the_layer_says_itself_that_residuals_are_missing(layer: Layer) -> None:
    with pytest.raises(LayerError, match="needs the residuals of a training pass, got None"):
        check_layer(layer, SQUARE, key=Key(0), train=False)


# --- Layers that are wrong ------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Change, str]] = {
    "weight wrong by 0.05 %": (with_weight(lambda gradient: gradient * 1.0005), "params.weight"),
    "bias wrong by 0.05 %": (with_bias(lambda dy: dy.sum(axis=0) * 0.9995), "params.bias"),
    "dx wrong by 0.05 %": (with_dx(lambda dx: dx * 1.0005), "x"),
    "one weight of the wrong sign": (with_weight(flip_one), "params.weight"),
    "one dx of the wrong sign": (with_dx(flip_one), "x"),
    "weight with its axes swapped": (with_weight(lambda gradient: gradient.T), "params.weight"),
    "weight left out": (with_weight(np.zeros_like), "params.weight"),
    "bias of one example alone": (with_bias(lambda dy: dy[0]), "params.bias"),
    "bias as a mean": (with_bias(lambda dy: dy.mean(axis=0)), "params.bias"),
    "dx of the wrong sign": (with_dx(np.negative), "x"),
    "dx of another example": (with_dx(lambda dx: np.roll(dx, 1, axis=0)), "x"),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_gradient_is_caught_and_named(fault: str, seed: int) -> None:
    change, leaf = FAULTS[fault]
    found = SLOPES.fullmatch(message(faulty(change), SQUARE, seed))
    assert found, "the message does not give both slopes and the step"
    assert found["leaf"] == f"dense(units=4): slopes: {leaf}"
    assert float(found["error"]) > 1e-6
    # The error is what a reader makes of the numbers that are shown.
    difference = abs(float(found["analytic"]) - float(found["numeric"]))
    assert float(found["error"]) == pytest.approx(difference / float(found["unit"]), rel=0.1)
    assert 1e-6 <= float(found["step"]) < 1e-5


@pytest.mark.parametrize("seed", SEEDS)
def test_the_slopes_in_the_message_are_the_wrong_and_the_right_one(seed: int) -> None:
    found = SLOPES.fullmatch(message(faulty(FAULTS["weight wrong by 0.05 %"][0]), SQUARE, seed))
    assert found
    assert float(found["analytic"]) == pytest.approx(1.0005 * float(found["numeric"]), rel=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("change", [with_weight(flip_one), with_dx(flip_one)], ids=["weight", "dx"])
def test_one_wrong_element_of_ten_thousand_shows(change: Change, seed: int) -> None:
    layer = faulty(change, units=100)
    with pytest.raises(GradientError, match="backward gives the slope"):
        check_layer(layer, (100,), key=Key(seed), batch=100)


def test_a_wrong_gradient_within_a_net_is_caught() -> None:
    net = serial(dense(4), relu(), faulty(with_bias(lambda dy: dy[0])))
    assert "params.2.bias: backward gives the slope" in message(net, SQUARE)


def forgotten_scale(config: Config, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    mask = getattr(residuals, "mask", residuals)
    return Gradients(None, dy * mask if need_dx else None)


def test_dropout_without_its_scale_in_backward_is_caught() -> None:
    real = dropout(0.5)
    layer = make_layer(real.config, function_of(real.apply), forgotten_scale)
    found = SLOPES.fullmatch(message(layer, (40,)))
    assert found
    assert float(found["analytic"]) == pytest.approx(float(found["numeric"]) / 2, rel=1e-6)


def drawing_apply(
    config: Config, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    mask = np.random.default_rng().random(x.shape) < 0.5  # other draws at every call: no function of its arguments
    return Applied(x * mask, state, mask if train else None)


def test_a_layer_that_ignores_its_key_does_not_pass() -> None:
    assert "slope" in message(make_layer(dropout(0.5).config, drawing_apply, forgotten_scale), (40,))


# --- Kinks ----------------------------------------------------------------------------------------------------


@config
class Folded(Config):
    """y = |x - the nearest multiple of the spacing|: a kink at every half of the spacing."""

    name: ClassVar[str] = "folded"
    spacing: float
    factor: float = 1.0  # of the gradient; 1 is right


def folded_apply(
    config: Folded, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    beside = x - config.spacing * np.round(x / config.spacing)
    return Applied(np.abs(beside), state, np.sign(beside) if train else None)


def folded_backward(config: Folded, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    return Gradients(None, config.factor * residuals * dy if need_dx else None)


def folded(spacing: float, factor: float = 1.0) -> Layer:
    return make_layer(Folded(spacing, factor), folded_apply, folded_backward)


OFTEN = 1e-4  # a spacing at which about every other direction meets a kink
ALWAYS = 1e-7  # a spacing below the checker's step


def test_directions_that_meet_a_kink_are_counted_and_drawn_again() -> None:
    reports = [check_layer(folded(OFTEN), (4,), key=Key(seed)) for seed in SEEDS]
    assert sum(report.kinks for report in reports) > 0
    assert max(report.largest_error for report in reports) < 1e-6
    assert {len(report.checks) for report in reports} == {3}


def test_unavoidable_kinks_are_an_error_that_says_so() -> None:
    text = message(folded(ALWAYS), (4,))
    assert re.fullmatch(
        r"folded\(spacing=1e-07\): slopes: x: \d+ directions met a kink within \S+; "
        r"its slope cannot be measured there\. Choose inputs away from kinks",
        text,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_kinks_hide_no_wrong_gradient(seed: int) -> None:
    assert SLOPES.fullmatch(message(folded(OFTEN, factor=1.0005), (4,), seed))
    assert "met a kink" in message(folded(ALWAYS, factor=1.0005), (4,), seed)


# --- Losses ---------------------------------------------------------------------------------------------------


def absolute_loss(outputs: Array, targets: Array) -> tuple[float, Array]:
    """The mean of |outputs - targets|, with a kink where they agree."""
    return float(np.abs(outputs - targets).mean()), np.sign(outputs - targets) / outputs.size


def changed_loss(change: Callable[[Array], Any], loss: Loss, outputs: Array, targets: Array) -> tuple[float, Any]:
    value, gradient = loss(outputs, targets)
    return value, change(gradient)


@pytest.fixture
def outputs() -> Array:
    return np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


@pytest.mark.parametrize("loss", [mean_squared_error, absolute_loss])
def test_a_right_loss_passes_and_is_taken_in_float64(loss: Loss, outputs: Array) -> None:
    seen = set()

    def watched(outputs: Array, targets: Array) -> tuple[float, Array]:
        seen.add(outputs.dtype)
        return loss(outputs, targets)

    report = check_loss(watched, outputs, np.zeros_like(outputs), key=Key(0))
    assert [check.leaf for check in report.checks] == ["d_outputs"] * 3
    assert report.largest_error < 1e-6
    assert report.kinks == 0
    assert seen == {np.dtype(np.float64)}


CONFIDENT = np.array([[20.0, 0.0, 0.0], [0.0, 0.0, 100.0]])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("loss", "outputs", "targets"),
    [
        (mean_squared_error, CONFIDENT + 0.1, CONFIDENT + 0.1),
        (softmax_cross_entropy, CONFIDENT, np.array([0, 2])),
    ],
)
def test_a_loss_next_to_nothing_has_no_kink_and_its_gradient_counts(
    loss: Loss, outputs: Array, targets: Array, seed: int
) -> None:
    """What rounding leaves of a tiny value is no kink: the numbers that a loss adds up are as large as the outputs."""
    assert check_loss(loss, outputs, targets, key=Key(seed)).kinks == 0
    with pytest.raises(GradientError, match="backward gives the slope"):
        check_loss(partial(changed_loss, lambda d: d + 0.001, loss), outputs, targets, key=Key(seed))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "change",
    [lambda d: d * 1.0005, flip_one, lambda d: d * len(d), np.negative, np.zeros_like, lambda d: np.roll(d, 1, axis=0)],
    ids=["0.05 %", "one sign", "sum for mean", "sign", "zero", "rows"],
)
@pytest.mark.parametrize("loss", [mean_squared_error, absolute_loss])
def test_a_wrong_gradient_of_a_loss_is_caught(
    loss: Loss, change: Callable[[Array], Array], seed: int, outputs: Array
) -> None:
    with pytest.raises(GradientError) as caught:
        check_loss(partial(changed_loss, change, loss), outputs, np.zeros_like(outputs), key=Key(seed))
    found = SLOPES.fullmatch(str(caught.value))
    assert found
    assert found["leaf"] == "d_outputs"
    assert float(found["error"]) > 1e-6


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        (np.negative, "The right one is -1 times backward's: the sign is turned"),
        (lambda d: d / 3, "The right one is 3 times backward's: a factor is wrong, or a mean stands for a sum"),
        (lambda d: d * 2, "The right one is 1/2 of backward's: a factor is wrong, or a mean stands for a sum"),
        (np.zeros_like, "Backward leaves this gradient out"),
        (lambda d: np.roll(d, 1, axis=0), "A term, an axis or an example is missing or wrong in backward"),
        (lambda d: d * np.nan, "Backward gives numbers that are not finite"),
    ],
    ids=["sign", "sum for mean", "factor", "zero", "rows", "nan"],
)
def test_two_slopes_give_the_mistake_away(change: Callable[[Array], Array], mistake: str, outputs: Array) -> None:
    with pytest.raises(GradientError) as caught:
        check_loss(partial(changed_loss, change, mean_squared_error), outputs, np.zeros_like(outputs), key=Key(0))
    assert str(caught.value).endswith(f"and may be 1e-06. {mistake}")


@pytest.mark.parametrize(
    ("value", "mistake"),
    [
        (1.0, "The result does not depend on it: its gradient is zero"),
        (np.inf, "The forward pass gives numbers that are not finite"),
    ],
)
def test_a_constant_gives_the_mistake_away(value: float, mistake: str, outputs: Array) -> None:
    with pytest.raises(GradientError, match=f"{mistake}$"):
        check_loss(lambda outputs, targets: (value, np.ones_like(outputs)), outputs, outputs, key=Key(0))


@pytest.mark.parametrize(
    ("change", "got"),
    [(lambda d: d.astype(np.float32), "float32 (6, 5)"), (lambda d: d[0], "float64 (5,)"), (np.ravel, "float64 (30,)")],
    ids=["dtype", "row", "flat"],
)
def test_a_gradient_of_a_loss_of_another_form_is_refused(
    change: Callable[[Array], Array], got: str, outputs: Array
) -> None:
    with pytest.raises(GradientError) as caught:
        check_loss(partial(changed_loss, change, mean_squared_error), outputs, outputs, key=Key(0))
    assert str(caught.value) == f"d_outputs: expected float64 (6, 5) like the outputs, got {got}"


def test_a_loss_at_its_kink_says_so_and_its_advice_helps(outputs: Array) -> None:
    with pytest.raises(GradientError, match=r"^d_outputs: .* met a kink .* Choose inputs away from kinks$"):
        check_loss(absolute_loss, outputs, outputs, key=Key(0))
    assert check_loss(absolute_loss, outputs, outputs + 0.1, key=Key(0)).largest_error < 1e-6


@pytest.mark.parametrize("seed", SEEDS)
def test_a_loss_near_its_kink_hides_no_wrong_gradient(seed: int) -> None:
    near, targets = np.full((1, 2), 1e-6), np.zeros((1, 2))  # about half of the directions cross zero
    report = check_loss(absolute_loss, near, targets, key=Key(seed))
    assert report.largest_error < 1e-6
    wrong = partial(changed_loss, lambda d: d * 1.0005, absolute_loss)
    with pytest.raises(GradientError, match="backward gives the slope"):
        check_loss(wrong, near, targets, key=Key(seed))


# --- Arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (
            lambda: check_layer(dense(3), (4,), key=Key(0), batch=0),
            "check_layer: batch must be an int of at least 1, got 0",
        ),
        (
            lambda: check_contract(dense(3), (4,), key=Key(0), batch=2.5),
            "check_contract: batch must be an int of at least",
        ),
        (lambda: check_layer(dense, (4,), key=Key(0)), "check_layer: layer must be a Layer, got dense"),
        (lambda: check_contract(dense(3), (4,), key=5), "check_contract: key must be a Key, got 5. Pass Key(5)"),
        (lambda: check_layer(dense(3), 4, key=Key(0)), "expected in_shape, an example's shape, to be a tuple, got 4"),
        (lambda: check_loss(mean_squared_error, np.ones(2), np.ones(2), key=5), "check_loss: key must be a Key, got 5"),
        (
            lambda: check_loss(mean_squared_error, "outputs", np.ones(2), key=Key(0)),
            "check_loss: outputs must be numbers",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(use: Any, text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(text)):
        use()


@pytest.mark.parametrize(
    ("made", "got"),
    [(0.5, "0.5"), ((0.5,), "(0.5)"), ((np.ones(2), np.ones(2)), "(an array float64 (2,), an array float64 (2,))")],
    ids=["a number", "a tuple of one", "arrays"],
)
def test_a_loss_that_gives_anything_else_is_told_what_it_must(made: Any, got: str) -> None:
    def own(outputs: Array, targets: Array) -> Any:
        return made

    with pytest.raises(GradientError) as caught:
        check_loss(own, np.ones(2), np.ones(2), key=Key(0))
    assert str(caught.value) == f"own: expected (value, d_outputs), a number and an array, got {got}"

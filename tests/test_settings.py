"""Settings: every constructor takes what fits, and refuses all else with its own name and the argument's."""

import inspect
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cases import message

from funcnn import Key, compose, init, keys, layers, models, optimizers, schedules
from funcnn.init import Initializer, he_normal, normal
from funcnn.layer import Config, Layer, config, make_layer
from funcnn.layers import dense, gru, relu
from funcnn.optimizers import OptimizerSettings, make_optimizer, make_transform, sgd
from funcnn.settings import Described, as_tuple, float_dtype, number, refuse, shown


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


WILD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 2**70, 10**400, -(2**63), 0.0, -0.0, 0.5, 1.5, -1.5, 1e308, math.nan, math.inf,
    -math.inf, 1j, "", "0.5", "same", "a" * 1000, b"", b"3", bytearray(2), [], [1, 2], [2, 2], (), (3,), (2, 2),
    (1, "2"), ((0, 1), (1, 0)), ((0, -1), (1, 0)), [[1, 2], [3]], {}, {"a": 1}, {1}, range(3), iter([1]), object(),
    Unprintable(), object, int, lambda: 0, lambda *arguments: None, print, Key(0), relu(), relu, dense, [relu()],
    (relu(), None), he_normal(), he_normal, sgd(0.1), np.array([1, 2]), np.array(0.5), np.array([]), np.ones((2, 2)),
    np.array(["x"]), np.array([None]), np.float32(0.5), np.float64("nan"), np.int64(2), np.uint8(3), np.bool_(True),
    np.str_("same"), np.datetime64(1, "s"), Fraction(1, 2), Decimal("0.5"), ..., NotImplemented, inspect, type(None),
)  # fmt: skip

# What a constructor needs besides the argument that is tried.
NEEDED: dict[str, tuple[Any, ...]] = {
    "avg_pool2d": (2,), "chain": (sgd(0.1),), "chunked": (relu(), 2), "conv2d": (2, 3), "dense": (2,),
    "dropout": (0.5,),
    "elementwise": (np.sin, np.cos), "gaussian_noise": (0.1,), "max_pool2d": (2,), "reshape": ((2,),),
    "residual": (relu(),), "scale": (2.0,), "parallel": (relu(),), "init.constant": (0.1,), "normal": (0.1,),
    "uniform": (0.1,), "fully_connected": ([2], 3), "convnet": ([2], [2], 3), "sgd": (0.1,), "momentum": (0.1,),
    "rmsprop": (0.1,), "adam": (0.1,), "adamw": (0.1,), "clip_by_global_norm": (0.1,), "add_decayed_weights": (0.1,),
    "schedules.constant": (0.1,), "exponential_decay": (0.1, 0.5), "inverse_time_decay": (0.1, 0.5),
    "accumulate": (sgd(0.1), 2), "adadelta": (0.1,), "adafactor": (0.1,), "adagrad": (0.1,), "adamax": (0.1,),
    "averaged": (sgd(0.1),), "clip_by_norm": (0.1,), "clip_by_value": (0.1,), "drop_below": (sgd(0.1), 0.1),
    "lamb": (0.1,), "lion": (0.1,), "lookahead": (sgd(0.1),), "muon": (0.1,), "nadam": (0.1,),
    "partition": ({"*": sgd(0.1)}, sgd(0.1)), "plateau": (sgd(0.1),), "radam": (0.1,), "schedule_free_adamw": (0.1,),
    "schedule_free_sgd": (0.1,), "sharpness_aware": (sgd(0.1),), "cosine": (0.1, 5), "cosine_restarts": (0.1, 5),
    "cyclic": (0.1, 0.2, 5), "join_schedules": ([0.1, 0.2], [3]), "linear": (0.1, 0.2, 5), "one_cycle": (0.1, 5),
    "polynomial": (0.1, 5), "scaled": (0.1, 2.0), "warmup": (0.1, 5),
    "warmup_cosine": (0.1, 2, 5), "piecewise_constant": ([3], [0.1, 0.2]), "Key": (0,), "split": (Key(0), 2),
    "fold_in": (Key(0), 2), "generator": (Key(0),), "rnn": (2,), "lstm": (2,), "gru": (2,), "carried": (gru(2),),
    "self_attention": (2,), "cross_attention": (2,), "transformer_block": (8, 2), "gpt": (5, 4),
    "conv1d": (2, 3), "conv_transpose1d": (2, 3), "max_pool1d": (2,), "avg_pool1d": (2,), "alpha_dropout": (0.5,),
    "conv_transpose2d": (2, 3), "crop2d": (1,), "depthwise_conv2d": (3,), "drop_path": (0.5,), "embedding": (5, 2),
    "group_norm": (2,), "maxout": (2,), "pixel_shuffle": (2,), "pixel_unshuffle": (2,),
    "spatial_dropout": (0.5,), "unembedding": (5,), "upsample2d": (2,), "zero_pad2d": (1,),
    "frozen": (relu(),),
    "branches": (relu(),), "join": ("add",), "remat": (relu(),), "repeat": (relu(), 2), "tied": (relu(), {}),
    "dense_connections": (relu(),), "truncated_normal": (0.1,),
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {"gpt": {"layers": 1, "heads": 1, "features": 2}, "elementwise": {"name": "wave"}}
BUILDING_BLOCKS = {"global_norm", "masked", "update_leaves", "weights_only", "zeros_like", "value_at"}  # take trees
COMPOSED = {"separable_conv2d"}  # of others, which the errors name, as the net that it prints as does


def constructors(*modules: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public constructors of modules by name, with the module's where two have one name."""
    for module in modules:
        for name in module.__all__:
            make = getattr(module, name)
            if (
                inspect.isfunction(make)
                and not name.startswith(("make_", "check_"))
                and name not in BUILDING_BLOCKS | COMPOSED
            ):
                short = module.__name__.rpartition(".")[2]
                yield (f"{short}.{name}" if name == "constant" else name), make


CONSTRUCTORS = dict(constructors(layers, compose, init, models, optimizers, schedules, keys)) | {"Key": Key}


def test_every_constructor_is_tried_with_all_its_arguments() -> None:
    assert len(CONSTRUCTORS) > 50
    for name, make in CONSTRUCTORS.items():
        make(*NEEDED.get(name, ()), **OPTIONS.get(name, {}))


def calls(name: str, make: Callable[..., Any], value: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each argument of a constructor by name, with the call in which it is the value."""
    signature = inspect.signature(make)
    given = signature.bind(*NEEDED.get(name, ()), **OPTIONS.get(name, {})).arguments
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            yield name, partial(make, value, *NEEDED.get(name, ()))
        else:
            spread = [each for each in signature.parameters.values() if each.kind is each.VAR_POSITIONAL]
            positional = given.get(spread[0].name, ()) if spread else ()
            named = {key: each for key, each in given.items() if not spread or key != spread[0].name}
            yield parameter.name, partial(make, *positional, **named | {parameter.name: value})


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_wild_arguments_are_taken_or_refused_by_name(name: str) -> None:
    make, plain = CONSTRUCTORS[name], name.rpartition(".")[2]
    for value in WILD:
        for argument, call in calls(name, make, value):
            try:
                made = call()
            except (TypeError, ValueError) as error:  # a LayerError is a ValueError
                text = str(error)
                assert plain in text, (argument, shown(value), text)
                assert argument in text, (argument, shown(value), text)
                assert len(text) < 400, (argument, shown(value), text)
            else:
                assert made is not None
                if not isinstance(made, np.random.Generator):
                    assert isinstance(value, Unprintable) or repr(made)


# --- What is no longer taken, and what is now ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: layers.dropout("0.5"), "dropout: rate must be a number, got '0.5'"),
        (lambda: layers.dropout(True), "dropout: rate must be a number, got True"),
        (lambda: layers.leaky_relu(b"1"), "leaky_relu: slope must be a number, got b'1'"),
        (lambda: layers.elu(np.ones(1)), "elu: alpha must be a number, got an array float64 (1,)"),
        (lambda: layers.scale(10**400), f"scale: factor must be a number, got 1{76 * '0'}..."),
        (lambda: init.normal("0.5"), "normal: stddev must be a number, got '0.5'"),
        (lambda: optimizers.adam(True), "adam: lr must be a number or a schedule, a function of the step, got True"),
        (lambda: schedules.warmup_cosine(0.1, True, 5), "warmup_cosine: warmup_steps must be an int from 0 to less"),
        (lambda: schedules.piecewise_constant(3, [0.1]), "piecewise_constant: boundaries must be a list of steps, got"),
        (lambda: schedules.piecewise_constant([3], "ab"), "piecewise_constant: values must be a list of numbers, got"),
        (lambda: layers.conv2d(2, np.ones(2)), "conv2d: kernel_size must be a positive int or a pair (height, width)"),
        (lambda: layers.conv2d(2, 3, padding=np.array(["same"])), 'conv2d: padding must be "valid", "same", an int, '),
        (lambda: layers.conv2d(2, 3, algorithm=np.array([1, 2])), "conv2d: algorithm must be one of 'auto', 'plain',"),
        (lambda: layers.max_pool2d(10**7), "max_pool2d: window must be at most 262,144 along an axis, got (10000000, "),
        (
            lambda: layers.max_pool2d(2, padding=10**7),
            "max_pool2d: padding must be at most 262,144 on a side, got 10000",
        ),
        (lambda: dense(2**31), "dense: units must be at most 2,147,483,647, got 2147483648"),
        (
            lambda: dense(2, weight_init=he_normal),
            "dense: weight_init must be an initialiser such as he_normal(), call",
        ),
        (lambda: compose.residual(relu), "residual: layer must be a Layer, got the function relu; call it: relu(...)"),
        (lambda: keys.split(Key(0), 10**30), "split: n must be an int from 0 to 1,000,000, got 10000"),
        (lambda: Key(10**5000), "Key: seed must be an int from 0 to 2**63 - 1, got a value of type int that does not "),
        (lambda: Key(0, [1]), "Key: path must be a tuple of ints from 0 to 2**32 - 1, got [1]. Use fold_in to make it"),
    ],
)
def test_what_was_taken_for_a_number_or_failed_elsewhere_is_refused(make: Callable[[], Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        make()
    assert str(raised.value).startswith(text)


def test_numbers_of_numpy_are_kept_as_pythons() -> None:
    made = layers.conv2d(np.int64(4), np.uint8(3), padding=((np.int32(1), 0), (0, 1)), groups=np.int8(2))
    assert made == layers.conv2d(4, 3, padding=((1, 0), (0, 1)), groups=2)
    assert type(made.config.filters) is type(made.config.kernel_size[0]) is type(made.config.padding[0][0]) is int
    assert type(layers.dropout(np.float32(0.5)).config.rate) is float
    assert schedules.piecewise_constant(np.array([3, 5]), np.array([0.5, 0.25, 0.125], np.float32)) == (
        schedules.piecewise_constant([3, 5], [0.5, 0.25, 0.125])
    )
    assert models.fully_connected(np.array([4, 2]), np.int64(3)) == models.fully_connected([4, 2], 3)
    assert layers.reshape(np.array([2, 3])) == layers.reshape((2, 3))
    assert as_tuple(np.array([1, 2])) == (1, 2)
    assert as_tuple("ab") == "ab"


def test_a_rate_that_grows_beyond_the_floats_is_refused_at_its_step() -> None:
    optimizer = sgd(schedules.exponential_decay(1.0, 2.0))
    assert optimizer.learning_rate(1000) == 2.0**1000
    assert "the learning rate at step 2000 must be a number, finite" in message(
        ValueError, optimizer.learning_rate, 2000
    )


# --- Keys and dtypes, wherever they are taken -----------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [0, 5, -1, None, "0", np.int64(3), np.random.default_rng(0)], ids=lambda each: repr(each).split(" at ")[0]
)
def test_what_is_no_key_is_refused_where_a_key_is_taken(wrong: Any) -> None:
    params, state, _ = dense(3).init(Key(0), (4,))
    x = np.ones((2, 4), np.float32)
    net = compose.serial(dense(3), layers.dropout(0.5))
    for place, use in (
        ("dense.init", lambda: dense(3).init(wrong, (4,))),
        ("relu.init", lambda: relu().init(wrong, (4,))),
        ("serial.init", lambda: net.init(wrong, (4,))),
        ("he_normal", lambda: he_normal()(wrong, (4,), 4, 4)),
        ("fold_in", lambda: keys.fold_in(wrong, 1)),
        ("split", lambda: keys.split(wrong, 1)),
        ("generator", lambda: keys.generator(wrong)),
    ):
        text = message(TypeError, use)
        assert text.startswith(f"{place}: key must be a Key, got ")
        assert text.endswith(f"Pass Key({wrong})" if type(wrong) is int and wrong >= 0 else "Pass Key(seed)")
    if wrong is not None:  # that has a message of its own: with None, nothing is drawn
        for layer, its_params in ((layers.dropout(0.5), None), (net, (params, None))):
            its_state = None if its_params is None else (state, None)
            with pytest.raises((TypeError, ValueError), match=r"key must be a Key, got"):
                layer.apply(its_params, its_state, x, key=wrong, train=True)


@pytest.mark.parametrize("wrong", [np.int64, "int32", bool, np.complex64, "float33", None, object, 5, "U3"], ids=str)
def test_a_dtype_without_floats_is_refused_where_one_is_taken(wrong: Any) -> None:
    assert float_dtype(wrong) is None
    for place, use in (
        ("dense.init", partial(dense(3).init, Key(0), (4,), wrong)),
        ("relu.init", partial(relu().init, Key(0), (4,), wrong)),
        ("normal", partial(normal(0.1), Key(0), (4,), 4, 4, wrong)),
    ):
        text = message(ValueError, use)
        assert text.startswith(f"{place}: dtype must be a float type such as np.float32, got ")
    for dtype in (np.float16, "float32", float, np.dtype("f8")):
        assert dense(3).init(Key(0), (4,), dtype).params.weight.dtype == dtype


def test_shapes_are_tuples_of_ints() -> None:
    assert dense(2).init(Key(0), [np.int64(3)]).params.weight.shape == (3, 2)
    for wrong in (3, None, "3", (2.5,), (-1,), (True,), np.ones(1)):
        with pytest.raises(ValueError, match="in_shape"):
            relu().init(Key(0), wrong)
    with pytest.raises(ValueError, match=r"^relu\(\): expected one input, got 1, of shapes \(\(3,\),\)"):
        relu().init(Key(0), ((3,),))
    with pytest.raises(ValueError, match=r"^normal: shape must be a tuple of ints, none negative, got 3$"):
        normal(0.1)(Key(0), 3, 1, 1)  # type: ignore[arg-type]


# --- Classes of settings of one's own --------------------------------------------------------------------------


class Bare(Config):
    name = "bare"


class Inherited(OptimizerSettings):
    name = "inherited"


@config
class Nameless(Config):
    pass


@config
class Own(Config):
    name = "own"
    size: float = number(lambda instance, attribute, value: None, default=1.0)


def test_a_forgotten_config_or_name_is_said_when_settings_are_made() -> None:
    for kind, arguments in ((Bare, ()), (Inherited, (0.1,))):
        assert message(TypeError, kind, *arguments) == (
            f"{kind.__name__}: expected a class made by @config. Write @config above class {kind.__name__}"
        )
    assert message(TypeError, Nameless).startswith(
        "Nameless: expected a class with the name of its constructor. Add name"
    )
    assert repr(config(Bare)()) == "bare()"


@pytest.mark.parametrize("make", [make_layer, make_optimizer, make_transform])
@pytest.mark.parametrize("wrong", [None, 0.1, Own, "own"], ids=str)
def test_what_are_no_settings_is_said_when_a_part_is_made(make: Callable[..., Any], wrong: Any) -> None:
    arguments = (print, print) if make is make_layer else (print,)
    text = message(TypeError, make, wrong, *arguments)
    assert text.startswith(f"{make.__name__}: settings must be a ")
    assert "Make their class a subclass: @config class " in text


def test_a_layer_needs_settings_of_a_layer() -> None:
    @config
    class Other(Described):
        name = "other"

    assert "settings must be a Config, got other()" in message(TypeError, make_layer, Other(), print, print)
    assert isinstance(make_layer(Own(), print, print), Layer)


@config
class Flat(Initializer):
    name = "flat"

    def fill(self, key: Key, shape: Any, fan_in: int, fan_out: int) -> Any:
        return np.ones(math.prod(shape))


def test_an_initialiser_of_ones_own_must_give_the_shape() -> None:
    text = message(ValueError, dense(2, weight_init=Flat()).init, Key(0), (3,))
    assert text == "flat: what fill gives must be an array of shape (3, 2), got an array float32 (6,)"


def test_values_are_shown_on_one_short_line() -> None:
    assert shown(np.ones(3)) == "an array float64 (3,)"
    assert shown(relu) == "relu"
    assert shown(Unprintable()) == "a value of type Unprintable that does not print"
    assert len(shown("a" * 1000)) == 80
    with pytest.raises(ValueError, match=r"^here: size must be small, got 5\. Take 3$"):
        refuse("here", "size", "small", 5, "Take 3")

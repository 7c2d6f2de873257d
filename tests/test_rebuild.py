"""Descriptions: every kind of part is made again from its own, a user's too, and what never could be is refused."""

import enum
import json
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import own
import pytest
from cases import CASES, all_configs, message
from own import Centred, Diagonal, Power, Ramp, absolute, cube, darken, diagonal, halve, power, ramp

from funcnn import compose, init, layers, schedules
from funcnn.compose import residual, serial
from funcnn.data import (
    flip_horizontally,
    mixup,
    random_erasing,
    random_rotation,
    rescale,
    shifted_crop,
    standardise,
    subtract_mean_image,
)
from funcnn.init import he_uniform
from funcnn.layer import Config, Described, Layer, LayerError, as_code, config, describe, make_layer
from funcnn.layers import conv2d, dense, elementwise, relu
from funcnn.losses import mean_squared_error, softmax_cross_entropy
from funcnn.optimizers import adamw, chain, clip_by_global_norm, weights_only
from funcnn.rebuild import own_parts, rebuild

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)


def stored(value: Any) -> Any:
    """A value's description, through a file."""
    return json.loads(json.dumps(describe(value)))


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same; partials compare by identity, so by what they are made of."""
    if isinstance(one, partial):
        return (one.func, one.args, one.keywords) == (other.func, other.args, other.keywords)
    return type(one) is type(other) and bool(one == other)


# --- The library's --------------------------------------------------------------------------------------------


def told(parameter: Any) -> str:
    """A test's name for a kind, a value or its makers, without addresses."""
    if isinstance(parameter, list):
        return "-".join(each.__name__ for each in parameter)
    return parameter if isinstance(parameter, str) else as_code(parameter)


LIBRARY = [
    ("layer", serial(dense(3, weight_init=init.constant(0.5)), relu())),
    ("initialiser", init.constant(0.5)),
    ("preprocessing", rescale(255)),
    ("preprocessing", standardise(IMAGES)),
    ("preprocessing", subtract_mean_image(IMAGES)),
    ("augmentation", flip_horizontally),
    ("augmentation", partial(shifted_crop, pad=2)),
    ("augmentation", random_erasing(0.25, ratio=(0.5, 2))),
    ("augmentation", random_rotation(15)),
    ("augmentation", mixup(0.4, classes=3)),
    ("loss", mean_squared_error),
    ("loss", partial(softmax_cross_entropy, label_smoothing=0.1)),
    ("schedule", schedules.constant(0.5)),
    ("schedule", schedules.piecewise_constant((3, 5), (0.1, 0.01, 0.001))),
    ("optimizer", chain(clip_by_global_norm(1.0), adamw(schedules.constant(0.1), mask=weights_only))),
]


@pytest.mark.parametrize(
    ("kind", "value"),
    LIBRARY,
    ids=told,
)
def test_every_kind_is_made_again(kind: str, value: Any) -> None:
    assert own_parts(**{kind: value}) == []
    assert same(rebuild(stored(value), kind=kind), value)


def test_a_description_is_plain_data() -> None:
    net = serial(conv2d(8, (3, 2), padding=((0, 1), (0, 1)), weight_init=he_uniform()), residual(relu()))
    assert describe(net) == {
        "name": "serial",
        "layers": [
            {
                "name": "conv2d",
                "filters": 8,
                "kernel_size": [3, 2],
                "padding": [[0, 1], [0, 1]],
                "weight_init": {"name": "he_uniform"},
            },
            {"name": "residual", "layer": {"name": "relu"}},
        ],
    }
    assert describe(partial(softmax_cross_entropy, label_smoothing=0.1)) == {
        "function": "softmax_cross_entropy",
        "label_smoothing": 0.1,
    }


def test_of_all_layers_those_that_are_not_the_librarys_are_told_as_own() -> None:
    for case in CASES:
        names = {settings.name for settings in all_configs(case.layer)}
        assert set(own_parts(layer=case.layer)) == names - {*layers.__all__, *compose.__all__}


@pytest.mark.parametrize("name", ["dence", "rebuild", "Layer", "__import__", None])
def test_only_known_names_are_made(name: Any) -> None:
    expected = f"rebuild: no part of this library is called {str(name)!r}. Pass your own: layers=[{name}]"
    assert message(LayerError, rebuild, {"name": name}) == expected
    assert message(LayerError, rebuild, {"name": "serial", "layers": [{"name": name}, {"name": name}]}) == expected
    assert message(LayerError, rebuild, {"function": name}, kind="loss") == expected


@pytest.mark.parametrize("description", [None, 3, [], {"name": "zeros"}, {"function": "relu"}], ids=str)
def test_what_describes_another_kind_is_refused(description: Any) -> None:
    expected = f"rebuild: expected the description of a layer, got {description!r}. Pass describe(layer)"
    assert message(LayerError, rebuild, description) == expected
    assert message(LayerError, rebuild, stored(relu()), kind="initialiser").startswith(
        "rebuild: expected the description of an initialiser, got {"
    )
    assert "kind must be one of layer, initialiser," in message(ValueError, rebuild, stored(relu()), kind="net")


def test_arguments_are_those_of_the_constructor() -> None:
    assert "unexpected keyword argument 'unit'" in message(TypeError, rebuild, {"name": "dense", "unit": 3})
    assert message(ValueError, rebuild, {"name": "dense", "units": 0}) == "dense: units must be a positive int, got 0"
    description = {"name": "rescale", "divisor": -1}
    assert "divisor must be positive" in message(ValueError, rebuild, description, kind="preprocessing")
    assert description == {"name": "rescale", "divisor": -1}


def test_more_than_is_read_is_refused_before_anything_is_made() -> None:
    """By `rebuild`, and already by `own_parts`, so that nothing is saved that could not be loaded."""
    deep = relu()
    for _ in range(29):
        deep = serial(deep)
    assert own_parts(layer=deep) == []
    assert rebuild(stored(deep)) == deep
    end = "the most that are read. Make it of fewer"
    for net, what in (
        (serial(serial(deep)), "60 levels"),
        (serial(*[relu()] * 5000), "5,000 parts"),
        (power(2**63), "64 bits in an int"),
        (power(label=(1,) * 1001), "1,000 ints in a list"),
    ):
        for function, place in ((lambda net: rebuild(stored(net), layers=[power]), "rebuild"), (whole, "layer")):
            assert message(LayerError, function, net) == f"{place}: what is described has more than {what}, {end}"
    endless = relu()
    for _ in range(3000):
        endless = residual(endless)
    assert message(LayerError, whole, endless).startswith("layer: what is described has more than 60 levels")


def whole(net: Layer) -> None:
    own_parts(layer=net)


# --- A user's own ---------------------------------------------------------------------------------------------

OWN = [
    ("layer", serial(cube(), residual(cube())), [cube]),
    ("layer", power(3, activation=halve, shape=(2, (1.5, "a")), label=ramp()), [power, halve, ramp]),
    ("layer", power(2, label=schedules.exponential_decay(0.1, 0.5)), [power]),
    ("layer", dense(2, weight_init=diagonal(0.5)), [diagonal]),
    ("initialiser", diagonal(), [Diagonal]),
    ("preprocessing", halve, [halve]),
    ("preprocessing", Centred(2.5), [Centred]),
    ("augmentation", partial(darken, by=0.5), [darken]),
    ("loss", absolute, [absolute]),
    ("loss", partial(absolute, weight=np.float64(2)), [absolute]),
    ("schedule", ramp(5), [ramp]),
]


@pytest.mark.parametrize(
    ("kind", "value", "makers"),
    OWN,
    ids=told,
)
def test_every_kind_of_ones_own_is_made_again(kind: str, value: Any, makers: list[Callable[..., Any]]) -> None:
    names = own_parts(**{kind: value})
    assert names == [getattr(maker, "name", maker.__name__) for maker in makers]
    assert same(rebuild(stored(value), layers=[*makers, power, dense], kind=kind), value)
    fix = f"Pass your own: layers=[{', '.join(names)}]"
    assert message(LayerError, rebuild, stored(value), kind=kind).endswith(fix)


def test_parts_of_several_values_are_told_once_and_in_order() -> None:
    assert own_parts(layer=serial(cube(), power(activation=halve), cube()), preprocessing=halve) == [
        "cube", "power", "halve",
    ]  # fmt: skip
    assert own_parts(layer=None) == []


def test_numpys_numbers_are_described_as_pythons() -> None:
    for number in (np.float32(0.5), np.float64(0.1), np.int64(3), np.bool_(True), np.str_("a")):
        description = describe(power(number))
        assert type(description["exponent"]) is type(number.item())
        assert rebuild(description, layers=[power]) == power(number)


def local() -> Callable[..., Any]:
    def inside(stored: Any) -> Any:
        return stored

    return inside


class Caller:
    def __call__(self, stored: Any) -> Any:
        return stored

    def method(self, stored: Any) -> Any:
        return stored


class Colour(enum.IntEnum):
    RED = 1


def flatten(stored: Any) -> Any:
    return stored


@config
class Clash(Config):
    name: ClassVar[str] = "relu"


@config
class Spaced(Described):
    name: ClassVar[str] = "a ramp"


@config
class OtherPower(Config):
    name: ClassVar[str] = "power"


def clash(settings: Config) -> Any:
    return make_layer(settings, own.power_apply, own.power_backward)


DEF = "Write it as a function (def) at the top of a module"
NAME = "Give your own part a name that no other has"
LAMBDA = "a lambda has no name by which it could be read back"
REFUSED = {
    "a lambda": (power(activation=lambda: relu()), "layer power.activation", LAMBDA, DEF),
    "one within": (
        serial(dense(2), elementwise(own.cube_of, lambda x: 3 * x * x, name="cube")),
        "layer serial.layers[1] cube.df",
        LAMBDA,
        DEF,
    ),
    "a function inside": (
        power(activation=local()),
        "layer power.activation",
        "the function inside is inside another one, where it could not be found again",
        DEF,
    ),
    "a partial": (power(activation=partial(lambda x: x, 3)), "layer power.activation", LAMBDA, DEF),
    "its argument": (power(activation=partial(halve, [])), "layer power.activation.*[0]", "the list []", "tuple"),
    "its keyword": (power(activation=partial(halve, name=3)), "layer power.activation", "keyword name", "Rename it"),
    "an object": (power(activation=Caller()), "layer power.activation", "known by how it prints", "made by @config"),
    "a method": (power(activation=Caller().method), "layer power.activation", "method is known by", "made by @config"),
    "a list": (power(shape=[2]), "layer power.shape", "the list [2] would not be read back from a file", "a tuple"),
    "a list within": (power(shape=(0, ([2],))), "layer power.shape[1][0]", "the list [2]", "converter=tuple"),
    "a dtype": (power(label=np.dtype("f4")), "layer power.label", "dtype('float32')", "np.dtype(given).name"),
    "an array": (power(label=np.ones(2)), "layer power.label", "the ndarray array([1., 1.])", "Describe it by"),
    "a dict": (power(label={"a": 1}), "layer power.label", "the dict {'a': 1}", "Describe it by"),
    "an enum": (power(label=Colour.RED), "layer power.label", "the Colour <Colour.RED: 1>", "Describe it by"),
    "a complex": (power(label=1j), "layer power.label", "the complex 1j", "Describe it by"),
    "a layer's name": (clash(Clash()), "layer relu", "relu is also the name of a part of this library", NAME),
    "that of elementwise": (elementwise(np.sin, np.cos, name="dense"), "layer dense", "also the name of a part", NAME),
    "a function's name": (power(activation=flatten), "layer power.activation", "flatten is also the name of", NAME),
    "another class": (serial(power(), clash(OtherPower())), "layer serial.layers[1] power", "of another part", NAME),
    "other functions": (
        serial(cube(), elementwise(own.slope_of_cube, own.cube_of, name="cube")),
        "layer serial.layers[1] cube",
        "two different parts are described as cube()",
        "Give them two names",
    ),
    "no name of a function": (power(label=Spaced()), "layer power.label a ramp", "no function can be called", "Name"),
}


@pytest.mark.parametrize(("value", "place", "problem", "fix"), REFUSED.values(), ids=REFUSED)
def test_what_could_never_be_made_again_is_refused(value: Any, place: str, problem: str, fix: str) -> None:
    with pytest.raises(LayerError) as caught:
        own_parts(layer=value)
    assert caught.value.places == [place]
    assert problem in caught.value.problem
    assert fix in caught.value.fix
    json.dumps(describe(value))  # still, it can be told


@config
class Steep(Described):
    name: ClassVar[str] = "steep"
    factor: float = 2.0

    def __call__(self, step: int) -> float:
        return self.factor * step


def steep(factor: float = 3.0) -> Steep:
    return Steep(factor)


def three() -> Layer:
    return cube()


def maker() -> Callable[..., Any]:
    return halve


WRONG = {
    "a layer": ([cube()], "layers: expected constructors, got cube(). Pass cube, without the brackets"),
    "an initialiser": ([diagonal()], "layers: expected constructors, got diagonal(). Pass diagonal, without the"),
    "settings": ([Power], "layers: expected functions that make layers, got the class of a layer's settings, Power."),
    "a lambda": ([lambda: cube()], "layers: expected functions with a name, got <function"),
    "a name": (["cube"], "layers: expected functions with a name, got 'cube'. Pass a function (def)"),
    "no list": (cube, "layers: expected a list of constructors, got cube. Pass layers=[square, ...]"),
    "names": ({"cube": cube}, "layers: expected a list of constructors, got {'cube'"),
    "a taken name": ([flatten], "layers: flatten is the name of a part of this library. Give your own part a name"),
    "one name twice": (
        [cube, type("Cube", (Ramp,), {"name": "cube"})],
        "layers: cube is the name of two of them. Give",
    ),
}


@pytest.mark.parametrize(("given", "text"), WRONG.values(), ids=WRONG)
def test_what_are_no_constructors_of_ones_own_is_said(given: Any, text: str) -> None:
    assert message((TypeError, LayerError), rebuild, stored(cube()), layers=given).startswith(text)
    assert rebuild(stored(cube()), layers=[cube, cube, relu]) == cube()  # twice, or the library's: no harm


def test_a_constructor_that_makes_another_part_than_was_described_is_found() -> None:
    """Here its default is not that of its settings, there its settings have another name."""
    made = (
        "rebuild: steep was to make what is described as {'name': 'steep'}, and made {'name': 'steep', 'factor': 3.0}"
    )
    fix = "Give it the defaults of its settings, and settings whose name is the function's"
    assert message(LayerError, rebuild, stored(steep(2.0)), layers=[steep], kind="schedule") == f"{made}. {fix}"
    assert rebuild(stored(steep(4.0)), layers=[steep], kind="schedule") == Steep(4.0)
    assert "and made {'name': 'cube'}" in message(LayerError, rebuild, {"name": "three"}, layers=[three])
    assert "and made {'function': 'halve'}" in message(LayerError, rebuild, {"name": "maker"}, layers=[maker])


# --- What a description tells ---------------------------------------------------------------------------------


def test_what_tells_two_runs_apart_is_all_told() -> None:
    """An array by all its bytes, however NumPy prints; a partial's arguments by place too."""
    weights, others = np.linspace(0.1, 1, 2000), np.linspace(0.1, 1, 2000)
    others[1000] = 50
    assert describe(partial(absolute, weight=weights)) != describe(partial(absolute, weight=others))
    assert describe(partial(absolute, weights)) != describe(partial(absolute, others))
    one = describe(weights[:3] / 3)
    with np.printoptions(precision=3):
        assert describe(weights[:3] / 3) == one

"""Own layers that keep the contract, and the faults: each is one of them with one thing wrong, and names the rule."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np

from funcnn import Key, fold_in, generator, tree
from funcnn.layer import (
    Applied,
    Array,
    Config,
    Gradients,
    Initialised,
    Layer,
    Shape,
    check_key,
    check_residuals,
    config,
    make_layer,
)
from funcnn.tree import node

# --- Layers that keep it --------------------------------------------------------------------------------------


@node
class Params:
    scale: Array
    shift: Array


@node
class State:
    """What an own layer carries: the mean of what it has seen, and how many batches."""

    mean: Array
    count: Array


@config
class Own(Config):
    """y = scale · x + shift, element by element."""

    name: ClassVar[str] = "own"
    by_chunks: ClassVar[bool] = True


def init(settings: Any, key: Key, in_shape: Shape, dtype: Any = np.float32) -> Initialised:
    draw = generator(fold_in(key, "scale")).standard_normal(in_shape)
    params = Params(np.asarray(draw, dtype), np.zeros(in_shape, dtype))
    return Initialised(tree.read_only(params), None, settings.out_shape(in_shape))


def apply(settings: Any, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False) -> Applied:
    return Applied(params.scale * x + params.shift, state, x if train else None)


def backward(settings: Any, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    x = check_residuals(settings, residuals)
    gradients = Params((dy * x).sum(axis=0), dy.sum(axis=0))
    return Gradients(gradients, dy * params.scale if need_dx else None)


@config
class Words(Config):
    """The same of whole numbers below 5, which have no slope."""

    name: ClassVar[str] = "words"
    vocabulary: ClassVar[int] = 5


def words_apply(settings: Any, params: Any, state: Any, x: Array, **options: Any) -> Applied:
    return apply(settings, params, state, x.astype(params.scale.dtype), **options)


@config
class Stateful(Config):
    """The same, and a state: a running mean, which evaluation takes off."""

    name: ClassVar[str] = "stateful"


def stateful_init(settings: Any, key: Key, in_shape: Shape, dtype: Any = np.float32) -> Initialised:
    made = init(settings, key, in_shape, dtype)
    return made._replace(state=tree.read_only(State(np.zeros(in_shape, dtype), np.zeros((), np.int64))))


def moved(state: State, x: Array) -> State:
    return tree.read_only(State(0.9 * state.mean + x.mean(axis=0) / 10, np.asarray(state.count + 1)))


def stateful_apply(
    settings: Any, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    if train:
        return apply(settings, params, moved(state, x), x, key=key, train=True)
    return apply(settings, params, state, x - state.mean)


@config
class Noisy(Config):
    """The same, with noise on the output in training."""

    name: ClassVar[str] = "noisy"
    stochastic: ClassVar[bool] = True


def noisy_apply(
    settings: Any, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    applied = apply(settings, params, state, x, train=train)
    return applied._replace(y=applied.y + noise(check_key(settings, key), x)) if train else applied


def noise(key: Key, x: Array) -> Array:
    return np.asarray(generator(key).standard_normal(x.shape), x.dtype)


def own(settings: Config | None = None, **functions: Callable[..., Any]) -> Layer:
    """The layer `Own`, with other settings or functions: those of a fault."""
    return make_layer(settings or Own(), **({"apply": apply, "backward": backward, "init": init} | functions))


def stateful(settings: Config | None = None, **functions: Callable[..., Any]) -> Layer:
    return own(settings or Stateful(), **({"apply": stateful_apply, "init": stateful_init} | functions))


def noisy(settings: Config | None = None, **functions: Callable[..., Any]) -> Layer:
    return own(settings or Noisy(), **({"apply": noisy_apply} | functions))


# --- Layers that do not ---------------------------------------------------------------------------------------
# A fault is an own layer of which one thing is wrong: a setting, what a function returns, or what it does before.


def settings_with(base: type[Config] = Own, **attributes: Any) -> Config:
    return config(type("Fault", (base,), attributes))()


def returning(fn: Callable[..., Any], change: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with what it returns changed by ``change(result, *its arguments)``."""
    return partial(_return, fn, change)


def _return(fn: Callable[..., Any], change: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return change(fn(*arguments, **options), *arguments[1:], **options)


def after(fn: Callable[..., Any], first: Callable[..., Any]) -> Callable[..., Any]:
    """The function, after ``first(*its arguments)``."""
    return partial(_do, fn, first)


def _do(fn: Callable[..., Any], first: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    first(*arguments[1:], **options)
    return fn(*arguments, **options)


def trained(**changes: Callable[..., Any]) -> Layer:
    """The layer, with fields of what apply returns changed by ``change(value, params, state, x)`` in training."""
    return own(apply=returning(apply, partial(_in_mode, True, changes)))


def evaluated(**changes: Callable[..., Any]) -> Layer:
    """The same in evaluation."""
    return own(apply=returning(apply, partial(_in_mode, False, changes)))


def trained_state(change: Callable[[State], Any]) -> Layer:
    """The layer with a state, changed by ``change(state)`` in training."""
    return stateful(
        apply=returning(stateful_apply, partial(_in_mode, True, {"state": lambda state, *_: change(state)}))
    )


def _in_mode(
    mode: bool, changes: dict[str, Callable[..., Any]], applied: Applied, *arguments: Any, train: bool = False, **_: Any
) -> Applied:
    if train != mode:
        return applied
    return applied._replace(**{name: change(getattr(applied, name), *arguments) for name, change in changes.items()})


def with_gradients(change: Callable[[Params, Array, Array], Any]) -> Layer:
    """The layer, with the gradients of its params changed by ``change(gradients, x, dy)``."""
    return own(backward=returning(
        backward, lambda found, params, x, dy, **_: found._replace(params=change(found.params, x, dy))
    ))  # fmt: skip


def with_dx(change: Callable[[Array, Array], Any], **functions: Any) -> Layer:
    """The layer, with dx changed by ``change(dx, x)``, where it is asked for."""
    return own(**functions, backward=returning(
        backward, lambda found, params, x, dy, need_dx=True: found._replace(dx=change(found.dx, x) if need_dx else None)
    ))  # fmt: skip


def add(array: Array, value: Any) -> None:
    array += value


def plus_any_draw(array: Array) -> Array:
    return array + float(np.random.default_rng().random())


CALLS = itertools.count()


def counting_apply(settings: Any, params: Any, state: Any, x: Array, train: bool) -> Applied:
    return apply(settings, params, state, x)._replace(residuals=(x, next(CALLS)) if train else None)


def backward_of_first(settings: Any, params: Any, residuals: Any, dy: Array, **options: Any) -> Gradients:
    return backward(settings, params, residuals and residuals[0], dy, **options)


def counted(state: State) -> State:
    return State(state.mean, np.asarray(state.count + 1))


def unchecked_backward(settings: Any, params: Any, x: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    return backward(settings, params, np.zeros_like(dy) if x is None else x, dy, need_dx=need_dx)


def wrong_and_careless_backward(settings: Any, params: Any, x: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    found = backward(settings, params, x, dy)
    return found._replace(dx=found.dx * x)


def careless_of_the_params(found: Gradients, *_: Any, need_dx: bool = True) -> Gradients:
    return found if need_dx else found._replace(params=tree.map(np.negative, found.params))


def unchecked_noise(
    made: Applied, params: Any, state: Any, x: Array, *, key: Any = None, train: bool = False
) -> Applied:
    return made._replace(y=made.y + noise(key, x)) if train else made


def noise_of_one_key(settings: Any, *arguments: Any, key: Key | None = None, train: bool = False) -> Applied:
    return noisy_apply(settings, *arguments, key=check_key(settings, key) and Key(0) if train else None, train=train)


def noise_wherever_a_key_is(settings: Any, *arguments: Any, key: Key | None = None, train: bool = False) -> Applied:
    made = noisy_apply(settings, *arguments, key=key, train=key is not None)
    return made if train else made._replace(residuals=None)


def coupled_apply(settings: Any, params: Any, state: Any, x: Array, *, train: bool = False, **_: Any) -> Applied:
    return apply(settings, params, state, x - x.mean(axis=0) if train else x, train=train)


def coupled(**attributes: Any) -> Layer:
    """In training, the same of x less the batch's mean; the gradients are right."""
    return with_dx(lambda dx, x: dx - dx.mean(axis=0), settings=settings_with(**attributes), apply=coupled_apply)


@config
class Holding(Own):
    """A layer's settings with something in them."""

    name: ClassVar[str] = "holding"
    what: Any


class Thing:
    """It has a name, and is equal to itself alone."""

    def __repr__(self) -> str:
        return "Thing()"


@config
class Forgetful(Own):
    """Its pickled copy has another factor."""

    name: ClassVar[str] = "forgetful"
    factor: float = 1.0

    def __reduce__(self) -> Any:
        return Forgetful, ()


def scaled_apply(settings: Any, *arguments: Any, **options: Any) -> Applied:
    applied = apply(settings, *arguments, **options)
    return applied._replace(y=settings.factor * applied.y)


def scaled_backward(settings: Any, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    return backward(settings, params, residuals, settings.factor * dy, need_dx=need_dx)


FAULTS: dict[str, tuple[Layer, str, str]] = {
    "a setting without a name": (own(Holding(object())), "prints", "got holding(what=<object object at 0x"),
    "a lambda for a setting": (own(Holding(lambda x: x)), "prints", "functions at the top of a module"),
    "a printed form that fails": (
        own(settings_with(__repr__=lambda self: self.nothing)), "prints", "Leave it to the class that @config makes"),
    "a printed form of its own": (own(settings_with(__repr__=lambda self: "Own!")), "prints", "got Own!"),
    "init gives a tuple": (own(init=returning(init, lambda made, *_: tuple(made))), "returns",
        "init returns a tuple. Return Initialised(params, state, out_shape)"),
    "apply gives y alone": (own(apply=returning(apply, lambda made, *_, **__: made.y)), "returns",
        "Return Applied(y, state, residuals)"),
    "backward gives a tuple": (own(backward=returning(backward, lambda made, *_, **__: tuple(made))), "returns",
        "backward returns a tuple. Return Gradients(params, dx)"),
    "init ignores the dtype": (
        own(init=lambda settings, key, in_shape, dtype=np.float32: init(settings, key, in_shape, np.float64)),
        "dtype_of_init", "asked for float32, and gives params.scale in float64"),
    "init knows one dtype": (own(init=lambda settings, key, in_shape, dtype=np.float32: init(settings, key, in_shape)),
        "dtype_of_init", "asked for float64, and gives params.scale in float32"),
    "init gives a number": (
        own(init=returning(init, lambda made, *_: made._replace(params=Params(1.0, made.params.shift)))),
        "dtype_of_init", "expected an array for params.scale, got 1.0"),
    "out_shape is forgotten": (
        own(apply=returning(apply, lambda made, *_, **__: made._replace(y=np.concatenate([made.y] * 2, axis=-1)))),
        "out_shape", "out_shape is (4,) for an input of (4,), and apply gives (3, 8) for a batch of 3. Define"),
    "another shape in training": (trained(y=lambda y, *_: y[..., None]),
        "out_shape", "apply in training gives (3, 4, 1)"),
    "init's out_shape is another": (own(init=returning(init, lambda made, *_: made._replace(out_shape=(9,)))),
        "out_shape", "out_shape is (4,) for an input of (4,), and init's is (9,)"),
    "training loses the state": (trained_state(lambda state: None),
        "state_form", "state has the node State, the state after training has None"),
    "training upcasts the state": (trained_state(lambda state: State(state.mean.astype(np.float64), state.count)),
        "state_form", "expected float32 (4,) for the state after training.mean, got float64 (4,)"),
    "training makes a number of the state": (trained_state(lambda state: State(state.mean, state.count + 1)),
        "state_form", "expected int64 () for the state after training.count, got int64. Return"),
    "a list of residuals": (trained(residuals=lambda x, *_: [x]), "residuals_are_data", "a tree cannot hold a list"),
    "a closure for residuals": (trained(residuals=lambda x, *_: (x, lambda dy: dy * x)),
        "residuals_are_data", "expected data for residuals.1, got the function"),
    "evaluation writes to x": (own(apply=after(apply, lambda params, state, x, **_: add(x, 1))),
        "arguments_unchanged", "apply writes to x: "),
    "training writes to the params": (
        own(apply=after(apply, lambda params, state, x, train=False, **_: add(params.shift, train))),
        "arguments_unchanged", "apply in training writes to params.shift: before and after, "),
    "training writes to the state": (
        stateful(apply=after(stateful_apply, lambda params, state, x, train=False, **_: add(state.count, train))),
        "arguments_unchanged", "apply in training writes to state.count: before and after, 2 and 3. Make a new array"),
    "backward writes to its residuals": (own(backward=after(backward, lambda params, x, dy, **_: add(x, 1))),
        "arguments_unchanged", "backward writes to residuals: "),
    "backward writes to dy": (own(backward=after(backward, lambda params, x, dy, **_: add(dy, 1))),
        "arguments_unchanged", "backward writes to dy: "),
    "evaluation writes what is there": (own(apply=after(apply, lambda params, state, x, **_: add(x, 0))),
        "arguments_unchanged", "writes to an argument, if only what is there"),
    "init draws elsewhere": (
        own(init=returning(init, lambda made, *_: made._replace(params=tree.map(plus_any_draw, made.params)))),
        "same_bits", "init gives two results for the same arguments, params.scale: "),
    "training draws elsewhere": (trained(y=lambda y, *_: plus_any_draw(y)),
        "same_bits", "apply in training gives two results for the same arguments, y: "),
    "residuals count the calls": (
        own(apply=lambda *arguments, train=False, **_: counting_apply(*arguments, train), backward=backward_of_first),
        "same_bits", "apply in training gives two results for the same arguments, residuals.1: "),
    "backward draws elsewhere": (with_dx(lambda dx, x: plus_any_draw(dx)), "same_bits", "backward gives two results"),
    "residuals in evaluation": (evaluated(residuals=lambda kept, params, state, x: x),
        "residuals_if_train", "expected None from apply without train, got float64 (3, 4). Return residuals `if train"),
    "backward fails without residuals": (own(backward=after(backward, lambda params, x, dy, **_: len(x))),
        "residuals_if_train", "got TypeError: object of type 'NoneType' has no len(). Begin backward with check_"),
    "backward goes through without residuals": (own(backward=unchecked_backward),
        "residuals_if_train", "expected a LayerError from backward without residuals, and it goes through"),
    "y is upcast": (evaluated(y=lambda y, *_: y * np.float64(1)),
        "dtype_kept", "apply is given float32, and gives y in float64"),
    "residuals are upcast": (trained(residuals=lambda x, *_: x.astype(np.float64)),
        "dtype_kept", "apply in training is given float32, and gives residuals in float64"),
    "gradients of another structure": (with_gradients(lambda found, x, dy: tuple(tree.flatten(found))),
        "gradients", "params has the node Params, gradients has a tuple of 2. Return them in the class"),
    "a gradient that is not summed": (with_gradients(lambda found, x, dy: Params(found.scale, dy)),
        "gradients", "expected float32 (4,) for gradients.shift, got float32 (3, 4). Sum over the examples"),
    "a number for a gradient": (with_gradients(lambda found, x, dy: Params(found.scale, 0.0)),
        "gradients", "expected float32 (4,) for gradients.shift, got float"),
    "gradients in another dtype": (
        with_gradients(lambda found, x, dy: tree.map(lambda leaf: leaf.astype(np.float32), found)),
        "gradients", "expected float64 (4,) for gradients.scale, got float32 (4,)"),
    "no dx": (with_dx(lambda dx, x: None), "gradients", "x has an array of shape (3, 4), dx has None"),
    "dx of another shape": (with_dx(lambda dx, x: dx[:1]), "gradients", "for dx, got float32 (1, 4)"),
    "dx in another dtype": (with_dx(lambda dx, x: dx.astype(np.float64)),
        "gradients", "expected float32 (3, 4) for dx, got float64 (3, 4). NumPy's float64 upcasts"),
    "dx of whole numbers": (make_layer(Words(), words_apply, backward, init),
        "gradients", "x has None, dx has an array of shape (3, 4). Give dx for all of x, and None for whole numbers"),
    "a mean for a sum": (with_gradients(lambda found, x, dy: Params(found.scale, dy.mean(axis=0))),
        "slopes", "The right one is 3 times backward's: a factor is wrong, or a mean stands for a sum"),
    "dx of the wrong sign": (with_dx(lambda dx, x: -dx), "slopes", "is -1 times backward's: the sign is turned"),
    "a gradient is left out": (with_gradients(lambda found, x, dy: Params(found.scale, np.zeros_like(found.shift))),
        "slopes", "params.shift: backward gives the slope 0, finite differences"),
    "a wrong gradient, and need_dx is ignored": (own(backward=wrong_and_careless_backward),
        "slopes", "x: backward gives the slope"),
    "need_dx is ignored": (
        own(backward=lambda settings, params, x, dy, need_dx=True: backward(settings, params, x, dy)),
        "need_dx", "expected dx=None, got float32 (3, 4). Return dx `if need_dx else None`"),
    "other gradients without dx": (own(backward=returning(backward, careless_of_the_params)),
        "need_dx", "need_dx=False gives other gradients of the params, with dx and without, params.scale: "),
    "no gradients without dx": (
        own(backward=returning(backward, lambda found, *_, need_dx=True: found if need_dx else Gradients(None, None))),
        "need_dx", "params: trees differ at their root: one has the node Params, the other has None. Leave out"),
    "it draws and does not say so": (own(apply=noisy_apply),
        "stochastic", "stochastic is False, and training without key raises LayerError"),
    "it draws if there is a key": (
        own(apply=lambda *args, key=None, **options: (noisy_apply if key else apply)(*args, key=key, **options)),
        "stochastic", "stochastic is False, and training with another key differs, y: "),
    "it draws the same whatever the key": (noisy(apply=noise_of_one_key),
        "stochastic", "stochastic is True, and 16 other keys give the same"),
    "it says that it draws": (own(settings_with(stochastic=True)), "stochastic", "or take stochastic = True back"),
    "without a key it fails": (noisy(apply=returning(apply, unchecked_noise)),
        "stochastic", "got TypeError: generator: key must be a Key, got None. Pass Key(seed). Begin with key = check_"),
    "without a key it takes one": (
        noisy(apply=lambda *arguments, key=None, **options: noisy_apply(*arguments, key=key or Key(0), **options)),
        "stochastic", "expected a LayerError from training without a key, and it goes through"),
    "evaluation draws": (own(apply=noise_wherever_a_key_is), "stochastic", "apply without train depends on its key"),
    "evaluation couples the examples": (evaluated(y=lambda y, *_: y - y.mean(axis=0)),
        "examples_apart", "evaluated as a batch and in two parts, y: "),
    "training couples the examples": (coupled(by_chunks=False), "examples_apart", "another's y: "),
    "training couples the examples, by chunks": (coupled(),
        "examples_apart", "Put couples_examples = True into the settings, and take by_chunks back"),
    "it says that it couples": (own(settings_with(couples_examples=True)),
        "examples_apart", "no example depends on the others"),
    "a batch of one is special": (
        with_gradients(lambda found, x, dy: found if len(x) > 1 else tree.map(lambda leaf: leaf / 2, found)),
        "examples_apart", "trained on as a batch and in two parts, gradients.scale: "),
    "an empty batch fails": (evaluated(y=lambda y, *_: y + 0 * y.max()),
        "empty_batch", "an empty batch raises ValueError: zero-size array"),
    "an empty batch has another shape": (evaluated(y=lambda y, *_: y if len(y) else np.zeros((0, 9))),
        "empty_batch", "expected y of shape (0, 4) for an empty batch, got (0, 9)"),
    "an empty batch has another dx": (with_dx(lambda dx, x: dx if len(dx) else np.zeros((0, 9))),
        "empty_batch", "expected dx of shape (0, 4) for an empty batch, got (0, 9)"),
    "an empty batch has gradients": (
        with_gradients(lambda found, x, dy: found if len(x) else tree.map(np.ones_like, found)),
        "empty_batch", "expected zero gradients.scale for an empty batch, got 1.0"),
    "evaluation changes the state": (
        stateful(apply=returning(stateful_apply, lambda made, *_, **__: made._replace(state=counted(made.state)))),
        "state_in_evaluation", "apply without train changes the state: before and after, state.count: 2 and 3. Change"),
    "a state that changes, by chunks": (stateful(settings_with(Stateful, by_chunks=True)),
        "by_chunks", "training changes the state: before and after, "),
    "coupled examples, by chunks": (coupled(couples_examples=True),
        "by_chunks", "by_chunks and couples_examples are both True"),
    "init gives writable params": (
        own(init=returning(init, lambda made, *_: made._replace(params=tree.map(np.array, made.params)))),
        "read_only", "init's params.scale can be written to"),
    "training gives a writable state": (trained_state(lambda state: tree.map(np.array, state)),
        "read_only", "the state after training.mean can be written to"),
    "macs is no count": (own(settings_with(macs=lambda self, shape: 4.5)), "macs", "got 4.5"),
    "macs is negative": (own(settings_with(macs=lambda self, shape: -1)), "macs", "an int of at least 0, got -1"),
    "a lambda for a function": (own(apply=lambda *args, **options: apply(*args, **options)), "pickles", "no lambda"),
    "a copy that computes otherwise": (own(Forgetful(2.0), apply=scaled_apply, backward=scaled_backward),
        "pickles", "trained with, the layer and its pickled copy give y: "),
    "a list for a setting": (own(Holding([1, 2])), "compares", "raises TypeError: unhashable type: 'list'. Let"),
    "an array for a setting": (own(Holding(np.ones(2))), "compares", "raises ValueError: The truth value of an array"),
    "a setting equal to itself alone": (own(Holding(Thing())), "compares", "copy holding(what=Thing()), got False"),
    "a setting that JSON cannot say": (own(Holding(np.dtype(np.float32))), "describes", "would not be read back"),
}  # fmt: skip

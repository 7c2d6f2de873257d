"""Optimizers that divide by the size that gradients have had, without a mean of them: RMSprop, Adagrad and others."""

from functools import partial
from typing import Any, ClassVar

import numpy as np

from funcnn import tree
from funcnn.arrays import adaptive
from funcnn.arrays.updates import moment_dtype
from funcnn.optimizers.optimizer import Optimizer, OptimizerSettings, make_optimizer, update_leaves, zeros_like
from funcnn.optimizers.rule import check_gradients, foreign_state
from funcnn.schedules import Rate
from funcnn.settings import check_decay, check_not_negative, check_positive, check_share, config, number
from funcnn.tree import Array, node

__all__ = ["Changes", "adadelta", "adafactor", "adagrad", "rmsprop"]


def rmsprop(lr: Rate, decay: float = 0.99, epsilon: float = 1e-8) -> Optimizer:
    """c' = decay · c + (1 - decay) · g²; w' = w - lr · g / (sqrt(c') + epsilon) (Tieleman & Hinton 2012).

    The state is c, a tree like the params.

    >>> optimizer = rmsprop(0.1)
    >>> params = (np.zeros(1),)
    >>> params, opt_state = optimizer.update((np.ones(1),), optimizer.init(params), params, step=0)
    >>> params[0].round(6)
    array([-1.])

    Raises ValueError for a negative rate, a decay outside [0, 1) or an epsilon that is not positive.
    """
    return make_optimizer(_RmsProp(lr, decay, epsilon), _rmsprop_update, _square)


def adagrad(lr: Rate, epsilon: float = 1e-10, *, initial: float = 0.0) -> Optimizer:
    """s' = s + g²; w' = w - lr · g / (sqrt(s') + epsilon), s from `initial` on (Duchi et al. 2011).

    The state is s, a tree like the params. PyTorch's ``lr_decay`` is the schedule `inverse_time_decay`.

    >>> optimizer = adagrad(0.1)
    >>> params = (np.zeros(1),)
    >>> params, opt_state = optimizer.update((np.full(1, 3.0),), optimizer.init(params), params, step=0)
    >>> params, opt_state
    ((array([-0.1]),), (array([9.]),))

    Raises ValueError for a negative rate or initial value, or an epsilon that is not positive.
    """
    return make_optimizer(_Adagrad(lr, epsilon, initial), _adagrad_update, _adagrad_init)


def adadelta(lr: Rate = 1.0, decay: float = 0.9, epsilon: float = 1e-6) -> Optimizer:
    """w' = w - lr · d, d = g · sqrt(u + epsilon) / sqrt(c' + epsilon) (Zeiler 2012, where lr is 1).

    c' = decay·c + (1-decay)·g² and u' = decay·u + (1-decay)·d². The state is `Changes`.

    >>> optimizer = adadelta()
    >>> params = (np.zeros(1),)
    >>> params, opt_state = optimizer.update((np.ones(1),), optimizer.init(params), params, step=0)
    >>> params[0].round(6)
    array([-0.003162])

    Raises ValueError as `rmsprop`.
    """
    return make_optimizer(_Adadelta(lr, decay, epsilon), _adadelta_update, _adadelta_init)


def adafactor(
    lr: Rate, decay: float = 0.8, *, epsilon: float | None = None, least_scale: float = 1e-3, clip: float = 1.0,
    weight_decay: float = 0.0,
) -> Optimizer:  # fmt: skip
    """w' = (1 - lr · weight_decay) · w - ρ · max(least_scale, rms(w)) · u / max(1, rms(u) / clip), leaf by leaf.

    Shazeer & Stern 2018: with t = step + 1 the rate is ρ = min(lr, 1 / sqrt(t)), and u = g / sqrt(v). Of a leaf of two
    axes or more only the means of g² over the rows and over the columns of its last two axes are kept, r and c, running
    means with the new share t^-decay; v = r · c / mean(r). Of other leaves v itself is one. v is taken to be at least
    epsilon², and mean(r) epsilon, by default the dtype's.

    As PyTorch's, which has epsilon there instead of in g². The state has for each leaf the tuple (r, c), or (v,): some
    numbers for each row and column, where Adam keeps two for each weight.

    >>> optimizer = adafactor(0.1)
    >>> params = (np.ones((2, 3)),)
    >>> [each.shape for each in optimizer.init(params)[0]]
    [(2, 1), (1, 3)]
    >>> params, opt_state = optimizer.update((np.ones((2, 3)),), optimizer.init(params), params, step=0)
    >>> params[0][0]
    array([0.9, 0.9, 0.9])

    Raises ValueError for a negative rate or decay of weights, a decay outside [0, 1], and for an epsilon, least scale
    or limit that is not positive.
    """
    settings = _Adafactor(lr, decay, epsilon, least_scale, clip, weight_decay)
    return make_optimizer(settings, _adafactor_update, _adafactor_init)


# --- The optimizers -------------------------------------------------------------------------------------------


@config
class _RmsProp(OptimizerSettings):
    name: ClassVar[str] = "rmsprop"
    elementwise: ClassVar[bool] = True
    decay: float = number(check_decay, default=0.99)
    epsilon: float = number(check_positive, default=1e-8)


def _square(settings: _RmsProp, params: Any) -> Any:
    return zeros_like(params)


def _rmsprop_update(settings: _RmsProp, grads: Any, square: Any, params: Any, step: int) -> Any:
    rate = settings.learning_rate(step)
    update = partial(adaptive.rmsprop_update, rate=rate, decay=settings.decay, epsilon=settings.epsilon)
    return update_leaves(update, params, grads, square, elementwise=True)


@config
class _Adagrad(OptimizerSettings):
    name: ClassVar[str] = "adagrad"
    elementwise: ClassVar[bool] = True
    epsilon: float = number(check_positive, default=1e-10)
    initial: float = number(check_not_negative, default=0.0)


def _adagrad_init(settings: _Adagrad, params: Any) -> Any:
    return tree.map(lambda leaf: tree.read_only(np.full_like(leaf, settings.initial, moment_dtype(leaf))), params)


def _adagrad_update(settings: _Adagrad, grads: Any, square: Any, params: Any, step: int) -> Any:
    update = partial(adaptive.adagrad_update, rate=settings.learning_rate(step), epsilon=settings.epsilon)
    return update_leaves(update, params, grads, square, elementwise=True)


@node
class Changes:
    """Adadelta's state: the running means of the gradient's and of the change's square, trees like the params."""

    square: Any
    change: Any


@config
class _Adadelta(_RmsProp):
    name: ClassVar[str] = "adadelta"
    decay: float = number(check_decay, default=0.9)
    epsilon: float = number(check_positive, default=1e-6)


def _adadelta_init(settings: _Adadelta, params: Any) -> Changes:
    return Changes(zeros_like(params), zeros_like(params))


def _adadelta_update(settings: _Adadelta, grads: Any, opt_state: Any, params: Any, step: int) -> Any:
    if not isinstance(opt_state, Changes):
        raise foreign_state(settings, opt_state)
    rate = settings.learning_rate(step)
    update = partial(adaptive.adadelta_update, rate=rate, decay=settings.decay, epsilon=settings.epsilon)
    made = update_leaves(update, params, grads, opt_state.square, opt_state.change, elementwise=True)
    return made[0], Changes(*made[1:])


def _check_epsilon(instance: Any, attribute: Any, value: Any) -> None:
    if value is not None:
        check_positive(instance, attribute, value)


@config
class _Adafactor(OptimizerSettings):
    name: ClassVar[str] = "adafactor"
    decay: float = number(check_share, default=0.8)
    epsilon: float | None = number(_check_epsilon, default=None)
    least_scale: float = number(check_positive, default=1e-3)
    clip: float = number(check_positive, default=1.0)
    weight_decay: float = number(check_not_negative, default=0.0)


def _squares(leaf: Array) -> tuple[Array, ...]:
    """The running means of a leaf at the start."""
    *others, rows, columns = leaf.shape if leaf.ndim > 1 else (1, 1)
    shapes = [(*others, rows, 1), (*others, 1, columns)] if leaf.ndim > 1 else [leaf.shape]
    return tuple([tree.read_only(np.zeros_like(leaf, moment_dtype(leaf), shape=shape)) for shape in shapes])


def _adafactor_init(settings: _Adafactor, params: Any) -> Any:
    return tree.map(_squares, params)


def _adafactor_update(settings: _Adafactor, grads: Any, opt_state: Any, params: Any, step: int) -> Any:
    t, rate = step + 1, settings.learning_rate(step)
    options = {
        "rate": min(rate, t**-0.5), "share": t**-settings.decay, "least_scale": settings.least_scale,
        "clip": settings.clip, "keep": 1 - rate * settings.weight_decay,
    }  # fmt: skip
    check_gradients(params, grads)
    its_own = _adafactor_init(settings, params)
    tree.check_like(its_own, opt_state, ("params' state", "the optimizer state"), shapes=True)
    leaves, squares, made = tree.flatten(params), iter(tree.flatten(opt_state)), []
    for leaf, gradient in zip(leaves, tree.flatten(grads), strict=True):
        epsilon = settings.epsilon or float(np.finfo(moment_dtype(leaf)).eps)
        update = partial(adaptive.adafactor_update, epsilon=epsilon, **options)
        made.append(_update_leaf(update, leaf, gradient, [next(squares) for _ in _squares(leaf)]))
    params = tree.unflatten(params, [each[0] for each in made])
    return params, tree.unflatten(opt_state, [each for its in made for each in its[1:]])


def _update_leaf(update: Any, leaf: Array, gradient: Array, squares: list[Array]) -> list[Array]:
    if leaf.size == 0:  # and no mean
        return [tree.read_only(leaf.view()), *squares]
    dtype = moment_dtype(leaf)
    given = leaf.astype(dtype, copy=False), gradient.astype(dtype, copy=False)
    new, *squares = update(*given, *squares)
    return [tree.read_only(new.astype(leaf.dtype, copy=False)), *[tree.read_only(each) for each in squares]]

"""What an optimizer is, what one is made of, and `chain`."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn import tree
from funcnn.arrays import updates
from funcnn.optimizers.rule import Rule, Transform, check_settings, foreign_state, no_state
from funcnn.schedules import Rate, scaled, value_at
from funcnn.schedules.schedule import check_rate
from funcnn.settings import Described, as_float, config, function_of, is_number, refuse, shown
from funcnn.system.devices import has_form, on_host

__all__ = [
    "LossAt", "Optimizer", "OptimizerSettings", "Wrapping", "chain", "check_optimizer", "make_optimizer", "unchanged",
    "update_leaves", "zeros_like",
]  # fmt: skip

LossAt = Callable[[Any], tuple[float, Any]]  # params -> (value, grads), of one batch


class Optimizer(Rule):
    """Pure ``init(params) -> opt_state``, ``update(grads, opt_state, params, step) -> (params, opt_state)``.

    ``learning_rate(step)`` is the rate that ``update`` uses at a step; training reports it.
    """

    def init(self, params: Any) -> Any:
        """The state at the start."""
        return self._init(params)

    def update(
        self, grads: Any, opt_state: Any, params: Any, step: int, *, value: float | None = None,
        loss: LossAt | None = None,
    ) -> tuple[Any, Any]:  # fmt: skip
        """The new params and state, at a step counted from 0.

        An optimizer that `asks_loss` needs the batch's loss as a function, ``loss(params) -> (value, grads)``, and its
        `value` at the params; training passes them. Raises TypeError if it gets none.
        """
        if not self.asks_loss:
            return self._updated(grads, opt_state, params, step)
        value = on_host(value)
        if not callable(loss) or not is_number(value):
            raise TypeError(
                f"{self.name}.update: it looks at the loss of other params. Pass value and loss, a function params -> "
                "(value, grads), or train with train or make_step, one worker and one shard"
            )
        return self._updated(grads, opt_state, params, step, value=value, loss=loss)

    def learning_rate(self, step: int, opt_state: Any = None) -> float:
        """The learning rate at a step; of one that follows the metrics (`plateau`), with its state."""
        if isinstance(self.config, Wrapping):
            return self.config.learning_rate(step, opt_state)
        return self.config.learning_rate(step)  # type: ignore[attr-defined, no-any-return]

    def evaluated(self, params: Any, opt_state: Any) -> Any:
        """The params to evaluate, predict and save with: an average, or those that are trained themselves."""
        own = getattr(self.config, "evaluated", None)
        return own(params, opt_state) if own else params

    def observe(self, opt_state: Any, metrics: Any) -> Any:
        """The state told of an epoch's metrics, which have `loss` and `accuracy`; the same object if nothing is new."""
        own = getattr(self.config, "observe", None)
        return own(opt_state, metrics) if own else opt_state

    def scaled(self, factor: float) -> "Optimizer":
        """The same optimizer with its learning rates times a factor.

        Raises TypeError for one of your own whose settings are no `OptimizerSettings`.
        """
        own = getattr(self.config, "scaled", None)
        if own is None:
            kind = type(self.config).__name__
            raise TypeError(
                f"{self.name}: no rate to scale. Make its settings a subclass: class {kind}(OptimizerSettings)"
            )
        settings = own(factor)
        init, update = (partial(function_of(each), settings) for each in (self._init, self._update))
        return Optimizer(self.name, settings, init, update)

    @property
    def asks_loss(self) -> bool:
        """Whether it needs the loss at other params than those of the step."""
        inner = any(rule.asks_loss for rule in self.parts if isinstance(rule, Optimizer))
        return inner or getattr(self.config, "asks_loss", False)


# --- Building blocks ------------------------------------------------------------------------------------------


@config
class OptimizerSettings(Described):
    """The base of an optimizer's settings: `lr`, a number or a schedule, comes first.

    Raises ValueError, when settings are made, for a rate that is negative, not finite, or no number.
    """

    lr: Rate = attrs.field(converter=as_float, validator=check_rate)

    def learning_rate(self, step: int) -> float:
        """The learning rate at a step; raises ValueError if a schedule gives none that is finite and not negative."""
        return value_at(self.lr, step)

    def scaled(self, factor: float) -> Any:
        """The settings with the rate times a factor."""
        settings: Any = self
        return attrs.evolve(settings, lr=scaled(self.lr, factor))


class Wrapping(Described):
    """The base of the settings of an optimizer around another, `optimizer`: what that can do is handed on.

    Its state has the other's as `inner`.
    """

    optimizer: Any
    elementwise: ClassVar[bool] = True

    @property
    def parts(self) -> tuple[Any, ...]:
        """The optimizer that is wrapped."""
        return (self.optimizer,)

    def inner(self, opt_state: Any) -> Any:
        """The wrapped optimizer's state."""
        return opt_state.inner

    def within(self, opt_state: Any, inner: Any) -> Any:
        """The state with another state of the wrapped optimizer."""
        return attrs.evolve(opt_state, inner=inner)

    def learning_rate(self, step: int, opt_state: Any = None) -> float:
        """The wrapped optimizer's rate."""
        return self.optimizer.learning_rate(step, None if opt_state is None else self.inner(opt_state))  # type: ignore[no-any-return]

    def evaluated(self, params: Any, opt_state: Any) -> Any:
        """What the wrapped optimizer evaluates."""
        return self.optimizer.evaluated(params, self.inner(opt_state))

    def observe(self, opt_state: Any, metrics: Any) -> Any:
        """The state, the wrapped optimizer's told of metrics."""
        before = self.inner(opt_state)
        inner = self.optimizer.observe(before, metrics)
        return opt_state if inner is before else self.within(opt_state, inner)

    def scaled(self, factor: float) -> Any:
        """The settings with the wrapped optimizer's rates times a factor."""
        settings: Any = self
        return attrs.evolve(settings, optimizer=self.optimizer.scaled(factor))


def check_optimizer(instance: Any, attribute: Any, value: Any) -> None:
    """Raise ValueError unless a setting is an optimizer."""
    if not isinstance(value, Optimizer):
        refuse(instance.name, attribute.name, "an Optimizer such as adam(1e-3)", value)


def make_optimizer(
    settings: Described, update: Callable[..., tuple[Any, Any]], init: Callable[..., Any] | None = None
) -> Optimizer:
    """Join settings and module-level functions, each taking them first, into an `Optimizer`.

    ``update(settings, grads, opt_state, params, step) -> (params, opt_state)`` and ``init(settings, params) ->
    opt_state``; without `init` the state is None. Raises TypeError for settings without ``learning_rate(step)``.

    >>> @config
    ... class SignDescent(OptimizerSettings):
    ...     name = "sign_descent"
    ...     lr: Rate = 0.1
    >>> def update(settings, grads, opt_state, params, step):
    ...     return tree.map(lambda w, g: w - settings.learning_rate(step) * np.sign(g), params, grads), opt_state
    >>> optimizer = make_optimizer(SignDescent(), update)
    >>> optimizer.update((np.array([3.0, -2.0]),), None, (np.zeros(2),), step=0)[0]
    (array([-0.1,  0.1]),)
    """
    check_settings("make_optimizer", settings, update, init)
    if not callable(getattr(settings, "learning_rate", None)):
        kind = type(settings).__name__
        raise TypeError(
            f"make_optimizer: {kind} must have a method learning_rate(step) -> float, which training reports. "
            f"Make it a subclass: class {kind}(OptimizerSettings)"
        )
    return Optimizer(settings.name, settings, partial(init or no_state, settings), partial(update, settings))


def zeros_like(params: Any) -> Any:
    """A tree of zeros like the params, read-only: a moment at the start; of float16 params in float32.

    >>> zeros_like((np.ones(2), None))
    (array([0., 0.]), None)
    """
    return tree.map(lambda leaf: tree.read_only(np.zeros_like(leaf, updates.moment_dtype(leaf))), params)


def unchanged(params: Any) -> Any:
    """The params as a step gives them that changes nothing: read-only views."""
    return tree.map(lambda leaf: tree.read_only(leaf.view() if has_form(leaf) else np.asarray(leaf)), params)


def update_leaves(
    update: updates.Update, params: Any, grads: Any, *moments: Any, weight_decay: Any = None, elementwise: bool = False
) -> Any:
    """The new params and moments, a tuple of trees, by ``update(leaf, gradient, *moments) -> (leaf, *moments)``.

    `update` is a function of arrays of one shape. With `weight_decay`, a tree of floats like the params (`masked`), it
    is also given the leaf's, by that name. An `elementwise` update treats every number by itself: it is given several
    small leaves joined to one vector, which takes less time.

    >>> def descend(leaf, gradient, velocity):
    ...     velocity = 0.9 * velocity - 0.1 * gradient
    ...     return leaf + velocity, velocity
    >>> update_leaves(descend, (np.ones(2),), (np.ones(2),), (np.zeros(2),))
    ((array([0.9, 0.9]),), (array([-0.1, -0.1]),))

    The results are read-only and have the dtypes of what they replace; `update` is given float16 as float32. Raises
    TreeError unless all trees have the params' structure and shapes, and TypeError for an update that returns anything
    else.
    """
    if not callable(update):
        refuse("update_leaves", "update", "a function (leaf, gradient, *moments) -> (leaf, *moments)", update)
    names = ("params", "gradients", *["the optimizer state"] * len(moments))
    rows = tree.rows(params, grads, *moments, names=names, shapes=True)
    by_leaf = [update] * len(rows)
    if weight_decay is not None:
        rates = tree.flatten(weight_decay)
        if len(rates) != len(rows):
            tree.check_like(params, weight_decay, ("params", "weight_decay"))  # names where they differ
        if not all(map(is_number, rates)):
            refuse("update_leaves", "weight_decay", "a tree of numbers like the params", weight_decay)
        by_rate = {rate: partial(update, weight_decay=rate) for rate in rates}
        by_leaf = [by_rate[rate] for rate in rates]
    results = updates.over_leaves(by_leaf, rows, join=elementwise)
    return tuple([tree.unflatten(params, [result[i] for result in results]) for i in range(1 + len(moments))])


# --- chain ----------------------------------------------------------------------------------------------------


def chain(*rules: Transform | Optimizer) -> Optimizer:
    """Transforms in order, then the optimizer that comes last. The state is the tuple of theirs.

    >>> from funcnn.optimizers import add_decayed_weights, clip_by_global_norm, momentum, weights_only
    >>> chain(clip_by_global_norm(1.0), add_decayed_weights(1e-4, mask=weights_only), momentum(0.1))
    chain(clip_by_global_norm(limit=1.0), add_decayed_weights(rate=0.0001, mask=weights_only), momentum(lr=0.1))

    Raises TypeError unless transforms are followed by exactly one optimizer.
    """
    *transforms, optimizer = rules or (None,)
    wrong = [rule for rule in transforms if not isinstance(rule, Transform)]
    if wrong or not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"chain: expected transforms and then one optimizer, got {', '.join(map(shown, rules)) or 'nothing'}. "
            "For example chain(clip_by_global_norm(1.0), adam(1e-3))"
        )
    return make_optimizer(_Chain(rules), _chain_update, _chain_init)


@config
class _Chain(Wrapping):
    name: ClassVar[str] = "chain"
    rules: tuple[Any, ...]

    @property
    def optimizer(self) -> Any:
        return self.rules[-1]

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.rules

    def inner(self, opt_state: Any) -> Any:
        return opt_state[-1]

    def within(self, opt_state: Any, inner: Any) -> Any:
        return (*opt_state[:-1], inner)

    def scaled(self, factor: float) -> "_Chain":
        return _Chain((*self.rules[:-1], self.optimizer.scaled(factor)))

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self.rules))})"


def _chain_init(settings: _Chain, params: Any) -> tuple[Any, ...]:
    return tuple(rule.init(params) for rule in settings.rules)


def _chain_update(
    settings: _Chain, grads: Any, opt_state: Any, params: Any, step: int, **asked: Any
) -> tuple[Any, Any]:
    if type(opt_state) is not tuple or len(opt_state) != len(settings.rules):
        raise foreign_state(settings, opt_state)
    states = []
    for transform, state in zip(settings.rules[:-1], opt_state[:-1], strict=True):
        grads, state = transform.update(grads, state, params, step)
        states.append(state)
    params, state = settings.optimizer.update(grads, opt_state[-1], params, step, **asked)
    return params, (*states, state)

"""Optimizers around others: several batches for a step, and an optimizer for each path.

accumulate(adam(1e-3), 4)
partition({"0.*": freeze(), "*.bias": sgd(0.01)}, default=adam(1e-3))
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, ClassVar

import attrs

from funcnn import tree
from funcnn.arrays import updates
from funcnn.optimizers.optimizer import (
    Optimizer,
    Wrapping,
    check_optimizer,
    make_optimizer,
    unchanged,
    update_leaves,
    zeros_like,
)
from funcnn.optimizers.rule import check_gradients, foreign_state
from funcnn.settings import (
    Described,
    as_tuple,
    config,
    count,
    refuse,
)
from funcnn.tree import node

__all__ = ["Accumulated", "accumulate", "freeze", "partition"]


def accumulate(optimizer: Optimizer, n: int) -> Optimizer:
    """One step of an optimizer for n batches, by the mean of their gradients; the params stay in between.

    So n batches are as one of n times the size, but for batch norm, which sees each by itself. The optimizer's own
    steps, and its schedule's, count every n-th step of the training. The state is `Accumulated`.

    >>> import numpy as np
    >>> from funcnn.optimizers import sgd
    >>> optimizer, params = accumulate(sgd(1.0), 2), (np.zeros(1),)
    >>> opt_state, seen = optimizer.init(params), []
    >>> for step, g in enumerate([1.0, 3.0, 5.0, 5.0]):
    ...     params, opt_state = optimizer.update((np.full(1, g),), opt_state, params, step)
    ...     seen.append(float(params[0][0]))
    >>> seen
    [0.0, -2.0, -2.0, -7.0]

    Raises ValueError for n below 1, what is no optimizer, and for one that asks for the loss of a batch.
    """
    return make_optimizer(_Accumulate(optimizer, n), _accumulate_update, _accumulate_init)


def freeze() -> Optimizer:
    """The optimizer that changes nothing: for the leaves in `partition` that are not to be trained.

    >>> import numpy as np
    >>> freeze().update((np.ones(2),), None, (np.zeros(2),), step=0)
    ((array([0., 0.]),), None)
    """
    return make_optimizer(_Freeze(), _freeze_update)


def partition(rules: Mapping[str, Optimizer] | Sequence[tuple[str, Optimizer]], default: Optimizer) -> Optimizer:
    """An optimizer for each leaf by its path: that of the first pattern that fits, else the default.

    A pattern is the shell's: ``"0.*"`` is all of the net's first layer, ``"*.bias"`` every bias, ``*`` and ``?`` stand
    for any text, dots included. Each optimizer is given the tree with None for the leaves of others. The rate that
    training reports is the default's. The state is the tuple of theirs, the default's last.

    >>> import numpy as np
    >>> from funcnn.optimizers import sgd
    >>> optimizer = partition({"0.*": freeze(), "*.1": sgd(0.1)}, default=sgd(1.0))
    >>> params = ((np.zeros(1), np.zeros(1)), (np.zeros(1), np.zeros(1)))
    >>> grads = tree.map(np.ones_like, params)
    >>> optimizer.update(grads, optimizer.init(params), params, step=0)[0]
    ((array([0.]), array([0.])), (array([-1.]), array([-0.1])))

    Raises ValueError for rules of another kind, optimizers that ask for the loss, and in ``init`` for a pattern that
    fits no leaf.
    """
    return make_optimizer(_Partition(rules, default), _partition_update, _partition_init)  # type: ignore[arg-type]


# --- accumulate -----------------------------------------------------------------------------------------------


@node
class Accumulated:
    """The state of `accumulate`: the optimizer's, and the sum so far of the gradients' shares, begun anew by each n."""

    inner: Any
    gradient: Any


def _check_asks_nothing(instance: Any, attribute: Any, value: Any) -> None:
    check_optimizer(instance, attribute, value)
    if value.asks_loss:
        refuse(instance.name, attribute.name, "one that asks for no batch's loss", value, "Put it around this one")


@config
class _Accumulate(Wrapping):
    name: ClassVar[str] = "accumulate"
    optimizer: Any = attrs.field(validator=_check_asks_nothing)
    n: int = count()

    def learning_rate(self, step: int, opt_state: Any = None) -> float:
        return super().learning_rate(step // self.n, opt_state)


def _accumulate_init(settings: _Accumulate, params: Any) -> Accumulated:
    return Accumulated(settings.optimizer.init(params), zeros_like(params))


def _accumulate_update(
    settings: _Accumulate, grads: Any, opt_state: Any, params: Any, step: int
) -> tuple[Any, Accumulated]:
    if not isinstance(opt_state, Accumulated):
        raise foreign_state(settings, opt_state)
    own_step, turn = divmod(step, settings.n)
    check_gradients(params, grads)
    tree.check_like(params, opt_state.gradient, ("params", "the optimizer state"), shapes=True)
    add = partial(updates.accumulate_update, share=1 / settings.n, first=turn == 0)
    (gradient,) = update_leaves(add, opt_state.gradient, grads, elementwise=True)
    if turn < settings.n - 1:
        return unchanged(params), Accumulated(opt_state.inner, gradient)
    params, inner = settings.optimizer.update(gradient, opt_state.inner, params, own_step)
    return params, Accumulated(inner, gradient)


# --- partition ------------------------------------------------------------------------------------------------


@config
class _Freeze(Described):
    name: ClassVar[str] = "freeze"
    elementwise: ClassVar[bool] = True

    def learning_rate(self, step: int) -> float:
        return 0.0

    def scaled(self, factor: float) -> "_Freeze":
        return self


def _freeze_update(settings: _Freeze, grads: Any, opt_state: Any, params: Any, step: int) -> tuple[Any, None]:
    if opt_state is not None:
        raise foreign_state(settings, opt_state)
    check_gradients(params, grads)
    return unchanged(params), None


def _pairs(rules: Any) -> Any:
    """A mapping as a tuple of pairs; anything else as a tuple, for a check to look at."""
    pairs = as_tuple(list(rules.items()) if isinstance(rules, Mapping) else rules)
    return tuple([tuple(each) if isinstance(each, list) else each for each in pairs]) if type(pairs) is tuple else pairs


def _check_rules(instance: Any, attribute: Any, rules: Any) -> None:
    def fits(each: Any) -> bool:
        return type(each) is tuple and len(each) == 2 and type(each[0]) is str and isinstance(each[1], Optimizer)

    if type(rules) is not tuple or not all(map(fits, rules)):
        refuse(instance.name, attribute.name, 'optimizers by pattern, such as {"*.bias": sgd(0.1)}', rules)
    for _, rule in rules:
        if rule.asks_loss:
            refuse(instance.name, attribute.name, "such as ask for no batch's loss", rule)


@config
class _Partition(Wrapping):
    name: ClassVar[str] = "partition"
    elementwise: ClassVar[bool] = False  # its states have trees of their own leaves
    rules: tuple[tuple[str, Any], ...] = attrs.field(converter=_pairs, validator=_check_rules)
    default: Any = attrs.field(validator=_check_asks_nothing)

    @property
    def parts(self) -> tuple[Any, ...]:
        return (*(rule for _, rule in self.rules), self.default)

    @property
    def optimizer(self) -> Any:
        return self.default

    def inner(self, opt_state: Any) -> Any:
        return opt_state[-1]

    def scaled(self, factor: float) -> "_Partition":
        rules = [(pattern, rule.scaled(factor)) for pattern, rule in self.rules]
        return _Partition(rules, self.default.scaled(factor))  # type: ignore[arg-type]

    def numbers(self, params: Any) -> list[int]:
        """Which of the parts each leaf has, by its number."""
        patterns = [pattern for pattern, _ in self.rules]
        return [
            next((i for i, pattern in enumerate(patterns) if fnmatchcase(path, pattern)), len(patterns))
            for path in tree.paths(params)
        ]

    def split(self, values: Any, numbers: list[int]) -> list[Any]:
        """For each part the tree with None for the leaves of others."""
        leaves = list(zip(numbers, tree.flatten(values), strict=True))
        return [
            tree.unflatten(values, [leaf if n == i else None for n, leaf in leaves]) for i in range(len(self.parts))
        ]

    def each(self, opt_state: Any) -> Iterator[tuple[Any, Any]]:
        """The parts with their states."""
        if type(opt_state) is not tuple or len(opt_state) != len(self.parts):
            raise foreign_state(self, opt_state)
        return zip(self.parts, opt_state, strict=True)

    def evaluated(self, params: Any, opt_state: Any) -> Any:
        numbers = self.numbers(params)
        parts = zip(self.each(opt_state), self.split(params, numbers), strict=True)
        return _merged(params, numbers, [rule.evaluated(its, state) for (rule, state), its in parts])

    def observe(self, opt_state: Any, metrics: Any) -> Any:
        told = tuple([rule.observe(state, metrics) for rule, state in self.each(opt_state)])
        return opt_state if all(new is old for new, old in zip(told, opt_state, strict=True)) else told


def _merged(params: Any, numbers: list[int], parts: list[Any]) -> Any:
    """The tree like the params, each of whose leaves comes from the part of its number."""
    leaves = [iter(tree.flatten(part)) for part in parts]
    return tree.unflatten(params, [next(leaves[n]) for n in numbers])


def _partition_init(settings: _Partition, params: Any) -> tuple[Any, ...]:
    numbers, paths = settings.numbers(params), tree.paths(params)
    for pattern, _ in settings.rules:
        if paths and not any(fnmatchcase(path, pattern) for path in paths):
            known = ", ".join(map(repr, paths[:8])) + (", ..." if len(paths) > 8 else "")
            raise ValueError(f"partition: no leaf has a path like {pattern!r}. There are {known}")
    return tuple([rule.init(its) for rule, its in zip(settings.parts, settings.split(params, numbers), strict=True)])


def _partition_update(
    settings: _Partition, grads: Any, opt_state: Any, params: Any, step: int
) -> tuple[Any, tuple[Any, ...]]:
    check_gradients(params, grads)
    numbers = settings.numbers(params)
    trees = zip(settings.split(grads, numbers), settings.split(params, numbers), strict=True)
    made = [
        rule.update(its_grads, state, its, step)
        for (rule, state), (its_grads, its) in zip(settings.each(opt_state), trees, strict=True)
    ]
    return _merged(params, numbers, [new for new, _ in made]), tuple([state for _, state in made])

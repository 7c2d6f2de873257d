"""Muon: steps of matrices by the nearest orthogonal matrix, and of all other leaves by another optimizer."""

import math
from typing import Any, ClassVar

import attrs

from funcnn import tree
from funcnn.arrays.orthogonal import newton_schulz
from funcnn.arrays.updates import moment_dtype
from funcnn.optimizers.adam import adamw
from funcnn.optimizers.optimizer import Optimizer, OptimizerSettings, make_optimizer, update_leaves, zeros_like
from funcnn.optimizers.rule import Mask, check_gradients, check_mask, foreign_state, masked, weights_only
from funcnn.schedules import Rate, scaled
from funcnn.settings import check_decay, check_flag, check_not_negative, config, count, number, refuse
from funcnn.tree import Array, node

__all__ = ["Orthogonal", "muon"]


def muon(
    lr: Rate, decay: float = 0.95, *, nesterov: bool = True, steps: int = 5, weight_decay: float = 0.0,
    others: Optimizer | None = None, mask: Mask | None = weights_only,
) -> Optimizer:  # fmt: skip
    """m' = decay · m + g; w' = w - lr · (0.2 · sqrt(max(rows, columns)) · O + weight_decay · w) (Jordan et al. 2024).

    O is the nearest orthogonal matrix to m', or with `nesterov` to decay · m' + g, by `steps` of the quintic
    Newton-Schulz iteration, which leaves singular values between about 0.7 and 1.2. The factor gives the step the root
    mean square of AdamW's (Liu et al. 2025), so that one rate serves both.

    The leaves that `mask` chooses and that have two axes or more are matrices: a convolution's weights one of (kernel
    height · kernel width · channels, filters). All other leaves are trained by `others`, without one by ``adamw(lr)``
    with the same decay of weights; embeddings and the last layer's weights are better left to it too. The state is
    `Orthogonal`.

    Deviations from PyTorch's ``Muon`` with ``adjust_lr_fn="match_rms_adamw"``: its m is 1 - decay times this one, which
    O does not see, and its iteration is in bfloat16 where this one keeps the params' dtype.

    >>> import numpy as np
    >>> optimizer, params = muon(0.1, mask=None), (np.zeros((2, 2)), np.zeros(2))
    >>> params, opt_state = optimizer.update((np.eye(2), np.ones(2)), optimizer.init(params), params, step=0)
    >>> params[0].round(3) + 0.0, params[1].round(3)
    (array([[-0.031,  0.   ],
           [ 0.   , -0.031]]), array([-0.1, -0.1]))

    Raises ValueError for a negative rate or decay of weights, a decay outside [0, 1), no steps, `others` that is no
    optimizer or asks for the loss, and for a mask that is no function.
    """
    return make_optimizer(_Muon(lr, decay, nesterov, steps, weight_decay, others, mask), _muon_update, _muon_init)


@node
class Orthogonal:
    """Muon's state: running sums of the matrices' gradients, and the other optimizer's state for the other leaves."""

    mean: Any
    others: Any


def _check_others(instance: Any, attribute: Any, value: Any) -> None:
    if value is not None and not (isinstance(value, Optimizer) and not value.asks_loss):
        refuse(instance.name, attribute.name, "an Optimizer that asks for no loss, such as adamw(1e-3), or None", value)


@config
class _Muon(OptimizerSettings):
    name: ClassVar[str] = "muon"
    decay: float = number(check_decay, default=0.95)
    nesterov: bool = attrs.field(default=True, validator=check_flag)
    steps: int = count(default=5)
    weight_decay: float = number(check_not_negative, default=0.0)
    others: Any = attrs.field(default=None, validator=_check_others)
    mask: Mask | None = attrs.field(default=weights_only, validator=check_mask)

    @property
    def parts(self) -> tuple[Any, ...]:
        """What trains the other leaves."""
        return (self.rest,)

    @property
    def rest(self) -> Optimizer:
        """What trains the leaves that are no matrices."""
        return self.others or adamw(self.lr, weight_decay=self.weight_decay)

    def scaled(self, factor: float) -> Any:
        settings: Any = self
        others = self.others and self.others.scaled(factor)
        return attrs.evolve(settings, lr=scaled(self.lr, factor), others=others)

    def evaluated(self, params: Any, opt_state: Any) -> Any:
        """The matrices as they are, and what the other optimizer evaluates of the other leaves."""
        ours, others = self.split(params, params)
        evaluated = self.rest.evaluated(others, opt_state.others)
        return params if evaluated is others else merged(params, ours, evaluated)

    def observe(self, opt_state: Any, metrics: Any) -> Any:
        """The state, the other optimizer's told of metrics."""
        others = self.rest.observe(opt_state.others, metrics)
        return opt_state if others is opt_state.others else attrs.evolve(opt_state, others=others)

    def split(self, params: Any, values: Any) -> tuple[Any, Any]:
        """Values in the structure of the params, as the matrices' with None for others, and the others' with None."""
        chosen = tree.flatten(masked(params, 1.0, self.mask))
        matrices = [rate > 0 and leaf.ndim > 1 for rate, leaf in zip(chosen, tree.flatten(params), strict=True)]
        leaves = list(zip(matrices, tree.flatten(values), strict=True))
        ours = tree.unflatten(params, [leaf if matrix else None for matrix, leaf in leaves])
        return ours, tree.unflatten(params, [None if matrix else leaf for matrix, leaf in leaves])


def _muon_init(settings: _Muon, params: Any) -> Orthogonal:
    ours, others = settings.split(params, params)
    return Orthogonal(zeros_like(ours), settings.rest.init(others))


def _muon_update(settings: _Muon, grads: Any, opt_state: Any, params: Any, step: int) -> tuple[Any, Orthogonal]:
    if not isinstance(opt_state, Orthogonal):
        raise foreign_state(settings, opt_state)
    rate = settings.learning_rate(step)

    def update(leaf: Array, gradient: Array, mean: Array) -> tuple[Array, Array]:
        mean = settings.decay * mean + gradient
        ahead = settings.decay * mean + gradient if settings.nesterov else mean
        if leaf.size:
            matrix = ahead.astype(moment_dtype(leaf), copy=False).reshape(-1, leaf.shape[-1])
            direction = newton_schulz(matrix, settings.steps).reshape(leaf.shape)
            mean_square = 0.2 * math.sqrt(max(matrix.shape))
            leaf = (1 - rate * settings.weight_decay) * leaf - rate * mean_square * direction
        return leaf, mean

    check_gradients(params, grads)
    ours, others = settings.split(params, params)
    its_grads, others_grads = settings.split(params, grads)
    ours, mean = update_leaves(update, ours, its_grads, opt_state.mean)
    others, others_state = settings.rest.update(others_grads, opt_state.others, others, step)
    return merged(params, ours, others), Orthogonal(mean, others_state)


def merged(params: Any, *parts: Any) -> Any:
    """The tree like the params whose leaves are in these parts, each of which has None for the leaves of others."""
    by_path = {path: leaf for part in parts for path, leaf in zip(tree.paths(part), tree.flatten(part), strict=True)}
    return tree.unflatten(params, [by_path[path] for path in tree.paths(params)])

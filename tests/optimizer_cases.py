"""The one list of optimizers and transforms that every generic property is checked on.

A new constructor in `funcnn.optimizers` fails a test until it is here.
"""

from funcnn.layer import Array
from funcnn.optimizers import (
    Optimizer,
    Transform,
    adam,
    adamw,
    add_decayed_weights,
    chain,
    clip_by_global_norm,
    momentum,
    rmsprop,
    sgd,
    weights_only,
)
from funcnn.schedules import (
    constant,
    exponential_decay,
    inverse_time_decay,
    piecewise_constant,
    warmup_cosine,
)


def not_scalars(path: str, leaf: Array) -> bool:
    """A mask of the user's own, at module level so that it pickles."""
    return leaf.size > 1


TRANSFORMS: tuple[Transform, ...] = (
    clip_by_global_norm(0.5),  # always clips the gradients of the tests
    clip_by_global_norm(1e6),  # never does
    add_decayed_weights(0.0),
    add_decayed_weights(0.1),
    add_decayed_weights(0.1, mask=weights_only),
    add_decayed_weights(0.1, mask=not_scalars),
)

OPTIMIZERS: tuple[Optimizer, ...] = (
    sgd(0.0),
    sgd(0.1),
    sgd(exponential_decay(0.1, 0.5, every=2, staircase=True)),
    momentum(0.1),
    momentum(0.1, 0.0),
    momentum(0.1, 0.95, nesterov=True),
    momentum(inverse_time_decay(0.1, 0.5), nesterov=True),
    rmsprop(0.1),
    rmsprop(piecewise_constant([1, 2], [0.1, 0.01, 0.001]), 0.9, 1e-3),
    adam(0.1),
    adam(warmup_cosine(0.1, 2, 5), 0.0, 0.0, 1e-3),
    adam(constant(0.1), b1=0.8),
    adamw(0.1),
    adamw(0.1, 0.8, 0.99, 1e-6, weight_decay=0.5, mask=weights_only),
    adamw(exponential_decay(0.1, 0.9), weight_decay=0.5, mask=not_scalars),
    adamw(0.1, weight_decay=0.0),
    chain(sgd(0.1)),
    chain(clip_by_global_norm(0.5), add_decayed_weights(0.1, mask=weights_only), momentum(0.1, nesterov=True)),
    chain(add_decayed_weights(0.1), clip_by_global_norm(0.5), adam(warmup_cosine(0.1, 1, 4, quarter=True))),
    chain(clip_by_global_norm(1e6), chain(add_decayed_weights(0.1), rmsprop(0.1))),
)

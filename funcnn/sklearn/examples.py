"""What lies between a table of scikit-learn's and a net: rows as batches of its inputs, columns on one scale."""

from typing import Any, ClassVar, NamedTuple

import attrs
import numpy as np
from scipy.sparse import issparse
from sklearn.preprocessing import StandardScaler

from funcnn.batch import Batch, as_batch
from funcnn.optimizers import Optimizer, make_optimizer
from funcnn.optimizers.optimizer import Wrapping
from funcnn.settings import config
from funcnn.tree import Array, Shape

__all__ = ["Examples", "Parts", "Scale", "going_on"]


@attrs.frozen(eq=False)
class Scale:
    """The mean and deviation along the last axis: a table's columns, an image's channels."""

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, values: Any, weights: Array | None) -> "Scale":
        """Those of an array (n, ..., features) or a sparse matrix, its examples with weights (n,), or alike."""
        if issparse(values):
            known = StandardScaler(with_mean=False).fit(values, sample_weight=weights)
        else:
            rows = values.reshape(-1, values.shape[-1])
            if weights is not None:
                weights = np.repeat(weights, len(rows) // len(values))
            known = StandardScaler().fit(rows, sample_weight=weights)
        return cls(known.mean_, known.scale_)

    @classmethod
    def none(cls, size: int) -> "Scale":
        """What leaves values as they are."""
        return cls(np.zeros(size), np.ones(size))

    def apply(self, values: Array, dtype: np.dtype[Any]) -> Array:
        """(values - mean) / deviation, subtracted in the values' precision: a large mean takes nothing from float32."""
        made = np.empty(values.shape, dtype)
        np.subtract(values, self.mean, out=made, casting="same_kind")
        made *= (1 / self.deviation).astype(dtype)
        return made

    def undo(self, values: Array) -> Array:
        """values · deviation + mean, in their dtype."""
        return (values * self.deviation + self.mean).astype(values.dtype)


@attrs.frozen(eq=False)
class Examples:
    """Rows of a table, taken by position as a net's inputs, with their targets and weights.

    X (n, ...) or sparse (n, features). Inputs have the shape (n, *in_shape) and are put on a scale; or are X itself
    where `scale` is None.
    """

    X: Any
    in_shape: Shape
    dtype: np.dtype[Any]
    scale: Scale | None = None
    targets: Array | None = None
    weights: Array | None = None

    def __len__(self) -> int:
        return int(self.X.shape[0])

    def take(self, index: Any) -> Batch:
        """The batch of some positions, an array of them or a slice."""
        inputs = self.inputs(self.X[index])
        targets = inputs if self.targets is None else self.targets[index]  # nobody asks for them in a prediction
        return as_batch(inputs, targets, None if self.weights is None else self.weights[index])

    def inputs(self, rows: Any) -> Array:
        """Some rows as inputs."""
        rows = rows.toarray() if issparse(rows) else rows
        rows = rows.reshape(len(rows), *self.in_shape)
        return rows if self.scale is None else self.scale.apply(rows, self.dtype)

    def ready(self) -> "Examples":
        """The same with the inputs made once, for many passes; of a sparse matrix they are made batch by batch."""
        if issparse(self.X):
            return self
        return attrs.evolve(self, X=self.inputs(self.X), scale=None)

    def select(self, index: Array) -> "Examples":
        """Those at some positions."""
        targets, weights = (None if each is None else each[index] for each in (self.targets, self.weights))
        return attrs.evolve(self, X=self.X[index], targets=targets, weights=weights)


class Parts(NamedTuple):
    """What training reads of a data set (`funcnn.problem.Parts`)."""

    train: Examples
    validation: Examples | None


# --- Going on -------------------------------------------------------------------------------------------------


def going_on(optimizer: Optimizer, steps: int) -> Optimizer:
    """The optimizer as it goes on after so many steps: step 0 is what its own count calls `steps`.

    So training that begins anew with other examples, as `partial_fit` does, keeps the place in a schedule and in the
    correction of moments. The state is the optimizer's.

    >>> from funcnn.optimizers import sgd
    >>> from funcnn.schedules import linear
    >>> going_on(sgd(linear(1.0, 0.0, 10)), 4).learning_rate(1)
    0.5
    """
    return make_optimizer(_GoingOn(optimizer, steps), _going_on_update, _going_on_init)


@config
class _GoingOn(Wrapping):
    name: ClassVar[str] = "going_on"
    optimizer: Any
    steps: int

    def inner(self, opt_state: Any) -> Any:
        return opt_state

    def within(self, opt_state: Any, inner: Any) -> Any:
        return inner

    def learning_rate(self, step: int, opt_state: Any = None) -> float:
        return super().learning_rate(self.steps + step, opt_state)


def _going_on_init(settings: _GoingOn, params: Any) -> Any:
    return settings.optimizer.init(params)


def _going_on_update(
    settings: _GoingOn, grads: Any, opt_state: Any, params: Any, step: int, **asked: Any
) -> tuple[Any, Any]:
    return settings.optimizer.update(  # type: ignore[no-any-return]
        grads, opt_state, params, settings.steps + step, **asked
    )

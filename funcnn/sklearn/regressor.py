"""`NetRegressor`: a net that tells numbers, one or several for each example."""

from typing import Any, ClassVar

import attrs
import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import column_or_1d

from funcnn.losses import mean_squared_error
from funcnn.metrics import Metric
from funcnn.sklearn.base import NetEstimator
from funcnn.sklearn.examples import Examples, Scale
from funcnn.tree import Array

__all__ = ["NetRegressor"]


class NetRegressor(RegressorMixin, NetEstimator):  # type: ignore[misc]
    """A net as scikit-learn's regressor: X (n, features) or (n, *in_shape), dense or sparse; y (n,) or (n, outputs).

    Its settings are those of `NetClassifier`, without class_weight; it takes at most 50 epochs unless told, since few
    examples with noise are soon learned by heart (`early_stopping` looks). The loss is the mean squared error unless
    told; others whose outputs are the prediction serve too: `huber`, `mean_absolute_error`,
    ``partial(quantile, q=0.9)``.
    With `standardise` targets are standardised too, so the loss is in units of their variance, whatever that is, and
    predictions are in the targets' units again.

    Fitted, it has what `NetClassifier` has, but for the classes. `validation_scores_` are R² on the validation part, as
    ``score`` counts it.

    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> NetRegressor((50,), max_iter=100, tol=None, random_state=0).fit(X, y).score(X, y) > 0.5
    True
    """

    _loss = staticmethod(mean_squared_error)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "NetRegressor":
        """One epoch on some examples. The first call sets the scales: let it have enough examples to standardise by."""
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: Any) -> Array:
        """The prediction for each example, (n,) or (n, outputs) as the targets were."""
        outputs = self._outputs(X)  # raises before anything else if it is not fitted
        made = self.target_scale_.undo(outputs)
        return made[:, 0] if self._flat else made

    # --- Targets ----------------------------------------------------------------------------------------------

    def _learn_targets(self, y: Array, weights: Array | None) -> None:
        columns, self._flat = _columns(y)
        self.n_outputs_ = columns.shape[1]
        self.target_scale_ = Scale.of(columns, weights) if self.standardise else Scale.none(self.n_outputs_)

    def _targets(self, y: Any) -> Array:
        columns, _ = _columns(y)
        if columns.shape[1] != self.n_outputs_:
            raise ValueError(f"NetRegressor: y must have {self.n_outputs_} outputs for each example, got {y.shape}")
        return self.target_scale_.apply(columns, self._dtype)

    def _metric(self, validation: Examples) -> Metric | None:
        assert validation.targets is not None
        variance = np.square(Scale.of(validation.targets, validation.weights).deviation)
        return _R2(variance)


def _columns(y: Array) -> tuple[Array, bool]:
    """Targets as columns, and whether they were one number each."""
    if y.ndim == 2 and y.shape[1] > 1:
        return y, False
    return column_or_1d(y, warn=True)[:, None], True


@attrs.frozen(eq=False)
class _R2:
    """R² on a part as a mean over its examples: 1 - (y - ŷ)² / variance, the part's own; over outputs the mean."""

    variance: Array
    __name__: ClassVar[str] = "r2"

    def __call__(self, outputs: Array, targets: Array, weights: Array | None = None) -> Any:
        explained = 1 - (np.square(outputs - targets, dtype=np.float64) / self.variance).mean(axis=1)
        if weights is None:
            return float(explained.mean())
        return float(np.average(explained, weights=weights)), float(weights.sum())

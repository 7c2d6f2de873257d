"""`Preprocess`: funcnn's preprocessing of inputs as a transformer for pipelines."""

from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.typing import DTypeLike
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from funcnn.data import rescale, standardise, subtract_mean_image, unit_norm
from funcnn.data.preprocess import Preprocess as Function
from funcnn.settings import refuse
from funcnn.tree import Array, Shape

__all__ = ["Preprocess"]


class Preprocess(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """funcnn's preprocessing as a transformer: X (n, features) or (n, *in_shape) -> the same shape, in `dtype`.

    kind: "standardise" along the last axis (columns, or an image's channels); "rescale", by `divisor`;
        "subtract_mean_image" and divide by `divisor`; "unit_norm", every example of length 1; or a function of the
        training inputs (n, *in_shape) that returns the function of inputs to apply.
    in_shape: an example's shape as it is to be seen, where X has it flat.

    Before an estimator of funcnn it is for what that does not do itself; set ``standardise=False`` there.

    >>> Preprocess("rescale", divisor=255).fit_transform([[0, 255]])
    array([[0., 1.]], dtype=float32)
    """

    def __init__(
        self,
        kind: str | Callable[[Array], Function] = "standardise",
        *,
        divisor: float = 255.0,
        in_shape: Shape | None = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        self.kind = kind
        self.divisor = divisor
        self.in_shape = in_shape
        self.dtype = dtype

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # it gives its own
        tags.requires_fit = True
        return tags

    def fit(self, X: Any, y: Any = None) -> "Preprocess":
        """Take the statistics from training inputs. Raises ValueError for another kind, or inputs of another shape."""
        X = validate_data(self, X, allow_nd=True, dtype="numeric")
        if callable(self.kind):
            make = self.kind
        else:
            kinds: dict[str, Callable[[Array], Function]] = {
                "standardise": partial(standardise, dtype=self.dtype),
                "rescale": lambda _: rescale(self.divisor, dtype=self.dtype),
                "subtract_mean_image": partial(subtract_mean_image, divisor=self.divisor, dtype=self.dtype),
                "unit_norm": lambda _: unit_norm(dtype=self.dtype),
            }
            if self.kind not in kinds:
                refuse("Preprocess", "kind", f"one of {', '.join(kinds)}, or a function", self.kind)
            make = kinds[self.kind]
        self.preprocess_ = make(self._examples(X))
        return self

    def transform(self, X: Any) -> Array:
        """The inputs preprocessed."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, allow_nd=True, dtype="numeric")
        made: Array = self.preprocess_(self._examples(X))
        return made.reshape(X.shape)

    def _examples(self, X: Array) -> Array:
        return X if self.in_shape is None else X.reshape(len(X), *self.in_shape)

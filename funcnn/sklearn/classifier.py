"""`NetClassifier`: a net that tells classes, one or several labels for each example."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import check_is_fitted

from funcnn.layers import sigmoid, softmax
from funcnn.losses import Loss, sigmoid_cross_entropy, softmax_cross_entropy
from funcnn.metrics import Metric, accuracy
from funcnn.metrics.shared import share
from funcnn.model_file import Trained
from funcnn.optimizers import Optimizer
from funcnn.rebuild import rebuild
from funcnn.settings import refuse
from funcnn.sklearn.base import Events, Net, NetEstimator
from funcnn.sklearn.examples import Examples
from funcnn.tree import Array, Shape

__all__ = ["NetClassifier"]


class NetClassifier(ClassifierMixin, NetEstimator):  # type: ignore[misc]
    """A net for classes: X (n, features) or (n, *in_shape), dense or sparse; y (n,), labels of any kind.

    Several labels for each example are y (n, labels) of 0 and 1.

    net: widths of hidden layers, with relu and weights that begin as Glorot's; or a `Layer` that gives a logit for each
        class; or a function of their number, as ``partial(fully_connected, (100,), dropout=0.2)``.
    optimizer: ``adam(5e-3)`` unless told. With `lbfgs` a batch is all examples, unless told.
    loss: softmax cross-entropy unless told, for several labels sigmoid cross-entropy.
    in_shape: an example's shape as the net takes it, where X has it flat: ``(28, 28, 1)``.
    standardise: whether inputs are standardised along their last axis, by the training examples' mean and deviation.
    class_weight: a dict from labels to weights; or "balanced", each class's total the same.
    batch_size: "auto" is a fiftieth of the examples, but at least 200 (or all, if they are fewer) and at most 1,000.
    max_iter, tol, n_iter_no_change: at most so many epochs; it stops when the loss (or the validation score) has not
        become better by `tol` for so many. None: all epochs.
    early_stopping, validation_fraction: whether a part is held out, by class; the params of the best epoch on it count.
    warm_start: whether ``fit`` goes on from the last one.
    events: a function that is given the iterable of events in training, `Step` and `Epoch`, and yields them again:
        ``partial(funcnn.report.progress, epochs=200)``, or a loop of your own. Training stops where it returns.
    random_state: as everywhere in scikit-learn: an int, a RandomState, or None.

    Fitted, it has `classes_`, `n_iter_` (epochs), `loss_curve_`, `validation_scores_`, `n_features_in_`, `net_`, the
    parameters in `model_` and ``trained()``. With weights a batch's loss is the mean over them.

    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True)
    >>> NetClassifier((50,), max_iter=200, tol=None, random_state=0).fit(X, y).score(X, y)
    1.0
    """

    def __init__(
        self,
        net: Net = (100,),
        *,
        optimizer: Optimizer | None = None,
        loss: Loss | None = None,
        in_shape: Shape | None = None,
        standardise: bool = True,
        class_weight: Mapping[Any, float] | str | None = None,
        batch_size: int | str = "auto",
        max_iter: int = 200,
        tol: float | None = 1e-3,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        events: Events | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            net, optimizer=optimizer, loss=loss, in_shape=in_shape, standardise=standardise, batch_size=batch_size,
            max_iter=max_iter, tol=tol, n_iter_no_change=n_iter_no_change, early_stopping=early_stopping,
            validation_fraction=validation_fraction, warm_start=warm_start, events=events, random_state=random_state,
        )  # fmt: skip
        self.class_weight = class_weight

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> "NetClassifier":
        """One epoch on some examples. The first call needs all `classes` there will be, and sets the inputs' scale.

        So let it have enough examples to standardise by. Raises ValueError for a label that is none of the classes.
        """
        if not hasattr(self, "state_"):
            if classes is None and not _is_several(y):
                raise ValueError(
                    "NetClassifier: the first call to partial_fit must be given classes, all there will be"
                )
            self._told_classes = None if classes is None else unique_labels(classes)
        elif classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
            raise ValueError(
                f"NetClassifier: `classes={classes!r}` is not the same as on last call to partial_fit, was: "
                f"{self.classes_!r}"
            )
        if self.class_weight == "balanced":
            raise ValueError(
                'NetClassifier.partial_fit: class_weight "balanced" needs all examples at once. Pass a dict, such as '
                "sklearn.utils.class_weight.compute_class_weight gives the numbers of"
            )
        try:
            return self._partial_fit(X, y, sample_weight)
        finally:
            self.__dict__.pop("_told_classes", None)

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, (n, classes), rows of sum 1; of several labels that of each, (n, labels)."""
        logits = self._outputs(X)
        shares: Array = (sigmoid() if self._several else softmax()).apply(None, None, logits).y
        return shares

    def predict(self, X: Any) -> Array:
        """The most probable class of each example, (n,); of several labels 0 or 1 for each, (n, labels)."""
        logits = self._outputs(X)
        if self._several:
            return (logits > 0).astype(np.int64)
        made: Array = self.classes_[logits.argmax(axis=1)]
        return made

    def trained(self) -> Trained:
        """The net, its parameters, scale and classes as one value, to save, export or serve (`funcnn.model_file`).

        Raises ValueError for several labels, since its outputs are one class's logits each.
        """
        check_is_fitted(self)
        if self._several:
            raise ValueError(
                "NetClassifier.trained: of several labels there is no Trained. Save the estimator by joblib"
            )
        scale = self.input_scale_
        description = {
            "name": "standardise",
            "mean": scale.mean.tolist(),
            "deviation": scale.deviation.tolist(),
            "dtype": self._dtype.name,
        }
        preprocess = None if self._takes_whole_numbers else rebuild(description, kind="preprocessing")
        names = getattr(self, "feature_names_in_", ()) if len(self.in_shape_) == 1 else ()
        return Trained(self.net_, self.model_, self.in_shape_, self.classes_.tolist(), preprocess, columns=names)

    # --- Labels -----------------------------------------------------------------------------------------------

    def _learn_targets(self, y: Array, weights: Array | None) -> None:
        check_classification_targets(y)
        self._several = _is_several(y)
        if not self._several and y.ndim == 2 and y.shape[1] > 1:
            raise ValueError(
                "NetClassifier: y must be labels (n,) or columns of 0 and 1 (n, labels), got several columns of "
                "classes. Use sklearn.multioutput.MultiOutputClassifier"
            )
        told = getattr(self, "_told_classes", None)  # by `partial_fit`
        if self._several:
            self.classes_ = np.arange(y.shape[1])
        else:
            self.classes_ = np.unique(_column(y)) if told is None else told
        self.n_outputs_ = len(self.classes_)
        self._loss = sigmoid_cross_entropy if self._several else softmax_cross_entropy

    def _targets(self, y: Any) -> Array:
        if self._several:
            columns: Any = y.toarray() if issparse(y) else y
            if columns.ndim != 2 or columns.shape[1] != self.n_outputs_:
                raise ValueError(f"NetClassifier: y must have {self.n_outputs_} columns of 0 and 1, got {y.shape}")
            made: Array = columns.astype(self._dtype)
            return made
        labels = _column(y)
        unknown = np.setdiff1d(labels, self.classes_)
        if unknown.size:
            raise ValueError(
                f"NetClassifier: y has the labels {unknown[:10]}, which are none of the classes {self.classes_}"
            )
        return np.searchsorted(self.classes_, labels)

    def _weights(self, targets: Array, weights: Array | None) -> Array | None:
        if self.class_weight is None:
            return weights
        if self._several:
            raise ValueError("NetClassifier: class_weight must be None for several labels. Weigh by sample_weight")
        if self.class_weight == "balanced":
            total = np.bincount(targets, weights, minlength=self.n_outputs_)
            by_class = total.sum() / (self.n_outputs_ * np.maximum(total, np.finfo(float).tiny))
        elif isinstance(self.class_weight, Mapping):
            by_class = compute_class_weight(dict(self.class_weight), classes=self.classes_, y=self.classes_)
        else:
            refuse(
                "NetClassifier", "class_weight", "a dict from labels to weights, 'balanced' or None", self.class_weight
            )
        own: Array = by_class[targets]
        return own if weights is None else own * weights

    def _metric(self, validation: Examples) -> Metric | None:
        if self._several:
            return _all_right
        return accuracy if self.n_outputs_ > 1 else None  # of a single class everything is right

    def _labels_to_stratify(self, targets: Array | None) -> Array | None:
        return None if self._several else targets


def _is_several(y: Any) -> bool:
    return bool(type_of_target(y) == "multilabel-indicator")


def _column(y: Array) -> Array:
    labels: Array = column_or_1d(y, warn=True)
    return labels


def _all_right(logits: Array, targets: Array, weights: Array | None = None) -> Any:
    """The share of examples all of whose labels are right, as ``score`` counts them."""
    return share("NetClassifier", ((logits > 0) == (targets > 0.5)).all(axis=1), weights)

"""What the classifier and the regressor share: a table becomes examples, a net is built and trained on them.

The estimators follow scikit-learn's rules: ``__init__`` keeps its arguments as they are, ``fit`` checks everything and
writes attributes that end in ``_``, and the same `random_state` gives the same bits. Training is `funcnn.train.train`.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

import attrs
import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from funcnn.data.split import random_split, stratified_split
from funcnn.init import glorot_uniform
from funcnn.keys import Key
from funcnn.layer import Layer
from funcnn.losses import Loss
from funcnn.metrics import Metric
from funcnn.models import fully_connected
from funcnn.optimizers import Optimizer, adam
from funcnn.settings import as_int, check_counts, is_number, refuse
from funcnn.sklearn.examples import Examples, Parts, Scale, going_on
from funcnn.train import Epoch, Model, Problem, Step, TrainState, for_evaluation, init_state, predict, train
from funcnn.tree import Array, Shape

__all__ = ["Events", "Net", "NetEstimator"]

Net: TypeAlias = Sequence[int] | Layer | Callable[[int], Layer]
Events: TypeAlias = Callable[[Iterable[Step | Epoch]], Iterable[Step | Epoch]]
Self = TypeVar("Self", bound="NetEstimator")

_LARGEST_SEED = 2**31 - 1
_AUTO_BATCH, _BATCHES = (200, 1000), 50  # a table of more than 10,000 rows is 50 batches, until these are of 1,000
_RATE = 5e-3  # with a tol of 1e-3: tables are learned as well as with 1e-3 and 1e-4, in a third of the epochs
_ROWS = 1024  # of a batch in prediction


@attrs.define
class _Watch:
    """What training has reached: the best value so far, how long ago it became better, and the state of that time."""

    tol: float | None
    patience: int
    best: tuple[float, float] = (-np.inf, -np.inf)
    state: TrainState | None = None
    marked: float = -np.inf  # the value that the next must exceed by tol
    since: int = 0

    def see(self, score: float, loss: float, state: TrainState) -> None:
        """Take in an epoch; of equal scores the lower loss is the better one."""
        if (score, -loss) > self.best:
            self.best, self.state = (score, -loss), state
        self.since = 0 if score > self.marked + (self.tol or 0.0) else self.since + 1
        self.marked = max(self.marked, score)

    @property
    def is_over(self) -> bool:
        """Whether nothing has become better for as many epochs as it is waited for."""
        return self.tol is not None and self.since >= self.patience


class NetEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The base of `NetClassifier` and `NetRegressor`, which say what targets are."""

    _loss: Loss  # unless told
    n_outputs_: int
    state_: TrainState
    model_: Model

    def __init__(
        self,
        net: Net = (100,),
        *,
        optimizer: Optimizer | None = None,
        loss: Loss | None = None,
        in_shape: Shape | None = None,
        standardise: bool = True,
        batch_size: int | str = "auto",
        max_iter: int = 50,  # a regressor's; a classifier has its own
        tol: float | None = 1e-3,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        events: Events | None = None,
        random_state: Any = None,
    ) -> None:
        self.net = net
        self.optimizer = optimizer
        self.loss = loss
        self.in_shape = in_shape
        self.standardise = standardise
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.events = events
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # --- What a classifier and a regressor say --------------------------------------------------------------

    def _learn_targets(self, y: Array, weights: Array | None) -> None:
        """Learn from the targets what outputs mean: classes, or a scale."""
        raise NotImplementedError

    def _targets(self, y: Any) -> Array:
        """The targets as the loss takes them."""
        raise NotImplementedError

    def _weights(self, targets: Array, weights: Array | None) -> Array | None:
        """The weights of the examples in the loss."""
        return weights

    def _metric(self, validation: Examples) -> Metric | None:
        """The score on the validation part, as a mean over its examples; None: the loss decides."""
        raise NotImplementedError

    def _labels_to_stratify(self, targets: Array | None) -> Array | None:
        """The labels of which both parts shall have their share."""
        return None

    # --- Fitting --------------------------------------------------------------------------------------------

    def fit(self: Self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on examples X and targets y; anew, unless `warm_start`.

        The computation is in the dtype of X: float32 for float32 and what that holds, as bytes, float64 for all else.
        An example of weight 0 counts as if it were absent. Raises ValueError for bad data, NonFiniteError where the
        training diverges. Warns (ConvergenceWarning) if after `max_iter` epochs the loss still falls by `tol`.
        """
        self._check_settings()
        anew = not (self.warm_start and hasattr(self, "state_"))
        examples = self._examples(X, y, sample_weight, anew)
        seed = self._draw_seed()
        parts = self._split(examples, seed) if self.early_stopping else Parts(examples, None)
        self._train(parts, self.max_iter, anew, seed)
        return self

    def _partial_fit(self: Self, X: Any, y: Any, sample_weight: Any) -> Self:
        """One epoch on some examples, going on from those before."""
        self._check_settings()
        if self.early_stopping:
            raise ValueError(
                f"{self._name}.partial_fit: it trains for one epoch, so there is nothing to stop early. Set "
                "early_stopping=False"
            )
        anew = not hasattr(self, "state_")
        examples = self._examples(X, y, sample_weight, anew)
        self._train(Parts(examples, None), 1, anew, self._draw_seed())
        return self

    def _draw_seed(self) -> int:
        return int(check_random_state(self.random_state).randint(_LARGEST_SEED))

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _check_settings(self) -> None:
        check_counts(self._name, max_iter=self.max_iter, n_iter_no_change=self.n_iter_no_change)
        share, tol, size = self.validation_fraction, self.tol, as_int(self.batch_size)
        fits_share = is_number(share) and 0 < share < 1
        for name, fits, expected in (
            ("batch_size", size == "auto" or (type(size) is int and size > 0), "'auto' or an int of at least 1"),
            ("tol", tol is None or (is_number(tol) and tol >= 0), "a number not below 0, or None"),
            ("validation_fraction", fits_share or not self.early_stopping, "more than 0 and less than 1"),
            ("optimizer", self.optimizer is None or isinstance(self.optimizer, Optimizer), "an Optimizer or None"),
            ("events", self.events is None or callable(self.events), "a function of an iterable of events, or None"),
        ):
            if not fits:
                refuse(self._name, name, expected, getattr(self, name))

    def _examples(self, X: Any, y: Any, sample_weight: Any, anew: bool) -> Examples:
        """Data of a fit, checked, with targets as the loss takes them, and inputs as they came."""
        X, y = validate_data(
            self, X, y, reset=anew, accept_sparse="csr", allow_nd=True, multi_output=True, dtype="numeric",
            y_numeric=self.__sklearn_tags__().estimator_type == "regressor",
        )  # fmt: skip
        weights = self._checked_weights(sample_weight, X)
        if weights is not None and not weights.all():  # a weight of 0 is as if the example were absent
            X, y, weights = X[weights > 0], y[weights > 0], weights[weights > 0]
        if anew:
            dtype = np.result_type(X.dtype, np.float32)
            self._dtype = dtype if dtype == np.float32 else np.dtype(np.float64)
            self._learn_targets(y, weights)
        targets = self._targets(y)
        weights = self._weights(targets, weights)
        if weights is not None and weights.min() == weights.max():
            weights = None  # a mean over equal weights is the plain mean
        return Examples(X, X.shape[1:], self._dtype, None, targets, weights)

    def _checked_weights(self, sample_weight: Any, X: Any) -> Array | None:
        if sample_weight is None:
            return None
        weights: Array = check_array(
            sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight", estimator=self
        )
        if weights.ndim != 1:
            raise ValueError(f"{self._name}: sample_weight must be one number for each example, got {weights.shape}")
        check_consistent_length(X, weights)
        if weights.min() < 0:
            refuse(self._name, "sample_weight", "of no negative numbers", sample_weight)
        if weights.max() == 0:
            raise ValueError(f"{self._name}: sample_weight is zero for all examples, so that none counts")
        return weights

    def _split(self, examples: Examples, seed: int) -> Parts:
        """The examples to train on, and a fraction of them held out."""
        labels = self._labels_to_stratify(examples.targets)
        if labels is None:
            rows = random_split(len(examples), self.validation_fraction, Key(seed))
        else:
            rows = stratified_split(labels, self.validation_fraction, Key(seed))
        if not all(map(len, rows)):
            raise ValueError(
                f"{self._name}: of n_samples = {len(examples)} a validation_fraction of {self.validation_fraction} "
                "leaves one part empty. Give it more examples, or set early_stopping=False"
            )
        return Parts(*map(examples.select, rows))

    def _build(self, examples: Examples) -> None:
        """The net for such examples, and the scale of its inputs."""
        given: Any = self.net
        if isinstance(given, Layer):
            self.net_ = given
        else:
            make = given if callable(given) else partial(fully_connected, given, weight_init=glorot_uniform())
            self.net_ = make(self.n_outputs_)
        if not isinstance(self.net_, Layer):
            refuse(self._name, "net", "widths of hidden layers, a Layer, or a function of the outputs' number", given)
        self.in_shape_: Shape = examples.in_shape if self.in_shape is None else tuple(self.in_shape)
        if np.prod(self.in_shape_) != np.prod(examples.in_shape):
            raise ValueError(
                f"{self._name}: in_shape must hold the values of an example {examples.in_shape}, got {self.in_shape}"
            )
        out_shape = self.net_.config.out_shape(self.in_shape_)
        if out_shape != (self.n_outputs_,):
            raise ValueError(
                f"{self._name}: net must give {self.n_outputs_} outputs for these targets, got a net that gives "
                f"{out_shape}. Or pass a function of their number: partial(fully_connected, (100,), dropout=0.2)"
            )
        if self.standardise and not self._takes_whole_numbers:
            rows = examples.X if issparse(examples.X) else examples.X.reshape(len(examples), *self.in_shape_)
            self.input_scale_ = Scale.of(rows, examples.weights)
        else:
            self.input_scale_ = Scale.none(self.in_shape_[-1])

    @property
    def _takes_whole_numbers(self) -> bool:
        return self.net_.config.vocabulary is not None

    def _scaled(self, examples: Examples) -> Examples:
        """The examples as the net takes them."""
        if not self._takes_whole_numbers:
            return attrs.evolve(examples, in_shape=self.in_shape_, scale=self.input_scale_)
        rows = examples.X.toarray() if issparse(examples.X) else examples.X
        if (rows.astype(np.int64) != rows).any():
            raise ValueError(f"{self._name}: X must be whole numbers, which {self.net_} takes, got some with fractions")
        return attrs.evolve(examples, X=rows.astype(np.int64), in_shape=self.in_shape_)

    # --- Training -------------------------------------------------------------------------------------------

    def _train(self, parts: Parts, epochs: int, anew: bool, seed: int) -> None:
        """Train for some epochs at most, and keep what came of it."""
        if anew:
            self._build(parts.train)
            self.n_iter_, self._steps = 0, 0
            self.loss_curve_: list[float] = []
            self.validation_scores_: list[float] | None = [] if parts.validation else None
            self._seed = seed
        examples = self._scaled(parts.train).ready()
        validation = self._scaled(parts.validation).ready() if parts.validation else None
        metric = self._metric(validation) if validation else None  # a number for each step, if nobody looks, is waste
        optimizer = going_on(self.optimizer or adam(_RATE), self._steps)
        problem = Problem(self.net_, self.loss or self._loss, optimizer, metric)
        # Every run has a seed of its own, or each partial_fit would shuffle and drop alike.
        seed = self._seed + self.n_iter_
        if anew:
            start = init_state(problem, Key(seed), self.in_shape_, self._dtype)
        else:
            start = TrainState(self.state_.params, self.state_.state, self.state_.opt_state, 0, seed)
        watch = _Watch(self.tol, self.n_iter_no_change)
        last = None
        happened = train(
            problem, start, Parts(examples, validation), epochs=epochs, batch_size=self._batch_size(len(examples))
        )
        for event in self.events(happened) if self.events else happened:
            if not isinstance(event, Epoch):
                continue
            last = event.state
            self.n_iter_ += 1
            self.loss_curve_.append(event.train.loss)
            if event.validation is None:
                watch.see(-event.train.loss, 0.0, last)
            else:
                measured = event.validation
                score = -measured.loss if measured.accuracy is None else measured.accuracy
                self.validation_scores_ = [*(self.validation_scores_ or []), score]
                watch.see(score, measured.loss, last)
            if watch.is_over:
                break
        if last is None:
            raise ValueError(f"{self._name}: events gave no Epoch. It must yield what it is given: yield event")
        if self.tol is not None and event.epoch == epochs > 1 and not watch.is_over:
            warnings.warn(
                f"{self._name}: after max_iter={epochs} epochs it still becomes better by tol={self.tol}. Raise "
                "max_iter or the learning rate; or set tol=None for as many epochs as max_iter says",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.state_ = last
        self._steps += last.step
        kept = for_evaluation(problem, watch.state if validation and watch.state else last)
        self.model_ = Model(kept.params, kept.state)
        self.loss_ = self.loss_curve_[-1]
        self.best_validation_score_ = watch.best[0] if validation else None

    def _batch_size(self, n: int) -> int:
        if self.batch_size != "auto":
            return int(self.batch_size)
        # L-BFGS fits a curve to one loss, that of all examples.
        if self.optimizer is not None and self.optimizer.name == "lbfgs":
            return n
        smallest, largest = _AUTO_BATCH
        return min(n, max(smallest, min(n // _BATCHES, largest)))

    # --- Predicting -----------------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> Array:
        """The net's outputs (n, outputs) for X."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, accept_sparse="csr", allow_nd=True, dtype="numeric")
        examples = self._scaled(Examples(X, X.shape[1:], self._dtype))
        outputs: Array = predict(self.net_, self.model_, examples, batch_size=_ROWS)
        return outputs

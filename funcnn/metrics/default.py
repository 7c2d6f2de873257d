"""Which metric goes with which loss."""

from functools import partial
from typing import Any

from funcnn import losses
from funcnn.losses import Loss
from funcnn.metrics.classification import accuracy, binary_accuracy
from funcnn.metrics.shared import Metric

__all__ = ["default_metric"]


def default_metric(loss: Loss) -> Metric | None:
    """The metric that goes with a loss, with options of its own or not; None for a regression's.

    >>> default_metric(losses.sigmoid_cross_entropy).__name__, default_metric(losses.mean_squared_error)
    ('binary_accuracy', None)

    The label that a loss is told to ignore is ignored by the metric too. A loss that is not of `funcnn.losses` is taken
    for a classifier's.

    >>> default_metric(partial(losses.softmax_cross_entropy, ignore=-1)).keywords
    {'ignore': -1}
    """
    options: dict[str, Any] = {}
    while isinstance(loss, partial):
        options = loss.keywords | options
        loss = loss.func
    metric = next((metric for known, metric in _METRICS if known is loss), accuracy)
    ignore = options.get("ignore")
    return partial(accuracy, ignore=ignore) if metric is accuracy and type(ignore) is int else metric


_METRICS: tuple[tuple[Loss, Metric | None], ...] = (
    *((loss, accuracy) for loss in (
        losses.softmax_cross_entropy, losses.softmax_focal, losses.kl_divergence, losses.multiclass_hinge,
    )),
    *((loss, binary_accuracy) for loss in (
        losses.sigmoid_cross_entropy, losses.sigmoid_focal, losses.hinge, losses.squared_hinge, losses.smooth_hinge,
    )),
    *((loss, None) for loss in (
        losses.mean_squared_error, losses.mean_absolute_error, losses.huber, losses.log_cosh, losses.quantile,
        losses.poisson, losses.gaussian_kl, losses.gaussian_nll, losses.cosine_distance, losses.triplet,
        losses.ctc,
    )),
)  # fmt: skip

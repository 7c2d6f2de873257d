"""Metrics: ``metric(outputs, targets, weights=None, *, options) -> float``.

**Means over examples**, `accuracy`, `top_k_accuracy`, `binary_accuracy` and `mae`, may be a problem's metric. With
weights, or a label to `ignore`, they give ``(value, weight)``, as losses do, weight the sum of the weights.

**All others** measure a whole part at once, as what `predict` gives: the mean of F1 over batches is not F1. They are
marked by the attribute ``over_part = True``, and a problem refuses them. A metric that shall be low, as `mae`, has
``lower_is_better = True``, by which a run keeps its best net.

Each metric raises ValueError for what it does not measure.
"""

from funcnn.metrics.by_class import PerClass, f1, per_class_table, precision, recall
from funcnn.metrics.classification import MOST_CLASSES, accuracy, binary_accuracy, confusion_matrix, top_k_accuracy
from funcnn.metrics.default import default_metric
from funcnn.metrics.probabilities import calibration_error, perplexity
from funcnn.metrics.ranking import average_precision, roc_auc
from funcnn.metrics.regression import mae, r2, rmse
from funcnn.metrics.shared import Metric

__all__ = [
    "MOST_CLASSES", "Metric", "PerClass", "accuracy", "average_precision", "binary_accuracy", "calibration_error",
    "confusion_matrix", "default_metric", "f1", "mae", "per_class_table", "perplexity", "precision", "r2", "recall",
    "rmse", "roc_auc", "top_k_accuracy",
]  # fmt: skip

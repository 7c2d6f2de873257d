"""Nets as scikit-learn's estimators: `NetClassifier`, `NetRegressor`, and funcnn's preprocessing as a transformer.

They go wherever scikit-learn takes an estimator: pipelines, searches, cross-validation. `docs/scikit-learn.md` shows
how. Needs scikit-learn (the extra `sklearn`); raises ModuleNotFoundError with the command to install it without.
"""

try:
    import sklearn as _sklearn  # the package of that name, not this one: imports are absolute
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'funcnn.sklearn needs scikit-learn, which is not installed: pip install "funcnn[sklearn]"', name=error.name
    ) from error

from funcnn.sklearn.classifier import NetClassifier
from funcnn.sklearn.preprocess import Preprocess
from funcnn.sklearn.regressor import NetRegressor

__all__ = ["NetClassifier", "NetRegressor", "Preprocess"]

del _sklearn

"""scikit-learn's own checks of estimators, all of them, none expected to fail."""

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from funcnn.sklearn import NetClassifier, NetRegressor, Preprocess

ESTIMATORS = [NetClassifier(max_iter=60), NetRegressor(max_iter=80), Preprocess()]


@parametrize_with_checks(ESTIMATORS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # the checks are as short as can be
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")  # which some checks ask for
def test_scikit_learns_checks(estimator, check):
    check(estimator)

"""The estimators beyond scikit-learn's own checks: what they learn, and that what they promise holds."""

import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_wine, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline

from funcnn import serial
from funcnn.layers import conv2d, dense, embedding, flatten, relu
from funcnn.losses import mean_absolute_error
from funcnn.model_file import load_trained, probabilities, save_trained
from funcnn.models import fully_connected
from funcnn.optimizers import adam, averaged, lbfgs, sgd
from funcnn.schedules import linear
from funcnn.sklearn import NetClassifier, NetRegressor, Preprocess
from funcnn.train import Epoch, Step

WINE, KINDS = load_wine(return_X_y=True)
NAMES = np.array(["barolo", "grignolino", "barbera"])[KINDS]
SUGAR = load_diabetes(return_X_y=True)
Classifier = partial(NetClassifier, net=(30,), optimizer=adam(0.01), max_iter=40, tol=None, random_state=0)
Regressor = partial(NetRegressor, net=(30,), optimizer=adam(0.01), max_iter=40, tol=None, random_state=0)


def same_net(one, other):
    return np.array_equal(one._outputs(WINE), other._outputs(WINE))


# --- Data -----------------------------------------------------------------------------------------------------


def test_labels_may_be_texts_and_tables_have_names():
    pandas = pytest.importorskip("pandas")
    X, y = pandas.DataFrame(WINE).rename(columns=lambda i: f"column {i}"), pandas.Series(NAMES, dtype="category")
    fitted = Classifier().fit(X, y)
    assert fitted.score(X, y) > 0.97
    assert set(fitted.predict(X)) == set(NAMES)
    assert list(fitted.feature_names_in_) == list(X.columns)
    assert fitted.trained().columns == tuple(X.columns)  # which then refuses a frame of others
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(X[X.columns[::-1]])
    np.testing.assert_allclose(fitted.predict_proba(X), Classifier().fit(WINE, NAMES).predict_proba(WINE), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array"])
def test_a_sparse_table_is_as_a_dense_one(kind):
    sparse = pytest.importorskip("scipy.sparse")
    X = np.where(np.median(WINE, axis=0) < WINE, WINE, 0)
    for dense_one, sparse_one in ((Classifier(), Classifier()), (Regressor(), Regressor())):
        dense_one.fit(X, KINDS)
        sparse_one.fit(getattr(sparse, kind)(X), KINDS)
        np.testing.assert_allclose(sparse_one.predict(X), dense_one.predict(X), rtol=1e-6)


def test_the_dtype_follows_the_table():
    assert Classifier().fit(WINE, KINDS).predict_proba(WINE).dtype == np.float64
    assert Classifier().fit(WINE.astype(np.float32), KINDS).predict_proba(WINE).dtype == np.float32
    digits, labels = load_digits(return_X_y=True)
    assert Classifier(max_iter=1).fit(digits.astype(np.uint8), labels).predict_proba(digits).dtype == np.float32


def test_several_labels_and_several_outputs():
    X, labels = make_multilabel_classification(300, 20, n_classes=4, random_state=0)
    fitted = Classifier(early_stopping=True, max_iter=100).fit(X, labels)
    shares = fitted.predict_proba(X)
    assert shares.shape == labels.shape
    assert np.array_equal(fitted.predict(X), shares > 0.5)
    assert fitted.score(X, labels) == (fitted.predict(X) == labels).all(axis=1).mean() > 0.5
    outputs = np.stack([SUGAR[1], -3 * SUGAR[1] + 1000], axis=1)
    predicted = Regressor().fit(SUGAR[0], outputs).predict(SUGAR[0])
    assert predicted.shape == outputs.shape
    assert r2_score(outputs, predicted, multioutput="raw_values").min() > 0.5


def test_targets_of_any_size_are_learned():
    X, y = SUGAR
    plain = Regressor().fit(X, y)
    moved = Regressor().fit(X, 1e6 + 1e-3 * y)
    np.testing.assert_allclose((moved.predict(X) - 1e6) / 1e-3, plain.predict(X), rtol=1e-4)
    assert plain.score(X, y) > 0.5


# --- Nets -----------------------------------------------------------------------------------------------------


def test_images_flat_or_not_go_into_a_convolution():
    X, y = load_digits(return_X_y=True)
    X, y = X[:500].astype(np.float32), y[:500]
    net = serial(conv2d(8, 3), relu(), flatten(), dense(10))
    flat = NetClassifier(net, in_shape=(8, 8, 1), optimizer=adam(0.01), max_iter=5, tol=None, random_state=0).fit(X, y)
    images = NetClassifier(net, optimizer=adam(0.01), max_iter=5, tol=None, random_state=0).fit(
        X.reshape(-1, 8, 8, 1), y
    )
    assert flat.score(X, y) > 0.8
    assert np.array_equal(flat.predict_proba(X), images.predict_proba(X.reshape(-1, 8, 8, 1)))
    assert flat.input_scale_.mean.shape == (1,)  # of the channel, not of each pixel


def test_whole_numbers_go_into_an_embedding():
    draws = np.random.default_rng(0).integers(0, 50, (400, 6))
    y = (draws == 7).any(axis=1)
    net = serial(embedding(50, 8), flatten(), dense(16), relu(), dense(2))
    fitted = NetClassifier(net, optimizer=adam(0.02), max_iter=40, tol=None, random_state=0).fit(draws, y)
    assert fitted.score(draws, y) > 0.98
    with pytest.raises(ValueError, match="whole numbers"):
        fitted.predict(draws + 0.5)


def test_a_net_may_be_a_function_of_the_number_of_outputs():
    fitted = Classifier(net=partial(fully_connected, [16], dropout=0.1)).fit(WINE, KINDS)
    assert fitted.net_ == fully_connected([16], 3, dropout=0.1)
    with pytest.raises(ValueError, match=r"net must give 3 outputs.*\(2,\)"):
        Classifier(net=dense(2)).fit(WINE, KINDS)
    with pytest.raises(ValueError, match="in_shape must hold the values"):
        Classifier(in_shape=(2, 3)).fit(WINE, KINDS)


# --- Weights --------------------------------------------------------------------------------------------------


def test_weights_of_examples_and_of_classes_are_the_same_thing():
    by_class = {"barolo": 5.0, "barbera": 0.5, "grignolino": 1.0}
    weights = np.array([by_class[name] for name in NAMES])
    one = Classifier(class_weight=by_class).fit(WINE, NAMES)
    assert same_net(one, Classifier().fit(WINE, NAMES, sample_weight=weights))
    assert not same_net(one, Classifier().fit(WINE, NAMES))


def test_balanced_classes_count_alike_under_weights():
    weights = np.where(KINDS == 0, 0.1, 1.0)
    total = np.bincount(KINDS, weights)
    by_hand = weights * (total.sum() / (3 * total))[KINDS]
    one = Classifier(class_weight="balanced").fit(WINE, KINDS, sample_weight=weights)
    np.testing.assert_allclose(
        one.predict_proba(WINE), Classifier().fit(WINE, KINDS, sample_weight=by_hand).predict_proba(WINE), rtol=1e-6
    )


def test_a_weight_of_zero_is_absence():
    kept = KINDS != 2
    one = Classifier().fit(WINE, KINDS, sample_weight=kept.astype(float))
    assert one.classes_.tolist() == [0, 1]
    assert same_net(one, Classifier().fit(WINE[kept], KINDS[kept]))


# --- Training -------------------------------------------------------------------------------------------------


def test_early_stopping_keeps_the_best_epoch():
    seen = []

    def look(events):
        for event in events:
            seen.append(event)
            yield event

    fitted = Regressor(net=(200,), max_iter=300, tol=1e-4, early_stopping=True, events=look).fit(*SUGAR)
    scores = fitted.validation_scores_
    assert len(scores) == fitted.n_iter_ == len(fitted.loss_curve_) < 300
    best = int(np.argmax(scores))
    assert best < fitted.n_iter_ - 1
    epochs = [event for event in seen if isinstance(event, Epoch)]
    assert fitted.model_.params is epochs[best].state.params
    assert fitted.best_validation_score_ == scores[best] == epochs[best].validation.accuracy


@pytest.mark.parametrize("weights", [None, np.linspace(1, 2, len(SUGAR[1]))], ids=["plain", "weights"])
def test_validation_scores_are_those_of_score(weights):
    X, y = SUGAR
    held_out = []

    class Watched(NetRegressor):
        def _split(self, examples, seed):
            parts = super()._split(examples, seed)
            held_out.append(parts.validation)
            return parts

    fitted = Watched((20,), early_stopping=True, max_iter=20, tol=None, random_state=1)
    fitted.fit(X, y, sample_weight=weights)
    part = held_out[0]
    predicted, target = fitted.predict(part.X), fitted.target_scale_.undo(part.targets)[:, 0]
    expected = r2_score(target, predicted, sample_weight=part.weights)
    np.testing.assert_allclose(fitted.best_validation_score_, expected, rtol=1e-10)


def test_training_stops_where_the_events_end():
    def until_half(events):
        for event in events:
            yield event
            if isinstance(event, Epoch) and event.train.loss < 0.5:
                return

    fitted = Classifier(max_iter=200, events=until_half).fit(WINE, KINDS)
    assert fitted.loss_curve_[-1] < 0.5 <= fitted.loss_curve_[-2]
    with pytest.raises(ValueError, match="yield event"):
        Classifier(events=lambda events: [event for event in events if isinstance(event, Step)]).fit(WINE, KINDS)


def test_it_says_when_it_has_not_converged():
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        Classifier(max_iter=3, tol=1e-4).fit(WINE, KINDS)
    assert Classifier(max_iter=3000, tol=1e-2).fit(WINE, KINDS).n_iter_ < 3000


def test_warm_start_and_partial_fit_go_on():
    warm = Classifier(max_iter=10, warm_start=True).fit(WINE, KINDS)
    first = warm.loss_curve_[-1]
    warm.fit(WINE[:150], KINDS[:150])
    assert warm.n_iter_ == len(warm.loss_curve_) == 20
    assert warm.loss_curve_[-1] < first
    bit_by_bit = Classifier(batch_size=30)
    bit_by_bit.partial_fit(WINE, KINDS, classes=[0, 1, 2])
    order = np.random.default_rng(0).permutation(len(WINE))
    for start in [0, 60, 118] * 20:
        bit_by_bit.partial_fit(WINE[order[start : start + 60]], KINDS[order[start : start + 60]])
    assert bit_by_bit.score(WINE, KINDS) > 0.97
    with pytest.raises(ValueError, match=r"labels \[3\]"):
        bit_by_bit.partial_fit(WINE, np.full(len(WINE), 3))


def test_the_place_in_a_schedule_is_kept():
    rates = []

    def note(events):
        for event in events:
            rates.extend([event.learning_rate] if isinstance(event, Step) else [])
            yield event

    net = Classifier(optimizer=sgd(linear(0.1, 0.0, 10)), batch_size=89, max_iter=2, warm_start=True, events=note)
    net.fit(WINE, KINDS).fit(WINE, KINDS)
    np.testing.assert_allclose(rates, 0.1 - 0.01 * np.arange(8))


def test_passes_differ_from_each_other_and_not_from_run_to_run():
    net = partial(fully_connected, [20], dropout=0.5)
    runs = [Classifier(net=net, max_iter=2).fit(WINE, KINDS) for _ in range(2)]
    assert same_net(*runs)
    assert not same_net(runs[0], Classifier(net=net, max_iter=2).set_params(random_state=1).fit(WINE, KINDS))
    state = np.random.RandomState(3)
    drawn = [Classifier(net=net, max_iter=2).set_params(random_state=state).fit(WINE, KINDS) for _ in range(2)]
    assert not same_net(*drawn)


def test_lbfgs_takes_all_examples_at_once_and_averages_are_predicted_with():
    assert NetClassifier(optimizer=lbfgs(), random_state=0).fit(WINE, KINDS).state_.step < 60
    fitted = Classifier(optimizer=averaged(adam(0.01), decay=0.9)).fit(WINE, KINDS)
    assert fitted.model_.params is not fitted.state_.params
    assert fitted.score(WINE, KINDS) > 0.97


def test_a_loss_of_ones_own_choice():
    X, y = SUGAR
    fitted = Regressor(loss=mean_absolute_error).fit(X, y)
    np.testing.assert_allclose(np.mean(fitted.predict(X) < y), 0.5, atol=0.1)  # it seeks the median


# --- scikit-learn's tools -------------------------------------------------------------------------------------


def test_it_is_searched_validated_cloned_and_pickled():
    grid = {"netclassifier__net": [(5,), (20,)], "netclassifier__optimizer": [adam(1e-4), adam(1e-2)]}
    search = GridSearchCV(make_pipeline(Preprocess(), Classifier(standardise=False)), grid, cv=3).fit(WINE, KINDS)
    assert search.best_params_["netclassifier__optimizer"] == adam(1e-2)
    assert search.best_score_ > 0.95
    assert min(cross_validate(Regressor(), *SUGAR, cv=3)["test_score"]) > 0.3
    fitted = Classifier().fit(WINE, NAMES)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict(WINE), fitted.predict(WINE))
    again.partial_fit(WINE, NAMES)
    with pytest.raises(NotFittedError):
        clone(fitted).predict(WINE)


def test_a_trained_net_leaves_as_a_file(tmp_path):
    fitted = Classifier().fit(WINE, NAMES)
    save_trained(tmp_path / "wine.safetensors", fitted.trained())
    again = load_trained(tmp_path / "wine.safetensors")
    np.testing.assert_allclose(probabilities(again, WINE), fitted.predict_proba(WINE), rtol=1e-6, atol=1e-9)
    assert again.classes == tuple(fitted.classes_)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("standardise", lambda X: (X - X.mean(axis=0)) / X.std(axis=0)),
        ("rescale", lambda X: X / 10),
        ("subtract_mean_image", lambda X: (X - X.mean(axis=0)) / 10),
        ("unit_norm", lambda X: X / np.linalg.norm(X, axis=1, keepdims=True)),
        (lambda X: lambda inputs: inputs - X[0], lambda X: X - X[0]),
    ],
)
def test_preprocessing_is_that_of_the_library(kind, expected):
    made = Preprocess(kind, divisor=10).fit(WINE).transform(WINE)
    np.testing.assert_allclose(made, expected(WINE), rtol=1e-4, atol=1e-4)


def test_preprocessing_sees_images_in_flat_rows():
    images = np.random.default_rng(0).integers(0, 256, (20, 4 * 4 * 3))
    made = Preprocess(in_shape=(4, 4, 3)).fit_transform(images)
    assert made.shape == images.shape
    np.testing.assert_allclose(made.reshape(-1, 3).mean(axis=0), 0, atol=1e-5)
    assert made.reshape(20, 16, 3)[:, 0].mean() != pytest.approx(0, abs=1e-3)


# --- What is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"batch_size": 0}, "NetClassifier: batch_size must be 'auto' or an int of at least 1, got 0"),
        ({"max_iter": 1.5}, "NetClassifier: max_iter must be an int of at least 1, got 1.5"),
        ({"tol": -1}, "tol must be a number not below 0, or None"),
        ({"optimizer": "adam"}, "optimizer must be an Optimizer or None, got 'adam'"),
        ({"class_weight": "equal"}, "class_weight must be a dict from labels to weights, 'balanced' or None"),
        ({"early_stopping": True, "validation_fraction": 1.0}, "validation_fraction must be more than 0 and less"),
        ({"early_stopping": True, "validation_fraction": 1e-4}, "n_samples = 178 .* leaves one part empty"),
        ({"net": "wide"}, "hidden must be a list of positive ints"),
    ],
)
def test_bad_settings_are_named(settings, expected):
    with pytest.raises(ValueError, match=expected):
        NetClassifier().set_params(**settings).fit(WINE, KINDS)


def test_bad_data_are_named():
    with pytest.raises(ValueError, match="one number for each example"):
        Classifier().fit(WINE, KINDS, sample_weight=np.ones((len(WINE), 2)))
    with pytest.raises(ValueError, match="MultiOutputClassifier"):
        Classifier().fit(WINE, np.stack([KINDS, KINDS], axis=1))
    with pytest.raises(ValueError, match="must be given classes"):
        Classifier().partial_fit(WINE, KINDS)
    with pytest.raises(ValueError, match="nothing to stop early"):
        Regressor(early_stopping=True).partial_fit(*SUGAR)


# --- Imports --------------------------------------------------------------------------------------------------


def test_without_scikit_learn_the_error_names_the_extra():
    program = (
        "import sys; sys.modules['sklearn'] = None\n"
        "try:\n    import funcnn.sklearn\nexcept ModuleNotFoundError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert 'pip install "funcnn[sklearn]"' in run.stdout

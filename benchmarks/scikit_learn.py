"""funcnn's estimators against scikit-learn's MLPs on tables: how good, and how long a fit takes.

    python benchmarks/scikit_learn.py
    python benchmarks/scikit_learn.py --tables breast_cancer digits --threads 1 --rounds 9

Both have one hidden layer of 100, Adam and batches of 200; both are given standardised tables, and targets of a
regression. The score is the mean over a five-fold cross-validation with the defaults of each, which decide when to
stop, and the first ratio that of the processor's time that both took for it. The others are of a fit of as many epochs
for both, in turn in every round: by the clock, and of the processor.
On a machine with other work the processor's tells more, with one thread alone: the clock counts waits for cores, more
threads spin while they wait.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import measure
import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold, cross_validate
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from funcnn.arrays.threads import set_threads
from funcnn.sklearn import NetClassifier, NetRegressor


def made() -> tuple[np.ndarray, np.ndarray]:
    """A table of 50,000 examples of 100 features in five classes."""
    X, y = make_classification(50_000, 100, n_informative=30, n_classes=5, random_state=0)
    return X, y


TABLES: dict[str, tuple[Callable[[], Any], int]] = {  # how to get one, and the epochs of a timed fit
    "breast_cancer": (lambda: load_breast_cancer(return_X_y=True), 60),
    "wine": (lambda: load_wine(return_X_y=True), 150),
    "digits": (lambda: load_digits(return_X_y=True), 20),
    "diabetes": (lambda: load_diabetes(return_X_y=True), 60),
    "made": (made, 5),
}


def scores(name: str, X: np.ndarray, y: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """The mean score, epochs and seconds of each estimator with its defaults; of the large table on a tenth of it."""
    ours, theirs = (NetRegressor, MLPRegressor) if name == "diabetes" else (NetClassifier, MLPClassifier)
    folds: Any = KFold if name == "diabetes" else StratifiedKFold
    if len(X) > 10_000:
        X, y = X[:5000], y[:5000]
    cv = folds(5, shuffle=True, random_state=0)
    peer: Any = make_pipeline(StandardScaler(), theirs(random_state=0))
    if name == "diabetes":  # whose targets are far from 0
        peer = TransformedTargetRegressor(peer, transformer=StandardScaler())
    found = {}
    for label, estimator in {"funcnn": ours(random_state=0), "scikit-learn": peer}.items():
        started = time.process_time()
        run = cross_validate(estimator, X, y, cv=cv, return_estimator=True)
        seconds = time.process_time() - started
        last = [getattr(each, "regressor_", each) for each in run["estimator"]]
        last = [each[-1] if hasattr(each, "steps") else each for each in last]
        found[label] = float(run["test_score"].mean()), float(np.mean([each.n_iter_ for each in last])), seconds
    return found


def times(name: str, X: np.ndarray, y: np.ndarray, epochs: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds a fit, by the clock and of the processor, a sample a round for each, in turn."""
    ours, theirs = (NetRegressor, MLPRegressor) if name == "diabetes" else (NetClassifier, MLPClassifier)
    Z = StandardScaler().fit_transform(X)
    single = Z.astype(np.float32)
    shared: dict[str, Any] = {"max_iter": epochs, "random_state": 0}
    fits: dict[str, Callable[[], Any]] = {
        "funcnn": lambda: ours(tol=None, **shared).fit(Z, y),
        "scikit-learn": lambda: theirs(tol=0, n_iter_no_change=epochs, **shared).fit(Z, y),
        "funcnn, float32": lambda: ours(tol=None, **shared).fit(single, y),
        "scikit-learn, float32": lambda: theirs(tol=0, n_iter_no_change=epochs, **shared).fit(single, y),
    }
    samples: dict[str, dict[str, list[float]]] = {each: {"clock": [], "processor": []} for each in fits}
    names = list(fits)
    for i in range(-1, rounds):
        for each in names[i % len(names) :] + names[: i % len(names)]:
            clock, processor = time.perf_counter(), time.process_time()
            fits[each]()
            clock, processor = time.perf_counter() - clock, time.process_time() - processor
            if i >= 0:
                samples[each]["clock"].append(clock)
                samples[each]["processor"].append(processor)
    return samples


def main() -> None:
    """Measure the tables that are asked for, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--no-scores", action="store_true", help="measure the times alone")
    measure.add_options(parser, rounds=7)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    set_threads(options.threads)
    rows, results = [], {}
    with threadpool_limits(options.threads) if options.threads else nullcontext():
        for name in options.tables:
            load, epochs = TABLES[name]
            X, y = load()
            others = measure.Others()
            reached = {} if options.no_scores else scores(name, X, y)
            taken = times(name, X, y, epochs, options.rounds)
            results[name] = {"scores": reached, "seconds": taken, "cores_taken_by_others": others.cores()}
            for kind in ("", ", float32"):
                pair = taken[f"funcnn{kind}"], taken[f"scikit-learn{kind}"]
                ratios = [measure.ratio(*(each[clock] for each in pair)) for clock in ("clock", "processor")]
                quality = [f"{score:.4f} ({n:.0f})" for score, n, _ in reached.values()] if not kind else []
                if quality:
                    quality.append("{:.2f}".format(reached["funcnn"][2] / reached["scikit-learn"][2]))
                steps = epochs * -(-len(X) // 200)
                rows.append(
                    [
                        f"{name}{kind}", *(quality or ["", "", ""]),
                        *(f"{1e6 * measure.Spread.of(each['clock']).median / steps:.0f}" for each in pair),
                        *(each.show(1, 2) for each in ratios), measure.show_cores(others.cores()),
                    ]
                )  # fmt: skip
    header = [
        "table", "funcnn (epochs)", "scikit-learn", "ratio of fits", "µs a step", "scikit-learn", "ratio (p10–p90)",
        "of processor time", "cores of others",
    ]  # fmt: skip
    measure.print_table(header, rows)
    measure.write_json(options.json, {"environment": measure.environment("scikit-learn"), "tables": results})


if __name__ == "__main__":
    main()

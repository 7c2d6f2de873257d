"""Metrics over a whole part against scikit-learn's, weights and ties included; needs scikit-learn beside PyTorch."""

from typing import Any

import numpy as np
from sklearn import metrics as peer

from funcnn import metrics

N, CLASSES = 400, 5
RNG = np.random.default_rng(0)
LABELS = RNG.integers(CLASSES - 1, size=N)  # the last class never occurs
LOGITS = RNG.standard_normal((N, CLASSES)) + 1.5 * np.eye(CLASSES)[LABELS]
LOGITS[:, 3] -= 9  # and one is never predicted
WEIGHTS = RNG.random(N)
OFTEN = np.append(LABELS[5:], np.arange(5))  # for curves, each class must occur
SCORES = np.round(RNG.standard_normal(N) + LABELS, 1)  # with ties
BITS = (LABELS > 1).astype(int)
QUESTIONS = (RNG.random((N, CLASSES)) < [0.3, 0.3, 0.3, 0.005, 0.3]).astype(int)
NUMBERS = RNG.standard_normal((N, 3))
NEAR = NUMBERS + RNG.standard_normal((N, 3)) / 2


def softmax(logits: Any) -> Any:
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def compare() -> dict[str, float]:
    """Of each metric, the largest absolute difference from scikit-learn's."""
    found = {}

    def note(name: str, ours: Any, wanted: Any) -> None:
        found[name] = float(np.abs(np.asarray(ours) - np.asarray(wanted)).max())

    said = LOGITS.argmax(axis=1)
    every = np.arange(CLASSES)
    for what, weights in (("", None), (", weights", WEIGHTS)):
        for name, ours, theirs in (
            ("precision", metrics.precision, peer.precision_score),
            ("recall", metrics.recall, peer.recall_score),
            ("f1", metrics.f1, peer.f1_score),
        ):
            options = {"sample_weight": weights, "zero_division": 0}
            for average in ("macro", "micro", "weighted"):
                wanted = theirs(LABELS, said, average=average, **options)
                note(f"{name}, {average}{what}", ours(LOGITS, LABELS, weights, average=average), wanted)
            wanted = theirs(LABELS, said, average=None, labels=every, **options)
            note(f"{name}, each class{what}", ours(LOGITS, LABELS, weights, average="none"), wanted)
            note(
                f"{name}, yes or no{what}",
                ours(SCORES, BITS, weights, threshold=1.0),
                theirs(BITS, SCORES > 1, **options),
            )
            note(
                f"{name}, several yes or no{what}",
                ours(LOGITS, QUESTIONS, weights, threshold=0.0),
                theirs(QUESTIONS, LOGITS > 0, average="macro", **options),
            )
        for name, ours, theirs in (
            ("roc auc", metrics.roc_auc, peer.roc_auc_score),
            ("average precision", metrics.average_precision, peer.average_precision_score),
        ):
            one = {"sample_weight": weights}
            note(f"{name}, yes or no{what}", ours(SCORES, BITS, weights), theirs(BITS, SCORES, **one))
            note(
                f"{name}, several yes or no{what}",
                ours(LOGITS, QUESTIONS, weights, multilabel=True),
                theirs(QUESTIONS, LOGITS, average="macro", **one),
            )
            more = one | ({"multi_class": "ovr"} if name == "roc auc" else {})
            note(f"{name}, classes{what}", ours(LOGITS, OFTEN, weights), theirs(OFTEN, softmax(LOGITS), **more))
            p = softmax(LOGITS[:, :2])
            note(f"{name}, two classes{what}", ours(p, BITS, weights, from_logits=False), theirs(BITS, p[:, 1], **one))
        note(
            f"accuracy{what}",
            np.atleast_1d(metrics.accuracy(LOGITS, LABELS, weights))[0],
            peer.accuracy_score(LABELS, said, sample_weight=weights),
        )
        note(
            f"top 2{what}",
            np.atleast_1d(metrics.top_k_accuracy(LOGITS, LABELS, weights, k=2))[0],
            peer.top_k_accuracy_score(LABELS, LOGITS, k=2, labels=every, sample_weight=weights),
        )
        note(
            f"confusion matrix{what}",
            metrics.confusion_matrix(LOGITS, LABELS, weights),
            peer.confusion_matrix(LABELS, said, labels=every, sample_weight=weights),
        )
        note(
            f"perplexity{what}",
            metrics.perplexity(LOGITS, LABELS, weights),
            np.exp(peer.log_loss(LABELS, softmax(LOGITS), labels=every, sample_weight=weights)),
        )
        note(f"r2{what}", metrics.r2(NEAR, NUMBERS, weights), peer.r2_score(NUMBERS, NEAR, sample_weight=weights))
        note(
            f"rmse{what}",
            metrics.rmse(NEAR[:, 0], NUMBERS[:, 0], weights),
            peer.root_mean_squared_error(NUMBERS[:, 0], NEAR[:, 0], sample_weight=weights),
        )
        note(
            f"mae{what}",
            np.atleast_1d(metrics.mae(NEAR, NUMBERS, weights))[0],
            peer.mean_absolute_error(NUMBERS, NEAR, sample_weight=weights),
        )
    return found


if __name__ == "__main__":
    for name, difference in compare().items():
        print(f"{name:60} {difference:.1e}")

"""Problem set 5: what makes a net do well on what it has not seen. README.md has the tasks.

No function writes to its arguments, and none draws random numbers but from the key that it is given.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from funcnn import Key, generator

Array = NDArray[Any]


# --- Task 1: dropout ------------------------------------------------------------------------------------------


def dropout_apply(rate: float, x: Array, key: Key, *, train: bool) -> tuple[Array, Any]:
    """x of any shape -> (y, residuals), y in x's dtype. Each number is dropped with the probability `rate`.

    In training a number is kept where ``generator(key).random(x.shape) >= rate``, and divided by 1 - rate, so that its
    mean stays; elsewhere it is 0. Without `train` y is x, and the residuals are None.
    """
    raise NotImplementedError("task 1")


def dropout_backward(residuals: Any, dy: Array) -> Array:
    """dy -> dx, the gradient of x, for the same draws as in `dropout_apply` with ``train=True``."""
    raise NotImplementedError("task 1")


# --- Task 2: batch norm ---------------------------------------------------------------------------------------


class NormParams(NamedTuple):
    """What is trained, both (features,)."""

    scale: Array
    shift: Array


class NormState(NamedTuple):
    """The running statistics, both (features,): carried from step to step, not trained."""

    mean: Array
    variance: Array


def batch_norm_apply(
    params: NormParams, state: NormState, x: Array, *, train: bool, decay: float = 0.9, epsilon: float = 1e-5
) -> tuple[Array, NormState, Any]:
    """x (n, features) -> (y, state, residuals), each feature brought to mean 0 and variance 1, then scaled and shifted.

        y = scale · (x - mean) / sqrt(variance + epsilon) + shift

    In training, mean and variance are the batch's (the variance is the mean of squared deviations, divided by n), and
    the new running statistics are decay · (the old ones) + (1 - decay) · (the batch's). Without `train` mean and
    variance are the running ones, the state goes through as it came, and the residuals are None.
    """
    raise NotImplementedError("task 2")


def batch_norm_backward(params: NormParams, residuals: Any, dy: Array) -> tuple[NormParams, Array]:
    """dy (n, features) -> (gradients, dx): the gradients of scale and shift as NormParams, and of x, in training.

    The batch's mean and variance depend on every x, and dx goes through them too.
    """
    raise NotImplementedError("task 2")


# --- Task 3: moved images -------------------------------------------------------------------------------------


def moved(images: Array, key: Key, most: int = 1) -> Array:
    """images (n, h, w, c) -> images of the same shape and dtype, each moved by up to `most` pixels.

    Image i moves down by offsets[i, 0] pixels and to the right by offsets[i, 1], negative ones up and to the left, with
    ``offsets = generator(key).integers(-most, most + 1, (n, 2))``. What leaves the image is gone; what enters is 0.
    """
    raise NotImplementedError("task 3")


# --- Task 4: early stopping -----------------------------------------------------------------------------------


def early_stopping(losses: Iterable[float], patience: int) -> tuple[int, int]:
    """Validation losses, one for each epoch from 0 -> (best, last): the best epoch, and the last that was run.

    Training stops when `patience` epochs in a row have brought no loss below the lowest so far, or when the losses end.
    Of equal losses the first counts as the best. Taking a loss is running an epoch: none is taken more than needed, and
    `losses` may never end. There is at least one.
    """
    raise NotImplementedError("task 4")


# --- Task 5: an honest comparison -----------------------------------------------------------------------------

Trial = Callable[[str, int], tuple[float, float]]  # (setting, seed) -> the validation's accuracy, the test's


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """At least two values -> (their mean, its standard error): s / sqrt(n), s² = Σ (value - mean)² / (n - 1)."""
    raise NotImplementedError("task 5")


def verdict(a: Sequence[float], b: Sequence[float], times: float = 2.78) -> str:
    """Accuracies of two settings, a[i] and b[i] from the same seed -> "better", "worse" or "no difference shown".

    Of the differences a[i] - b[i] the mean and its standard error are taken. a is "better" if the mean is more than
    `times` standard errors above 0, "worse" if it is more than that below. (2.78 is for five seeds: with no difference
    at all, chance alone then says "better" or "worse" once in twenty.)
    """
    raise NotImplementedError("task 5")


class Study(NamedTuple):
    """What a comparison of settings has found."""

    validation: dict[str, tuple[float, float]]  # for each setting: the mean over the seeds, and its standard error
    chosen: str  # the setting with the highest mean on the validation part; of equal ones the first
    test: tuple[float, float]  # of the chosen one, on the test part: mean and standard error
    verdict: str  # of the chosen one's test accuracies against those of the first setting, by `verdict`


def study(trial: Trial, settings: Sequence[str], seeds: Sequence[int]) -> Study:
    """Run each setting with each seed, once; choose by the validation part alone, and report on the test part.

    The first setting is the plain one, with which the chosen one is compared; compared with itself it is "no difference
    shown".
    """
    raise NotImplementedError("task 5")


# --- See it work: python generalisation.py --------------------------------------------------------------------


def digits_trial(setting: str, seed: int) -> tuple[float, float]:
    """Train a net on 150 digits that lie in the middle; the accuracies on validation and test digits that do not."""
    from funcnn.data import load
    from funcnn.losses import softmax_cross_entropy
    from funcnn.models import fully_connected
    from funcnn.optimizers import adam
    from funcnn.train import Epoch, Problem, init_state, predict, train

    data = load("digits").thin(150, 400)
    net = fully_connected([64], 10, dropout=0.3 if setting == "dropout" else 0.0)
    augment = (moved,) if setting == "moved" else ()
    problem = Problem(net, softmax_cross_entropy, adam(3e-3), augment=augment)
    state = init_state(problem, Key(seed), data.in_shape)
    for event in train(problem, state, data, epochs=60, batch_size=32):
        state = event.state if isinstance(event, Epoch) else state

    def accuracy(part: Any) -> float:
        x, labels = part.take(slice(None))
        logits = predict(net, state, moved(x, Key(99)))
        return float((logits.argmax(axis=1) == labels).mean())

    return accuracy(data.validation), accuracy(data.test)


def main() -> None:
    """What dropout and moved images do for a net that is to read digits that do not lie in the middle."""
    found = study(digits_trial, ["plain", "dropout", "moved"], range(5))
    for setting, (mean, error) in found.validation.items():
        print(f"{setting:8}  validation {mean:.4f} ± {error:.4f}")
    mean, error = found.test
    print(f"{found.chosen:8}  test       {mean:.4f} ± {error:.4f}, than plain: {found.verdict}")


if __name__ == "__main__":
    main()

"""The checks of problem set 5. Run them by `python grade.py set_5_generalisation`, or by pytest."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from grading import Student, check, close, equal, numeric_gradient, replaced, that, unchanged

from funcnn import Key, generator

TASKS = {
    1: "dropout",
    2: "batch norm",
    3: "moved images",
    4: "early stopping",
    5: "an honest comparison",
}
student = Student(Path(__file__).with_name("generalisation.py"))


def values(*shape: int, seed: int = 0) -> Any:
    """Gaussian numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


# --- Task 1 ---------------------------------------------------------------------------------------------------


@check(task=1, points=2)
def test_dropout() -> None:
    """in training: the draws of the key, and the mean that stays"""
    x = values(6, 50).astype(np.float32)
    for rate in (0.0, 0.25, 0.5):
        draws = generator(Key(3)).random(x.shape)
        kept, rows = x * (draws >= rate), generator(Key(3)).random((6, 1)) >= rate
        mistakes = {
            "Divide what is kept by 1 - rate, so that the mean stays": kept,
            "Divide by 1 - rate, the share that is kept, not by the rate": kept / (rate or 1.0),
            "`rate` is the share that is dropped, not that which is kept": x * (draws < rate) / (rate or 1.0),
            "Each number is drawn by itself, not each example": x * rows / (1 - rate),
        }
        with unchanged(x=x):
            y, _ = student.dropout_apply(rate, x, Key(3), train=True)
        close(f"y for rate {rate}", y, kept / (1 - rate), mistakes=mistakes, rtol=1e-5)
        equal("the dtype of y", y.dtype, x.dtype, "A mask of float64 makes float64: give it x's dtype")


@check(task=1, points=1)
def test_dropout_in_evaluation() -> None:
    """in evaluation: y is x, and nothing is kept"""
    x = values(4, 5)
    y, residuals = student.dropout_apply(0.5, x, Key(0), train=False)
    close("y without train", y, x, mistakes={"Nothing is scaled in evaluation": 0.5 * x})
    equal("the residuals without train", residuals, None)


@check(task=1, points=1)
def test_dropout_backward() -> None:
    """backward, through the same draws"""
    x, dy = values(4, 5), values(4, 5, seed=1)
    x[0, 0] = 0.0  # kept or dropped, y is 0 there
    _, residuals = student.dropout_apply(0.4, x, Key(1), train=True)
    with unchanged(dy=dy, residuals=residuals):
        dx = student.dropout_backward(residuals, dy)
    kept = generator(Key(1)).random(x.shape) >= 0.4
    close(
        "dx", dx, dy * kept / 0.6, mistakes={"What is kept was divided by 1 - rate, and so is its gradient": dy * kept}
    )


# --- Task 2 ---------------------------------------------------------------------------------------------------


def norm(n: int = 5) -> tuple[Any, Any, Any]:
    """Params, state and a batch of 3 features."""
    params = student.NormParams(values(3, seed=1), values(3, seed=2))
    state = student.NormState(values(3, seed=3), values(3, seed=4) ** 2)
    return params, state, 2 * values(n, 3) + 1


def normalised(params: Any, x: Any, mean: Any, variance: Any) -> Any:
    """The equation of batch norm."""
    return params.scale * (x - mean) / np.sqrt(variance + 1e-5) + params.shift


@check(task=2, points=1)
def test_norm_in_training() -> None:
    """in training: by the batch's mean and variance"""
    params, state, x = norm()
    with unchanged(params=params, x=x):
        y, _, _ = student.batch_norm_apply(params, state, x, train=True)
    mistakes = {
        "In training they are the batch's, not the running ones": normalised(params, x, *state),
        "The variance is divided by n, not by n - 1": normalised(params, x, x.mean(axis=0), x.var(axis=0, ddof=1)),
        "It is the mean over the examples, axis 0, for each feature": normalised(
            params, x, x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
        ),
        "It is for each feature by itself, axis 0": normalised(params, x, x.mean(), x.var()),
    }
    close("y", y, normalised(params, x, x.mean(axis=0), x.var(axis=0)), mistakes=mistakes)


@check(task=2, points=1)
def test_norm_state() -> None:
    """in training: the new running statistics, and the old ones untouched"""
    params, state, x = norm()
    with unchanged(state=state):
        _, new, _ = student.batch_norm_apply(params, state, x, train=True, decay=0.8)
    batch = x.mean(axis=0), x.var(axis=0)
    for name, old, its in zip(("mean", "variance"), state, batch, strict=True):
        mistakes = {
            "The old ones have the weight decay, the batch's 1 - decay": 0.2 * old + 0.8 * its,
            "The state goes through as it came; in training it changes": old,
        }
        close(f"the running {name}", getattr(new, name, None), 0.8 * old + 0.2 * its, mistakes=mistakes)


@check(task=2, points=1)
def test_norm_in_evaluation() -> None:
    """in evaluation: by the running statistics, which stay"""
    params, state, x = norm()
    y, new, residuals = student.batch_norm_apply(params, state, x, train=False)
    mistakes = {"Without train they are the running ones": normalised(params, x, x.mean(axis=0), x.var(axis=0))}
    close("y without train", y, normalised(params, x, *state), mistakes=mistakes)
    close("the mean of the state", new.mean, state.mean)
    close("the variance of the state", new.variance, state.variance)
    equal("the residuals without train", residuals, None)


def norm_gradients() -> tuple[Any, Any, Any, Any]:
    """Params, a batch and dy, and what the student's backward gives."""
    params, state, x = norm()
    dy = values(5, 3, seed=7)
    _, _, residuals = student.batch_norm_apply(params, state, x, train=True)
    with unchanged(params=params, dy=dy, residuals=residuals):
        return params, x, dy, student.batch_norm_backward(params, residuals, dy)


@check(task=2, points=1)
def test_norm_gradients_of_params() -> None:
    """backward: the gradients of scale and shift"""
    _, x, dy, (gradients, _) = norm_gradients()
    normal = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
    mistakes = {
        "It is the normalised x that the scale multiplies": (dy * x).sum(axis=0),
        "dy is already the gradient of a mean: sum over the examples": (dy * normal).mean(axis=0),
    }
    close("the gradient of scale", gradients.scale, (dy * normal).sum(axis=0), mistakes=mistakes)
    mistakes = {"dy is already the gradient of a mean: sum over the examples": dy.mean(axis=0)}
    close("the gradient of shift", gradients.shift, dy.sum(axis=0), mistakes=mistakes)


@check(task=2, points=2)
def test_norm_gradient_of_x() -> None:
    """backward: the gradient of x, through the mean and the variance"""
    params, x, dy, (_, dx) = norm_gradients()

    def inner(x: Any) -> float:
        return float(np.vdot(normalised(params, x, x.mean(axis=0), x.var(axis=0)), dy))

    scaled = dy * params.scale / np.sqrt(x.var(axis=0) + 1e-5)
    mistakes = {
        "The mean and the variance depend on x as well": scaled,
        "The variance depends on x as well": scaled - scaled.mean(axis=0),
    }
    close("dx", dx, numeric_gradient(inner, x), mistakes=mistakes, rtol=1e-5, atol=1e-7)


# --- Task 3 ---------------------------------------------------------------------------------------------------


def right_moved(images: Any, offsets: Any) -> Any:
    """Images moved by offsets, pixel by pixel."""
    _, h, w, _ = images.shape
    out = np.zeros_like(images)
    for i, (down, right) in enumerate(offsets):
        for row in range(h):
            for column in range(w):
                if 0 <= row + down < h and 0 <= column + right < w:
                    out[i, row + down, column + right] = images[i, row, column]
    return out


def offsets_of(key: Key, most: int, n: int) -> Any:
    """The offsets that are to be drawn."""
    return generator(key).integers(-most, most + 1, (n, 2))


@check(task=3, points=1)
def test_moved() -> None:
    """each image by its own offsets, in the right direction"""
    images = np.pad(values(9, 3, 4, 1), ((0, 0), (2, 2), (2, 2), (0, 0)))  # nothing leaves, and zeros enter
    for most in (1, 2):
        offsets = offsets_of(Key(4), most, 9)
        mistakes = {
            "Positive offsets move down and to the right": right_moved(images, -offsets),
            "The first offset is that of the rows": right_moved(images, offsets[:, ::-1]),
            "Each image has offsets of its own": right_moved(images, offsets[:1].repeat(9, axis=0)),
        }
        with unchanged(images=images):
            got = student.moved(images, Key(4), most)
        close(f"images moved by up to {most}", got, right_moved(images, offsets), mistakes=mistakes)


@check(task=3, points=1)
def test_zeros_enter() -> None:
    """what leaves is gone, and zeros enter"""
    images = 1 + values(9, 5, 4, 2) ** 2
    offsets = offsets_of(Key(5), 2, 9)
    rolled = np.stack([np.roll(image, shift, axis=(0, 1)) for image, shift in zip(images, offsets, strict=True)])
    right = right_moved(images, offsets)
    advice = "What leaves at one side enters at the other (np.roll): put zeros there"
    close("moved images", student.moved(images, Key(5), 2), right, mistakes={advice: rolled})


@check(task=3, points=1)
def test_moved_by_the_key() -> None:
    """the key alone decides, and the dtype stays"""
    images = np.arange(200, dtype=np.uint8).reshape(8, 5, 5, 1)
    first, again, other = (student.moved(images, Key(seed)) for seed in (0, 0, 1))
    equal("the dtype", first.dtype, images.dtype)
    that(np.array_equal(first, again), "the same key gives other images: draw from generator(key) alone")
    that(not np.array_equal(first, other), "another key gives the same images")


# --- Task 4 ---------------------------------------------------------------------------------------------------


@check(task=4, points=1)
def test_best() -> None:
    """the best epoch, and the one at which training stops"""
    losses = [5.0, 3.0, 4.0, 2.0, 2.5, 2.6, 2.7, 1.0]
    for patience, right in ((1, (1, 2)), (2, (3, 5)), (3, (3, 6)), (4, (7, 7))):
        equal(f"patience {patience} for {losses}", student.early_stopping(losses, patience), right)


@check(task=4, points=1)
def test_ties_and_ends() -> None:
    """equal losses are no progress; losses that end"""
    for losses, patience, right in (
        ([3.0, 3.0, 3.0, 2.0], 2, (0, 2)),
        ([3.0, 2.0, 2.0, 2.0, 2.0], 3, (1, 4)),
        ([3.0, 2.0, 1.0], 2, (2, 2)),
        ([7.0], 5, (0, 0)),
    ):
        equal(f"patience {patience} for {losses}", student.early_stopping(losses, patience), right)


@check(task=4, points=1)
def test_no_epoch_too_many() -> None:
    """no loss is taken more than needed"""
    taken: list[int] = []

    def losses() -> Iterator[float]:
        for epoch in range(1000):
            taken.append(epoch)
            yield abs(epoch - 3.0)

    student.early_stopping(losses(), 2)
    equal("the epochs that were run", len(taken), 6, "Go through the losses one by one, and stop: no list of all")


# --- Task 5 ---------------------------------------------------------------------------------------------------


def right_mean_and_error(values: Any) -> tuple[float, float]:
    """What task 5 asks for."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))


@check(task=5, points=1)
def test_mean_and_error() -> None:
    """a mean and its standard error"""
    numbers = [0.9, 0.94, 0.91, 0.97]
    mean, error = student.mean_and_error(numbers)
    s = float(np.std(numbers, ddof=1))
    mistakes = {
        "Divide by n - 1, not by n: the mean is taken from the same values (ddof=1)": np.std(numbers) / 2,
        "It is the deviation of a value; that of the mean is smaller by sqrt(n)": s,
        "Divide by sqrt(n), not by n": s / 4,
    }
    close("the mean", mean, np.mean(numbers))
    close("the standard error", error, s / 2, mistakes=mistakes)


@check(task=5, points=1)
def test_verdict() -> None:
    """a verdict by paired differences"""
    hard = np.array([0.80, 0.90, 0.70, 0.95, 0.85])  # seeds differ by more than settings
    small = np.array([0.010, 0.012, 0.009, 0.011, 0.010])
    noise = np.array([0.02, -0.03, 0.01, 0.03, -0.01])
    paired = "The seeds are the same: take the differences a[i] - b[i] first"
    with replaced(student, mean_and_error=right_mean_and_error):
        equal("better by 0.01 with every seed", student.verdict(hard + small, hard), "better", paired)
        equal("worse by 0.01 with every seed", student.verdict(hard - small, hard), "worse", paired)
        equal("now more, now less", student.verdict(hard + noise, hard), "no difference shown")
        equal("the same", student.verdict(hard, hard), "no difference shown")
        equal("a mean of 2 standard errors", student.verdict([0, 2, 1, 2, 0], [0] * 5), "no difference shown")
        equal("2 standard errors, times=1.5", student.verdict([0, 2, 1, 2, 0], [0] * 5, times=1.5), "better")


ACCURACIES = {  # the validation's and the test's, by setting; a seed adds its own
    "plain": (0.80, 0.84),
    "a": (0.85, 0.86),
    "b": (0.84, 0.95),
    "c": (0.85, 0.90),
}
NOISE = [0.01, -0.02, 0.03, 0.0, -0.01]


def trial(setting: str, seed: int) -> tuple[float, float]:
    """Accuracies that are known."""
    validation, test = ACCURACIES[setting]
    return validation + NOISE[seed], test - 0.5 * NOISE[seed]


def studied(settings: Any, calls: Any = None) -> Any:
    """The student's study, of the trial above."""

    def noted(setting: str, seed: int) -> tuple[float, float]:
        if calls is not None:
            calls.append((setting, seed))
        return trial(setting, seed)

    def right_verdict(a: Any, b: Any, times: float = 2.78) -> str:
        mean, error = right_mean_and_error(np.subtract(a, b))
        return "no difference shown" if abs(mean) <= times * error else "better" if mean > 0 else "worse"

    with replaced(student, mean_and_error=right_mean_and_error, verdict=right_verdict):
        return student.study(noted, settings, range(5))


@check(task=5, points=1)
def test_study_runs_each_once() -> None:
    """each setting with each seed once, in a table of means and errors"""
    calls: list[tuple[str, int]] = []
    found = studied(["plain", "a", "b"], calls)
    equal("the trials", sorted(calls), sorted((s, i) for s in ("plain", "a", "b") for i in range(5)))
    equal("the settings in the table", list(found.validation), ["plain", "a", "b"])
    for setting in ("plain", "a", "b"):
        right = right_mean_and_error([trial(setting, seed)[0] for seed in range(5)])
        close(f"validation of {setting}", found.validation[setting], right)


@check(task=5, points=1)
def test_study_is_honest() -> None:
    """chosen by the validation part, reported on the test part"""
    for settings, chosen, said in (
        (["plain", "b", "a"], "a", "better"),
        (["plain"], "plain", "no difference shown"),
        (["b", "c", "plain"], "c", "worse"),
    ):
        found = studied(settings)
        advice = "The one that does best on the test part is chosen: then nothing is left that it has not seen"
        best_of_test = max(settings, key=lambda setting: ACCURACIES[setting][1])
        equal("the chosen setting", found.chosen, chosen, advice if found.chosen == best_of_test else "")
        right = right_mean_and_error([trial(chosen, seed)[1] for seed in range(5)])
        close(f"test of {chosen}", found.test, right)
        equal(f"the verdict on {chosen} against {settings[0]}", found.verdict, said)

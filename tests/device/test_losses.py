"""Every loss and the metrics of a step on a device's arrays, the stand-in's: as on the host, and nothing waits."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import standin
from cases import assert_close
from test_losses import CASES, Case, class_numbers, gaussian

from funcnn import metrics
from funcnn.device import to_device, to_host
from funcnn.losses import multiclass_hinge, softmax_cross_entropy
from funcnn.settings import as_code
from funcnn.system.devices import is_device_array, register

register("standin", standin)

RTOL = {np.float64: 1e-12, np.float32: 1e-5}
HOST_ONLY = {"ctc"}  # refused by name

every_case = pytest.mark.parametrize("case", [case for case in CASES if case.name not in HOST_ONLY], ids=str)


def there(values: Any) -> Any:
    return to_device(values, "standin")


@every_case
@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("weighed", [False, True])
def test_gives_what_the_host_gives(case: Case, dtype: type, weighed: bool) -> None:
    outputs = case.outputs.astype(dtype)
    weights = (np.arange(len(outputs)) % 3 / 2,) if weighed else ()
    arguments = (outputs, case.targets, *weights)
    moved = there(arguments)
    with standin.synchronisations() as waits:
        made = case.loss(*moved)
    assert waits == []
    assert all(map(is_device_array, made))
    wanted = case.loss(*arguments)
    assert_close(tuple(map(np.asarray, to_host(made))), tuple(map(np.asarray, wanted)), RTOL[dtype])


@pytest.mark.parametrize(
    "loss",
    [
        partial(softmax_cross_entropy, ignore=0), partial(softmax_cross_entropy, class_weights=[0.0, 1.0, 2.0, 3.0]),
        partial(softmax_cross_entropy, class_weights=[0.0, 1.0, 2.0, 3.0], label_smoothing=0.1),
        partial(multiclass_hinge, ignore=1), partial(softmax_cross_entropy, reduction="none"),
        partial(softmax_cross_entropy, reduction="sum"), metrics.accuracy, partial(metrics.accuracy, ignore=1),
        partial(metrics.top_k_accuracy, k=2),
    ],
    ids=as_code,
)  # fmt: skip
def test_options_and_metrics(loss: Any) -> None:
    arguments = gaussian(7, 4), class_numbers(7, 4)
    moved = there(arguments)
    with standin.synchronisations() as waits:
        made = loss(*moved)
    assert waits == []
    several = made if isinstance(made, tuple) else (made,)
    wanted = loss(*arguments)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    assert_close(tuple(map(np.asarray, to_host(several))), tuple(map(np.asarray, wanted)), 1e-12)


def test_labels_out_of_range_give_nan() -> None:
    value, *_ = softmax_cross_entropy(*there((gaussian(3, 4), np.array([0, 1, 4]))))
    assert np.isnan(to_host(value))


def test_of_nothing_that_counts_the_slopes_are_zero() -> None:
    value, slopes, _ = softmax_cross_entropy(*there((np.full((2, 2), np.nan), np.array([0, 1]))), class_weights=[0, 0])
    assert (to_host(value), to_host(slopes).tolist()) == (0.0, [[0.0, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize("metric", [metrics.mae, metrics.rmse, metrics.binary_accuracy, metrics.r2], ids=as_code)
def test_metrics_of_numbers(metric: Any) -> None:
    arguments = gaussian(7, 3), (gaussian(3, 7).T > 0).astype(float)
    assert float(to_host(metric(*there(arguments)))) == pytest.approx(metric(*arguments), rel=1e-12)
    weights = np.arange(7) % 3 / 2
    weighed = metric(*there(arguments), weights=there(weights))
    wanted = metric(*arguments, weights=weights)
    assert_close(
        *(tuple(map(np.asarray, each if type(each) is tuple else (each,))) for each in (to_host(weighed), wanted)),
        1e-12,
    )

"""Gradients on a GPU against finite differences of what it computes, in float64."""

from typing import Any

import attrs
import pytest
from cases import CASES, Case
from gpu.there import moved
from test_losses import CASES as LOSSES
from test_losses import Case as LossCase

from funcnn import Key, Layer
from funcnn.device import to_host
from funcnn.grad_check import check_layer, check_loss
from funcnn.layer import Applied, Gradients


def on_device(layer: Layer) -> Layer:
    """The layer, computing on the device what takes and gives the host's arrays; residuals stay there."""

    def apply(params: Any, state: Any, x: Any, *, key: Key | None = None, train: bool = False) -> Applied:
        made = layer.apply(*moved((params, state, x)), key=key, train=train)
        return Applied(*to_host((made.y, made.state)), made.residuals)

    def backward(params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> Gradients:
        return Gradients(*to_host(tuple(layer.backward(moved(params), residuals, moved(dy), need_dx=need_dx))))

    return attrs.evolve(layer, apply=apply, backward=backward)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layers(case: Case) -> None:
    assert check_layer(on_device(case.layer), case.in_shape, key=Key(0)).largest_error < 1e-6


@pytest.mark.parametrize("case", [case for case in LOSSES if case.name != "ctc"], ids=str)
def test_losses(case: LossCase) -> None:
    def loss(outputs: Any, targets: Any) -> Any:
        value, slopes, *_ = to_host(case.loss(*moved((outputs, targets))))
        return float(value), slopes

    assert check_loss(loss, case.outputs, case.targets, key=Key(0)).largest_error < 1e-6

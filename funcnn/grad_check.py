"""Checks of what you write yourself: a layer's whole contract, the gradients of a layer, those of a loss.

`check_contract` goes through every rule that a layer keeps (`funcnn.contract.rules`), and names the first one that
yours does not. Gradients are checked by finite differences (`funcnn.contract.slopes`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from funcnn.checks import as_array
from funcnn.contract.candidate import Candidate
from funcnn.contract.comparing import Broken, Skipped, form
from funcnn.contract.rules import RULES, RULES_OF_GRADIENTS, Rule
from funcnn.contract.slopes import Check, GradientError, Report, check_slopes
from funcnn.keys import Key, check_is_key, generator
from funcnn.layer import Layer
from funcnn.losses import Loss
from funcnn.settings import as_code, as_float, check_counts, refuse, shown
from funcnn.tree import Array, Shape

__all__ = [
    "Check", "ContractError", "ContractReport", "Finding", "GradientError", "Report", "check_contract", "check_layer",
    "check_loss",
]  # fmt: skip


class ContractError(GradientError):
    """A rule of the contract that a layer does not keep; `rule` is its name."""

    def __init__(self, layer: str, rule: str, problem: str) -> None:
        super().__init__(layer, rule, problem)
        self.rule = rule

    def __str__(self) -> str:
        return ": ".join(self.args)


@attrs.frozen
class Finding:
    """What a rule saw, or why it was skipped."""

    rule: str
    seen: str
    skipped: bool = False

    def __str__(self) -> str:
        seen = self.seen if len(self.seen) <= 60 else f"{self.seen[:57]}..."
        return f"{self.rule:<19}  {'skipped' if self.skipped else 'ok':<7}  {seen}"


@attrs.frozen(repr=False)
class ContractReport:
    """A layer that keeps the contract, and what each rule saw; it prints as a table."""

    layer: Layer
    in_shape: Shape
    findings: tuple[Finding, ...]
    slopes: Report

    @property
    def largest_error(self) -> float:
        """The largest relative error of a gradient."""
        return self.slopes.largest_error

    def __repr__(self) -> str:
        return "\n".join([f"{self.layer} on {self.in_shape} keeps the contract", *map(str, self.findings)])


def check_contract(
    layer: Layer, in_shape: Shape, *, key: Key, batch: int = 3, layers: Sequence[Callable[..., Any]] = ()
) -> ContractReport:
    """Check that a layer keeps the contract of `funcnn.layer`, rule by rule, on examples of shape `in_shape`.

    `layers` are the constructors of your own parts, as `funcnn.rebuild.rebuild` takes them; without them the last rule,
    that the layer is made again from its description, is skipped. Params are init's plus noise, the batch is Gaussian,
    gradients are checked in float64, and what may depend on the dtype is checked in float32 as well.

    >>> from funcnn.layers import dense
    >>> report = check_contract(dense(3), (4,), key=Key(0))
    >>> report  # doctest: +ELLIPSIS
    dense(units=3) on (4,) keeps the contract
    prints               ok       dense(units=3)
    returns              ok       Initialised, Applied, Gradients
    dtype_of_init        ok       float32 and float64, as asked
    out_shape            ok       (4,) -> (3,)
    ...
    rebuilt              ok       equal
    >>> report.largest_error < 1e-6
    True

    Raises ContractError for the first rule that does not hold, with the rule's name, what was expected and what there
    is, and the likely mistake; whatever the layer itself raises, with a note that names the rule; ValueError for a
    batch of fewer than two examples.
    """
    _check_arguments("check_contract", layer, key, batch)
    if batch < 2:
        raise ValueError(f"check_contract: batch must be at least 2, got {batch}: one example has no others beside it")
    candidate = Candidate(layer, in_shape, key, batch, layers)
    return ContractReport(layer, in_shape, _check_rules(candidate, RULES), candidate.slopes)


def check_layer(layer: Layer, in_shape: Shape, *, key: Key, batch: int = 3, train: bool = True) -> Report:
    """Check a layer's backward pass against finite differences of its forward pass.

    The params are init's plus Gaussian noise, so that zero biases and unit scales hide nothing; x and the cotangent
    are Gaussian. One key serves every forward pass, so that dropout's mask stays. The rules of the contract that
    gradients rest on are checked first: the dtype of init, out_shape, that no argument is written to, the gradients'
    structure, shapes and dtypes, and that ``need_dx=False`` gives the same ones.

    >>> from funcnn.layers import dense
    >>> check_layer(dense(3), (4,), key=Key(0)).largest_error < 1e-6
    True

    Raises GradientError, naming the leaf, both slopes and the step, or the rule that does not hold; ValueError for an
    empty batch; whatever the layer itself raises (with ``train=False``, that there are no residuals).
    """
    _check_arguments("check_layer", layer, key, batch)
    candidate = Candidate(layer, in_shape, key, batch, train=train)
    _check_rules(candidate, RULES_OF_GRADIENTS)
    return candidate.slopes


def check_loss(loss: Loss, outputs: Array, targets: Array, *, key: Key) -> Report:
    """Check a loss's gradient in the outputs, taken in float64, against finite differences of its value.

    >>> from funcnn.losses import softmax_cross_entropy
    >>> outputs = np.array([[0.3, -1.0, 2.0]])
    >>> check_loss(softmax_cross_entropy, outputs, np.array([0]), key=Key(0)).largest_error < 1e-6
    True

    Raises GradientError, naming both slopes and the step, or what the loss gives that is no value and gradient.
    """
    check_is_key("check_loss", key)
    exact = as_array("check_loss", "outputs", outputs).astype(np.float64)
    targets = as_array("check_loss", "targets", targets)
    made = loss(exact, targets)
    if not isinstance(made, tuple) or len(made) not in (2, 3) or not isinstance(as_float(made[0]), float):
        got = f"({', '.join(map(shown, made))})" if isinstance(made, tuple) else shown(made)
        raise GradientError(f"{as_code(loss)}: expected (value, d_outputs), a number and an array, got {got}")
    value, gradient, *_ = made  # and perhaps a weight
    if form(gradient) != form(exact):
        raise GradientError(f"d_outputs: expected {form(exact)} like the outputs, got {form(gradient)}")
    # A value near zero may be a difference of outputs that are not.
    scale = max(abs(value), float(np.abs(exact).mean()))
    return check_slopes("d_outputs", exact, gradient, lambda outputs: loss(outputs, targets)[0], scale, generator(key))


def _check_arguments(place: str, layer: Any, key: Any, batch: Any) -> None:
    if not isinstance(layer, Layer):
        refuse(place, "layer", "a Layer", layer)
    check_is_key(place, key)
    check_counts(place, batch=batch)


def _check_rules(candidate: Candidate, rules: tuple[Rule, ...]) -> tuple[Finding, ...]:
    found = []
    for rule in rules:
        name = rule.__name__
        try:
            found.append(Finding(name, rule(candidate)))
        except Skipped as skipped:
            found.append(Finding(name, str(skipped), skipped=True))
        except Broken as broken:
            layer = candidate.layer.name if name == "prints" else repr(candidate.layer)
            raise ContractError(layer, name, ". ".join(broken.args)) from None
        except Exception as error:
            error.add_note(f"while the rule {name} was checked")
            raise
    return tuple(found)

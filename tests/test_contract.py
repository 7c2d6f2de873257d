"""The contract checks itself: every layer of the library keeps it, and every way of not keeping it is named."""

import re
from collections.abc import Callable

import pytest
from cases import CASES, Case
from faults import FAULTS, Holding, noisy, own, stateful
from own import cube

from funcnn import Key
from funcnn.contract.rules import RULES, RULES_OF_GRADIENTS
from funcnn.grad_check import ContractError, GradientError, check_contract, check_layer
from funcnn.layer import Layer, LayerError
from funcnn.layers import dense

# --- Layers that keep it --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_layer_of_the_library_keeps_the_contract(case: Case) -> None:
    report = check_contract(case.layer, case.in_shape, key=Key(0), layers=[cube])
    assert [finding.rule for finding in report.findings] == [rule.__name__ for rule in RULES]
    skipped = {finding.rule for finding in report.findings if finding.skipped}
    assert skipped == (set() if case.layer.config.by_chunks else {"by_chunks"})
    assert report.largest_error < 1e-6


@pytest.mark.parametrize("make", [own, stateful, noisy])
def test_own_layers_keep_it_and_are_rebuilt_by_constructors_that_are_passed(make: Callable[[], Layer]) -> None:
    without = check_contract(make(), (4,), key=Key(0)).findings[-1]
    assert (without.rule, without.skipped) == ("rebuilt", True)
    assert without.seen == f"pass its constructors: layers=[{make.__name__}]"
    passed = check_contract(make(), (4,), key=Key(0), layers=[make]).findings[-1]
    assert (passed.skipped, passed.seen) == (False, "equal")


def test_the_report_is_a_table_of_the_rules() -> None:
    report = check_contract(own(), (2, 3), key=Key(0))
    head, *lines = str(report).splitlines()
    assert head == "own() on (2, 3) keeps the contract"
    assert [line.split()[0] for line in lines] == [rule.__name__ for rule in RULES]
    assert lines[3] == "out_shape            ok       (2, 3) -> (2, 3)"
    assert lines[-1] == "rebuilt              skipped  pass its constructors: layers=[own]"
    assert max(map(len, lines)) <= 90
    assert len({line.index(line.split()[1]) for line in lines}) == 1


def test_every_rule_says_what_it_is() -> None:
    assert all(rule.__doc__.endswith(".") and "\n" not in rule.__doc__ for rule in RULES)


# --- Layers that do not ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_the_rule_that_it_breaks(fault: str) -> None:
    layer, rule, words = FAULTS[fault]
    with pytest.raises(ContractError) as caught:
        check_contract(layer, (4,), key=Key(0))
    assert caught.value.rule == rule
    text = str(caught.value)
    assert text.startswith(f"{layer.name if rule == 'prints' else layer}: {rule}: ")
    assert words in text


def test_there_is_a_fault_for_every_rule() -> None:
    assert {rule for _, rule, _ in FAULTS.values()} | {"rebuilt"} == {rule.__name__ for rule in RULES}


def test_a_constructor_that_does_not_make_it_again_is_named() -> None:
    def holding(content: float) -> Layer:
        return own(Holding(content))

    with pytest.raises(ContractError, match=r"rebuilt: rebuild raises TypeError: .* 'what'\. Name the class, the sett"):
        check_contract(own(Holding(0.5)), (4,), key=Key(0), layers=[holding])

    def holding(what: float) -> Layer:
        return own(Holding(round(what)))

    with pytest.raises(ContractError, match=r"rebuilt: rebuild raises LayerError: .*0\.5.*, and made .*0\}"):
        check_contract(own(Holding(0.5)), (4,), key=Key(0), layers=[holding])

    def holding(what: float) -> Layer:
        return noisy(Holding(what))

    with pytest.raises(ContractError, match=r"rebuilt: rebuild makes holding\(what=0\.5\) of \{.*\}\. Name the class"):
        check_contract(own(Holding(0.5)), (4,), key=Key(0), layers=[holding])


def test_what_the_layer_itself_raises_is_noted_by_the_rule() -> None:
    with pytest.raises(LayerError, match="expected examples of shape") as caught:
        check_contract(dense(3), (4, 4), key=Key(0))
    assert caught.value.__notes__ == ["while the rule dtype_of_init was checked"]


def test_a_batch_has_parts() -> None:
    with pytest.raises(ValueError, match="check_contract: batch must be at least 2, got 1: one example has no others"):
        check_contract(dense(3), (4,), key=Key(0), batch=1)
    assert check_contract(dense(3), (4,), key=Key(0), batch=2).largest_error < 1e-6


OF_GRADIENTS = {rule.__name__ for rule in RULES_OF_GRADIENTS}


@pytest.mark.parametrize("fault", [name for name, (_, rule, _) in FAULTS.items() if rule in OF_GRADIENTS])
def test_check_layer_names_the_rules_that_gradients_rest_on(fault: str) -> None:
    layer, rule, words = FAULTS[fault]
    with pytest.raises(GradientError, match=rf"^{re.escape(f'{layer}: {rule}: ')}.*{re.escape(words)}"):
        check_layer(layer, (4,), key=Key(0))

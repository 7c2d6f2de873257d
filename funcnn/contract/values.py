"""The rules by which a layer is a value: it prints, compares, pickles, describes itself; and what it returns."""

import json

import numpy as np

from funcnn import tree
from funcnn.checks import LayerError
from funcnn.contract.candidate import Candidate
from funcnn.contract.comparing import Broken, Skipped, difference, form, kind
from funcnn.layer import Applied, Gradients, Initialised
from funcnn.rebuild import constructors, own_parts, rebuild
from funcnn.settings import describe

__all__ = ["compares", "describes", "macs", "pickles", "prints", "rebuilt", "returns"]

_PLAIN = "Let settings be numbers, strings, tuples, functions at the top of a module, or themselves made by @config"


def prints(candidate: Candidate) -> str:
    """It prints as the call that makes it."""
    wanted = f"{candidate.layer.config.name}("
    try:
        text = repr(candidate.layer)
    except Exception as error:
        raise Broken(f"repr raises {kind(error)}", "Leave it to the class that @config makes") from None
    if not text.startswith(wanted) or " at 0x" in text or "<lambda>" in text:
        raise Broken(f"expected {wanted}...), a call that makes it again, got {text}", _PLAIN)
    return text


def returns(candidate: Candidate) -> str:
    """init, apply and backward return Initialised, Applied and Gradients."""

    def check(call: str, made: object, wanted: type, fields: str) -> None:
        if not isinstance(made, wanted):
            got = form(made) if isinstance(made, np.ndarray) else f"a {type(made).__name__}"
            raise Broken(f"{call} returns {got}", f"Return {wanted.__name__}({fields})")

    try:
        check("init", candidate.init(), Initialised, "params, state, out_shape")
        given = candidate.untrained()
        applied = candidate.run(given)
        check("apply", applied, Applied, "y, state, residuals")
        gradients = candidate.layer.backward(given.params, applied.residuals, tree.map(np.zeros_like, applied.y))
        check("backward", gradients, Gradients, "params, dx")
    except Broken:
        raise
    except Exception as error:  # the rules that follow say more of it
        raise Skipped(f"a call raises {type(error).__name__}") from None
    return "Initialised, Applied, Gradients"


def macs(candidate: Candidate) -> str:
    """macs is a number of multiply-adds."""
    count = candidate.layer.config.macs(candidate.in_shape)
    if type(count) is not int or count < 0:
        raise Broken(f"expected an int of at least 0, got {count!r}", "Multiply the ints of shapes, by math.prod")
    return str(count)


def pickles(candidate: Candidate) -> str:
    """It pickles, and its copy computes the same."""
    try:
        copy = candidate.pickled()
    except Exception as error:
        fix = "Define its functions and the class of its settings at the top of a module: no lambda, no closure"
        raise Broken(f"pickle raises {kind(error)}", fix) from None
    if where := difference(candidate.run(candidate.arguments()), copy.run(candidate.arguments())):
        raise Broken(f"trained with, the layer and its pickled copy give {where}", _PLAIN)
    return "and trains as its copy does"


def compares(candidate: Candidate) -> str:
    """It is equal to its copy, and has an equal hash."""
    copy = candidate.pickled().layer
    try:
        equal, hashes = copy == candidate.layer, (hash(copy), hash(candidate.layer))
    except Exception as error:
        raise Broken(f"to compare or hash it raises {kind(error)}", _PLAIN) from None
    if not equal or hashes[0] != hashes[1]:
        raise Broken(f"expected it to be equal to its pickled copy {copy}, got {equal}, hashes {hashes}", _PLAIN)
    return "equal to its copy"


def describes(candidate: Candidate) -> str:
    """It describes itself as JSON, from which it could be made again."""
    try:
        own_parts(layer=candidate.layer)
    except LayerError as error:
        raise Broken(f"its description would not do to make it again: {error}") from None
    return json.dumps(describe(candidate.layer))


def rebuilt(candidate: Candidate) -> str:
    """It is made again from its description."""
    given = constructors(candidate.layers)
    missing = [name for name in own_parts(layer=candidate.layer) if name not in given]
    if missing and given:
        fix = "Give the settings the name of the function that makes them, or pass that function"
        raise Broken(f"it is made of {', '.join(missing)}, and layers has {', '.join(given)}", fix)
    if missing:
        raise Skipped(f"pass its constructors: layers=[{', '.join(missing)}]")
    fix = "Name the class, the settings and their defaults as the constructor has them, and join the same functions"
    try:
        made = rebuild(json.loads(json.dumps(describe(candidate.layer))), layers=candidate.layers)
    except Exception as error:
        raise Broken(f"rebuild raises {kind(error)}", fix) from None
    if made != candidate.layer:
        raise Broken(f"rebuild makes {made} of {describe(candidate.layer)}", fix)
    return "equal"

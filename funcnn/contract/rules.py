"""The contract of a layer, rule by rule.

A rule is a function of a `Candidate`, and its docstring is the rule. It returns what it saw, in a few words, or raises
`Broken` with the problem, both values and the likely mistake, or `Skipped` with the reason. The rules stand in the
order in which they are checked: each takes for granted what those before it have shown, so a mistake is named by the
rule that it breaks, and not by another that suffers from it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from funcnn import tree
from funcnn.contract.candidate import DTYPES, Arguments, Candidate
from funcnn.contract.comparing import (
    NEW_ARRAYS,
    UPCASTS,
    Broken,
    Skipped,
    check_form,
    check_refusal,
    check_unwritten,
    difference,
    form,
    kind,
    named,
)
from funcnn.contract.slopes import GradientError
from funcnn.contract.values import compares, describes, macs, pickles, prints, rebuilt, returns
from funcnn.keys import Key
from funcnn.layer import Gradients
from funcnn.tree import TreeError

__all__ = ["RULES", "RULES_OF_GRADIENTS", "Rule"]

Rule = Callable[[Candidate], str]

_ROUNDING = 1e-12  # of a leaf's largest value: float64 sums taken in another order may differ by that much
_KEYS = 16  # tried before a layer is said to draw nothing


# --- Forms ----------------------------------------------------------------------------------------------------


def dtype_of_init(candidate: Candidate) -> str:
    """init's params and state are arrays, and their floats have the dtype that it is asked for."""
    for dtype in DTYPES:
        asked, made = np.dtype(dtype), candidate.init(dtype)
        for name, leaf in named(params=made.params, state=made.state):
            if not isinstance(leaf, np.ndarray):
                raise Broken(f"expected an array for {name}, got {leaf!r}", "Make it one: np.asarray(value, dtype)")
            if leaf.dtype.kind == "f" and leaf.dtype != asked:
                fix = "Take dtype=np.float32, and pass it on: np.zeros(shape, dtype), zeros()(key, shape, 1, 1, dtype)"
                raise Broken(f"init is asked for {asked}, and gives {name} in {leaf.dtype}", fix)
    return "float32 and float64, as asked"


def out_shape(candidate: Candidate) -> str:
    """The settings, init and the output agree on the shape of an output example."""
    declared, made = candidate.layer.config.out_shape(candidate.in_shape), candidate.init().out_shape
    says = f"the settings' out_shape is {declared} for an input of {candidate.in_shape}"
    if made != declared:
        raise Broken(f"{says}, and init's is {made}", "Let init return settings.out_shape(in_shape)")
    for call, apply in (("apply", candidate.evaluate), ("apply in training", candidate.run)):
        shape = shapes(apply(candidate.untrained()).y)
        if shape != shapes(candidate.untrained().dy):
            fix = "Define out_shape(self, in_shape) in the settings: without it, the output has the input's shape"
            raise Broken(f"{says}, and {call} gives {shape} for a batch of {candidate.batch}", fix)
    return f"{candidate.in_shape} -> {declared}"


def shapes(value: Any) -> Any:
    """An array's shape; of a tuple of arrays, a tuple of theirs."""
    return tuple(map(shapes, value)) if isinstance(value, tuple) else np.shape(value)


def state_form(candidate: Candidate) -> str:
    """Training keeps the state's structure, shapes and dtypes."""
    for dtype in DTYPES:
        before, after = candidate.untrained(dtype).state, candidate.run(candidate.untrained(dtype)).state
        fix = "Return a state like the one that came, of arrays: np.asarray(value, dtype)"
        check_form("state", before, "the state after training", after, structure=fix, shape=fix, dtype=fix)
    return f"{len(tree.flatten(candidate.init().state))} arrays"


def residuals_are_data(candidate: Candidate) -> str:
    """Residuals are a tree of data, from which nothing is called."""
    try:
        kept = named(residuals=candidate.run(candidate.untrained()).residuals)
    except TreeError as error:
        raise Broken(str(error), "Keep what backward needs in a tuple, or in a class made by @node") from None
    for name, leaf in kept:
        if callable(leaf):
            raise Broken(
                f"expected data for {name}, got the function {leaf}", "Keep its arrays: backward has the formula"
            )
    return f"{len(kept)} leaves"


# --- Pure functions -------------------------------------------------------------------------------------------


def arguments_unchanged(candidate: Candidate) -> str:
    """apply and backward write to none of their arguments, and take read-only ones."""
    for dtype in DTYPES:
        params, state, x, dy = given = candidate.arguments(dtype)
        with check_unwritten("apply", params=params, state=state, x=x):
            candidate.evaluate(given)
        with check_unwritten("apply in training", params=params, state=state, x=x):
            residuals = candidate.run(given).residuals
        with check_unwritten("backward", params=params, residuals=residuals, dy=dy):
            candidate.layer.backward(params, residuals, dy)
        sealed = candidate.read_only(dtype)
        try:
            candidate.evaluate(sealed)
            candidate.layer.backward(params, tree.read_only(candidate.run(sealed).residuals), dy)
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise Broken(f"it writes to an argument, if only what is there: {error}", NEW_ARRAYS) from None
    return "params, state, x, residuals, dy"


def same_bits(candidate: Candidate) -> str:
    """The same arguments give the same bits, writable or read-only."""
    for dtype in DTYPES:
        once, again = (
            {
                "init": candidate.init(dtype),
                "apply": candidate.evaluate(given),
                "apply in training": candidate.run(given),
                "backward": candidate.gradients(given),
            }
            for given in (candidate.arguments(dtype), candidate.read_only(dtype))
        )
        for call, result in once.items():
            if where := difference(result, again[call]):
                fix = "Draw from generator(key) alone (funcnn.keys), and keep nothing from one call to the next"
                raise Broken(f"{call} gives two results for the same arguments, {where}", fix)
    return "init, apply, backward, twice"


def residuals_if_train(candidate: Candidate) -> str:
    """Residuals are None without train, and backward then says so."""
    given = candidate.arguments()
    without = candidate.evaluate(given).residuals
    if without is not None:
        fix = "Return residuals `if train else None`: prediction then keeps no memory"
        raise Broken(f"expected None from apply without train, got {form(without)}", fix)
    fix = "Begin backward with check_residuals(settings, residuals) (funcnn.layer)"
    refused = partial(candidate.layer.backward, given.params, None, given.dy)
    check_refusal("backward without residuals", refused, fix)
    return "None in evaluation"


def dtype_kept(candidate: Candidate) -> str:
    """dtype in is dtype out: y, the state and the residuals have the input's; of whole numbers, the params'."""
    for dtype in DTYPES:
        given = candidate.arguments(dtype)
        for call, made in (("apply", candidate.evaluate(given)), ("apply in training", candidate.run(given))):
            for name, leaf in named(**made._asdict()):
                got = getattr(leaf, "dtype", None)
                if got is not None and got.kind == "f" and got != dtype:
                    raise Broken(f"{call} is given {np.dtype(dtype)}, and gives {name} in {got}", UPCASTS)
    return "float32 and float64"


# --- Gradients ------------------------------------------------------------------------------------------------


def gradients(candidate: Candidate) -> str:
    """The gradients have the structure, shapes and dtypes of the params, and dx those of x; of whole numbers None."""
    for dtype in DTYPES:
        given = candidate.arguments(dtype)
        found = candidate.gradients(given)
        structure = "Return them in the class, or the tuple, in which init returns the params"
        shape = "Sum over the examples, and over every axis along which apply broadcasts; or transpose it"
        its = found.params
        check_form("params", given.params, "gradients", its, structure=structure, shape=shape, dtype=UPCASTS)
        fix = "Give dx for all of x, and None for whole numbers, which have no slope"
        check_form("x", with_slopes(given.x), "dx", found.dx, structure=fix, shape=fix, dtype=UPCASTS)
    dx = ", and dx" if found.dx is not None else ", and no dx of whole numbers"
    return f"{len(tree.flatten(candidate.init().params))} arrays{dx}"


def with_slopes(x: Any) -> Any:
    """An input, or a tuple of inputs, with None for those of whole numbers: the form of dx."""
    if isinstance(x, tuple):
        return tuple(map(with_slopes, x))
    return None if x.dtype.kind in "iu" else x


def slopes(candidate: Candidate) -> str:
    """The gradients are the slopes of ⟨y, dy⟩, by finite differences."""
    try:
        report = candidate.slopes
    except GradientError as error:
        raise Broken(str(error)) from None
    return f"{len(report.checks)} along random directions, {report.kinks} kinks, error {report.largest_error:.0e}"


def need_dx(candidate: Candidate) -> str:
    """need_dx=False gives dx=None, and the same gradients of the params."""
    for dtype in DTYPES:
        given = candidate.arguments(dtype)
        found, without = candidate.gradients(given), candidate.gradients(given, need_dx=False)
        if without.dx is not None:
            raise Broken(f"expected dx=None, got {form(without.dx)}", "Return dx `if need_dx else None`")
        if where := difference(found._replace(dx=None), without):
            fix = "Leave out what dx alone needs"
            raise Broken(f"need_dx=False gives other gradients of the params, with dx and without, {where}", fix)
    return "dx=None, the same gradients"


# --- Randomness, batches, states ------------------------------------------------------------------------------


def stochastic(candidate: Candidate) -> str:
    """Training draws from the key alone, if the settings' `stochastic` says so; evaluation draws nothing."""
    layer, given = candidate.layer, candidate.arguments()
    if where := difference(candidate.evaluate(given), candidate.evaluate(given, Key(0))):
        raise Broken(f"apply without train depends on its key: without and with one, {where}", "Draw `if train` alone")
    trained = candidate.run(given)
    without_a_key = partial(layer.apply, given.params, given.state, given.x, train=True)
    if layer.config.stochastic:
        if not any(difference(trained, candidate.run(given, i)) for i in range(_KEYS)):
            fix = "Draw from generator(key) (funcnn.keys), or take stochastic = True back; or check a larger batch"
            raise Broken(f"the settings' stochastic is True, and {_KEYS} other keys give the same", fix)
        fix = "Begin with key = check_key(settings, key) `if train` (funcnn.layer)"
        check_refusal("training without a key", without_a_key, fix)
        return "draws from its key"
    fix = "Put stochastic = True into the settings, so that combinators hand it a key"
    try:
        without = without_a_key()
    except Exception as error:
        raise Broken(f"the settings' stochastic is False, and training without key raises {kind(error)}", fix) from None
    if where := difference(trained, without) or difference(trained, candidate.run(given, 0)):
        raise Broken(f"the settings' stochastic is False, and training with another key differs, {where}", fix)
    return "draws nothing"


def examples_apart(candidate: Candidate) -> str:
    """A batch is as its parts: in evaluation always, in training unless `couples_examples` says otherwise."""
    settings, given = candidate.layer.config, candidate.arguments()
    parts = given.examples(slice(0, 1)), given.examples(slice(1, None))
    whole, joined = candidate.evaluate(given).y, _joined([candidate.evaluate(part).y for part in parts])
    if where := difference({"y": whole}, {"y": joined}, _ROUNDING):
        fix = "Evaluate an example by itself, the params and the state: what all share goes into the state in training"
        raise Broken(f"evaluated as a batch and in two parts, {where}", fix)
    last = tree.map(lambda x: 2 * x + 1 if x.dtype.kind == "f" else x[::-1, ...], given.x)
    other = given._replace(x=tree.map(lambda x, y: np.concatenate([x[:-1], y[-1:]]), given.x, last))
    first, its_first = (tree.map(lambda y: y[:-1], candidate.run(each).y) for each in (given, other))
    beside = difference({"y": first}, {"y": its_first}, _ROUNDING)
    if settings.couples_examples:
        if not beside:
            fix = "Take couples_examples = True back, so that batches may be cut"
            raise Broken("the settings' couples_examples is True, and no example depends on the others", fix)
        return "in evaluation; coupled in training"
    if beside:
        fix = "Put couples_examples = True into the settings" + ", and take by_chunks back" * settings.by_chunks
        raise Broken(f"couples_examples is False, and a change of the last example changes another's {beside}", fix)
    if settings.stochastic:
        return "in evaluation, and by itself in training"
    shares = [_trained(candidate, part) for part in parts]
    rows = {name: _joined([share[name] for share in shares]) for name in ("y", "dx")}
    sums = tree.map(lambda a, b: a + b, *(share["gradients"] for share in shares))
    if where := difference(_trained(candidate, given), {"gradients": sums} | rows, _ROUNDING):
        fix = "See what it does with a batch of one, where NumPy squeezes and broadcasts"
        raise Broken(f"trained on as a batch and in two parts, {where}", fix)
    return "in evaluation and training"


def _joined(parts: list[Any]) -> Any:
    return tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def _trained(candidate: Candidate, given: Arguments) -> dict[str, Any]:
    found = candidate.gradients(given)
    return {"gradients": found.params, "y": candidate.run(given).y, "dx": found.dx}


def empty_batch(candidate: Candidate) -> str:
    """An empty batch is evaluated; its gradients are zero, unless training takes statistics of the batch."""
    given = candidate.arguments().examples(slice(0, 0))
    takes_statistics = candidate.layer.config.couples_examples or tree.flatten(given.state)
    fix = "Reshape to known sizes, not to -1, and take no mean or maximum over the examples"
    try:
        shape = shapes(candidate.evaluate(given).y)
        found = Gradients(None, None) if takes_statistics else candidate.gradients(given)
    except Exception as error:
        raise Broken(f"an empty batch raises {kind(error)}", fix) from None
    if shape != shapes(given.dy):
        raise Broken(f"expected y of shape {shapes(given.dy)} for an empty batch, got {shape}", fix)
    if found.dx is not None and shapes(found.dx) != shapes(with_slopes(given.x)):
        raise Broken(f"expected dx of shape {shapes(given.x)} for an empty batch, got {shapes(found.dx)}", fix)
    for name, leaf in named(gradients=found.params):
        if leaf.any():
            raise Broken(f"expected zero {name} for an empty batch, got {leaf[leaf != 0][0]}", fix)
    return f"y of shape {shape}"


def state_in_evaluation(candidate: Candidate) -> str:
    """Evaluation gives the state as it came."""
    given = candidate.arguments()
    if where := difference({"state": given.state}, {"state": candidate.evaluate(given).state}):
        raise Broken(f"apply without train changes the state: before and after, {where}", "Change it `if train` alone")
    return "unchanged"


def by_chunks(candidate: Candidate) -> str:
    """`by_chunks` is claimed where examples are not coupled and training gives the state as it came."""
    settings, given = candidate.layer.config, candidate.arguments()
    if not settings.by_chunks:
        raise Skipped("not claimed")
    fix = "Take by_chunks = True back: serial cuts batches for such a layer, and drops the states that it gives"
    if settings.couples_examples:
        raise Broken("by_chunks and couples_examples are both True in the settings", fix)
    if where := difference({"state": given.state}, {"state": candidate.run(given).state}):
        raise Broken(f"by_chunks is True, and training changes the state: before and after, {where}", fix)
    return "claimed, and no state changes"


def read_only(candidate: Candidate) -> str:
    """The arrays that init and training give for params and state are read-only."""
    params, state, _ = candidate.init()
    trained = candidate.run(candidate.untrained()._replace(params=params, state=state)).state
    arrays = named(**{"init's params": params, "init's state": state, "the state after training": trained})
    for name, leaf in arrays:
        if leaf.flags.writeable:
            fix = "Return tree.read_only(...) of it (funcnn.tree); initialisers give such arrays, np.zeros does not"
            raise Broken(f"{name} can be written to", fix)
    return f"{len(arrays)} arrays"


RULES: tuple[Rule, ...] = (
    prints, returns, dtype_of_init, out_shape, state_form, residuals_are_data, arguments_unchanged, same_bits,
    residuals_if_train, dtype_kept, gradients, slopes, need_dx, stochastic, examples_apart, empty_batch,
    state_in_evaluation, by_chunks, read_only, macs, pickles, compares, describes, rebuilt,
)  # fmt: skip
RULES_OF_GRADIENTS: tuple[Rule, ...] = (  # those that `check_layer` checks
    returns, dtype_of_init, out_shape, state_form, residuals_are_data, arguments_unchanged, gradients, slopes,
    need_dx,
)  # fmt: skip

"""The modules of a PyTorch state dict, and which of them is which layer of a net."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

import attrs
import numpy as np

from funcnn.interop.layouts import Form, Module, Tensor
from funcnn.interop.plan import Place, Plan
from funcnn.system.text import cut
from funcnn.tree import Array, Shape

__all__ = ["Match", "Unit", "WeightsError", "match", "scope_of", "units_of"]


class WeightsError(ValueError):
    """Weights that do not fit a net; its text has a line for everything that is wrong."""


@attrs.frozen(eq=False)
class Unit:
    """A PyTorch module that has tensors of its own: by suffix, the name in the state dict and the array.

    A parameter that no module of PyTorch has, such as a model's own ``pos_embed``, is one by itself, its suffix "".
    """

    name: str
    tensors: dict[str, tuple[str, Array]]

    def of(self, tensor: Tensor) -> tuple[str, Array] | None:
        """The name and the array of a tensor, if this has it; of a parameter by itself, axes of size 1 are left out."""
        if [*self.tensors] == [""] and tensor.suffix in ("weight", "bias"):
            key, array = self.tensors[""]
            return key, array.reshape(tensor.shape) if _squeezed(array.shape) == _squeezed(tensor.shape) else array
        return self.tensors.get(tensor.suffix)


@attrs.frozen(eq=False)
class Match:
    """A module of a net's form and the one of PyTorch that it is."""

    module: Module
    unit: Unit


# --- A state dict, as modules ---------------------------------------------------------------------------------

_RECURRENT = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(?:_(l\d+(?:_reverse)?))?")
_ATTENTION = ("in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight", "bias_k", "bias_v")
_USUAL = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def units_of(weights: Mapping[str, Array], in_out: Iterable[str]) -> list[Unit]:
    """The modules of a state dict in its order; those named in `in_out` have their matrices transposed.

    The layers and directions of a recurrent module are one each, named as ``lstm.l1_reverse``; of attention, the output
    projection belongs to its module.
    """
    units: dict[str, Unit] = {}
    for key, array in weights.items():
        name, _, suffix = key.rpartition(".")
        gate = _RECURRENT.fullmatch(suffix)
        parent = name.removesuffix(".out_proj") if name.endswith(".out_proj") else "" if name == "out_proj" else None
        if gate:
            name, suffix = ".".join(filter(None, (name, gate[2]))), gate[1]
        elif parent is not None and parent in units and set(_ATTENTION) & set(units[parent].tensors):
            name, suffix = parent, f"out_proj.{suffix}"
        elif suffix not in (*_USUAL, *_ATTENTION):
            name, suffix = key, ""
        if suffix in ("weight", "") and array.ndim == 2 and name.rpartition(".")[2] in in_out:
            array = array.T
        units.setdefault(name, Unit(name, {})).tensors[suffix] = key, array
    return [*units.values()]


def _squeezed(shape: Shape) -> Shape:
    return tuple([size for size in shape if size != 1])


# --- Matching -------------------------------------------------------------------------------------------------


def match(
    plan: Plan, units: Sequence[Unit], names: Mapping[str, str], *, ordered: bool = True
) -> tuple[list[Match], list[str]]:
    """Which module is which, and what does not fit, a line each.

    Modules that are `ordered` as the layers are, and fit them so, are theirs. Otherwise shapes decide, and of modules
    of the same shapes numbers in their names; what is then left open does not fit. `names` has paths in the net and
    prefixes in the state dict: what is below the one is of what is below the other.
    """
    problems = []
    known = {"", *(end for place in plan.places for end in _beginnings(place.path))}
    for path, prefix in names.items():
        if path not in known:
            problems.append(f"names: the net has no layer with weights at {path!r}; it has {_listed(plan)}")
        elif scope_of(prefix, [unit.name for unit in units], below=True) is None:
            problems.append(f"names: there is nothing at {prefix!r}, named for {path!r}")
    found: list[Match] = []
    scopes: list[tuple[str | None, str | None]] = [*names.items(), (None, None)]
    for scope, below in scopes:
        its_places = [place for place in plan.places if scope_of(place.path, names) == scope]
        its_units = [unit for unit in units if scope_of(unit.name, names.values()) == below]
        matches, its_problems = _matched(plan, its_places, its_units, ordered)
        found += matches
        problems += its_problems
    return found, problems


def scope_of(name: str, prefixes: Iterable[str], *, below: bool = False) -> str | None:
    """The longest of some prefixes that a dotted name has (`below`: of some names, one that has it); None for none."""
    pairs = [(each, name, each) if below else (name, each, each) for each in prefixes]
    fitting = [each for long, short, each in pairs if short in ("", long) or long.startswith(f"{short}.")]
    return max(fitting, key=len, default=None)


def _beginnings(path: str) -> list[str]:
    labels = path.split(".")
    return [".".join(labels[: i + 1]) for i in range(len(labels))]


def _listed(plan: Plan) -> str:
    return cut(", ".join(place.path for place in plan.places), 200) or "none"


def _matched(
    plan: Plan, places: Sequence[Place], units: Sequence[Unit], ordered: bool
) -> tuple[list[Match], list[str]]:
    """The matches, in order or else by shape; and if neither fits, what differs."""
    ordered = ordered or len(units) == 1
    row = _in_order(plan, places, units)
    fits = len(row) == len(units) and all(_fits(module, unit) for (module, _), unit in zip(row, units, strict=True))
    if ordered and fits and not any(_numbered(later, one) for one, later in _alike(row, units)):
        return [Match(module, unit) for (module, _), unit in zip(row, units, strict=True)], []
    apart = _apart(places, units) if ordered and not fits else None
    if apart:
        both = [_matched(plan, *each, ordered) for each in apart]
        if not any(problems for _, problems in both):
            return [pair for matches, _ in both for pair in matches], []
    modules = _by_count(plan, places, units)
    matches, open_questions, left = _by_shape(modules, units)
    whole = len(matches) == len(modules) == len(units)
    if whole:
        return ([], open_questions) if open_questions else (matches, [])
    if ordered and not fits:
        return [], [line for _, problems in both for line in problems] if apart else _differences(row, units)
    missing = [_missing(module, label) for module, label in left]
    taken = {id(each.unit) for each in matches}
    unexpected = [_unexpected(unit) for unit in units if id(unit) not in taken]
    return [], open_questions + ([] if open_questions else missing + unexpected)


def _in_order(plan: Plan, places: Sequence[Place], units: Sequence[Unit]) -> list[tuple[Module, str]]:
    """The modules of the places, each in the form that fits the next units best, with what an error calls it."""
    modules: list[tuple[Module, str]] = []
    for i, place in enumerate(places):
        ahead = units[len(modules) :]
        form = max(place.forms, key=lambda form: _score(form, ahead))
        if _is_shared(plan, form):  # the state dict may have it once or twice
            spare = len(ahead) > sum(not _is_shared(plan, each.forms[0]) for each in places[i + 1 :])
            if not (spare and _score(form, ahead)[0]):
                continue
        modules += _labelled(place, form)
    return modules


def _apart(places: Sequence[Place], units: Sequence[Unit]) -> list[tuple[list[Place], list[Unit]]] | None:
    """Parameters of a model's own, which PyTorch lists before its modules, and all else; None if there are none."""
    own = [unit for unit in units if [*unit.tensors] == [""]]
    theirs = [
        place
        for place in places
        if place.layer.name.startswith("position_") and any(_fits(place.forms[0][0], unit) for unit in own)
    ]
    if not own or len(own) != len(theirs) or len(own) == len(units):
        return None
    rest = [place for place in places if place not in theirs], [unit for unit in units if unit not in own]
    return [(theirs, own), rest]


def _by_count(plan: Plan, places: Sequence[Place], units: Sequence[Unit]) -> list[tuple[Module, str]]:
    """The modules of the places, each in the first form for whose modules there are units somewhere."""

    def available(form: Form) -> bool:
        return all(any(_fits(module, unit) for unit in units) for module in form)

    chosen = [(place, next(filter(available, place.forms), place.forms[0])) for place in places]
    modules = [pair for place, form in chosen if not _is_shared(plan, form) for pair in _labelled(place, form)]
    for place, form in chosen:
        if _is_shared(plan, form) and len(modules) < len(units) and available(form):
            modules += _labelled(place, form)
    return modules


def _by_shape(
    modules: Sequence[tuple[Module, str]], units: Sequence[Unit]
) -> tuple[list[Match], list[str], list[tuple[Module, str]]]:
    """Of the modules of each shape: the matches, the questions that are left open, and what there is no unit for."""
    groups: dict[Any, list[tuple[Module, str]]] = {}
    for pair in modules:
        groups.setdefault(_signature({each.suffix: each.shape for each in pair[0].tensors}), []).append(pair)
    matches, questions, left = [], [], []
    for group in groups.values():
        fitting = sorted([unit for unit in units if _fits(group[0][0], unit)], key=lambda unit: _natural(unit.name))
        left += group[len(fitting) :]
        unclear = [(one, two) for one, two in pairwise(fitting) if not (_numbered(one, two) or _equal(one, two))]
        if unclear and len(fitting) == len(group):
            labels, names = "; ".join(label for _, label in group), ", ".join(unit.name for unit in fitting)
            questions.append(
                f"{labels}: all have the same shapes, and so have {names}, whose order is not known. Say which is "
                "which by names, or pass a state dict in the model's order"
            )
        matches += [Match(module, unit) for (module, _), unit in zip(group, fitting, strict=False)]
    return matches, questions, left


def _alike(row: Sequence[tuple[Module, str]], units: Sequence[Unit]) -> Iterator[tuple[Unit, Unit]]:
    """Units of the same shapes, each with the next of them."""
    before: dict[Any, Unit] = {}
    for (module, _), unit in zip(row, units, strict=True):
        signature = _signature({each.suffix: each.shape for each in module.tensors})
        if signature in before:
            yield before[signature], unit
        before[signature] = unit


# The products of attention, whose names have an order but no numbers.
_ROLES = {
    word: f"product{i}"
    for i, words in enumerate(("q query wq to_q q_lin", "k key wk to_k k_lin", "v value wv to_v v_lin", "o out wo"))
    for word in words.split()
}
_NUMBER = re.compile(r"(\D*)(\d+)(.*)")


def _natural(name: str) -> tuple[tuple[str, int, str], ...]:
    """A dotted name's labels, their first number as a number."""
    labels = [_ROLES.get(label.removesuffix("_proj"), label) for label in name.split(".")]
    found = [_NUMBER.fullmatch(label) for label in labels]
    return tuple(
        [(it[1], int(it[2]), it[3]) if it else (label, -1, "") for it, label in zip(found, labels, strict=True)]
    )


def _numbered(one: Unit, two: Unit) -> bool:
    """Whether the first comes before the second by a number, where their names differ first."""
    for (stem, number, rest), (its_stem, its_number, its_rest) in zip(
        _natural(one.name), _natural(two.name), strict=False
    ):
        if (stem, number, rest) != (its_stem, its_number, its_rest):
            both_ways = number == its_number and (rest, its_rest) == ("", "_reverse")
            return stem == its_stem and number > -1 and (number < its_number or both_ways)
    return False


def _equal(one: Unit, two: Unit) -> bool:
    """Whether two units have the same arrays, so that it does not matter which is which."""
    return [*one.tensors] == [*two.tensors] and all(
        np.array_equal(array, two.tensors[suffix][1]) for suffix, (_, array) in one.tensors.items()
    )


def _labelled(place: Place, form: Form) -> list[tuple[Module, str]]:
    return [(module, f"{module.path} {cut(repr(place.layer), 80)}".strip()) for module in form]


def _is_shared(plan: Plan, form: Form) -> bool:
    return all(piece.leaf in plan.shared for module in form for tensor in module.tensors for piece in tensor.pieces)


def _score(form: Form, units: Sequence[Unit]) -> tuple[bool, int]:
    """Whether all of a form's modules fit the next ones, and how many do."""
    fitting = sum(map(_fits, form, units))
    return fitting == len(form), fitting


def _fits(module: Module, unit: Unit) -> bool:
    return not _problems(module, unit, "")


def _problems(module: Module, unit: Unit, label: str) -> list[str]:
    """What is wrong with a module of PyTorch in the place of one of the net."""
    problems, rest = [], dict(unit.tensors)
    for tensor in module.tensors:
        given = unit.of(tensor)
        rest.pop(tensor.suffix if tensor.suffix in rest else "", None)
        if not tensor.pieces:
            continue
        if given is None:
            problems.append(f"{label}: missing {tensor.suffix} {tensor.shape}, which {unit.name!r} does not have")
        elif given[1].shape != tensor.shape:
            turned = given[1].ndim == 2 and given[1].shape[::-1] == tensor.shape
            problems.append(
                f"{label}: expected {tensor.suffix} {tensor.shape}, got {given[0]} {given[1].shape}"
                + (f"; if it is (in, out), pass in_out=[{unit.name.rpartition('.')[2]!r}]" if turned else "")
            )
        elif given[1].dtype.kind != "f":
            problems.append(f"{label}: expected floats for {tensor.suffix}, got {given[0]} of {given[1].dtype}")
    return problems + [f"{label}: unexpected {key} {array.shape}" for key, array in rest.values()]


def _differences(modules: Sequence[tuple[Module, str]], units: Sequence[Unit]) -> list[str]:
    """What differs between two rows of modules, those that are alike laid side by side."""
    ours = [_signature({each.suffix: each.shape for each in module.tensors if each.pieces}) for module, _ in modules]
    idle = {each.suffix for module, _ in modules for each in module.tensors if not each.pieces}
    theirs = [
        _signature({suffix: array.shape for suffix, (_, array) in unit.tensors.items() if suffix not in idle})
        for unit in units
    ]
    problems: list[str] = []
    for kind, start, stop, its_start, its_stop in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if kind == "equal" and stop - start < len(modules):
            continue
        both = min(stop - start, its_stop - its_start)
        for (module, label), unit in zip(modules[start:][:both], units[its_start:][:both], strict=True):
            problems += _problems(module, unit, label)
        problems += [_missing(module, label) for module, label in modules[start + both : stop]]
        problems += [_unexpected(unit) for unit in units[its_start + both : its_stop]]
    if len(modules) == len(units):  # one by one, if that says less
        pairs = zip(modules, units, strict=True)
        problems = min(
            problems, [line for (module, label), unit in pairs for line in _problems(module, unit, label)], key=len
        )
    return problems


def _missing(module: Module, label: str) -> str:
    return f"{label}: missing {', '.join(f'{each.suffix} {each.shape}' for each in module.tensors if each.pieces)}"


def _unexpected(unit: Unit) -> str:
    return f"unexpected {', '.join(f'{key} {array.shape}' for key, array in unit.tensors.values())}"


def _signature(shapes: dict[str, Shape]) -> tuple[tuple[str, Shape], ...]:
    return tuple(sorted(shapes.items()))

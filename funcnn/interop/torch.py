"""Weights from PyTorch and to it. PyTorch itself is needed for files of its own alone (``.pt``, ``.pth``).

The order of layers and the shapes say which weight is which; every layout is turned into this library's: convolutions
(out, in, height, width) into (height, width, in, out), Linear (out, in) into (in, out), and after an image is
flattened the rows from (channels, height, width) into (height, width, channels).
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import DTypeLike

from funcnn import tree
from funcnn.init import shapes_only
from funcnn.interop.layouts import Module, Tensor
from funcnn.interop.matching import Match, Unit, WeightsError, match, scope_of, units_of
from funcnn.interop.plan import Flattened, Plan, plan_of
from funcnn.interop.put import put
from funcnn.keys import Key
from funcnn.layer import Layer
from funcnn.model_file import Trained
from funcnn.settings import float_dtype, refuse, shown
from funcnn.train import Model
from funcnn.tree import Array, Shape

__all__ = ["from_torch", "to_torch"]

Weights = Mapping[str, Any] | str | os.PathLike[str]


def from_torch(
    weights: Weights,
    net: Layer,
    in_shape: Shape,
    *,
    names: Mapping[str, str] | None = None,
    ignore: Iterable[str] = (),
    in_out: Iterable[str] = (),
    flattened: Flattened = "channels_first",
    dtype: DTypeLike | None = None,
) -> Model:
    """The params and state of a net, from the weights of a PyTorch model of the same layers.

    `weights` is a state dict, its tensors PyTorch's or arrays, or a file: ``.safetensors``, or ``.pt``, ``.pth`` and
    ``.bin``, which PyTorch reads with ``weights_only=True``. Modules are taken in the order of the state dict, layers
    in that of the net; every shape must fit.

    - `names`: where the order differs, paths in the net (as in the layer table) and what PyTorch calls that layer or
      block: ``{"0": "stem", "2.1": "layer1.0.downsample"}``. Within each, the order counts again.
    - `ignore`: patterns of names that are not needed, such as ``"*.attn.bias"`` for stored masks.
    - `in_out`: last names of modules, or of parameters of the model's own, whose matrices are (in, out), as Hugging
      Face's GPT-2 has them: ``["c_attn", "c_proj", "c_fc"]``.
    - `flattened`: "channels_last" if the PyTorch model flattens images as (height, width, channels).
    - `dtype`: the widest of the weights, if None; bfloat16 counts as float32.

    Attention may be a MultiheadAttention, or Linear modules: one for q, k and v, or one for each. A recurrent module
    is an `lstm`, `gru` or `rnn` for each layer, in both directions ``parallel(lstm(64), lstm(64, reverse=True))``; its
    two biases are added up. Tied weights may be there once or twice.

    >>> from funcnn.layers import dense
    >>> weights = {"fc.weight": np.ones((2, 3)), "fc.bias": np.zeros(2)}
    >>> from_torch(weights, dense(2), (3,)).params
    DenseParams(weight=float64 (3, 2), bias=float64 (2,))

    What a state dict does not say, it cannot check: activations, strides, paddings (PyTorch's ``padding=1`` is no
    "same" for a stride of 2), the epsilons of norms, the order of layers of one shape, whether a square matrix of the
    model's own is (in, out). Compare an output.

    Raises WeightsError, a ValueError that names everything which does not fit; LayerError for a layer of your own;
    ImportError for a PyTorch file without PyTorch; FileNotFoundError without a file.
    """
    if flattened not in get_args(Flattened):
        refuse("from_torch", "flattened", " or ".join(map(repr, get_args(Flattened))), flattened)
    plan = plan_of(net, in_shape, flattened=flattened)
    names = _named("from_torch", names)
    unneeded = _words("from_torch", "ignore", ignore)
    given = {key: each for key, each in _read("from_torch", weights).items() if not _is_ignored(key, unneeded)}
    matches, problems = match(
        plan, units_of(given, _words("from_torch", "in_out", in_out)), names, ordered=_is_ordered(given)
    )
    if not problems:
        floats = {each.dtype for each in given.values() if each.dtype.kind == "f"}
        widest = np.result_type(*floats) if floats else np.float32
        its_dtype = widest if dtype is None else dtype
        if float_dtype(its_dtype) is None:
            refuse("from_torch", "dtype", "a float type such as np.float32, or None", dtype)
        leaves, problems = _leaves(plan, matches, its_dtype)
    if problems:
        raise WeightsError(
            "\n  ".join(["from_torch: the weights do not fit the net (shapes as PyTorch has them)", *problems])
            + "\nChange the net; or say which is which by names={path: name}, what to leave out by ignore=[...]"
        )
    with shapes_only():
        params, state, _ = net.init(Key(0), in_shape, its_dtype)
    return put(Model(params, state), leaves)


def to_torch(
    trained: Trained,
    *,
    like: Weights | None = None,
    names: Mapping[str, str] | None = None,
    ignore: Iterable[str] = (),
    in_out: Iterable[str] = (),
    flattened: Flattened = "channels_first",
) -> dict[str, Array]:
    """The state dict of a trained net, as arrays in PyTorch's layouts: the inverse of `from_torch`, to the bit.

    With `like`, a state dict or file of the PyTorch model, names and their order are its own, and what is ignored comes
    from there. Without, layers have the names that they have in a Sequential, their paths, or others by `names`;
    attention is a MultiheadAttention, and each recurrent layer a module of one layer. The other arguments are those of
    `from_torch`.

    >>> from funcnn.layers import dense
    >>> params, state, _ = dense(2).init(Key(0), (3,))
    >>> arrays = to_torch(Trained(dense(2), Model(params, state), (3,), ()), names={"": "fc"})
    >>> {name: array.shape for name, array in arrays.items()}
    {'fc.weight': (2, 3), 'fc.bias': (2,)}

    In PyTorch: ``module.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})``. Of the two biases
    of a recurrent module the first is the sum and the second zero, unless that sum is as in `like`, whose biases are
    then kept. Raises as `from_torch`, and TreeError for a model that is not the net's.
    """
    net, model = trained.net, Model(trained.model.params, trained.model.state)
    plan = plan_of(net, trained.in_shape, flattened=flattened)
    with shapes_only():
        tree.check_like(Model(*net.init(Key(0), trained.in_shape)[:2]), model, ("the net", "the model"), shapes=True)
    leaves = _filled(plan, dict(zip(tree.paths(model), tree.flatten(model), strict=True)))
    turned, names = _words("to_torch", "in_out", in_out), _named("to_torch", names)
    if like is None:
        modules = [module for place in plan.places for module in place.forms[0]]
        pairs = [(module, _new_unit(module, _name(module.path, names), turned)) for module in modules]
        written = [item for module, unit in pairs for item in _written(plan, module, unit, leaves, turned)]
        doubled = {key for i, (key, _) in enumerate(written) if key in dict(written[:i])}
        if doubled:
            raise WeightsError(f"to_torch: names gives {', '.join(sorted(doubled))} to more than one layer")
        return dict(written)
    whole = _read("to_torch", like)
    unneeded = _words("to_torch", "ignore", ignore)
    given = {key: each for key, each in whole.items() if not _is_ignored(key, unneeded)}
    matches, problems = match(plan, units_of(given, turned), names, ordered=_is_ordered(given))
    if problems:
        raise WeightsError("\n  ".join(["to_torch: the net is not like the weights in `like`", *problems]))
    made = {key: each.copy() for key, each in whole.items()}
    for each in matches:
        made |= _written(plan, each.module, each.unit, leaves, turned)
    return made


# --- Leaves from modules, and back ----------------------------------------------------------------------------


def _leaves(plan: Plan, matches: Iterable[Match], dtype: DTypeLike) -> tuple[dict[str, Array], list[str]]:
    """The leaves that a net has of its own, and what is wrong with those that it shares."""
    matches = [*matches]
    leaves = _joined(plan, matches, dtype)
    problems = []
    for leaf, (source, transposed) in plan.shared.items():
        if leaf in leaves:
            its = leaves[source].T if transposed else leaves[source]
            if not np.array_equal(leaves.pop(leaf), its, equal_nan=True):
                one, other = (_key_of(matches, each) for each in (leaf, source))
                problems.append(f"expected {one} to be equal to {other}, with which the net ties it; it is not")
    return leaves, problems


def _key_of(matches: Iterable[Match], leaf: str) -> str:
    """What PyTorch calls a leaf."""
    tensors = [(each.unit, tensor) for each in matches for tensor in each.module.tensors]
    found = [unit.of(tensor) for unit, tensor in tensors if any(piece.leaf == leaf for piece in tensor.pieces)]
    return found[0][0] if found and found[0] else leaf


def _joined(plan: Plan, matches: Iterable[Match], dtype: DTypeLike) -> dict[str, Array]:
    """All leaves that the matches have, in this library's layout."""
    leaves: dict[str, Array] = {}
    for each in matches:
        for tensor in each.module.tensors:
            _, array = each.unit.of(tensor) or ("", np.zeros(()))
            for piece in tensor.pieces:
                leaf = leaves.setdefault(piece.leaf, np.empty(plan.shapes[piece.leaf], dtype))
                part = array[piece.theirs].transpose(np.argsort(piece.axes).astype(int))
                if piece.adds:
                    leaf[piece.ours] += part.astype(dtype)
                else:
                    leaf[piece.ours] = part
    for path in leaves.keys() & plan.orders.keys():
        for axis, order in plan.orders[path]:
            leaves[path] = leaves[path].take(order, axis)
    for leaf in leaves.values():
        leaf.flags.writeable = False
    return leaves


def _filled(plan: Plan, leaves: dict[str, Array]) -> dict[str, Array]:
    """The leaves with those that are shared, all in PyTorch's order of features."""
    for leaf, (source, transposed) in plan.shared.items():
        leaves[leaf] = leaves[source].T if transposed else leaves[source]
    for path, orders in plan.orders.items():
        for axis, order in orders:
            theirs = np.empty_like(leaves[path])
            theirs[(slice(None),) * axis + (order,)] = leaves[path]
            leaves[path] = theirs
    return leaves


def _written(
    plan: Plan, module: Module, unit: Unit, leaves: dict[str, Array], turned: frozenset[str]
) -> list[tuple[str, Array]]:
    """A module's tensors under the names that a unit has for them, of which those that are not needed stay."""
    written = []
    for tensor in module.tensors:
        key, like = unit.of(tensor) or ("", None)
        if like is None:
            continue
        made = np.array(like)  # num_batches_tracked
        if tensor.pieces:
            made = np.zeros(tensor.shape, leaves[tensor.pieces[0].leaf].dtype)
            for piece in tensor.pieces:
                if not piece.adds:
                    made[piece.theirs] = leaves[piece.leaf][piece.ours].transpose(piece.axes)
            made = made.reshape(unit.tensors[""][1].shape) if "" in unit.tensors else made
            if _is_turned(unit, tensor, turned):
                made = np.ascontiguousarray(made.T)
        written.append((key, made))
    sums = {piece.leaf for tensor in module.tensors for piece in tensor.pieces if piece.adds}
    if sums:
        before = _joined(plan, [Match(module, unit)], leaves[next(iter(sums))].dtype)
        if all(before[leaf].tobytes() == leaves[leaf].tobytes() for leaf in sums):
            biases = {key: np.array(each) for suffix, (key, each) in unit.tensors.items() if suffix.startswith("bias")}
            written = [(key, biases.get(key, each)) for key, each in written]
    return written


def _is_turned(unit: Unit, tensor: Tensor, turned: frozenset[str]) -> bool:
    return tensor.suffix == "weight" and len(tensor.shape) == 2 and unit.name.rpartition(".")[2] in turned


# --- Names ----------------------------------------------------------------------------------------------------

_END = re.compile(r"(?:(.*)\.)?(l\d+(?:_reverse)?)")


def _name(path: str, names: Mapping[str, str]) -> str:
    """What PyTorch is to call the layer at a path."""
    scope = scope_of(path, names)
    if scope is None:
        return path
    rest = path[len(scope) :].lstrip(".")
    return ".".join(filter(None, (names[scope], rest)))


def _new_unit(module: Module, name: str, turned: frozenset[str]) -> Unit:
    """A unit of a name, with nothing in its tensors yet."""
    tensors = {}
    recurrent = any(tensor.suffix == "weight_ih" for tensor in module.tensors)
    found = _END.fullmatch(name) if recurrent else None
    name, end = (found[1] or "", found[2]) if found else (name, "l0")
    for tensor in module.tensors:
        suffix = f"{tensor.suffix}_{end}" if recurrent else tensor.suffix
        fill = np.zeros(tensor.shape, np.float32 if tensor.pieces else np.int64)
        tensors[tensor.suffix] = f"{name}.{suffix}" if name else suffix, fill
    return Unit(name, tensors)


def _is_ignored(key: str, patterns: frozenset[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _named(place: str, names: Mapping[str, str] | None) -> Mapping[str, str]:
    names = {} if names is None else names
    if not isinstance(names, Mapping) or not all(isinstance(each, str) for pair in names.items() for each in pair):
        refuse(place, "names", 'a dictionary of texts such as {"0": "conv1"}', names)
    return names


def _words(place: str, name: str, words: Iterable[str]) -> frozenset[str]:
    listed = isinstance(words, Iterable) and not isinstance(words, str)
    if not listed or not all(isinstance(word, str) for word in words):
        fix = f"Pass [{words!r}]" if isinstance(words, str) else ""
        refuse(place, name, "a list of texts", words, fix)
    return frozenset(words)


# --- Reading --------------------------------------------------------------------------------------------------


def _read(place: str, weights: Any) -> dict[str, Array]:
    """The arrays of a state dict, or of a file."""
    where, path = f"{place}: the weights", None
    if isinstance(weights, (str, os.PathLike)):
        path = Path(weights)
        reader = _READERS.get(path.suffix)
        if reader is None:
            fix = "Read it yourself and pass the state dict"
            refuse(place, "weights", f"a state dict or a file of type {', '.join(_READERS)}", str(path), fix)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        where, weights = str(path), reader(path)
    if not isinstance(weights, Mapping):
        fix = "Pass model.state_dict()" if hasattr(weights, "state_dict") else ""
        refuse(place, "weights", "a state dict, a mapping from names to tensors, or a file", weights, fix)
    inner = [key for key, each in weights.items() if isinstance(each, Mapping)]
    if inner:
        read = "" if path is None else ", of weights = torch.load(path, weights_only=True)"
        raise WeightsError(
            f"{where}: expected a tensor at {inner[0]!r}, got a mapping. Pass the entry that is the state dict: "
            f"weights[{inner[0]!r}]{read}"
        )
    return {key: _as_array(where, key, each) for key, each in weights.items()}


def _is_ordered(weights: Mapping[str, Array]) -> bool:
    """Whether names are in the order of a model.

    Those of each dtype in the order of the alphabet come from a file of safetensors, by whatever function.
    """
    of_dtype: dict[Any, list[str]] = {}
    for name, array in weights.items():
        of_dtype.setdefault(array.dtype, []).append(name)
    return any(names != sorted(names) for names in of_dtype.values())


def _as_array(where: str, key: Any, value: Any) -> Array:
    if hasattr(value, "detach"):  # a tensor of PyTorch
        try:
            its = value.detach().cpu()
            value = (its.float() if str(its.dtype) == "torch.bfloat16" else its).numpy()
        except (TypeError, RuntimeError) as error:  # sparse, quantised, without data, or of 8 bits
            raise WeightsError(f"{where}: {key!r} is a tensor of {value.dtype} that is no array: {error}") from error
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(key, str) or not isinstance(value, np.ndarray):
        raise WeightsError(f"{where}: expected a tensor at {key!r}, got {shown(value)}")
    return value


_DTYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U64": "u8", "U32": "u4",
    "U16": "u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def _read_safetensors(path: Path) -> dict[str, Array]:
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged or cut short, or no safetensors file ({error})") from error
    found = {}
    for name, entry in sorted(entries, key=lambda each: str(each[0])):
        kind, shape = entry["dtype"], entry["shape"]
        if kind == "BF16":  # the upper half of a float32
            bits = np.frombuffer(entry["data"], "<u2").astype("<u4") << 16
            found[name] = bits.view("<f4").reshape(shape)
        elif kind in _DTYPES:
            found[name] = np.frombuffer(entry["data"], np.dtype(_DTYPES[kind]).newbyteorder("<")).reshape(shape)
        else:
            raise WeightsError(f"{path}: {name} is of the dtype {kind}, which NumPy does not have")
    return found


def _read_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path}: to read this file PyTorch is needed, and is not installed: pip install torch. Or save the model "
            "as .safetensors, by safetensors.torch.save_file(model.state_dict(), path)"
        ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise any
        raise WeightsError(
            f"{path}: damaged, or it holds more than tensors, which only code in it could make "
            f"({type(error).__name__}). Save it anew in PyTorch: torch.save(model.state_dict(), path)"
        ) from error


_READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": _read_safetensors, ".pt": _read_torch, ".pth": _read_torch, ".bin": _read_torch,
}  # fmt: skip

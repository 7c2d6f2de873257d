"""Each layer's parameters as PyTorch has them: in which modules, under which names, in which layout.

A layer has one or more forms, each of modules, and a module tensors. Reading and writing follow the same description,
in opposite directions.
"""

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from funcnn.checks import LayerError
from funcnn.layer import Layer
from funcnn.tree import Shape

__all__ = ["Form", "Leaves", "Module", "Piece", "Tensor", "forms", "join"]

_ALL = slice(None)


@attrs.frozen
class Piece:
    """What a PyTorch tensor and a leaf have in common: ``tensor[rows] = leaf[..., columns].transpose(axes)``.

    One that `adds` is a second term of what is a sum here, as PyTorch's two biases of a gate are.
    """

    leaf: str
    axes: tuple[int, ...]
    rows: slice = _ALL
    columns: slice = _ALL
    adds: bool = False

    @property
    def ours(self) -> Any:
        """The index of its part of the leaf."""
        return ... if self.columns == _ALL else (..., self.columns)

    @property
    def theirs(self) -> Any:
        """The index of its part of the tensor."""
        return ... if self.rows == _ALL else self.rows


@attrs.frozen
class Tensor:
    """A tensor of a PyTorch module, with its shape there; without pieces, it has nothing that is needed here."""

    suffix: str
    shape: Shape
    pieces: tuple[Piece, ...]


@attrs.frozen
class Module:
    """A PyTorch module, by the path of what it is here."""

    path: str
    tensors: tuple[Tensor, ...]


def join(path: str, name: object) -> str:
    """A path with a name or a position at its end."""
    return f"{path}.{name}" if path and name != "" else f"{path}{name}"


# --- The layers ----------------------------------------------------------------------------------------------

Leaves = dict[str, tuple[str, Shape]]  # by a layer's own names: the path of the leaf, and its shape
Form = tuple[Module, ...]
_TURNED = {2: (1, 0), 3: (2, 1, 0), 4: (3, 2, 0, 1)}


def _whole(suffix: str, leaf: tuple[str, Shape], axes: Sequence[int] | None = None) -> Tensor:
    """A tensor that is a leaf, its axes in another order."""
    path, shape = leaf
    axes = tuple(range(len(shape)) if axes is None else axes)
    return Tensor(suffix, tuple([shape[axis] for axis in axes]), (Piece(path, axes),))


def _product(path: str, leaves: Leaves, prefix: str = "", columns: slice = _ALL) -> Module:
    """A Linear of a dense layer, or of a part of its columns."""
    tensors = []
    for suffix, axes in (("weight", (1, 0)), ("bias", (0,))):
        if prefix + suffix in leaves:
            leaf, shape = leaves[prefix + suffix]
            size = len(range(*columns.indices(shape[-1])))
            its_shape = (size, *shape[:-1])
            tensors.append(Tensor(suffix, its_shape, (Piece(leaf, axes, columns=columns),)))
    return Module(path, tuple(tensors))


def _filters(path: str, leaves: Leaves, channels_first: bool) -> tuple[Form, ...]:
    weight = _whole("weight", leaves["weight"], _TURNED[len(leaves["weight"][1])])
    return ((Module(path, (weight, *_renamed(leaves, bias="bias"))),),)


def _renamed(leaves: Leaves, **names: str) -> tuple[Tensor, ...]:
    """Leaves as they are, under PyTorch's names."""
    return tuple([_whole(theirs, leaves[ours]) for ours, theirs in names.items() if ours in leaves])


def _norm(path: str, leaves: Leaves, channels_first: bool) -> tuple[Form, ...]:
    tensors = _renamed(leaves, scale="weight", shift="bias", mean="running_mean", var="running_var", slope="weight")
    if "mean" in leaves:
        tensors += (Tensor("num_batches_tracked", (), ()),)
    return ((Module(path, tensors),),)


def _dense(path: str, leaves: Leaves, channels_first: bool) -> tuple[Form, ...]:
    return ((_product(path, leaves),),)


def _weight(path: str, leaves: Leaves, channels_first: bool) -> tuple[Form, ...]:
    return ((Module(path, _renamed(leaves, weight="weight")),),)


def _position_bias(path: str, leaves: Leaves, channels_first: bool) -> tuple[Form, ...]:
    axes = {3: (2, 0, 1), 2: (1, 0) if channels_first else (0, 1)}.get(len(leaves["bias"][1]))
    return ((Module(path, (_whole("bias", leaves["bias"], axes),)),),)


def _recurrent(path: str, leaves: Leaves, channels_first: bool) -> tuple[Form, ...]:
    leaf, (columns,) = leaves["bias"]
    units = leaves["recurrent_weight"][1][0]
    second: tuple[Piece, ...] = (Piece(leaf, (0,), adds=True),)
    if "candidate_bias" in leaves:
        gates, candidate = slice(0, 2 * units), slice(2 * units, None)
        second = (
            Piece(leaf, (0,), gates, gates, adds=True),
            Piece(leaves["candidate_bias"][0], (0,), candidate),
        )
    tensors = (
        _whole("weight_ih", leaves["weight"], (1, 0)),
        _whole("weight_hh", leaves["recurrent_weight"], (1, 0)),
        Tensor("bias_ih", (columns,), (Piece(leaf, (0,)),)),
        Tensor("bias_hh", (columns,), second),
    )
    return ((Module(path, tensors),),)


def _attention(path: str, leaves: Leaves, channels_first: bool) -> tuple[Form, ...]:
    """One MultiheadAttention; or a Linear for all of q, k and v; or one for each of them; and one for the output."""
    joint: tuple[str, ...] = ("qkv",)
    products = ("query", "key", "value")
    places = [("qkv.", 0), ("qkv.", 1), ("qkv.", 2)]
    if "query.weight" in leaves:
        joint, places = ("query", "key_value"), [("query.", 0), ("key_value.", 0), ("key_value.", 1)]
    width, features = leaves["out.weight"][1]
    out = _product(join(path, "out"), leaves, "out.")
    single = [
        _product(join(path, name), leaves, prefix, slice(width * i, width * (i + 1)))
        for name, (prefix, i) in zip(products, places, strict=True)
    ]
    made = [
        (*[_product(join(path, name), leaves, f"{name}.") for name in joint], out),
        (*single, out),
    ]
    return ((_multihead(path, single, out),), *made) if width == features else tuple(made)


def _multihead(path: str, single: list[Module], out: Module) -> Module:
    """PyTorch's MultiheadAttention: q, k and v below each other, but for weights of sequences of other sizes."""
    tensors: list[Tensor] = []
    for suffix in ("weight", "bias"):
        parts = [each for module in single for each in module.tensors if each.suffix == suffix]
        if suffix == "weight" and len({each.shape for each in parts}) > 1:
            named = zip("qkv", parts, strict=True)
            tensors += [attrs.evolve(each, suffix=f"{name}_proj_weight") for name, each in named]
        elif parts:
            rows = parts[0].shape[0]
            pieces = [
                attrs.evolve(each.pieces[0], rows=slice(rows * i, rows * (i + 1))) for i, each in enumerate(parts)
            ]
            tensors.append(Tensor(f"in_proj_{suffix}", (3 * rows, *parts[0].shape[1:]), tuple(pieces)))
    tensors += [attrs.evolve(each, suffix=f"out_proj.{each.suffix}") for each in out.tensors]
    return Module(path, tuple(tensors))


_MODULES: dict[str, Callable[[str, Leaves, bool], tuple[Form, ...]]] = {
    **dict.fromkeys(("conv1d", "conv2d", "depthwise_conv2d", "conv_transpose1d", "conv_transpose2d"), _filters),
    **dict.fromkeys(("batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm", "prelu"), _norm),
    **dict.fromkeys(("embedding", "unembedding", "position_embedding"), _weight),
    **dict.fromkeys(("rnn", "lstm", "gru"), _recurrent),
    **dict.fromkeys(("self_attention", "cross_attention"), _attention),
    "dense": _dense,
    "position_bias": _position_bias,
}


def forms(layer: Layer, path: str, leaves: Leaves, channels_first: bool) -> tuple[Form, ...]:
    """A layer's forms, the usual one first; raises LayerError for a layer of which none is known.

    `channels_first` says whether PyTorch has its sequences as (channels, time).
    """
    if layer.name not in _MODULES:
        raise LayerError(
            f"{layer!r} at {path or 'the root'}",
            "of a layer of your own no PyTorch layout is known",
            "Put its arrays in by their paths: funcnn.interop.put(params, {path: array})",
        )
    return _MODULES[layer.name](path, leaves, channels_first)

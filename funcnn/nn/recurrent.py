"""Recurrent layers: sequences (n, time, features) in and out; the arithmetic is in `funcnn.arrays.recurrence`.

Both ways at once (Schuster & Paliwal 1997) is ``parallel(lstm(64), lstm(64, reverse=True))``; to go on where a sequence
was left, wrap the net: `funcnn.nn.carried`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays import recurrence
from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.recurrence import Cell, Run, Weights
from funcnn.arrays.threads import single_blas_thread
from funcnn.checks import LayerError, ShapeError, check_dy, check_input, check_params, check_residuals, check_weight
from funcnn.init import Initializer, check_initializer, glorot_uniform, orthogonal, zeros
from funcnn.keys import Key, fold_in
from funcnn.layer import Applied, Config, Gradients, Initialised, Layer, make_layer
from funcnn.settings import check_choice, check_finite, check_flag, config, count, number
from funcnn.tree import Array, Shape, node

__all__ = ["Recurrent", "RecurrentParams", "apply_from_carry", "backward_from_carry", "gru", "lstm", "rnn"]


def rnn(
    units: int,
    *,
    activation: Literal["tanh", "relu"] = "tanh",
    only_last: bool = False,
    reverse: bool = False,
    weight_init: Initializer = glorot_uniform(),  # noqa: B008
    recurrent_init: Initializer = orthogonal(),  # noqa: B008
) -> Layer:
    """The plain recurrence (Elman 1990): (n, time, features) -> (n, time, units), or with `only_last` (n, units).

        h[t] = tanh(x[t] · weight + h[t-1] · recurrent_weight + bias), y[t] = h[t]

    or max(..., 0), from h = 0. With `reverse`, from the last step to the first: `only_last` then gives the one of the
    first. Back through time, dh[t] = dy[t] + dz[t+1] · recurrent_weightᵀ and dz[t] = dh[t] · (1 - h[t]²).
    ``params.weight`` (features, units), ``params.recurrent_weight`` (units, units), ``params.bias`` (units,), which is
    PyTorch's bias_ih + bias_hh. The residuals are features + 1 + units numbers for each step of an example.

    >>> layer = rnn(8, only_last=True)
    >>> params, state, out_shape = layer.init(Key(0), (20, 3))
    >>> params.recurrent_weight.shape, out_shape
    ((8, 8), (8,))

    Raises ValueError unless `units` is a positive int and the activation one of the two.
    """
    settings = _Rnn(units, only_last, reverse, weight_init, recurrent_init, activation)
    return make_layer(settings, _apply, _backward, _init)


def lstm(
    units: int,
    *,
    only_last: bool = False,
    reverse: bool = False,
    forget_bias: float = 1.0,
    weight_init: Initializer = glorot_uniform(),  # noqa: B008
    recurrent_init: Initializer = orthogonal(),  # noqa: B008
) -> Layer:
    """Long short-term memory (Hochreiter & Schmidhuber 1997, Gers et al. 2000): shapes and options as for `rnn`.

        [i, f, g, o] = x[t] · weight + h[t-1] · recurrent_weight + bias
        c[t] = σ(f) · c[t-1] + σ(i) · tanh(g), h[t] = σ(o) · tanh(c[t]), y[t] = h[t]

    from h = c = 0, the gates in blocks of `units` columns in this order: ``params.weight`` (features, 4 · units),
    ``params.recurrent_weight`` (units, 4 · units), ``params.bias`` (4 · units,). Back through time, do = dh · tanh(c),
    dc[t] = dc[t+1] · σ(f[t+1]) + dh · σ(o) · (1 - tanh(c)²), and dc[t] times what each gate multiplies.

    The forget gates begin open, with the bias `forget_bias` (Jozefowicz et al. 2015); in PyTorch, which has the bias in
    two parts, it begins near 0. The residuals are features + 1 + 6 · units numbers for each step of an example.

    >>> layer = lstm(8)
    >>> params, state, out_shape = layer.init(Key(0), (20, 3))
    >>> params.weight.shape, params.bias[8:16].tolist(), out_shape
    ((3, 32), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], (20, 8))

    Raises ValueError unless `units` is a positive int and `forget_bias` finite.
    """
    settings = _Lstm(units, only_last, reverse, weight_init, recurrent_init, forget_bias)
    return make_layer(settings, _apply, _backward, _init)


def gru(
    units: int,
    *,
    only_last: bool = False,
    reverse: bool = False,
    weight_init: Initializer = glorot_uniform(),  # noqa: B008
    recurrent_init: Initializer = orthogonal(),  # noqa: B008
) -> Layer:
    """The gated recurrent unit (Cho et al. 2014): shapes and options as for `rnn`.

        [r, z, a] = x[t] · weight + bias, [r', z', a'] = h[t-1] · recurrent_weight
        n = tanh(a + σ(r + r') · (a' + candidate_bias)), h[t] = (1 - s) · n + s · h[t-1], s = σ(z + z'), y[t] = h[t]

    from h = 0, the gates in blocks of `units` columns: ``params.weight`` (features, 3 · units),
    ``params.recurrent_weight`` (units, 3 · units), ``params.bias`` (3 · units,), ``params.candidate_bias`` (units,).
    As in PyTorch and cuDNN, the reset gate r multiplies the product, where the paper has it multiply h; so the
    candidate has two biases, and PyTorch's other ones are added up here. Back through time,
    dh[t-1] = dh · s + [dr, dz, da'] · recurrent_weightᵀ, with da = dh · (1 - s) · (1 - n²) and da' = da · σ(r + r').
    The residuals are features + 1 + 5 · units numbers for each step of an example.

    >>> layer = gru(8, reverse=True)
    >>> params, state, out_shape = layer.init(Key(0), (20, 3))
    >>> params.weight.shape, params.candidate_bias.shape, out_shape
    ((3, 24), (8,), (20, 8))

    Raises ValueError unless `units` is a positive int.
    """
    return make_layer(_Gru(units, only_last, reverse, weight_init, recurrent_init), _apply, _backward, _init)


# --- The settings ---------------------------------------------------------------------------------------------


@node
class RecurrentParams:
    """weight (in, gates · units); recurrent_weight (units, gates · units); bias (gates · units,).

    candidate_bias (units,), or None but in a gru.
    """

    weight: Array
    recurrent_weight: Array
    bias: Array
    candidate_bias: Array | None


@config
class _GateBias(Initializer):
    """Zeros, but for one gate's block."""

    name: ClassVar[str] = "gate_bias"
    gate: int
    value: float

    def fill(self, key: Key, shape: Shape, fan_in: int, fan_out: int) -> Array:
        bias = np.zeros(shape)
        bias[self.gate * fan_out : (self.gate + 1) * fan_out] = self.value
        return bias


@config
class Recurrent(Config):
    """The settings of a recurrent layer: what `cell` it steps by, and of how many arrays a `carry` is."""

    by_chunks: ClassVar[bool] = True
    cell: ClassVar[Cell]
    carry: ClassVar[int] = 1
    units: int = count()
    only_last: bool = attrs.field(default=False, validator=check_flag)
    reverse: bool = attrs.field(default=False, validator=check_flag)
    weight_init: Initializer = attrs.field(default=glorot_uniform(), validator=check_initializer)
    recurrent_init: Initializer = attrs.field(default=orthogonal(), validator=check_initializer)

    def kind(self) -> Cell:
        """The cell."""
        return self.cell

    def bias_init(self) -> Initializer:
        """What the bias begins with."""
        return zeros()

    def out_shape(self, in_shape: Shape) -> Shape:
        if len(in_shape) != 2 or min(in_shape) < 1:
            mend = f"Leave out the batch axis: {tuple(in_shape[1:])}" if len(in_shape) == 3 else "Give it sequences"
            raise ShapeError(
                repr(self), f"expected examples of shape (time, features), both at least 1, got {in_shape}", mend
            )
        return (self.units,) if self.only_last else (in_shape[0], self.units)

    def macs(self, in_shape: Shape) -> int:
        time, features = in_shape
        return time * (features + self.units) * self.kind().gates * self.units

    def check(self, params: Any, x: Array) -> Weights:
        """The params as weights; raises unless they are such a layer's, with so many units, and x is for them."""
        check_params(self, params, RecurrentParams)
        columns, is_gru = self.kind().gates * self.units, self.kind() is recurrence.GRU
        check_weight(self, "weight", params.weight, (None, columns))
        check_weight(self, "recurrent_weight", params.recurrent_weight, (self.units, columns))
        check_weight(self, "bias", params.bias, (columns,))
        if is_gru:
            check_weight(self, "candidate_bias", params.candidate_bias, (self.units,))
        check_input(self, x, (None, len(params.weight)), params.weight.dtype, params.weight)
        self.out_shape(x.shape[1:])
        return Weights(params.weight, params.recurrent_weight, params.bias, params.candidate_bias if is_gru else None)


@config
class _Rnn(Recurrent):
    name: ClassVar[str] = "rnn"
    activation: Literal["tanh", "relu"] = attrs.field(default="tanh", validator=check_choice("tanh", "relu"))

    def kind(self) -> Cell:
        return recurrence.TANH_RNN if self.activation == "tanh" else recurrence.RELU_RNN


@config
class _Lstm(Recurrent):
    name: ClassVar[str] = "lstm"
    cell: ClassVar[Cell] = recurrence.LSTM
    carry: ClassVar[int] = 2
    forget_bias: float = number(check_finite, default=1.0)

    def bias_init(self) -> Initializer:
        return _GateBias(1, self.forget_bias)


@config
class _Gru(Recurrent):
    name: ClassVar[str] = "gru"
    cell: ClassVar[Cell] = recurrence.GRU


# --- The functions --------------------------------------------------------------------------------------------


class CarryApplied(NamedTuple):
    """What a recurrent layer gives from a carry on."""

    y: Array
    carry: tuple[Array, ...]
    residuals: Run | None


class CarryGradients(NamedTuple):
    """What it gives back: the params' gradients, dx if it is needed, and the gradient of that carry."""

    params: RecurrentParams
    dx: Array | None
    carry: tuple[Array, ...]


def _init(settings: Recurrent, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = settings.out_shape(in_shape)
    features, units, columns = in_shape[1], settings.units, settings.kind().gates * settings.units
    weight = settings.weight_init(fold_in(key, "weight"), (features, columns), features, units, dtype)
    recurrent = settings.recurrent_init(fold_in(key, "recurrent_weight"), (units, columns), units, units, dtype)
    bias = settings.bias_init()(fold_in(key, "bias"), (columns,), features, units, dtype)
    is_gru = settings.kind() is recurrence.GRU
    candidate = zeros()(fold_in(key, "candidate_bias"), (units,), units, units, dtype) if is_gru else None
    return Initialised(RecurrentParams(weight, recurrent, bias, candidate), None, out_shape)


def _apply(
    settings: Recurrent, params: RecurrentParams, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    y, _, residuals = apply_from_carry(settings, params, x, (), train=train)
    return Applied(y, state, residuals)


def _backward(
    settings: Recurrent, params: RecurrentParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    gradients, dx, _ = backward_from_carry(settings, params, residuals, dy, (), need_dx=need_dx)
    return Gradients(gradients, dx)


@underflow_is_zero
def apply_from_carry(
    settings: Recurrent, params: Any, x: Array, carry: Sequence[Array], *, train: bool
) -> CarryApplied:
    """Through sequences, from a carry (h,) or (h, c), or from zeros."""
    weights = settings.check(params, x)
    with single_blas_thread():
        run = recurrence.forward(settings.kind(), x[:, ::-1] if settings.reverse else x, weights, carry)
    if settings.only_last:
        y = run.hidden[-1].copy()
    else:
        outputs = run.hidden[1:][::-1] if settings.reverse else run.hidden[1:]
        y = outputs.transpose(1, 0, 2).copy()
    return CarryApplied(y, run.carry, run if train else None)


@underflow_is_zero
def backward_from_carry(
    settings: Recurrent, params: Any, residuals: Any, dy: Array, dcarry: Sequence[Array], *, need_dx: bool
) -> CarryGradients:
    """Back through sequences, given the gradient of what their carry came to, or none."""
    run = check_residuals(settings, residuals, Run)
    gates, time, n, units = run.gates.shape
    if gates != settings.kind().gates:
        fix = "Pass on the residuals that this layer's own apply gave"
        raise LayerError(repr(settings), f"expected residuals of {settings.kind().gates} gates, got {gates}", fix)
    dtype = run.gates.dtype
    check_dy(settings, dy, (n, units) if settings.only_last else (n, time, units), dtype)
    x = run.inputs.reshape(time, n, run.inputs.shape[1]).swapaxes(0, 1)[..., :-1]
    weights = settings.check(params, x)
    given = [*dcarry] or [np.zeros_like(run.hidden[0]) for _ in range(settings.carry)]
    if settings.only_last:
        given[0] = given[0] + dy
    dys = None if settings.only_last else dy[:, ::-1] if settings.reverse else dy
    with single_blas_thread():
        found, dx, carry = recurrence.backward(settings.kind(), run, weights, dys, given, need_dx=need_dx)
    if dx is not None and settings.reverse:
        dx = dx[:, ::-1].copy()
    return CarryGradients(RecurrentParams(*found), dx, carry)

"""Recurrent arithmetic: what a cell makes of a sequence step by step, and back through time.

A cell's weights are matrices (in, gates · units), one block of columns for each gate, in PyTorch's order. Here the
gates lie apart and the steps outside, so that every operation of a step runs over adjacent numbers:

    inputs      (time · n, features + 1)    the last column is one: its weights are the biases
    gates       (gates, time, n, units)     inputs · weight of all steps, one product; then, in place, what a gate gives
    hidden      (time + 1, n, units)        hidden[s] is what step s begins with; hidden[1:] are the outputs
    cell_state  (time + 1, n, units)        the LSTM's c, likewise

A step adds hidden[s] · recurrent_weight to its gates' sums. As σ(x) = (1 + tanh(x / 2)) / 2, one tanh takes all gates
of a step, if the weights of those that are sigmoids are halved before, which rounds nothing.

On the way back a gate's gradient is a slope, which is known before the way begins, times the gradient that has come
from the step after. Slopes are made for a block of steps that stays in cache; a step then only multiplies. The
gradients of the weights are products over all steps, at the end.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from funcnn.arrays.conv_products import multiply
from funcnn.arrays.seam import tuned_by
from funcnn.arrays.threads import in_tasks, scratch, slices
from funcnn.tree import Array, node

__all__ = ["GRU", "LSTM", "RELU_RNN", "TANH_RNN", "Cell", "Run", "Weights", "backward", "forward"]

_BLOCK = 2**16  # numbers in the gates of a block of steps, about: they stay in cache
_ROWS = 64  # of x in a block of its gradient, about: OpenBLAS takes its products as they lie in memory


class Weights(NamedTuple):
    """weight (in, gates · units), recurrent_weight (units, gates · units), bias (gates · units,).

    The GRU's candidate_bias (units,) is added to hidden · recurrent_weight, which its reset gate multiplies.
    """

    weight: Array
    recurrent_weight: Array
    bias: Array
    candidate_bias: Array | None


@node
class Run:
    """A cell's way through a batch of sequences, all that backward needs; see the module's docstring."""

    inputs: Array
    gates: Array
    hidden: Array
    cell_state: Array | None
    candidate: Array | None  # the GRU's hidden · recurrent_weight + candidate_bias (time, n, units)

    @property
    def carry(self) -> tuple[Array, ...]:
        """What the next step would begin with: h, or h and c."""
        return tuple([states[-1] for states in (self.hidden, self.cell_state) if states is not None])


class Cell(NamedTuple):
    """What differs between cells.

    `inputs` and `recurrent` are the orders in which gates lie here. `steps` takes a run from what it begins with to its
    end, `slopes` fills the gates' gradients of some steps with slopes, and `back` multiplies those of a step, and makes
    of the gradients of the step's h and c those of c before it and, for the GRU, of h along z.
    """

    gates: int
    inputs: tuple[int, ...]
    recurrent: tuple[int, ...]
    sigmoids: tuple[int, ...]
    steps: Callable[[Run, Array, Array | None], None]
    slopes: Callable[[Run, slice, Array, Array], None]
    back: Callable[..., None]


# --- All cells ------------------------------------------------------------------------------------------------


@tuned_by("x")
def forward(cell: Cell, x: Array, weights: Weights, carry: Sequence[Array] = ()) -> Run:
    """Sequences (n, time, features) through a cell, which begins with a carry, (h,) or (h, c), or else with zeros."""
    (n, time, features), units = x.shape, len(weights.recurrent_weight)
    inputs = np.empty((time, n, features + 1), x.dtype)
    inputs[..., :features], inputs[..., features] = x.transpose(1, 0, 2), 1
    states = [np.empty((time + 1, n, units), x.dtype) for _ in range(2 if cell is LSTM else 1)]
    for i, state in enumerate(states):
        state[0] = carry[i] if carry else 0
    hidden = states[0]
    gates = hidden[None, 1:] if cell.gates == 1 else np.empty((cell.gates, time, n, units), x.dtype)
    run = Run(
        inputs.reshape(time * n, features + 1), gates, hidden,
        states[1] if cell is LSTM else None, np.empty_like(gates[0]) if cell is GRU else None,
    )  # fmt: skip
    weight = _by_gate(np.vstack([weights.weight, weights.bias]), units, cell.inputs, cell.sigmoids)
    sums = gates.reshape(cell.gates, time * n, units)

    def fill(part: slice) -> None:
        np.matmul(run.inputs, weight[part], out=sums[part])

    in_tasks(fill, range(cell.gates), inputs.size * units * cell.gates)
    recurrent = _by_gate(weights.recurrent_weight, units, cell.recurrent, cell.sigmoids)
    cell.steps(run, recurrent, weights.candidate_bias)
    return run


@tuned_by("run.gates")
def backward(
    cell: Cell, run: Run, weights: Weights, dys: Array | None, dcarry: Sequence[Array], *, need_dx: bool
) -> tuple[Weights, Array | None, tuple[Array, ...]]:
    """Back through time: returns the gradients of the weights, of x (n, time, features) or None, and of the carry.

    Given are the gradients of all outputs, dys (n, time, units), or None, and of the carry that the run ends with.
    """
    (_, time, n, units), dtype = run.gates.shape, run.gates.dtype
    dgates = np.empty((cell.gates + (cell is GRU), time, n, units), dtype)
    outputs = None if dys is None else dys.transpose(1, 0, 2)
    carry = _steps_back(cell, run, weights.recurrent_weight, dgates, outputs, dcarry)
    of_inputs, of_hidden = dgates[: cell.gates], dgates[-cell.gates :]
    dweight = _weight_gradient(run.inputs, of_inputs, cell.inputs)
    drecurrent = _weight_gradient(run.hidden[:-1].reshape(time * n, units), of_hidden, cell.recurrent)
    dcandidate = np.ones(time * n, dtype) @ of_hidden[-1].reshape(time * n, units) if cell is GRU else None
    dx = None
    if need_dx:
        dx = np.empty((n, time, len(weights.weight)), dtype)
        _input_gradient(of_inputs, _turned(weights.weight, units, cell.inputs), dx.transpose(1, 0, 2))
    return Weights(dweight[:-1], drecurrent, dweight[-1], dcandidate), dx, carry


def _by_gate(weight: Array, units: int, order: Sequence[int], halved: Sequence[int] = ()) -> Array:
    """Blocks of columns (in, gates · units) as matrices (gates, in, units) in an order, those of some gates halved."""
    blocks = [weight[:, gate * units : (gate + 1) * units] for gate in order]
    return np.stack([block * 0.5 if gate in halved else block for gate, block in zip(order, blocks, strict=True)])


def _turned(weight: Array, units: int, order: Sequence[int]) -> Array:
    """The transposed matrices (gates, units, in), in C order: BLAS would copy them so for every product."""
    return np.ascontiguousarray(_by_gate(weight, units, order).transpose(0, 2, 1))


def _weight_gradient(inputs: Array, dgates: Array, order: Sequence[int]) -> Array:
    """inputsᵀ · dgates, of (m, in) and (gates, time, n, units) with m = time · n, as blocks of columns again."""
    (m, size), gates, units = inputs.shape, len(dgates), dgates.shape[-1]
    flat, products = dgates.reshape(gates, m, units), np.empty((gates, size, units), dgates.dtype)

    def fill(part: slice) -> None:
        np.matmul(inputs.T, flat[part], out=products[part])

    in_tasks(fill, range(gates), inputs.size * units * gates)
    gradient = np.empty((size, gates, units), dgates.dtype)
    gradient[:, order] = products.transpose(1, 0, 2)
    return gradient.reshape(size, gates * units)


def _input_gradient(dgates: Array, weight: Array, dx: Array) -> None:
    """Fill dx (time, n, in) with Σ dgates · weight over the gates, (gates, time, n, units) and (gates, units, in)."""
    (gates, time, n, units), size = dgates.shape, dx.shape[2]
    blocks = slices(time, max(1, _ROWS // max(1, n)))

    def fill(part: slice) -> None:
        for steps in blocks[part]:
            count = steps.stop - steps.start
            shares = scratch("shares", (gates, count * n, size), dx.dtype)
            multiply(dgates[:, steps].reshape(gates, count * n, units), weight, shares)
            np.add.reduce(shares.reshape(gates, count, n, size), axis=0, out=dx[steps])

    in_tasks(fill, blocks, dgates.size * size)


def _steps_back(
    cell: Cell, run: Run, weight: Array, dgates: Array, dys: Array | None, dcarry: Sequence[Array]
) -> tuple[Array, ...]:
    """Fill dgates from the last step to the first, given dys (time, n, units): returns the gradient of the carry."""
    count, time, n, units = dgates.shape
    turned = _turned(weight, units, cell.recurrent)
    shares = np.empty((cell.gates, n, units), dgates.dtype)
    dhidden, *dcell = carry = tuple([each.copy() for each in dcarry])
    for steps in reversed(slices(time, max(1, _BLOCK // max(1, count * n * units)))):
        through = scratch("through", (steps.stop - steps.start, n, units), dgates.dtype)
        cell.slopes(run, steps, dgates[:, steps], through)
        for s in reversed(range(steps.start, steps.stop)):
            if dys is not None:
                dhidden += dys[s]
            cell.back(run, s, dgates[:, s], through[s - steps.start], dhidden, *dcell)
            multiply(dgates[-cell.gates :, s], turned, shares)
            if cell is GRU:
                shares[0] += dhidden
            np.add.reduce(shares, axis=0, out=dhidden)
    return carry


# --- The plain recurrence -------------------------------------------------------------------------------------


def _rnn_steps(activate: Callable[..., Array], run: Run, weight: Array, _: Array | None) -> None:
    product = np.empty_like(run.hidden[0])
    for before, after in zip(run.hidden, run.hidden[1:], strict=False):
        multiply(before, weight[0], product)
        after += product
        activate(after, out=after)


def _rnn_back(run: Run, s: int, dgates: Array, through: Array, dhidden: Array) -> None:
    dgates *= dhidden


def _relu(x: Array, out: Array) -> Array:
    return np.maximum(x, 0, out=out)


def _tanh_slopes(run: Run, steps: slice, slopes: Array, _: Array) -> None:
    _one_minus_square(run.gates[:, steps], slopes)


def _relu_slopes(run: Run, steps: slice, slopes: Array, _: Array) -> None:
    np.greater(run.gates[:, steps], 0, out=slopes, casting="unsafe")


def _one_minus_square(y: Array, out: Array) -> None:
    """The slope of tanh."""
    np.multiply(y, y, out=out)
    np.subtract(1, out, out=out)


# --- LSTM: gates i, f, g, o, which lie here as o, i, f, g -------------------------------------------------------


def _lstm_steps(run: Run, weight: Array, _: Array | None) -> None:
    hidden, cell_state = run.hidden, run.cell_state
    assert cell_state is not None
    sums, product = np.empty_like(run.gates[:, 0]), np.empty_like(hidden[0])
    for s in range(len(hidden) - 1):
        gates, c = run.gates[:, s], cell_state[s + 1]
        multiply(hidden[s], weight, sums)
        sums += gates
        np.tanh(sums, out=gates)
        _sigmoids(gates[:3])
        o, i, f, g = gates
        np.multiply(f, cell_state[s], out=c)
        c += np.multiply(i, g, out=product)
        np.multiply(o, np.tanh(c, out=product), out=hidden[s + 1])


def _sigmoids(tanhs: Array) -> None:
    """σ(x) in place of tanh(x / 2)."""
    tanhs *= 0.5
    tanhs += 0.5


def _lstm_slopes(run: Run, steps: slice, slopes: Array, through: Array) -> None:
    """For the sum z that a gate is made of, dh/dz of o and dc/dz of i, f and g; and dh/dc."""
    assert run.cell_state is not None
    gates, before, c = run.gates[:, steps], run.cell_state[:-1][steps], run.cell_state[1:][steps]
    o, i, _, g = gates
    np.multiply(gates[:3], gates[:3], out=slopes[:3])
    np.subtract(gates[:3], slopes[:3], out=slopes[:3])
    _one_minus_square(g, slopes[3])
    tanh_c = np.tanh(c)
    for slope, factor in zip(slopes, (tanh_c, g, before, i), strict=True):
        slope *= factor
    _one_minus_square(tanh_c, through)
    through *= o


def _lstm_back(run: Run, s: int, dgates: Array, through: Array, dhidden: Array, dcell: Array) -> None:
    through *= dhidden
    dcell += through
    dgates[0] *= dhidden
    dgates[1:] *= dcell
    dcell *= run.gates[2, s]


# --- GRU: gates r, z, n; those of the inputs lie here as n, r, z ------------------------------------------------


def _gru_steps(run: Run, weight: Array, bias: Array | None) -> None:
    candidates = run.candidate
    assert candidates is not None
    assert bias is not None
    sums, product = np.empty_like(run.gates[:, 0]), np.empty_like(run.hidden[0])
    for s in range(len(candidates)):
        gates, before, after = run.gates[:, s], run.hidden[s], run.hidden[s + 1]
        multiply(before, weight, sums)
        np.add(sums[2], bias, out=candidates[s])
        sums[:2] += gates[1:]
        np.tanh(sums[:2], out=gates[1:])
        _sigmoids(gates[1:])
        n, r, z = gates
        n += np.multiply(r, candidates[s], out=product)
        np.tanh(n, out=n)
        np.subtract(before, n, out=product)
        product *= z
        np.add(n, product, out=after)


def _gru_slopes(run: Run, steps: slice, slopes: Array, through: Array) -> None:
    """dh/dx for the sums x that n, r and z are made of, and last for the candidate, what r multiplies.

    So the first three are the gradients of what the inputs add, and the last three of what the hidden values add.
    """
    assert run.candidate is not None
    n, r, z = run.gates[:, steps]
    dn, dr, dz, dcandidate = slopes
    np.subtract(1, z, out=through)
    _one_minus_square(n, dn)
    dn *= through
    np.subtract(run.hidden[:-1][steps], n, out=dz)
    through *= z
    dz *= through
    np.multiply(dn, r, out=dcandidate)
    np.subtract(1, r, out=dr)
    dr *= dcandidate
    dr *= run.candidate[steps]


def _gru_back(run: Run, s: int, dgates: Array, through: Array, dhidden: Array) -> None:
    dgates *= dhidden
    dhidden *= run.gates[2, s]


TANH_RNN = Cell(1, (0,), (0,), (), partial(_rnn_steps, np.tanh), _tanh_slopes, _rnn_back)
RELU_RNN = Cell(1, (0,), (0,), (), partial(_rnn_steps, _relu), _relu_slopes, _rnn_back)
LSTM = Cell(4, (3, 0, 1, 2), (3, 0, 1, 2), (0, 1, 3), _lstm_steps, _lstm_slopes, _lstm_back)
GRU = Cell(3, (2, 0, 1), (0, 1, 2), (0, 1), _gru_steps, _gru_slopes, _gru_back)

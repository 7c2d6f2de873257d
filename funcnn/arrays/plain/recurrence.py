"""Recurrent cells step by step, their gates in the order of `funcnn.arrays.recurrence`.

h and c are the hidden and the cell state of a step, [a | b] columns side by side, σ(x) = 1 / (1 + exp(-x)):

    rnn   h' = tanh or relu (x · W + b + h · R)
    lstm  [i | f | g | o] = x · W + b + h · R,  c' = σ(f) · c + σ(i) · tanh(g),  h' = σ(o) · tanh(c')
    gru   [r | z | n] = x · W + b,  [r' | z' | n'] = h · R,  u = n' + b',
          h' = (1 - Z) · N + Z · h,  Z = σ(z + z'),  N = tanh(n + σ(r + r') · u)
"""

from collections.abc import Sequence

from funcnn.arrays.recurrence import GRU, LSTM, TANH_RNN, Cell, Run, Weights
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["backward", "forward"]


def forward(cell: Cell, x: Array, weights: Weights, carry: Sequence[Array] = ()) -> Run:
    """Sequences (n, time, features) through a cell, which begins with a carry, (h,) or (h, c), or else with zeros."""
    xp, (n, time, features), units = module_of(x), x.shape, len(weights.recurrent_weight)
    ones = xp.ones((time, n, 1), x.dtype)
    inputs = xp.concatenate([x.transpose(1, 0, 2), ones], axis=2).reshape(time * n, features + 1)
    sums = (inputs @ xp.vstack([weights.weight, weights.bias[None]])).reshape(time, n, cell.gates, units)
    h, *rest = carry or [xp.zeros((n, units), x.dtype)] * (2 if cell is LSTM else 1)
    hidden, cells, gates, candidates = [h], rest, [], []
    for s in range(time):
        product = (h @ weights.recurrent_weight).reshape(n, cell.gates, units)
        if cell is LSTM:
            z = sums[s] + product
            i, f, o = (_sigmoid(z[:, gate]) for gate in (0, 1, 3))
            g = xp.tanh(z[:, 2])
            c = f * cells[-1] + i * g
            h = o * xp.tanh(c)
            cells.append(c)
            gates.append(xp.stack([o, i, f, g]))
        elif cell is GRU:
            r, z = (_sigmoid(sums[s][:, gate] + product[:, gate]) for gate in (0, 1))
            u = product[:, 2] + weights.candidate_bias
            new = xp.tanh(sums[s][:, 2] + r * u)
            h = new + z * (h - new)
            candidates.append(u)
            gates.append(xp.stack([new, r, z]))
        else:
            z = sums[s][:, 0] + product[:, 0]
            h = xp.tanh(z) if cell is TANH_RNN else xp.maximum(z, 0)
            gates.append(h[None])
        hidden.append(h)
    return Run(
        inputs, xp.stack(gates, axis=1), xp.stack(hidden),
        xp.stack(cells) if cell is LSTM else None, xp.stack(candidates) if cell is GRU else None,
    )  # fmt: skip


def backward(
    cell: Cell, run: Run, weights: Weights, dys: Array | None, dcarry: Sequence[Array], *, need_dx: bool
) -> tuple[Weights, Array | None, tuple[Array, ...]]:
    """Back through time: the gradients of the weights, of x (n, time, features) or None, and of the carry."""
    xp, (_, time, n, units) = module_of(run.gates), run.gates.shape
    dh, *rest = dcarry
    of_inputs, of_hidden = [], []  # the gradients of the sums, by PyTorch's gates (gates, n, units), last step first
    for s in reversed(range(time)):
        if dys is not None:
            dh = dh + dys[:, s]
        before, after = run.hidden[s], run.hidden[s + 1]
        if cell is LSTM:
            assert run.cell_state is not None
            o, i, f, g = run.gates[:, s]
            tanh_c = xp.tanh(run.cell_state[s + 1])
            dc = rest[0] + dh * o * (1 - tanh_c * tanh_c)
            slopes = dc * g * i * (1 - i), dc * run.cell_state[s] * f * (1 - f), dc * i * (1 - g * g)
            dinputs = dhidden = xp.stack([*slopes, dh * tanh_c * o * (1 - o)])
            rest, through = [dc * f], None
        elif cell is GRU:
            assert run.candidate is not None
            new, r, z = run.gates[:, s]
            dn = dh * (1 - z) * (1 - new * new)
            dr, dz = dn * run.candidate[s] * r * (1 - r), dh * (before - new) * z * (1 - z)
            dinputs, dhidden = xp.stack([dr, dz, dn]), xp.stack([dr, dz, dn * r])
            through = dh * z
        else:
            slope = 1 - after * after if cell is TANH_RNN else after > 0
            dinputs = dhidden = (dh * slope)[None]
            through = None
        of_inputs.append(dinputs)
        of_hidden.append(dhidden)
        dh = _columns(dhidden) @ weights.recurrent_weight.T
        dh = dh if through is None else dh + through
    dinputs, dhidden = (_by_time(xp, each) for each in (of_inputs, of_hidden))
    dweight = run.inputs.T @ dinputs
    drecurrent = run.hidden[:-1].reshape(time * n, units).T @ dhidden
    dcandidate = dhidden[:, 2 * units :].sum(axis=0) if cell is GRU else None
    dx = (dinputs @ weights.weight.T).reshape(time, n, len(weights.weight)).transpose(1, 0, 2) if need_dx else None
    return Weights(dweight[:-1], drecurrent, dweight[-1], dcandidate), dx, (dh, *rest)


def _sigmoid(x: Array) -> Array:
    """By tanh, which overflows nowhere."""
    half: Array = 0.5 * module_of(x).tanh(0.5 * x) + 0.5
    return half


def _columns(gates: Array) -> Array:
    """(gates, n, units) -> (n, gates · units)."""
    count, n, units = gates.shape
    return gates.transpose(1, 0, 2).reshape(n, count * units)


def _by_time(xp, steps: list[Array]) -> Array:  # type: ignore[no-untyped-def]
    """Steps from last to first, each (gates, n, units), as rows (time · n, gates · units)."""
    return xp.concatenate([_columns(each) for each in reversed(steps)])  # type: ignore[no-any-return]

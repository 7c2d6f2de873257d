"""Problem set 6: sequences. README.md has the tasks.

Tokens are whole numbers (n, time), sequences of vectors (n, time, features). No function writes to its arguments.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from funcnn import Key, fold_in, generator

Array = NDArray[Any]


# --- Task 1: embedding ----------------------------------------------------------------------------------------


def embed(table: Array, tokens: Array) -> Array:
    """table (vocabulary, features), tokens (n, time) -> (n, time, features): each token's row of the table."""
    raise NotImplementedError("task 1")


def embed_gradient(tokens: Array, dy: Array, vocabulary: int) -> Array:
    """tokens (n, time), dy (n, time, features) -> the gradient of the table (vocabulary, features), in dy's dtype.

    A token that occurs several times gets the sum of what comes for it; one that does not occur gets 0.
    """
    raise NotImplementedError("task 1")


# --- Task 2: a recurrent layer --------------------------------------------------------------------------------


class RnnParams(NamedTuple):
    """weight_x (in, units), weight_h (units, units), bias (units,)."""

    weight_x: Array
    weight_h: Array
    bias: Array


def rnn_apply(params: RnnParams, x: Array) -> tuple[Array, Any]:
    """x (n, time, in) -> (h, residuals), h (n, time, units):

        h[:, t] = tanh(x[:, t] · weight_x + h[:, t - 1] · weight_h + bias)

    and zeros in the place of h[:, -1] before the first. The residuals are yours to choose.
    """
    raise NotImplementedError("task 2")


def rnn_backward(params: RnnParams, residuals: Any, dh: Array) -> tuple[RnnParams, Array]:
    """dh (n, time, units) -> (gradients, dx): the gradients of the params as RnnParams, and of x (n, time, in).

    dh[:, t] is the gradient of the loss in the output h[:, t], without what it does to the outputs after it: that is
    what going back through time adds.
    """
    raise NotImplementedError("task 2")


# --- Task 3: attention ----------------------------------------------------------------------------------------


def attention_apply(q: Array, k: Array, v: Array) -> tuple[Array, Any]:
    """Causal attention: queries q, keys k, values v, each (n, time, features) -> (y, residuals), y like v.

        scores[n, i, j] = q[n, i] · k[n, j] / sqrt(features)       for j ≤ i, and nothing for j > i
        shares[n, i]    = softmax of scores[n, i] over j ≤ i       (0 for j > i)
        y[n, i]         = Σ_j shares[n, i, j] · v[n, j]

    Finite for every finite score. The residuals are yours to choose.
    """
    raise NotImplementedError("task 3")


def attention_backward(residuals: Any, dy: Array) -> tuple[Array, Array, Array]:
    """dy (n, time, features) -> (dq, dk, dv), each (n, time, features)."""
    raise NotImplementedError("task 3")


# --- Task 4: sampling -----------------------------------------------------------------------------------------


def sample(logits: Array, key: Key, temperature: float = 1.0) -> int:
    """logits (vocabulary,) -> a token, an int: token i with the share softmax(logits / temperature)[i].

    With ``u = generator(key).random()`` it is the first token i for which the shares of the tokens 0 to i add up to
    more than u. At temperature 0 it is the token with the largest logit, the first of equal ones. Finite logits of any
    size will do.
    """
    raise NotImplementedError("task 4")


def generate(
    next_logits: Callable[[list[int]], Array], prompt: Sequence[int], n: int, key: Key, temperature: float = 1.0
) -> list[int]:
    """The prompt and n more tokens. `next_logits` takes a list of all tokens so far, and gives logits (vocabulary,).

    The i-th new token, counted from 0, is drawn by `sample` with the key ``fold_in(key, i)``.
    """
    raise NotImplementedError("task 4")


# --- See it work: python sequences.py -------------------------------------------------------------------------

SYMBOLS = "0123456789+= "


def sums(key: Key, n: int) -> str:
    """A text of n sums, such as "7+5=12 "."""
    return "".join(f"{a}+{b}={a + b} " for a, b in generator(key).integers(0, 10, (n, 2)))


def main() -> None:
    """Teach a recurrent net to add, character by character, and let it write sums."""
    from threadpoolctl import threadpool_limits

    from funcnn.losses import softmax_cross_entropy
    from funcnn.optimizers import adam

    threadpool_limits(1)  # these products are too small for several threads

    text = np.array([SYMBOLS.index(each) for each in sums(Key(0), 3000)])
    draw, units, size = generator(Key(1)), 96, len(SYMBOLS)
    params: Any = (
        draw.normal(0, 0.5, (size, 16)), draw.normal(0, 0.2, (16, units)), draw.normal(0, 0.1, (units, units)),
        np.zeros(units), draw.normal(0, 0.1, (units, size)), np.zeros(size),
    )  # fmt: skip
    optimizer = adam(5e-3)
    opt_state = optimizer.init(params)
    for step in range(1201):
        table, weight_x, weight_h, bias, weight, bias_out = params
        rnn = RnnParams(weight_x, weight_h, bias)
        tokens = text[draw.integers(0, len(text) - 25, (32, 1)) + np.arange(25)]
        h, residuals = rnn_apply(rnn, embed(table, tokens[:, :-1]))
        loss, dlogits, *_ = softmax_cross_entropy(h @ weight + bias_out, tokens[:, 1:])
        its, dx = rnn_backward(rnn, residuals, dlogits @ weight.T)
        rows = dlogits.reshape(-1, size)
        gradients = (
            embed_gradient(tokens[:, :-1], dx, size), *its, h.reshape(-1, units).T @ rows, rows.sum(axis=0),
        )  # fmt: skip
        params, opt_state = optimizer.update(gradients, opt_state, params, step)
        if step % 200 == 0:
            print(f"step {step:4}  loss {loss:.4f}")

    table, weight_x, weight_h, bias, weight, bias_out = params

    def next_logits(tokens: list[int]) -> Array:
        h, _ = rnn_apply(RnnParams(weight_x, weight_h, bias), embed(table, np.array([tokens])))
        logits: Array = h[0, -1] @ weight + bias_out
        return logits

    start = [SYMBOLS.index(each) for each in "3+4="]
    for temperature in (0.5, 1.0, 2.0):
        tokens = generate(next_logits, start, 60, Key(2), temperature)
        print(f"temperature {temperature}: {''.join(SYMBOLS[each] for each in tokens)}")


if __name__ == "__main__":
    main()

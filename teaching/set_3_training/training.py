"""Problem set 3: optimizers and training. README.md has the tasks.

Params and gradients are trees: tuples of arrays, or of such tuples. ``tree.map(f, a, b)`` makes a tree of f of each
leaf of a and the leaf at its place in b; ``tree.flatten(a)`` is the list of its leaves, and ``tree.unflatten(a,
leaves)`` makes a tree like a of such a list. No function writes to its arguments.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funcnn import Key, fold_in, generator, tree
from funcnn.layer import Layer
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import Optimizer
from funcnn.train import TrainState

Array = NDArray[Any]


# --- Task 1: descent and momentum -----------------------------------------------------------------------------


def sgd_update(lr: float, grads: Any, opt_state: Any, params: Any, step: int) -> tuple[Any, Any]:
    """w' = w - lr · g for every leaf -> (params, opt_state), the opt_state as it came."""
    raise NotImplementedError("task 1")


def momentum_init(params: Any) -> Any:
    """The velocity before the first step: a tree like the params, of zeros."""
    raise NotImplementedError("task 1")


def momentum_update(lr: float, decay: float, grads: Any, opt_state: Any, params: Any, step: int) -> tuple[Any, Any]:
    """v' = decay · v - lr · g; w' = w + v' -> (params, opt_state), with v' for the new opt_state."""
    raise NotImplementedError("task 1")


# --- Task 2: Adam ---------------------------------------------------------------------------------------------


def adam_init(params: Any) -> Any:
    """Both means before the first step: (mean, square), two trees like the params, of zeros."""
    raise NotImplementedError("task 2")


def adam_update(
    lr: float, b1: float, b2: float, epsilon: float, grads: Any, opt_state: Any, params: Any, step: int
) -> tuple[Any, Any]:
    """One step of Adam -> (params, opt_state), the opt_state (m', v'). Steps are counted from 0.

    m' = b1 · m + (1 - b1) · g
    v' = b2 · v + (1 - b2) · g²
    w' = w - lr · m̂ / (sqrt(v̂) + epsilon),  m̂ = m' / (1 - b1^t),  v̂ = v' / (1 - b2^t),  t = step + 1
    """
    raise NotImplementedError("task 2")


# --- Task 3: batches ------------------------------------------------------------------------------------------


def batches(n: int, batch_size: int, seed: int, epoch: int) -> list[Array]:
    """An epoch's batches of n examples: a list of arrays of positions, each of the n once; the last may be smaller.

    The order is ``generator(key).permutation(n)`` with the key ``fold_in(fold_in(Key(seed), "shuffle"), epoch)``: it
    follows from the seed and the epoch, and from nothing else.
    """
    raise NotImplementedError("task 3")


# --- Task 4: a step, and a loop -------------------------------------------------------------------------------


def train_step(
    net: Layer, optimizer: Optimizer, state: TrainState, x: Array, labels: Array
) -> tuple[TrainState, float]:
    """One step of training on a batch -> (the new TrainState, the loss before the step).

    A TrainState has params, state (what the net carries), opt_state, step and seed; the new one has step + 1 and the
    same seed. The net is applied with ``train=True`` and with the key ``fold_in(fold_in(Key(seed), "step"), step)``,
    step being that of the state that came; the loss is softmax cross-entropy.
    """
    raise NotImplementedError("task 4")


def train(
    net: Layer, optimizer: Optimizer, state: TrainState, x: Array, labels: Array, *, steps: int, batch_size: int
) -> tuple[TrainState, list[float]]:
    """So many steps from where the state is -> (the last state, the loss before each step).

    All examples are in x and labels. Step s of a run takes the batch s % k of the epoch s // k, k being the number of
    batches in an epoch: so a run that begins at step 7 takes what the eighth step of any run takes. Call `batches` and
    `train_step`.
    """
    raise NotImplementedError("task 4")


# --- Task 5: stop, and go on ----------------------------------------------------------------------------------


def save_state(path: Path, state: TrainState) -> None:
    """Write a state to a file at exactly this path, as arrays alone (`np.savez`; no pickle).

    Mind that `np.savez` adds ".npz" to a path without it; to an open file it writes as it is.
    """
    raise NotImplementedError("task 5")


def load_state(path: Path, like: TrainState) -> TrainState:
    """The state in a file, to the bit, dtypes too; its step and seed are ints.

    `like` is any state of the same net and optimizer, such as one at step 0: it has the structure of the trees.
    """
    raise NotImplementedError("task 5")


# --- See it work: python training.py --------------------------------------------------------------------------


def main() -> None:
    """Train on the digits, stop in the middle, go on, and compare with a run that never stopped."""
    import tempfile

    from funcnn.data import load
    from funcnn.models import fully_connected
    from funcnn.optimizers import adam
    from funcnn.train import Problem, evaluate, init_state

    data = load("digits")
    x, labels = data.train.take(slice(None))
    net, optimizer = fully_connected([64], 10, dropout=0.2), adam(3e-3)
    problem = Problem(net, softmax_cross_entropy, optimizer)
    start = init_state(problem, Key(0), data.in_shape)
    assert data.test is not None
    never_stopped, losses = train(net, optimizer, start, x, labels, steps=210, batch_size=64)
    for epoch in range(10):
        print(f"epoch {epoch + 1:2}  loss {np.mean(losses[epoch * 21 : (epoch + 1) * 21]):.4f}")
    print(f"test accuracy {evaluate(problem, never_stopped, data.test).accuracy:.4f}")
    with tempfile.TemporaryDirectory() as folder:
        stopped, _ = train(net, optimizer, start, x, labels, steps=100, batch_size=64)
        save_state(Path(folder, "state"), stopped)
        resumed = load_state(Path(folder, "state"), start)
    resumed, _ = train(net, optimizer, resumed, x, labels, steps=110, batch_size=64)
    print(f"stopped and resumed: {'the same bits' if tree.equal(resumed, never_stopped) else 'other bits'}")


if __name__ == "__main__":
    main()

"""The checks of problem set 3. Run them by `python grade.py set_3_training`, or by pytest."""

import math
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from grading import Student, check, close, equal, replaced, that, unchanged

from funcnn import Key, serial, tree
from funcnn.data import load
from funcnn.data.dataset import Dataset, Part
from funcnn.layers import batch_norm, dense, dropout, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam, momentum
from funcnn.team.member import epoch_order
from funcnn.train import Epoch, Problem, TrainState, evaluate, init_state, make_step, train

TASKS = {
    1: "descent and momentum",
    2: "Adam",
    3: "batches",
    4: "a step, and a loop",
    5: "stop, and go on",
}
student = Student(Path(__file__).with_name("training.py"))


def values(*shape: int, seed: int = 0) -> Any:
    """Gaussian numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


def a_tree(seed: int) -> Any:
    """A tree such as params are."""
    return (values(2, 3, seed=seed), values(3, seed=seed + 1)), None, values(1, seed=seed + 2)


def same(what: str, got: Any, expected: Any, mistakes: Any = None, rtol: float = 1e-7) -> None:
    """Raise Wrong unless two trees have one structure and close numbers; the mistakes are trees too."""
    paths = tree.paths(got), tree.paths(expected)
    equal(f"the paths of {what}", *paths, "Make trees by tree.map")
    leaves = [tree.flatten(each) for each in (got, expected)]
    for i, (path, one, other) in enumerate(zip(paths[0], *leaves, strict=True)):
        its = {advice: tree.flatten(wrong)[i] for advice, wrong in (mistakes or {}).items()}
        close(f"{what} {path}", one, other, mistakes=its, rtol=rtol)


# --- Task 1 ---------------------------------------------------------------------------------------------------


@check(task=1, points=1)
def test_sgd() -> None:
    """a step of descent"""
    params, grads = a_tree(0), a_tree(5)
    new, opt_state = student.sgd_update(0.1, grads, None, params, 0)
    mistakes = {"Downhill is against the gradient": tree.map(lambda w, g: w + 0.1 * g, params, grads)}
    same("params", new, tree.map(lambda w, g: w - 0.1 * g, params, grads), mistakes)
    equal("the opt_state", opt_state, None, "It goes through as it came")


@check(task=1, points=2)
def test_momentum() -> None:
    """three steps of momentum"""
    params, w, v = a_tree(0), a_tree(0), tree.map(np.zeros_like, a_tree(0))
    damped = v
    opt_state = student.momentum_init(params)
    same("momentum_init", opt_state, v)
    for step in range(3):
        grads = a_tree(10 + step)
        params, opt_state = student.momentum_update(0.1, 0.8, grads, opt_state, params, step)
        old = v
        v = tree.map(lambda v, g: 0.8 * v - 0.1 * g, v, grads)
        damped = tree.map(lambda d, g: 0.8 * d - 0.2 * 0.1 * g, damped, grads)
        late = tree.map(lambda w, v: w + v, w, old)
        w = tree.map(lambda w, v: w + v, w, v)
        mistakes = {
            "The gradient has the factor lr, not (1 - decay) · lr": damped,
            "The gradient has the factor -lr": tree.map(lambda v: -v, v),
            "The gradient has the factor -lr, here and not where params move": tree.map(lambda v: -v / 0.1, v),
        }
        same(f"the velocity after step {step}", opt_state, v, mistakes)
        mistakes = {"It is the new velocity that moves the params": late}
        same(f"params after step {step}", params, w, mistakes)


@check(task=1, points=1)
def test_sgd_and_momentum_are_pure() -> None:
    """neither writes to its arguments"""
    params, grads, velocity = a_tree(0), a_tree(5), a_tree(10)
    with unchanged(params=params, grads=grads, opt_state=velocity):
        student.sgd_update(0.1, grads, None, params, 0)
        student.momentum_init(params)
        student.momentum_update(0.1, 0.9, grads, velocity, params, 0)


# --- Task 2 ---------------------------------------------------------------------------------------------------


@check(task=2, points=1)
def test_first_step_of_adam() -> None:
    """the first step is lr against each gradient's sign, whatever the gradient's size"""
    params, grads = a_tree(0), tree.map(lambda g: 1e-3 * g, a_tree(5))
    new, _ = student.adam_update(0.1, 0.9, 0.999, 1e-30, grads, student.adam_init(params), params, 0)
    bare = tree.map(lambda w, g: w - 0.1 * (0.1 * g) / np.sqrt(0.001 * g * g), params, grads)
    unlike = tree.map(lambda w, g: w - 0.1 * (0.1 * g) / abs(g) / (1 - 0.9**2), params, grads)
    mistakes = {
        "Both means begin at zero: divide them by 1 - b^t": bare,
        "Steps are counted from 0: at step 0, t is 1": unlike,
    }
    same("params", new, tree.map(lambda w, g: w - 0.1 * np.sign(g), params, grads), mistakes, rtol=1e-5)


@check(task=2, points=2)
def test_adam() -> None:
    """five steps of Adam, in plain numbers"""
    w, m, v = 2.0, 0.0, 0.0
    params: Any = (np.array([2.0]),)
    opt_state = student.adam_init(params)
    for step, g in enumerate([0.5, -0.01, 3.0, 0.0, -0.2]):
        params, opt_state = student.adam_update(0.1, 0.8, 0.9, 1e-2, (np.array([g]),), opt_state, params, step)
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        m_hat, v_hat = m / (1 - 0.8 ** (step + 1)), v / (1 - 0.9 ** (step + 1))
        inside = w - 0.1 * m_hat / math.sqrt(v_hat + 1e-2)
        w = w - 0.1 * m_hat / (math.sqrt(v_hat) + 1e-2)
        close(f"m' of step {step}", opt_state[0][0], [m], mistakes={"The means that go on are m' and v'": [m_hat]})
        close(f"v' of step {step}", opt_state[1][0], [v], mistakes={"The means that go on are m' and v'": [v_hat]})
        mistakes = {"epsilon is added to the root, not under it": [inside]}
        close(f"w' of step {step}", params[0], [w], mistakes=mistakes)


@check(task=2, points=1)
def test_adam_is_pure() -> None:
    """it writes to none of its arguments"""
    params, grads = a_tree(0), a_tree(5)
    opt_state = a_tree(10), tree.map(np.square, a_tree(15))
    with unchanged(params=params, grads=grads, opt_state=opt_state):
        student.adam_init(params)
        student.adam_update(0.1, 0.9, 0.999, 1e-8, grads, opt_state, params, 3)


# --- Task 3 ---------------------------------------------------------------------------------------------------


@check(task=3, points=1)
def test_each_once() -> None:
    """each example once, in an order that is not their own"""
    found = np.concatenate(student.batches(50, 8, 0, 0))
    equal("the number of positions", len(found), 50, "The last batch is smaller, and counts")
    equal("the positions, sorted", np.sort(found).tolist(), list(range(50)), "Each example once, without replacement")
    that(found.tolist() != list(range(50)), "the examples come in their own order: shuffle them")


@check(task=3, points=1)
def test_sizes() -> None:
    """batches of the size asked for, the last one smaller"""
    for n, size, right in ((10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 64, [3])):
        got = [len(batch) for batch in student.batches(n, size, 1, 2)]
        equal(f"the sizes for n={n}, batch_size={size}", got, right)


@check(task=3, points=1)
def test_order() -> None:
    """the order from the seed and the epoch alone, by their key"""
    for seed, epoch in ((0, 0), (0, 1), (3, 1), (0, 0)):
        got = np.concatenate(student.batches(20, 6, seed, epoch))
        equal(f"the order for seed {seed}, epoch {epoch}", got.tolist(), epoch_order(seed, epoch, 20).tolist())


# --- Task 4 ---------------------------------------------------------------------------------------------------


def right_batches(n: int, batch_size: int, seed: int, epoch: int) -> Any:
    """What task 3 asks for."""
    order = epoch_order(seed, epoch, n)
    return np.split(order, range(batch_size, n, batch_size))


def right_step(net: Any, optimizer: Any, state: Any, x: Any, labels: Any) -> Any:
    """The library's step."""
    state, metrics = make_step(Problem(net, softmax_cross_entropy, optimizer))(state, (x, labels))
    return state, metrics.loss


def examples(n: int = 25) -> tuple[Any, Any]:
    """Examples of 6 numbers, of 3 classes."""
    return values(n, 6).astype(np.float32), np.arange(n) % 3


PLAIN = serial(dense(5), relu(), dense(3))
DRAWS = serial(dense(8), batch_norm(), relu(), dropout(0.5), dense(3))


@cache
def begun(net: Any, optimizer: Any, steps: int = 7) -> Any:
    """The state of a run after so many steps, by the library."""
    x, labels = examples()
    problem = Problem(net, softmax_cross_entropy, optimizer)
    state = init_state(problem, Key(1), (6,))
    data = Dataset(Part(x, labels), None, None, range(3), (6,))
    for event in train(problem, state, data, epochs=max(steps, 1), batch_size=10, epoch_steps=1):
        state = event.state if isinstance(event, Epoch) and steps else state
    return state


@check(task=4, points=2)
def test_step() -> None:
    """a step of a plain net"""
    (x, labels), optimizer = examples(8), momentum(0.1)
    state = begun(PLAIN, optimizer)
    with unchanged(state=state, x=x, labels=labels):
        new, loss = student.train_step(PLAIN, optimizer, state, x, labels)
    right, right_loss = right_step(PLAIN, optimizer, state, x, labels)
    close("the loss", loss, right_loss, rtol=1e-5)
    that(isinstance(new, TrainState), f"expected a TrainState, got {type(new).__name__}")
    same("params", new.params, right.params, {"They are those that came": state.params}, rtol=1e-4)
    mistakes = {"The optimizer's new state is to be kept": state.opt_state}
    same("the opt_state", new.opt_state, right.opt_state, mistakes, rtol=1e-4)


@check(task=4, points=1)
def test_step_of_a_net_that_draws_and_carries() -> None:
    """the key for dropout, batch norm's state, the step's number"""
    (x, labels), optimizer = examples(8), adam(0.01)
    state = begun(DRAWS, optimizer)
    new, loss = student.train_step(DRAWS, optimizer, state, x, labels)
    right, right_loss = right_step(DRAWS, optimizer, state, x, labels)
    equal("the step", new.step, 8, "One more than that of the state that came")
    equal("the seed", new.seed, 1)
    same("the net's state", new.state, right.state, {"It is what apply gave that goes on": state.state}, rtol=1e-5)
    advice = "Is train=True passed, and the key of this seed and this step?"
    that(abs(loss - right_loss) < 1e-5, f"the loss: expected {right_loss:.6g}, got {loss:.6g}. {advice}")


@check(task=4, points=1)
def test_loop() -> None:
    """a loop through two epochs, from the beginning and from the middle"""
    (x, labels), optimizer = examples(), momentum(0.1)
    with replaced(student, batches=right_batches, train_step=right_step):
        for first in (0, 4):
            state = begun(PLAIN, optimizer, first)
            with unchanged(state=state):
                new, losses = student.train(PLAIN, optimizer, state, x, labels, steps=5, batch_size=10)
            right = begun(PLAIN, optimizer, first + 5)
            equal(f"the step after 5 from {first}", new.step, first + 5)
            equal("the number of losses", len(losses), 5)
            advice = "Step s takes the batch s % 3 of the epoch s // 3 here"
            near = all(map(partial(np.allclose, rtol=1e-4), tree.flatten(new.params), tree.flatten(right.params)))
            that(near, f"params after 5 steps from step {first}: others than the library's. {advice}")


@check(task=4, points=1)
def test_digits() -> None:
    """digits: a test accuracy of 0.9 after 60 steps"""
    data = load("digits")
    x, labels = data.train.take(slice(None))
    assert data.test is not None
    net, optimizer = fully_connected([64], 10), adam(1e-2)
    problem = Problem(net, softmax_cross_entropy, optimizer)
    state = init_state(problem, Key(0), data.in_shape)
    with replaced(student, batches=right_batches):
        state, _ = student.train(net, optimizer, state, x, labels, steps=60, batch_size=64)
    accuracy = float(evaluate(problem, state, data.test).accuracy or 0.0)
    that(accuracy >= 0.9, f"test accuracy: expected at least 0.9, got {accuracy:.4f}")


# --- Task 5 ---------------------------------------------------------------------------------------------------


def through_a_file(state: Any, like: Any, name: str = "state") -> Any:
    """A state, saved and loaded by the student's functions."""
    with tempfile.TemporaryDirectory() as folder:
        with unchanged(state=state):
            student.save_state(Path(folder, name), state)
        return student.load_state(Path(folder, name), like)


@check(task=5, points=2)
def test_round_trip() -> None:
    """a state comes back to the bit, with its dtypes, step and seed"""
    for net, optimizer in ((PLAIN, momentum(0.1)), (DRAWS, adam(0.01))):
        state = begun(net, optimizer)
        like = init_state(Problem(net, softmax_cross_entropy, optimizer), Key(0), (6,))
        got = through_a_file(state, like)
        that(isinstance(got, TrainState), f"expected a TrainState, got {type(got).__name__}")
        equal("the step", got.step, 7)
        equal("the seed", got.seed, 1, "It is that of the file, not of `like`")
        equal("the type of the step", type(got.step), int, "Take int(...) of it")
        equal("the type of the seed", type(got.seed), int, "Take int(...) of it")
        equal("the paths of the state", tree.paths(got), tree.paths(state))
        for path, one, other in zip(tree.paths(state), tree.flatten(got), tree.flatten(state), strict=True):
            dtypes = np.asarray(one).dtype, np.asarray(other).dtype
            equal(f"the dtype of {path}", *dtypes, "Save arrays as they are")
            that(np.array_equal(one, other), f"{path} comes back with other numbers. Is it saved to the last bit?")


@check(task=5, points=1)
def test_file() -> None:
    """one file at exactly the path that is asked for, without pickle"""
    state = begun(PLAIN, momentum(0.1), 1)
    with tempfile.TemporaryDirectory() as folder:
        student.save_state(Path(folder, "my state"), state)
        names = sorted(path.name for path in Path(folder).iterdir())
        equal("the files that are left", names, ["my state"], "np.savez adds .npz to a path: give it an open file")
        with np.load(Path(folder, "my state"), allow_pickle=False) as file:
            for name in file.files:
                file[name]  # raises ValueError for what is pickled


@check(task=5, points=1)
def test_resume() -> None:
    """a run that is stopped within an epoch and resumed ends in the same bits"""
    for net, optimizer in ((PLAIN, momentum(0.1)), (DRAWS, adam(0.01))):
        (x, labels), stopped, end = examples(), begun(net, optimizer, 4), begun(net, optimizer, 9)
        like = init_state(Problem(net, softmax_cross_entropy, optimizer), Key(5), (6,))
        state = through_a_file(stopped, like)
        while state.step < 9:
            epoch, place = divmod(state.step, 3)
            batch = right_batches(25, 10, state.seed, epoch)[place]
            state, _ = right_step(net, optimizer, state, x[batch], labels[batch])
        that(tree.equal(state, end), "the resumed run ends in other bits than one that never stopped")

"""Teams of real processes: the bits of one process, states that never change, and an end that leaves nothing behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from cases import gaussian
from processes import linux, none_left, start, wait_for

from funcnn import Key, serial, tree
from funcnn.checks import ShapeError
from funcnn.compose import branches, residual
from funcnn.data import Dataset, Part, load
from funcnn.keys import generator
from funcnn.layers import batch_norm, conv2d, dense, dropout, flatten, max_pool2d, relu
from funcnn.losses import mean_squared_error, softmax_cross_entropy
from funcnn.optimizers import (
    Optimizer,
    OptimizerSettings,
    adam,
    adamw,
    chain,
    clip_by_global_norm,
    make_optimizer,
    momentum,
    sgd,
    weights_only,
)
from funcnn.settings import config
from funcnn.team import Team, TeamError
from funcnn.team.team import _Slot
from funcnn.train import (
    Epoch,
    Model,
    NonFiniteError,
    Problem,
    TrainState,
    evaluate,
    init_state,
    make_step,
    predict,
    train,
)  # fmt: skip

DIGITS = load("digits")
SMALL = Dataset(
    Part(DIGITS.train.inputs[:90], DIGITS.train.targets[:90], DIGITS.train.preprocess),
    Part(DIGITS.validation.inputs[:40], DIGITS.validation.targets[:40], DIGITS.train.preprocess),
    DIGITS.test, DIGITS.classes, DIGITS.in_shape,
)  # fmt: skip
NET = serial(
    conv2d(4, 3), batch_norm(), relu(), residual(serial(conv2d(4, 3, padding="same"), batch_norm())), max_pool2d(2),
    dropout(0.3), flatten(), dense(10),
)  # fmt: skip


def shaken(inputs: Any, key: Key) -> Any:
    return inputs + generator(key).normal(size=inputs.shape).astype(inputs.dtype)


def problem_of(optimizer: Optimizer) -> Problem:
    return Problem(NET, softmax_cross_entropy, optimizer, augment=(shaken,))


@pytest.fixture(scope="module")
def pair() -> Iterator[Team]:
    """A team of two, with shards for more."""
    with Team(2, shards=4) as team:
        yield team


# --- Bits -----------------------------------------------------------------------------------------------------


def trained(problem: Problem, state: TrainState, workers: int, epochs: int = 2) -> list[Epoch]:
    events = train(problem, state, SMALL, epochs=epochs, batch_size=32, workers=workers, shards=4)
    return [event for event in events if isinstance(event, Epoch)]


def same(one: Epoch, other: Epoch) -> bool:
    return tree.equal(one.state, other.state) and (one.train, one.validation) == (other.train, other.validation)


@pytest.mark.parametrize(
    "optimizer",
    [adam(0.01), adamw(0.01, mask=weights_only), chain(clip_by_global_norm(0.1), momentum(0.1))],
    ids=["one vector", "by leaf", "by the first"],
)
def test_the_number_of_workers_changes_no_bit(optimizer: Optimizer) -> None:
    problem = problem_of(optimizer)
    state = init_state(problem, Key(3), SMALL.in_shape)
    alone = trained(problem, state, 1)
    for workers in (2, 3, 4) if optimizer == adam(0.01) else (2,):
        assert all(map(same, trained(problem, state, workers), alone))


def test_a_run_goes_on_with_other_workers() -> None:
    problem = problem_of(adam(0.01))
    state = init_state(problem, Key(3), SMALL.in_shape)
    whole = trained(problem, state, 1)
    first = trained(problem, state, 2, epochs=1)[-1].state
    copied = TrainState(*[tree.map(np.copy, each) for each in (first.params, first.state, first.opt_state)], 3, 3)
    assert same(trained(problem, copied, 3)[-1], whole[-1])
    events = train(problem, state, SMALL, epochs=2, batch_size=32, workers=2, shards=4)
    for _ in range(2):
        middle = next(events)
    events.close()  # type: ignore[attr-defined]
    assert middle.step == 2


def test_a_team_takes_steps_of_ones_own_loop(pair: Team) -> None:
    problem = problem_of(adam(0.01))
    state = init_state(problem, Key(1), SMALL.in_shape)
    alone, together = make_step(problem, shards=4), make_step(problem, team=pair)
    expected = state
    for n in (32, 5, 2, 1, 90):  # fewer examples than shards, and than members
        batch = SMALL.train.take(slice(n))
        expected, metrics = alone(expected, batch)
        state, its_metrics = together(state, batch)
        assert tree.equal(state, expected)
        assert its_metrics == metrics


def test_a_team_leaves_large_products_as_whole_as_shards_on_threads(pair: Team) -> None:
    problem = Problem(serial(dense(301), dense(311)), mean_squared_error, sgd(0.1))
    state = init_state(problem, Key(1), (257,), np.float64)  # in float64 a product that is cut has other bits here
    batch = gaussian((4 * 263, 257), np.float64), gaussian((4 * 263, 311), np.float64, "targets")
    assert tree.equal(make_step(problem, team=pair)(state, batch), make_step(problem, shards=4)(state, batch))


def test_another_problem_or_another_form_of_state_is_begun_with(pair: Team) -> None:
    for dtype, loss in ((np.float64, mean_squared_error), (np.float32, mean_squared_error)):
        problem = Problem(serial(dense(3), batch_norm(), dense(2)), loss, sgd(0.1))
        for width in (4, 5):
            state = init_state(problem, Key(1), (width,), dtype)
            batch = gaussian((9, width), dtype), gaussian((9, 2), dtype, "targets")
            assert tree.equal(make_step(problem, team=pair)(state, batch), make_step(problem, shards=4)(state, batch))


def in_a_process() -> None:
    try:
        with Team(2):
            pass
    except TeamError as error:
        sys.exit(7 if "this process is a daemon" in str(error) else 8)


@pytest.mark.parametrize(("method", "daemon", "code"), [("forkserver", False, 0), ("spawn", True, 7)])
def test_a_team_starts_in_any_process_that_may_start_others(method: str, daemon: bool, code: int) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    process = multiprocessing.get_context(method).Process(target=in_a_process, daemon=daemon)
    process.start()
    process.join(60)
    assert process.exitcode == code


def test_a_team_weighs_examples_as_one_process_does(pair: Team) -> None:
    problem = Problem(NET, partial(softmax_cross_entropy, ignore=7), adam(0.01))
    weights = gaussian((90,), np.float64, "weights") ** 2
    for part in (SMALL.train, Part(SMALL.train.inputs, SMALL.train.targets, SMALL.train.preprocess, weights)):
        state = init_state(problem, Key(1), SMALL.in_shape)
        batch = part.take(slice(0, 41))
        assert tree.equal(make_step(problem, team=pair)(state, batch), make_step(problem, shards=4)(state, batch))
        assert evaluate(problem, state, part, batch_size=16, workers=2) == evaluate(problem, state, part, batch_size=16)


def test_what_is_evaluated_by_a_team_is_what_one_process_finds(pair: Team) -> None:
    problem = problem_of(adam(0.01))
    state = init_state(problem, Key(1), SMALL.in_shape)
    made = pair.evaluate(problem, state, SMALL.validation, 16)
    assert [each.weight for each, _ in made] == [16, 16, 8]
    mean = sum(each.loss * each.weight for each, _ in made) / 40
    assert mean == evaluate(problem, state, SMALL.validation, batch_size=16).loss


def test_workers_share_what_is_evaluated_and_predicted() -> None:
    problem = problem_of(adam(0.01))
    state = init_state(problem, Key(1), SMALL.in_shape)
    here = evaluate(problem, state, SMALL.test, batch_size=50)
    assert evaluate(problem, state, SMALL.test, batch_size=50, workers=2) == here
    for inputs in (SMALL.test, SMALL.test.take(slice(100))[0]):
        outputs = predict(NET, Model(state.params, state.state), inputs, batch_size=30, workers=2)
        np.testing.assert_array_equal(outputs, predict(NET, state, inputs, batch_size=30), strict=True)
        outputs[0] = 0  # they are the caller's


def test_a_team_predicts_again_and_again(pair: Team) -> None:
    problem = problem_of(adam(0.01))
    state = init_state(problem, Key(1), SMALL.in_shape)
    images, step, blocks = SMALL.train.take(slice(90))[0].copy(), make_step(problem, team=pair), []
    for turn in range(3):
        state, _ = step(state, SMALL.train.take(slice(8)))
        # By 10, the batches are enough for a plan to pay; by 30, they are not.
        for inputs, size in ((SMALL.test, 10), (SMALL.test, 30), (images, 10), (images, 30), (SMALL.test, 10)):
            outputs = predict(NET, state, inputs, batch_size=size, team=pair)
            np.testing.assert_array_equal(outputs, predict(NET, state, inputs, batch_size=size), strict=True)
        assert evaluate(problem, state, SMALL.test, team=pair) == evaluate(problem, state, SMALL.test)
        images += turn + 1  # an array may change
        blocks.append(len(pair._blocks))
    assert blocks[1:] == blocks[1:2] * 2  # the memory of outputs is theirs


def test_a_team_predicts_of_several_inputs_several_outputs(pair: Team) -> None:
    net = serial(branches(dense(2), relu()))
    params, state, _ = net.init(Key(1), ((3,), (4,)))
    for n in (50, 60):
        inputs = gaussian((n, 3), np.float32), gaussian((n, 4), np.float32, "other")
        outputs = predict(net, Model(params, state), inputs, batch_size=16, team=pair)
        for made, expected in zip(outputs, predict(net, Model(params, state), inputs, batch_size=16), strict=True):
            np.testing.assert_array_equal(made, expected, strict=True)


def test_a_team_has_a_model_once_unless_somebody_may_change_it(pair: Team) -> None:
    params, state, _ = NET.init(Key(1), SMALL.in_shape)
    kept, writable = Model(params, state), Model(tree.map(np.copy, params), state)
    for model in (kept, writable, kept):
        predict(NET, model, SMALL.test, team=pair)
        np.testing.assert_array_equal(predict(NET, model, SMALL.test, team=pair), predict(NET, model, SMALL.test))
    begun = pair._begun
    assert [slot.state() for slot in pair._slots if slot.state()] == [kept]
    writable.params[0].weight[:] = 1
    np.testing.assert_array_equal(predict(NET, writable, SMALL.test, team=pair), predict(NET, writable, SMALL.test))
    assert pair._begun is begun  # and it has not sent the net and the examples again
    for call in (partial(predict, NET), partial(evaluate, problem_of(adam(0.01)))):
        with pytest.raises(ValueError, match=r": workers must be the team's, 2, or left out, got 3$"):
            call(kept, SMALL.test, workers=3, team=pair)
        with pytest.raises(ValueError, match=r": team must be a Team, got 2$"):
            call(kept, SMALL.test, team=2)


# --- States are values ----------------------------------------------------------------------------------------


def test_no_state_ever_changes(pair: Team) -> None:
    problem = problem_of(adam(0.01))
    step = make_step(problem, team=pair)
    states = [init_state(problem, Key(2), SMALL.in_shape)]
    for _ in range(4):
        states.append(step(states[-1], SMALL.train.take(slice(8)))[0])
    copies = [tree.map(np.copy, (each.params, each.state, each.opt_state)) for each in states]
    leaf = states[2].params[0].weight  # all that is left of a state keeps its memory
    weight = leaf.copy()
    for i in (4, 1, 0, 3):  # from any of them, to others
        made = step(states[i], SMALL.train.take(slice(8, 20)))[0]
        assert tree.equal(step(states[i], SMALL.train.take(slice(8, 20)))[0], made)
    assert all(tree.equal((s.params, s.state, s.opt_state), copy) for s, copy in zip(states, copies, strict=True))
    state = states[0]
    del states, made
    for _ in range(6):
        state = step(state, SMALL.train.take(slice(8)))[0]
    np.testing.assert_array_equal(leaf, weight)
    with pytest.raises(ValueError, match="read-only"):
        state.params[0].weight[:] = 0
    slots: list[_Slot] = pair._slots
    assert len(slots) <= 12  # memory is used again when nobody has the state in it
    count = len(slots)
    for _ in range(6):
        state = step(state, SMALL.train.take(slice(8)))[0]
    assert len(pair._slots) == count


# --- What goes wrong ------------------------------------------------------------------------------------------


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^Team: size must be an int of at least 1, got 0"):
        Team(0)
    with Team(1, shards=3) as team, pytest.raises(ValueError, match=r"^make_step: shards must be the team's, 3, or"):
        make_step(problem_of(adam(0.01)), shards=2, team=team)
    with pytest.raises(ValueError, match=r"^Team: shards must be at least 3, one for each member, got 2"):
        Team(3, shards=2)
    problem = problem_of(adam(0.01))
    state = init_state(problem, Key(1), SMALL.in_shape)
    with pytest.raises(ValueError, match=r"^train: shards must be at least 2, one for each worker, got 1"):
        train(problem, state, SMALL, epochs=1, batch_size=8, workers=2, shards=1)
    with pytest.raises(ValueError, match=r"^train: workers must be an int of at least 1, got 1\.5"):
        train(problem, state, SMALL, epochs=1, batch_size=8, workers=1.5)  # type: ignore[arg-type]


def own_children() -> set[int | None]:
    return {child.pid for child in multiprocessing.active_children() if child.name.startswith("funcnn-")}


def test_what_cannot_be_sent_is_said_and_nobody_is_left() -> None:
    problem = Problem(dense(2), lambda outputs, targets: mean_squared_error(outputs, targets), sgd(0.1))
    state = init_state(problem, Key(0), (3,))
    before = own_children()
    team, batch = Team(2), (np.ones((4, 3), np.float32), np.ones((4, 2), np.float32))
    with pytest.raises(TeamError, match=r"cannot be sent to another process \(.*lambda.*\)\. Make it of"), team:
        make_step(problem, team=team)(state, batch)
    assert own_children() == before
    sendable = Problem(dense(2), mean_squared_error, sgd(0.1))
    with pytest.raises(TeamError, match=r"^the team has ended, or is another process's: make another"):
        make_step(sendable, team=team)(state, batch)


def raises_elsewhere(outputs: Any, targets: Any) -> Any:
    """A loss that fails in the processes that a team starts, and not in the first."""
    if multiprocessing.parent_process() is not None:
        raise ArithmeticError("the moon is full")
    return mean_squared_error(outputs, targets)


def dies_elsewhere(outputs: Any, targets: Any) -> Any:
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return mean_squared_error(outputs, targets)


def one_step(loss: Any, inputs: Any) -> None:
    problem = Problem(serial(dense(2), batch_norm(), dense(2)), loss, sgd(0.1))
    state = init_state(problem, Key(0), (3,))
    with Team(2) as team:
        make_step(problem, team=team)(state, (inputs, np.ones((4, 2), np.float32)))


def test_a_member_that_raises_ends_the_team_with_its_error() -> None:
    before = own_children()
    with pytest.raises(ArithmeticError, match="the moon is full") as caught:
        one_step(raises_elsewhere, np.ones((4, 3), np.float32))
    assert "In member 1 of the team" in "".join(caught.value.__notes__)
    assert own_children() == before


@pytest.mark.skipif(os.name != "posix", reason="kills by a signal")
def test_a_member_that_is_killed_ends_the_team_soon() -> None:
    before, began = own_children(), time.monotonic()
    with pytest.raises(TeamError, match=r"a process of the team, funcnn-1, was killed by SIGKILL\. If the mem"):
        one_step(dies_elsewhere, np.ones((4, 3), np.float32))
    assert time.monotonic() - began < 10  # its start is in it
    assert own_children() == before


def test_errors_are_those_of_one_process() -> None:
    with pytest.raises(ShapeError, match=r"^serial\[0\] dense\(units=2\): expected"):
        one_step(mean_squared_error, np.ones((4, 5), np.float32))
    inputs = np.ones((4, 3), np.float32)
    inputs[3] = np.nan
    with pytest.raises(NonFiniteError, match=r"^step 0: the loss is nan"):
        one_step(mean_squared_error, inputs)


# --- Programs of their own ------------------------------------------------------------------------------------

PROGRAM = """
import time
from funcnn import Key
from funcnn.data import load
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam
from funcnn.train import Epoch, Problem, init_state, train

def main():
    data = load("digits")
    problem = Problem(fully_connected([32], 10), softmax_cross_entropy, adam(0.01))
    state = init_state(problem, Key(0), data.in_shape)
    for event in train(problem, state, data, epochs=EPOCHS, batch_size=64, workers=2):
        if isinstance(event, Epoch):
            print(event.epoch, f"{event.train.loss:.4f}", flush=True)
"""


def test_it_works_from_a_command_line_and_from_a_script(tmp_path: Path) -> None:
    program = PROGRAM.replace("EPOCHS", "2")
    script = tmp_path / "script.py"
    script.write_text(program + '\nif __name__ == "__main__":\n    main()\n')
    printed = [
        subprocess.run([sys.executable, *how], capture_output=True, text=True, timeout=120, check=True).stdout
        for how in (["-c", program + "\nmain()\n"], [script])
    ]
    assert printed[0] == printed[1]
    assert len(printed[0].splitlines()) == 2


def test_a_script_without_its_guard_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(PROGRAM.replace("EPOCHS", "2") + "\nmain()\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    expected = "ended with exit code 1 before it had begun. A script trains below `if __name__ == '__main__':`"
    assert expected in done.stderr.splitlines()[-1]


@linux
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_nobody_survives_the_first_member(how: signal.Signals, tmp_path: Path) -> None:
    # A file that were left to be closed would swallow an interrupt that came while it is.
    told = "with open(folder + '/epochs', 'w') as file: file.write(str("
    program = PROGRAM.replace("EPOCHS", "10_000").replace("print(", told)
    program = program.replace(', f"{event.train.loss:.4f}", flush=True)', "))")
    where = "import faulthandler\nfaulthandler.dump_traceback_later(10)\n"  # so that a failure says where it hangs
    process = start(where + program + "\nmain()\n", tmp_path)
    wait_for((tmp_path / "epochs").exists, "training")
    began = time.monotonic()
    process.send_signal(how)
    try:
        process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(process.communicate()[1])
    wait_for(lambda: none_left(tmp_path), "all gone", seconds=10)
    assert time.monotonic() - began < 8


def test_what_is_typed_in_cannot_be_found_elsewhere(tmp_path: Path) -> None:
    program = PROGRAM.replace("EPOCHS", "1").replace(
        "def main", "def own(*given):\n    return softmax_cross_entropy(*given)\n\ndef main"
    )
    program = program.replace("10), softmax_cross_entropy", "10), own")
    done = subprocess.run([sys.executable, "-c", program + "\nmain()\n"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    line = next(line for line in done.stderr.splitlines() if line.startswith("funcnn.team.member.TeamError"))
    assert "what is to be trained cannot be read in another process (AttributeError: Can't get attribute 'own'" in line
    assert line.endswith("into a module, or into a script's file, not into an interpreter or a notebook")


# --- What once went wrong -------------------------------------------------------------------------------------


def test_memory_of_one_size_is_not_taken_for_other_memory(pair: Team) -> None:
    for width in range(180, 230):  # some state is as large as what was packed
        problem = Problem(dense(1), mean_squared_error, sgd(0.1))
        state = init_state(problem, Key(0), (width,))
        batch = gaussian((4, width), np.float32), gaussian((4, 1), np.float32, "targets")
        assert tree.equal(make_step(problem, team=pair)(state, batch), make_step(problem, shards=4)(state, batch))


def test_what_is_begun_again_and_again_leaves_nothing(pair: Team) -> None:
    def step(problem: Problem, n: int) -> None:
        make_step(problem, team=pair)(state, (np.ones((n, 3), np.float32), np.ones((n, 2), np.float32)))

    problems = [Problem(dense(2), mean_squared_error, sgd(rate)) for rate in (0.1, 0.2)]
    state = init_state(problems[0], Key(0), (3,))
    for problem in problems * 2:
        step(problem, 4)
    count = len(pair._blocks), len(pair._member._maps)
    for problem in problems * 10:
        step(problem, 4)
    assert (len(pair._blocks), len(pair._member._maps)) == count
    for n in range(5, 60):
        step(problems[-1], n)
    assert len(pair._blocks) <= count[0] + 6


def test_a_refused_problem_changes_nothing(pair: Team) -> None:
    problem = Problem(dense(2), mean_squared_error, sgd(0.1))
    unsendable = Problem(dense(2), lambda outputs, targets: (0.0, outputs), sgd(0.1), metric=None)
    state = init_state(problem, Key(0), (3,))
    batch = gaussian((8, 3), np.float32), gaussian((8, 2), np.float32, "targets")
    expected = make_step(problem, team=pair)(state, batch)
    with pytest.raises(TeamError, match="cannot be sent"):
        make_step(unsendable, team=pair)(state, batch)
    assert tree.equal(make_step(problem, team=pair)(state, batch), expected)


@pytest.mark.parametrize(
    ("inputs", "targets", "error"),
    [
        (np.ones((4, 3), np.float32), np.array([{}] * 4, object), tree.TreeError),
        (np.ones((4, 3), np.float32), np.array(None), TypeError),
        (np.ones((4, 3), np.float32), [[1, 2]] * 4, TypeError),
        (np.ones((4, 3), np.float32), np.ones((5, 2), np.float32), ValueError),
    ],
    ids=["objects", "no examples", "a list", "more targets"],
)
def test_what_cannot_be_cut_is_refused(inputs: Any, targets: Any, error: type[Exception], pair: Team) -> None:
    problem = Problem(dense(2), mean_squared_error, sgd(0.1))
    state = init_state(problem, Key(0), (3,))
    with pytest.raises(error):
        make_step(problem, team=pair)(state, (inputs, targets))
    if error is not tree.TreeError:
        with pytest.raises(error):
            make_step(problem, shards=2)(state, (inputs, targets))


def pairs_init(settings: Any, params: Any) -> Any:
    return tuple((np.zeros_like(leaf), np.ones_like(leaf)) for leaf in tree.flatten(params))


def pairs_update(settings: Any, grads: Any, state: Any, params: Any, step: int) -> Any:
    made = [
        leaf - 0.1 * (g + m) for leaf, g, (m, _) in zip(tree.flatten(params), tree.flatten(grads), state, strict=True)
    ]
    moments = tuple((m + g, v) for (m, v), g in zip(state, tree.flatten(grads), strict=True))
    return tree.unflatten(params, made), moments


@config
class Pairs(OptimizerSettings):
    name: ClassVar[str] = "pairs"
    elementwise: ClassVar[bool] = True


def test_an_optimizer_whose_state_is_in_another_order_is_not_cut(pair: Team) -> None:
    net = serial(dense(4, use_bias=False), dense(4, use_bias=False))
    problem = Problem(net, mean_squared_error, make_optimizer(Pairs(0.1), pairs_update, pairs_init))
    state = expected = init_state(problem, Key(0), (4,))
    batch = gaussian((8, 4), np.float32), gaussian((8, 4), np.float32, "targets")
    for _ in range(3):
        state, _ = make_step(problem, team=pair)(state, batch)
        expected, _ = make_step(problem, shards=4)(expected, batch)
    assert tree.equal(state, expected)


def huge_slope(outputs: Any, targets: Any) -> Any:
    return 1.0, np.full_like(outputs, 3e38)


def test_a_gradient_that_is_not_finite_has_its_own_name() -> None:
    problem = Problem(serial(dense(2)), huge_slope, adam(0.1), metric=None)
    state = init_state(problem, Key(0), (3,))
    batch = np.full((8, 3), 1e-30, np.float32), np.zeros((8, 2), np.float32)
    found = []
    for options in ({}, {"shards": 2}):
        with pytest.raises(NonFiniteError) as caught:
            make_step(problem, **options)(state, batch)  # type: ignore[arg-type]
        found.append(str(caught.value))
    with Team(2) as team, pytest.raises(NonFiniteError) as caught:
        make_step(problem, team=team)(state, batch)
    assert str(caught.value) == found[1]
    assert "the gradient of 0.bias is not finite" in found[1]


def long_error(outputs: Any, targets: Any) -> Any:
    if multiprocessing.parent_process() is not None:
        raise ArithmeticError("long " * 500_000)
    return mean_squared_error(outputs, targets)


def test_an_error_too_long_to_be_said_is_cut() -> None:
    with pytest.raises(TeamError, match=r"^member 1 of the team failed:\n") as caught:
        one_step(long_error, np.ones((4, 3), np.float32))
    assert "long long" in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_leaves_the_team_alone() -> None:
    problem = Problem(dense(2), mean_squared_error, sgd(0.1))
    state = init_state(problem, Key(0), (3,))
    batch = gaussian((8, 3), np.float32), gaussian((8, 2), np.float32, "targets")
    with Team(2) as team:
        step = make_step(problem, team=team)
        expected = step(state, batch)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                step(state, batch)
            except TeamError:
                team.close()
                code = 0
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert tree.equal(step(state, batch), expected)

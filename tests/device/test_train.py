"""Training on a device's arrays, the stand-in's: as on the host but for rounding, and no step waits for the device."""

import pickle
import threading
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import standin
from cases import assert_close
from safetensors import safe_open

from funcnn import Key, Layer, checkpoint, serial, tree
from funcnn.checks import FuncnnWarning
from funcnn.compose import frozen
from funcnn.data import Dataset, load, shifted_crop
from funcnn.device import device_of_tree, to_device, to_host
from funcnn.layers import batch_norm, conv2d, dense, dropout, flatten, max_pool2d, relu
from funcnn.losses import mean_squared_error, softmax_cross_entropy
from funcnn.model_file import Trained, load_trained, probabilities, save_trained
from funcnn.optimizers import Optimizer, adam, averaged, plateau, schedule_free_adamw, sgd
from funcnn.system.devices import is_device_array, register
from funcnn.train import (
    Epoch,
    Model,
    NonFiniteError,
    Problem,
    Step,
    TrainState,
    early_stopping,
    evaluate,
    init_state,
    make_step,
    predict,
    predictor,
    recounted,
    train,
)

register("standin", standin)

DATA = load("digits").thin(320, 100)
NET = serial(
    conv2d(4, 3, padding="same", use_bias=False), batch_norm(), relu(), max_pool2d(2),
    dropout(0.25), flatten(), dense(10),
)  # fmt: skip


def problem(optimizer: Optimizer | None = None, **settings: Any) -> Problem:
    loss = partial(softmax_cross_entropy, label_smoothing=0.1)
    return Problem(NET, loss, optimizer or adam(3e-3), augment=(partial(shifted_crop, pad=1),), **settings)


def start(its_problem: Problem, device: str) -> TrainState:
    return to_device(init_state(its_problem, Key(0), DATA.in_shape), device)


def run(its_problem: Problem, state: TrainState, epochs: int, *, batch_size: int = 64) -> list[Epoch]:
    events = train(its_problem, state, DATA, epochs=epochs, batch_size=batch_size)
    return [event for event in events if isinstance(event, Epoch)]


def arrays(values: Any) -> list[Any]:
    return [leaf for leaf in tree.flatten(values) if hasattr(leaf, "dtype")]


# --- Training -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [adam(3e-3), averaged(adam(3e-3)), plateau(adam(3e-3), patience=1)], ids=repr)
def test_trains_as_on_the_host(optimizer: Optimizer) -> None:
    ours = problem(optimizer)
    here, there = (run(ours, start(ours, device), 3) for device in ("cpu", "standin"))
    for one, other in zip(there, here, strict=True):
        assert all(map(is_device_array, arrays((one.state.params, one.state.state))))
        assert (one.state.step, one.state.seed) == (other.state.step, other.state.seed)
        assert_close(to_host(one.state), other.state, 1e-5)
        assert one.validation is not None
        assert other.validation is not None
        assert one.train.loss == pytest.approx(other.train.loss, rel=1e-6)
        assert one.validation.loss == pytest.approx(other.validation.loss, rel=1e-5)
        assert one.validation.accuracy == pytest.approx(other.validation.accuracy)


def test_equal_runs_have_equal_bits() -> None:
    one, other = (run(problem(), start(problem(), "standin"), 2)[-1].state for _ in range(2))
    assert tree.equal(one, other)


def test_a_step_waits_for_nothing_and_sends_the_batch_alone() -> None:
    ours = problem()
    there, batch = start(ours, "standin"), DATA.train.take(slice(0, 64))
    with standin.synchronisations() as waits, standin.uploads() as sent:
        state, metrics = make_step(ours)(there, batch)
    wanted = make_step(ours)(start(ours, "cpu"), batch)
    assert waits == []
    assert len(sent) == 3, sent  # inputs, labels, and dropout's mask
    assert_close(to_host(state), wanted[0], 1e-5)
    assert metrics.loss == pytest.approx(wanted[1].loss, rel=1e-6)


def test_an_epoch_of_many_steps_waits_no_more_than_one_of_few() -> None:
    ours = problem()
    counts = []
    for batch_size in (160, 10):
        with standin.synchronisations() as waits:
            run(ours, start(ours, "standin"), 1, batch_size=batch_size)
        counts.append(len(waits))
    assert counts[0] == counts[1]


def test_a_steps_measures_come_when_they_are_asked_for() -> None:
    ours = problem()
    with standin.synchronisations() as waits:
        steps = train(ours, start(ours, "standin"), DATA, epochs=1, batch_size=64)
        first, second = (event for event in (next(steps), next(steps)) if isinstance(event, Step))
        before = len(waits)
        assert second.loss > 0
        assert second.epoch_loss == pytest.approx((first.loss + second.loss) / 2)
    assert len(waits) - before == 4  # each once: loss, epoch_loss, and both losses


def test_dropout_draws_the_same_masks() -> None:
    layer, x = dropout(0.5), np.ones((64, 10), np.float32)
    here, there = (layer.apply(None, None, each, key=Key(3), train=True).y for each in (x, to_device(x, "standin")))
    np.testing.assert_array_equal(to_host(there), here)
    assert 0 < np.count_nonzero(here) < here.size


def test_early_stopping_ends_a_run() -> None:
    ours = problem(sgd(1e-9))  # which learns nothing
    events = early_stopping(train(ours, start(ours, "standin"), DATA, epochs=9, batch_size=160), patience=2)
    found = [event for event in events if isinstance(event, Epoch)]
    assert 3 <= len(found) < 9
    assert found[0].is_best


class Failing:
    """A part of a data set whose third batch cannot be read."""

    def __init__(self, part: Any) -> None:
        self.part, self.taken = part, 0

    def __len__(self) -> int:
        return len(self.part)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)

    def take(self, which: Any) -> Any:
        self.taken += 1
        if self.taken == 3:
            raise OSError("the disk is gone")
        return self.part.take(which)


def test_the_thread_that_prepares_batches_ends_with_the_run() -> None:
    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("funcnn-ahead")]

    events = train(problem(), start(problem(), "standin"), DATA, epochs=1, batch_size=64)
    next(events)
    assert threads()
    events.close()
    assert not threads()
    broken, seen = attrs.evolve(DATA, train=Failing(DATA.train)), []
    with pytest.raises(OSError, match="the disk is gone"):
        seen.extend(train(problem(), start(problem(), "standin"), broken, epochs=1, batch_size=64))
    assert not threads()


def test_a_net_whose_layers_are_all_frozen_is_where_its_state_is() -> None:
    net = frozen(serial(flatten(), dense(10)))
    ours = Problem(net, softmax_cross_entropy, sgd(0.1))
    (here, there), batch = ([start(ours, device) for device in ("cpu", "standin")]), DATA.test.take(slice(0, 50))
    assert make_step(ours)(there, batch)[1].loss == pytest.approx(make_step(ours)(here, batch)[1].loss)
    for batch_size in (5, 50):  # of many batches, and of one
        found = predict(net, Model(there.params, there.state), batch[0], batch_size=batch_size)
        assert_close(found, predict(net, Model(here.params, here.state), batch[0]), 1e-5)


def test_measures_are_numbers_to_whoever_reads_them() -> None:
    ours, batch = problem(), DATA.train.take(slice(0, 64))
    (_, there), (_, again), (_, here) = (
        make_step(ours)(start(ours, each), batch) for each in ("standin", "standin", "cpu")
    )
    assert attrs.asdict(there) == pytest.approx(attrs.asdict(here))
    assert list(attrs.asdict(there)) == ["loss", "accuracy", "weight", "accuracy_weight"]
    assert (hash(there), there) == (hash(again), again)
    assert pickle.loads(pickle.dumps(here)) == here
    event = Step(1, 1, 1, 5, *there.as_they_lie[:2], *here.as_they_lie[:2], 0.1)
    assert is_device_array(vars(event)["loss"])
    assert repr(event).startswith(f"Step(step=1, epoch=1, batch=1, batches=5, loss={there.loss}, accuracy=")


def test_workers_and_shards_are_refused() -> None:
    for settings in ({"workers": 2}, {"shards": 2}):
        with pytest.raises(ValueError, match="one worker and one shard"):
            train(problem(), start(problem(), "standin"), DATA, epochs=1, batch_size=64, **settings)


# --- What is not finite ---------------------------------------------------------------------------------------


def of_numbers(targets: Any, optimizer: Optimizer) -> tuple[Problem, Dataset, TrainState]:
    draws = np.random.default_rng(0).normal(size=(len(targets), 3)).astype(np.float32)
    data = Dataset.from_arrays(draws, targets, test=None, validation=None)
    loss = softmax_cross_entropy if targets.dtype.kind == "i" else mean_squared_error
    ours = Problem(dense(2), loss, optimizer, metric=None)
    return ours, data, to_device(init_state(ours, Key(0), (3,)), "standin")


def test_a_loss_that_becomes_nan_is_found_at_the_next_look() -> None:
    targets = np.zeros((250, 2), np.float32)
    ours, data, state = of_numbers(targets, sgd(1e4))  # which grows without bounds
    seen = []
    with pytest.raises(NonFiniteError, match=r"step 100: the loss became (nan|inf) since the last look, on the device"):
        seen.extend(train(ours, state, data, epochs=1, batch_size=1))
    assert len(seen) == 99


def test_at_the_end_of_an_epoch_it_looks_too() -> None:
    ours, data, state = of_numbers(np.zeros((40, 2), np.float32), sgd(1e30))
    with pytest.raises(NonFiniteError, match="On the CPU the same run names the step and the place"):
        list(train(ours, state, data, epochs=1, batch_size=1))


def test_a_loss_that_grows_is_warned_of() -> None:
    ours, data, state = of_numbers(np.ones((40, 2), np.float32), sgd(4.0))
    with pytest.warns(FuncnnWarning, match="the loss has grown to"):
        list(train(ours, state, data, epochs=2, batch_size=8))


# --- Evaluation -----------------------------------------------------------------------------------------------


def trained(device: str, optimizer: Optimizer | None = None) -> tuple[Problem, TrainState]:
    ours = problem(optimizer)
    return ours, run(ours, start(ours, device), 1)[-1].state


@pytest.mark.parametrize("optimizer", [adam(3e-3), schedule_free_adamw(3e-3)], ids=repr)
def test_evaluates_and_predicts_as_the_host(optimizer: Optimizer) -> None:
    (ours, there), (_, here) = trained("standin", optimizer), trained("cpu", optimizer)
    with standin.synchronisations() as waits:
        found, wanted = evaluate(ours, there, DATA.test, batch_size=10), evaluate(ours, here, DATA.test, batch_size=10)
    assert len(waits) < 10, waits  # not one for each batch
    assert found.loss == pytest.approx(wanted.loss, rel=1e-5)
    assert found.accuracy == pytest.approx(wanted.accuracy)
    images = DATA.test.take(slice(0, 50))[0]
    logits = predict(NET, here, images, batch_size=20)
    for given in (images, to_device(images, "standin")):
        assert_close(predict(NET, there, given, batch_size=20), logits, 1e-5)
    kept = predictor(NET, there.params, there.state)
    assert is_device_array(kept(to_device(images, "standin")))


def test_recounts_as_the_host() -> None:
    (ours, there), (_, here) = trained("standin"), trained("cpu")
    found = recounted(ours, there, DATA.train, batch_size=64)
    assert all(map(is_device_array, arrays(found)))
    assert_close(to_host(found), recounted(ours, here, DATA.train, batch_size=64), 1e-5)


def test_a_loss_that_is_not_finite_is_warned_of() -> None:
    ours, state = trained("standin")
    spoilt = TrainState(tree.map(lambda leaf: leaf * np.float32(np.inf), state.params), *state_of(state))
    with pytest.warns(FuncnnWarning, match="the loss is nan"):
        evaluate(ours, spoilt, DATA.test)


def state_of(state: TrainState) -> tuple[Any, ...]:
    return state.state, state.opt_state, state.step, state.seed


# --- Files ----------------------------------------------------------------------------------------------------


def form(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    with safe_open(path, framework="numpy") as file:
        return {name: (str(each.dtype), each.shape) for name in file.keys() for each in [file.get_tensor(name)]}  # noqa: SIM118


def test_files_are_those_of_the_host(tmp_path: Path) -> None:
    (ours, there), (_, here) = trained("standin"), trained("cpu")
    paths = [tmp_path / name for name in ("there", "moved", "here")]
    for path, state in zip(paths, (there, to_host(there), here), strict=True):
        checkpoint.save(path, state, description={"epoch": 1})
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert form(paths[0]) == form(paths[2])
    for like, device in ((there, "standin"), (here, "cpu")):
        loaded = checkpoint.load(paths[0], like)
        assert device_of_tree(loaded.params) == device
        assert tree.equal(to_host(loaded), to_host(there))
    with pytest.raises(checkpoint.CheckpointError, match=r"float32 \(3, 3, 1, 4\) in the file, float64"):
        checkpoint.load(paths[0], to_device(init_state(ours, Key(0), DATA.in_shape, np.float64), "standin"))


def test_a_run_goes_on_from_a_file_there_and_on_the_host(tmp_path: Path) -> None:
    ours = problem()
    whole = run(ours, start(ours, "standin"), 3)
    checkpoint.save(tmp_path / "state", whole[0].state)
    there = run(ours, checkpoint.load(tmp_path / "state", start(ours, "standin")), 3)[-1]
    assert tree.equal(there.state, whole[-1].state)  # to the bit
    here = run(ours, checkpoint.load(tmp_path / "state", start(ours, "cpu")), 3)[-1]
    assert device_of_tree(here.state) == "cpu"
    assert_close(here.state, to_host(whole[-1].state), 1e-5)


def test_a_trained_net_is_saved_from_there(tmp_path: Path) -> None:
    _, state = trained("standin")
    net = Trained(NET, state, DATA.in_shape, DATA.classes, DATA.test.preprocess)
    save_trained(tmp_path / "there", net)
    save_trained(tmp_path / "moved", Trained(NET, to_host(state), DATA.in_shape, DATA.classes, DATA.test.preprocess))
    assert (tmp_path / "there").read_bytes() == (tmp_path / "moved").read_bytes()
    again = load_trained(tmp_path / "there")
    assert device_of_tree(again.model.params) == "cpu"
    images = DATA.test.inputs[:9]
    assert_close(probabilities(net, images), probabilities(again, images), 1e-5)
    moved = Trained(NET, to_device(again.model, "standin"), DATA.in_shape, DATA.classes, DATA.test.preprocess)
    assert_close(probabilities(moved, images), probabilities(again, images), 1e-5)


# --- Arrays of both kinds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "leaf"),
    [(dense(3), "params.weight"), (NET, "params.weight"), (serial(relu(), dense(3)), "params")],
)
def test_arrays_of_both_kinds_are_refused_by_name(layer: Layer, leaf: str) -> None:
    in_shape = DATA.in_shape if layer is NET else (4,)
    params, state, _ = layer.init(Key(0), in_shape)
    x = np.ones((2, *in_shape), np.float32)
    for device, given in (("standin", x), ("cpu", to_device(x, "standin"))):
        moved, its_state = to_device((params, state), device)
        with pytest.raises((TypeError, ValueError), match=rf"(?s){leaf}.*to_device"):
            layer.apply(moved, its_state, given)


def test_gradients_of_the_other_kind_are_refused_by_name() -> None:
    params = dense(3).init(Key(0), (4,)).params
    there, rule = to_device(params, "standin"), adam(0.1)
    with pytest.raises((TypeError, ValueError), match=r"(?s)weight.*to_device"):
        rule.update(params, rule.init(there), there, 0)


def test_a_model_of_the_host_takes_no_batch_of_a_device_unasked() -> None:
    model = Model(*NET.init(Key(0), DATA.in_shape)[:2])
    with pytest.raises((TypeError, ValueError), match=r"to_device|to_host"):
        predict(NET, model, to_device(DATA.test.take(slice(0, 5))[0], "standin"))


def test_a_batch_to_be_augmented_is_the_hosts() -> None:
    there = start(problem(), "standin")
    with pytest.raises(ValueError, match="augmentations are computed on the host"):
        make_step(problem())(there, to_device(DATA.train.take(slice(0, 5)), "standin"))

"""Examples that stay in a file: what is taken is what an array in memory gives, and what is selected reads nothing."""

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import message

from funcnn import Key, tree
from funcnn.data import DataError, Dataset, Part, load, standardise, subtract_mean_image
from funcnn.data.stored import Stored
from funcnn.layer import Array
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam
from funcnn.train import Epoch, Problem, init_state, predict, train

ROWS = np.random.default_rng(0).normal(2, 3, (60, 5)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "rows.npy", ROWS)
    return tmp_path / "rows.npy"


def mapped(path: Path) -> Any:
    return np.load(path, mmap_mode="r")


VIEWS = {
    "whole": lambda array: array,
    "rows": lambda array: array[7:50:3],
    "backwards": lambda array: array[::-1],
    "columns": lambda array: array[:, 1:4],
    "turned": lambda array: array.reshape(60, 5, 1)[..., ::-1, :],
    "bytes": lambda array: array.view(np.uint8),
}


@pytest.mark.parametrize("view", VIEWS)
def test_rows_are_those_of_the_array_here_and_in_another_process(view: str, path: Path) -> None:
    array = VIEWS[view](ROWS)
    stored = Stored(VIEWS[view](mapped(path)))
    for each in (stored, pickle.loads(pickle.dumps(stored))):
        assert (each.shape, each.dtype, len(each), each.nbytes) == (array.shape, array.dtype, len(array), array.nbytes)
        for index in (
            slice(3, 9),
            slice(None, None, -2),
            [5, 0, 5, -1],
            np.arange(len(array)) % 3 == 0,
            4,
            slice(0, 0),
        ):
            assert type(each[index]) is np.ndarray
            assert np.array_equal(each[index], array[index])
        some = each.select(np.array([9, 2, 2, 7])).select([3, 0])
        assert np.array_equal(some[:], array[[7, 9]])
        assert np.array_equal(pickle.loads(pickle.dumps(some)), array[[7, 9]])


def test_what_another_process_cannot_open_is_said(path: Path, tmp_path: Path) -> None:
    assert "mode 'c' keeps what is written out of it" in message(
        DataError, pickle.dumps, Stored(np.load(path, mmap_mode="c"))
    )
    sent = pickle.dumps(Stored(mapped(path)))
    np.save(path, ROWS[:5])
    assert "bytes, and it had" in message(DataError, pickle.loads, sent)
    path.unlink()
    assert f"{path}: the examples in it cannot be read by another process" in message(DataError, pickle.loads, sent)


def test_a_data_set_in_a_file_gives_what_one_in_memory_gives(path: Path) -> None:
    labels = np.arange(60) % 2
    here, there = (Dataset.from_arrays(X, labels, standardise=True) for X in (ROWS, mapped(path)))
    assert isinstance(there.train.inputs, Stored)
    for data in (here, there):
        assert repr(data.train.inputs.shape) in repr(data)
    pairs = [
        (here, there),
        (here.without_validation(), there.without_validation()),
        (here.thin(9, 4), there.thin(9, 4)),
    ]
    for one, two in pairs:
        assert isinstance(two.train.inputs, Stored)
        for first, second in ((one.train, two.train), (one.validation, two.validation), (one.test, two.test)):
            if first is None or second is None:
                assert first is second
                continue
            for taken, given in zip(first.take(slice(None)), second.take(slice(None)), strict=True):
                assert np.array_equal(taken, given)
    for make in (standardise, subtract_mean_image):
        assert make(mapped(path)) == make(ROWS) == make(Stored(mapped(path)))
    elsewhere = Part(np.load(path, mmap_mode="r"), labels)
    mixed = Dataset(here.train, elsewhere, None, ("a", "b"), (5,))
    assert "it is the same file" in message(ValueError, mixed.without_validation)


def test_what_is_made_of_a_mapped_array_in_memory_is_in_memory(path: Path) -> None:
    """NumPy's copies of one are of its class: none of them has a file, from which another process could read."""
    for made in (mapped(path).copy(), mapped(path).astype(np.float64)):
        assert type(made) is np.memmap
        data = Dataset.from_arrays(made, np.arange(60) % 2)
        assert (type(data.train.inputs), data.train.inputs.dtype) == (np.ndarray, np.float32)
        assert len(pickle.loads(pickle.dumps(data.train.inputs))) == 43


def test_wide_floats_become_float32_when_they_are_taken(tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", ROWS.astype(np.float64))
    data = Dataset.from_arrays(mapped(tmp_path / "wide.npy"), np.arange(60) % 2)
    assert data.train.take([0])[0].dtype == np.float32
    np.save(tmp_path / "amounts.npy", ROWS[:, 0].astype(np.float64))
    amounts = Dataset.from_arrays(mapped(tmp_path / "wide.npy"), mapped(tmp_path / "amounts.npy"), test=None)
    inputs, taken = amounts.train.take(slice(None))
    assert (taken.dtype, taken.shape) == (np.float32, (54, 1))
    assert np.array_equal(taken, inputs[:, :1])
    targets = Part(mapped(tmp_path / "wide.npy"), mapped(tmp_path / "wide.npy"))
    assert isinstance(targets.select([1]).targets, Stored)  # of an autoencoder


def trained(images: Any, labels: Array, workers: int) -> Any:
    data = Dataset.from_arrays(images, labels, standardise=True)
    problem = Problem(fully_connected([8], 10), softmax_cross_entropy, adam(0.01))
    state = init_state(problem, Key(0), data.in_shape)
    events = train(problem, state, data, epochs=1, batch_size=64, workers=workers, shards=2)
    *_, last = events
    assert isinstance(last, Epoch)
    assert data.test is not None
    return last.state, last.validation, predict(problem.net, last.state, data.test)


def test_workers_open_the_file_themselves_and_train_to_the_same_bits(tmp_path: Path) -> None:
    part = load("digits").train
    np.save(tmp_path / "images.npy", part.inputs)
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    here, one, two = (trained(*each) for each in (
        (part.inputs, part.targets, 1), (images, part.targets, 1), (images, part.targets, 2),
    ))  # fmt: skip
    for state, validation, outputs in (one, two):
        assert tree.equal(state, here[0])
        assert validation == here[1]
        assert np.array_equal(outputs, here[2])


@pytest.mark.skipif(
    sys.platform != "linux", reason="the limit is on memory that is a process's own, as Linux counts it"
)
def test_a_file_larger_than_the_memory_that_a_process_may_have_is_trained_on(tmp_path: Path) -> None:
    """Of 600 MB, with 250 MB more than the process begins with; in memory it does not fit, which the program checks."""
    big = np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.float32, (9_600, 125, 125))
    big[::7, ::5] = 1.0  # most of the file is a hole, and takes no room on the disk
    del big
    program = """
        import resource, sys
        import numpy as np
        from funcnn import Key
        from funcnn.data import Dataset
        from funcnn.losses import softmax_cross_entropy
        from funcnn.models import fully_connected
        from funcnn.optimizers import sgd
        from funcnn.train import Epoch, Problem, init_state, train

        own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
        limit = own * 1024 + 250 * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        try:
            np.load(sys.argv[1])
        except MemoryError:
            print("too large")
        inputs = np.load(sys.argv[1], mmap_mode="r")
        data = Dataset.from_arrays(inputs, np.arange(len(inputs)) % 7 == 0, standardise=True).without_validation()
        problem = Problem(fully_connected([], 2), softmax_cross_entropy, sgd(0.001))
        state = init_state(problem, Key(0), data.in_shape)
        for event in train(problem, state, data, epochs=1, batch_size=64):
            if isinstance(event, Epoch):
                print(event.epoch, event.train.accuracy > 0.9)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "big.npy")],
        capture_output=True, text=True, timeout=300, env=os.environ | {"OPENBLAS_NUM_THREADS": "2"},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("too large\n1 True\n", "")

"""Work over threads: results in order and the same with any number of them, errors, settings, BLAS as it was."""

import itertools
import os
import subprocess
import sys
import threading
import warnings
from functools import partial

import numpy as np
import pytest
from by_hand import chunks_of, sizes
from hypothesis import given
from hypothesis import strategies as st

from funcnn import Key, serial, tree
from funcnn.arrays import products, threads
from funcnn.compose import chunked, residual
from funcnn.compose import parallel as combine
from funcnn.layers import (
    avg_pool2d,
    batch_norm,
    conv2d,
    dense,
    dropout,
    flatten,
    gaussian_noise,
    global_avg_pool2d,
    leaky_relu,
    max_pool2d,
    position_bias,
    relu,
    silu,
    tanh,
)
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import adam
from funcnn.train import Problem, init_state, make_step


@pytest.fixture(autouse=True)
def restore_threads():
    before = threads.threads()
    yield
    threads.set_threads(before)


@given(st.integers(1, 4), st.integers(0, 40))
def test_results_come_in_the_order_of_the_tasks(number, count):
    threads.set_threads(number)
    assert threads.run([partial(pow, i, 2) for i in range(count)]) == [i * i for i in range(count)]


def test_tasks_run_on_several_threads_at_once():
    threads.set_threads(2)
    meeting = threading.Barrier(2, timeout=30)  # nobody passes it alone
    names = threads.run([lambda: (meeting.wait(), threading.current_thread().name)[1]] * 2)
    assert len(set(names)) == 2


def test_tasks_within_tasks_run_one_by_one():
    threads.set_threads(2)

    def outer():
        return set(threads.run([lambda: threading.current_thread().name] * 8))

    assert [len(names) for names in threads.run([outer] * 4)] == [1] * 4


def test_the_first_error_in_order_is_raised_after_all_tasks():
    threads.set_threads(2)
    done = []

    def fail(i):
        raise ValueError(f"task {i}")

    with pytest.raises(ValueError, match="task 1"):
        threads.run([partial(done.append, 0), partial(fail, 1), partial(fail, 2), partial(done.append, 3)])
    assert sorted(done) == [0, 3]
    assert threads.run([int]) == [0]


def test_numpys_error_state_holds_in_every_thread():
    threads.set_threads(2)
    meeting = threading.Barrier(2, timeout=30)

    def overflow():
        meeting.wait()
        return np.float32(1e38) * np.float32(1e38)

    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("error")
        assert threads.run([overflow] * 2) == [np.inf] * 2


@given(st.integers(0, 300), st.integers(1, 50))
def test_chunks_cover_everything_once(n, size):
    parts = threads.slices(n, size)
    assert [i for part in parts for i in range(n)[part]] == list(range(n))
    assert all(part.stop - part.start == size for part in parts[:-1])


@pytest.mark.parametrize("shape", [(2, 3, 4), (300, 900, 500), (1100, 300, 60), (60, 300, 1100), (0, 3, 2), (3, 0, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_matmul_equals_numpys_and_is_the_same_with_any_number_of_threads(shape, dtype):
    m, k, n = shape
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((k, m)).astype(dtype).T, rng.standard_normal((k, n)).astype(dtype)
    found = []
    for count in (1, 2, 3):
        threads.set_threads(count)
        found.append(products.matmul(a, b))
    # Each of k terms may round, with values near 1.
    np.testing.assert_allclose(found[0], a @ b, rtol=0, atol=4 * max(k, 1) * np.finfo(dtype).eps)
    assert found[0].dtype == dtype
    assert tree.equal(found[0], found[1])
    assert tree.equal(found[0], found[2])


def test_blas_has_its_threads_back_afterwards():
    libraries = threads._blas()
    assert libraries
    for number in (1, 2):
        for library in libraries:
            library.set_num_threads(number)
        with threads.single_blas_thread():
            assert {library.get_num_threads() for library in libraries} == {1}
        with pytest.raises(ValueError, match="inside"), threads.single_blas_thread():
            raise ValueError("inside")
        assert {library.get_num_threads() for library in libraries} == {number}


def test_blas_has_one_thread_in_every_thread_that_asks_and_its_own_after_the_last():
    libraries = threads._blas()
    before = [library.get_num_threads() for library in libraries]

    def numbers():
        return {library.get_num_threads() for library in libraries}

    for library in libraries:
        threads._set_blas_threads(library, 2)
    try:
        threads.run([int])  # this thread was the first to set the number, and lives on
        inside, leave, seen = threading.Event(), threading.Event(), []

        def work():
            with threads.single_blas_thread(), threads.single_blas_thread():
                seen.append(numbers())
                inside.set()
                assert leave.wait(30)
            seen.append(threads.run([numbers])[0])  # another one is inside, but it may leave at any time
            seen.append(threads.blas_is_single())

        other = threading.Thread(target=work)
        other.start()
        assert inside.wait(30)
        with threads.single_blas_thread():
            leave.set()
            other.join(30)
            assert numbers() == {1}
        assert seen == [{1}, {1}, False]
        assert numbers() == {2}
    finally:
        for library, number in zip(libraries, before, strict=True):
            threads._set_blas_threads(library, number)


def test_blas_is_set_back_after_a_limit_that_failed(monkeypatch):
    def fail():
        raise KeyboardInterrupt

    monkeypatch.setattr(threads, "_blas", fail)
    with pytest.raises(KeyboardInterrupt), threads.single_blas_thread():
        pass
    monkeypatch.undo()
    assert not threads.blas_is_single()
    with threads.single_blas_thread():
        assert {library.get_num_threads() for library in threads._blas()} == {1}


def test_a_step_is_the_same_with_any_number_of_threads():
    net = serial(
        conv2d(16, 3, padding="same"), batch_norm(), relu(), max_pool2d(2), conv2d(32, 3), relu(), max_pool2d(2),
        dropout(0.3), flatten(), dense(256), relu(), dense(10),
    )  # fmt: skip
    problem = Problem(net, softmax_cross_entropy, adam(1e-3))
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((48, 28, 28, 3)).astype(np.float32), rng.integers(0, 10, 48)
    (_, sizes), *_ = net.config.plan(batch[0])
    assert len(sizes) > 1
    check_steps(problem, batch)


def check_steps(problem, batch, counts=(1, 2, 3)):
    """Assert that two steps of training give the same bits with any number of threads."""
    ends = []
    for count in counts:
        threads.set_threads(count)
        state = init_state(problem, Key(0), batch[0].shape[1:])
        for _ in range(2):
            state, _ = make_step(problem)(state, batch)
        ends.append(state)
    assert [tree.equal(end, ends[0]) for end in ends] == [True] * len(counts)


BRANCHES = combine(serial(dropout(0.2), conv2d(4, 1)), max_pool2d(3, stride=1, padding="same"), conv2d(4, 3, padding=1))
CHUNKED = (
    serial(
        conv2d(6, 3, padding="same", use_bias=False), batch_norm(), relu(), max_pool2d(2), dropout(0.3), conv2d(8, 2),
        gaussian_noise(0.1), residual(serial(batch_norm(), relu(), conv2d(8, 3, padding="same"))), BRANCHES,
        position_bias(), leaky_relu(), avg_pool2d(2), flatten(), dense(8), batch_norm(), tanh(), dropout(0.5), dense(5),
    ),
    serial(batch_norm(), serial(conv2d(6, 3), dropout(0.3), serial(conv2d(6, 1), relu())), max_pool2d(2), batch_norm(),
           conv2d(5, 2, groups=1), global_avg_pool2d()),
)  # fmt: skip


@pytest.mark.parametrize("net", CHUNKED, ids=["plain", "nested"])
@pytest.mark.parametrize("examples", [1, 2, 5])
def test_a_step_in_uneven_chunks_is_the_same_with_any_number_of_threads(net, examples):
    problem = Problem(net, softmax_cross_entropy, adam(1e-3))
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((11, 10, 9, 2)).astype(np.float32), rng.integers(0, 5, 11)
    params, state, _ = net.init(Key(0), (10, 9, 2))
    with chunks_of(examples, net, (10, 9, 2)):
        cuts = sizes(net.apply(params, state, batch[0], key=Key(0), train=True).residuals)
        assert {1: (1,) * 11, 2: (1, 2, 2, 2, 2, 2), 5: (2, 3, 3, 3)}[examples] in cuts
        check_steps(problem, batch, (1, 2, 3, 2, 3))
        ends = []
        for count in (1, 2, 3):
            threads.set_threads(count)
            trained = net.apply(params, state, batch[0], key=Key(1), train=True)
            gradients = net.backward(params, trained.residuals, np.ones_like(trained.y))
            ends.append((tuple(trained), tuple(gradients), net.apply(params, state, batch[0]).y))
        assert tree.equal(ends[0], ends[1])
        assert tree.equal(ends[0], ends[2])


# --- Scratch memory -------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_scratch(monkeypatch):
    monkeypatch.setattr(threads, "_scratch", threads._Scratch())


@pytest.mark.usefixtures("fresh_scratch")
def test_a_formula_over_a_large_chunk_is_the_same_with_any_number_of_threads():
    layer = chunked(silu(), 64)  # in a task a chunk comes whole, and is large enough for numexpr
    x = np.random.default_rng(0).standard_normal((128, 2**16), np.float32)
    gradients = []
    for count in (1, 2):
        threads.set_threads(count)
        residuals = layer.apply(None, None, x, train=True).residuals
        gradients.append(layer.backward(None, residuals, x).dx)
    assert tree.equal(*gradients)


def test_scratch_for_the_same_purpose_is_the_same_memory():
    first = threads.scratch("a", (3, 4), np.float32)
    assert (first.shape, first.dtype, first.flags.writeable) == ((3, 4), np.float32, True)
    for shape, dtype in [((3, 4), np.float32), ((2, 3), np.float64), ((5,), np.uint8), ((), np.int64)]:
        again = threads.scratch("a", shape, dtype)
        assert (again.shape, again.dtype) == (shape, dtype)
        assert again.flags.c_contiguous
        assert again.flags.aligned
        assert np.shares_memory(again, first)
    assert threads.scratch("a", (0, 3), np.float32).shape == (0, 3)


@pytest.mark.usefixtures("fresh_scratch")
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 200)), max_size=12))
def test_scratch_for_different_purposes_never_shares_memory(asked):
    latest = {}
    for number, (purpose, size) in enumerate(asked):
        latest[purpose] = (number, threads.scratch(purpose, (size,), np.float32))
        latest[purpose][1][...] = number
        for its_number, array in latest.values():
            assert (array == its_number).all()


@pytest.mark.usefixtures("fresh_scratch")
def test_scratch_of_different_threads_never_shares_memory():
    threads.set_threads(3)
    meeting = threading.Barrier(3, timeout=30)

    def fill(number):
        array = threads.scratch("a", (1000,), np.float64)
        meeting.wait()
        array[...] = number
        meeting.wait()
        return array, array.copy(), threads.scratch("a", (10,), np.float64)

    found = threads.run([partial(fill, number) for number in range(3)])
    for number, (array, copy, again) in enumerate(found):
        assert (copy == number).all()
        assert np.shares_memory(again, array)
    arrays = [array for array, _, _ in found]
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))


@pytest.mark.usefixtures("fresh_scratch")
def test_scratch_larger_than_the_limit_is_not_kept(monkeypatch):
    monkeypatch.setattr(threads, "_SCRATCH_BYTES", 64)
    at_limit = [threads.scratch("a", (8,), np.float64) for _ in range(2)]
    above = [threads.scratch("a", (9,), np.float64) for _ in range(2)]
    assert np.shares_memory(*at_limit)
    assert not np.shares_memory(*above)
    assert not np.shares_memory(above[0], at_limit[0])
    assert np.shares_memory(threads.scratch("a", (8,), np.float64), at_limit[0])
    assert [len(buffer) for buffer in threads._scratch.buffers.values()] == [64]


@pytest.mark.usefixtures("fresh_scratch")
def test_scratch_that_is_too_small_grows_and_never_shrinks():
    small = threads.scratch("a", (4,), np.float32)
    small[...] = 1
    large = threads.scratch("a", (100,), np.float32)
    large[...] = 2
    assert not np.shares_memory(large, small)
    assert (small == 1).all()  # who still holds the old one keeps it
    assert np.shares_memory(threads.scratch("a", (4,), np.float32), large)
    assert np.shares_memory(threads.scratch("a", (100,), np.float32)[99:], large[99:])


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_set_threads_takes_positive_ints(wrong):
    with pytest.raises(ValueError, match="set_threads: expected a positive int, got"):
        threads.set_threads(wrong)


def threads_of_a_process(setting=None):
    environment = {key: value for key, value in os.environ.items() if key != "FUNCNN_THREADS"}
    if setting is not None:
        environment["FUNCNN_THREADS"] = setting
    code = "from funcnn.arrays.threads import threads; print(threads())"
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


def test_threads_are_the_environments_or_the_cores():
    assert threads_of_a_process("7").stdout == "7\n"
    assert 1 <= int(threads_of_a_process().stdout) <= (os.cpu_count() or 1)


@pytest.mark.parametrize("wrong", ["0", "-2", "many", ""])
def test_a_wrong_environment_is_an_error(wrong):
    result = threads_of_a_process(wrong)
    assert result.returncode != 0
    assert f"FUNCNN_THREADS: expected a positive number of threads, got {wrong!r}" in result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_makes_its_own_threads():
    threads.set_threads(2)
    threads.run([int, int])  # the parent's pool exists
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forking with threads
        child = os.fork()
    if child == 0:
        os._exit(0 if threads.run([int, int]) == [0, 0] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_process_forked_inside_a_limit_leaves_it_like_its_parent():
    libraries = threads._blas()
    before = [library.get_num_threads() for library in libraries]
    for library in libraries:
        threads._set_blas_threads(library, 2)
    try:
        with threads.single_blas_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        numbers = {library.get_num_threads() for library in libraries}
        if child == 0:
            with threads.single_blas_thread():
                again = {library.get_num_threads() for library in libraries}
            os._exit(0 if (numbers, again, threads._setting.limiting) == ({2}, {1}, 0) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert numbers == {2}
    finally:
        for library, number in zip(libraries, before, strict=True):
            threads._set_blas_threads(library, number)

"""The stand-in for CuPy is like CuPy: where it refuses, what it gives, when the host waits. See `standin`.

What is asserted of CuPy was read in the sources of the version in `standin/cupy_names.txt`; the errors below were also
raised by that version itself, asked without a GPU.
"""

import copy
import pickle
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import standin
from standin import introspect

rng = np.random.default_rng(8)
HOST = rng.normal(size=(4, 3)).astype(np.float32)


def device(host: Any = HOST) -> Any:
    return standin.asarray(host)


def test_the_names_are_those_of_the_installed_cupy() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy warns of names that NumPy will drop, and where there is no driver
        try:
            import cupy
        except ImportError as error:
            pytest.skip(f"CuPy: {error}")
        found = introspect.lines(cupy)
    written = introspect.FILE.read_text().splitlines()
    if found[0] != written[0]:  # other versions
        pytest.skip(f"here {found[0].partition(':')[0]}, the stand-in {written[0].partition(':')[0]}")
    assert found == written


def test_no_file_of_the_stand_in_hides_a_function() -> None:
    files = {file.stem for file in introspect.FILE.parent.glob("*.py")}
    assert files.isdisjoint(standin.KINDS)
    assert "array" in standin.KINDS


def test_arrays_have_no_attribute_that_cupys_lack() -> None:
    of_cupy = {name.removeprefix("ndarray.") for name in standin.KINDS if name.startswith("ndarray.")}
    ours = {name for name in dir(standin.ndarray) if not (name.startswith("_") and not name.startswith("__"))}
    pythons = {"__weakref__", "__static_attributes__", "__firstlineno__"}  # own, from 3.13 on the latter two
    assert ours - of_cupy <= pythons
    assert len(of_cupy - ours) < 40  # pointers, files and the rest that a library of arrays has no use for
    with pytest.raises(AttributeError):
        device().note = 1
    assert weakref.ref(x := device())() is x


@pytest.mark.parametrize(
    "mixed",
    [
        lambda x: np.asarray(x),
        lambda x: np.ascontiguousarray(x),
        lambda x: np.array([1.0, x[0, 0]]),
        lambda x: x + HOST,
        lambda x: HOST * x,
        lambda x: x == HOST,
        lambda x: x @ HOST.T,
        lambda x: HOST.T @ x,
        lambda x: np.add(HOST, 1, out=x).__iadd__(HOST),
        lambda x: np.exp(x, out=np.empty_like(HOST)),
        lambda x: x.__imul__(HOST),
        lambda x: HOST.copy().__iadd__(x),
        lambda x: np.where(x > 0, x, HOST),
        lambda x: np.clip(x, HOST, 1),
        lambda x: np.concatenate([x, HOST]),
        lambda x: np.stack([x, HOST]),
        lambda x: np.einsum("ij,kj->ik", x, HOST),
        lambda x: np.matmul(HOST, x.T),
        lambda x: np.sum(HOST, axis=0, out=x[0]),
        lambda x: standin.exp(HOST),
        lambda x: standin.ascontiguousarray(HOST),
        lambda x: range(standin.asarray(3)),
        lambda x: x + [1.0, 2.0, 3.0],
        lambda x: x + "1",
    ],
)
def test_no_array_is_taken_for_one_of_the_other_kind(mixed: Callable[[Any], Any]) -> None:
    x = device()
    with pytest.raises(TypeError):
        mixed(x)
    assert not isinstance(x, np.ndarray)
    np.testing.assert_array_equal(x.get(), HOST)


def put(x: Any, key: Any, value: Any) -> None:
    x[key] = value


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (lambda x: np.vecdot(x, x), TypeError),
        (lambda x: np.add(x, 1, where=x > 0), TypeError),
        (lambda x: np.sum(x, where=x > 0), TypeError),
        (lambda x: np.max(x, initial=0), TypeError),
        (lambda x: np.clip(x, min=0), TypeError),
        (lambda x: np.reshape(x, shape=(-1,)), TypeError),
        (lambda x: np.einsum("ij->i", x, out=x[:, 0]), TypeError),
        (lambda x: np.einsum_path("ij->i", x), TypeError),
        (lambda x: np.lib.stride_tricks.as_strided(x, (2, 2), (4, 4)), TypeError),
        (lambda x: x.astype(np.float64, casting="safe"), TypeError),
        (lambda x: np.multiply(x, 2.5, out=standin.zeros(x.shape, int)), TypeError),
        (lambda x: np.block([x]), TypeError),
        (lambda x: np.argsort(x, stable=True), TypeError),
        (lambda x: np.repeat(x, np.array([1, 2, 1, 1]), axis=0), TypeError),
        (lambda x: np.concatenate([x[0, 0], x[0, 0]]), TypeError),
        (lambda x: np.dot(x, 2.0), TypeError),
        (lambda x: hash(x), TypeError),
        (lambda x: np.where(True, x, x), AttributeError),
        (lambda x: np.lexsort((x[0], x[1])), AttributeError),
        (lambda x: x.flags.writeable, AttributeError),
        (lambda x: setattr(x.flags, "writeable", False), AttributeError),
        (lambda x: x.__array_namespace__(), AttributeError),
        (lambda x: standin.vecdot, AttributeError),
        (lambda x: standin.errstate, AttributeError),
        (lambda x: standin.ElementwiseKernel, AttributeError),
        (lambda x: standin.RawKernel, AttributeError),
        (lambda x: standin.fuse, AttributeError),
        (lambda x: eval("x + x", {"__builtins__": {}}, {"x": x}), KeyError),  # for it compiles, and imports for that
        (lambda x: np.maximum.reduce(x), NotImplementedError),
        (lambda x: np.maximum.accumulate(x), NotImplementedError),
        (lambda x: np.multiply.at(x, 0, 2), NotImplementedError),
        (lambda x: x.T.sort(), NotImplementedError),
        (lambda x: np.argsort(x, kind="quicksort"), ValueError),
        (lambda x: np.copyto(x, HOST), ValueError),
        (lambda x: put(x, slice(None), HOST), ValueError),
        (lambda x: put(x, standin.asarray([1, 1]), x[:2]), ValueError),  # undefined there; only here an error
        (lambda x: standin.array(["a"]), ValueError),
        (lambda x: bool(x), ValueError),
        (lambda x: x[4], IndexError),
        (lambda x: x[x], IndexError),
        (lambda x: x[standin.ones(3, bool)], IndexError),
    ],
)
def test_what_cupy_refuses_is_refused(asked: Callable[[Any], Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        asked(device())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.sum(),
        lambda x: np.sum(x, axis=1, keepdims=True, dtype=np.float64),
        lambda x: np.add.reduce(x, axis=0),
        lambda x: x.mean(axis=(0, 1)),
        lambda x: x.argmax(axis=1),
        lambda x: np.exp(x) / (1 + np.exp(x)).sum(axis=1, keepdims=True),
        lambda x: np.float64(2) * x - np.float32(1) / x,
        lambda x: 2 ** x.astype(np.float64) // 3 % 2,
        lambda x: -(abs(x) ** 2),
        lambda x: np.divmod(x, 0.5)[1],
        lambda x: (x > 0) & ~(x < 1) | (x == x[0]),
        lambda x: np.maximum(x, 0, out=np.empty_like(x)),
        lambda x: np.clip(x, -np.inf, 0),
        lambda x: x.clip(max=0.5).round(1),
        lambda x: np.where(x > 0, x, 0.0),
        lambda x: x @ x.T,
        lambda x: np.matmul(x.T, x[:, 0]),
        lambda x: np.einsum("ij,kj->ik", x, x, optimize=True),
        lambda x: np.tensordot(x, x, axes=([0], [0])),
        lambda x: np.concatenate([x, x[:1]], axis=0),
        lambda x: np.stack([x, 2 * x], axis=1),
        lambda x: np.broadcast_to(x[None, 0], (2, 3)),
        lambda x: np.pad(x, ((1, 0), (0, 2))),
        lambda x: np.sort(x, axis=0) + np.argsort(x, axis=0, kind="stable"),
        lambda x: np.cumsum(x, axis=1)[..., ::-1],
        lambda x: np.take_along_axis(x, np.argmin(x, axis=1, keepdims=True), axis=1),
        lambda x: np.isfinite(x).all(),
        lambda x: np.linalg.norm(x, axis=1),
        lambda x: np.zeros(3, x.dtype, like=x),
        lambda x: np.full_like(x, 2)[0],
        lambda x: x.transpose(1, 0).reshape(2, 6).ravel()[1:].copy(),
        lambda x: np.count_nonzero(x > 0),
        lambda x: np.diag(x) + np.average(x, axis=0) + np.vstack([x, x])[5],
        lambda x: np.outer(x[0], x[1]) @ np.add.outer(x[0], x[1]),
        lambda x: np.add.accumulate(x, axis=1) * np.isneginf(x).any() + np.modf(x)[0],
        lambda x: np.repeat(x, 2, axis=0).T.mT.swapaxes(0, 1).squeeze(),
        lambda x: np.expm1(x) + np.log1p(abs(x)) + np.rint(x) + np.sign(x),
    ],
)
def test_functions_give_numpys_numbers_on_the_device(function: Callable[[Any], Any]) -> None:
    with standin.synchronisations() as waits, standin.uploads() as uploads:
        found = function(device())
    assert type(found) is standin.ndarray
    assert (waits, len(uploads)) == ([], 1)  # the array itself
    expected = np.asarray(function(HOST))
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found.get(), expected)


def test_what_tells_of_an_array_is_the_hosts() -> None:
    x = device()
    with standin.synchronisations() as waits:
        told = (
            np.shape(x),
            np.ndim(x),
            np.size(x),
            len(x),
            x.nbytes,
            np.result_type(x, 1.0),
            np.may_share_memory(x, x.T),
        )
    assert told == ((4, 3), 2, 12, 4, 48, np.dtype(np.float32), True)
    assert waits == []
    assert standin.get_array_module(1, x) is standin
    assert standin.get_array_module(HOST) is np
    assert type(x).__module__ == "standin"
    assert standin.float32 is np.float32


@pytest.mark.parametrize(
    ("waiting", "name"),
    [
        (lambda x: float(x.sum()), "float()"),
        (lambda x: int(x.argmax()), "int()"),
        (lambda x: bool((x > 0).any()), "bool()"),
        (lambda x: x[0, 0].item(), "item()"),
        (lambda x: x.tolist(), "tolist()"),
        (lambda x: x.get(), "get()"),
        (lambda x: standin.asnumpy(x), "get()"),
        (lambda x: repr(x), "repr()"),
        (lambda x: pickle.dumps(x), "pickling"),
        (lambda x: f"{x.sum():.3f}", "format()"),
        (lambda x: max(x[0, 0], x[0, 1]), "bool()"),
        (lambda x: x[x > 0], "a mask as index"),
        (lambda x: put(x, x > 0, 0), "a mask as index"),
        (lambda x: np.flatnonzero(x), "flatnonzero()"),
        (lambda x: x[: standin.asarray(2)], "int()"),
        (lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, axis=0), "sliding_window_view()"),
        (lambda x: np.unique(x), "unique()"),
        (lambda x: np.bincount(standin.asarray([1, 2])), "bincount()"),
        (lambda x: np.repeat(x, standin.asarray([1, 0, 1, 0]), axis=0), "repeat() by an array"),
    ],
)
def test_what_makes_the_host_wait_is_listed_with_its_place(waiting: Callable[[Any], Any], name: str) -> None:
    x = device()
    with standin.synchronisations() as waits:
        waiting(x)
    assert [wait.rsplit(":", 1)[0] for wait in waits] == [f"{name} at test_standin.py"]
    with standin.synchronisations() as none:
        copy.deepcopy(x)
        x += 1
        x[1:] = x[0]
        np.copyto(x, x[::-1], where=x > 0)
    assert none == []


def test_memory_is_sent_and_fetched_in_one_form() -> None:
    x, into = device(), np.empty_like(HOST)
    assert x.get(out=into) is into
    np.testing.assert_array_equal(into, HOST)
    assert x.get(order="F").flags.f_contiguous
    x.set(HOST[::-1])
    np.testing.assert_array_equal(x.get(), HOST[::-1])
    x.fill(x[0, 0].copy())
    np.testing.assert_array_equal(x.get(), np.full_like(HOST, HOST[-1, 0]))
    assert x.view(np.int32).dtype == np.int32
    assert (x.flags["C_CONTIGUOUS"], x.flags.forc, x.T.flags.fnc, x.device.id) == (True, True, True, 0)
    for wrong in (HOST.astype(np.float64), HOST.tolist()):
        with pytest.raises(TypeError):
            x.set(wrong)
        with pytest.raises(TypeError):
            x.get(out=wrong)
    for wrong in (HOST[:1], HOST.T):
        with pytest.raises(ValueError, match="Shape mismatch"):
            x.set(wrong)
        with pytest.raises(ValueError, match="Shape mismatch"):
            x.get(out=wrong.copy())


def test_what_is_sent_unasked_is_listed() -> None:
    x = device()
    with standin.uploads() as uploads:
        x[np.array([0, 1])]
        x[[2, 3]] = HOST[:2]
        x.take([0])
        x * np.float32(2) + x.sum()
    assert [sent.split(" at ")[0] for sent in uploads] == ["an index", "an index", "a value", "indices"]


def test_indices_outside_wrap_and_writes_arrive() -> None:
    x = device()
    np.testing.assert_array_equal(x[standin.asarray([4, -5])].get(), HOST[[0, 3]])
    np.testing.assert_array_equal(x.take(standin.asarray([3]), axis=1).get(), HOST[:, [0]])
    np.testing.assert_array_equal(
        x[standin.arange(4), standin.asarray([0, 1, 2, 3])].get(), HOST[range(4), [0, 1, 2, 0]]
    )
    np.testing.assert_array_equal(x[x > 0].get(), HOST[HOST > 0])
    np.testing.assert_array_equal(x[:, None, standin.asarray(1)].get(), HOST[:, None, 1])
    rows = standin.asarray([0, 2, 0])
    expected = HOST.copy()
    np.add.at(expected, [0, 2, 0], HOST[:3])
    np.add.at(x, rows, x[:3].copy())
    np.testing.assert_array_equal(x.get(), expected)
    np.put_along_axis(x, standin.asarray([[1], [0], [2], [3]]), 9.0, axis=1)
    np.put_along_axis(expected, np.array([[1], [0], [2], [0]]), 9.0, axis=1)
    x[x == 9] = -1
    expected[expected == 9] = -1
    np.testing.assert_array_equal(x.get(), expected)


def test_windows_are_views() -> None:
    x = device()
    expected = np.lib.stride_tricks.sliding_window_view(HOST, 2, axis=0)
    for windows in (
        np.lib.stride_tricks.sliding_window_view(x, 2, axis=0),
        standin.lib.stride_tricks.as_strided(x, (3, 3, 2), (12, 4, 12)),
    ):
        assert (windows.base is x, windows.strides) == (True, expected.strides)
        np.testing.assert_array_equal(windows.get(), expected)


@pytest.mark.parametrize(
    ("subscripts", "strides"),
    [
        ("nhwc,wcf->nhf", (4, 8, 24)),
        ("nhwc,wcf->fnh", (24, 4, 8)),
        ("nhwc,nhwf->cf", (4, 16)),
        ("nhwc,nhwc->nh", (4, 8)),
        ("...c,wcf->...wf", (60, 20, 4, 120, 600)),
        ("hwc,nhwc->nhwc", (240, 80, 16, 4)),
    ],
)
def test_products_of_einsum_lie_as_cupy_leaves_them(subscripts: str, strides: tuple[int, ...]) -> None:
    """The strides are those that CuPy's own einsum gave, which plans them on the host."""
    shapes = {"nhwc": (2, 3, 5, 4), "nhwf": (2, 3, 5, 4), "...c": (2, 3, 5, 4), "wcf": (5, 4, 6), "hwc": (3, 5, 4)}
    hosts = [rng.normal(size=shapes[k]).astype(np.float32) for k in subscripts.partition("->")[0].split(",")]
    found = np.einsum(subscripts, *map(device, hosts))
    assert found.strides == strides
    np.testing.assert_allclose(found.get(), np.einsum(subscripts, *hosts), rtol=1e-6)


def test_views_share_memory_and_results_lie_in_rows() -> None:
    x = device()
    columns = x.T
    assert (columns.base is x, columns.flags.owndata, columns.flags.f_contiguous) == (True, False, True)
    assert (x.reshape(-1)[2:].base is x, x[0, 0].shape, x[0, 0].base is x) == (True, (), True)
    x[0, 0][...] = 7
    assert columns[0, 0].item() == 7
    assert (np.exp(columns).flags.c_contiguous, columns.copy().flags.c_contiguous) == (
        True,
        True,
    )  # NumPy's: in columns
    assert columns.astype(np.float64).flags.f_contiguous
    assert standin.ascontiguousarray(x) is x
    assert standin.asarray(x) is x
    assert np.isnan(standin.empty(3).get()).all()  # what was never written is no number
    assert pickle.loads(pickle.dumps(columns)).flags.f_contiguous


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool"])
def test_promotion_is_that_of_nep_50(dtype: str) -> None:
    """CuPy takes the first loop that the dtypes fit; asked for all ufuncs, it found NumPy's for all that are real."""
    x, host = standin.ones(2, dtype), np.ones(2, dtype)
    for other in (2, 2.0, True, np.float64(2), np.float32(2), np.int8(2)):
        assert (x * other).dtype == (other * x).dtype == (host * other).dtype
        assert np.where(x > 0, x, other).dtype == np.where(host > 0, host, other).dtype
    assert (x / 2).dtype == (host / 2).dtype
    assert (x**2).dtype == (np.dtype(int) if dtype == "bool" else (host**2).dtype)
    if dtype != "bool":  # of which NumPy has made other things in other versions
        assert (x**2.0).dtype == (host**2.0).dtype
    assert (x.sum().dtype, x.mean().dtype) == (host.sum().dtype, host.mean().dtype)
    assert (x[0] * np.float32(1)).dtype == (host[:1] * np.float32(1)).dtype

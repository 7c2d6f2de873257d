"""The kernels of `funcnn.arrays.cuda` beside the plain forms, which gpu.py prints: where each begins to pay.

A row is a call with one shape: microseconds of the plain form and of the kernel, and how far the two results are apart,
as a share of the largest value. Calls follow each other without waiting, so a small one takes what its launch takes.
"""

import argparse
import importlib
import pkgutil
import statistics
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import measure
import numpy as np
from gpu_machine import Machine

from funcnn import tree
from funcnn.arrays import cuda
from funcnn.arrays.geometry import Geometry, geometry
from funcnn.arrays.seam import plain_module
from funcnn.layers import batch_norm, gelu, leaky_relu, relu, silu, tanh
from funcnn.losses import softmax_cross_entropy
from funcnn.nn.batch_norm import BatchNormParams, BatchNormState
from funcnn.optimizers import adam, momentum, sgd


class Case(NamedTuple):
    """What to compare: a name, the shape, and a function that makes the two calls."""

    name: str
    shape: str
    make: Callable[[], tuple[Callable[[], Any], Callable[[], Any]]]


# --- Cases: arrays are made when a case is, so that few of them lie in memory at a time ------------------------

CONVOLUTIONS = [  # images, kernel, filters, stride, padding, groups
    ((20, 28, 28, 1), 5, 8, 1, "valid", 1), ((20, 24, 24, 8), 5, 8, 1, "valid", 1),
    ((64, 28, 28, 1), 3, 32, 1, "valid", 1), ((64, 26, 26, 32), 3, 64, 1, "valid", 1),
    ((256, 26, 26, 32), 3, 64, 1, "valid", 1), ((64, 12, 12, 64), 3, 128, 1, "valid", 1),
    ((200, 32, 32, 3), 3, 32, 1, "same", 1), ((200, 16, 16, 32), 3, 64, 1, "same", 1),
    ((64, 14, 14, 16), 3, 32, 1, "same", 1), ((64, 28, 28, 32), 3, 64, 2, "same", 1),
    ((64, 16, 16, 64), 1, 64, 1, "valid", 1), ((64, 28, 28, 32), 3, 32, 1, "same", 32),
    ((64, 8, 8, 128), 3, 256, 1, "same", 1), ((64, 8, 8, 256), 3, 256, 1, "same", 1),
]  # fmt: skip
POOLS = [((64, 24, 24, 64), 2, 2, "valid"), ((64, 28, 28, 16), 3, 2, ((0, 1), (0, 1))), ((4, 8, 8, 16), 2, 2, "valid")]
SIZES = (2**10, 2**14, 2**18, 2**22, 2**24)
NORMS = ((64, 10), (200, 256), (64, 32, 32, 32), (200, 32, 32, 32), (200, 16, 16, 64))
ROWS = ((12, 64, 128), (64, 256, 256), (8, 8))
LOGITS = ((64, 10), (256, 10), (768, 65), (4096, 1000), (64, 50_000))
LEAVES = {
    "mlp": ((784, 128), (128,), (128, 64), (64,), (64, 10), (10,)),
    "dropout_cnn": (
        (3, 3, 1, 32), (32,), (3, 3, 32, 64), (64,), (3, 3, 64, 128), (128,), (3200, 512), (512,), (512, 10), (10,),
    ),
    "gpt": ((65, 128), (64, 128), *((128,), (128, 384), (128, 128), (128,), (128, 512), (512, 128)) * 4, (128,)),
    "large": ((4096, 4096), (4096,)) * 4,
}  # fmt: skip


class Arrays:
    """Gaussian arrays of float32 of a module."""

    def __init__(self, xp: Any) -> None:
        self.xp, self.draw = xp, np.random.default_rng(0)

    def __call__(self, *shape: int, positive: bool = False) -> Any:
        drawn = self.draw.standard_normal(shape, np.float32)
        return self.xp.asarray(abs(drawn) + np.float32(0.5) if positive else drawn)

    def labels(self, count: int, classes: int) -> Any:
        """Class numbers."""
        return self.xp.asarray(self.draw.integers(0, classes, count))


def cases(xp: Any, *, small: bool) -> Iterator[Case]:
    """All of them; small ones if they are to be emulated."""
    yield from _convolutions(Arrays(xp), small)
    yield from _pools(Arrays(xp), small)
    yield from _elementwise(Arrays(xp), small)
    yield from _norms(Arrays(xp), small)
    yield from _losses(Arrays(xp), small)
    yield from _optimizers(Arrays(xp), small)


def _convolutions(arrays: Arrays, small: bool) -> Iterator[Case]:
    plain, fast = plain_module("convolution"), _module("convolution")
    for shape, kernel, filters, stride, padding, groups in CONVOLUTIONS:
        n, h, w, c = (1, 6, 6, min(shape[3], 4)) if small else shape
        groups, filters = (c, c) if groups > 1 else (1, min(filters, 4) if small else filters)
        geo = geometry((h, w), (kernel, kernel), (stride, stride), (1, 1), padding)
        text = f"{n}×{h}×{w}×{c} → {filters}, {kernel}×{kernel}" + f", stride {stride}" * (stride > 1)
        text += ", depthwise" * (groups > 1)
        x = arrays, (n, h, w, c)
        weight, dy = (arrays, (kernel, kernel, c // groups, filters)), (arrays, (n, *geo.out_size, filters))
        given = {"conv_forward": (x, weight), "conv_weight_gradient": (x, dy), "conv_input_gradient": (dy, weight)}
        for name, pair in given.items():
            yield Case(name, text, _same_call(plain, fast, name, pair, geo, groups))


def _same_call(
    plain: Any, fast: Any, name: str, pair: Any, geo: Geometry, groups: int
) -> Callable[[], tuple[Callable[[], Any], Callable[[], Any]]]:
    def make() -> tuple[Callable[[], Any], Callable[[], Any]]:
        given = [arrays(*shape) for arrays, shape in pair]
        with mock.patch.object(fast, "DEEP", fast.LARGEST):  # deep ones too: where cuBLAS is faster is to be seen
            if not fast.fits(*given, geo, groups):
                raise LookupError("the kernel is not for it")
        return lambda: getattr(plain, name)(*given, geo, groups), lambda: getattr(fast, name)(*given, geo, groups)

    return make


def _pools(arrays: Arrays, small: bool) -> Iterator[Case]:
    plain, fast = plain_module("pooling"), _module("pooling")
    for shape, window, stride, padding in POOLS:
        n, h, w, c = (1, 6, 6, 2) if small else shape
        geo = geometry((h, w), (window, window), (stride, stride), (1, 1), padding)
        text = f"{n}×{h}×{w}×{c}, {window}×{window}"

        def maxima(shape: Any = (n, h, w, c), geo: Geometry = geo) -> Any:
            x = arrays(*shape)
            return tuple(lambda its=its: its.max_pool_forward(x, geo, keep_winners=True)[0] for its in (plain, fast))

        def back(shape: Any = (n, h, w, c), geo: Geometry = geo) -> Any:
            x, dy = arrays(*shape), arrays(shape[0], *geo.out_size, shape[3])
            kept = [its.max_pool_forward(x, geo, keep_winners=True)[1] for its in (plain, fast)]
            both = zip((plain, fast), kept, strict=True)
            return tuple(lambda its=its, won=won: its.max_pool_backward(dy, won, geo) for its, won in both)

        def means(shape: Any = (n, h, w, c), geo: Geometry = geo) -> Any:
            x = arrays(*shape)
            return tuple(lambda its=its: its.avg_pool_forward(x, geo) for its in (plain, fast))

        def means_back(shape: Any = (n, h, w, c), geo: Geometry = geo) -> Any:
            dy = arrays(shape[0], *geo.out_size, shape[3])
            return tuple(lambda its=its: its.avg_pool_backward(dy, geo) for its in (plain, fast))

        yield Case("max_pool_forward", text, maxima)
        yield Case("max_pool_backward", text, back)
        yield Case("avg_pool_forward", text, means)
        yield Case("avg_pool_backward", text, means_back)


def _elementwise(arrays: Arrays, small: bool) -> Iterator[Case]:
    fast = _module("elementwise")
    layers = {"relu": relu(), "leaky_relu": leaky_relu(), "tanh": tanh(), "silu": silu(), "gelu": gelu()}
    for size in SIZES[:1] if small else SIZES:
        for name, layer in layers.items():
            given = {"slope": layer.config.slope} if name == "leaky_relu" else {}

            def forward(name: str = name, layer: Any = layer, given: Any = given, size: int = size) -> Any:
                x = arrays(size // 64, 64)
                return (
                    lambda: layer.apply(None, None, x, train=True).y,
                    lambda: fast.activate(name, x, keep_slope=True, **given)[0],
                )

            def back(name: str = name, layer: Any = layer, given: Any = given, size: int = size) -> Any:
                x, dy = arrays(size // 64, 64), arrays(size // 64, 64)
                y, slope = fast.activate(name, x, keep_slope=True, **given)
                kept, residuals = y if slope is None else slope, layer.apply(None, None, x, train=True).residuals
                return (
                    lambda: layer.backward(None, residuals, dy).dx,
                    lambda: fast.activate_back(name, kept, dy, **given),
                )

            yield Case(f"{name}", f"2^{size.bit_length() - 1}", forward)
            yield Case(f"{name}, backward", f"2^{size.bit_length() - 1}", back)

        def dropped(size: int = size) -> Any:
            x, mask = arrays(size // 64, 64), arrays(size // 64, 64) > 0
            factor = np.float32(2)
            return lambda: x * mask * factor, lambda: fast.masked(x, mask, 2.0)

        yield Case("masked", f"2^{size.bit_length() - 1}", dropped)


def _norms(arrays: Arrays, small: bool) -> Iterator[Case]:
    norms, rows, plain_rows = _module("norms"), _module("row_norms"), plain_module("row_norms")
    for shape in ((4, 6),) if small else NORMS:
        text, channels, layer = "×".join(map(str, shape)), shape[-1], batch_norm()

        def given(shape: Any, channels: int) -> Any:
            params = BatchNormParams(arrays(channels, positive=True), arrays(channels))
            return params, BatchNormState(arrays(channels), arrays(channels, positive=True)), arrays(*shape)

        def forward(shape: Any = shape, channels: int = channels, layer: Any = layer) -> Any:
            params, state, x = given(shape, channels)

            def fast() -> Any:
                found = norms.statistics(x, state.mean, state.var, momentum=0.9, epsilon=1e-5)
                return norms.normalize(x, found.mean, found.inverse, params.scale, params.shift)

            return lambda: layer.apply(params, state, x, train=True).y, fast

        def back(shape: Any = shape, channels: int = channels, layer: Any = layer) -> Any:
            params, state, x = given(shape, channels)
            dy = arrays(*shape)
            found = norms.statistics(x, state.mean, state.var, momentum=0.9, epsilon=1e-5)
            residuals = layer.apply(params, state, x, train=True).residuals
            return (
                lambda: layer.backward(params, residuals, dy).dx,
                lambda: norms.normalize_back(dy, x, found.mean, found.inverse, params.scale)[0],
            )

        yield Case("batch norm", text, forward)
        yield Case("batch norm, backward", text, back)
    for shape in ((2, 3, 8),) if small else ROWS:
        text = "×".join(map(str, shape))

        def rows_forward(shape: Any = shape) -> Any:
            x, scale, shift = arrays(*shape), arrays(shape[-1]), arrays(shape[-1])
            return tuple(
                lambda its=its: its.normalize_rows(x, scale, shift, 1e-5, centre=True)[0] for its in (plain_rows, rows)
            )

        def rows_back(shape: Any = shape) -> Any:
            x, dy, scale = arrays(*shape), arrays(*shape), arrays(shape[-1])
            kept = [its.normalize_rows(x, scale, None, 1e-5, centre=True)[1:] for its in (plain_rows, rows)]
            return tuple(
                lambda its=its, k=k: its.normalize_rows_back(dy, x, *k, scale, centre=True, need_dx=True)[0]
                for its, k in zip((plain_rows, rows), kept, strict=True)
            )

        yield Case("layer norm", text, rows_forward)
        yield Case("layer norm, backward", text, rows_back)


def _losses(arrays: Arrays, small: bool) -> Iterator[Case]:
    fast = _module("losses")
    for count, classes in ((6, 5),) if small else LOGITS:

        def make(count: int = count, classes: int = classes) -> Any:
            logits, labels = arrays(count, classes), arrays.labels(count, classes)
            return (
                lambda: softmax_cross_entropy(logits, labels, reduction="none")[1],
                lambda: fast.cross_entropy(logits, labels)[1],
            )

        yield Case("softmax cross-entropy", f"{count}×{classes}", make)


def _optimizers(arrays: Arrays, small: bool) -> Iterator[Case]:
    fast = _module("optimizers")
    for net, shapes in LEAVES.items():
        its_shapes = ((3, 4), (4,)) if small else shapes

        def rows(shapes: Any, moments: int) -> Any:
            return [tuple(arrays(*shape, positive=i == 3) for i in range(2 + moments)) for shape in shapes]

        def make_adam(shapes: Any = its_shapes) -> Any:
            given, rule = rows(shapes, 2), adam(1e-3)
            params, grads = (tuple(row[i] for row in given) for i in range(2))
            state = _with_moments(rule.init(params), given)
            call = {"rate": 1e-3, "b1": 0.9, "b2": 0.999, "epsilon": 1e-8, "step": 3}
            return lambda: rule.update(grads, state, params, 3)[0][0], lambda: fast.adam(given, **call)[0][0]

        def make_momentum(shapes: Any = its_shapes) -> Any:
            given, rule = rows(shapes, 1), momentum(1e-2)
            params, grads = (tuple(row[i] for row in given) for i in range(2))
            state = _with_moments(rule.init(params), given)
            call = {"rate": 1e-2, "decay": 0.9, "nesterov": False}
            return lambda: rule.update(grads, state, params, 3)[0][0], lambda: fast.momentum(given, **call)[0][0]

        def make_sgd(shapes: Any = its_shapes) -> Any:
            given, rule = rows(shapes, 0), sgd(1e-2)
            params, grads = (tuple(row[i] for row in given) for i in range(2))
            state = rule.init(params)
            return lambda: rule.update(grads, state, params, 3)[0][0], lambda: fast.sgd(given, rate=1e-2)[0][0]

        for name, make in (("adam", make_adam), ("momentum", make_momentum), ("sgd", make_sgd)):
            yield Case(name, f"{net}, {len(its_shapes)} leaves", make)


def _with_moments(state: Any, rows: Any) -> Any:
    """An optimizer's fresh state with the rows' moments in the places of its zeros."""
    count = len(rows[0]) - 2
    return tree.unflatten(state, [row[2 + i] for i in range(count) for row in rows])


# --- Measuring ------------------------------------------------------------------------------------------------


def _module(name: str) -> Any:
    return importlib.import_module(f"{cuda.__name__}.{name}")


@contextmanager
def without_kernels() -> Iterator[None]:
    """Nothing fits a kernel, so that the plain forms compute by themselves."""
    modules = [_module(each.name) for each in pkgutil.iter_modules(cuda.__path__)]
    kept = [(each, each.fits) for each in modules if hasattr(each, "fits")]
    for module, _ in kept:
        module.fits = lambda *arguments: False
    try:
        yield
    finally:
        for module, fits in kept:
            module.fits = fits


def kernels(machine: Machine, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Each case's medians, and how far the results are apart; what fails is told, and the others go on."""
    with there(machine) as xp:
        for i, case in enumerate(cases(xp, small=not machine.is_real)):
            if options.quick and i % 4:
                continue
            row: dict[str, Any] = {"name": case.name, "shape": case.shape}
            try:
                plain, fast = case.make()

                def alone(plain: Callable[[], Any] = plain) -> Any:
                    with without_kernels():
                        return plain()

                wanted, found = (on_host(xp, call()) for call in (alone, fast))
                largest = float(np.abs(wanted).max(initial=0)) or 1.0
                row["apart"] = float(np.abs(found - wanted).max(initial=0)) / largest
                samples = {}
                with without_kernels():
                    samples |= machine.interleaved({"plain": plain}, options.rounds, options.turn / 2)
                samples |= machine.interleaved({"kernel": fast}, options.rounds, options.turn / 2)
                row |= {name: statistics.median(times) for name, times in samples.items()} | {"samples": samples}
            except LookupError as error:
                row["skipped"] = str(error)
            except Exception as error:
                traceback.print_exc()
                row["error"] = f"{type(error).__name__}: {error}"
            yield row


@contextmanager
def there(machine: Machine) -> Iterator[Any]:
    """The arrays' module, with kernels that run: the GPU's, or emulated ones on NumPy's arrays, compiled by g++."""
    if machine.is_real:
        with nullcontext(machine.xp) as xp:
            yield xp
        return
    from tests.cuda.emulator import Emulation

    with tempfile.TemporaryDirectory() as folder, Emulation(Path(folder)).on():
        yield np


def on_host(xp: Any, array: Any) -> Any:
    return np.asarray(array if xp is np else xp.asnumpy(array), np.float64)


def show(results: list[dict[str, Any]]) -> None:
    """The table."""
    rows = []
    for each in results:
        if "error" in each or "skipped" in each:
            rows.append([each["name"], each["shape"], each.get("error") or each["skipped"], "", "", ""])
        else:
            micro = [f"{1e6 * each[name]:.1f}" for name in ("plain", "kernel")]
            rows.append(
                [each["name"], each["shape"], *micro, f"{each['kernel'] / each['plain']:.2f}", f"{each['apart']:.1e}"]
            )
    measure.print_table(["", "shape", "plain µs", "kernel µs", "kernel / plain", "apart"], rows)
    print(flush=True)

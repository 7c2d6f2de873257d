"""Activations and gates, forward and back on one thread, against PyTorch's where it is installed: CPU time, medians.

FUNCNN_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/activations.py [names]
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import layers
from funcnn.arrays.threads import single_blas_thread
from funcnn.system.memory import keep_freed_memory

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None  # type: ignore[assignment]

SHAPE = (64, 22_000)


def gated(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """a · f(b) of the halves, by PyTorch."""
    return lambda x: x[..., : x.shape[-1] // 2] * function(x[..., x.shape[-1] // 2 :])


def peers() -> list[tuple[str, dict[str, Any], Callable[[Any], Any]]]:
    """Each constructor's name and arguments, and PyTorch's function."""
    tanh_form = {"approximate": "tanh"}
    return [
        ("relu", {}, lambda x: F.relu(x)),
        ("relu6", {}, lambda x: F.relu6(x)),
        ("hard_tanh", {}, lambda x: F.hardtanh(x)),
        ("hard_sigmoid", {}, lambda x: F.hardsigmoid(x)),
        ("hard_swish", {}, lambda x: F.hardswish(x)),
        ("soft_shrink", {}, lambda x: F.softshrink(x)),
        ("hard_shrink", {}, lambda x: F.hardshrink(x)),
        ("elu", {}, lambda x: F.elu(x)),
        ("selu", {}, lambda x: F.selu(x)),
        ("celu", {}, lambda x: F.celu(x)),
        ("sigmoid", {}, lambda x: torch.sigmoid(x)),
        ("log_sigmoid", {}, lambda x: F.logsigmoid(x)),
        ("tanh", {}, lambda x: torch.tanh(x)),
        ("tanh_shrink", {}, lambda x: F.tanhshrink(x)),
        ("softplus", {}, lambda x: F.softplus(x)),
        ("softsign", {}, lambda x: F.softsign(x)),
        ("silu", {}, lambda x: F.silu(x)),
        ("mish", {}, lambda x: F.mish(x)),
        ("gelu", {}, lambda x: F.gelu(x, **tanh_form)),
        ("gelu", {"exact": True}, lambda x: F.gelu(x)),
        ("glu", {}, lambda x: F.glu(x)),
        ("swiglu", {}, gated(lambda x: F.silu(x))),
        ("geglu", {}, gated(lambda x: F.gelu(x, **tanh_form))),
        ("geglu", {"exact": True}, gated(lambda x: F.gelu(x))),
        ("maxout", {"pieces": 2}, lambda x: torch.maximum(*x.chunk(2, -1))),
    ]


def milliseconds(layer: Any, function: Callable[[Any], Any], dtype: type, repeats: int) -> list[float]:
    """Ours forward and back, PyTorch's forward and back: medians, the two taken in turn."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal(SHAPE).astype(dtype)
    dy = draw.standard_normal((SHAPE[0], *layer.config.out_shape(SHAPE[1:]))).astype(dtype)
    times = []
    for _ in range(repeats):
        with single_blas_thread():
            start = time.process_time()
            residuals = layer.apply(None, None, x, train=True).residuals
            between = time.process_time()
            layer.backward(None, residuals, dy)
            taken = [between - start, time.process_time() - between]
        if torch is not None:
            given = torch.from_numpy(x).requires_grad_()
            start = time.process_time()
            y = function(given)
            between = time.process_time()
            torch.autograd.grad(y, given, torch.from_numpy(dy))
            taken += [between - start, time.process_time() - between]
        times.append(taken)
    return (1e3 * np.median(times, axis=0)).tolist()


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="constructors, all unless given")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--repeats", type=int, default=25)
    options = parser.parse_args()
    keep_freed_memory()
    if torch is not None:
        torch.set_num_threads(1)
    for name, arguments, function in peers():
        if options.names and name not in options.names:
            continue
        layer = getattr(layers, name)(**arguments)
        ours, back, *theirs = milliseconds(layer, function, getattr(np, options.dtype), options.repeats)
        line = f"{layer!s:20s} {ours:6.2f} + {back:5.2f} ms"
        if theirs:
            line += f"   PyTorch {theirs[0]:6.2f} + {theirs[1]:5.2f}   ratio {(ours + back) / sum(theirs):.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()

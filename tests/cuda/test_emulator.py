"""The emulation finds what it is there to find: it would be of no use if a wrong kernel passed."""

from typing import Any

import numpy as np
import pytest

from tests.cuda import emulator

HEAD = 'extern "C" __global__ void __launch_bounds__(64) kernel'
SHIFT = HEAD + "(const float *x, float *y, const int size) { const int i = blockIdx.x * 64 + threadIdx.x; %s }"


def run(built: emulator.Emulation, code: str, *arguments: Any, blocks: int = 1) -> None:
    built.module_of(code, ()).get_function("kernel")((blocks,), (64,), arguments)


def numbers() -> tuple[Any, ...]:
    return np.arange(100, dtype=np.float32), np.zeros(100, np.float32), np.int32(100)


def test_a_right_kernel_passes(built: emulator.Emulation) -> None:
    x, y, size = numbers()
    run(built, SHIFT % "if (i < size) y[i] = x[i] + 1;", x, y, size, blocks=2)
    np.testing.assert_array_equal(y, x + 1)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("y[i] = x[min(i, size - 1)];", "beyond an array"),
        ("if (i < size) y[i] = i > 0 ? y[i - 1] : 1;", "other bits"),
        ("__shared__ float all[64]; all[threadIdx.x] = x[min(i, 99)]; if (i < 63) y[i] = all[i + 1];", "other bits"),
        ("if (threadIdx.x < 40) __syncthreads(); if (i < size) y[i] = 1;", "never come"),
        ("if (i < size) y[i] = __shfl_xor_sync(0xffffffffu, x[i], 1);", "never come"),
    ],
    ids=["beyond", "order of threads", "no barrier", "divergent barrier", "divergent warp"],
)
def test_a_wrong_kernel_does_not(built: emulator.Emulation, body: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        run(built, SHIFT % body, *numbers(), blocks=2)


def test_arguments_are_of_the_declared_kinds(built: emulator.Emulation) -> None:
    x, y, size = numbers()
    code = SHIFT % "if (i < size) y[i] = x[i];"
    for wrong in ((x, y, 100), (x, y.astype(np.float64), size), (x[::2], y, size)):
        with pytest.raises(AssertionError, match="argument"):
            run(built, code, *wrong)

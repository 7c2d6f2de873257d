"""Each kernel on the shapes of the benchmark, beside its plain form: the same numbers, and the same bits each time.

`tests/cuda` has the small shapes, with all that is odd about them; these are as large as those of real nets.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gpu.there import DEVICE, xp

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import gpu_kernels
from gpu_machine import Machine

DRY = DEVICE == "standin"  # then kernels are emulated, on NumPy's arrays
CASES = list(gpu_kernels.cases(np if DRY else xp, small=DRY))


@pytest.fixture(scope="module", autouse=True)
def _kernels() -> Iterator[None]:
    with gpu_kernels.there(Machine.dry() if DRY else Machine.real()):
        yield


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name} {case.shape}")
def test_it_is_the_plain_form(case: gpu_kernels.Case) -> None:
    module = np if DRY else xp
    plain, fast = case.make()
    with gpu_kernels.without_kernels():
        wanted = gpu_kernels.on_host(module, plain())
    found, again = (gpu_kernels.on_host(module, fast()) for _ in range(2))
    np.testing.assert_array_equal(found, again)
    # Both round: sums of 100,000 products, in two orders.
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())

"""Every layer on a device's arrays, the stand-in's: it gives what it gives on the host, and waits for nothing."""

from typing import Any

import numpy as np
import pytest
import standin
from cases import CASES, Case, ready

from funcnn import tree
from funcnn.arrays.seam import DeviceError
from funcnn.device import to_device, to_host
from funcnn.system.devices import is_device_array, register

register("standin", standin)

every_case = pytest.mark.parametrize("case", CASES, ids=str)
RTOL = {np.float64: 1e-12, np.float32: 2e-5, np.float16: 1e-2}


def assert_there(values: Any) -> None:
    """Assert that all arrays of a tree are on the device."""
    arrays = [leaf for leaf in tree.flatten(values) if hasattr(leaf, "dtype")]
    assert all(map(is_device_array, arrays))


def assert_near(actual: Any, desired: Any, rtol: float) -> None:
    """Close by the largest value of a tree: the gradient of a bias before batch norm is zero but for rounding."""
    tree.check_like(desired, actual, shapes=True)
    largest = max([float(np.abs(leaf).max(initial=0)) for leaf in tree.flatten(desired)], default=0.0)
    for one, other in zip(tree.flatten(actual), tree.flatten(desired), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=rtol * largest, strict=True)


@every_case
@pytest.mark.parametrize("dtype", RTOL)
def test_gives_what_the_host_gives(case: Case, dtype: type) -> None:
    here = ready(case, dtype)
    moved = to_device((here.params, here.state, here.x, here.dy), "standin")
    there = type(here)(here.layer, *moved)
    with standin.synchronisations() as waits:
        evaluated = there.layer.apply(there.params, there.state, there.x).y
        trained, gradients = there.train(), tuple(there.gradients())
        of_params = there.gradients(need_dx=False).params
    assert waits == []
    wanted = here.layer.apply(here.params, here.state, here.x).y, *here.train()[:2], tuple(here.gradients())
    got = evaluated, *trained[:2], gradients
    assert_near(to_host(of_params), here.gradients(need_dx=False).params, RTOL[dtype])
    for one, other in zip(got, wanted, strict=True):
        assert_there(one)
        assert_near(to_host(one), other, RTOL[dtype])


OF_PARAMS = [case for case in CASES if any(leaf.ndim for leaf in tree.flatten(ready(case, np.float32).params))]


@pytest.mark.parametrize("case", OF_PARAMS, ids=str)
def test_arrays_of_both_kinds_are_refused_by_name(case: Case) -> None:
    here = ready(case, np.float32)
    params, state, x = to_device((here.params, here.state, here.x), "standin")
    for given, moved in (((params, state, here.x), "x"), ((here.params, here.state, x), "params")):
        with pytest.raises(DeviceError, match=rf"on the host.*to_device\({moved}, 'standin'\)"):
            here.layer.apply(*given)

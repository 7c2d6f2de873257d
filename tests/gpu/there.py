"""Where the tests of this folder compute: on a GPU; without one, or without CuPy, they are skipped whole.

With FUNCNN_TEST_DEVICE=standin they run on the stand-in for CuPy, to try them out where there is no GPU.
"""

import os
from typing import Any

import pytest

from funcnn.device import to_device
from funcnn.system.devices import device_module, register

__all__ = ["DEVICE", "moved", "xp"]

DEVICE = os.environ.get("FUNCNN_TEST_DEVICE", "cuda")


def _module() -> Any:
    if DEVICE == "standin":
        import standin

        register(DEVICE, standin)
    try:
        return device_module(DEVICE)
    except RuntimeError as error:
        pytest.skip(str(error), allow_module_level=True)


xp = _module()


def moved(values: Any) -> Any:
    """A tree of arrays, on the device."""
    return to_device(values, DEVICE)

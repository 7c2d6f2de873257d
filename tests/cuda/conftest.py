"""Kernels run on a GPU, or emulated where there is a compiler for that, and are held against the host's forms."""

from collections.abc import Iterator

import pytest

from tests.cuda import emulator
from tests.cuda.device import GPU


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> "emulator.Emulation":
    if emulator.COMPILER is None:
        pytest.skip("needs g++")
    return emulator.Emulation(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def _there(request: pytest.FixtureRequest) -> Iterator[None]:
    """Kernels that can be called."""
    if GPU is not None:
        yield
        return
    with request.getfixturevalue("built").on():
        yield

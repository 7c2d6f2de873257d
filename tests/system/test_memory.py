"""The allocator's setting: made by a call alone, for a whole process, and only where there is glibc."""

import ctypes
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

import funcnn
from funcnn.system import memory

ROOT = Path(funcnn.__file__).parent.parent
on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this system has another allocator")

# Arrays that are larger than glibc keeps by itself, taken and freed until the process has its memory; then five times
# more, counting the pages that the system had to give again.
PAGES = """
import resource, numpy as np
def step():
    arrays = [np.ones(2**23, np.uint8) for _ in range(4)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def output(program: str) -> str:
    """What a program prints in a process of its own."""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stderr == ""
    return run.stdout.strip()


@on_glibc
def test_it_can_on_glibc() -> None:
    assert output("from funcnn.system.memory import keep_freed_memory; print(keep_freed_memory())") == "True"


@on_glibc
def test_freed_memory_is_not_asked_for_again() -> None:
    # By default, each of the 20 arrays of 8 MB costs hundreds of pages or more.
    assert int(output("from funcnn.system.memory import keep_freed_memory; keep_freed_memory()" + PAGES)) < 100


STEP = """
from funcnn.layers import dense
from funcnn.losses import mean_squared_error
from funcnn.optimizers import sgd
from funcnn.train import Problem, make_step
make_step(Problem(dense(1), mean_squared_error, sgd(0.1)))
"""


@on_glibc
def test_a_training_step_keeps_some_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    assert int(output(STEP + PAGES)) < 100
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "131072")
    assert int(output(STEP + PAGES)) > 1000
    kept = "from funcnn.system.memory import keep_freed_memory, keep_some_memory\nkeep_freed_memory()\n"
    assert output(kept + "print(keep_some_memory())") == "True"


def test_importing_the_library_does_not_even_load_it() -> None:
    program = (
        "import sys, funcnn, funcnn.compose, funcnn.layers, funcnn.losses, funcnn.models, funcnn.optimizers, "
        "funcnn.train\n"
        "print('funcnn.system.memory' in sys.modules)"
    )
    assert output(program) == "False"


def test_importing_the_module_sets_nothing() -> None:
    program = (
        "import ctypes, funcnn.arrays.elementwise\n"
        "def refuse(*arguments): raise AssertionError('a library was opened')\n"
        "ctypes.CDLL = refuse\n"
        "import funcnn.system.memory\n"
        "print('imported')"
    )
    assert output(program) == "imported"


def libc(answer: int) -> SimpleNamespace:
    return SimpleNamespace(gnu_get_libc_version=lambda: b"2.36", mallopt=mock.Mock(return_value=answer))


@pytest.mark.parametrize(("answer", "kept"), [(1, True), (0, False)])
def test_it_says_whether_the_allocator_took_the_settings(
    monkeypatch: pytest.MonkeyPatch, answer: int, kept: bool
) -> None:
    found = libc(answer)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: found)
    monkeypatch.setattr(memory, "_made", [])
    assert memory.keep_freed_memory() is kept
    trim, mapped = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in malloc.h
    assert {call.args for call in found.mallopt.call_args_list} == {(trim, 2**31 - 1), (mapped, 2**31 - 1)}


@pytest.mark.parametrize(("system", "found"), [("darwin", libc(1)), ("win32", libc(1)), ("linux", SimpleNamespace())])
def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch, system: str, found: SimpleNamespace) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: found)
    monkeypatch.setattr(memory, "_made", [])
    assert memory.keep_freed_memory() is False
    assert not getattr(found, "mallopt", mock.Mock()).called

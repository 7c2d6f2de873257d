"""The GPU that gpu.py measures on, with CuPy and PyTorch; or a stand-in for it, to try the script out."""

import importlib.util
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from funcnn.arrays.threads import set_threads
from funcnn.system.devices import device_module, register

MIB = 2**20


@attrs.frozen
class Machine:
    """Where both compute: funcnn's device and its module, PyTorch if it is there."""

    device: str
    xp: Any
    torch: Any
    is_real: bool

    @classmethod
    def real(cls) -> "Machine":
        """The first GPU."""
        return cls("cuda", device_module("cuda"), _torch(), True)

    @classmethod
    def dry(cls) -> "Machine":
        """NumPy in CuPy's place, and PyTorch on the CPU."""
        import standin

        register("standin", standin)
        set_threads(1)
        torch = _torch()
        if torch is not None:
            torch.set_num_threads(1)
        return cls("standin", standin, torch, False)

    @property
    def torch_device(self) -> str:
        """PyTorch's name of where it computes."""
        return "cuda" if self.is_real else "cpu"

    def wait(self) -> None:
        """Wait until the GPU has nothing left to do."""
        if self.is_real:
            self.xp.cuda.Device().synchronize()

    def interleaved(self, calls: Mapping[str, Callable[[], Any]], rounds: int, turn: float) -> dict[str, list[float]]:
        """Seconds a call, one sample a round for each, all of them in turn in every round; the order rotates."""
        samples: dict[str, list[float]] = {name: [] for name in calls}
        names = list(calls)
        for i in range(-self.is_real, rounds):  # the first round compiles kernels, and does not count
            for name in names[i % len(names) :] + names[: i % len(names)]:
                call = calls[name]
                for _ in range(3 * self.is_real):
                    call()
                self.wait()
                count, start = 0, time.perf_counter()
                while count == 0 or time.perf_counter() - start < turn:
                    call()
                    count += 1
                self.wait()
                if i >= 0:
                    samples[name].append((time.perf_counter() - start) / count)
        return samples

    def our_memory(self, work: Callable[[], None]) -> float:
        """How much CuPy's pool grows by some work, in MiB."""
        if not self.is_real:
            work()
            return 0.0
        pool = self.xp.get_default_memory_pool()
        pool.free_all_blocks()
        before = pool.total_bytes()
        work()
        self.wait()
        grown = (pool.total_bytes() - before) / MIB
        pool.free_all_blocks()
        return float(grown)

    def torch_memory(self, work: Callable[[], None]) -> dict[str, float]:
        """PyTorch's peaks over some work, in MiB, of what it allocated and of what it had reserved."""
        cuda = self.torch.cuda
        if not self.is_real:
            work()
            return {"torch_allocated": 0.0, "torch_reserved": 0.0}
        cuda.synchronize()
        cuda.empty_cache()
        cuda.reset_peak_memory_stats()
        held = cuda.memory_allocated(), cuda.memory_reserved()
        work()
        cuda.synchronize()
        peaks = cuda.max_memory_allocated() - held[0], cuda.max_memory_reserved() - held[1]
        return {"torch_allocated": peaks[0] / MIB, "torch_reserved": peaks[1] / MIB}

    def facts(self) -> dict[str, Any]:
        """What a measurement depends on besides the code."""
        from funcnn import __version__

        found = {"python": platform.python_version(), "funcnn": __version__, "dry": not self.is_real}
        if self.torch is not None:
            found["torch"] = self.torch.__version__
        if self.is_real:
            runtime = self.xp.cuda.runtime
            found |= {
                "gpu": runtime.getDeviceProperties(runtime.getDevice())["name"].decode(),
                "cupy": self.xp.__version__,
                "cuda_runtime": runtime.runtimeGetVersion(),
                "cuda_driver": runtime.driverGetVersion(),
                "product_tflops": round(self._product_rate(), 1),
            }
            if self.torch is not None:
                found["cudnn"] = self.torch.backends.cudnn.version()
        return found

    def _product_rate(self, size: int = 4096) -> float:
        """TFLOP/s of a square product in float32 by CuPy."""
        a = self.xp.ones((size, size), self.xp.float32)
        out = self.xp.empty_like(a)
        (seconds,) = self.interleaved({"product": lambda: self.xp.matmul(a, a, out=out)}, 1, 0.1).values()
        return float(2 * size**3 / seconds[0] / 1e12)


def _torch() -> Any:
    """PyTorch, or None without it: funcnn is then measured alone."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch

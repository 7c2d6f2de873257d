"""Where a program computes, as its command line says: on the CPU, or on a device."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import Any

from funcnn.system.devices import device_module

__all__ = ["add_device", "check_alone", "shown_device"]


def add_device(parser: ArgumentParser) -> None:
    """Add ``--device``, which ends the program at once for a device that is not there, with the reason."""
    where = "where to compute: cpu, or cuda, an NVIDIA GPU through CuPy (docs/gpu.md) (default %(default)s)"
    parser.add_argument("--device", type=_device, default="cpu", help=where)


def _device(text: str) -> str:
    try:
        shown_device(text)
    except (RuntimeError, ValueError) as error:
        raise ArgumentTypeError(str(error).removeprefix("device: ")) from None
    return text


def shown_device(device: str) -> str:
    """A device as a run tells where it computes; its arrays' module is then there.

    >>> shown_device("cpu")
    'cpu'

    Raises ValueError for a device that is not known, RuntimeError for one that is not here, with the reason.
    """
    if device == "cpu":
        return device
    module = device_module(device)
    name, version = module.__name__, getattr(module, "__version__", "")
    if name == "cupy":
        number = module.cuda.runtime.getDevice()
        name = f"{module.cuda.runtime.getDeviceProperties(number)['name'].decode()}, CuPy"
    return f"{device}: {name} {version}".rstrip()


def check_alone(device: str, workers: int, shards: int | None, error: Callable[[str], Any]) -> None:
    """Call `error` with what is wrong if a device's batches were to be shared: it takes each whole."""
    if device != "cpu" and (workers > 1 or (shards or 1) > 1):
        error(f"--device {device}: it takes a batch whole, in one process. Leave out --workers and --shards")

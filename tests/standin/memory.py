"""What an array of the stand-in tells of its memory."""

from typing import Any

__all__ = ["Device", "Flags"]


class Flags:
    """How an array lies in memory; what CuPy tells of it, and nothing of it can be set."""

    __slots__ = ("c_contiguous", "f_contiguous", "owndata")

    def __init__(self, c_contiguous: bool, f_contiguous: bool, owndata: bool) -> None:
        for name, value in zip(self.__slots__, (c_contiguous, f_contiguous, owndata), strict=True):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name!r} of an array on a device cannot be set")

    def __getitem__(self, name: str) -> bool:
        if name not in ("C_CONTIGUOUS", "F_CONTIGUOUS", "OWNDATA"):
            raise KeyError(f"{name} is not defined for cupy.ndarray.flags")
        return bool(getattr(self, name.lower()))

    @property
    def fnc(self) -> bool:
        return self.f_contiguous and not self.c_contiguous

    @property
    def forc(self) -> bool:
        return self.f_contiguous or self.c_contiguous


class Device:
    """The device of every array here."""

    id = 0

    def __repr__(self) -> str:
        return "<CUDA Device 0>"

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __int__(self) -> int:
        return self.id

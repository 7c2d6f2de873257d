"""What the optimizers' arithmetic needs on a device."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcnn.arrays.adaptive import adam_update
from funcnn.arrays.seam import faster
from funcnn.arrays.updates import momentum_update, sgd_update
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["clipped", "in_one_launch", "squared_norm"]


def squared_norm(array: Array) -> Any:
    """The sum of squares in float64, as an array ()."""
    wide = array.astype(np.float64, copy=False)
    return (wide * wide).sum()


def clipped(g: Array, norm: Any, limit: float) -> Array:
    """g · min(1, limit / norm)."""
    return g * (limit / module_of(g).maximum(norm, limit)).astype(g.dtype)  # type: ignore[no-any-return]


_LAUNCHED: dict[Any, tuple[str, int]] = {  # updates, the kernel of each, and the arrays of a row
    sgd_update: ("sgd", 2), momentum_update: ("momentum", 3), adam_update: ("adam", 4),
}  # fmt: skip


def in_one_launch(updates: Sequence[Callable[..., Any]], rows: Sequence[tuple[Array, ...]]) -> list[list[Array]] | None:
    """The new leaves and moments of rows that share an update but for its weight decay, by one kernel."""
    kernels = faster("optimizers", rows[0][0], rows)
    name, count = _LAUNCHED.get(getattr(updates[0], "func", None), ("", 0))
    if not kernels or not name or any(len(row) != count for row in rows):
        return None
    options: list[dict[str, Any]] = [dict(getattr(update, "keywords", {})) for update in updates]
    decays = [each.pop("weight_decay", 0.0) for each in options]
    if any(each != options[0] for each in options) or {update.func for update in updates} != {updates[0].func}:  # type: ignore[attr-defined]
        return None
    decay = {"weight_decay": decays} if name == "adam" else {}
    return getattr(kernels, name)(rows, **options[0], **decay)  # type: ignore[no-any-return]

"""Trees in safetensors files: a run's `TrainState`, or a trained `Model`.

Arrays are stored under their paths; numbers beside them (a state's step and seed) in the file's JSON metadata,
with the format's number and, if given, a description of what the file is for. Files are written atomically, and
loading runs no code from them.
"""

import difflib
import json
import os
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors

from funcnn import tree
from funcnn.system.files import write_bytes

__all__ = ["CheckpointError", "load", "read_description", "save"]

T = TypeVar("T")
_FORMAT = 1


class CheckpointError(ValueError):
    """A file that is no whole checkpoint, or one of something else than what is to be restored."""


def save(path: str | os.PathLike[str], state: Any, *, description: Any = None) -> None:
    """Write a tree of arrays and numbers to a file, which appears whole or not at all.

    `description` is any JSON data about it, for `read_description`; for example ``describe(net)``.

    Raises CheckpointError for a leaf that is neither array nor number, OSError if it cannot be written.
    """
    arrays, numbers = {}, {}
    for name, leaf in zip(tree.paths(state), tree.flatten(state), strict=True):
        if isinstance(leaf, np.ndarray):
            arrays[name] = np.asarray(leaf, order="C")
        elif type(leaf) in (bool, int, float):
            numbers[name] = leaf
        else:
            raise CheckpointError(
                f"save: {name or 'the tree'} is a {type(leaf).__name__}; expected an array or a number"
            )
    metadata = {"format": _FORMAT, "numbers": numbers, "description": description}
    write_bytes(path, safetensors.save(arrays, metadata={"funcnn": json.dumps(metadata)}))


def load(path: str | os.PathLike[str], like: T) -> T:
    """Read a tree back: the structure, names, shapes and dtypes are those of `like`, or it is refused.

    >>> from tempfile import TemporaryDirectory
    >>> from funcnn import Key
    >>> from funcnn.layers import dense
    >>> params = dense(2).init(Key(0), (4,)).params
    >>> with TemporaryDirectory() as folder:
    ...     save(f"{folder}/params.safetensors", params)
    ...     restored = load(f"{folder}/params.safetensors", like=params)
    >>> tree.equal(params, restored)
    True

    Arrays come read-only. Raises CheckpointError for a file that is cut short, of another format, or of another
    tree, naming the first difference; FileNotFoundError if there is none.
    """
    arrays, metadata = _read(Path(path))
    stored = arrays | metadata["numbers"]
    names = tree.paths(like)
    _check_names(path, names, list(stored))
    leaves = []
    for name, leaf in zip(names, tree.flatten(like), strict=True):
        if _kind(stored[name]) != _kind(leaf):
            raise CheckpointError(
                f"{path}: {name} is {_kind(stored[name])} in the file, {_kind(leaf)} in what is to be restored; "
                "it was saved from another net or another dtype"
            )
        leaves.append(stored[name])
    return tree.read_only(tree.unflatten(like, leaves))


def read_description(path: str | os.PathLike[str]) -> Any:
    """The description that a file was saved with. Raises as `load`."""
    return _read(Path(path))[1]["description"]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = _metadata(path, file.metadata() or {})  # first: others' files may have dtypes that NumPy lacks
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dict)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged or cut short, or no safetensors file ({error})") from error
    return arrays, metadata


def _metadata(path: Path, header: dict[str, str]) -> dict[str, Any]:
    try:
        metadata = json.loads(header["funcnn"])
        version = metadata["format"]
    except (KeyError, TypeError, json.JSONDecodeError):
        raise CheckpointError(f"{path}: a safetensors file, but not one that funcnn wrote") from None
    if version != _FORMAT:
        raise CheckpointError(
            f"{path}: written in format {version}, this version of funcnn reads format {_FORMAT}; "
            "load it with the version that wrote it"
        )
    if not isinstance(metadata.get("numbers"), dict) or "description" not in metadata:
        raise CheckpointError(f"{path}: damaged: its metadata is not complete")
    return metadata  # type: ignore[no-any-return]


def _check_names(path: Any, wanted: list[str], stored: list[str]) -> None:
    missing = [name for name in wanted if name not in stored]
    extra = [name for name in stored if name not in wanted]
    if missing or extra:
        first = missing[0] if missing else extra[0]
        near = difflib.get_close_matches(first, extra if missing else wanted, n=1)
        raise CheckpointError(
            f"{path}: saved from another net: {len(missing)} leaves are missing, {len(extra)} not wanted; the first is "
            f"{first!r}, {'missing' if missing else 'not wanted'}" + (f" (nearest: {near[0]!r})" if near else "")
        )


def _kind(leaf: Any) -> str:
    if isinstance(leaf, np.ndarray):
        return f"{leaf.dtype} {leaf.shape}"
    return f"the type {type(leaf).__name__}"

"""Trees in safetensors files: a run's `TrainState`, or a trained `Model`.

Arrays are stored under their paths. Numbers (a state's step and seed) are in the file's JSON metadata, with the
format's number, a checksum of each array and, if given, a description of what the file is for. Files are written
atomically, and loading runs no code from them and takes no more memory than they have bytes.
"""

import difflib
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from funcnn import tree
from funcnn.device import to_host
from funcnn.system.devices import beside, has_form
from funcnn.system.files import as_path, write_bytes
from funcnn.system.text import cut
from funcnn.tree import Array

__all__ = ["CheckpointError", "load", "read_description", "save"]

T = TypeVar("T")
_FORMAT = 1
# The most that a header may have: names, shapes, a description with a mean image of 1024 x 1024 pixels.
_HEADER_BYTES, _VALUES, _LISTS = 2**25, 10**6, 10**5
_DEEPEST, _HOLDERS = 500, (list, tuple, dict)  # levels of what JSON can nest
_NUMBERS = "float64 float32 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8"
_DTYPES = {"bool": "BOOL"} | {each: each[0].upper() + each.strip("floatuin") for each in _NUMBERS.split()}  # F64, ...


class CheckpointError(ValueError):
    """A file that is damaged, or that holds something else than what is to be restored."""


def save(path: str | os.PathLike[str], state: Any, *, description: Any = None) -> None:
    """Write a tree of arrays and numbers, on the host or a device, to a file, which appears whole or not at all.

    `description` is any JSON data about it, for `read_description`; for example ``describe(net)``.

    Raises CheckpointError for a leaf that is neither array nor number, OSError if it cannot be written.
    """
    path, state = as_path("save", path), to_host(state)
    arrays: dict[str, Array] = {}
    numbers: dict[str, float] = {}
    for name, leaf in zip(tree.paths(state), tree.flatten(state), strict=True):
        if isinstance(leaf, np.ndarray) and leaf.dtype.name in _DTYPES:
            arrays[name] = np.asarray(leaf, leaf.dtype.newbyteorder("<"), order="C")
        elif type(leaf) in (bool, int, float):
            numbers[name] = leaf
        else:
            kind = f"an array of {leaf.dtype}" if isinstance(leaf, np.ndarray) else f"a {type(leaf).__name__}"
            raise CheckpointError(f"save: {name or 'the tree'} is {kind}; expected an array of numbers, or a number")
    arrays = dict(sorted(arrays.items(), key=lambda each: -each[1].itemsize))  # each at a multiple of its numbers' size
    metadata = {
        "format": _FORMAT,
        "numbers": numbers,
        "description": description,
        "checksums": {name: _checksum_of(array) for name, array in arrays.items()},
    }
    try:
        text = json.dumps(metadata)
        _check_depth(description)
    except (RecursionError, ValueError) as error:
        raise CheckpointError("save: the description is nested too deeply, or holds itself") from error
    header = _header(arrays, {"funcnn": text, "checksum": _checksum(text.encode())})
    excess = _excess(header)
    if excess:
        raise CheckpointError(f"save: the names and the description take {excess}. Describe it in fewer words")
    write_bytes(path, header, *arrays.values())


def _check_depth(value: Any) -> None:
    """Raise RecursionError for what Python may not be able to read back; how deep it can depends on its version."""
    level = [value]
    for _ in range(_DEEPEST):
        within = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, _HOLDERS)]
        level = [child for each in within for child in each]
        if not level:
            return
    raise RecursionError


def load(path: str | os.PathLike[str], like: T) -> T:
    """Read a tree back; its structure, names, shapes and dtypes must be those of `like`.

    >>> from tempfile import TemporaryDirectory
    >>> from funcnn import Key
    >>> from funcnn.layers import dense
    >>> params = dense(2).init(Key(0), (4,)).params
    >>> with TemporaryDirectory() as folder:
    ...     save(f"{folder}/params.safetensors", params)
    ...     restored = load(f"{folder}/params.safetensors", like=params)
    >>> tree.equal(params, restored)
    True

    Arrays come read-only; on a device where those of `like` lie there. Raises CheckpointError for a file that is cut
    short, of another format, or of another tree, naming the first difference; FileNotFoundError without a file.
    """
    with _opened(as_path("load", path)) as (file, metadata):
        numbers, checksums = metadata["numbers"], metadata.get("checksums")
        names = tree.paths(like)
        _check_names(path, names, [*file.keys(), *numbers])
        leaves = []
        for name, leaf in zip(names, tree.flatten(like), strict=True):
            stored = numbers[name] if name in numbers else _array(path, file, name)
            if _kind(stored) != _kind(leaf):
                raise CheckpointError(
                    f"{path}: {name} is {_kind(stored)} in the file, {_kind(leaf)} in what is to be restored; "
                    "it was saved from another net or another dtype"
                )
            if checksums is not None and name not in numbers and checksums.get(name) != _checksum_of(stored):
                raise CheckpointError(f"{path}: damaged: {name} is not as it was saved (its checksum is another)")
            leaves.append(beside(stored, leaf))
    return tree.read_only(tree.unflatten(like, leaves))


def read_description(path: str | os.PathLike[str]) -> Any:
    """The description that a file was saved with.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save(f"{folder}/params.safetensors", (np.zeros(2),), description={"epoch": 3})
    ...     read_description(f"{folder}/params.safetensors")
    {'epoch': 3}

    Raises as `load`.
    """
    with _opened(as_path("read_description", path)) as (_, metadata):
        return metadata["description"]


# --- The format -----------------------------------------------------------------------------------------------


def _header(arrays: dict[str, Array], metadata: dict[str, str]) -> bytes:
    """What a safetensors file begins with: its length, and as JSON the metadata and where each array lies."""
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in arrays.items():
        offsets = [end, end := end + array.nbytes]
        entries[name] = {"dtype": _DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": offsets}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # so that the arrays lie at multiples of 8
    return len(header).to_bytes(8, "little") + header


def _checksum(data: Any, start: int = 0) -> str:
    return f"{zlib.crc32(data, start):08x}"


def _checksum_of(array: Array) -> str:
    """Of an array's bytes, dtype and shape."""
    return _checksum(array, zlib.crc32(_kind(array).encode()))


def _excess(header: bytes) -> str:
    """What a header, or the JSON in it, has more of than is read; "" for nothing. To count is faster than to parse."""
    counts = {
        "bytes": (len(header), _HEADER_BYTES),
        "values": (header.count(b","), _VALUES),
        "lists": (header.count(b"[") + header.count(b"{"), _LISTS),
    }
    return ", ".join(f"{n:,} {what} (at most {most:,})" for what, (n, most) in counts.items() if n > most)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A file whose arrays can be read by name, and its metadata; what safetensors raises is a CheckpointError."""
    from safetensors import SafetensorError, safe_open  # here, since training does without

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint file")
    try:
        with path.open("rb") as start:
            length = int.from_bytes(start.read(8), "little")
            header = start.read(min(length, _HEADER_BYTES))
        excess = f"{length:,} bytes (at most {_HEADER_BYTES:,})" if length > _HEADER_BYTES else _excess(header)
        if excess:
            raise SafetensorError(f"its header has {excess}")
        with safe_open(path, framework="numpy") as file:
            yield file, _metadata(path, file.metadata() or {})
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged or cut short, or no safetensors file ({error})") from error


def _metadata(path: Path, header: dict[str, str]) -> dict[str, Any]:
    text, checksum = header.get("funcnn"), header.get("checksum")
    if text is None:
        raise CheckpointError(f"{path}: a safetensors file, but not one that funcnn wrote")
    data = text.encode()
    if checksum not in (None, _checksum(data)):  # there is none in files of earlier versions
        raise CheckpointError(f"{path}: damaged: its metadata are not as they were saved (their checksum is another)")
    if _excess(data):
        raise CheckpointError(f"{path}: its metadata have {_excess(data)}")
    try:
        metadata = json.loads(text)
        version = metadata["format"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise CheckpointError(f"{path}: a safetensors file, but not one that funcnn wrote") from None
    if version != _FORMAT:
        raise CheckpointError(
            f"{path}: written in format {cut(str(version), 20)}, this version of funcnn reads format {_FORMAT}; "
            "load it with the version that wrote it"
        )
    numbers, checksums = metadata.get("numbers"), metadata.get("checksums", {})
    whole = isinstance(numbers, dict) and all(type(each) in (bool, int, float) for each in numbers.values())
    if not whole or not isinstance(checksums, dict) or "description" not in metadata:
        raise CheckpointError(f"{path}: damaged: its metadata are not complete")
    if (checksum is None) != ("checksums" not in metadata):
        raise CheckpointError(f"{path}: damaged: one of its checksums is missing")
    return metadata  # type: ignore[no-any-return]


def _array(path: Any, file: Any, name: str) -> Array:
    dtype = file.get_slice(name).get_dtype()
    if dtype not in _DTYPES.values():
        raise CheckpointError(f"{path}: {name} is of the dtype {dtype}, which funcnn does not write")
    array: Array = file.get_tensor(name)
    return array


def _check_names(path: Any, wanted: list[str], stored: list[str]) -> None:
    missing, extra = _without(wanted, stored), _without(stored, wanted)
    if missing or extra:
        first = missing[0] if missing else extra[0]
        others = [each[:100] for each in (extra if missing else wanted)[:1000]]
        near = difflib.get_close_matches(first[:100], others, n=1)
        raise CheckpointError(
            f"{path}: saved from another net: {len(missing)} leaves are missing, {len(extra)} not wanted; the first is "
            f"{cut(first, 100)!r}, {'missing' if missing else 'not wanted'}"
            + (f" (nearest: {near[0]!r})" if near else "")
        )


def _without(names: list[str], others: list[str]) -> list[str]:
    known = set(others)
    return [name for name in names if name not in known]


def _kind(leaf: Any) -> str:
    if has_form(leaf):
        return f"{leaf.dtype} {leaf.shape}"
    return f"the type {type(leaf).__name__}"

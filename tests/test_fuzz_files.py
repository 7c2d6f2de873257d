"""Files of strangers: whatever is in them, their readers refuse them with one error, in a moment and in little memory.

Here the damage keeps to the format: JSON of another shape, with the right checksums.
"""

import copy
import json
import os
import random
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own import cube
from processes import linux

from funcnn import Key, checkpoint, serial
from funcnn.checkpoint import CheckpointError
from funcnn.compose import parallel, residual
from funcnn.data import subtract_mean_image
from funcnn.layers import avg_pool2d, batch_norm, conv2d, dense, dropout, flatten, max_pool2d, relu, reshape
from funcnn.model_file import Trained, load_trained, save_trained
from funcnn.train import Model

NET = serial(
    conv2d(4, 3, padding="same"), batch_norm(), relu(), parallel(max_pool2d(2), avg_pool2d(2)),
    residual(serial(conv2d(8, 3, padding="same", groups=2), dropout(0.1))), cube(), flatten(),
    reshape((32, 4)), flatten(), dense(3),
)  # fmt: skip
IMAGES = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8, 1)
PARAMS, STATE, _ = NET.init(Key(0), (8, 8, 1))
MODEL = Model(PARAMS, STATE)


@pytest.fixture(scope="module", autouse=True)
def without_fsync() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)  # hundreds of files need not outlast a power cut
        yield


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files") / "model.safetensors"


@pytest.fixture(scope="module")
def description(path: Path) -> Any:
    save_trained(path, Trained(NET, MODEL, (8, 8, 1), ("a", "b", "c"), subtract_mean_image(IMAGES), {"epoch": 1}))
    return checkpoint.read_description(path)


WILD: tuple[Any, ...] = (
    None, True, False, 0, -1, 2, 7, 10**7, 2**31, 2**63, 10**30, 0.5, -0.0, float("nan"), float("inf"), "", "x", "same",
    "relu", "serial", "é" * 300, "\x00", [], [[]], [1, 2], [-1, 0.5], ["a"], {}, {"name": "relu"}, {"name": "serial"},
    {"name": "dense", "units": 10**9}, {"function": "relu"}, {"function": "he_normal", "*": [3]}, {"name": None},
    {"name": "max_pool2d", "window": 10**7, "padding": "same"}, {"name": "conv2d", "filters": 1, "kernel_size": 10**4},
)  # fmt: skip


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(inner for key, each in items for inner in places(each, (*place, key)))]


def mutated(value: Any, chance: random.Random) -> Any:
    """JSON with up to three of its values replaced, dropped, doubled, nested or swapped."""
    value = {"root": copy.deepcopy(value)}
    for _ in range(chance.randint(1, 3)):
        *outer, key = chance.choice(places(value)[1:])
        inner = value
        for each in outer:
            inner = inner[each]
        how = chance.randrange(6)
        if how == 0 and outer:
            del inner[key]
        elif how == 1 and isinstance(inner, list):
            inner.insert(key, copy.deepcopy(chance.choice((inner[key], *WILD))))
        elif how == 2 and isinstance(inner, dict) and outer:
            inner[chance.choice(("name", "function", "*", "x", "layers", "units"))] = inner.pop(key)
        elif how == 3:
            inner[key] = chance.choice(({"name": "residual", "layer": inner[key]}, [inner[key]], {"x": inner[key]}))
        else:
            inner[key] = copy.deepcopy(chance.choice(WILD))
    return value["root"]


CASES = int(os.environ.get("FUNCNN_FUZZ", 400))


def refusal(read: Callable[[], Any], path: Path, what: Any) -> str:
    """How a reader refuses the file, "" if it takes it; a failure for any error but its own."""
    try:
        read()
    except CheckpointError as error:
        text = str(error)
    except Exception as error:
        raise AssertionError(f"from {json.dumps(what)}") from error
    else:
        return ""
    assert text.startswith(f"{path}: ")
    assert len(text) < 1000 + 2 * len(str(path))
    return text


def test_a_model_of_wild_json_is_taken_or_refused(path: Path, description: Any) -> None:
    chance, refused = random.Random(0), 0
    for _ in range(CASES):
        wild = mutated(description, chance)
        checkpoint.save(path, MODEL, description=wild)
        started = time.perf_counter()
        refused += bool(refusal(lambda: load_trained(path, layers=[cube]), path, wild))
        assert time.perf_counter() - started < 1, json.dumps(wild)
    assert refused > CASES / 2


def packed(header: Any, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def unpacked(content: bytes) -> tuple[Any, bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def test_a_checkpoint_of_wild_headers_is_taken_or_refused(path: Path, description: Any) -> None:
    chance, refused = random.Random(1), 0
    state = (MODEL, 3, 0.5)
    checkpoint.save(path, state, description=[1])
    header, data = unpacked(path.read_bytes())
    for i in range(CASES):
        wild = copy.deepcopy(header)
        if i % 2:
            metadata = json.dumps(mutated(json.loads(wild["__metadata__"]["funcnn"]), chance))
            wild["__metadata__"] = {"funcnn": metadata, "checksum": f"{zlib.crc32(metadata.encode()):08x}"}
        else:
            wild = mutated(wild, chance)
        path.write_bytes(packed(wild, data[: chance.choice((None, None, 0, -1))]))
        refused += bool(refusal(lambda: checkpoint.load(path, state), path, wild))
    assert refused > CASES / 2


# --- Small files that ask for much ------------------------------------------------------------------------------------


def nested(depth: int, around: Callable[[Any], Any]) -> Any:
    value: Any = {"name": "relu"}
    for _ in range(depth):
        value = around(value)
    return value


def net(*layers: Any, in_shape: Any = (8, 8, 1)) -> dict[str, Any]:
    return {"net": {"name": "serial", "layers": list(layers)}, "in_shape": list(in_shape), "dtype": "float32",
            "classes": ["a"], "preprocess": None, "about": None}  # fmt: skip


TWICE = {"name": "parallel", "layers": [{"name": "identity"}, {"name": "identity"}]}
NORM, FLAT = {"name": "batch_norm"}, {"name": "flatten"}
DEEP_TEXT = "[" * 40_000 + "]" * 40_000
HOSTILE: dict[str, Any] = {
    "many weights": net(FLAT, {"name": "dense", "units": 2**24}, {"name": "dense", "units": 2**24}),
    "more weights than addresses": net(FLAT, {"name": "dense", "units": 2**62}),
    "a large kernel": net({"name": "conv2d", "filters": 2**10, "kernel_size": 2**13, "padding": "same"}),
    "a huge window": net({"name": "max_pool2d", "window": 10**7, "stride": 10**7, "padding": "same"}),
    "a long window": net({"name": "avg_pool2d", "window": [10**7, 1], "stride": 10**7, "padding": "same"}),
    "huge padding": net({"name": "conv2d", "filters": 1, "kernel_size": 1, "padding": 10**6, "stride": 10**6}),
    "26 concatenations": net(*[TWICE] * 26),
    "26 concatenations and a norm": net(*[TWICE] * 26, NORM),
    "20 concatenations and a norm": net(*[TWICE] * 20, NORM),
    "a large input": net(NORM, in_shape=(2**20, 2**20, 2**20)),
    "a large input of sizes that are no ints": net(FLAT, in_shape=(1e9, 1e9)),
    "an input of many axes": net(FLAT, in_shape=[1] * 10**5),
    "layers in layers": net(nested(300, lambda inner: {"name": "residual", "layer": inner})),
    "lists in lists": net(nested(300, lambda inner: [inner])),
    "as deep as is read": net(*[nested(28, lambda inner: {"name": "serial", "layers": [inner]})] * 170),
    "many layers": net(*[{"name": "conv2d", "filters": 1, "kernel_size": 1}] * 20_000),
    "as many layers as are read": net(*[{"name": "relu"}] * 4_990),
    "many unknown layers": net(*[{"name": f"layer_{i}"} for i in range(20_000)]),
    "many lists": [[]] * 200_000,
    "many values": [0] * 1_100_000,
    "a long name": net({"name": "x" * 10**6}),
    "a large number": net({"name": "dense", "units": 10**4000}),
    "a large shape": net({"name": "reshape", "shape": [2**62] * 10_000}),
    "a preprocessing that is none": net(FLAT) | {"preprocess": {"function": "relu"}},
    "a mean image that is none": net(FLAT) | {"preprocess": {"name": "subtract_mean_image", "mean": "!!!!"}},
    "a mean image of another size": net(FLAT) | {"preprocess": {"name": "subtract_mean_image", "mean": "AAAA"}},
    "a deviation of 0": net(FLAT) | {"preprocess": {"name": "standardise", "mean": [0], "deviation": [0]}},
}  # fmt: skip
MEGABYTES = 500


def hostile_files(folder: Path) -> dict[str, Path]:
    """A model's file for each of them: small, and whole."""
    found = {}
    for name, description in HOSTILE.items():
        text = json.dumps({"format": 1, "numbers": {}, "description": description, "checksums": {}})
        found[name] = folder / f"{len(found)}.safetensors"
        header = {"__metadata__": {"funcnn": text, "checksum": f"{zlib.crc32(text.encode()):08x}"}}
        found[name].write_bytes(packed(header, b""))
    text = '{"format": 1, "numbers": {}, "description": ' + DEEP_TEXT + "}"
    (folder / "deep.safetensors").write_bytes(packed({"__metadata__": {"funcnn": text}}, b""))
    (folder / "long.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    arrays = {f"a{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(33_000)}
    text = json.dumps({"format": 1, "numbers": {}, "description": net(FLAT)})
    (folder / "arrays.safetensors").write_bytes(packed({"__metadata__": {"funcnn": text}} | arrays, b""))
    return found | {name: folder / f"{name}.safetensors" for name in ("deep", "long", "arrays")}


MEASURE = """
import json, sys, time
from funcnn.checkpoint import CheckpointError
from funcnn.model_file import load_trained
for path in sys.argv[1:]:
    started = time.process_time()
    text = f"{path}: taken"
    try:
        load_trained(path)
    except CheckpointError as error:
        text = str(error)
    seconds = time.process_time() - started
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(json.dumps([text, seconds, int(peak) / 1024]))
"""


@linux
def test_small_files_that_ask_for_much_are_refused_at_once(tmp_path: Path) -> None:
    files = hostile_files(tmp_path)
    command = [sys.executable, "-c", MEASURE, *map(str, files.values())]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == len(files)
    for name, path, line in zip(files, files.values(), lines, strict=True):
        text, seconds, megabytes = json.loads(line)
        print(f"{name:40} {seconds:.2f} s {megabytes:4.0f} MB  {text[:200]}")
        assert text.startswith(f"{path}: "), name
        assert len(text) < 1000, name
        assert seconds < 1, name
        assert megabytes < MEGABYTES, name

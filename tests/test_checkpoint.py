"""Checkpoints: every bit comes back, nothing else is taken for one, and a file is there whole or not at all."""

import json
import os
import pickle
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from optimizer_cases import OPTIMIZERS
from safetensors import numpy as safetensors

from funcnn import Key, checkpoint, serial, tree
from funcnn.checkpoint import CheckpointError, load, read_description, save
from funcnn.layer import describe
from funcnn.layers import batch_norm, dense, dropout, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import Optimizer, adam, momentum
from funcnn.rebuild import rebuild
from funcnn.train import Model, Problem, TrainState, init_state, make_step, predict
from funcnn.tree import TreeError

NET = serial(dense(6), batch_norm(), relu(), dropout(0.3), dense(3, use_bias=False))
INPUTS = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
LABELS = np.arange(8) % 3


def fresh(optimizer: Optimizer, dtype: type = np.float32) -> TrainState:
    return init_state(Problem(NET, softmax_cross_entropy, optimizer), Key(0), (4,), dtype)


def trained(optimizer: Optimizer, dtype: type = np.float32) -> TrainState:
    """The state after two steps, in which no leaf is as it was at first."""
    step, state = make_step(Problem(NET, softmax_cross_entropy, optimizer)), fresh(optimizer, dtype)
    for _ in range(2):
        state, _ = step(state, (INPUTS.astype(dtype), LABELS))
    return state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.safetensors"


# --- What comes back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_a_state_comes_back_bit_for_bit_and_read_only(optimizer: Optimizer, dtype: type, path: Path) -> None:
    state = trained(optimizer, dtype)
    save(path, state)
    restored = load(path, like=fresh(optimizer, dtype))
    assert tree.equal(restored, state)
    assert (type(restored.step), restored.step) == (int, 2)
    arrays = [leaf for leaf in tree.flatten(restored) if isinstance(leaf, np.ndarray)]
    assert not any(array.flags.writeable for array in arrays)
    assert all(array.flags.c_contiguous for array in arrays)


def test_a_model_comes_back_and_predicts_the_same(path: Path) -> None:
    state = trained(adam(0.1))
    model = Model(state.params, state.state)
    save(path, model, description=describe(NET))
    net = rebuild(read_description(path))
    restored = load(path, like=Model(*net.init(Key(1), (4,))[:2]))
    assert net == NET
    assert tree.equal(restored, model)
    assert tree.equal(predict(net, restored, INPUTS), predict(NET, state, INPUTS))


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6.0).reshape(2, 3),
        np.array([np.nan, -np.nan, -0.0, np.inf, 5e-324]),
        np.array(2.5, np.float32),
        np.zeros((0, 3)),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12)[::-2],
        (np.ones(2, np.float16), np.ones(2, bool), np.arange(3, dtype=np.uint8), np.arange(2, dtype=np.int64)),
        (1, 2.5, True, float("inf"), -(2**62)),
        (np.ones(1), None, ((), (3,), np.ones(2))),
        7,
        (),
        None,
    ],
    ids=repr,
)
def test_any_tree_of_arrays_and_numbers_comes_back(value: Any, path: Path) -> None:
    save(path, value)
    assert tree.equal(load(path, like=value), value)


def test_what_is_saved_is_not_changed(path: Path) -> None:
    state = tree.map(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, trained(adam(0.1)))
    before = pickle.dumps(tree.flatten(state))
    save(path, state)
    assert pickle.dumps(tree.flatten(state)) == before
    assert all(leaf.flags.writeable for leaf in tree.flatten(state) if isinstance(leaf, np.ndarray))


@pytest.mark.parametrize("description", [None, {"seed": 3, "rates": [0.1, 0.01]}, "π", describe(NET)], ids=repr)
def test_a_description_comes_back(description: Any, path: Path) -> None:
    save(path, trained(adam(0.1)), description=description)
    assert read_description(path) == description


def test_a_file_is_plain_safetensors_with_the_leaves_under_their_paths(path: Path) -> None:
    state = trained(momentum(0.1))
    save(path, state)
    arrays = safetensors.load_file(path)
    named = dict(zip(tree.paths(state), tree.flatten(state), strict=True))
    assert {named.pop("step"), named.pop("seed")} == {2, 0}
    assert {name: array.tobytes() for name, array in arrays.items()} == {
        name: array.tobytes() for name, array in named.items()
    }


def test_saving_twice_keeps_the_last(path: Path) -> None:
    save(path, trained(adam(0.1)))
    save(path, fresh(adam(0.1)))
    assert tree.equal(load(path, like=fresh(adam(0.1))), fresh(adam(0.1)))
    assert os.listdir(path.parent) == [path.name]


# --- What is refused: damaged files ---------------------------------------------------------------------------


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(str(path))}: no such checkpoint file$"):
        load(path, like=1)
    with pytest.raises(FileNotFoundError, match="no such checkpoint file"):
        load(path.parent, like=1)
    with pytest.raises(FileNotFoundError, match="no such checkpoint file"):
        read_description(path)


def test_a_file_cut_anywhere_is_refused(path: Path) -> None:
    small = (np.arange(6.0), 3)
    save(path, small)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: damaged or cut short"):
            load(path, like=small)


def test_a_states_file_cut_at_random_is_refused(path: Path) -> None:
    state = trained(adam(0.1))
    save(path, state)
    whole = path.read_bytes()
    for length in np.random.default_rng(0).integers(len(whole), size=25):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="damaged or cut short"):
            load(path, like=state)
        with pytest.raises(CheckpointError, match="damaged or cut short"):
            read_description(path)


@pytest.mark.parametrize("size", [1, 8, 100, 10_000])
def test_random_bytes_are_refused(size: int, path: Path) -> None:
    path.write_bytes(np.random.default_rng(size).bytes(size))
    with pytest.raises(CheckpointError, match="damaged or cut short, or no safetensors file"):
        load(path, like=1)


@pytest.mark.parametrize("content", [b"{}", b"step = 3\n" * 100, pickle.dumps({"step": 3}), b"PK\x03\x04" + bytes(100)])
def test_files_of_another_kind_are_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or cut short, or no safetensors file"):
        load(path, like=1)


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_flipped_bit_is_refused_or_changes_nothing(path: Path) -> None:
    state = (np.arange(6, dtype=np.float32).reshape(2, 3), np.array([True, False]), 3, -0.5)
    save(path, state, description={"a": [1, "b"]})
    content = path.read_bytes()
    bits = range(0, 8 * len(content), 3)  # in turn every one of a byte's
    refused = 0
    for bit in bits:
        path.write_bytes(flipped(content, bit))
        try:
            assert tree.equal(load(path, state), state)
            assert read_description(path) == {"a": [1, "b"]}
        except CheckpointError:
            refused += 1
    assert refused > 0.99 * len(bits)


def rewritten(path: Path, change: Callable[[Any], Any], header: Callable[[dict[str, str]], Any] | None = None) -> None:
    """The file with other metadata, by another writer."""
    with safetensors.safe_open(path, framework="numpy") as file:
        found, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    metadata = json.loads(found["funcnn"])
    change(metadata)
    found |= {"funcnn": json.dumps(metadata), "checksum": f"{zlib.crc32(json.dumps(metadata).encode()):08x}"}
    if header:
        header(found)
    safetensors.save_file(arrays, path, metadata=found)


def test_a_file_from_before_there_were_checksums_is_loaded(path: Path) -> None:
    save(path, (np.arange(3.0), 2), description="a")
    rewritten(path, lambda metadata: metadata.pop("checksums"), lambda header: header.pop("checksum"))
    assert tree.equal(load(path, (np.zeros(3), 0)), (np.arange(3.0), 2))
    assert read_description(path) == "a"


DAMAGED: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any] | None, str]] = {
    "another array": (
        lambda metadata: metadata["checksums"].update({"0": "00000000"}), None,
        "damaged: 0 is not as it was saved (its checksum is another)",
    ),
    "an array without a checksum": (lambda metadata: metadata["checksums"].clear(), None, "damaged: 0 is not as it"),
    "no checksums of arrays": (
        lambda metadata: metadata.pop("checksums"), None, "damaged: one of its checksums is missing",
    ),
    "no checksum of the metadata": (
        lambda metadata: None, lambda header: header.pop("checksum"), "damaged: one of its checksums is missing",
    ),
    "other metadata": (
        lambda metadata: None, lambda header: header.update(checksum="00000000"),
        "damaged: its metadata are not as they were saved (their checksum is another)",
    ),
    "checksums that are none": (
        lambda metadata: metadata.update(checksums=[1]), None, "damaged: its metadata are not complete",
    ),
    "numbers that are none": (
        lambda metadata: metadata.update(numbers={"1": "2"}), None, "damaged: its metadata are not complete",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "header", "text"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_not_as_it_was_saved_is_named(
    change: Callable[[Any], Any], header: Callable[[Any], Any] | None, text: str, path: Path
) -> None:
    save(path, (np.arange(3.0), 2))
    rewritten(path, change, header)
    with pytest.raises(CheckpointError, match=f"^{re.escape(f'{path}: {text}')}"):
        load(path, (np.zeros(3), 0))


def test_what_could_not_be_read_is_not_saved(path: Path) -> None:
    deep: Any = []
    for _ in range(2000):
        deep = [deep]
    holds_itself: list[Any] = []
    holds_itself.append(holds_itself)
    for description, text in (
        ([[]] * 200_000, r"save: the names and the description take 200,0\d\d lists \(at most 100,000\)\. Describe it"),
        ([0] * 1_000_001, r"take 1,000,0\d\d values \(at most 1,000,000\)"),
        ("a" * 2**25, r"take 33,55\d,\d\d\d bytes \(at most 33,554,432\)"),
        (deep, "save: the description is nested too deeply, or holds itself"),
        (holds_itself, "save: the description is nested too deeply, or holds itself"),
    ):
        with pytest.raises(CheckpointError, match=text):
            save(path, 1, description=description)
    with pytest.raises(CheckpointError, match=r"save: 0 is an array of complex128; expected an array of numbers"):
        save(path, (np.ones(2, complex),))
    assert not path.exists()


@pytest.mark.parametrize("wild", [None, 3, b"a", [Path()]], ids=repr)
def test_a_path_that_is_none_is_refused_by_name(wild: Any) -> None:
    for function, call in (("save", (wild, 1)), ("load", (wild, 1)), ("read_description", (wild,))):
        with pytest.raises(
            TypeError, match=rf"^{function}: path must be a text or a Path, got {re.escape(repr(wild))}$"
        ):
            getattr(checkpoint, function)(*call)


# --- What is refused: other writers ---------------------------------------------------------------------------


def test_another_writers_safetensors_are_refused(path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        safetensors.save_file({"weight": np.ones(3)}, path, metadata=metadata)
        with pytest.raises(CheckpointError, match=r": a safetensors file, but not one that funcnn wrote$"):
            load(path, like=(np.ones(3),))


@pytest.mark.parametrize("metadata", ["", "yes", "[]", "{}", '{"format": 1}'])
def test_metadata_that_funcnn_did_not_write_is_refused(metadata: str, path: Path) -> None:
    safetensors.save_file({"0": np.ones(3)}, path, metadata={"funcnn": metadata})
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: "):
        load(path, like=(np.ones(3),))


def test_a_file_of_another_format_is_refused_with_both_numbers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        later.setattr(checkpoint, "_FORMAT", 2)
        save(path, (np.ones(3),))
    for read in (read_description, lambda path: load(path, like=(np.ones(3),))):
        with pytest.raises(
            CheckpointError, match="written in format 2, this version of funcnn reads format 1; load it"
        ):
            read(path)


# --- What is refused: another tree ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("saved", "like", "text"),
    [
        ((1.0, 2.0), (1.0, 2.0, 3.0), "saved from another net: 1 leaves are missing, 0 not wanted; the first is '2'"),
        ((1.0, 2.0, 3.0), (1.0, 2.0), "0 leaves are missing, 1 not wanted; the first is '2', not wanted"),
        (np.ones((2, 3)), np.ones((3, 2)), "is float64 (2, 3) in the file, float64 (3, 2) in what is to be restored"),
        (np.ones(2), np.ones(2, np.float32), "is float64 (2,) in the file, float32 (2,) in what is to be restored"),
        ((np.ones(()),), (1.0,), "0 is float64 () in the file, the type float in what is to be restored"),
        ((3,), (3.0,), "0 is the type int in the file, the type float in what is to be restored"),
        ((True,), (1,), "0 is the type bool in the file, the type int in what is to be restored"),
        ((1.0,), (np.ones(()),), "0 is the type float in the file, float64 () in what is to be restored"),
    ],
    ids=repr,
)
def test_another_tree_is_refused_with_the_first_difference(saved: Any, like: Any, text: str, path: Path) -> None:
    save(path, saved)
    with pytest.raises(CheckpointError) as caught:
        load(path, like=like)
    assert str(caught.value).startswith(f"{path}: ")
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (serial(dense(6), relu(), dense(3)), "the first is 'params.2.weight', missing (nearest: 'params.4.weight')"),
        (
            serial(*NET.config.children[:4], dense(3)),
            "1 leaves are missing, 0 not wanted; the first is 'params.4.bias'",
        ),
        (serial(*NET.config.children[:4]), "0 leaves are missing, 1 not wanted; the first is 'params.4.weight'"),
        (serial(*NET.config.children[:4], dense(5, use_bias=False)), "params.4.weight is float32 (6, 3) in the file"),
    ],
)
def test_another_net_is_refused_with_the_first_difference(net: Any, text: str, path: Path) -> None:
    state = trained(adam(0.1))
    save(path, Model(state.params, state.state))
    with pytest.raises(CheckpointError, match=re.escape(text)):
        load(path, like=Model(*net.init(Key(0), (4,))[:2]))


def test_a_state_is_not_taken_for_another_optimizers_or_a_model(path: Path) -> None:
    save(path, trained(adam(0.1)))
    for like in (fresh(momentum(0.1)), Model(*NET.init(Key(0), (4,))[:2]), fresh(adam(0.1), np.float64)):
        with pytest.raises(CheckpointError, match="saved from another net"):
            load(path, like=like)


def test_a_step_that_is_no_number_is_refused(path: Path) -> None:
    state = trained(adam(0.1))
    save(path, attrs.evolve(state, step=np.array([2])))
    with pytest.raises(CheckpointError, match="step is int64 \\(1,\\) in the file, the type int in what is to be"):
        load(path, like=state)


@pytest.mark.parametrize(
    ("value", "text"), [(("a", 1), "0 is a str"), ((1, (2, 3j)), "1.1 is a complex"), ("a", "the tree is")]
)
def test_leaves_that_are_neither_array_nor_number_are_refused(value: Any, text: str, path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"^save: {re.escape(text)}"):
        save(path, value)
    assert not path.exists()


def test_containers_that_are_no_trees_are_refused(path: Path) -> None:
    with pytest.raises(TreeError, match="a tree cannot hold a list"):
        save(path, [np.ones(3)])
    with pytest.raises(TypeError, match="not JSON serializable"):
        save(path, (np.ones(3),), description=NET)
    assert not path.exists()


# --- Whole or not at all --------------------------------------------------------------------------------------


def test_a_failing_write_leaves_the_old_file_and_no_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = trained(adam(0.1))
    save(path, old)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device"):
            save(path, fresh(adam(0.1)))
    assert os.listdir(path.parent) == [path.name]
    assert tree.equal(load(path, like=old), old)


def checksum(array: Any) -> int:
    return zlib.crc32(array.tobytes(), zlib.crc32(f"{array.dtype} {array.shape}".encode()))


def test_metadata_are_json_a_person_can_read(path: Path) -> None:
    save(path, trained(adam(0.1)), description={"epochs": 3})
    with safetensors.safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["funcnn"]) == {
            "format": 1,
            "numbers": {"step": 2, "seed": 0},
            "description": {"epochs": 3},
            "checksums": {name: f"{checksum(array):08x}" for name, array in safetensors.load_file(path).items()},
        }


def test_a_file_of_another_program_is_named_before_its_arrays_are_read(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'  # a dtype that NumPy does not have
    (tmp_path / "other.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    with pytest.raises(CheckpointError, match="a safetensors file, but not one that funcnn wrote"):
        load(tmp_path / "other.safetensors", (np.zeros(1),))


@pytest.mark.parametrize(("dtype", "size"), [("BF16", 2), ("F8_E4M3", 1), ("F8_E5M2", 1), ("F8_E8M0", 1), ("C64", 8)])
def test_arrays_of_dtypes_that_numpy_lacks_are_refused(dtype: str, size: int, path: Path) -> None:
    metadata = {"funcnn": json.dumps({"format": 1, "numbers": {}, "description": None})}
    header = {"__metadata__": metadata, "0": {"dtype": dtype, "shape": [1], "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: 0 is of the dtype {dtype}, which funcnn does"):
        load(path, (np.zeros(1),))

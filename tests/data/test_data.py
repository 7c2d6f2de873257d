"""Data sets: what is in them stays as it is, parts are fair, files are read exactly, and damage is told in words."""

import gzip
import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from funcnn import Key
from funcnn.data import DataError, Dataset, Part, load, rescale, standardise, stratified_split
from funcnn.data.formats import read_cifar10, read_idx
from funcnn.layer import Array

DIGITS = load("digits")


def digest(array: Array) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


# --- digits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "counts", "images", "labels"),
    [
        (
            "train",
            [128, 131, 128, 131, 130, 131, 131, 129, 125, 130],
            "0d7546245f0e4b11875d04946bfa5d82f4984cfb7f76d159e5d916d0fd6a1135",
            "a61047d2a84c9a89fd77690211ba41e17305d8773dfcbd93776a902207daacde",
        ),
        (
            "validation",
            [14, 15, 14, 15, 15, 15, 14, 14, 14, 14],
            "20c1052f0d2115e59b2ae6533413febb7bfd8b2c938310ba03610ca2c1b91636",
            "6d6855294a470e9543b5974480ae7383c84867c918ee61d026a7a2cb668f23bf",
        ),
        (
            "test",
            [36, 36, 35, 37, 36, 36, 36, 36, 35, 36],
            "ca2b03ff13c2c75a3693b546cc145ff71560cb293ecf6dbf41f829cb7a05ff2f",
            "50a93c804ea3462f59f8e4193ce0cbe65948ec45e0afe69d44012e596f3377d0",
        ),
    ],
)
def test_parts_of_digits_are_the_same_everywhere(name: str, counts: list[int], images: str, labels: str) -> None:
    """Results are compared across machines and versions: a part that changes unseen would make that void."""
    part = getattr(DIGITS, name)
    assert part.inputs.shape == (sum(counts), 8, 8, 1)
    assert (part.inputs.dtype, part.targets.dtype) == (np.uint8, np.uint8)
    assert np.bincount(part.targets).tolist() == counts
    assert digest(part.inputs) == images
    assert digest(part.targets) == labels


def test_digits_are_the_published_ones() -> None:
    """Counts of the classes from the data set's own description; each pixel counts the dots of a 4x4 field."""
    parts = (DIGITS.train, DIGITS.validation, DIGITS.test)
    labels = np.concatenate([part.targets for part in parts])
    pixels = np.concatenate([part.inputs for part in parts])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (pixels.min(), pixels.max()) == (0, 16)
    assert pixels.sum() == 561_718
    assert DIGITS.classes == tuple("0123456789")
    assert DIGITS.in_shape == (8, 8, 1)


def test_parts_of_digits_are_disjoint() -> None:
    """No two of the 1,797 images are alike, so that an image tells where it is."""
    images = [image.tobytes() for part in (DIGITS.train, DIGITS.validation, DIGITS.test) for image in part.inputs]
    assert len(images) == len(set(images)) == 1797


def test_parts_of_digits_hold_their_share_of_every_class() -> None:
    held = {name: np.bincount(getattr(DIGITS, name).targets) for name in ("train", "validation", "test")}
    rest = held["train"] + held["validation"]
    assert (abs(held["test"] - 0.2 * (rest + held["test"])) < 1).all()
    assert (abs(held["validation"] - 0.1 * rest) < 1).all()


def test_digits_come_out_from_0_to_1_in_float32() -> None:
    inputs, labels = DIGITS.train.take(slice(None))
    assert (inputs.dtype, labels.dtype) == (np.float32, np.uint8)
    assert (inputs.min(), inputs.max()) == (0, 1)
    np.testing.assert_array_equal(inputs * 16, DIGITS.train.inputs)


# --- Parts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "index", [slice(1, 3), np.array([1, 2]), [1, 2], np.array([False, True, True, False])], ids=str
)
def test_examples_are_taken_by_position(index: object) -> None:
    part = Part(np.array([[0], [51], [102], [255]], np.uint8), np.array([5, 6, 7, 8]), rescale(255))
    for taken in (part.take(index), part.select(index).take(slice(None))):
        np.testing.assert_allclose(taken[0], np.array([[0.2], [0.4]], np.float32), rtol=1e-7, strict=True)
        assert taken[1].tolist() == [6, 7]
    assert len(part.select(index)) == 2


def test_taking_leaves_what_is_stored_as_it_is() -> None:
    stored = np.array([[1.0], [2.0]], np.float32)
    for preprocess in (rescale(2), standardise(stored)):
        Part(stored, np.zeros(2), preprocess).take(slice(None))
        assert stored.tolist() == [[1.0], [2.0]]


def test_without_preprocessing_examples_come_as_stored() -> None:
    part = Part(np.array([[1], [2]], np.int16), np.array([[0.5], [1.5]]))
    inputs, targets = part.take(slice(None))
    assert (inputs.dtype, targets.dtype) == (np.int16, np.float64)
    assert (inputs.tolist(), targets.tolist()) == ([[1], [2]], [[0.5], [1.5]])


def test_as_many_inputs_as_targets_are_needed() -> None:
    with pytest.raises(ValueError, match=r"^Part: expected as many inputs as targets, got 3 inputs, 2 targets$"):
        Part(np.zeros(3), np.zeros(2))


# --- Splits ---------------------------------------------------------------------------------------------------

LABELS = arrays.arrays(np.uint8, st.integers(1, 200), elements=st.integers(0, 5))
FRACTIONS = st.floats(0.01, 0.99)


@given(labels=LABELS, fraction=FRACTIONS, seed=st.integers(0, 3))
def test_a_split_is_a_partition_with_a_fair_share_of_every_class(labels: Array, fraction: float, seed: int) -> None:
    first, second = stratified_split(labels, fraction, Key(seed))
    assert sorted([*first, *second]) == list(range(len(labels)))
    assert list(first) == sorted(first)
    assert list(second) == sorted(second)
    assert len(second) == round(fraction * len(labels))
    for label in np.unique(labels):
        count, held = (labels == label).sum(), (labels[second] == label).sum()
        assert abs(held - fraction * count) < 1


@given(labels=LABELS, fraction=FRACTIONS)
def test_a_split_follows_from_its_key(labels: Array, fraction: float) -> None:
    first, second = (stratified_split(labels, fraction, Key(1)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_another_key_gives_another_split() -> None:
    labels = DIGITS.train.targets
    assert not np.array_equal(*[stratified_split(labels, 0.2, Key(seed))[1] for seed in (0, 1)])


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"^stratified_split: fraction must be .* less than 1, got {fraction}$"):
        stratified_split(np.zeros(5, int), fraction, Key(0))


# --- IDX files ------------------------------------------------------------------------------------------------


def idx(array: Array) -> bytes:
    """An IDX file of bytes, as its definition has it."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4) + 200
PACK = {"plain": bytes, "gzip": gzip.compress}
each_packing = pytest.mark.parametrize("pack", PACK.values(), ids=PACK)


@each_packing
@pytest.mark.parametrize("array", [IMAGES, IMAGES[0, 0], IMAGES[:0], np.zeros((300, 1), np.uint8)], ids=np.shape)
def test_idx_files_are_read(array: Array, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(pack(idx(array)))
    read = read_idx(tmp_path / "file")
    assert (read.dtype, read.shape) == (np.uint8, array.shape)
    assert read.tobytes() == array.tobytes()


@each_packing
def test_idx_files_cut_anywhere_are_refused(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path, whole = tmp_path / "file", pack(idx(IMAGES))
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=f"^{re.escape(str(path))}: (damaged|cut short|not an IDX file)"):
            read_idx(path)


def test_idx_files_with_too_much_in_them_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(idx(IMAGES) + b"\0")
    with pytest.raises(DataError, match=r"header promises \(2, 3, 4\) = 24 values, it holds 25$"):
        read_idx(tmp_path / "file")


def test_damage_within_a_gzip_file_is_noticed_or_does_no_harm(tmp_path: Path) -> None:
    """A few bits of such a file say nothing of the data: the time of packing, the padding after the last block."""
    whole = gzip.compress(idx(IMAGES))
    refused = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        (tmp_path / "file").write_bytes(damaged)
        try:
            read = read_idx(tmp_path / "file")
        except DataError:
            refused += 1
        else:
            np.testing.assert_array_equal(read, IMAGES)
    assert refused > len(whole) / 2


@pytest.mark.parametrize("start", [b"\x89PNG\r\n\x1a\n", b"\0\0\x0d\x03", b"\x01\0\x08\x03", b"<html>", b""], ids=repr)
def test_other_files_are_not_taken_for_idx(start: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(start + idx(IMAGES)[4:] if start else b"")
    with pytest.raises(DataError, match=re.escape(f"not an IDX file of bytes; it starts with {start[:4]!r}")):
        read_idx(tmp_path / "file")


# --- CIFAR-10 files -------------------------------------------------------------------------------------------


def cifar(images: Array, labels: Array) -> bytes:
    """A file of CIFAR-10's binary version: for each image a label and its red, green and blue, row by row."""
    planes = np.moveaxis(images, -1, 1).reshape(len(images), -1)
    return np.concatenate([labels[:, None], planes], axis=1).astype(np.uint8).tobytes()


def test_cifar_files_are_read_pixel_by_pixel(tmp_path: Path) -> None:
    raw = bytearray(2 * 3073)
    raw[0], raw[3073] = 9, 4  # labels
    raw[1], raw[1 + 1024], raw[1 + 2048] = 10, 20, 30  # first image: red, green, blue at the top left
    raw[3073 + 1 + 1], raw[3073 + 1 + 1024 + 32] = 40, 50  # second image: red at row 0, column 1; green at row 1
    (tmp_path / "file").write_bytes(raw)
    images, labels = read_cifar10(tmp_path / "file")
    assert (images.dtype, images.shape, labels.dtype) == (np.uint8, (2, 32, 32, 3), np.uint8)
    assert labels.tolist() == [9, 4]
    assert images[0, 0, 0].tolist() == [10, 20, 30]
    assert (images[1, 0, 1, 0], images[1, 1, 0, 1]) == (40, 50)
    assert images.sum() == 10 + 20 + 30 + 40 + 50


@pytest.mark.parametrize("length", [0, 1, 3072, 3074, 2 * 3073 - 1])
def test_cifar_files_cut_short_are_refused(length: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(length))
    with pytest.raises(DataError, match=f"{length} bytes are no whole number of images of 3073 bytes$"):
        read_cifar10(tmp_path / "file")


def test_labels_that_cifar_does_not_have_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(cifar(np.zeros((3, 32, 32, 3)), np.array([9, 10, 0])))
    with pytest.raises(DataError, match=r": not CIFAR-10: it has a label 10, and labels go from 0 to 9$"):
        read_cifar10(tmp_path / "file")


# --- Sets in folders ------------------------------------------------------------------------------------------

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def tiny(count: int) -> tuple[Array, Array]:
    """Images of two pixels that spell their number, and labels in turn."""
    number = np.arange(count)
    return np.stack([number // 256, number % 256], axis=1).reshape(count, 1, 2).astype(np.uint8), number % 10


def put(folder: Path, sizes: dict[str, int], pack: Callable[[bytes], bytes] = bytes, suffix: str = "") -> Path:
    """Files in the layout of MNIST: sizes by part."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in sizes.items():
        for name, array in zip(FILES[part], tiny(count), strict=True):
            (folder / f"{name}{suffix}").write_bytes(pack(idx(array)))
    return folder


FULL = {"train": 6000, "test": 30}  # 5,000 of the training images are held out


def check_tiny(data: Dataset) -> None:
    assert [len(part) for part in (data.train, data.validation, data.test)] == [1000, 5000, 30]
    assert data.in_shape == (1, 2, 1)
    trained, held = (
        [int(a) * 256 + int(b) for a, b in part.inputs[:, 0, :, 0]] for part in (data.train, data.validation)
    )
    assert sorted(trained + held) == list(range(6000))
    assert (data.train.targets == np.array(trained) % 10).all()
    assert np.bincount(data.validation.targets).tolist() == [500] * 10
    inputs, labels = data.test.take(slice(None))
    assert (inputs.dtype, labels.dtype) == (np.float32, np.uint8)
    np.testing.assert_allclose(inputs[:, 0, 1, 0], np.arange(30) / 255, rtol=1e-6)


UNPACKED = {
    "in folders of their names": lambda name: f"{name}/{name}",
    "with a dot": lambda name: name.replace("-idx", ".idx"),
    "with a dot in folders": lambda name: f"{name.replace('-idx', '.idx')}/{name.replace('-idx', '.idx')}",
    "with a dot and packed": lambda name: f"{name.replace('-idx', '.idx')}.gz",
}


@pytest.mark.parametrize("rename", UNPACKED.values(), ids=UNPACKED)
def test_files_are_found_by_the_names_that_unpackers_give_them(rename: Callable[[str], str], tmp_path: Path) -> None:
    put(tmp_path / "all", FULL)
    for name in (name for names in FILES.values() for name in names):
        path = tmp_path / "mnist" / rename(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / name).rename(path)
    check_tiny(load("mnist", data_dir=tmp_path))
    path.unlink()
    with pytest.raises(DataError, match=rf"lacks {FILES['test'][1]}: put them there"):
        load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz")], ids=["plain", "gzip"])
@pytest.mark.parametrize("below", ["fashion_mnist", "fashion-mnist", "."])
def test_a_set_is_found_in_a_folder_of_its_name_or_in_the_one_given(
    below: str, pack: Callable[[bytes], bytes], suffix: str, tmp_path: Path
) -> None:
    put(tmp_path / below, FULL, pack, suffix)
    data = load("fashion_mnist", data_dir=tmp_path)
    check_tiny(data)
    assert data.classes[0] == "T-shirt"
    assert len(data.classes) == 10


def test_the_environment_names_the_folder_unless_the_call_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "one" / "mnist", FULL)
    monkeypatch.setenv("FUNCNN_DATA", str(tmp_path / "one"))
    check_tiny(load("mnist"))
    assert load("mnist").classes == tuple("0123456789")
    with pytest.raises(DataError, match="two"):
        load("mnist", data_dir=tmp_path / "two")


def test_a_set_of_two_files_is_split_as_the_digits_are(tmp_path: Path) -> None:
    put(tmp_path / "notmnist", {"test": 100})
    data = load("notmnist", data_dir=str(tmp_path))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [72, 8, 20]
    assert np.bincount(data.test.targets).tolist() == [2] * 10
    assert data.classes == tuple("ABCDEFGHIJ")
    pixels = np.concatenate([part.inputs[:, 0, 1, 0] for part in (data.train, data.validation, data.test)])
    assert sorted(pixels) == list(range(100))


def test_cifar_is_read_from_its_six_files(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    images, labels = np.zeros((1010, 32, 32, 3), np.uint8), np.arange(1010) % 10
    for i in range(1, 6):
        images[:, 3, 5, 2] = 10 * i  # which file it comes from
        (folder / f"data_batch_{i}.bin").write_bytes(cifar(images, labels))
    (folder / "test_batch.bin").write_bytes(cifar(images[:20] + 7, labels[:20]))
    data = load("cifar10", data_dir=tmp_path)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [50, 5000, 20]
    files = [np.bincount(part.inputs[:, 3, 5, 2], minlength=51)[10::10] for part in (data.train, data.validation)]
    assert (files[0] + files[1]).tolist() == [1010] * 5
    assert data.test.inputs[0, 3, 5].tolist() == [7, 7, 57]
    assert data.in_shape == (32, 32, 3)
    assert data.classes[0] == "airplane"


def test_parts_are_the_same_every_time(tmp_path: Path) -> None:
    put(tmp_path, FULL)
    first, second = (load("mnist", data_dir=tmp_path) for _ in range(2))
    assert digest(first.validation.inputs) == digest(second.validation.inputs)
    assert load("digits").train.inputs.tobytes() == DIGITS.train.inputs.tobytes()


# --- Errors ---------------------------------------------------------------------------------------------------

NAMES = "There are 'digits', 'mnist', 'fashion_mnist', 'cifar10', 'notmnist'"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("minst", "did you mean 'mnist'? "),
        ("fashion-mnist", "did you mean 'fashion_mnist'? "),
        ("cifar-10", "did you mean 'cifar10'? "),
        ("digit", "did you mean 'digits'? "),
        ("xyz", ""),
        ("", ""),
    ],
)
def test_an_unknown_name_is_told_the_known_ones(name: str, hint: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(f'no data set is called {name!r}: {hint}{NAMES}')}$"):
        load(name)


@pytest.mark.parametrize("name", [None, 5, ["mnist"], b"mnist", ("digits",)])
def test_what_is_no_name_is_told_the_known_ones(name: Any) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(f'no data set is called {name!r}: ')}.*{re.escape(NAMES)}$"):
        load(name)


@pytest.mark.parametrize("folder", [5, ["a"], "a\0b", "\ud800"])
@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_a_folder_that_is_none_is_named(name: str, folder: Any) -> None:
    with pytest.raises(ValueError, match=rf"^load: data_dir must be a path, .*got {re.escape(repr(folder))}"):
        load(name, data_dir=folder)


@pytest.mark.parametrize(
    ("name", "wanted", "below"),
    [
        ("fashion_mnist", "train-images-idx3-ubyte", "fashion_mnist, fashion-mnist"),
        ("notmnist", "t10k-images-idx3-ubyte or A/", "notmnist, notmnist/notMNIST_small, notMNIST_small"),
    ],
)
def test_a_folder_without_the_files_is_named(name: str, wanted: str, below: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(name, data_dir=tmp_path)
    advice = "Put the files there, or leave out data_dir (--data-dir) to have them downloaded"
    assert str(caught.value) == f"{name}: no {wanted} in {tmp_path}, nor below it in {below}. {advice}"


def test_the_files_that_are_missing_are_named(tmp_path: Path) -> None:
    folder = put(tmp_path / "mnist", {"test": 30})
    with pytest.raises(DataError) as caught:
        load("mnist", data_dir=tmp_path)
    advice = "put them there, or remove the others"
    assert str(caught.value) == f"mnist: the folder {folder} lacks {', '.join(FILES['train'])}: {advice}"
    put(tmp_path / "mnist", FULL)
    check_tiny(load("mnist", data_dir=tmp_path))


def test_damage_to_one_of_the_files_is_told_with_its_path(tmp_path: Path) -> None:
    path = put(tmp_path, FULL) / FILES["train"][0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: cut short or damaged"):
        load("mnist", data_dir=tmp_path)


def test_other_labels_than_images_are_refused(tmp_path: Path) -> None:
    put(tmp_path, FULL)
    (tmp_path / FILES["test"][1]).write_bytes(idx(np.zeros(29)))
    with pytest.raises(
        DataError, match=r"expected images \(n, height, width\) and as many labels, got \(30, 1, 2\) and"
    ):
        load("mnist", data_dir=tmp_path)
    (tmp_path / FILES["test"][1]).write_bytes(idx(IMAGES))  # images in the place of labels
    with pytest.raises(DataError, match=r"\(30, 1, 2\) and \(2, 3, 4\) in t10k-labels-idx1-ubyte$"):
        load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["fashion_mnist", "notmnist"])
def test_the_files_of_another_set_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(tiny(30)[1].astype(np.uint8).tobytes()).hexdigest()
    monkeypatch.setitem(sys.modules["funcnn.data.load"]._LABELS, digest, "mnist")
    put(tmp_path, FULL if name == "fashion_mnist" else {"test": 30})
    with pytest.raises(DataError, match=rf"these are the files of mnist, not of {name}\. Give the folder of {name}'s$"):
        load(name, data_dir=tmp_path)
    if name == "fashion_mnist":
        check_tiny(load("mnist", data_dir=tmp_path))


def test_images_of_two_sizes_and_labels_of_no_class_are_refused(tmp_path: Path) -> None:
    put(tmp_path, FULL)
    images, labels = tmp_path / FILES["test"][0], tmp_path / FILES["test"][1]
    images.write_bytes(idx(np.zeros((30, 2, 1), np.uint8)))
    with pytest.raises(DataError, match=r"images \(2, 1, 1\), those to train on are \(1, 2, 1\)$"):
        load("mnist", data_dir=tmp_path)
    labels.write_bytes(idx(np.full(30, 77, np.uint8)))
    with pytest.raises(DataError, match=r"expected labels from 0 to 9, got one of 77$"):
        load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("count", [0, 20, 5000])
def test_too_few_training_images_to_hold_some_out_are_refused(count: int, tmp_path: Path) -> None:
    """A folder with the first few images of a set, say: the message must be about the files, not about a fraction."""
    put(tmp_path, {"train": count, "test": 30})
    with pytest.raises(DataError, match=rf"\bmnist\b.*\b{count}\b"):
        load("mnist", data_dir=tmp_path)


# --- The real files -------------------------------------------------------------------------------------------

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data sets are not beside the project, in {SHARED.name}")
@pytest.mark.parametrize(
    ("name", "sizes", "of_each_class"),
    [
        ("mnist", [55_000, 5_000, 10_000], [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
        ("fashion_mnist", [55_000, 5_000, 10_000], [1000] * 10),
        ("notmnist", [7_200, 800, 2_000], None),
    ],
)
def test_real_sets_have_their_known_sizes(name: str, sizes: list[int], of_each_class: list[int] | None) -> None:
    data = load(name, data_dir=SHARED)
    assert [len(part) for part in (data.train, data.validation, data.test)] == sizes
    assert data.in_shape == (28, 28, 1)
    assert len(data.classes) == 10
    assert of_each_class in (None, np.bincount(data.test.targets).tolist())
    assert set(np.unique(data.train.targets)) == set(range(10))
    assert (data.train.inputs.dtype, data.train.inputs.max()) == (np.uint8, 255)

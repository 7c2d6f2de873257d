"""Texts as data: windows and what follows them, fixed parts, and errors that say what is wrong with a file."""

from pathlib import Path

import numpy as np
import pytest
from cases import message

from funcnn.data import DataError, Windows, load_text
from funcnn.system.content import content_hash

TEXT = "to be or not to be: ça c'est la question\n" * 10


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.mark.parametrize("stride", [1, 3, 4, 7])
def test_windows_are_followed_by_the_symbols_one_later(stride: int) -> None:
    text = np.arange(20, dtype=np.uint8)
    windows = Windows(text, context=4, stride=stride)
    starts = range(0, 16, stride)  # 16: a window from 15 on still has a symbol after it
    assert len(windows) == len(starts)
    inputs, targets = windows.take(slice(None))
    assert inputs.tolist() == [list(range(start, start + 4)) for start in starts]
    assert (targets == inputs + 1).all()
    assert windows.inputs.base is not None  # a view, not a copy for each window
    for given, taken in zip((inputs, targets), windows.take([len(starts) - 1, 0]), strict=True):
        assert taken.tolist() == given[[-1, 0]].tolist()
    assert [each.tolist() for each in windows.thin(2).take([0, 1])] == [
        each[[0, -1]].tolist() for each in (inputs, targets)
    ]


def test_a_text_is_cut_into_three_parts_and_its_characters_are_the_classes(file: Path) -> None:
    data = load_text(file, context=6)
    assert data.classes == tuple(sorted(set(TEXT)))
    assert data.in_shape == (6,)
    parts = (data.train, data.validation, data.test)
    assert "".join(data.classes[i] for part in parts for i in part.text) == TEXT
    assert [len(part.text) for part in parts] == [369, 20, 21]
    assert [part.stride for part in parts] == [1, 6, 6]
    assert content_hash(data.train.inputs) != content_hash(data.validation.inputs)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xff\xfe\x00", "no text in UTF-8"),
        ("ab" * 20, "a text of 40 characters is too short: Windows: a window of 6 symbols, and the one after it, need"),
        ("\n" * 400, "all characters are '\\n', and leave nothing to tell. Give a text"),
        ("".join(map(chr, range(0x10000, 0x20001))), "65,537 characters that differ, at most 65,536"),
    ],
)
def test_a_file_that_is_no_text_to_learn_from_is_refused(content: str | bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message(DataError, load_text, path, context=6).startswith(f"{path}: {text}")


def test_arguments_of_another_kind_are_named(file: Path) -> None:
    assert "no input.txt in" in message(DataError, load_text, context=6, data_dir=file.parent)
    assert message(DataError, load_text, file.parent / "gone", context=6).startswith(str(file.parent / "gone"))
    assert "context must be an int of at least 1, got 0" in message(ValueError, load_text, file, context=0)
    for text in (np.zeros((3, 3), int), np.zeros(3)):
        assert "text must be symbol numbers (n,), of an integer dtype, got" in message(
            ValueError, Windows, text, context=1
        )

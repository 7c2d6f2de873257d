"""Files that appear whole or not at all, and folders that are known to be writable."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from funcnn.system.files import make_folder, write_bytes, write_text


def test_bytes_and_text_come_back(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"\x00\xff\r\n")
    write_text(str(tmp_path / "b"), "π = 3\r\n")  # a str will do, and no line ending is translated
    assert (tmp_path / "a").read_bytes() == b"\x00\xff\r\n"
    assert (tmp_path / "b").read_bytes() == "π = 3\r\n".encode()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"a long first content")
    write_bytes(tmp_path / "a", b"short")
    assert (tmp_path / "a").read_bytes() == b"short"
    assert os.listdir(tmp_path) == ["a"]


def test_a_name_in_the_current_folder_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_bytes("a", b"here")
    assert (tmp_path / "a").read_bytes() == b"here"


def test_a_reader_sees_the_old_file_until_the_new_one_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, seen = tmp_path / "a", []
    write_bytes(target, b"old")
    flush = os.fsync

    def look(descriptor: int) -> None:
        seen.append(target.read_bytes())
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    write_bytes(target, b"new")
    assert seen[0] == b"old"  # what is flushed first is the file beside it
    assert set(seen[1:]) <= {b"new"}  # then, where there is such a thing, the folder
    assert target.read_bytes() == b"new"


def failing(failure: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise failure

    return fail


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_failing_write_leaves_everything_as_it_was(
    before: bytes | None, failure: BaseException, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is not None:
        (tmp_path / "a").write_bytes(before)
    monkeypatch.setattr(os, call, failing(failure))
    with pytest.raises(type(failure)):
        write_bytes(tmp_path / "a", b"new")
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == ({"a": before} if before else {})


def test_a_place_that_no_file_can_have_is_an_error_and_leaves_no_part(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_bytes(tmp_path / "folder", b"new")
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "none" / "a", b"new")
    assert os.listdir(tmp_path) == ["folder"]


# --- Folders --------------------------------------------------------------------------------------------------


def test_a_folder_is_made_with_those_above_it_and_is_empty(tmp_path: Path) -> None:
    folder = make_folder(str(tmp_path / "runs" / "first"))
    assert folder == tmp_path / "runs" / "first"
    assert os.listdir(folder) == []


def test_a_folder_that_is_there_keeps_its_files(tmp_path: Path) -> None:
    """Whatever is written to try the folder out, no file of the user's may have its name."""
    for name in ("probe", "test", "config.json"):
        (tmp_path / name).write_text("mine")
    assert make_folder(tmp_path) == tmp_path
    assert {name: (tmp_path / name).read_text() for name in os.listdir(tmp_path)} == {
        "probe": "mine",
        "test": "mine",
        "config.json": "mine",
    }


@pytest.mark.parametrize(("below", "reason"), [("", "File exists"), ("runs/first", "Not a directory")])
def test_a_folder_that_is_or_lies_below_a_file_is_refused(below: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / "file" / below
    with pytest.raises(OSError, match=f"^{re.escape(f'cannot write in the folder {folder}: {reason}. Choose')}"):
        make_folder(folder)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_without_room_is_refused_before_it_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=r"cannot write in the folder .*: No space left on device\. Choose another one$"):
        make_folder(tmp_path)
    assert os.listdir(tmp_path) == []

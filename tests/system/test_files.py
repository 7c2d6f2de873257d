"""Files that appear whole or not at all, and folders that are known to be writable."""

import errno
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from funcnn.system import files
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


# --- Systems, links, and others that write ----------------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="modes, links, pipes and signals of POSIX")


@pytest.mark.parametrize("nameless", [True, False], ids=["nameless part", "named part"])
def test_writers_of_one_file_do_not_disturb_each_other(
    nameless: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not nameless:
        monkeypatch.setattr(files, "_open_nameless", lambda folder: None)
    contents = [bytes([i]) * 10_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            list(pool.map(lambda content: write_bytes(tmp_path / "a", content), contents))
            assert (tmp_path / "a").read_bytes() in contents
    assert os.listdir(tmp_path) == ["a"]


@posix
@pytest.mark.parametrize("nameless", [True, False], ids=["nameless part", "named part"])
def test_a_replaced_file_keeps_its_mode_and_a_new_one_has_the_usual(
    nameless: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not nameless:
        monkeypatch.setattr(files, "_open_nameless", lambda folder: None)
    (tmp_path / "usual").touch()
    for name, mode in (("shared", 0o664), ("secret", 0o600), ("locked", 0o444)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
        write_bytes(tmp_path / name, b"new")
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode
    write_bytes(tmp_path / "new", b"new")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


@posix
def test_a_link_stays_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name, target in (("relative", "there/a"), ("absolute", tmp_path / "there" / "b"), ("twice", "relative")):
        (tmp_path / name).symlink_to(target)  # to nothing at first
        write_bytes(tmp_path / name, name.encode())
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_bytes() == name.encode()
    assert sorted(os.listdir(tmp_path / "there")) == ["a", "b"]
    assert sorted(os.listdir(tmp_path)) == ["absolute", "relative", "there", "twice"]


@posix
def test_a_pipe_or_a_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(OSError, match=f"a pipe, a socket or a device: {str(path)!r}$"):
            write_bytes(path, b"new")
    assert os.listdir(tmp_path) == ["pipe"]


@posix
def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {".b.0123456789abcdef.part", ".a.part", ".a.backup.part", "a.0123.part", ".a.0123.part.txt"}
    for name in (*mine, ".a.0123456789abcdef.part", ".a.4711.part"):  # the last as earlier versions named them
        (tmp_path / name).touch()
    monkeypatch.setattr(files, "_open_nameless", lambda folder: None)
    with files._new_part(tmp_path / "a")[0]:  # another's, who is at it
        write_bytes(tmp_path / "a", b"new")
        assert len(os.listdir(tmp_path)) == len(mine) + 2
    write_bytes(tmp_path / "a", b"newer")
    assert set(os.listdir(tmp_path)) == mine | {"a"}


@posix
def test_a_killed_writer_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    """By hand, with 200 kills: see docs/reliability.md."""
    program = (
        "import itertools, sys\nfrom funcnn.system.files import write_bytes\nprint(flush=True)\n"
        "for i in itertools.count(): write_bytes(sys.argv[1], bytes([i % 256]) * 2_000_000)"
    )
    for i in range(5):
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "a")], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.01 * i)
        process.kill()
        process.communicate()
        if (tmp_path / "a").exists():
            content = (tmp_path / "a").read_bytes()
            assert content == content[:1] * 2_000_000
    write_bytes(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS], ids=os.strerror)
def test_file_systems_without_fsync_will_do(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFS and FUSE have none for folders."""
    monkeypatch.setattr(os, "fsync", failing(OSError(number, "no such thing")))
    write_bytes(make_folder(tmp_path / "run") / "a", b"new")
    assert (tmp_path / "run" / "a").read_bytes() == b"new"


def test_names_may_be_as_long_as_names_may_be(tmp_path: Path) -> None:
    for name in ("a" * 255, "é" * 127):
        write_bytes(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=re.escape(f"No space left on device: '{tmp_path / 'a'}'") + "$"):
        write_text(tmp_path / "a", "new")

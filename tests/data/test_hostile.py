"""Files made to harm, or harmed: each is refused by DataError that names it, at once, in little memory."""

import gzip
import io
import json
import os
import re
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz.wild import mutated
from processes import linux

from funcnn.checks import FuncnnWarning
from funcnn.data import DataError, download, folders, formats, load, load_folder, read_class_folders, read_images
from funcnn.data.formats import read_cifar10, read_idx

Image = pytest.importorskip("PIL.Image")

MEGABYTES = 500
SECONDS = 1.0


def idx(*shape: int, axes: int | None = None) -> bytes:
    """The header of an IDX file."""
    return bytes([0, 0, 8, len(shape) if axes is None else axes]) + b"".join(struct.pack(">I", size) for size in shape)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *, depth: int = 8, kind: int = 2, data: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG file; `kind` is 0 for grey, 2 for colour, 4 for grey with alpha."""
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def zeros(size: int) -> bytes:
    """A stream of zlib's that unpacks to so many zeros, made without packing them all."""
    packer = zlib.compressobj()
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    first, again = block, packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (size // 2**20) + packer.flush()


def scans(count: int, side: int) -> bytes:
    """A progressive JPEG whose last scan comes so many times."""
    out = io.BytesIO()
    Image.new("L", (side, side)).save(out, "JPEG", progressive=True)
    body = out.getvalue()
    last = body[body.rindex(b"\xff\xda") : -2]
    return body[:-2] + last * count + body[-2:]


def gigabytes(count: int) -> bytes:
    """A gzip file of so many gigabytes of zeros, a megabyte for each."""
    return gzip.compress(bytes(2**24)) * (64 * count)


# --- Little memory, little time ---------------------------------------------------------------------------------

BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a gzip file of 10 GB": ("a.gz", lambda: gzip.compress(idx(10_000, 1000, 1000)) + gigabytes(10), "promises"),
    "a gzip file of more than it says": (
        "a.gz",
        lambda: gzip.compress(idx(60_000, 28, 28)) + gigabytes(10),
        "holds more",
    ),
    "a gzip file of less than it says": ("a.gz", lambda: gzip.compress(idx(256, 1000, 1000)), "it holds 0"),
    "a gzip file of many images": (
        "a.gz",
        lambda: gzip.compress(idx(2**28, 1, 1) + bytes(2**24)),
        "268,435,456 examples",
    ),
    "a PNG of 144 million pixels": (
        "a.png",
        lambda: png(12_000, 12_000, data=zeros(432_012_000)),
        "12,000x12,000 pixels",
    ),
    "a PNG of 3 billion pixels": (
        "a.png",
        lambda: png(60_000, 60_000, data=zeros(2**20)),
        "Image size (3600000000 pixels)",
    ),
    "a PNG in one line": ("a.png", lambda: png(2**31 - 1, 1, kind=0, data=zeros(2**20)), "exceeds limit"),
    "a JPEG of 1000 scans": ("a.jpg", lambda: scans(1000, 4000), "passes over its pixels 1006 times"),
}
BOUNDED = """
import json, sys, time
from funcnn.data import read_images
import PIL.Image, PIL.PngImagePlugin, PIL.JpegImagePlugin
for path in sys.argv[1:]:
    start = time.process_time()
    try:
        found = str(read_images(path)[1].shape)
    except ValueError as error:
        found = f"{type(error).__name__}: {error}"
    status = open("/proc/self/status").read()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps([found, time.process_time() - start, peak]))
"""


def read_apart(paths: list[Path]) -> list[tuple[str, float, float]]:
    """What reading files gives in a process of its own, its seconds, and the process's peak memory in MB so far."""
    command = [sys.executable, "-c", BOUNDED, *map(str, paths)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return [json.loads(line) for line in run.stdout.splitlines()]


@linux
def test_bombs_are_refused_at_once_in_little_memory(tmp_path: Path) -> None:
    paths = []
    for i, (name, body, _) in enumerate(BOMBS.values()):
        paths.append(tmp_path / f"{i}{name}")
        paths[-1].write_bytes(body())
    for path, (found, seconds, peak), (case, (_, _, text)) in zip(paths, read_apart(paths), BOMBS.items(), strict=True):
        assert found.startswith(f"DataError: {path}: "), case
        assert text in found, case
        assert seconds < SECONDS, case
        assert peak < MEGABYTES, case


@linux
def test_the_largest_image_that_a_small_file_may_hold_takes_little_memory(tmp_path: Path) -> None:
    for name, mode in (("1.png", "RGB"), ("2.png", "RGBA")):
        side = 5000 if mode == "RGB" else 4480
        Image.new(mode, (side, side)).save(tmp_path / name, compress_level=1)
    for found, _, peak in read_apart([tmp_path / "1.png", tmp_path / "2.png"]):
        assert found in ("(1, 5000, 5000, 3)", "(1, 4480, 4480, 3)")
        assert peak < MEGABYTES


def test_a_large_file_may_hold_a_large_image(tmp_path: Path) -> None:
    """A photograph of 30 million pixels has some megabytes; bytes after the image's end do for them here."""
    Image.new("RGB", (6000, 5100)).save(tmp_path / "1.jpg", quality=1)
    small = (tmp_path / "1.jpg").read_bytes()
    with pytest.raises(
        DataError, match=r"5,100x6,000 pixels in [\d,]+ bytes; .*this one takes 122,400,000\. Save it sm"
    ):
        read_images(tmp_path / "1.jpg", size=(10, 12))
    (tmp_path / "1.jpg").write_bytes(small + bytes(2_000_000))
    assert read_images(tmp_path / "1.jpg", size=(10, 12))[1].shape == (1, 10, 12, 3)


def test_bytes_that_only_look_like_scans_are_no_scans(tmp_path: Path) -> None:
    """In a comment, and in the film that telephones put behind a photograph."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "JPEG", comment=b"\xff\xda" * 1000)
    (tmp_path / "1.jpg").write_bytes(out.getvalue() + b"\xff\xda\0\2" * 1000)
    assert read_images(tmp_path)[1].shape == (1, 16, 16, 3)
    (tmp_path / "1.jpg").write_bytes(scans(20, 16))
    assert read_images(tmp_path)[1].shape == (1, 16, 16, 1)
    (tmp_path / "1.jpg").write_bytes(scans(25, 16))
    with pytest.raises(DataError, match=r"passes over its pixels 31 times; a JPEG may do so 30 times\)?$"):
        read_images(tmp_path)


def test_all_images_of_a_folder_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(10):
        (tmp_path / "cat").mkdir(exist_ok=True)
        Image.new("RGB", (20, 10)).save(tmp_path / "cat" / f"{i}.png")
    monkeypatch.setattr(folders, "FOLDER", 6000)
    assert len(read_class_folders(tmp_path)[0]) == 10
    monkeypatch.setattr(folders, "FOLDER", 5999)
    text = (
        f"{tmp_path}: 10 images of 10x20x3 take 6,000 bytes; all of them together may take 5,999. Pass a smaller size"
    )
    with pytest.raises(DataError, match=f"^{re.escape(text)}"):
        read_class_folders(tmp_path)
    assert len(read_class_folders(tmp_path, size=(10, 19))[0]) == 10  # its advice


# --- Headers that cannot be ---------------------------------------------------------------------------------------

HEADERS = {
    "9 axes": (idx(*[1] * 9) + b"\1", "damaged: its header promises 9 axes, and no set has more than 8"),
    "255 axes": (idx(*[1] * 255), "damaged: its header promises 255 axes"),
    "axes that are not there": (idx(1, axes=4), "not an IDX file of bytes; it starts with"),
    "sizes beyond any memory": (idx(9, *[2**32 - 1] * 3), "damaged: its header promises an array (9, 4294967295, "),
    "nothing times such sizes": (idx(0, *[2**32 - 1] * 3), "damaged: its header promises an array (0, 4294967295, "),
    "a size that is negative": (idx(3, 2**32 - 1), "cut short or damaged: its header promises (3, 4294967295) = 1288"),
    "no axes and no value": (idx(), "cut short or damaged: its header promises () = 1 values, it holds 0"),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(("body", "text"), HEADERS.values(), ids=HEADERS)
def test_idx_headers_that_cannot_be_are_refused(body: bytes, text: str, pack: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(pack(body))
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: ") as caught:
        read_idx(path)
    assert text in str(caught.value) or pack is gzip.compress


def test_images_of_no_pixels_are_refused(tmp_path: Path) -> None:
    for name, body in {"train": idx(3, 0, 5), "t10k": idx(3, 0, 5)}.items():
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(body)
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx(3) + bytes(3))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: expected images that have pixels, got \(3, 0, 5\)$"):
        load("mnist", data_dir=tmp_path)
    with pytest.raises(DataError, match=r"expected images \(n, height, width\), got an array \(3, 0, 5\)$"):
        read_images(tmp_path / "t10k-images-idx3-ubyte")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_set_of_too_few_images_for_its_parts_is_refused(count: int, tmp_path: Path) -> None:
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(count, 1, 1) + bytes(count))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(count) + bytes(count))
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte: too few images: no part may be empty"):
        load("notmnist", data_dir=tmp_path)


# --- Damage of every kind -----------------------------------------------------------------------------------------


def packed(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """A small image of noise as a file's bytes."""
    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 4), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(out, kind, **options)
    return out.getvalue()


def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        for name in ("a", "b", "x" * 200):
            entry = tarfile.TarInfo(f"notMNIST_small/{name}")
            entry.size = 20
            tar.addfile(entry, io.BytesIO(bytes(20)))
    return out.getvalue()


def turned() -> Any:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A] = 6, "a picture", 72.0
    return exif


NOTMNIST = download.Source("a.tar.gz", 1, "md5:0", (), "notMNIST_small")
WHOLE: dict[str, tuple[str, bytes, Callable[[Path], Any]]] = {
    "idx": ("a", idx(3, 4, 5) + bytes(60), read_images),
    "idx.gz": ("a.gz", gzip.compress(idx(3, 4, 5) + bytes(60)), read_idx),
    "cifar": ("data_batch_1.bin", bytes(3073 * 2), read_cifar10),
    "png": ("a.png", packed("PNG", exif=turned()), read_images),
    "palette": ("a.png", packed("PNG", "P", transparency=b"\0\x80"), read_images),
    "grey": ("a.png", packed("PNG", "LA"), read_images),
    "jpeg": ("a.jpg", packed("JPEG", exif=turned()), read_images),
    "progressive": ("a.jpg", packed("JPEG", "CMYK", progressive=True), read_images),
    "tar": ("a.tar.gz", archive(), lambda path: download._unpack(NOTMNIST, path)),
    "unpacked tar": ("a.tar.gz", gzip.decompress(archive()), lambda path: download._unpack(NOTMNIST, path)),
}


@pytest.mark.parametrize(("name", "whole", "read"), WHOLE.values(), ids=WHOLE)
def test_damage_is_survived_or_named(name: str, whole: bytes, read: Callable[[Path], Any], tmp_path: Path) -> None:
    """Seeded mutations: cuts, flips, insertions, other numbers. Any other error or warning fails the test."""
    rng = np.random.default_rng(13)
    (tmp_path / name).write_bytes(whole)
    read(tmp_path / name)
    taken = refused = 0
    for i in range(60):
        path = tmp_path / str(i) / name
        path.parent.mkdir()
        path.write_bytes(mutated(rng, whole))
        try:
            read(path)
        except DataError as error:
            refused += name in str(error)
        else:
            taken += 1
    assert taken + refused == 60
    assert refused > 5


def test_a_damaged_entry_of_a_photograph_is_no_damage_to_it(tmp_path: Path) -> None:
    """Entries that Pillow cannot write again, beside a good orientation; and an orientation that is none."""
    for i, (tag, kind, turn) in enumerate([(0x0128, 2, 6), (0x011A, 2, 6), (0x010E, 11, 8), (0x0128, 2, 99)]):
        entries = [(0x0112, 3, 1, bytes([turn, 0])), (tag, kind, 1, b"A")]
        body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in entries)
        exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)
        image = Image.new("RGB", (16, 32))
        image.paste((255, 255, 255), (0, 0, 16, 16))
        image.save(tmp_path / f"{i}.jpg", exif=exif)
    shapes = [read_images(tmp_path / f"{i}.jpg")[1].shape for i in range(4)]
    assert shapes == [(1, 16, 32, 3)] * 3 + [(1, 32, 16, 3)]
    left, right = read_images(tmp_path / "2.jpg")[1][0][:, [2, -3], 0].T
    assert (left.min() > 200, right.max() < 50) == (True, True)


def test_damage_to_the_digits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> Any:
        raise zlib.error("invalid block type")

    monkeypatch.setattr(np, "load", broken)
    with pytest.raises(
        DataError, match=r"digits\.npz: damaged or missing \(invalid block type\); install funcnn anew$"
    ):
        load("digits")


# --- What is no file ----------------------------------------------------------------------------------------------


@linux
def test_pipes_folders_and_loops_in_the_place_of_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    Image.new("L", (3, 2)).save(tmp_path / "cat" / "1.png")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    (tmp_path / "cat" / "folder.png").mkdir()
    (tmp_path / "cat" / "loop.png").symlink_to(tmp_path / "cat" / "loop.png")
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.warns(FuncnnWarning, match=r"4 of 5 images cannot be read .*folder\.png, .*: Is a directory\)$"):
        assert len(read_class_folders(tmp_path)[0]) == 1
    for name, reason in {
        "pipe.png": "expected a file, and it is a pipe or a device",
        "folder.png": "expected images in it",
        "loop.png": "no such file or folder",
        "gone.png": "no such file or folder",
    }.items():
        with pytest.raises(DataError, match=f"{re.escape(name)}: .*{reason}"):
            read_images(tmp_path / "cat" / name)
    os.mkfifo(tmp_path / "images.idx")
    with pytest.raises(DataError, match=r"images\.idx: cannot be read: expected a file, and it is a pipe or a device"):
        read_images(tmp_path / "images.idx")


def test_what_the_system_does_not_let_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").write_bytes(idx(1, 1, 1) + b"\0")
    (tmp_path / "cat").mkdir()
    Image.new("L", (3, 2)).save(tmp_path / "cat" / "1.png")

    def denied(path: str | Path, *_: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(formats, "_open", denied)
        for path in (tmp_path / "images", tmp_path / "cat" / "1.png"):
            with pytest.raises(DataError, match=f"^{re.escape(str(path))}: cannot be read: Permission denied$"):
                read_images(path)
    monkeypatch.setattr(Path, "iterdir", denied)
    for read in (read_images, read_class_folders, load_folder):
        with pytest.raises(DataError, match=f"^{re.escape(str(tmp_path))}: cannot be read: Permission denied$"):
            read(tmp_path)


def test_a_path_too_long_for_the_system_is_told() -> None:
    for read in (read_images, read_class_folders, load_folder, lambda path: load("mnist", data_dir=path)):
        with pytest.raises(DataError, match=r"cannot be read: File name too long$"):
            read("x" * 5000)

"""Folders of images: what is read is what was drawn, in a fixed order; what cannot be read is named."""

import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn.checks import FuncnnWarning
from funcnn.data import DataError, Dataset, load, load_folder, read_class_folders, read_images
from funcnn.layer import Array

Image = pytest.importorskip("PIL.Image")

SHARED = Path(__file__).parents[3] / "shared" / "data"


def draw(path: Path, value: int = 0, size: tuple[int, int] = (2, 3), mode: str = "L") -> Path:
    """A plain image of (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size[::-1], value).convert(mode).save(path)
    return path


def letters(root: Path, count: int = 10) -> Path:
    """Class folders A to J, whose images number themselves."""
    for i, name in enumerate("ABCDEFGHIJ"):
        for j in range(count):
            draw(root / name / f"{j}.png", count * i + j)
    return root


def numbers(data: Dataset) -> list[list[int]]:
    return [part.inputs[:, 0, 0, 0].tolist() for part in (data.train, data.validation, data.test) if part is not None]


# --- Class folders --------------------------------------------------------------------------------------------


def test_images_are_sorted_by_class_and_name(tmp_path: Path) -> None:
    for name, value in (("b/2.png", 3), ("b/1.JPG", 2), ("a/z.jpeg", 1), ("b/10.PNG", 4)):
        draw(tmp_path / name, value)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    draw(tmp_path / "b" / "._1.png")
    draw(tmp_path / ".hidden" / "1.png")
    draw(tmp_path / "beside.png")
    images, labels, classes = read_class_folders(tmp_path)
    assert (images.shape, images.dtype, labels.dtype) == ((4, 2, 3, 1), np.uint8, np.uint8)
    assert images[:, 0, 0, 0].tolist() == [1, 2, 4, 3]
    assert (labels.tolist(), classes) == ([0, 1, 1, 1], ("a", "b"))


def test_classes_can_be_named(tmp_path: Path) -> None:
    letters(tmp_path, 1)
    images, labels, classes = read_class_folders(tmp_path, classes=["C", "A"])
    assert (images[:, 0, 0, 0].tolist(), labels.tolist(), classes) == ([2, 0], [0, 1], ("C", "A"))


def test_more_classes_than_a_byte_counts(tmp_path: Path) -> None:
    for i in range(257):
        draw(tmp_path / f"{i:03}" / "1.png")
    labels = read_class_folders(tmp_path)[1]
    assert (labels.dtype, labels.tolist()) == (np.int64, list(range(257)))


PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("mode", "channels", "wanted"),
    [
        ("L", None, PIXELS[..., :1]),
        ("L", 3, PIXELS[..., [0, 0, 0]]),
        ("RGB", None, PIXELS),
        ("RGBA", None, np.round(255 + (PIXELS - 255.0) * PIXELS[..., :1] / 255)),  # on white, by how much they cover it
        ("RGB", 1, np.round(PIXELS @ [0.299, 0.587, 0.114])[..., None]),  # ITU-R 601, as Pillow documents
    ],
)
def test_pixels_are_those_of_the_file(mode: str, channels: int | None, wanted: Array, tmp_path: Path) -> None:
    pixels = {"L": PIXELS[..., 0], "RGB": PIXELS, "RGBA": np.concatenate([PIXELS, PIXELS[..., :1]], axis=-1)}[mode]
    Image.fromarray(pixels).save(tmp_path / "1.png")
    _, images = read_images(tmp_path / "1.png", channels=channels)
    assert (images.shape[:-1], images.dtype) == ((1, 4, 5), np.uint8)
    np.testing.assert_allclose(images[0].astype(int), wanted, atol=0 if mode != "RGBA" and channels != 1 else 1)


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("LA", 1), ("P", 3)])
def test_other_kinds_of_png_are_read(mode: str, channels: int, tmp_path: Path) -> None:
    draw(tmp_path / "1.png", 255, mode=mode)
    assert read_images(tmp_path)[1].tolist() == np.full((1, 2, 3, channels), 255).tolist()


def test_palettes_with_transparency_are_read(tmp_path: Path) -> None:
    image = Image.new("P", (2, 2), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "1.png", transparency=b"\x00\xff")
    assert read_images(tmp_path)[1][0, 0, 0].tolist() == [255, 255, 255]  # of which nothing is seen


def test_a_drawing_on_nothing_is_black_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 2), np.uint8)
    pixels[0, 0, 1] = 255  # one black dot that covers what is below it
    Image.fromarray(pixels, "LA").save(tmp_path / "1.png")
    for channels in (None, 1, 3):
        images = read_images(tmp_path, channels=channels)[1]
        assert images[0, ..., 0].tolist() == [[0, 255], [255, 255]]


def test_photographs_are_turned_as_the_camera_was_held(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by a quarter, to the right
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:, :16] = 255
    Image.fromarray(pixels).save(tmp_path / "1.jpg", exif=exif)
    image = read_images(tmp_path)[1][0, ..., 0]
    assert image.shape == (32, 16)
    assert image[:14].min() > 200
    assert image[18:].max() < 50


def test_grey_of_16_bits_is_scaled_and_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by a quarter, to the right
    image = Image.fromarray(np.array([[0, 255, 256, 65535]], np.uint16))
    for options, shape in (({}, (1, 4)), ({"exif": exif}, (4, 1))):
        image.save(tmp_path / "1.png", **options)
        for channels in (None, 1, 3):
            read = read_images(tmp_path, channels=channels)[1][0]
            assert read.shape == (*shape, channels or 1)
            assert read[..., 0].reshape(-1).tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize(
    ("depth", "kind", "row", "clear", "wanted"),
    [
        (1, 0, b"\x40", (0,), [255, 255, 255, 255]),
        (2, 0, b"\x1b", (1,), [0, 255, 170, 255]),
        (4, 0, b"\x3a\x30", (3,), [255, 170, 255, 0]),
        (8, 0, b"\x03\x0a\x03\x00", (3,), [255, 10, 255, 0]),
        (16, 0, b"\x03\x02\x9c\x40\x03\x03\0\0", (0x302,), [255, 156, 3, 0]),
        (8, 2, b"\1\2\3\1\2\4\0\0\0\1\2\3", (1, 2, 3), [255, 1, 0, 255]),
        (16, 2, b"\1\1\2\2\3\3\1\1\2\2\4\4" + bytes(12), (0x101, 0x202, 0x303), [255, 1, 0, 0]),
    ],
    ids=["1 bit", "2 bits", "4 bits", "8 bits", "16 bits", "colour", "colour of 16 bits"],
)
def test_a_shade_that_is_transparent_is_white_at_any_depth(
    depth: int, kind: int, row: bytes, clear: tuple[int, ...], wanted: list[int], tmp_path: Path
) -> None:
    """The PNG standard's tRNS chunk: one shade or colour, at the image's own depth."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", 4, 1, depth, kind, 0, 0, 0)
    key = struct.pack(f">{len(clear)}H", *clear)
    body = chunk(b"IHDR", head) + chunk(b"tRNS", key) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    for channels in (None, 3):
        assert read_images(tmp_path, channels=channels)[1][0, 0, :, 0].tolist() == wanted


def test_prints_in_four_inks_are_read_in_three_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "1.jpg")
    red = read_images(tmp_path)[1][0, 0, 0]
    assert red[0] > 240
    assert red[1:].max() < 15


def test_jpegs_are_read(tmp_path: Path) -> None:
    for mode, channels in (("L", 1), ("RGB", 3)):
        path = draw(tmp_path / f"{mode}.jpg", 200, (8, 8), mode)
        images = read_images(path)[1]
        assert images.shape == (1, 8, 8, channels)
        assert abs(images.astype(int) - 200).max() <= 2


def test_resizing_takes_height_before_width(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "1.png", 7, (2, 3))
    draw(tmp_path / "a" / "2.png", 9, (8, 8))
    images, _, _ = read_class_folders(tmp_path, size=(4, 6))
    assert images.shape == (2, 4, 6, 1)
    assert np.unique(images).tolist() == [7, 9]


ALL = (read_images, read_class_folders, load_folder)
WRONG: list[tuple[tuple[Callable[..., Any], ...], str, list[Any], str]] = [
    (ALL, "path", [5, None, ["a"], "a\0b", "\ud800"], "must be a path"),
    (
        ALL[:2],
        "size",
        [28, (28,), (0, 3), (2.5, 3), "ab", (True, 3)],
        "must be (height, width), two positive whole numb",
    ),
    (ALL, "size", [(5000, 5000), (1, 10**30)], "must have at most 16,777,216 pixels"),
    (ALL, "channels", [2, True, 1.0, "1", [1]], "must be 1 (grey), 3 (red, green, blue) or None (as they are)"),
    (ALL[1:2], "classes", [(), "ab", ("a", "a"), (1, 2), 5], 'must be names of folders, such as ("cat", "dog"), each'),
    (ALL[2:], "test", [0, 1, -0.5, float("nan"), "0.5", True], "must be more than 0 and less than 1, or None"),
    (ALL[2:], "validation", [0, 1, 2], "must be more than 0 and less than 1"),
]


@pytest.mark.parametrize(
    ("reader", "argument", "value", "text"),
    [(reader, name, value, text) for readers, name, values, text in WRONG for reader in readers for value in values],
)
def test_an_argument_of_no_meaning_is_named(
    reader: Callable[..., Any], argument: str, value: Any, text: str, tmp_path: Path
) -> None:
    letters(tmp_path, 1)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{reader.__name__}: {argument} {text}')}") as caught:
        reader(**{"path": tmp_path, argument: value})
    assert type(caught.value) is ValueError
    assert f"got {value!r}" in str(caught.value)


def test_numpys_numbers_are_numbers(tmp_path: Path) -> None:
    path = draw(tmp_path / "1.png")
    assert read_images(path, size=(np.int64(4), np.uint8(5)), channels=np.int64(3))[1].shape == (1, 4, 5, 3)


# --- What lies beside the images ------------------------------------------------------------------------------


def test_what_systems_leave_beside_images_is_passed_over(tmp_path: Path) -> None:
    letters(tmp_path, 1)
    for name in ("__MACOSX/A/._0.png", "@eaDir/A/1.png", ".ipynb_checkpoints/1.png", "A/.hidden.png", "A/._0.png"):
        draw(tmp_path / name)
    for name in ("A/Thumbs.db", "A/desktop.ini", "A/.DS_Store", ".DS_Store", "readme.txt"):
        (tmp_path / name).write_bytes(b"")
    images, _, classes = read_class_folders(tmp_path)
    assert (len(images), classes) == (10, tuple("ABCDEFGHIJ"))


def test_images_of_other_formats_are_said_to_be_left_out(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "1.png")
    for name in ("1.gif", "2.GIF", "3.bmp", "4.webp"):
        draw(tmp_path / "a" / "x.png").rename(tmp_path / "a" / name)
    draw(tmp_path / "a" / "x.gif").rename(tmp_path / "a" / "moving.png")
    text = (
        "1 of 2 images cannot be read and are left out: a/moving.png (the first: it is no PNG or JPEG); "
        "4 of formats other than PNG and JPEG are left out, convert them: a/1.gif, a/2.GIF, a/3.bmp and 1 more"
    )
    with pytest.warns(FuncnnWarning, match=f"^{re.escape(f'{tmp_path}: {text}')}$"):
        assert len(read_class_folders(tmp_path)[0]) == 1
    (tmp_path / "a" / "1.png").unlink()
    (tmp_path / "a" / "moving.png").unlink()
    with pytest.raises(DataError, match=r"\.jpeg; there is none, but 4 of other formats: convert them$"):
        read_class_folders(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="names of files are text on this system")
def test_names_that_are_no_text_are_read(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "1.png", 7)
    folder = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(folder)
    os.rename(draw(tmp_path / "2.png", 9), folder + b"/\xfe.png")
    Path(os.fsdecode(folder + b"/\xfd.png")).write_bytes(b"")
    with pytest.warns(FuncnnWarning, match="1 of 3 images cannot be read"):
        images, labels, classes = read_class_folders(tmp_path)
    assert (images[:, 0, 0, 0].tolist(), labels.tolist()) == ([7, 9], [0, 1])
    assert [os.fsencode(name) for name in classes] == [b"a", b"\xff"]


def test_the_users_home_may_be_written_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    letters(tmp_path / "set", 10)
    assert read_images("~/set/A/0.png")[0] == ["0.png"]
    assert len(read_class_folders("~/set")[0]) == len(load_folder(Path("~/set")).train) + 28 == 100
    assert len(load("notmnist", data_dir="~/set").test) == 20
    monkeypatch.setenv("FUNCNN_DATA", "~/set")
    assert len(load("notmnist").test) == 20
    monkeypatch.chdir(tmp_path)
    assert len(load("notmnist", data_dir="set").test) == 20
    with pytest.raises(DataError, match=r"^~nobody-of-this-name: no such file or folder$"):
        read_images("~nobody-of-this-name")


# --- What cannot be read --------------------------------------------------------------------------------------


def test_unreadable_images_are_named_in_one_warning(tmp_path: Path) -> None:
    whole = draw(tmp_path / "a" / "1.png", 5).read_bytes()
    draw(tmp_path / "b" / "1.png", 6)
    damaged = {"a/0.png": b"", "a/2.png": whole[:45], "b/0.png": b"no PNG", "b/2.jpg": whole[:20]}
    for name, body in damaged.items():
        (tmp_path / name).write_bytes(body)
    with pytest.warns(UserWarning, match="cannot be read") as warned:
        images, labels, _ = read_class_folders(tmp_path)
    text = (
        f"{tmp_path}: 4 of 6 images cannot be read and are left out: a/0.png, a/2.png, b/0.png and 1 more "
        "(the first: it is no PNG or JPEG)"
    )
    assert [str(each.message).replace("\\", "/") for each in warned] == [text.replace("\\", "/")]
    assert warned[0].filename == __file__
    assert (images[:, 0, 0, 0].tolist(), labels.tolist()) == ([5, 6], [0, 1])


def test_damage_anywhere_is_survived(tmp_path: Path) -> None:
    """An image of noise, with bytes changed or cut off at random: it is read, or counted as unreadable."""
    rng = np.random.default_rng(0)
    bodies = []
    for suffix in ("png", "jpg"):
        Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8)).save(tmp_path / f"whole.{suffix}")
        bodies.append(((tmp_path / f"whole.{suffix}").read_bytes(), suffix))
    for i in range(200):
        body, suffix = bodies[i % 2]
        damaged = bytearray(body)
        for place in rng.integers(0, min(len(body), 120 if i % 3 else len(body)), 3):
            damaged[place] = rng.integers(256)
        (tmp_path / f"{i}.{suffix}").write_bytes(damaged[: rng.integers(1, len(body)) if i % 4 == 0 else None])
    with pytest.warns(UserWarning, match=r"of 202 images cannot be read"):
        names, images = read_images(tmp_path, size=(28, 28), channels=1)
    assert 2 <= len(names) == len(images) < 202
    assert {"whole.png", "whole.jpg"} <= set(names)


def test_a_class_of_which_nothing_can_be_read_is_an_error(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "1.png")
    for name in ("b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"")
    with pytest.raises(
        DataError, match=rf"^{re.escape(str(tmp_path / 'b'))}: none of its 1 images can be read, as PNG or JPEG$"
    ):
        read_class_folders(tmp_path)


def test_a_class_without_images_is_an_error(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "1.png")
    (tmp_path / "b").mkdir()
    wanted = f"{tmp_path / 'b'}: expected images in it, files ending in .png, .jpg, .jpeg; there is none"
    with pytest.raises(DataError, match=f"^{re.escape(wanted)}$"):
        read_class_folders(tmp_path)


@pytest.mark.parametrize("name", ["", "none"])
def test_no_class_folders_is_an_error(name: str, tmp_path: Path) -> None:
    draw(tmp_path / "1.png")
    root = tmp_path / name
    wanted = f"{root}: expected a folder of images for each class, such as {root / 'cat'}; there is none"
    for reader in (read_class_folders, load_folder):
        with pytest.raises(DataError, match=f"^{re.escape(wanted)}$"):
            reader(root)


def test_sizes_that_differ_are_told_with_their_files(tmp_path: Path) -> None:
    first, second = draw(tmp_path / "a" / "1.png"), draw(tmp_path / "b" / "1.png", 0, (4, 5))
    with pytest.raises(DataError) as caught:
        read_class_folders(tmp_path)
    assert str(caught.value) == (
        f"images of different sizes: {first} is 2x3 (height x width), {second} is 4x5. Pass size=(2, 3), say, to "
        "resize them"
    )
    assert read_class_folders(tmp_path, size=(2, 3))[0].shape == (2, 2, 3, 1)


def test_grey_among_coloured_images_is_told(tmp_path: Path) -> None:
    first, second = draw(tmp_path / "1.png"), draw(tmp_path / "2.png", mode="RGB")
    with pytest.raises(DataError) as caught:
        read_images(tmp_path)
    assert str(caught.value) == (
        f"{first} is grey, {second} is in colour. Pass channels=1 to make all images grey, or channels=3; "
        "on a command line, --channels"
    )
    assert [read_images(tmp_path, channels=each)[1].shape[-1] for each in (1, 3)] == [1, 3]


def test_without_pillow_the_way_to_get_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = draw(tmp_path / "1.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    wanted = f'{path}: PNG and JPEG images need Pillow, which is not installed: pip install "funcnn[data]"'
    with pytest.raises(DataError, match=f"^{re.escape(wanted)}$"):
        read_images(path)


def test_importing_the_data_sets_loads_neither_pillow_nor_pooch() -> None:
    program = "import sys, funcnn.data; print({'PIL', 'pooch', 'requests', 'tqdm'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


# --- Data sets of class folders -------------------------------------------------------------------------------


def test_a_folder_of_your_own_is_split_by_class(tmp_path: Path) -> None:
    data = load_folder(letters(tmp_path))
    assert [len(part) for part in numbers(data)] == [72, 8, 20]
    assert sorted(number for part in numbers(data) for number in part) == list(range(100))
    assert np.bincount(data.test.targets).tolist() == [2] * 10
    assert (data.in_shape, data.classes) == ((2, 3, 1), tuple("ABCDEFGHIJ"))
    assert (data.train.inputs[:, 0, 0, 0] // 10 == data.train.targets).all()
    inputs, _ = data.train.take(slice(None))
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(inputs[:, 0, 0, 0], np.array(numbers(data)[0]) / 255, rtol=1e-6)
    assert numbers(load_folder(tmp_path)) == numbers(data)
    assert [len(part) for part in numbers(load_folder(tmp_path, test=0.5, validation=0.2))] == [40, 10, 50]


@pytest.mark.parametrize("validation", ["validation", "val", None])
@pytest.mark.parametrize("test", ["test", None])
def test_parts_that_are_given_are_taken_as_they_are(validation: str | None, test: str | None, tmp_path: Path) -> None:
    for name, count in (("train", 10), (validation, 3), (test, 4)):
        if name:
            letters(tmp_path / name, count)
    train = 100 if test else 80
    sizes = [train, 30, 40 if test else 20] if validation else [train * 9 // 10, train // 10, 40 if test else 20]
    assert [len(part) for part in numbers(load_folder(tmp_path))] == sizes
    if test:
        assert numbers(load_folder(tmp_path))[-1] == list(range(40))


def test_parts_are_known_by_their_other_names(tmp_path: Path) -> None:
    for name, count in (("Train", 10), ("VALID", 3), ("Test", 4)):
        letters(tmp_path / name, count)
    assert [len(part) for part in numbers(load_folder(tmp_path))] == [100, 30, 40]
    letters(tmp_path / "val", 3)
    with pytest.raises(
        DataError, match=r": val and valid are both folders of images to validate on; keep one of them$"
    ):
        load_folder(tmp_path)


@pytest.mark.parametrize("names", [("test1", "train"), ("Training_2", "validation"), ("train",)])
def test_loose_images_in_the_folders_of_parts_are_of_no_class(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        for i in range(10):
            draw(tmp_path / name / f"cat.{i}.png")
    text = (
        rf"a folder of images for each class, and found those of parts: {', '.join(names)}\. Put each .*train.cat, and"
    )
    for reader in (read_class_folders, load_folder):
        with pytest.raises(DataError, match=text):
            reader(tmp_path)
    for i in range(10):  # a class may have such a name, among others
        draw(tmp_path / "aeroplane" / f"{i}.png")
    assert len(load_folder(tmp_path).classes) == len(names) + 1


def test_class_folders_one_level_further_down_are_pointed_to(tmp_path: Path) -> None:
    letters(tmp_path / "letters", 1)
    with pytest.raises(DataError, match=r"letters: expected images in it, .*; there is none, but folders, such as A$"):
        load_folder(tmp_path)


def test_parts_with_other_classes_are_refused(tmp_path: Path) -> None:
    letters(tmp_path / "train", 2)
    letters(tmp_path / "test", 2)
    (tmp_path / "test" / "J").rename(tmp_path / "test" / "K")
    with pytest.raises(DataError, match=r"train and test need the same class folders; only one of the two has J, K$"):
        load_folder(tmp_path)


def test_parts_with_images_of_other_sizes_are_refused(tmp_path: Path) -> None:
    for part, size in (("train", (2, 3)), ("val", (4, 5))):
        for i in range(10):
            draw(tmp_path / part / "a" / f"{i}.png", size=size)
    with pytest.raises(DataError, match=r"are \(2, 3, 1\) in train, \(4, 5, 1\) in validation\. Pass size=\(height"):
        load_folder(tmp_path)
    assert load_folder(tmp_path, size=(2, 3)).in_shape == (2, 3, 1)


def test_too_few_images_for_the_parts_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match=r": too few images: no part may be empty"):
        load_folder(tmp_path)


def test_a_class_of_which_nothing_is_left_to_train_on_is_refused(tmp_path: Path) -> None:
    for name, count in (("a", 1), ("b", 1), ("c", 20)):
        for i in range(count):
            draw(tmp_path / name / f"{i}.png")
    with pytest.raises(DataError, match=r"a: too few images, none of them is left to train on; give it more"):
        load_folder(tmp_path, test=0.6)


@pytest.mark.parametrize("below", ["", "notmnist", "notMNIST_small", "notmnist/notMNIST_small"])
def test_notmnist_is_read_from_class_folders(below: str, tmp_path: Path) -> None:
    letters(tmp_path / below)
    draw(tmp_path / "other" / "1.png")
    (tmp_path / below / "A" / "bad.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"1 of 101 images .*A.bad\.png \(the first: it is no"):
        data = load("notmnist", data_dir=tmp_path)
    assert [len(part) for part in numbers(data)] == [72, 8, 20]
    assert data.classes == tuple("ABCDEFGHIJ")
    (tmp_path / below / "J").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"notmnist: the folder .* lacks J/: put them there"):
        load("notmnist", data_dir=tmp_path)


# --- Images to predict ----------------------------------------------------------------------------------------


def test_images_of_a_flat_folder_come_with_their_names(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg"):
        draw(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"")
    with pytest.warns(
        UserWarning, match=r"1 of 3 images cannot be read and are left out: c\.png \(the first: it is no"
    ):
        names, images = read_images(tmp_path)
    assert (names, images.shape) == (["a.jpg", "b.png"], (2, 2, 3, 1))


IDX = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "images.idx", "images.idx3-ubyte"])
def test_images_of_an_idx_file_are_numbered(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(IDX)
    names, images = read_images(tmp_path / name)
    assert (names, images[..., 0].tolist()) == ([f"{name}[0]", f"{name}[1]"], [[[1, 2, 3]], [[4, 5, 6]]])
    assert read_images(tmp_path / name, size=(1, 3), channels=1)[1].tolist() == images.tolist()
    assert read_images(tmp_path / name, size=(4, 6), channels=3)[1].shape == (2, 4, 6, 3)


def test_what_is_no_image_is_told(tmp_path: Path) -> None:
    cases = {
        "none": ("none", None, "no such file or folder"),
        "damaged": ("a.png", b"", "it is no PNG or JPEG"),
        "bitmap": ("a.bmp", b"BM", "expected a folder of images, an image (.png, .jpg, .jpeg), or an IDX file"),
        "text": ("notes", b"text", "not an IDX file of bytes; it starts with b'text'"),
        "labels": (
            "labels",
            bytes([0, 0, 8, 1, 0, 0, 0, 1, 7]),
            "expected images (n, height, width), got an array (1,)",
        ),
    }
    for name, body, wanted in cases.values():
        if body is not None:
            (tmp_path / name).write_bytes(body)
        with pytest.raises(DataError, match=f"^{re.escape(f'{tmp_path / name}: {wanted}')}"):
            read_images(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"folder: expected images in it, files ending in \.png, \.jpg, \.jpeg"):
        read_images(tmp_path / "folder")
    (tmp_path / "folder" / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"folder: none of its 1 images can be read, as PNG or JPEG \(the first: it is"):
        read_images(tmp_path / "folder")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data sets are not beside the project, in {SHARED.name}")
def test_real_letters_are_the_same_from_png_files_and_from_idx_files(tmp_path: Path) -> None:
    names, images = read_images(SHARED / "notmnist" / "t10k-images-idx3-ubyte.gz")
    assert (names[-1], images.shape) == ("t10k-images-idx3-ubyte.gz[9999]", (10_000, 28, 28, 1))
    for i, image in enumerate(images[:200]):
        folder = tmp_path / "ABCDEFGHIJ"[i % 10]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{i:03}.png")
    read, labels, _ = read_class_folders(tmp_path)
    assert (read == images[np.argsort(np.arange(200) % 10, kind="stable")]).all()
    assert (labels == np.repeat(np.arange(10), 20)).all()

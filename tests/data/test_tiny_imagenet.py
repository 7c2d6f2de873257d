"""Tiny ImageNet's layout, in small: classes with names, a table of the validation images, no test part."""

import re
from pathlib import Path

import numpy as np
import pytest

from funcnn.data import DataError, load_folder

image = pytest.importorskip("PIL.Image")

NUMBERS = ("n01443537", "n02058221", "n03126707", "n09999999")


def save(path: Path, shade: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.new(mode, (4, 4), shade if mode == "L" else (shade,) * 3).save(path, "JPEG")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for label, number in enumerate(NUMBERS):
        for i in range(3):
            path = tmp_path / "train" / number / "images" / f"{number}_{i}.JPEG"
            save(path, 60 * label, "L" if i == 0 else "RGB")  # some are grey
        (tmp_path / "train" / number / f"{number}_boxes.txt").write_text(f"{number}_0.JPEG\t0\t0\t3\t3\n")
    table = [("val_0.JPEG", 2), ("val_1.JPEG", 0), ("val_2.JPEG", 3)]
    for name, label in table:
        save(tmp_path / "val" / "images" / name, 60 * label)
    lines = [f"{name}\t{NUMBERS[label]}\t0\t0\t3\t3\n" for name, label in table]
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(lines))
    words = ["goldfish, Carassius auratus", "crane, crane bird", "crane, a machine"]
    (tmp_path / "words.txt").write_text("".join(f"{n}\t{word}\n" for n, word in zip(NUMBERS, words, strict=False)))
    save(tmp_path / "test" / "images" / "test_0.JPEG", 5)
    return tmp_path


def test_its_parts_names_and_labels(root: Path) -> None:
    data = load_folder(root)
    assert data.classes == ("goldfish", "crane, crane bird", "crane, a machine", "n09999999")
    assert (data.in_shape, len(data.train), data.test) == ((4, 4, 3), 12, None)
    assert data.train.targets.tolist() == [label for label in range(4) for _ in range(3)]
    assert np.array_equal(data.train.inputs[:, 0, 0, 0] // 59, data.train.targets)
    assert data.validation is not None
    assert data.validation.targets.tolist() == [2, 0, 3]
    assert data.validation.inputs[:, 0, 0, 0].tolist() == [120, 0, 180]
    assert load_folder(root, channels=1, size=(2, 3)).in_shape == (2, 3, 1)


def test_a_table_that_names_no_class_or_a_file_elsewhere_is_refused(root: Path) -> None:
    table = root / "val" / "val_annotations.txt"
    for line in ("val_0.JPEG\tn00000000\t0", "../train/x.JPEG\tn01443537\t0", "val_0.JPEG"):
        table.write_text(line + "\n")
        with pytest.raises(
            DataError, match=re.escape(f"{table}: expected an image's file, a tab and a class of train")
        ):
            load_folder(root)
    table.write_text("gone.JPEG\tn01443537\n")
    with pytest.raises(DataError, match="none of its 1 images can be read"):
        load_folder(root)

"""Pictures of ordinary and of odd input."""

import numpy as np
from runs import is_picture

from funcnn.report.history import Row
from funcnn.report.pictures import draw_confusion, draw_curves, draw_filters, draw_samples


def test_pictures_of_ordinary_and_of_odd_input(tmp_path):
    rows = [Row(1, 0.1, 0.1, *[None] * 6, 0.5, None)]
    draw_curves(rows, tmp_path / "curves.png", title="one epoch, no metric")
    draw_curves([], tmp_path / "empty.png", title="no epoch")
    draw_confusion(np.array([[0, 0], [1, 3]]), ("long name", "b"), tmp_path / "confusion.png", title="an empty class")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (3, 5, 5, 3), np.uint8), np.array([0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]])
    draw_samples(images, labels, probabilities, ("a", "b"), tmp_path / "samples.png", title="three in colour")
    draw_filters(rng.normal(size=(3, 5, 1, 70)), tmp_path / "grey.png", title="more than are drawn, of one channel")
    draw_filters(np.zeros((2, 2, 3, 1), np.float32), tmp_path / "colour.png", title="one, in colour, all zero")
    names = ("curves.png", "empty.png", "confusion.png", "samples.png", "grey.png", "colour.png")
    assert all(is_picture(tmp_path / name) for name in names)


def test_drawing_filters_leaves_them_as_they_are(tmp_path):
    weight = np.random.default_rng(0).normal(size=(3, 3, 1, 2))
    before = weight.copy()
    draw_filters(weight, tmp_path / "filters.png", title="float64, as the drawing computes")
    np.testing.assert_array_equal(weight, before)

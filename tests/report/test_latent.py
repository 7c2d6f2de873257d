"""Pictures of images in rows and of codes: what is drawn where, of ordinary and of odd input."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from run_of_digits import is_picture

from funcnn.report.latent import draw_images, draw_latent, principal_components

RNG = np.random.default_rng(0)
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def axes(monkeypatch):
    """The axes of the figures that are drawn, which are not rendered."""
    seen = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, buffer, **_: seen.extend(figure.axes))
    return seen


def test_images_stand_in_rows_of_ten_each_above_its_own(axes, tmp_path):
    images, below = RNG.random((12, 4, 3, 1)), RNG.random((12, 4, 3, 1))
    draw_images(images, tmp_path / "pairs.png", title="pairs", below=below)
    sheet = np.asarray(axes[0].images[0].get_array())
    assert sheet.shape == (2 * (4 + 2 + 4) + 8, 10 * 3 + 9 * 2)
    np.testing.assert_array_equal(sheet[:4, 5:8], images[1, ..., 0])
    np.testing.assert_array_equal(sheet[6:10, 5:8], below[1, ..., 0])
    np.testing.assert_array_equal(sheet[18:22, 5:8], images[11, ..., 0])
    np.testing.assert_array_equal(sheet[24:, 5:8], below[11, ..., 0])
    assert not sheet[18:, 8:].any()  # white


def test_images_in_colour_stand_on_white(axes, tmp_path):
    images = RNG.random((3, 5, 4, 3))
    draw_images(images, tmp_path / "colours.png", title="colours")
    sheet = np.asarray(axes[0].images[0].get_array())
    np.testing.assert_array_equal(sheet[:, 6:10], images[1])
    assert (sheet[:, 4:6] == 1).all()


def test_codes_of_two_numbers_are_drawn_as_they_are_in_their_classes_colours(axes, tmp_path):
    codes, labels = RNG.normal(size=(30, 2)), np.arange(30) % 3
    codes[4] = NAN, 0
    draw_latent(codes, labels, ("_cat", "dog"), tmp_path / "codes.png", title="codes")
    points, *_ = axes[0].collections
    kept = np.arange(30) != 4
    np.testing.assert_array_equal(points.get_offsets(), codes[kept])
    colours = [tuple(colour[:3]) for colour in points.get_facecolors()]
    assert {colours[i] for i in np.flatnonzero(labels[kept] == 1)} == {colours[1]}
    assert len(set(colours)) == 3
    assert [text.get_text() for text in axes[0].figure.legends[0].get_texts()] == [" _cat", " dog", " 2"]


def test_longer_codes_are_drawn_by_their_principal_components(axes, tmp_path):
    codes = RNG.normal(size=(50, 4)) @ np.diag([0.1, 5, 0.2, 1]) + 7
    draw_latent(codes.astype(np.float32), np.zeros(50, int), ("a",), tmp_path / "codes.png", title="codes")
    drawn = np.asarray(axes[0].collections[0].get_offsets())
    np.testing.assert_allclose(drawn, principal_components(codes, 2)[0], atol=1e-4)
    assert axes[0].get_xlabel().startswith("first principal component (9")


def test_principal_components_are_those_of_the_singular_value_decomposition():
    rows = RNG.normal(size=(40, 5)) @ RNG.normal(size=(5, 5)) + 3
    made, shares = principal_components(rows, 3)
    u, sizes, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(made), np.abs(u * sizes)[:, :3], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(shares, (sizes**2 / (sizes**2).sum())[:3], rtol=1e-9)
    made, shares = principal_components(np.ones((3, 2)), 2)
    assert not made.any()
    assert not shares.any()


@pytest.mark.parametrize("value", [NAN, INF, -1e308, 300])
def test_odd_numbers_are_drawn(value, tmp_path):
    images = np.full((101, 2, 2, 3), value)
    draw_images(images, tmp_path / "images.png", title="$a_$ 猫")
    codes = RNG.normal(size=(20, 3))
    codes[1:] = value
    draw_latent(codes, np.arange(20) % 15, (), tmp_path / "codes.png", title="\x1b[31m")
    assert is_picture(tmp_path / "images.png")
    assert is_picture(tmp_path / "codes.png")


CODES, LABELS = np.zeros((4, 3)), np.zeros(4, int)


@pytest.mark.parametrize(
    ("draw", "text"),
    [
        (lambda path: draw_images(np.zeros((0, 2, 2, 1)), path, title=""), r"draw_images: images must be .*one image"),
        (lambda path: draw_images(np.zeros((2, 2, 2)), path, title=""), "draw_images: images must be"),
        (
            lambda path: draw_images(np.zeros((2, 2, 2, 1)), path, title="", below=np.zeros((1, 2, 2, 1))),
            r"draw_images: below must be an array \(2, 2, 2, 1\)",
        ),
        (lambda path: draw_latent(CODES[:, :1], LABELS, (), path, title=""), "draw_latent: codes must be"),
        (lambda path: draw_latent(CODES, LABELS[1:], (), path, title=""), r"labels must be an array \(4,\)"),
        (lambda path: principal_components(CODES, 4), r"count must be from 1 to the numbers in a row of \(4, 3\)"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        draw(tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()

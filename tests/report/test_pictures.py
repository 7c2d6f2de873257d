"""Pictures of ordinary and of odd input, whatever the user's settings are."""

import os
import pickle
import struct
import subprocess
import sys
import threading
import tracemalloc

import attrs
import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from run_of_digits import is_picture

from funcnn.report.figures import as_label, as_title, can_draw, picture
from funcnn.report.history import Row
from funcnn.report.latent import draw_images
from funcnn.report.pictures import draw_confusion, draw_curves, draw_filters, draw_maps, draw_samples

NAN, INF = float("nan"), float("inf")
HOSTILE = ("$a_$", "bad\udce9", "\x1b[31m\n\t", "x" * 300, "猫と犬", "שלום", "_under", r"\$b", "%s{}", "")
RNG = np.random.default_rng(0)
SHARES = RNG.dirichlet([1] * 3, 12)
ODD = np.array([NAN, INF, -INF, 1e308, -1e308, -5, 300, 0, 2]).reshape(3, 3)


def rows(*losses):
    """Rows of a history with these losses, and other accuracies."""
    return [Row(i, 0.1, 0.1, loss, loss, None, None, 0.5, loss, 1.0, None) for i, loss in enumerate(losses, 1)]


def counts(classes):
    return RNG.integers(0, 3, (classes, classes)) + 5 * np.eye(classes, dtype=int)


def samples(images, labels=None, shares=SHARES, classes=("cat", "dog", "bird"), title="samples"):
    return lambda path: draw_samples(images, labels, shares[: len(images)], classes, path, title=title)


def curves(*losses, title="curves"):
    return lambda path: draw_curves(rows(*losses), path, title=title)


def confusion(matrix, classes, title="confusion"):
    return lambda path: draw_confusion(matrix, classes, path, title=title)


def filters(*shape, of=None):
    return lambda path: draw_filters(RNG.normal(size=shape) if of is None else of, path, title="filters")


def test_pictures_of_ordinary_and_of_odd_input(tmp_path):
    history = [Row(1, 0.1, 0.1, *[None] * 6, 0.5, None)]
    draw_curves(history, tmp_path / "curves.png", title="one epoch, no metric")
    draw_curves([], tmp_path / "empty.png", title="no epoch")
    draw_confusion(np.array([[0, 0], [1, 3]]), ("long name", "b"), tmp_path / "confusion.png", title="an empty class")
    images, labels = RNG.integers(0, 256, (3, 5, 5, 3), np.uint8), np.array([0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]])
    draw_samples(images, labels, probabilities, ("a", "b"), tmp_path / "samples.png", title="three in colour")
    draw_filters(RNG.normal(size=(3, 5, 1, 70)), tmp_path / "grey.png", title="more than are drawn, of one channel")
    draw_filters(np.zeros((2, 2, 3, 1), np.float32), tmp_path / "colour.png", title="one, in colour, all zero")
    names = ("curves.png", "empty.png", "confusion.png", "samples.png", "grey.png", "colour.png")
    assert all(is_picture(tmp_path / name) for name in names)


def test_without_accuracies_the_losses_are_drawn_alone(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, buffer, **_: drawn.append(figure))
    row = Row(1, 0.1, 0.1, 0.5, None, None, None, 0.5, None, 1.0, None)
    for each in (row, attrs.evolve(row, test_accuracy=0.5)):
        draw_curves([each], tmp_path / "curves.png", title="curves")
    assert [[axes.get_ylabel() for axes in figure.axes] for figure in drawn] == [["loss"], ["loss", "accuracy"]]


@pytest.mark.parametrize(("losses", "scale"), [((9, 1), "log"), ((235, 220), "linear"), ((0, 1), "linear")])
def test_losses_far_apart_are_drawn_by_their_logarithms(losses, scale, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, buffer, **_: drawn.append(figure))
    history = [Row(i, 0.1, 0.1, loss, *[None] * 5, loss, None) for i, loss in enumerate(losses, 1)]
    draw_curves(history, tmp_path / "curves.png", title="curves")
    assert drawn[0].axes[0].get_yscale() == scale


def test_drawing_filters_leaves_them_as_they_are(tmp_path):
    weight = np.random.default_rng(0).normal(size=(3, 3, 1, 2))
    before = weight.copy()
    draw_filters(weight, tmp_path / "filters.png", title="float64, as the drawing computes")
    np.testing.assert_array_equal(weight, before)


@pytest.mark.parametrize(
    "draw",
    {
        "hostile title": curves(2, 1, title=" ".join(HOSTILE)),
        "no number": curves(NAN, INF, -INF, None, 1),
        "nothing but NaN": curves(NAN, NAN),
        "the largest numbers": curves(1.7e308, -1.7e308, 5e-324),
        "no epoch": curves(title=""),
        "many epochs": curves(*RNG.random(3000)),
        "hostile classes": confusion(counts(10), HOSTILE, title="$\udce9$"),
        "one class": confusion(counts(1), ("only",)),
        "no class": confusion(counts(0), ()),
        "no example": confusion(np.zeros((2, 2), int), ("a", "b")),
        "hostile labels": samples(RNG.random((3, 3, 3, 3)), np.array([0, 1, 11]), np.eye(3), HOSTILE),
        "labels that are none": samples(RNG.random((3, 2, 2, 1)), np.array([NAN, -1.0, 7.5])),
        "probabilities of NaN": samples(RNG.random((3, 2, 2, 1)), np.array([0, 1, 2]), np.full((3, 3), NAN)),
        "no number in images": samples(np.stack([ODD, -ODD, np.full((3, 3), NAN)])[..., None]),
        "no image": samples(np.zeros((0, 8, 8, 1)), np.zeros(0, int)),
        "no pixel": samples(np.zeros((2, 0, 8, 1))),
        "one pixel": samples(np.ones((2, 1, 1, 3), np.float32)),
        "no channel axis": samples(RNG.random((2, 4, 4))),
        **{f"{c} channels": samples(RNG.random((2, 4, 4, c)).astype(np.float16)) for c in (0, 2, 4, 5)},
        "16 bits": samples(RNG.integers(0, 2**16, (2, 4, 4, 3)).astype(np.uint16)),
        "bits": samples(RNG.random((2, 4, 4, 1)) > 0.5),
        "tall filters": filters(5000, 1, 1, 3),
        "wide filters": filters(1, 5000, 3, 3),
        "no filter": filters(3, 3, 1, 0),
        "filters of no channel": filters(3, 3, 0, 2),
        "filters of five channels": filters(2, 2, 5, 3),
        "no number in filters": filters(of=np.stack([ODD] * 3, axis=-1)[..., None]),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_anything_is_drawn_in_a_picture_of_a_bounded_size(draw, tmp_path):
    path = tmp_path / "picture.png"
    draw[1](path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert max(struct.unpack(">II", path.read_bytes()[16:24])) <= 3000  # pixels


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (
            confusion(np.ones((2, 3)), ()),
            r"draw_confusion: counts must be a square array.*, got an array float64 \(2, 3\)",
        ),
        (confusion("counts", ()), "draw_confusion: counts must be numbers, got str"),
        (
            samples(np.ones((3, 4))),
            r"draw_samples: images must be an array \(n, height, width, channels\), got .*\(3, 4\)",
        ),
        (samples(np.ones((3, 2, 2, 1)), shares=np.ones((2, 2))), r"probabilities must be an array \(3, classes\)"),
        (samples(np.zeros((0, 2, 2, 1)), shares=np.ones((0, 0))), r"probabilities must be an array \(0, classes\)"),
        (samples(np.ones((3, 2, 2, 1)), np.eye(3)), r"labels must be an array \(3,\), as there are images"),
        (filters(3, 3), r"draw_filters: weight must be an array \(height, width, channels, filters\), got .*\(3, 3\)"),
    ],
    ids=range(7),
)
def test_what_is_no_picture_is_refused(draw, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        draw(tmp_path / "picture.png")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """What a drawing is, without the time of rendering it."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))

    def draw(how):
        how(tmp_path / "picture.png")
        return figures[-1]

    return draw


def test_a_class_without_a_name_has_its_number(drawn):
    axes, _ = drawn(confusion(counts(3), (np.int64(5), "b"))).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["5", "b", "2"]
    images = RNG.random((3, 2, 2, 1))
    figure = drawn(samples(images, np.array([1, 0, 9]), np.eye(3), (0, 1)))
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == ["1 / 0", "0 / 1", "9 / 2"]


def test_of_many_classes_those_with_the_most_mistakes_are_drawn(drawn):
    matrix = np.diag(np.full(1400, 10))
    matrix[7, 1300] = matrix[1399, 0] = 10
    figure = drawn(confusion(matrix, [f"class {i}" for i in range(1400)], title="a title"))
    assert figure.get_size_inches().max() < 25
    axes, bar = figure.axes
    assert axes.get_title().split("\n") == [
        "a title",
        "the 100 of 1,400 classes with the most mistakes",
        "most often taken: class 7 as class 1300 .50, class 1399 as class 0 .50",
    ]
    assert bar.get_ylabel() == "share of the true class"
    names, beyond = np.reshape([label.get_text() for label in axes.get_yticklabels()], (2, -1)).tolist()
    assert names == beyond  # on both sides
    assert len(names) == 100
    assert {"class 0", "class 7", "class 1300", "class 1399"} <= set(names)
    shares = np.asarray(axes.images[0].get_array())
    assert shares[names.index("class 7"), names.index("class 1300")] == 0.5


def test_a_loss_has_ticks_as_one_writes_numbers(drawn):
    axes = drawn(curves(2.3, 1.1, 0.4, 0.09, 0.05)).axes[0]
    assert [axes.yaxis.get_major_formatter()(tick, None) for tick in axes.get_yticks()] == [
        "0.05",
        "0.1",
        "0.2",
        "0.5",
        "1",
        "2",
    ]
    axes = drawn(curves(1.4, 1.1, 0.65)).axes[0]
    assert [axes.yaxis.get_major_formatter()(tick, None) for tick in axes.get_yticks()] == [
        "0.6",
        "0.8",
        "1",
        "1.2",
        "1.4",
    ]
    assert [len(axes.get_yticks(minor=True)) for axes in drawn(curves(1e-9, 1e9)).axes] == [0, 0]


def test_the_means_of_epochs_are_drawn_where_no_training_examples_were_measured(drawn):
    row = Row(1, 0.1, 0.1, None, None, 0.6, 0.7, None, None, 1.0, 0.5)
    for rows, names in (
        ([row], ["train, mean of the epoch", "validation"]),
        ([row, attrs.evolve(row, train_loss=0.5, train_accuracy=0.8)], ["train", "validation"]),
    ):
        figure = drawn(lambda path, rows=rows: draw_curves(rows, path))
        assert [[line.get_label() for line in axes.lines] for axes in figure.axes] == [names, names]


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: draw_curves(rows(2, 0.5), path),
        lambda path: draw_confusion(np.eye(3) + 1, ("a", "b", "c"), path),
        lambda path: draw_samples(np.eye(4)[None, ..., None], None, SHARES[:1], (), path),
        lambda path: draw_filters(np.ones((3, 3, 1, 2)), path),
        lambda path: draw_maps(np.ones((4, 4, 2)), path),
        lambda path: draw_images(np.ones((2, 4, 4, 1)), path),
    ],
    ids=["curves", "confusion", "samples", "filters", "maps", "images"],
)
def test_a_notebook_shows_what_a_file_has(draw, tmp_path):
    """A figure is given, with a path and without, and shows itself in a notebook by its own settings."""
    figure = draw(tmp_path / "picture.png")
    assert isinstance(figure, Figure)
    assert pickle.loads(pickle.dumps(figure))._repr_png_()[0].startswith(b"\x89PNG")
    with matplotlib.rc_context(SETTINGS):
        png, metadata = draw(None)._repr_png_()
    assert png == (tmp_path / "picture.png").read_bytes()
    assert metadata == {"width": round(96 * figure.get_figwidth())}
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


def test_maps_are_drawn_by_one_scale_and_filters_by_their_own(drawn):
    images = np.stack([np.full((3, 4), 1.0), np.full((3, 4), -4.0)], axis=-1)
    figure = drawn(lambda path: draw_maps(images, path))
    assert [float(axes.images[0].get_array()[0, 0]) for axes in figure.axes] == [0.25, -1.0]
    figure = drawn(lambda path: draw_filters(images[:, :, None], path))
    assert [float(axes.images[0].get_array()[0, 0]) for axes in figure.axes] == [1.0, -1.0]
    with pytest.raises(ValueError, match=r"draw_maps: maps must be an array \(height, width, channels\), .*\(2, 2\)"):
        draw_maps(np.ones((2, 2)))


def test_large_images_are_thinned_before_they_are_drawn(drawn):
    images = np.broadcast_to(np.arange(3000, dtype=np.uint8)[:, None, None], (2, 3000, 4000, 3))
    tracemalloc.start()
    figure = drawn(samples(images))
    assert tracemalloc.get_traced_memory()[1] < 30e6  # one of them takes 288 MB in float64
    tracemalloc.stop()
    assert max(axes.images[0].get_array().shape[0] for axes in figure.axes) <= 256


def test_every_character_is_drawn_as_it_is(tmp_path):
    """A figure whose text is escaped is the figure whose text is no mathematics at all."""
    text = r"$x^2$ \$y\$ $ \alpha_1 %s {}"
    pictures = []
    for shown, settings in ((as_label(text), {}), (as_label(text).replace(r"\$", "$"), {"parse_math": False})):
        with picture(tmp_path / "picture.png", 4, 1) as figure:
            figure.text(0, 0.5, shown, **settings)
        pictures.append((tmp_path / "picture.png").read_bytes())
    assert pictures[0] == pictures[1]


def test_a_title_is_wrapped_and_cut_to_its_figure(tmp_path):
    with picture(tmp_path / "picture.png", 2, 1) as figure:
        lines = as_title("two words\n" + "long " * 100, figure).split("\n")
        figure.text(0, 0, "")
    assert lines[0] == "two words"
    assert max(map(len, lines)) <= 22
    assert len("".join(lines)) <= 300
    assert lines[-1].endswith("...")


# --- The user's settings --------------------------------------------------------------------------------------

SETTINGS = {
    "text.usetex": True,
    "font.family": ["No Such Font", "monospace"],
    "savefig.format": "pdf",
    "savefig.bbox": "tight",
    "savefig.dpi": 10,
    "figure.dpi": 7,
    "axes.formatter.use_mathtext": True,
    "axes.prop_cycle": matplotlib.cycler(color=["white"]),
    "text.parse_math": False,
    "path.sketch": (1, 100, 2),
    "figure.constrained_layout.w_pad": 3,
    "lines.linestyle": "none",
}


@pytest.mark.parametrize(
    "draw",
    [curves(2, 1), confusion(counts(3), ("a", "b", "c")), samples(np.stack([ODD] * 4, axis=-1)[None])],
    ids=["curves", "confusion", "no numbers"],
)
def test_the_users_settings_change_no_picture_and_are_left_as_they_are(draw, tmp_path):
    draw(tmp_path / "plain.png")
    with matplotlib.rc_context(SETTINGS), np.errstate(all="raise"):
        before = dict(matplotlib.rcParams)
        draw(tmp_path / "set.png")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "set.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_the_users_fonts_are_for_what_matplotlibs_own_lacks(tmp_path):
    with matplotlib.rc_context(SETTINGS), picture(tmp_path / "picture.png", 1, 1):
        fonts = matplotlib.rcParams["font.family"]
    assert fonts[0] == "DejaVu Sans"
    assert "DejaVu Sans Mono" in fonts
    assert "No Such Font" not in fonts


def test_pictures_drawn_at_once_leave_the_settings_as_they_are(tmp_path):
    draw, errors = confusion(counts(2), ("a", "b")), []

    def work(number):
        try:
            draw(tmp_path / f"{number}.png")
        except Exception as error:
            errors.append(error)

    with matplotlib.rc_context({"figure.dpi": 7}):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert matplotlib.rcParams["figure.dpi"] == 7
    assert errors == []
    assert len({(tmp_path / f"{number}.png").read_bytes() for number in range(4)}) == 1


FAR_FROM_HOME = """
import os
from pathlib import Path
import numpy as np
from funcnn.report.figures import can_draw
from funcnn.report.pictures import draw_confusion
if not can_draw(print):
    raise SystemExit(1)
draw_confusion(np.eye(2, dtype=int), ("$a_$", "猫"), Path("picture.png"), title="猫")
print(os.environ["MPLBACKEND"])
"""


def elsewhere(code, folder, *options, **environment):
    """What a program prints in a process of its own, whose warnings are errors."""
    command = [sys.executable, *options, "-W", "error", "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_backend_that_is_not_there_and_latex_that_is_not_either_are_not_needed(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.family: No Such Font\n")
    assert elsewhere(FAR_FROM_HOME, tmp_path, "-OO", MPLBACKEND="bogus", LC_ALL="C") == "bogus\n"
    assert is_picture(tmp_path / "picture.png")


def test_a_matplotlib_that_cannot_be_imported_is_said(tmp_path, monkeypatch):
    (tmp_path / "matplotlib.py").write_text("raise RuntimeError('built for another NumPy\\x1b[31m')")
    code = "import sys; sys.path.insert(0, '.'); from funcnn.report.figures import can_draw; print(can_draw(print))"
    assert elsewhere(code, tmp_path).splitlines() == [
        "no pictures: matplotlib cannot be imported (RuntimeError: built for another NumPy\\x1b[31m)",
        "False",
    ]
    said = []
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not can_draw(said.append)
    assert said == ['no pictures: matplotlib is not installed. For pictures: pip install "funcnn[plots]"']

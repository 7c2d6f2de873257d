"""Pictures of a sweep, of ordinary and of odd results: what is drawn, and how much of it."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from run_of_digits import is_picture

from funcnn.report.charts import draw_heat_map, draw_lines, draw_pareto
from funcnn.sweep import Result, configuration

RNG = np.random.default_rng(0)
HOSTILE = ("$a_$", "_x", "b\x1b[31m\udce9", "猫" * 50, None, 3, True, (1, 2))


def result(accuracy, seed=0, status="done", cost=1.0, **settings):
    metrics = {"accuracy": accuracy, "cost": cost} if status == "done" else {}
    return Result("key", configuration(**settings), seed, status, metrics, 1.0, "host", "trial", "1")


def lines(results, title="lines", log=False):
    return lambda path: draw_lines(
        results, path, x="lr", lines="kind", metric="accuracy", title=title, log_x=log, log_y=log
    )


def heat_map(results, title="map"):
    return lambda path: draw_heat_map(results, path, x="lr", y="kind", metric="accuracy", title=title)


def pareto(results, title="front"):
    return lambda path: draw_pareto(results, path, cost="cost", metric="accuracy", title=title)


ODD = {
    "hostile values": [result(float(RNG.random()), lr=lr, kind=kind) for lr in HOSTILE for kind in HOSTILE],
    "the largest numbers": [result(value, lr=value, kind="a", cost=value) for value in (1e308, -1e308, 5e-324, 1.0)],
    "numbers that are not positive": [result(-1.0, lr=lr, kind="a", cost=lr) for lr in (0.0, -1.0)],
    "one result": [result(0.5, lr=0.1, kind="a")],
    "nothing that ended well": [result(0.0, lr=0.1, kind="a", status="diverged")],
    "nothing": [],
}


@pytest.mark.parametrize("draw", [lines, heat_map, pareto])
@pytest.mark.parametrize("results", ODD.values(), ids=ODD)
def test_whatever_came_out_is_drawn(draw, results, tmp_path):
    settings = {"log": True} if draw is lines else {}
    draw(results, title="$title_$ \udce9 \x1b[31m", **settings)(tmp_path / "picture.png")
    assert is_picture(tmp_path / "picture.png")


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """What a drawing is, without the time of rendering it."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))

    def draw(how):
        how(tmp_path / "picture.png")
        return figures[-1]

    return draw


def test_lines_have_the_best_at_each_place_and_a_band_over_seeds(drawn):
    results = [
        result(lr * (1 + seed) + bonus, seed=seed, lr=lr, kind=kind, other=bonus)
        for seed in (0, 1) for lr in (0.2, 0.1) for kind in ("_b", "a") for bonus in (0.0, 0.5)
    ]  # fmt: skip
    (axes,) = drawn(lines(results, log=True)).axes
    assert [line.get_label().strip() for line in axes.lines] == ["_b", "a"]
    assert [text.get_text().strip() for text in axes.get_legend().get_texts()] == ["_b", "a"]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [(0.1, 0.65), (0.2, 0.8)])
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((0.6, 0.9))
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_places_with_names_stand_in_order(drawn):
    (axes,) = drawn(lines([result(0.5, lr=lr, kind="a") for lr in ("warm", None, "cold")], log=True)).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["None", "cold", "warm"]
    assert axes.lines[0].get_xdata().tolist() == [0, 1, 2]
    assert axes.get_xscale() == "linear"


def test_of_many_lines_the_best_are_drawn(drawn):
    (axes,) = drawn(lines([result(kind / 50, lr=0.1, kind=kind) for kind in range(50)], title="a title")).axes
    assert axes.get_title() == "a title\nthe best 10 of 50 lines"
    assert [line.get_label().strip() for line in axes.lines] == [str(kind) for kind in range(40, 50)]


def test_a_heat_map_has_the_best_of_each_place(drawn):
    results = [result(lr + bonus, lr=lr, kind=kind, other=bonus) for lr in (1, 2) for kind in "ab" for bonus in (5, 0)]
    axes = drawn(heat_map(results[:-2])).axes[0]
    np.testing.assert_array_equal(np.ma.filled(axes.images[0].get_array(), np.nan), [[6, 7], [6, np.nan]])
    assert [text.get_text() for text in axes.texts] == ["6.000", "7.000", "6.000", "none"]


@pytest.mark.parametrize(
    ("results", "shape", "title"),
    [
        ([result(lr / 60, lr=lr, kind=kind) for lr in range(60) for kind in range(50)], (50, 60), "map"),
        (
            [result(i / 600, lr=float(i), kind=float(i)) for i in range(600)],
            (500, 500),
            "map\nthe best 500 of 600 configurations",
        ),
    ],
    ids=["a large grid", "drawn at random"],
)
def test_a_large_heat_map_has_colours_alone_and_a_bounded_size(results, shape, title, drawn):
    figure = drawn(heat_map(results))
    axes = figure.axes[0]
    assert axes.images[0].get_array().shape == shape
    assert (axes.get_title(), len(axes.texts)) == (title, 0)
    assert len(axes.get_xticklabels()) == 40
    assert figure.get_size_inches().max() < 20


def test_the_front_is_what_none_beats_in_both(drawn):
    points = [(1.0, 0.1), (2.0, 0.5), (2.0, 0.4), (3.0, 0.5), (4.0, 0.7), (5.0, 0.2)]
    figure = drawn(pareto([result(gain, lr=i, kind="a", cost=cost) for i, (cost, gain) in enumerate(points)]))
    (axes,) = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[1.0, 0.1], [2.0, 0.5], [4.0, 0.7]]
    assert [text.get_text() for text in figure.legends[0].texts] == ["1: lr 0", "2: lr 1", "3: lr 4"]
    many = [result(float(i), lr=i, kind="a", cost=1.0 + i) for i in range(50)]
    (legend,) = drawn(pareto(many)).legends
    assert [text.get_text() for text in legend.texts][-2:] == ["20: lr 19", "and 30 more"]

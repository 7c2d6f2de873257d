"""The layer table: rows that add up to the net, inside combinators too, and lines that fit where they are printed."""

import io
import sys
from typing import Any

import numpy as np
import pytest

from funcnn import Key, serial, tree
from funcnn.compose import chunked, parallel, residual
from funcnn.layer import Config, Layer, config, make_layer
from funcnn.layers import avg_pool2d, batch_norm, conv2d, dense, dropout, flatten, max_pool2d, relu
from funcnn.report.table import count_parameters, layer_rows, layer_table
from funcnn.system.text import cut

IN_SHAPE = (8, 8, 1)
NET = serial(
    serial(conv2d(4, 3, padding="same", use_bias=False), batch_norm(), relu()),
    residual(serial(conv2d(4, (3, 1), padding="same"), residual(relu()))),
    parallel(conv2d(2, 1), serial(), serial(conv2d(8, 3, padding="same"), relu())),
    residual(chunked(conv2d(14, 3, padding="same", use_bias=False), 1)),
    parallel(max_pool2d(2), avg_pool2d(2), combine="add"),
    dropout(0.5),
    flatten(),
    dense(10),
)
TABLE = """\
       layer                                              output  parameters     MACs  residual bytes
0.0    conv2d(4, 3, padding='same', use_bias=False)       8x8x4           36    2,304             256
0.1    batch_norm()                                       8x8x4            8        -           1,040
0.2    relu()                                             8x8x4            -        -           1,024
1      residual()                                         8x8x4            -        -               -
1.0      conv2d(4, (3, 1), padding='same')                8x8x4           52    3,072               -
1.1      residual()                                       8x8x4            -        -               -
1.1        relu()                                         8x8x4            -        -           1,024
2      parallel()                                         8x8x14           -        -               -
2.0      conv2d(2, 1)                                     8x8x2           10      512           1,024
2.1      serial()                                         8x8x4            -        -               -
2.2.0    conv2d(8, 3, padding='same')                     8x8x8          296   18,432               -
2.2.1    relu()                                           8x8x8            -        -           2,048
3      residual()                                         8x8x14           -        -               -
3        chunked(1)                                       8x8x14           -        -               -
3          conv2d(14, 3, padding='same', use_bias=False)  8x8x14       1,764  112,896           3,584
4      parallel(combine='add')                            4x4x14           -        -               -
4.0      max_pool2d(2)                                    4x4x14           -        -             672
4.1      avg_pool2d(2)                                    4x4x14           -        -               -
5      dropout(0.5)                                       4x4x14           -        -             224
6      flatten()                                          224              -        -               -
7      dense(10)                                          10           2,250    2,240             896
       total                                              10           4,416  139,456          11,792"""


def own_memory(residuals: Any) -> int:
    """The bytes of the arrays that residuals show, each once, whichever views of it there are."""
    owners = [leaf for leaf in tree.flatten(residuals) if isinstance(leaf, np.ndarray)]
    while views := [i for i, array in enumerate(owners) if isinstance(array.base, np.ndarray)]:
        for i in views:
            owners[i] = owners[i].base
    return tree.nbytes(tuple(owners))


def test_rows_add_up_to_the_net() -> None:
    rows = layer_rows(NET, IN_SHAPE)
    params, state, out_shape = NET.init(Key(0), IN_SHAPE)
    assert rows[-1].out_shape == out_shape
    assert sum(row.parameters for row in rows) == count_parameters(params)
    assert sum(row.macs for row in rows) == NET.config.macs(IN_SHAPE)
    x = np.zeros((2, *IN_SHAPE), np.float32)
    applied = NET.apply(params, state, x, key=Key(0), train=True)
    assert sum(row.residual_bytes for row in rows) == own_memory(applied.residuals) // 2


def test_the_table_of_a_net_shows_the_layers_inside_its_combinators() -> None:
    assert layer_table(NET, IN_SHAPE) == TABLE
    assert repr(layer_table(NET, IN_SHAPE)) == TABLE  # at a prompt


def test_places_are_the_paths_of_the_params() -> None:
    params = NET.init(Key(0), IN_SHAPE).params
    paths = [path.rpartition(".")[0] for path in tree.paths(params)]  # without weight, bias, scale or shift
    assert [row.place for row in layer_rows(NET, IN_SHAPE) if row.parameters] == list(dict.fromkeys(paths))


@pytest.mark.parametrize("width", [97, 80, 64])
def test_a_table_is_cut_to_a_width_where_layers_are_long(width: int) -> None:
    lines = layer_table(NET, IN_SHAPE, width=width).splitlines()
    assert max(map(len, lines)) == width
    start, end = TABLE.index("layer"), TABLE.index("  output")
    column = width - (len(TABLE.splitlines()[0]) - (end - start))
    for line, whole in zip(lines, TABLE.splitlines(), strict=True):
        assert line == whole[:start] + cut(whole[start:end].rstrip(), column).ljust(column) + whole[end:]


def test_a_table_is_as_wide_as_the_terminal_it_is_made_for_and_whole_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "80")
    assert layer_table(NET, IN_SHAPE) == TABLE
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert layer_table(NET, IN_SHAPE) == layer_table(NET, IN_SHAPE, width=80) != TABLE
    assert layer_table(NET, IN_SHAPE, width=200) == TABLE
    monkeypatch.setenv("COLUMNS", "10")
    assert min(map(len, layer_table(NET, IN_SHAPE).splitlines())) > 40  # no column of numbers is ever cut


@config
class Twice(Config):
    name = "twice"
    layer: Layer

    @property
    def children(self) -> tuple[Layer, ...]:
        return (self.layer,)


def twice_apply(
    settings: Twice, params: Any, state: Any, x: Any, *, key: Key | None = None, train: bool = False
) -> Any:
    return settings.layer.apply(params, state, 2 * x, key=key, train=train)


def test_a_combinator_of_ones_own_is_one_row_since_nobody_knows_what_it_hands_on() -> None:
    own = make_layer(Twice(relu()), twice_apply, lambda *_: None)
    assert layer_table(serial(own), (3,)) == (
        "   layer                output  parameters  MACs  residual bytes\n"
        "0  twice(layer=relu())  3                -     -              12\n"
        "   total                3                -     -              12"
    )


def test_the_table_of_an_empty_net() -> None:
    assert layer_table(serial(), (3,)).splitlines()[1].split() == ["serial()", "3", "-", "-", "-"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: layer_table("net", (3,)), "net must be a layer, got 'net'"),
        (lambda: layer_table(relu(), 64), "in_shape must be an example's shape, a tuple of ints .*, got 64"),
        (lambda: layer_table(relu(), (8, "8")), r"got \(8, '8'\)"),
        (lambda: layer_table(relu(), (8, -1)), r"got \(8, -1\)"),
        (lambda: layer_table(relu(), (10**30,)), "at most 67,108,864 numbers"),
        (lambda: layer_table(relu(), (8192, 8192, 2)), "at most 67,108,864 numbers"),
        (lambda: layer_table(relu(), (3,), width="80"), "width must be an int or None, got '80'"),
        (lambda: count_parameters(dense(3)), r"a leaf must be an array, got dense\(units=3\)\. Pass a net's params"),
    ],
    ids=range(8),
)
def test_what_has_no_table_is_refused_with_what_has(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("width", [-5, 0, 20, np.int64(30)])
def test_a_width_may_be_too_small_for_the_numbers(width: int) -> None:
    narrow, whole = layer_table(NET, IN_SHAPE, width=width).splitlines(), TABLE.splitlines()
    assert [line.split()[-4:] for line in narrow] == [line.split()[-4:] for line in whole]
    assert max(map(len, narrow)) < max(map(len, whole))


@pytest.mark.parametrize("stream", [None, object()], ids=["none", "without isatty"])
def test_a_table_needs_no_standard_output(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    assert layer_table(NET, list(IN_SHAPE)) == TABLE


def test_a_layer_of_ones_own_may_hold_arrays_and_names_that_a_terminal_obeys() -> None:
    @config
    class Masked(Config):
        name = "masked"
        mask: Any
        title: str

    own = make_layer(
        Masked(np.ones(3), "猫\x1b[2J"), lambda settings, params, state, x, **_: (x, state, None), lambda *_: None
    )
    text = layer_table(serial(own), (3,))
    assert text.isprintable() is False  # for its breaks
    assert all(line.isprintable() for line in text.splitlines())
    assert "masked(array([1., 1., 1.]), '猫\\x1b[2J')" in text

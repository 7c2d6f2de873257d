"""Attention against the formula written with loops, by blocks against whole matrices, its masks, and what it keeps."""

import math
from typing import Any

import numpy as np
import pytest
from cases import Case, assert_close, gaussian, message, ready

from funcnn import tree
from funcnn.arrays import attention as arithmetic
from funcnn.arrays.attention import ALL, Drop, Sight, attend, attend_back, attention, attention_gradients
from funcnn.arrays.rotary import rotate
from funcnn.arrays.threads import set_threads, threads
from funcnn.checks import LayerError, ShapeError
from funcnn.compose import residual, serial
from funcnn.init import constant, normal
from funcnn.keys import Key
from funcnn.layer import Layer
from funcnn.layers import cross_attention, dense, dropout, gelu, layer_norm, self_attention, transformer_block
from funcnn.models import gpt

WITH_MASK: Any = ((5, 4), (5,))
MASK = np.array([[True, True, False], [False, True, True]])


# --- Against the formula --------------------------------------------------------------------------------------


def by_loops(q: Any, k: Any, v: Any, *, looks: Any) -> Any:
    """Attention of one head, row by row and key by key; ``looks(i, j)`` says whether row i may look at key j."""
    rows = []
    for i, query in enumerate(q):
        seen = [j for j in range(len(k)) if looks(i, j)]
        terms = [math.exp(float(query @ k[j]) / math.sqrt(len(query))) for j in seen]
        mean = np.zeros(v.shape[1])
        for j, term in zip(seen, terms, strict=True):
            mean += term / sum(terms) * v[j]
        rows.append(mean)
    return np.stack(rows)


def expected(params: Any, q: Any, k: Any, v: Any, heads: int, looks: Any) -> Any:
    """y of one example, given its queries, keys and values."""
    parts = [np.split(each, heads, axis=1) for each in (q, k, v)]
    heads_y = [by_loops(*head, looks=looks) for head in zip(*parts, strict=True)]
    y = np.concatenate(heads_y, axis=1) @ params.out.weight
    return y if params.out.bias is None else y + params.out.bias


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
def test_self_attention_is_the_formula(causal: bool, rotary: bool) -> None:
    made = ready(Case(self_attention(2, head_features=4, causal=causal, rotary=rotary), (3, 6)))
    y = made.layer.apply(made.params, made.state, made.x).y
    for x, its_y in zip(made.x, y, strict=True):
        q, k, v = np.split(x @ made.params.qkv.weight + made.params.qkv.bias, 3, axis=1)
        if rotary:
            q, k = (np.concatenate([rotate(head) for head in np.split(each, 2, axis=1)], axis=1) for each in (q, k))
        want = expected(made.params, q, k, v, 2, lambda i, j: not causal or j <= i)
        np.testing.assert_allclose(its_y, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_cross_attention_is_the_formula(masked: bool) -> None:
    layer = cross_attention(2, masked=masked, use_bias=False)
    sequences = gaussian((2, 4, 6), np.float64, "x"), gaussian((2, 3, 5), np.float64, "memory")
    in_shape: Any = ((4, 6), (3, 5), (3,)) if masked else ((4, 6), (3, 5))
    params, _, out_shape = layer.init(Key(0), in_shape, np.float64)
    y = layer.apply(params, None, (*sequences, MASK) if masked else sequences).y
    assert out_shape == (4, 6)
    for i, (x, memory) in enumerate(zip(*sequences, strict=True)):
        k, v = np.split(memory @ params.key_value.weight, 2, axis=1)
        looks = (lambda _, j, i=i: MASK[i, j]) if masked else (lambda _, j: True)
        np.testing.assert_allclose(y[i], expected(params, x @ params.query.weight, k, v, 2, looks), rtol=1e-12)


def test_scores_far_from_zero_neither_overflow_nor_vanish() -> None:
    q = k = np.array([[[[1e4], [-1e4], [1.0]]]], np.float32)
    v = np.array([[[[1.0], [2.0], [4.0]]]], np.float32)
    o, weights = attention(q, k, v)
    np.testing.assert_allclose(o[0, 0, :, 0], [1, 2, 1])
    low = attention(q, -np.abs(k), v)[1]  # the first row's scores are all far below zero
    np.testing.assert_allclose(low.sum(axis=-1), 1, rtol=1e-6)
    assert np.isfinite(weights).all()


# --- What may be looked at ------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", [5, 300])
def test_a_causal_row_sees_nothing_of_what_comes_later(time: int) -> None:
    layer = self_attention(2, causal=True)
    params, state, _ = layer.init(Key(0), (time, 4), np.float64)
    x = gaussian((1, time, 4))
    later = x.copy()
    later[:, 3:] += 1
    before, after = (layer.apply(params, state, each).y for each in (x, later))
    np.testing.assert_allclose(after[:, :3], before[:, :3], rtol=1e-12)
    assert np.abs(after[:, 3:] - before[:, 3:]).min() > 1e-6


@pytest.mark.parametrize("as_numbers", [False, True])
def test_padding_changes_nothing(as_numbers: bool) -> None:
    """Sequences of 3 in 5 places are what they are in 3, and padding gets no gradient as a key."""
    layer, short = self_attention(2, masked=True), self_attention(2)
    params, state, _ = layer.init(Key(0), WITH_MASK, np.float64)
    x, dy = gaussian((2, 5, 4), np.float64, "x"), gaussian((2, 5, 4), np.float64, "dy")
    mask = np.arange(5) < [[3], [3]]
    dy[:, 3:] = 0
    made = layer.apply(params, state, (x, mask.astype(np.int8) if as_numbers else mask), train=True)
    want = short.apply(params, state, x[:, :3], train=True)
    assert_close(made.y[:, :3], want.y, 1e-12)
    gradients, dxs = layer.backward(params, made.residuals, dy)
    dx, of_mask = dxs or (None, None)
    wanted = short.backward(params, want.residuals, dy[:, :3])
    assert of_mask is None
    assert dx is not None
    assert_close((gradients, dx[:, :3]), (wanted.params, wanted.dx), 1e-12)
    assert not dx[:, 3:].any()


@pytest.mark.parametrize("time", [4, 300])
def test_a_row_that_may_look_at_nothing_gives_zero_and_gets_no_gradient(time: int) -> None:
    layer = self_attention(2, masked=True, causal=True)
    in_shape: Any = ((time, 4), (time,))
    params, state, _ = layer.init(Key(0), in_shape, np.float64)
    params = tree.replace(params, "out.bias", np.arange(4.0))
    mask = np.arange(time)[None] > 0  # so that the first row, which may only look at itself, sees nothing
    x = gaussian((1, time, 4))
    with np.errstate(all="raise", under="ignore"):
        made = layer.apply(params, state, (x, mask), train=True)
        gradients, dxs = layer.backward(params, made.residuals, np.ones((1, time, 4)))
    dx, _ = dxs or (None, None)
    np.testing.assert_array_equal(made.y[0, 0], np.arange(4.0))  # the bias of the last product alone
    assert dx is not None
    assert not dx[0, 0].any()
    assert all(np.isfinite(leaf).all() for leaf in tree.flatten(gradients))


# --- By blocks ------------------------------------------------------------------------------------------------


def strided(word: str, time: int, dtype: Any) -> Any:
    """(n, heads, time, d) as a view of (n, time, heads, d)."""
    return gaussian((2, time, 3, 8), dtype, word).swapaxes(1, 2)


SIGHTS = {"all": ALL, "causal": Sight(causal=True), "mask": Sight(mask=np.arange(301) % 3 > [[0], [1]])}
SIGHTS["both"] = Sight(True, SIGHTS["mask"].mask)


@pytest.mark.parametrize("sight", SIGHTS.values(), ids=SIGHTS)
@pytest.mark.parametrize("large", [False, True], ids=["near", "far"])
@pytest.mark.parametrize("scores", [2**12, 2**18], ids=["heads apart", "heads together"])
def test_by_blocks_it_is_what_it_is_on_whole_matrices(
    sight: Sight, large: bool, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arithmetic, "_SHORT", 2**10)
    monkeypatch.setattr(arithmetic, "_SCORES", scores)
    q, k, v, do = (strided(word, 301, np.float64) for word in ("q", "k", "v", "do"))
    q = q * 100 if large else q
    o, weights = attention(q, k, v, sight)
    blocks, kept = attend(q, k, v, sight, train=True)
    assert kept is not None
    assert kept.weights is None
    assert_close(blocks, o, 1e-13)
    out = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    attend_back(q, k, v, blocks, kept, do, out, sight)
    assert_close(out, attention_gradients(q, k, v, weights, o, do), 1e-11)


def test_short_ones_keep_their_weights_and_are_the_same_to_the_bit() -> None:
    q, k, v, do = (strided(word, 20, np.float32) for word in ("q", "k", "v", "do"))
    o, weights = attention(q, k, v)
    parts, kept = attend(q, k, v, train=True)
    assert kept is not None
    assert kept.weights is not None
    np.testing.assert_array_equal(kept.weights, weights)
    np.testing.assert_array_equal(parts, o)
    out = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    attend_back(q, k, v, parts, kept, do, out)
    for have, want in zip(out, attention_gradients(q, k, v, weights, o, do), strict=True):
        np.testing.assert_array_equal(have, want)


def test_what_is_kept_of_long_sequences_grows_with_the_time_alone() -> None:
    def kept(time: int) -> int:
        layer = self_attention(4, causal=True, dropout=0.1)
        params, state, _ = layer.init(Key(0), (time, 32))
        made = layer.apply(params, state, gaussian((1, time, 32), np.float32), key=Key(0), train=True)
        return tree.nbytes(made.residuals)

    assert kept(1024) == 2 * kept(512)
    assert kept(512) == 4 * 512 * (5 * 32 + 4)  # x, q, k, v and o; a number for each row and head


def test_blocks_have_fewer_rows_the_more_keys_there_are() -> None:
    for time in (512, 2048, 8192, 2**17):
        largest = max(at.stop - at.start for at in arithmetic._blocks(time, time)) * time
        assert largest <= max(arithmetic._SCORES, arithmetic._ROWS * time)


def test_the_number_of_threads_changes_no_bit() -> None:
    layer = self_attention(4, causal=True, dropout=0.2)
    params, state, _ = layer.init(Key(0), (400, 32))
    x, before, results = gaussian((2, 400, 32), np.float32), threads(), []
    try:
        for number in (1, 2):
            set_threads(number)
            made = layer.apply(params, state, x, key=Key(3), train=True)
            results.append((made.y, *layer.backward(params, made.residuals, x)))
    finally:
        set_threads(before)
    assert tree.equal(*results)


# --- Dropout --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", [64, 300])
def test_dropout_drops_weights_and_keeps_their_mean(time: int) -> None:
    """With values of one, o is the sum of what is kept of a row's weights."""
    q, k = strided("q", time, np.float64), strided("k", time, np.float64)
    one = np.ones_like(q)
    sums, _ = attend(q, k, one, drop=Drop(Key(0), 2**14))
    assert abs(sums.mean() - 1) < 0.02
    assert sums.std() > 0.01
    assert not np.array_equal(sums, attend(q, k, one, drop=Drop(Key(1), 2**14))[0])
    np.testing.assert_array_equal(sums, attend(q, k, one, drop=Drop(Key(0), 2**14))[0])


def test_no_two_blocks_have_the_same_mask() -> None:
    drop, seen = Drop(Key(0), 2**15), set()
    for part in range(3):
        for block in range(3):
            factors = drop.factors(part, block, (1, 2, 8, 8), np.dtype(np.float32))
            assert set(np.unique(factors)) == {0, 2}
            seen.add(factors.tobytes())
    assert len(seen) == 9


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_by_blocks_with_dropout_are_slopes(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "_SHORT", 16)
    monkeypatch.setattr(arithmetic, "_SCORES", 2**8)
    monkeypatch.setattr(arithmetic, "_ROWS", 3)
    made = ready(Case(self_attention(2, causal=causal, dropout=0.3), (11, 4)))
    gradients = made.gradients()
    direction = gaussian(made.x.shape, np.float64, "direction")
    ahead, behind = (
        float((made._replace(x=made.x + step * direction).train().y * made.dy).sum()) for step in (1e-6, -1e-6)
    )
    assert gradients.dx is not None
    assert abs((ahead - behind) / 2e-6 - float((gradients.dx * direction).sum())) < 1e-6


# --- Blocks and nets ------------------------------------------------------------------------------------------


def test_a_block_is_what_one_would_write_out() -> None:
    wide = dense(32, per_position=True, weight_init=normal(0.02))
    narrow = dense(8, per_position=True, weight_init=normal(0.01))
    attention_layer = self_attention(2, causal=True, dropout=0.1, weight_init=normal(0.02), out_init=normal(0.01))
    assert transformer_block(8, 2, causal=True, dropout=0.1, weight_init=normal(0.02), out_init=normal(0.01)) == serial(
        residual(serial(layer_norm(), attention_layer, dropout(0.1))),
        residual(serial(layer_norm(), wide, gelu(), narrow, dropout(0.1))),
    )
    assert transformer_block(8, 2, pre_norm=False).config.children[1] == layer_norm()


@pytest.mark.parametrize("tie", [False, True])
def test_gpt_keeps_the_contract_of_a_language_model(tie: bool) -> None:
    net = gpt(11, 8, layers=2, heads=2, features=4, dropout=0.1, tie=tie)
    params, state, out_shape = net.init(Key(0), (6,))
    x = np.arange(12).reshape(2, 6) % 11
    made = net.apply(params, state, x, key=Key(0), train=True)
    assert out_shape == (6, 11)
    assert made.y.shape == (2, 6, 11)
    assert net.config.vocabulary == 11
    gradients = net.backward(params, made.residuals, np.ones_like(made.y))
    assert gradients.dx is None
    tree.check_like(params, gradients.params, ("params", "gradients"))
    later = x.copy()
    later[:, -1] = 0
    before, after = (net.apply(params, state, each).y for each in (x, later))
    np.testing.assert_allclose(after[:, :-1], before[:, :-1], rtol=1e-4, atol=1e-6)


def test_gpts_weights_begin_as_gpt2s_do() -> None:
    net = gpt(65, 64, layers=8, heads=4, features=128, tie=False)
    params = net.init(Key(0), (64,)).params
    found = dict(zip(tree.paths(params), tree.flatten(params), strict=True))
    for path, leaf in found.items():
        if leaf.ndim < 2:
            assert leaf.tolist() == [1.0 if path.endswith("scale") else 0.0] * len(leaf)
            continue
        added = "out.weight" in path or leaf.shape == (512, 128)  # to what it was made of
        assert abs(leaf.std() / (0.02 / (4 if added else 1)) - 1) < 0.05, path


def test_a_batch_that_is_cut_gives_the_same() -> None:
    net = serial(transformer_block(64, 2, causal=True))
    params, state, _ = net.init(Key(0), (64, 64), np.float64)
    x = gaussian((40, 64, 64))
    made = net.apply(params, state, x, train=True)
    gradients = net.backward(params, made.residuals, x)
    assert net.config.by_chunks
    whole = net.config.children[0]
    want = whole.apply(params[0], state[0], x, train=True)
    assert_close(made.y, want.y, 1e-12)
    assert_close(tuple(gradients), ((whole.backward(params[0], want.residuals, x).params,), gradients.dx), 1e-12)


# --- Errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "in_shape", "text"),
    [
        (
            self_attention(3),
            (5, 4),
            "expected features that its 3 heads divide, got 4. Take another number of heads, or give",
        ),
        (self_attention(2, rotary=True), (5, 6), "which rotary turns in pairs, got 3. Pass an even head_features"),
        (self_attention(2), (4,), "expected the shape (time, features), got (4,). Put embedding(...) before it"),
        (self_attention(2), ((5, 4), (5,)), "For a mask write self_attention(..., masked=True)"),
        (self_attention(2, masked=True), ((5, 4), (4,)), "Give a mask of one boolean for each position"),
        (cross_attention(2), (5, 4), "Give a tuple (sequence, memory)"),
        (
            cross_attention(2, masked=True),
            ((5, 4), (6, 4)),
            "(time2, features2), (time2,), got",
        ),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_told(layer: Layer, in_shape: Any, text: str) -> None:
    assert text in message(ShapeError, layer.init, Key(0), in_shape)


def test_masks_that_do_not_fit_are_told() -> None:
    layer = self_attention(1, masked=True)
    params, state, _ = layer.init(Key(0), WITH_MASK)
    x = gaussian((2, 5, 4), np.float32)
    text = message(ShapeError, layer.apply, params, state, (x, np.ones((2, 4), bool)))
    assert "expected a mask of booleans (2, 5), got bool (2, 4). Give one for each position, True where" in text
    assert "got float32 (2, 5)" in message(ShapeError, layer.apply, params, state, (x, np.ones((2, 5), np.float32)))
    assert "a tuple of 2 arrays" in message(ShapeError, layer.apply, params, state, x)
    text = message(LayerError, self_attention(1).apply, params, state, (x, np.ones((2, 5), bool)))
    assert text.endswith("expected a sequence, got a tuple of 2. For a mask write self_attention(..., masked=True)")
    lengths = np.full((2, 5), 3)
    text = message(LayerError, layer.apply, params, state, (x, lengths))
    assert text.endswith("expected a mask of booleans, or of 0 and 1, got 3 to 3. Pass mask != 0")
    assert tree.equal(layer.apply(params, state, (x, lengths != 0)).y, layer.apply(params, state, (x, lengths // 3)).y)


def test_settings_that_make_no_sense_are_told() -> None:
    assert message(ValueError, self_attention, 0) == "self_attention: heads must be a positive int, got 0"
    assert "head_features must be a positive int, got 0" in message(ValueError, cross_attention, 2, head_features=0)
    assert "dropout must be" in message(ValueError, self_attention, 2, dropout=1.0)
    assert "features must be" in message(ValueError, transformer_block, 0, 2)
    assert "out_init must be" in message(TypeError, self_attention, 2, out_init=0.02)
    assert self_attention(2, out_init=constant(0.0)) != self_attention(2)


def test_params_of_another_number_of_heads_are_told() -> None:
    layer = self_attention(2, head_features=3)
    params, state, _ = self_attention(2).init(Key(0), (5, 4))
    x = gaussian((2, 5, 4), np.float32)
    assert "qkv.weight" in message(LayerError, layer.apply, params, state, x)

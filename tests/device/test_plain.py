"""The plain forms where numbers are hard on them: what no layer's draws reach, held against the host's forms."""

import importlib
import inspect
import pkgutil
from typing import Any

import numpy as np
import pytest
import standin
from cases import assert_close

from funcnn import Key
from funcnn import arrays as room
from funcnn.arrays import attention, layout, moments, orthogonal, pooling, scatter, seam
from funcnn.arrays.geometry import geometry
from funcnn.device import to_device, to_host
from funcnn.layers import batch_norm, group_norm, l2_normalize
from funcnn.nn.batch_norm import BatchNormParams, BatchNormState
from funcnn.system.devices import register

register("standin", standin)


def there(values: Any) -> Any:
    return to_device(values, "standin")


def draws(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def test_a_row_that_may_look_at_nothing_gets_nothing() -> None:
    q, k, v, do = (draws(2, 2, 3, 4, seed=seed) for seed in range(4))
    mask = np.array([[False, False, False], [True, False, True]])
    results = []
    for *arrays, its_mask in ((q, k, v, do, mask), there((q, k, v, do, mask))):
        *given, its_do = arrays
        sight = attention.Sight(causal=True, mask=its_mask)
        o, kept = attention.attend(*given, sight, train=True)
        assert kept is not None
        out = tuple([np.zeros_like(each) for each in given])
        attention.attend_back(*given, o, kept, its_do, out, sight)
        results.append(to_host((o, *out)))
    assert not np.any(results[1][0][0])
    assert_close(results[1], results[0], 1e-12)


def test_of_equals_the_same_pixel_wins() -> None:
    x = np.random.default_rng(0).choice([0.0, 1.0], (2, 7, 6, 3), p=[0.8, 0.2])
    geo = geometry((7, 6), (3, 2), (2, 1), (1, 1), ((1, 1), (0, 1)))
    dy = draws(2, *geo.out_size, 3)
    results = []
    for its_x, its_dy in ((x, dy), there((x, dy))):
        y, winners = pooling.max_pool_forward(its_x, geo, keep_winners=True)
        assert winners is not None
        results.append(to_host((y, pooling.max_pool_backward(its_dy, winners, geo))))
    assert_close(results[1], results[0], 1e-12)
    _, winners = pooling.max_pool_forward(there(np.full(x.shape, -np.inf)), geo, keep_winners=True)
    assert winners is not None
    dx = to_host(pooling.max_pool_backward(there(dy), winners, geo))
    np.testing.assert_allclose(dx.sum(axis=(1, 2)), dy.sum(axis=(1, 2)), 1e-12)  # padding never wins


def test_a_large_mean_leaves_the_variance_its_digits() -> None:
    x, dy = 1e4 + draws(500, 3, dtype=np.float32), draws(500, 3, seed=1, dtype=np.float32)
    params = BatchNormParams(*np.ones((2, 3), np.float32))
    state, layer = BatchNormState(*np.ones((2, 3), np.float32)), batch_norm()
    results = []
    for given in ((params, state, x, dy), there((params, state, x, dy))):
        y, new, kept = layer.apply(*given[:3], train=True)
        results.append(to_host((y, new.var, layer.backward(given[0], kept, given[3]).dx)))
    assert_close(results[1], results[0], 1e-4)
    _, said = moments.moments(there(x))
    np.testing.assert_allclose(to_host(said.squares), ((x - x.mean(axis=0, dtype=float)) ** 2).sum(axis=0), 1e-4)


def test_a_row_of_zeros_has_the_slopes_of_the_host() -> None:
    layer, x, dy = l2_normalize(), np.array([[0.0, 0.0], [3.0, 4.0]]), draws(2, 2)
    results = []
    for its_x, its_dy in ((x, dy), there((x, dy))):
        y, _, kept = layer.apply(None, None, its_x, train=True)
        results.append(to_host((y, layer.backward(None, kept, its_dy).dx)))
    assert_close(results[1], results[0], 1e-12)


def test_of_float16_sums_are_made_in_float32() -> None:
    x = np.full((4000, 2), 1.5, np.float16)
    np.testing.assert_array_equal(to_host(layout.sum_examples(there(x))), [6000, 6000])
    layer, images = group_norm(1), draws(2, 5, 4, dtype=np.float16) * np.float16(500)
    params = layer.init(Key(0), (5, 4), np.float16).params
    found = layer.apply(there(params), None, there(images)).y
    assert_close(to_host(found), layer.apply(params, None, images).y, 1e-2)


@pytest.mark.parametrize("size", [1e-4, 1e4])
def test_the_size_of_a_matrix_does_not_matter_to_the_nearest_orthogonal_one(size: float) -> None:
    for shape in ((5, 3), (3, 5)):
        matrix = size * draws(*shape)
        found = to_host(orthogonal.newton_schulz(there(matrix), 5))
        assert_close(found, orthogonal.newton_schulz(matrix, 5), 1e-10)


def test_what_is_outside_a_table_is_not_a_number_and_adds_to_nothing() -> None:
    numbers, table = there((np.array([1, -1, 3, 0]), draws(3, 2)))
    taken = to_host(scatter.take_rows(table, numbers))
    assert np.isnan(taken).all(axis=1).tolist() == [False, True, True, False]
    sums = to_host(scatter.sum_rows(there(np.ones((4, 2))), numbers, 3))
    assert sums.tolist() == [[1, 1], [1, 1], [0, 0]]


def test_every_tuned_function_has_a_plain_form_of_the_same_arguments() -> None:
    for each in pkgutil.iter_modules(room.__path__):
        if not each.ispkg:
            importlib.import_module(f"funcnn.arrays.{each.name}")
    assert len(seam.TUNED) > 60
    for module, name in seam.TUNED:
        function = getattr(importlib.import_module(module), name)
        plain = getattr(seam.plain_module(module.rpartition(".")[2]), name)
        forms = [
            [(key, each.kind, each.default) for key, each in inspect.signature(form).parameters.items()]
            for form in (function, plain)
        ]
        assert forms[0] == forms[1], name

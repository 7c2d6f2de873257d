"""Keys: the same draws for the same key, independent ones for others, and streams that never change silently."""

import pickle
from typing import Any

import numpy as np
import pytest
from cases import message
from hypothesis import given
from hypothesis import strategies as st

from funcnn.keys import Key, fold_in, generator, split

words = st.integers(0, 2**32 - 1) | st.text(max_size=8)
keys = st.builds(lambda seed, path: fold_all(Key(seed), path), st.integers(0, 2**63 - 1), st.lists(words, max_size=3))


def fold_all(key: Key, path: list[Any]) -> Key:
    for word in path:
        key = fold_in(key, word)
    return key


def first_word(key: Key) -> int:
    return int(generator(key).bit_generator.random_raw())


@given(keys)
def test_same_key_same_draws(key: Key) -> None:
    first, second = generator(key), generator(pickle.loads(pickle.dumps(key)))
    assert first is not second
    assert first.random(4).tolist() == second.random(4).tolist()


@given(keys, words, words)
def test_different_words_give_different_draws(key: Key, first: Any, second: Any) -> None:
    same = fold_in(key, first) == fold_in(key, second)
    assert same == (first == second)
    assert same == (first_word(fold_in(key, first)) == first_word(fold_in(key, second)))


def test_folding_leaves_the_key_alone() -> None:
    key = Key(3)
    fold_in(key, 1), split(key, 4), generator(key).random()
    assert key == Key(3)
    assert hash(key) == hash(Key(3))
    with pytest.raises(AttributeError):
        key.seed = 4


@given(keys, st.integers(0, 5))
def test_split_is_folding_in_the_position(key: Key, n: int) -> None:
    assert split(key, n) == tuple(fold_in(key, i) for i in range(n))
    assert split(key, n) == split(key, n + 1)[:n]


def test_numpy_integers_fold_in_as_ints() -> None:
    assert fold_in(Key(0), np.int64(7)) == fold_in(Key(0), np.uint8(7)) == fold_in(Key(0), 7)
    assert type(fold_in(Key(0), np.int64(7)).path[0]) is int


def test_order_of_words_matters() -> None:
    assert first_word(fold_all(Key(0), [1, 2])) != first_word(fold_all(Key(0), [2, 1]))


def test_ten_thousand_streams_do_not_collide() -> None:
    # Neighbours in every direction a run takes: seeds, purposes, steps, layers; zeros at the end of a path count.
    family = [Key(seed) for seed in range(2000)]
    family += [fold_in(Key(0), i) for i in range(4000)]
    family += [fold_all(Key(0), [step, layer]) for step in range(40) for layer in range(50)]
    family += [fold_in(Key(1), str(i)) for i in range(1900)]
    family += [fold_all(Key(0), [0] * depth) for depth in range(3, 103)]
    assert len(set(map(first_word, family))) == len(set(family)) == len(family)


def test_neighbouring_keys_are_uncorrelated() -> None:
    n, count = 1000, 20
    draws = np.array([generator(key).standard_normal(n) for key in split(Key(0), count)])
    correlations = np.corrcoef(draws)[np.triu_indices(count, 1)]
    assert abs(correlations).max() < 4.5 / np.sqrt(n)  # 190 pairs, each beyond 4.5 deviations once in 150,000
    assert abs(correlations.mean()) < 4 / np.sqrt(n * len(correlations))


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, "0", None, True])
def test_seeds_out_of_range_are_refused(seed: Any) -> None:
    assert message(ValueError, Key, seed) == f"Key: seed must be an int from 0 to 2**63 - 1, got {seed!r}"


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_the_ends_of_the_range_are_seeds(seed: int) -> None:
    assert generator(Key(seed)).random() != generator(Key(1)).random()


@pytest.mark.parametrize("word", [-1, 2**32])
def test_int_words_out_of_range_are_refused(word: int) -> None:
    assert message(ValueError, fold_in, Key(0), word) == f"fold_in: an int word must be from 0 to 2**32 - 1, got {word}"


@pytest.mark.parametrize("word", [1.0, None, True, b"x", np.bool_(1)])
def test_words_of_another_type_are_refused(word: Any) -> None:
    assert message(TypeError, fold_in, Key(0), word) == f"fold_in: word must be an int or a str, got {word!r}"


@pytest.mark.parametrize(
    ("key", "raw", "uniform", "normal"),
    [
        (Key(0), 10490465040999277362, 0.5686892493917326, -0.5423652285985597),
        (Key(2**63 - 1), 15983117167636291749, 0.8664465178120815, 1.6761661901066085),
        (fold_in(Key(0), 7), 16179507223677858370, 0.8770928440828223, 0.01860016092785356),
        (fold_in(Key(0), "dropout"), 3127508605556017118, 0.1695425812305471, -0.8431864504764865),
        (fold_in(fold_in(Key(0), 7), "x"), 5428807025886819634, 0.2942962185735529, -0.3497596629085952),
    ],
)
def test_golden_draws(key: Key, raw: int, uniform: float, normal: float) -> None:
    # A stream that changes makes every saved run unrepeatable: if this fails, say so in the release notes.
    assert (first_word(key), generator(key).random(), generator(key).standard_normal()) == (raw, uniform, normal)

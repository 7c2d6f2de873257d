"""Text from a net: each symbol drawn from what the net says, the same for the same key."""

import numpy as np
import pytest
from cases import message

from funcnn import Key, serial
from funcnn.data import DataError
from funcnn.experiment.generate import generate
from funcnn.layers import dense, embedding
from funcnn.model_file import Trained
from funcnn.nn.embedding import EmbeddingParams
from funcnn.train import Model


def chain_of(logits: np.ndarray) -> Trained:
    """A net whose logits depend on the last symbol alone: those of its row."""
    net = serial(embedding(3, 3))
    return Trained(net, Model((EmbeddingParams(logits.astype(np.float32)),), (None,)), (2,), ("a", "b", "c"))


def test_each_symbol_follows_from_the_one_before() -> None:
    certain = chain_of(np.roll(1000 * np.eye(3), 1, axis=1))  # b after a, c after b, a after c
    assert generate(certain, "ca", 5, key=Key(0)) == "bcabc"


def test_symbols_are_drawn_with_their_probabilities() -> None:
    logits = np.log([[0.2, 0.5, 0.3]] * 3)
    text = generate(chain_of(logits), "a", 4000, key=Key(1))
    assert [text.count(symbol) / 4000 for symbol in "abc"] == pytest.approx([0.2, 0.5, 0.3], abs=0.03)
    cold = generate(chain_of(logits), "a", 4000, key=Key(1), temperature=0.5)  # the squares' shares
    assert cold.count("b") / 4000 == pytest.approx(0.25 / 0.38, abs=0.03)
    assert (
        generate(chain_of(logits), "a", 50, key=Key(1)) == text[:50] != generate(chain_of(logits), "a", 50, key=Key(2))
    )


def test_arguments_of_no_meaning_are_named() -> None:
    trained = chain_of(np.zeros((3, 3)))
    for prompt, got in (("", "got none"), ("ad", "got 'd', which it has not")):
        text = message(DataError, generate, trained, prompt, 1, key=Key(0))
        assert text == f"the prompt must be of characters of the text, 'abc', {got}"
    images = Trained(trained.net, trained.model, (2, 2, 1), trained.classes)
    assert "generate: trained must be a net of texts, whose inputs are (time,), got (2, 2, 1)" in message(
        ValueError, generate, images, "a", 1, key=Key(0)
    )
    table = Trained(dense(2), Model(*dense(2).init(Key(0), (3,))[:2]), (3,), ("left", "stays"))
    assert "a net of texts, whose outputs are (time, characters), got (2,)" in message(
        ValueError, generate, table, "left", 1, key=Key(0)
    )
    for temperature in (0, -1.0, np.inf, "1"):
        assert "temperature must be positive and finite" in message(
            ValueError, generate, trained, "a", 1, key=Key(0), temperature=temperature
        )

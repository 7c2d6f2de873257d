"""The small language of docs/learn/09_sequences.md: 19 words, a verb for each noun, the probability of every choice."""

from typing import Any

import numpy as np

from funcnn import Key
from funcnn.data import Dataset
from funcnn.layer import Layer
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import adam
from funcnn.schedules import warmup_cosine
from funcnn.train import Problem, init_state, train

NOUNS = ["dog", "cat", "bird"], ["dogs", "cats", "birds"]
SEES = ["sees", "hears"], ["see", "hear"]
RUNS = ["runs", "sleeps", "sings"], ["run", "sleep", "sing"]
WORDS = [".", "the", "that", *NOUNS[0], *NOUNS[1], *SEES[0], *SEES[1], *RUNS[0], *RUNS[1]]
NUMBER = {word: number for number, word in enumerate(WORDS)}


def sentence(draw: np.random.Generator) -> tuple[list[str], list[float]]:
    """A sentence: its words, and the probability with which each was chosen."""
    words: list[str] = []
    truth: list[float] = []

    def say(choices: list[str], share: float = 1.0) -> None:
        words.append(choices[draw.integers(len(choices))])
        truth.append(share / len(choices))

    def noun_phrase(depth: int) -> tuple[int, float]:
        clause = (0.5, 0.25, 0.0)[depth]
        many = int(draw.integers(2))
        say(["the"])
        say(NOUNS[many], 1 / 2)
        if draw.random() >= clause:
            return many, 1 - clause
        say(["that"], clause)
        its, left = noun_phrase(depth + 1)
        say(SEES[its], left)
        return many, 1.0

    many, left = noun_phrase(0)
    say(RUNS[many], left)
    say(["."])
    return words, truth


def sentences(n: int, seed: int) -> tuple[Any, Any, Any, Any]:
    """Inputs, targets, weights and true probabilities, each (n, 12)."""
    draw = np.random.default_rng(seed)
    numbers, truth, weights = np.zeros((n, 13), int), np.ones((n, 12)), np.zeros((n, 12), np.float32)
    for row in range(n):
        words, shares = sentence(draw)
        numbers[row, 1 : 1 + len(words)] = [NUMBER[word] for word in words]
        truth[row, : len(words)], weights[row, : len(words)] = shares, 1
    return numbers[:, :-1], numbers[:, 1:], weights, truth


def states(net: Layer, *, steps: int = 300, every: int = 20, rate: float = 1e-2) -> Any:
    """The net's states in training on 4,000 sentences, after so many batches of 32 each time."""
    inputs, targets, weights, _ = sentences(4000, seed=0)
    data = Dataset.from_arrays(inputs, targets, weights=weights, test=None, validation=None, classes=())
    problem = Problem(net, softmax_cross_entropy, adam(warmup_cosine(rate, 30, steps, end=rate / 10)))
    state = init_state(problem, Key(0), data.in_shape)
    yield state
    for event in train(problem, state, data, epochs=steps // every, epoch_steps=every, batch_size=32):
        if hasattr(event, "state"):
            yield event.state

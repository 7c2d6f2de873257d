"""Text from a net that tells each symbol from those before it, one symbol at a time."""

import numpy as np

from funcnn.keys import Key, fold_in, generator
from funcnn.model_file import Trained
from funcnn.settings import check_counts, is_number, refuse

__all__ = ["generate"]


def generate(trained: Trained, prompt: str, count: int, *, key: Key, temperature: float = 1.0) -> str:
    """So many characters that follow a prompt, each drawn from what the net says of the characters before it.

    The net takes the numbers of at most as many characters as it was trained on (1, time), and gives logits (1, time,
    characters), of which the last are divided by the temperature: below 1 the likelier becomes likelier still.

    Raises ValueError for an empty prompt, one with a character that the net does not know, a temperature that is not
    positive, or a count that is no positive int.
    """
    check_counts("generate", count=count)
    if not (is_number(temperature) and 0 < temperature < np.inf):
        refuse("generate", "temperature", "positive and finite", temperature)
    number_of = {symbol: number for number, symbol in enumerate(trained.classes)}
    unknown = sorted(set(prompt) - set(number_of))
    if unknown or not prompt:
        expected = f"of characters of the text that the net has learned, {''.join(trained.classes)!r}"
        refuse("generate", "prompt", f"at least one character, {expected}", prompt)
    (context,) = trained.in_shape
    params, state, numbers = trained.model.params, trained.model.state, [number_of[symbol] for symbol in prompt]
    for i in range(count):
        logits = trained.net.apply(params, state, np.array([numbers[-context:]])).y[0, -1].astype(np.float64)
        shares = np.exp((logits - logits.max()) / temperature).cumsum()
        drawn = generator(fold_in(key, i)).random() * shares[-1]
        numbers.append(int(np.searchsorted(shares, drawn, side="right")))
    return "".join(trained.classes[number] for number in numbers[len(prompt) :])

"""Text from a net that tells each symbol from those before it, one symbol at a time."""

import shlex
from argparse import ArgumentParser
from collections.abc import Sequence

import numpy as np

from funcnn.data.formats import DataError
from funcnn.experiment.options import Options, positive, printer
from funcnn.keys import Key, fold_in, generator
from funcnn.model_file import Trained, load_trained
from funcnn.settings import check_counts, is_number, refuse
from funcnn.system.files import write_text

__all__ = ["add_text_options", "check_prompt", "generate", "write_page"]


def add_text_options(parser: ArgumentParser) -> None:
    """The options of a script that learns a text and writes a page at the end."""
    add = parser.add_argument
    own = "a file of text in UTF-8 to learn from (default: tiny Shakespeare)"
    add("--text", default="tinyshakespeare", metavar="FILE", help=own)
    add("--prompt", help="what the page at the end goes on from (default: the first character of all)")
    add("--length", type=positive(int), default=500, help="the characters of that page (default %(default)s)")


def write_page(options: Options, prompt: str) -> None:
    """Print what the run's kept net writes after a prompt, and leave it as page.txt among the results."""
    trained = load_trained(options.out / "model.safetensors")
    page = prompt + generate(trained, prompt, options.own.length, key=Key(options.seed))
    write_text(options.out / "page.txt", page)
    more = f"funcnn generate {shlex.quote(str(options.out / 'model.safetensors'))} --prompt {shlex.quote(prompt)}"
    printer(options.quiet)(f"\n{page}\n\nthis page: {options.out / 'page.txt'}\nmore of it: {more}")


def check_prompt(prompt: str, classes: Sequence[str]) -> None:
    """Raise DataError, which is a ValueError, unless a prompt consists of characters that a net knows.

    >>> check_prompt("ab", ("a", "b"))
    """
    unknown = "".join(sorted(set(prompt) - set(classes)))
    if unknown or not prompt:
        what = f"got {unknown!r}, which it has not" if prompt else "got none"
        raise DataError(f"the prompt must be of characters of the text, {''.join(classes)!r}, {what}")


def generate(trained: Trained, prompt: str, count: int, *, key: Key, temperature: float = 1.0) -> str:
    """So many characters that follow a prompt, each drawn from what the net says of the characters before it.

    The net takes the numbers of at most as many characters as it was trained on (1, time), and gives logits (1, time,
    characters), of which the last are divided by the temperature: below 1 the likelier becomes likelier still.

    Raises ValueError for an empty prompt, one with a character that the net does not know (`check_prompt`), a
    temperature that is not positive, a count that is no positive int, or a net that is none of texts.
    """
    check_counts("generate", count=count)
    if not (is_number(temperature) and 0 < temperature < np.inf):
        refuse("generate", "temperature", "positive and finite", temperature)
    if len(trained.in_shape) != 1:
        refuse("generate", "trained", "a net of texts, whose inputs are (time,)", trained.in_shape)
    out_shape = trained.net.config.out_shape(trained.in_shape)
    if out_shape != (*trained.in_shape, len(trained.classes)):
        refuse("generate", "trained", "a net of texts, whose outputs are (time, characters)", out_shape)
    number_of = {symbol: number for number, symbol in enumerate(trained.classes)}
    check_prompt(prompt, trained.classes)
    (context,) = trained.in_shape
    params, state, numbers = trained.model.params, trained.model.state, [number_of[symbol] for symbol in prompt]
    for i in range(count):
        logits = trained.net.apply(params, state, np.array([numbers[-context:]])).y[0, -1].astype(np.float64)
        shares = np.exp((logits - logits.max()) / temperature).cumsum()
        drawn = generator(fold_in(key, i)).random() * shares[-1]
        numbers.append(int(np.searchsorted(shares, drawn, side="right")))
    return "".join(trained.classes[number] for number in numbers[len(prompt) :])

"""``funcnn generate``: what a net of texts writes after a prompt."""

from funcnn.command import mendable
from funcnn.experiment.generate import generate
from funcnn.experiment.options import new_parser, positive, read_arguments, seed
from funcnn.keys import Key
from funcnn.model_file import load_trained
from funcnn.system.text import show
from funcnn.trained import model_path

__all__ = ["main"]

_DESCRIPTION = """What a net of texts writes after a prompt, one character after the other.

    {0} runs/shakespeare_lstm/model.safetensors --prompt "My dear"
    {0} runs/shakespeare_lstm/model.safetensors --prompt "My dear" --temperature 0.5 --seed 3

Such a net is what experiments/shakespeare_lstm.py and shakespeare_gpt.py leave, which learn a text of your own by
--text FILE."""


def main(arguments: list[str], prog: str) -> None:
    """Print the prompt, and what follows it."""
    parser = new_parser(_DESCRIPTION.format(prog), prog)
    add = parser.add_argument
    add("model", metavar="MODEL", help="a model.safetensors of a net of texts")
    add("--prompt", help="what it goes on from (default: the first character of all)")
    add("--length", type=positive(int), default=500, help="the characters that it writes (default %(default)s)")
    colder = "below 1 the likelier characters become likelier still (default %(default)s)"
    add("--temperature", type=positive(float), default=1.0, help=colder)
    add("--seed", type=seed, default=0, help="equal seeds give equal texts on one machine (default %(default)s)")
    options = read_arguments(parser, arguments)
    trained = load_trained(model_path(options.model))
    with mendable(ValueError):  # a prompt of characters that it does not know, a net of something else
        prompt = options.prompt or "".join(trained.classes[:1])
        text = generate(trained, prompt, options.length, key=Key(options.seed), temperature=options.temperature)
    show(f"{prompt}{text}")

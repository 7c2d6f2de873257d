"""The command `funcnn`: from nothing to a trained net and a page. `main` finds the command, whose module does the rest.

Each module has ``main(arguments, prog)``: what comes after the command's name, and how the command was called.
"""

import argparse
import difflib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

__all__ = ["COMMANDS", "main", "mendable", "net_name", "program"]

COMMANDS = {
    "demo": "train a small net on handwritten digits that come along, with pictures",
    "train": "train a net on a folder of your images, or on a data set by its name",
    "predict": "tell the classes of your images",
    "generate": "write a text with a trained net of texts",
    "serve": "open a page to draw on, and a JSON API, for a trained net",
    "info": "show what is in the file of a trained net or a checkpoint",
    "export": "write a trained net for ONNX, PyTorch or NumPy",
    "sweep-report": "make the table and the page of a sweep again",
}

_EXAMPLES = """
examples:
  {0} demo
  {0} predict drawing.png --model mnist_cnn
  {0} serve mnist_cnn
  {0} train photos --size 64

Each command has a --help of its own: {0} train --help
"""


def main(arguments: list[str] | None = None) -> None:
    """Run a command line: the program's, or the arguments after the program's name.

    Exits with 1 and one line for what a user can mend, with 2 for options that are wrong, with 130 for an interrupt.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] not in COMMANDS:
        _without_command(given)
        return
    from funcnn.experiment.run import run_script  # and with it most of the library: a list of commands does not wait

    module = import_module(f"funcnn.command.{given[0].replace('-', '_')}")
    run_script(lambda: module.main(given[1:], f"{program()} {given[0]}"))


def program() -> str:
    """How the command was called: ``funcnn``, or ``python -m funcnn``."""
    return "python -m funcnn" if Path(sys.argv[0]).name == "__main__.py" else "funcnn"


def net_name(path: Path) -> str:
    """What a net is called: its file's name, or that of the folder of a run for its model.safetensors.

    >>> net_name(Path("runs/digits_cnn/model.safetensors")), net_name(Path("there/mine.safetensors"))
    ('digits_cnn', 'mine')
    """
    return path.resolve().parent.name if path.stem == "model" else path.stem


@contextmanager
def mendable(*kinds: type[Exception]) -> Iterator[None]:
    """End the program with one line for such errors in the block, which are the user's to mend there."""
    from funcnn.system.text import printable

    try:
        yield
    except kinds as error:
        sys.exit(f"error: {printable(error)}")


def _without_command(given: list[str]) -> None:
    """The help, the version, or what is wrong with the command."""
    from funcnn import __version__

    names = "\n".join(f"  {name:14}{what}" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        program(), usage=f"{program()} COMMAND ...", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"Neural networks on NumPy, from nothing to a trained net and a page.\n\ncommands:\n{names}",
        epilog=_EXAMPLES.format(program()), allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"funcnn {__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    unknown = parser.parse_known_args(given)[0].command
    if unknown is None:
        wrong = [each for each in given if each != "--"]
        if wrong:
            parser.error(f"unrecognized arguments: {' '.join(wrong)}")
        parser.print_help()
        return
    near = difflib.get_close_matches(unknown.lower().replace("_", "-"), COMMANDS, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"The commands are {', '.join(COMMANDS)}"
    parser.error(f"there is no command {unknown!r}. {hint}")

"""The command line that every experiment understands."""

import argparse
import math
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from funcnn.checks import FuncnnWarning
from funcnn.data.load import IMAGE_SETS
from funcnn.experiment.device import add_device, check_alone
from funcnn.system.text import printable, show

__all__ = [
    "Options", "add_data", "folder", "new_parser", "parse_options", "plain_warnings", "positive", "printer",
    "read_arguments", "same_command", "seed", "share", "warn",
]  # fmt: skip

_QUICK_STEPS = 25  # of an epoch that is no pass over the training data


@attrs.frozen
class Options:
    """What the command line of every experiment sets; `own` has the options that one script adds.

    `recipe` names the way to train, where a script has several ("" where it has one). `shards` is None if not given,
    and so is `epoch_steps`, the steps of an epoch that is no pass over the training data. `data` is a data set's name
    or a folder of class folders, whose images are brought to a `size` (height, width) and `channels`; None where a
    script has a data set of its own, or the images' own are kept. `device` is where it computes: "cpu", or "cuda".
    """

    epochs: int
    batch_size: int
    lr: float
    recipe: str
    seed: int
    data_dir: str | None
    out: Path
    resume: bool
    quick: bool
    quiet: bool
    print_every: int
    plots: bool
    validation: bool
    workers: int
    shards: int | None
    epoch_steps: int | None
    data: str | None = None
    size: tuple[int, int] | None = None
    channels: int | None = None
    device: str = "cpu"
    own: argparse.Namespace = attrs.field(factory=argparse.Namespace)


def parse_options(
    description: str | None,
    *,
    name: str,
    epochs: int,
    batch_size: int,
    lr: float | Mapping[str, float],
    epoch_steps: int | None = None,
    quick_epochs: int = 1,
    data: str | None = None,
    takes_folder: bool = False,
    add: Callable[[argparse.ArgumentParser], Any] | None = None,
    arguments: list[str] | None = None,
    prog: str | None = None,
) -> Options:
    """The options of a script from its command line, with its defaults; ``--help`` explains them.

    If `lr` has several rates, by the names of recipes, the script has an option ``--recipe``, the first by default.
    `add` is given the parser, and adds the script's own options to it. `name` is the name of the results' folder in
    ``runs``, and may hold own options in braces, and ``{data}``; without that, other data than the script's follow it.
    Words of an option may be joined by - or by _.

    With `data`, the data set by default, there are ``--data``, for the name of another or a folder of class folders,
    ``--size`` and ``--channels``; with `takes_folder` either is to be given first. `prog` is the command's name
    in its help, by default the script's.

    >>> parse_options("Train.", name="demo", epochs=9, batch_size=32, lr=0.1, arguments=["--quick"]).epochs
    1
    """
    parser = new_parser(description, prog)
    option = parser.add_argument
    if takes_folder:
        images = f"a folder with a folder of images for each class, or a data set: {', '.join(IMAGE_SETS)}"
        option("data", type=_images, metavar="FOLDER", help=images)
        _add_data_dir(parser)
        _add_image_size(parser)
    elif data is not None:
        add_data(parser, data)
    else:
        _add_data_dir(parser)
    what = "epochs, of --epoch-steps steps each" if epoch_steps else "passes over the training data"
    passes = f"{what} (default {epochs}; {quick_epochs} if --quick)"
    option("--epochs", type=positive(int), help=passes)
    option("--batch-size", type=positive(int), default=batch_size, help="examples per step (default %(default)s)")
    rates = lr if isinstance(lr, Mapping) else {"": lr}
    usual = str(next(iter(rates.values())))
    if len(set(rates.values())) > 1:
        usual = " or ".join(f"{rate} in {recipe}" for recipe, rate in rates.items())
    option("--lr", type=positive(float), help=f"the learning rate, or its peak (default {usual})")
    if len(rates) > 1:
        option("--recipe", choices=tuple(rates), default=next(iter(rates)), help="how to train (default %(default)s)")
    same = "the run's seed: on one machine, equal seeds give equal results (default %(default)s)"
    option("--seed", type=seed, default=0, help=same)
    results = f"the folder for results, which replace earlier ones (default {Path('runs') / name})"
    option("--out", type=folder, help=results)
    option("--resume", action="store_true", help="go on from the last checkpoint in --out")
    option("--quick", action="store_true", help="a short run on a slice of the data, to see that everything works")
    option("--quiet", action="store_true", help="print nothing but errors")
    option("--print-every", type=positive(int), default=0, metavar="K", help="a line with the loss after every K steps")
    option("--no-plots", dest="plots", action="store_false", help="draw no pictures")
    last = "train on the validation part too and keep the last epoch: when all settings are chosen"
    option("--no-validation", dest="validation", action="store_false", help=last)
    processes = "processes that train together, each on one core, at most as many as there are (default %(default)s)"
    option("--workers", type=positive(int), default=1, metavar="N", help=processes)
    parts = "parts of a batch that they share, from which the result follows (default: --workers, or as it was begun)"
    option("--shards", type=positive(int), metavar="N", help=parts)
    add_device(parser)
    many = f"{epoch_steps}; {_QUICK_STEPS} if --quick" if epoch_steps else "those of a pass over the training data"
    option("--epoch-steps", type=positive(int), metavar="K", help=f"steps of an epoch (default {many})")
    parser.set_defaults(recipe=next(iter(rates)))
    common = {"recipe", "data_dir"} | {action.dest for action in parser._actions} - {"help"}
    if add is not None:
        add(parser)
    values = vars(read_arguments(parser, arguments))
    check_alone(values["device"], values["workers"], values["shards"], parser.error)
    own = argparse.Namespace(**{key: values.pop(key) for key in list(values) if key not in common})
    values["epochs"] = values["epochs"] or (quick_epochs if values["quick"] else epochs)
    if epoch_steps and not values["epoch_steps"]:
        values["epoch_steps"] = min(epoch_steps, _QUICK_STEPS) if values["quick"] else epoch_steps
    values["lr"] = values["lr"] or rates[values["recipe"]]
    its_name = _last_name(values["data"]) if "data" in values else ""
    if its_name and values["data"] != data and "{data}" not in name:
        name += "_{data}"
    values["out"] = values["out"] or Path("runs") / name.format_map(vars(own) | {"data": its_name})
    return Options(**values, own=own)


def new_parser(description: str | None, prog: str | None = None) -> argparse.ArgumentParser:
    """A parser that shows a description as it is written, and takes no option by the beginning of its name."""
    return argparse.ArgumentParser(
        prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def add_data(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--data``, for a data set's name or a folder of class folders, and what goes with either."""
    sets = "a data set's name, or a folder with a folder of images for each class (default %(default)s)"
    parser.add_argument("--data", type=os.path.expanduser, default=default, metavar="SET", help=sets)
    _add_data_dir(parser)
    _add_image_size(parser)


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    where = "the folder of the data files (default: FUNCNN_DATA, or else they are downloaded)"
    parser.add_argument("--data-dir", type=os.path.expanduser, help=where)


def _add_image_size(parser: argparse.ArgumentParser) -> None:
    usual = "default: as they are, if all are alike and have at most 96; else 64"
    size = f"bring a folder's images to squares of so many pixels, or to HEIGHTxWIDTH ({usual})"
    parser.add_argument("--size", type=_image_size, metavar="SIDE", help=size)
    channels = "make a folder's images grey (1) or coloured (3) (default: as they are)"
    parser.add_argument("--channels", type=int, choices=(1, 3), help=channels)


def _image_size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"must be as 64 or 48x64, got {text}")
    height, width = (positive(int)(side) for side in (sides * 2)[:2])
    return height, width


_image_size.__name__ = "size"


def _images(text: str) -> str:
    path = os.path.expanduser(text)
    if text not in IMAGE_SETS and not os.path.isdir(path):
        if os.path.isfile(path):
            raise argparse.ArgumentTypeError(
                f"{text} is a file, and no folder of images. A table is learned in Python (docs/data.md, A table), a "
                f"text by experiments/shakespeare_lstm.py --text {text}"
            )
        sets = ", ".join(IMAGE_SETS)
        raise argparse.ArgumentTypeError(f"there is no folder {text}, and no data set of that name, as {sets}")
    return path


def _last_name(data: str) -> str:
    """A data set's name, or that of its folder, wherever that is."""
    return os.path.basename(os.path.abspath(data)) or "images"


def read_arguments(parser: argparse.ArgumentParser, arguments: list[str] | None = None) -> argparse.Namespace:
    """What a command line says (the program's, without arguments): ``--batch_size=8`` is ``--batch-size=8``."""
    return parser.parse_args([_hyphens(each) for each in (sys.argv[1:] if arguments is None else arguments)])


def _hyphens(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    option, equals, value = argument.partition("=")
    return option.replace("_", "-") + equals + value


def folder(text: str) -> Path:
    """A type of argparse's: a path, in which ~ is the user's home; the shell leaves that alone in ``--out=~/runs``."""
    return Path(os.path.expanduser(text))  # Path's own raises RuntimeError for the home of nobody


def positive(kind: type) -> Callable[[str], Any]:
    """A type of argparse's: a number of that kind that is more than 0."""

    def convert(text: str) -> Any:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"must be more than 0, got {text}")
        if value == math.inf:
            raise argparse.ArgumentTypeError(f"must be finite, got {text}")
        return value

    convert.__name__ = kind.__name__  # argparse names the converter in its messages
    return convert


def share(text: str) -> float:
    """A type of argparse's: a number from 0 to less than 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to less than 1, got {text}")
    return value


def seed(text: str) -> int:
    """A type of argparse's: the seed of a key."""
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"must be from 0 to 2**63 - 1, got {text}")
    return value


seed.__name__ = "int"


def same_command(*more: str) -> str:
    """The command that this process was started with, and more options where it lacks them."""
    start, given = [sys.orig_argv[0]], list(sys.argv)
    if "mpi4py.futures" in sys.orig_argv:
        start = ["mpirun", "-n", "RANKS", sys.orig_argv[0], "-m", "mpi4py.futures"]
    elif Path(given[0]).name == "__main__.py" and "-m" in sys.orig_argv:  # as python -m funcnn
        start, given[0] = [*start, "-m"], sys.orig_argv[sys.orig_argv.index("-m") + 1]
    elif Path(given[0]).stem == "funcnn":  # the command, which is a program by itself
        on_path = os.path.splitext(shutil.which("funcnn") or "")[0] == os.path.splitext(given[0])[0]
        start, given[0] = [], "funcnn" if on_path else given[0]
    return shlex.join([*start, *given, *(each for each in more if each not in given)])


def printer(quiet: bool) -> Callable[[str], None]:
    """What says things to the user: `show`, or nothing at all."""
    return (lambda text: None) if quiet else show


def warn(text: str) -> None:
    """Say on standard error what went wrong and ends nothing."""
    show(text, error=True)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """While the block runs, this library's warnings are a line each, which names no place in its code."""
    usual = warnings.formatwarning

    def plain(message: Any, category: type[Warning], *place: Any, **more: Any) -> str:
        own = issubclass(category, FuncnnWarning)
        return f"warning: {printable(message)}\n" if own else usual(message, category, *place, **more)

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = usual

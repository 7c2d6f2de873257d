"""Small trained nets that come with the package, by name; README.md has what each knows, and how well."""

import difflib
import os
from pathlib import Path

__all__ = ["model_path", "trained_models"]

_FOLDER = Path(__file__).parent
_ENDING = ".safetensors"


def trained_models() -> tuple[str, ...]:
    """The names of the nets in the package, sorted.

    >>> "mnist_cnn" in trained_models()
    True
    """
    return tuple(sorted(path.stem for path in _FOLDER.glob(f"*{_ENDING}")))


def model_path(name_or_path: str | os.PathLike[str]) -> Path:
    """The file of a trained net: one of `trained_models` by its name, or any other by its path; ~ is your home.

    A name comes before a file of the same name in the working folder, which is ``./mnist_cnn`` then.

    >>> from funcnn.model_file import load_trained
    >>> load_trained(model_path("mnist_cnn")).in_shape
    (28, 28, 1)

    Raises FileNotFoundError, with the names that there are, for what is no file and no name.
    """
    given = os.fspath(name_or_path)
    names = trained_models()
    if given in names:
        return _FOLDER / f"{given}{_ENDING}"
    path = Path(os.path.expanduser(given))
    if path.is_file():
        return path
    if path.is_dir():
        fix = f"{path / 'model.safetensors'}" if (path / "model.safetensors").is_file() else "a file"
        raise FileNotFoundError(f"{given} is a folder: expected a trained net's file. Pass {fix}")
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.75)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise FileNotFoundError(
        f"no trained net {given!r}: expected the path of a file that save_trained wrote, as an experiment's "
        f"model.safetensors, or one of {', '.join(names)}. {hint}".rstrip()
    )

"""A trained net in one file: its parameters, and everything that prediction needs to know about it."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from funcnn import checkpoint, tree
from funcnn.checkpoint import CheckpointError
from funcnn.data.preprocess import Preprocess
from funcnn.keys import Key
from funcnn.layer import Layer
from funcnn.layers import softmax
from funcnn.rebuild import constructors, own_parts, rebuild
from funcnn.settings import as_code, describe
from funcnn.system.text import call_text, cut
from funcnn.train import Model, TrainState, predict
from funcnn.tree import Array, Shape

__all__ = ["Trained", "load_trained", "probabilities", "save_trained"]


@attrs.frozen(eq=False, repr=False)
class Trained:
    """A net that gives logits, its parameters, what turns stored images into its inputs, the names of its classes.

    `about` is any JSON data on how it came to be.
    """

    net: Layer
    model: Model | TrainState
    in_shape: Shape
    classes: tuple[str, ...]
    preprocess: Preprocess | None = None
    about: Any = None

    def __repr__(self) -> str:
        long = {"preprocess": cut(as_code(self.preprocess), 30), "about": cut(repr(self.about), 60)}
        values = {field.name: tree.brief(getattr(self, field.name)) for field in attrs.fields(Trained)}
        return call_text("Trained", values | long)


def save_trained(path: str | os.PathLike[str], trained: Trained) -> None:
    """Write it to a safetensors file, which appears whole or not at all.

    The file names the parts of your own that it holds (layers, initialisers, preprocessing), for `load_trained` to be
    given.

    Raises LayerError for a part that could never be read again, such as a lambda; OSError if it cannot be written.
    """
    own = own_parts(layer=trained.net, preprocessing=trained.preprocess)
    model = Model(trained.model.params, trained.model.state)
    arrays = tree.flatten(model)
    description = {
        "net": describe(trained.net),
        "in_shape": list(trained.in_shape),
        "dtype": str(arrays[0].dtype) if arrays else "float32",
        "classes": list(trained.classes),
        "preprocess": describe(trained.preprocess),
        "own": own,
        "about": trained.about,
    }
    checkpoint.save(path, model, description=description)


def load_trained(path: str | os.PathLike[str], *, layers: Sequence[Callable[..., Any]] = ()) -> Trained:
    """Read it back: the net is built anew from its description, and no code of the file is run.

    `layers` are the constructors of your own parts in the file, of layers, initialisers and preprocessing, and your own
    functions: ``load_trained("model.safetensors", layers=[square])``. The error without them says which.

    >>> from tempfile import TemporaryDirectory
    >>> from funcnn.layers import dense
    >>> params, state, _ = dense(2).init(Key(0), (4,))
    >>> with TemporaryDirectory() as folder:
    ...     save_trained(f"{folder}/m.safetensors", Trained(dense(2), Model(params, state), (4,), ("cat", "dog")))
    ...     again = load_trained(f"{folder}/m.safetensors")
    >>> again.net, again.classes
    (dense(units=2), ('cat', 'dog'))

    Raises CheckpointError for a file that is damaged, holds something else, or has parts that `layers` lacks;
    FileNotFoundError if there is none; TypeError or LayerError for `layers` that are no constructors.
    """
    given = constructors(layers)
    layers = list(given.values())
    description = checkpoint.read_description(path)
    try:
        own = description.get("own", [])  # absent in files from before there were such parts
        if not set(own) <= set(given):
            raise CheckpointError(
                f"{path}: saved with parts of your own. Pass what makes them: "
                f"load_trained({str(path)!r}, layers=[{', '.join(own)}])"
            )
        net = rebuild(description["net"], layers=layers)
        in_shape = tuple(description["in_shape"])
        like = Model(*net.init(Key(0), in_shape, np.dtype(description["dtype"]))[:2])
        stored = description["preprocess"]
        preprocess = None if stored is None else rebuild(stored, kind="preprocessing", layers=layers)
        classes, about = tuple(description["classes"]), description["about"]
    except CheckpointError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: no trained net that can be rebuilt ({error}); expected a file that save_trained wrote, "
            f"as model.safetensors in the folder {Path(path).parent} of an experiment"
        ) from error
    return Trained(net, checkpoint.load(path, like), in_shape, classes, preprocess, about)


def probabilities(trained: Trained, stored: Array, *, batch_size: int = 256) -> Array:
    """The probability of each class for stored images (n, height, width, channels) -> (n, classes), rows of sum 1.

    Raises ValueError for images of another shape than the net was trained on.
    """
    if stored.shape[1:] != trained.in_shape:
        raise ValueError(
            f"probabilities: the net takes images of shape {trained.in_shape}, got {stored.shape[1:]}; "
            "resize them, or convert their channels"
        )
    starts = range(0, max(len(stored), 1), batch_size)
    take = trained.preprocess or (lambda images: images)
    parts = (take(stored[start : start + batch_size]) for start in starts)  # as floats only batch by batch
    logits = np.concatenate([predict(trained.net, trained.model, part, batch_size=batch_size) for part in parts])
    return softmax().apply(None, None, logits).y

"""A trained net in one file: its parameters, and everything that prediction needs to know about it."""

import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import attrs
import numpy as np

from funcnn import checkpoint, tree
from funcnn.checkpoint import CheckpointError
from funcnn.checks import as_array, size_of
from funcnn.data.handwriting import Prepare, check_prepare
from funcnn.data.preprocess import Preprocess
from funcnn.data.tables import as_inputs, is_frame
from funcnn.init import shapes_only
from funcnn.keys import Key
from funcnn.layer import Layer
from funcnn.layers import softmax
from funcnn.rebuild import constructors, own_parts, rebuild
from funcnn.settings import as_code, as_float, describe, is_number, refuse
from funcnn.system.text import call_text, cut
from funcnn.train import Batch, Model, TrainState, predict
from funcnn.tree import Array, Shape

__all__ = ["Trained", "familiar_logit", "load_trained", "logits_of", "probabilities", "save_trained"]

LARGEST = 2**26  # values of an example, in any layer of a net that is loaded: 1024 x 1024 pixels of 64 channels


def _check_familiar(instance: Any, attribute: Any, value: Any) -> None:
    if value is not None and not (is_number(value) and math.isfinite(value)):
        refuse("Trained", "familiar_logit", "a finite number, or None", value)


def _as_texts(names: Iterable[Any]) -> tuple[str, ...]:
    return tuple([str(each) for each in names])


@attrs.frozen(eq=False, repr=False)
class Trained:
    """A net that gives logits, its parameters, what turns stored images into its inputs, the names of its classes.

    Names that are numbers become texts. `about` is any JSON data on how it came to be. `prepare` turns one raw image of
    any size (height, width, channels), as bytes, into a stored one of `in_shape`, as the training data were made; with
    None it is resized alone. `familiar_logit` is the least that the largest of an image's logits is to be if it is like
    the training data; the function of this name measures it. `funcnn.experiment.predict` asks both. `columns` names
    those of the DataFrame that it was trained on; one whose columns are others, or in another order, is refused then.

    >>> from funcnn import Key
    >>> from funcnn.layers import dense
    >>> params, state, _ = dense(2).init(Key(0), (4,))
    >>> Trained(dense(2), Model(params, state), (4,), ("cat", "dog")).classes
    ('cat', 'dog')

    Raises ValueError for a `prepare` that makes images of another shape, a `familiar_logit` that is not finite, or
    `columns` that are not as many as an example has features.
    """

    net: Layer
    model: Model | TrainState
    in_shape: Shape
    classes: tuple[str, ...] = attrs.field(converter=_as_texts)
    preprocess: Preprocess | None = None
    about: Any = None
    prepare: Prepare | None = attrs.field(default=None, validator=check_prepare)
    familiar_logit: float | None = attrs.field(default=None, converter=as_float, validator=_check_familiar)
    columns: tuple[str, ...] = attrs.field(default=(), converter=_as_texts)

    def __attrs_post_init__(self) -> None:
        if self.columns and self.in_shape != (len(self.columns),):
            refuse("Trained", "columns", f"names of the features of an example {self.in_shape}", self.columns)

    def __repr__(self) -> str:
        long = {"preprocess": cut(as_code(self.preprocess), 30), "about": cut(repr(self.about), 60)}
        long["prepare"] = as_code(self.prepare)
        values = {field.name: tree.brief(getattr(self, field.name)) for field in attrs.fields(Trained)}
        return call_text("Trained", values | long)


def save_trained(path: str | os.PathLike[str], trained: Trained) -> None:
    """Write it to a safetensors file, which appears whole or not at all.

    The file names your own parts in it (layers, initialisers, preprocessing, preparation), which `load_trained` must be
    given.

    Raises LayerError for a part that could never be read again, such as a lambda; OSError if it cannot be written.
    """
    own = own_parts(layer=trained.net, preprocessing=trained.preprocess, preparation=trained.prepare)
    model = Model(trained.model.params, trained.model.state)
    dtypes = [str(leaf.dtype) for leaf in tree.flatten(model) if leaf.dtype.kind == "f"]
    description = {
        "net": describe(trained.net),
        "in_shape": describe(tuple(trained.in_shape)),
        "dtype": dtypes[0] if dtypes else "float32",
        "classes": list(trained.classes),
        "preprocess": describe(trained.preprocess),
        "prepare": describe(trained.prepare),
        "familiar_logit": trained.familiar_logit,
        "columns": list(trained.columns),
        "own": own,
        "about": trained.about,
    }
    checkpoint.save(path, model, description=description)


def load_trained(
    path: str | os.PathLike[str], *, layers: Sequence[Callable[..., Any]] = (), largest: int = LARGEST
) -> Trained:
    """Read it back: the net is built anew from its description, and no code of the file is run.

    `layers` are your own parts in the file, their constructors or functions: ``load_trained(path, layers=[square])``.
    Without them, the error says which. `largest` is the most values that an example may have in any layer, so that a
    small file cannot ask for all memory.

    >>> from tempfile import TemporaryDirectory
    >>> from funcnn.layers import dense
    >>> params, state, _ = dense(2).init(Key(0), (4,))
    >>> with TemporaryDirectory() as folder:
    ...     save_trained(f"{folder}/m.safetensors", Trained(dense(2), Model(params, state), (4,), ("cat", "dog")))
    ...     again = load_trained(f"{folder}/m.safetensors")
    >>> again.net, again.classes
    (dense(units=2), ('cat', 'dog'))

    Raises CheckpointError for a file that is damaged, holds something else, or has parts that `layers` lacks;
    FileNotFoundError without a file; TypeError or LayerError for `layers` that are no constructors.
    """
    given = constructors(layers)
    description = checkpoint.read_description(path)
    with _reading(path, "description"):
        if not isinstance(description, dict):
            raise ValueError("it describes no net, as a checkpoint that was saved without a description")
        fields = ("net", "in_shape", "dtype", "classes", "preprocess", "about")
        missing = [each for each in fields if each not in description]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
    with _reading(path, "own"):
        own = _list(description.get("own", []), str)  # absent in files from before there were such parts
    if not set(own) <= set(given):
        raise CheckpointError(
            f"{path}: saved with parts of your own. Pass what makes them: "
            f"load_trained({str(path)!r}, layers=[{cut(', '.join(own), 200)}])"
        )
    with _reading(path, "net"):
        net = rebuild(description["net"], layers=list(given.values()))
    with _reading(path, "in_shape"):
        in_shape = _shape(description["in_shape"])
        _check_sizes(path, net, in_shape, largest)
    with _reading(path, "dtype"):
        dtype = _float(description["dtype"])
    # The file must have such arrays before any takes its memory. Zeros stand for them, whatever an init makes of them.
    with _reading(path, "net"), shapes_only(), np.errstate(all="ignore"):
        like = Model(*net.init(Key(0), in_shape, dtype)[:2])
    with _reading(path, "preprocess"):
        stored = description["preprocess"]
        preprocess = None if stored is None else rebuild(stored, kind="preprocessing", layers=list(given.values()))
        if stored is not None and given.keys().isdisjoint((stored.get("name"), stored.get("function"))):
            _check_preprocess(preprocess, in_shape)
    with _reading(path, "prepare"):  # absent, as the next, in files from before there were such
        stored = description.get("prepare")
        prepare = None if stored is None else rebuild(stored, kind="preparation", layers=list(given.values()))
        of_library = stored is not None and given.keys().isdisjoint((stored.get("name"), stored.get("function")))
        if of_library and getattr(prepare, "out_shape", None) != in_shape:  # another part of the library has none
            raise ValueError(f"{cut(as_code(prepare), 100)} does not make images of shape {in_shape}")
    with _reading(path, "familiar_logit"):
        familiar = description.get("familiar_logit")
        _check_familiar(None, None, familiar)
    with _reading(path, "classes"):
        classes = _list(description["classes"], str, int, float)
    with _reading(path, "columns"):
        columns = _list(description.get("columns", []), str)
        if columns and in_shape != (len(columns),):
            raise ValueError(f"{len(columns):,} columns of examples of shape {in_shape}")
    model = checkpoint.load(path, like)
    return Trained(net, model, in_shape, classes, preprocess, description["about"], prepare, familiar, columns)


@contextmanager
def _reading(path: Any, field: str) -> Iterator[None]:
    """Say what goes wrong in the block of a field of the file: for wild arguments, a constructor may raise anything."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path}: no trained net that can be rebuilt ({field}: {cut(str(error), 400) or type(error).__name__}); "
            f"expected a file that save_trained wrote, as model.safetensors in the folder {Path(path).parent} of an "
            "experiment"
        ) from error


def _list(value: Any, *kinds: type) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(each, kinds) for each in value):
        raise ValueError(f"expected a list of {' or '.join(each.__name__ for each in kinds)}, got {value!r}")
    return value


def _shape(value: Any) -> Shape:
    if isinstance(value, list) and 0 < len(value) <= 32 and all(isinstance(each, list) for each in value):
        return tuple([_shape(each) for each in value])  # type: ignore[misc]  # of several inputs
    sizes = value if isinstance(value, list) and len(value) <= 32 else [None]
    if not all(type(each) is int and 0 < each < 2**63 for each in sizes):
        raise ValueError(f"expected a list of at most 32 positive ints, got {value!r}")
    return tuple(value)


def _float(name: Any) -> str:
    if name not in ("float16", "float32", "float64"):
        raise ValueError(f"expected float16, float32 or float64, got {name!r}")
    return str(name)


def _check_preprocess(preprocess: Any, in_shape: Shape) -> None:
    """Raise unless this library's preprocessing takes examples of a shape; that shows with none of them."""
    with np.errstate(divide="raise", invalid="raise"):
        inputs = preprocess(np.zeros((0, *in_shape), np.uint8))
    if inputs.shape != (0, *in_shape):
        raise ValueError(f"{cut(as_code(preprocess), 100)} does not take examples of shape {in_shape}")


_PADDED = ("conv1d", "conv2d", "depthwise_conv2d", "max_pool2d", "avg_pool2d")


def _check_sizes(path: Any, net: Layer, in_shape: Shape, largest: int) -> None:
    """Raise CheckpointError for a layer in which an example has too many values, its padding included."""
    for layer, shape, out_shape in _walk(net, in_shape):
        values = max(size_of(shape), size_of(out_shape))
        if layer.name in _PADDED:
            geometry = cast(Any, layer.config).geometry(shape)
            values = max(values, math.prod(geometry.padded_size) * shape[-1])
        if values > largest:
            raise CheckpointError(
                f"{path}: {cut(repr(layer), 200)}: an example has {values:,} values there, more than the {largest:,} "
                f"of which a net is loaded. If you trust the file, pass largest={values}"
            )


def _walk(layer: Layer, in_shape: Any) -> Generator[tuple[Layer, Any, Any], None, Any]:
    """Each layer of a net, and the shapes of its input and output; of combinators, this library's alone are entered."""
    if layer.name not in _ENTERED or not layer.config.children:
        out_shape = layer.config.out_shape(in_shape)
        yield layer, in_shape, out_shape
        return out_shape
    shape = in_shape
    for i, child in enumerate(layer.config.children):
        made = yield from _walk(child, shape[i] if layer.name in ("branches", "carried") else shape)
        if layer.name == "dense_connections":
            made = (*shape[:-1], shape[-1] + made[-1])
        if layer.name not in ("parallel", "branches"):
            shape = made
    if layer.name in ("parallel", "branches", "carried"):
        shape = layer.config.out_shape(in_shape)
        yield layer, in_shape, shape
    return shape


_ENTERED = (
    "serial", "repeat", "parallel", "branches", "dense_connections", "residual", "chunked", "tied", "remat", "frozen",
    "carried",
)  # fmt: skip


def probabilities(trained: Trained, stored: Array, *, batch_size: int = 256) -> Array:
    """The probability of each class for stored images (n, height, width, channels) -> (n, classes), rows of sum 1.

    Rows of features (n, features) are taken as well, and the columns of a DataFrame, by position: give `Trained` their
    names, so that others are refused.

    >>> from funcnn import Key
    >>> from funcnn.layers import dense
    >>> params, state, _ = dense(2).init(Key(0), (4,))
    >>> trained = Trained(dense(2), Model(params, state), (4,), ("cat", "dog"))
    >>> zeros = np.zeros((1, 4), np.float32)
    >>> probabilities(trained, zeros).tolist(), logits_of(trained, zeros).tolist()
    ([[0.5, 0.5]], [[0.0, 0.0]])

    Raises ValueError for images of another shape, or columns of other names, than the net was trained on, what is no
    array of numbers, or a batch size that is no positive int.
    """
    shares: Array = softmax().apply(None, None, logits_of(trained, stored, batch_size=batch_size)).y
    return shares


def logits_of(trained: Trained, stored: Array, *, batch_size: int = 256) -> Array:
    """The logits of stored images (n, height, width, channels) -> (n, classes); raises as `probabilities`."""
    if is_frame(stored):  # its columns may have several dtypes, as those of a data set
        _check_columns(trained, stored)
        bare = trained.preprocess is None
        stored = as_inputs("probabilities", stored, None, numbers=bare, convert=bare)
    stored = as_array("probabilities", "stored", stored)
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        refuse("probabilities", "batch_size", "a positive int", batch_size)
    if stored.ndim == 0 or stored.shape[1:] != trained.in_shape:
        raise ValueError(
            f"probabilities: the net takes {_examples(trained.in_shape)} of shape {trained.in_shape}, got "
            f"{stored.shape[1:]}; "
            f"{_mend(stored.shape, trained.in_shape)}"
        )
    logits: Array = predict(trained.net, trained.model, _Images(stored, trained.preprocess), batch_size=batch_size)
    return logits


def familiar_logit(trained: Trained, stored: Array, *, share: float = 0.01) -> float | None:
    """What the largest logit of an image like these, stored (n, ...), exceeds in all but a share of them.

    Give it images that the net was not trained on, those to validate by. An image unlike what the net learned excites
    none of its classes as these do, whatever its probabilities are (Hendrycks, Basart and others, 2022, "Scaling
    out-of-distribution detection for real-world settings", their MaxLogit). None if the logits are not finite.

    >>> from funcnn.layers import dense
    >>> model = Model(*dense(3).init(Key(0), (4,))[:2])
    >>> trained = Trained(dense(3), model, (4,), ("a", "b", "c"))
    >>> same = np.ones((5, 4), np.float32)
    >>> familiar_logit(trained, same) == logits_of(trained, same).max().item()
    True

    Raises ValueError for no images, a share that is not from 0 to 1, and as `probabilities`.
    """
    if not (is_number(share) and 0 <= share <= 1):
        refuse("familiar_logit", "share", "from 0 to 1", share)
    logits = logits_of(trained, stored)
    if not len(logits):
        refuse("familiar_logit", "stored", "images, at least one", stored)
    largest = logits.max(axis=1)
    least = float(np.quantile(largest, share, method="lower"))
    return least if math.isfinite(least) else None


@attrs.frozen(eq=False)
class _Images:
    """Images, which become inputs only batch by batch."""

    images: Array
    preprocess: Preprocess | None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Any) -> Batch:
        images = self.images[index]
        return self.preprocess(images) if self.preprocess else images, images  # no targets: nobody asks for them


def _check_columns(trained: Trained, table: Any) -> None:
    its = tuple([str(each) for each in table.columns])
    if trained.columns and its != trained.columns:
        raise ValueError(
            f"probabilities: the columns are {cut(', '.join(its), 200)}, and the net was trained on "
            f"{cut(', '.join(trained.columns), 200)}. Pass those, in that order: table[list(trained.columns)]; what "
            "pd.get_dummies has not made of few rows, table.reindex(columns=trained.columns, fill_value=0)"
        )


def _examples(in_shape: Shape) -> str:
    return "images" if len(in_shape) == 3 else "examples"


def _mend(shape: Shape, in_shape: Shape) -> str:
    if shape == in_shape:
        return "give a single one a batch axis: stored[None]"
    if len(in_shape) == 1:
        return "give each the features that it was trained on, in their order"
    if shape[1:] == in_shape[:-1] and in_shape[-1:] == (1,):
        return "give them a channel axis: stored[..., None]"
    return "resize them, or convert their channels"

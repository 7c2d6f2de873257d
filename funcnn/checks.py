"""Errors that name the place, and the checks of arrays: the door for data, and what a layer is given."""

import math
from typing import Any

import numpy as np

from funcnn.keys import Key
from funcnn.settings import Described
from funcnn.system.devices import is_array, is_device_array
from funcnn.tree import Array, Shape, node

__all__ = [
    "NUMBERS", "Form", "FuncnnWarning", "LayerError", "ShapeError", "add_place", "as_array", "check_array", "check_dy",
    "check_dy_array", "check_float", "check_input", "check_key", "check_labels", "check_params", "check_residuals",
    "check_shape", "check_weight", "check_whole", "has_shape", "is_several", "range_of", "size_of",
]  # fmt: skip


class FuncnnWarning(UserWarning):
    """What goes on, and is probably not meant; ``warnings.simplefilter("ignore", FuncnnWarning)`` silences it."""


class LayerError(ValueError):
    """A layer that was misused; says where, what is wrong, and how to fix it.

    Combinators add their place at the front as the error passes outward (`add_place`), so that it reads
    ``serial[4] dense(units=10): ...``.
    """

    def __init__(self, place: str, problem: str, fix: str) -> None:
        super().__init__(place, problem, fix)
        self.places = [place]
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{' '.join(self.places)}: {self.problem}. {self.fix}"


class ShapeError(LayerError):
    """An array or an input shape of the wrong rank or size."""


def add_place(error: Exception, place: str) -> None:
    """Add a combinator's place to an error on its way outward; to a foreign error, as a note."""
    if isinstance(error, LayerError):
        error.places.insert(0, place)
    else:
        error.add_note(f"in {place}")


# --- The door: data sets, losses and metrics ------------------------------------------------------------------

NUMBERS = "biuf"  # the kinds of dtype that numbers have: bool, int, unsigned, float

_MEND = {
    "O": "Convert it: np.asarray({name}, dtype=np.float32), or np.int64 for labels",
    "U": "Number names by np.unique({name}, return_inverse=True)[1]; convert digits by np.asarray({name}, np.float32)",
    "c": "Pass {name}.real, or the real and the imaginary parts as channels",
}


def as_array(place: str, name: str, value: Any, *, kinds: str | None = NUMBERS) -> Array:
    """A value as a plain array of numbers, taken by position, where it is certain which numbers are meant.

    An array is passed on as it is; a list, a pandas Series or DataFrame, a tensor and an ``np.matrix`` are converted by
    ``np.asarray``, a matrix to the plain array of its rows. `kinds` are the kinds of dtype to accept, None for all.

    >>> as_array("here", "labels", [0, 1, 1])
    array([0, 1, 1])

    Raises ValueError, naming the place and the value, for masked values, objects, texts, complex numbers, dates,
    records, and lists of uneven lengths.
    """
    if type(value) is np.ndarray and (kinds is None or value.dtype.kind in kinds):
        return value
    if is_device_array(value):  # it stays where it is
        if kinds is not None and value.dtype.kind not in kinds:
            raise ValueError(_other_kind(place, name, value, value))
        return value  # type: ignore[no-any-return]
    _check_unmasked(f"{place}: {name}", name, value)
    try:
        array = np.asarray(value)
    except Exception as error:  # each library has its own: a tensor on a GPU, a list of uneven lengths
        raise ValueError(
            f"{place}: {name} is no array of numbers, NumPy refuses this {type(value).__name__}: {error}. "
            f"Pass a plain NumPy array; of a tensor, {name}.detach().cpu().numpy()"
        ) from error
    if kinds is not None and array.dtype.kind not in kinds:
        raise ValueError(_other_kind(place, name, value, array))
    return array


def _check_unmasked(place: str, name: str, value: Any) -> None:
    if isinstance(value, np.ma.MaskedArray) and (masked := int(np.ma.getmaskarray(value).sum())):
        raise ValueError(
            f"{place} has {masked} masked values of {value.size}, which a net would take for numbers. "
            f"Fill them, np.ma.filled({name}, 0), or leave those examples out"
        )


def _other_kind(place: str, name: str, value: Any, array: Array) -> str:
    kind = "U" if array.dtype.kind == "S" else array.dtype.kind
    if kind == "O" and array.ndim == 0:
        fix = f"Pass {name}.toarray()" if hasattr(value, "toarray") else "Pass an array, or a list of numbers"
        return f"{place}: {name} must be an array of numbers, got {type(value).__name__}. {fix}"
    if kind == "O" and array.size and isinstance(array.flat[0], str):  # pandas keeps names as objects
        kind = "U"
    fix = _MEND.get(kind, "Convert it to plain numbers").format(name=name)
    return f"{place}: {name} must be numbers, got {type(value).__name__} of dtype {array.dtype}. {fix}"


def check_labels(place: str, labels: Array, n: int, classes: int) -> None:
    """Raise ValueError unless `labels` are `n` class numbers below `classes`."""
    if labels.dtype.kind not in "iu":
        raise ValueError(
            f"{place}: labels must be class numbers of an integer dtype, got {labels.dtype}. "
            "Convert them: labels.astype(np.int64)"
        )
    if labels.shape != (n,):
        fix = ". Pass labels[:, 0]" if labels.shape == (n, 1) else ""
        raise ValueError(f"{place}: expected labels of shape ({n},), one for each output row, got {labels.shape}{fix}")
    low, high = range_of(labels)
    if low < 0 or high >= classes:
        raise ValueError(
            f"{place}: labels must be from 0 to {classes - 1}, got {low} to {high}. "
            f"Number the classes from 0, and give the net at least {high - min(low, 0) + 1} outputs"
        )


# --- What a layer is given: constant work, at every step -------------------------------------------------------


def check_input(
    settings: Described, x: Array, shape: tuple[int | None, ...], dtype: Any, weight: Array | None = None
) -> None:
    """Raise unless `x` is a batch of examples of a shape (None: any size) and has the params' dtype.

    `weight` is the parameter that the shape follows from: it may be the one that is wrong.
    """
    if type(x) is not np.ndarray:
        check_array(settings, x, dtype)
    batch = x.shape
    fits = batch[1:] == shape and x.ndim > 0
    if not fits and len(batch) == len(shape) + 1:
        fits = True
        for want, have in zip(shape, batch[1:], strict=True):  # runs for every layer at every step: no calls
            fits = fits and (want is None or want == have)
    if not fits:
        wanted = ", ".join(["n", *("any" if size is None else str(size) for size in shape)])
        raise ShapeError(
            repr(settings), f"expected an input of shape ({wanted}), got {x.shape}", _mend_shape(x.shape, shape, weight)
        )
    if x.dtype != dtype:
        raise LayerError(
            repr(settings),
            f"expected an input of dtype {dtype} like the parameters, got {x.dtype}",
            _mend_dtype(x, dtype),
        )


def check_float(settings: Described, x: Array) -> None:
    """Raise unless `x` is a batch of floats."""
    if type(x) is not np.ndarray:
        check_array(settings, x, np.dtype(np.float32))
    if x.dtype.kind != "f" or not x.dtype.isnative:
        raise LayerError(
            repr(settings), f"expected an input of floats, got dtype {x.dtype}", _mend_dtype(x, np.dtype(np.float32))
        )
    if x.ndim == 0:
        raise ShapeError(repr(settings), "expected a batch of examples, got a single number", "Pass x[None]")


def check_whole(settings: Described, x: Array, vocabulary: int | None = None) -> None:
    """Raise unless `x` is a batch of whole numbers, and they are below the vocabulary, if there is one.

    To look at them costs less than to use them, and NumPy would take -1 for the last.
    """
    if type(x) is not np.ndarray:
        check_array(settings, x, np.dtype(np.int64))
    if x.dtype.kind not in "iu" or not x.dtype.isnative:
        raise LayerError(
            repr(settings), f"expected an input of whole numbers, got dtype {x.dtype}", "Convert it: x.astype(np.int64)"
        )
    if x.ndim == 0:
        raise ShapeError(repr(settings), "expected a batch of examples, got a single number", "Pass x[None]")
    if vocabulary is not None:
        low, high = range_of(x)
        if low < 0 or high >= vocabulary:
            raise LayerError(
                repr(settings),
                f"expected whole numbers from 0 to {vocabulary - 1}, got {low} to {high}",
                f"Number what they stand for from 0, with a vocabulary of at least {high - min(low, 0) + 1}",
            )


def range_of(values: Array) -> tuple[int, int]:
    """The smallest and the largest of whole numbers; (0, 0) of none, and of a device's, where to look is to wait.

    >>> range_of(np.array([3, -1]))
    (-1, 3)
    """
    if not values.size or (type(values) is not np.ndarray and is_device_array(values)):
        return 0, 0
    return int(np.minimum.reduce(values, None)), int(np.maximum.reduce(values, None))  # what `min` and `max` call


def check_array(settings: Described, x: Array, dtype: Any) -> None:
    """Raise unless `x` is a plain array, and suggest a dtype.

    A subclass may compute by rules of its own: a matrix multiplies, a masked array leaves values out.
    """
    if isinstance(x, np.memmap) or is_device_array(x):
        return
    if isinstance(x, tuple):
        problem, fix = (
            f"expected one array as input, got a tuple of {len(x)}",
            'Put join("concat") before it, or pass one',
        )
        raise LayerError(repr(settings), problem, fix)
    if not isinstance(x, np.ndarray):
        raise LayerError(
            repr(settings), f"expected a NumPy array, got {type(x).__name__}", f"Convert it: np.asarray(x, np.{dtype})"
        )
    if type(x) is not np.ndarray:
        _check_unmasked(f"{settings!r}: its input", "x", x)
        raise LayerError(
            repr(settings),
            f"expected a plain NumPy array, got {type(x).__name__}, which has rules of its own",
            "Convert it: np.asarray(x)",
        )


def check_dy(settings: Described, dy: Array, shape: tuple[int, ...], dtype: Any = None) -> None:
    """Raise unless `dy` has the shape of the output that it is the gradient of (and its dtype, if that is known)."""
    if type(dy) is not np.ndarray:
        check_dy_array(repr(settings), dy)
    if dy.shape != shape or (dtype is not None and dy.dtype != dtype):
        raise ShapeError(
            repr(settings),
            f"expected dy of shape {shape}{f' and dtype {dtype}' if dtype is not None else ''} like the output, "
            f"got {dy.shape} and {dy.dtype}",
            "Pass the gradient in this layer's own output, and the residuals of the same batch",
        )


def check_dy_array(place: str, dy: Any) -> None:
    """Raise unless `dy` is a plain array; what a loss gives is told apart."""
    if is_array(dy) or isinstance(dy, np.memmap):
        return
    if isinstance(dy, (float, np.floating, tuple)):
        got = "a tuple" if isinstance(dy, tuple) else f"the number {dy}"
        raise LayerError(
            place,
            f"expected dy, the gradient of the output, got {got}",
            "Pass the second value that a loss gives: value, dy = loss(y, targets)",
        )
    raise LayerError(
        place, f"expected dy to be a plain NumPy array, got {type(dy).__name__}", "Convert it: np.asarray(dy, y.dtype)"
    )


def check_params(settings: Described, params: Any, kind: type) -> None:
    """Raise unless params are of the class that the layer's init gives."""
    if not isinstance(params, kind):
        raise LayerError(
            repr(settings),
            f"expected its params to be {kind.__name__}(...), got {type(params).__name__}",
            "Pass the params that this layer's own init gave",
        )


def has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether a value is a plain array of a shape."""
    return (type(value) is np.ndarray or is_device_array(value)) and value.shape == shape


def check_weight(settings: Described, name: str, value: Array, shape: tuple[int | None, ...]) -> None:
    """Raise unless a parameter is an array of the shape that the settings give it (None: any size).

    `has_shape` asks the same of a shape without None, in less time.
    """
    plain = is_array(value) or type(value) is np.memmap
    if plain and len(value.shape) == len(shape):
        fits = [want is None or want == have for want, have in zip(shape, value.shape, strict=True)]
        if all(fits):
            return
    got = f"{value.shape}" if plain else type(value).__name__
    wanted = ", ".join("any" if size is None else str(size) for size in shape) + ("," if len(shape) == 1 else "")
    raise ShapeError(
        repr(settings),
        f"expected its {name} to have the shape ({wanted}), got {got}",
        "Pass the params that this layer's own init gave, or put in arrays of their shapes",
    )


def check_key(settings: Described, key: Key | None) -> Key:
    """The key, or an error that shows the corrected call."""
    if key is None:
        raise LayerError(
            repr(settings),
            "training draws random numbers and needs a key, got key=None",
            "Call apply(params, state, x, key=Key(0), train=True), with a fresh key for every step",
        )
    return key


@node
class Form:
    """The residuals of a layer whose backward needs nothing else: the form of its input, which tells that of dy."""

    shape: tuple[int, ...]
    dtype: Any


def check_residuals(settings: Described, residuals: Any, kind: type = object) -> Any:
    """The residuals, or an error that says how to get them; one too for those of a layer that keeps another kind."""
    if residuals is None:
        raise LayerError(
            repr(settings),
            "backward needs the residuals of a training pass, got None",
            "Call apply(params, state, x, key=key, train=True) and pass on its residuals",
        )
    if not isinstance(residuals, kind) and not (kind is np.ndarray and is_device_array(residuals)):
        raise LayerError(
            repr(settings),
            f"expected residuals of its own, a value of class {kind.__name__}, got {type(residuals).__name__}",
            "Pass on the residuals that this layer's own apply gave",
        )
    return residuals


def check_shape(settings: Described, in_shape: Any) -> Shape:
    """An example's shape as a tuple of ints, or as a tuple of such for several inputs; raises unless it is one."""
    if not isinstance(in_shape, (tuple, list)):
        number = isinstance(in_shape, (int, np.integer)) and not isinstance(in_shape, bool)
        raise ShapeError(
            repr(settings),
            f"expected in_shape, an example's shape, to be a tuple, got {in_shape!r}",
            f"Pass ({in_shape},)" if number else "Pass x.shape[1:]",
        )
    if is_several(in_shape):
        return tuple([check_shape(settings, each) for each in in_shape])  # type: ignore[misc]
    for size in in_shape:
        whole = type(size) is int or isinstance(size, np.integer)
        if not whole or size < 0:
            raise ShapeError(
                repr(settings), f"expected in_shape to be of ints, none negative, got {in_shape}", "Pass x.shape[1:]"
            )
    return tuple(map(int, in_shape))


def is_several(shape: Any) -> bool:
    """Whether a shape is a tuple of shapes, that of several inputs or outputs.

    >>> is_several(((28, 28, 1), (10,))), is_several((10,)), is_several(())
    (True, False, False)
    """
    return len(shape) > 0 and isinstance(shape[0], (tuple, list))


def size_of(shape: Any) -> int:
    """The numbers in an example of a shape, or of a tuple of shapes.

    >>> size_of((28, 28, 1)), size_of(((28, 28, 1), (10,)))
    (784, 794)
    """
    return sum(map(size_of, shape)) if is_several(shape) else math.prod(shape)


# --- Advice ---------------------------------------------------------------------------------------------------


def _mend_dtype(x: Array, dtype: Any) -> str:
    if x.dtype == np.uint8:  # an image's bytes; a net that was trained on 0 to 1 would take 0 to 255 without a word
        return f"Convert and scale it, as rescale(255) of funcnn.data does: x.astype(np.{dtype}) / 255"
    return f"Convert it: x.astype(np.{dtype})"


def _mend_shape(got: tuple[int, ...], shape: tuple[int | None, ...], weight: Array | None) -> str:
    """What turns an input of a shape into a batch of examples of another, if that is plain to see."""

    def fits(axes: tuple[int, ...]) -> bool:
        return len(axes) == len(shape) and all(want in (None, have) for want, have in zip(shape, axes, strict=True))

    if fits(got):
        return "Add the batch axis: x[None]"
    if got and fits((*got[1:], 1)):
        return "Add the channel axis: x[..., None]"
    if fits((*got, 1)):
        return "Add the batch axis and the channel axis: x[None, ..., None]"
    if len(got) == 4 and fits((got[2], got[3], got[1])):
        return "Put the channels last: x.transpose(0, 2, 3, 1)"
    if len(shape) == 1 and len(got) > 2 and shape[0] == int(np.prod(got[1:])):
        return "Put flatten() before it"
    params = "" if weight is None else f", and the params that it gave (one here is of shape {weight.shape})"
    return f"Pass a batch of examples of the shape that init was given{params}"

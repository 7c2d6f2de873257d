"""Optimizers that look at the loss of other params: L-BFGS by line searches, sharpness-aware steps.

They need the loss of a batch as a function of the params (`Optimizer.update`), which `funcnn.train` passes.
"""

import math
from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn import tree
from funcnn.arrays.updates import moment_dtype, squared_norm
from funcnn.optimizers.optimizer import LossAt, Optimizer, Wrapping, check_optimizer, make_optimizer, unchanged
from funcnn.optimizers.rule import check_gradients, foreign_state, global_norm
from funcnn.settings import Described, check_positive, config, count, number, refuse
from funcnn.tree import Array, node

__all__ = ["History", "lbfgs", "sharpness_aware"]


def sharpness_aware(optimizer: Optimizer, rho: float = 0.05) -> Optimizer:
    """A step of an optimizer by the gradient at w + rho · g / ‖g‖, the norm over all leaves (Foret et al. 2021).

    It seeks params around which the loss is low. Each step takes two gradients of its batch, and so twice the time.
    What batch norm counts is what it sees at w. The state is the optimizer's.

    >>> from funcnn.optimizers import sgd
    >>> def loss(params):  # w², whose gradient is 2 w
    ...     return float(params[0][0] ** 2), (2 * params[0],)
    >>> optimizer, params = sharpness_aware(sgd(0.1), rho=0.5), (np.ones(1),)
    >>> value, grads = loss(params)
    >>> optimizer.update(grads, None, params, 0, value=value, loss=loss)[0]
    (array([0.7]),)

    Raises ValueError for what is no optimizer, and for a rho that is not positive; TypeError, in ``update``, without
    the loss.
    """
    return make_optimizer(_SharpnessAware(optimizer, rho), _sharpness_aware_update, _sharpness_aware_init)


def lbfgs(memory: int = 10, *, c1: float = 1e-4, c2: float = 0.9, searches: int = 25) -> Optimizer:
    """w' = w - t · H g, H an approximation of the inverse Hessian, t by a line search (Liu & Nocedal 1989).

    H follows from the last `memory` changes of w and of g by the two-loop recursion, and t from a search, by cubic
    interpolation, for the strong Wolfe conditions: for p = -H g the loss falls by at least c1 · t · |g·p|, and
    |g'·p| <= c2 · |g·p| (Nocedal & Wright 2006, algorithms 7.4, 3.5 and 3.6). The search looks at `searches` points at
    most, and takes the best if none will do; where the loss falls nowhere, w stays and H is forgotten. Changes along
    which g does not grow are left out.

    For small data and the whole of it as one batch, since H is that of one loss: ``train(problem, state, data,
    epochs=100, batch_size=len(data.train))``, a net without dropout or augmentation. A step takes one gradient for the
    params it begins with and usually one for those it ends with. There is no learning rate; the one reported is 1. The
    state is `History`.

    >>> def loss(params):  # the ellipse x² + 10 y²
    ...     scales = np.array([1.0, 10.0])
    ...     return float(scales @ params[0] ** 2), (2 * scales * params[0],)
    >>> optimizer, params = lbfgs(), (np.array([3.0, 1.0]),)
    >>> opt_state = optimizer.init(params)
    >>> for step in range(8):
    ...     value, grads = loss(params)
    ...     params, opt_state = optimizer.update(grads, opt_state, params, step, value=value, loss=loss)
    >>> loss(params)[0] < 1e-10
    True

    Raises ValueError for a memory or a number of searches below 1, and unless 0 < c1 < c2 < 1; TypeError, in
    ``update``, without the loss.
    """
    return make_optimizer(_Lbfgs(memory, c1, c2, searches), _lbfgs_update, _lbfgs_init)


# --- Sharpness-aware ------------------------------------------------------------------------------------------


@config
class _SharpnessAware(Wrapping):
    name: ClassVar[str] = "sharpness_aware"
    asks_loss: ClassVar[bool] = True
    elementwise: ClassVar[bool] = False
    optimizer: Any = attrs.field(validator=check_optimizer)
    rho: float = number(check_positive, default=0.05)

    def inner(self, opt_state: Any) -> Any:
        return opt_state

    def within(self, opt_state: Any, inner: Any) -> Any:
        return inner


def _sharpness_aware_init(settings: _SharpnessAware, params: Any) -> Any:
    return settings.optimizer.init(params)


def _sharpness_aware_update(
    settings: _SharpnessAware, grads: Any, opt_state: Any, params: Any, step: int, *, value: float, loss: LossAt
) -> tuple[Any, Any]:
    check_gradients(params, grads)
    norm = global_norm(grads)
    asked: dict[str, Any] = {"value": value, "loss": loss} if settings.optimizer.asks_loss else {}
    if norm > 0:
        length = settings.rho / norm
        _, grads = loss(tree.map(lambda leaf, g: (leaf + length * g).astype(leaf.dtype, copy=False), params, grads))
    return settings.optimizer.update(grads, opt_state, params, step, **asked)  # type: ignore[no-any-return]


# --- L-BFGS ---------------------------------------------------------------------------------------------------


@node
class History:
    """The state of L-BFGS: the last changes of the params and of the gradient, a row for each, and how many there are.

    The oldest comes first.
    """

    moves: Any
    changes: Any
    count: Any


def _check_between(instance: Any, attribute: Any, value: float) -> None:
    check_positive(instance, attribute, value)
    if not value < 1:
        refuse(instance.name, attribute.name, "less than 1", value)


@config
class _Lbfgs(Described):
    name: ClassVar[str] = "lbfgs"
    asks_loss: ClassVar[bool] = True
    memory: int = count(default=10)
    c1: float = number(_check_between, default=1e-4)
    c2: float = number(_check_between, default=0.9)
    searches: int = count(default=25)

    def __attrs_post_init__(self) -> None:
        if not self.c1 < self.c2:
            refuse(self.name, "c1", f"less than c2 ({self.c2})", self.c1)

    def learning_rate(self, step: int) -> float:
        return 1.0

    def scaled(self, factor: float) -> "_Lbfgs":
        raise TypeError("lbfgs: it has no rate to scale, its line search finds the length of each step")


def _vector(values: Any) -> Array:
    """All numbers of a tree, one after the other."""
    leaves = [leaf.astype(moment_dtype(leaf), copy=False).reshape(-1) for leaf in tree.flatten(values)]
    return np.concatenate(leaves) if leaves else np.zeros(0, np.float32)


def _tree_of(vector: Array, like: Any) -> Any:
    made, end = [], 0
    for leaf in tree.flatten(like):
        start, end = end, end + leaf.size
        made.append(tree.read_only(vector[start:end].astype(leaf.dtype).reshape(leaf.shape)))
    return tree.unflatten(like, made)


def _lbfgs_init(settings: _Lbfgs, params: Any) -> History:
    vector = _vector(params)
    rows = [tree.read_only(np.zeros((settings.memory, vector.size), vector.dtype)) for _ in range(2)]
    return History(rows[0], rows[1], tree.read_only(np.zeros((), np.int64)))


def _direction(gradient: Array, moves: Array, changes: Array) -> Array:
    """-H g by the two-loop recursion, H's start the identity times s·y / y·y of the last change."""
    direction = -gradient
    products = [_dot(s, y) for s, y in zip(moves, changes, strict=True)]
    shares = []
    for s, y, product in zip(moves[::-1], changes[::-1], products[::-1], strict=True):
        shares.append(_dot(s, direction) / product)
        direction -= shares[-1] * y
    if products:
        direction *= products[-1] / squared_norm(changes[-1])
    for s, y, product, share in zip(moves, changes, products, shares[::-1], strict=True):
        direction += (share - _dot(y, direction) / product) * s
    return direction


def _dot(one: Array, other: Array) -> float:
    """The inner product, summed in float64 in one order."""
    return float(np.multiply(one, other, dtype=np.float64).sum())


def _lbfgs_update(
    settings: _Lbfgs, grads: Any, opt_state: Any, params: Any, step: int, *, value: float, loss: LossAt
) -> tuple[Any, History]:
    if not isinstance(opt_state, History):
        raise foreign_state(settings, opt_state)
    check_gradients(params, grads)
    start, gradient = _vector(params), _vector(grads)
    if np.shape(opt_state.moves) != (settings.memory, start.size):
        raise tree.TreeError(
            f"lbfgs: params has {start.size} numbers, the optimizer state has an array of shape "
            f"{np.shape(opt_state.moves)} for a memory of {settings.memory}"
        )
    known = slice(settings.memory - int(opt_state.count), None)  # the last rows
    moves, changes = opt_state.moves, opt_state.changes
    direction = _direction(gradient, moves[known], changes[known])
    slope = _dot(gradient, direction)
    if not slope < 0:  # forget what led there
        known, direction = slice(settings.memory, None), -gradient
        slope = _dot(gradient, direction)
    if not slope < 0 or not math.isfinite(slope):  # a stationary point
        return unchanged(params), opt_state
    first = 1.0 if int(opt_state.count) else min(1.0, 1 / float(np.abs(gradient).sum(dtype=np.float64)))
    search = _Search(settings, loss, params, start, direction, value, slope)
    best = search.run(first)
    if best is None:
        return unchanged(params), _lbfgs_init(settings, params)
    move, change = _vector(best.params) - start, best.gradient - gradient
    if _dot(move, change) > float(np.finfo(start.dtype).eps) * squared_norm(change):
        moves, changes = (
            tree.read_only(np.concatenate([rows[1:], row[None]])) for rows, row in ((moves, move), (changes, change))
        )
        used = min(settings.memory, len(range(settings.memory)[known]) + 1)
    else:
        used = len(range(settings.memory)[known])
    return best.params, History(moves, changes, tree.read_only(np.asarray(used, np.int64)))


@attrs.frozen
class _Point:
    """The loss at a length of step: its params, value, gradient, and slope along the direction."""

    length: float
    params: Any
    value: float
    gradient: Any
    slope: float


@attrs.define
class _Search:
    """A line search for the strong Wolfe conditions."""

    settings: _Lbfgs
    loss: LossAt
    params: Any
    start: Array
    direction: Array
    value: float
    slope: float
    left: int = 0

    def at(self, length: float) -> _Point:
        """The loss at a length of step."""
        self.left -= 1
        params = _tree_of(self.start + length * self.direction, self.params)
        try:
            value, grads = self.loss(params)
        except ArithmeticError:  # a loss that is not finite: too far
            return _Point(length, params, math.inf, None, math.inf)
        gradient = _vector(grads)
        return _Point(length, params, float(value), gradient, _dot(gradient, self.direction))

    def falls(self, point: _Point) -> bool:
        """Whether the loss has fallen enough."""
        return point.value <= self.value + self.settings.c1 * point.length * self.slope

    def flat(self, point: _Point) -> bool:
        """Whether the slope has become small."""
        return abs(point.slope) <= -self.settings.c2 * self.slope

    def run(self, length: float) -> _Point | None:
        """A point that meets both conditions, or else the best that has been seen; None if the loss falls nowhere."""
        self.left = self.settings.searches
        before = _Point(0.0, self.params, self.value, None, self.slope)
        while True:
            point = self.at(length)
            if (
                not math.isfinite(point.value)
                or not self.falls(point)
                or (before.length and point.value >= before.value)
            ):
                return self.zoom(before, point)
            if self.flat(point) or self.left <= 0:
                return point
            if point.slope >= 0:
                return self.zoom(point, before)
            length = min(max(_minimum(before, point, length * 4), 1.5 * length), 10 * length)
            before = point

    def zoom(self, low: _Point, high: _Point) -> _Point | None:
        """Such a point between two: the lower one falls enough, and its slope leads to the other."""
        while self.left > 0:
            width = high.length - low.length
            if abs(width) <= 1e-12 * max(abs(high.length), abs(low.length)):
                break
            middle = low.length + width / 2
            length = _minimum(low, high, middle)
            if abs(length - middle) > 0.4 * abs(width):  # too near an end to be sure of any progress
                length = (
                    middle
                    if not math.isfinite(length)
                    else min(max(length, middle - 0.4 * abs(width)), middle + 0.4 * abs(width))
                )
            point = self.at(length)
            if not self.falls(point) or point.value >= low.value:
                high = point
                continue
            if self.flat(point):
                return point
            if point.slope * width >= 0:
                high = low
            low = point
        return low if low.length else None


def _minimum(one: _Point, other: _Point, fallback: float) -> float:
    """Where the cubic through two points with these slopes has its minimum; the fallback where it has none."""
    values = (one.value, other.value, one.slope, other.slope)
    if not all(map(math.isfinite, values)) or one.length == other.length:
        return fallback
    width = other.length - one.length
    d1 = one.slope + other.slope - 3 * (other.value - one.value) / width
    square = d1 * d1 - one.slope * other.slope
    if square < 0:
        return fallback
    d2 = math.copysign(math.sqrt(square), width)
    bottom = other.slope - one.slope + 2 * d2
    return other.length - width * (other.slope + d2 - d1) / bottom if bottom else fallback

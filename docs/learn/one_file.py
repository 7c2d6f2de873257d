"""A neural-network library in one file, on NumPy alone.

Layers and their gradients, a loss, Adam, training. Each part is explained in 03_one_file.md,
in this order. `python one_file.py digits.npz` trains a convolutional net on digits.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Tree = Any  # an array, None, or a tuple of trees
Shape = tuple[int, ...]
Key = tuple[int, ...]
Initialised = tuple[Tree, Shape]  # params, out_shape
Applied = tuple[Array, Tree]  # y, residuals
Gradients = tuple[Tree, Array]  # gradients of the params, dx


class Layer(NamedTuple):
    """Three pure functions. A shape is an example's; arrays have the examples first."""

    init: Callable[[Key, Shape], Initialised]  # (key, in_shape)
    apply: Callable[[Tree, Array], Applied]  # (params, x)
    backward: Callable[[Tree, Tree, Array], Gradients]  # (params, residuals, dy)


def generator(key: Key) -> np.random.Generator:
    """A new generator of random numbers for a key: the same key, the same numbers."""
    return np.random.default_rng(np.random.SeedSequence(key[0], spawn_key=key[1:]))


# --- Dense ----------------------------------------------------------------------------------------------------


def dense(units: int) -> Layer:
    """y = x · weight + bias: (n, in) -> (n, units)."""
    return Layer(partial(dense_init, units), dense_apply, dense_backward)


def dense_init(units: int, key: Key, in_shape: Shape) -> Initialised:
    (features,) = in_shape
    weight = generator(key).normal(0, np.sqrt(2 / features), (features, units))
    return (weight, np.zeros(units)), (units,)


def dense_apply(params: Tree, x: Array) -> Applied:
    weight, bias = params
    return x @ weight + bias, x


def dense_backward(params: Tree, residuals: Tree, dy: Array) -> Gradients:
    weight, _ = params
    x = residuals
    return (x.T @ dy, dy.sum(axis=0)), dy @ weight.T


# --- Relu and flatten -----------------------------------------------------------------------------------------


def same_shape(key: Key, in_shape: Shape) -> Initialised:
    """The init of a layer without params that keeps the shape."""
    return None, in_shape


def relu() -> Layer:
    """y = max(x, 0)."""
    return Layer(same_shape, relu_apply, relu_backward)


def relu_apply(params: Tree, x: Array) -> Applied:
    y = np.maximum(x, 0)
    return y, y


def relu_backward(params: Tree, residuals: Tree, dy: Array) -> Gradients:
    return None, dy * (residuals > 0)


def flatten() -> Layer:
    """(n, height, width, channels) -> (n, height * width * channels)."""
    return Layer(flatten_init, flatten_apply, flatten_backward)


def flatten_init(key: Key, in_shape: Shape) -> Initialised:
    return None, (int(np.prod(in_shape)),)


def flatten_apply(params: Tree, x: Array) -> Applied:
    return x.reshape(len(x), -1), x.shape


def flatten_backward(params: Tree, residuals: Tree, dy: Array) -> Gradients:
    return None, dy.reshape(residuals)


# --- Convolution and pooling ----------------------------------------------------------------------------------


def conv2d(filters: int, size: int) -> Layer:
    """A dense layer on every patch of pixels: (n, h, w, channels) -> (n, h', w', filters)."""
    return Layer(partial(conv2d_init, filters, size), conv2d_apply, conv2d_backward)


def conv2d_init(filters: int, size: int, key: Key, in_shape: Shape) -> Initialised:
    height, width, channels = in_shape
    deviation = np.sqrt(2 / (size * size * channels))
    weight = generator(key).normal(0, deviation, (size, size, channels, filters))
    return (weight, np.zeros(filters)), (height - size + 1, width - size + 1, filters)


def shifts(size: int, height: int, width: int) -> Iterator[tuple[int, int, Any]]:
    """For each place in a patch: it, and the index of the pixels there in some patch."""
    for i in range(size):
        for j in range(size):
            yield i, j, np.s_[:, i : i + height, j : j + width]


def conv2d_apply(params: Tree, x: Array) -> Applied:
    weight, bias = params
    size = len(weight)
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    y = sum(x[pixels] @ weight[i, j] for i, j, pixels in shifts(size, height, width))
    return y + bias, x


def conv2d_backward(params: Tree, residuals: Tree, dy: Array) -> Gradients:
    weight, _ = params
    x = residuals
    dweight, dx = np.zeros_like(weight), np.zeros_like(x)
    for i, j, pixels in shifts(len(weight), dy.shape[1], dy.shape[2]):
        dweight[i, j] = np.tensordot(x[pixels], dy, axes=([0, 1, 2], [0, 1, 2]))
        dx[pixels] += dy @ weight[i, j].T
    return (dweight, dy.sum(axis=(0, 1, 2))), dx


def max_pool2d() -> Layer:
    """The largest of 2 x 2 pixels: (n, h, w, channels) -> (n, h / 2, w / 2, channels)."""
    return Layer(max_pool2d_init, max_pool2d_apply, max_pool2d_backward)


def max_pool2d_init(key: Key, in_shape: Shape) -> Initialised:
    height, width, channels = in_shape
    return None, (height // 2, width // 2, channels)


def max_pool2d_apply(params: Tree, x: Array) -> Applied:
    n, height, width, channels = x.shape
    height, width = height // 2, width // 2
    pairs = x.reshape(n, height, 2, width, 2, channels)
    windows = pairs.transpose(0, 1, 3, 5, 4, 2).reshape(n, height, width, channels, 4)
    place = windows.argmax(axis=-1)[..., None]  # of equal ones the first, by columns
    return np.take_along_axis(windows, place, axis=-1)[..., 0], place


def max_pool2d_backward(params: Tree, residuals: Tree, dy: Array) -> Gradients:
    n, height, width, channels = dy.shape
    windows = np.zeros((n, height, width, channels, 4), dy.dtype)
    np.put_along_axis(windows, residuals, dy[..., None], axis=-1)
    pairs = windows.reshape(n, height, width, channels, 2, 2).transpose(0, 1, 5, 2, 4, 3)
    return None, pairs.reshape(n, 2 * height, 2 * width, channels)


# --- One layer after the other --------------------------------------------------------------------------------


Layers = tuple[Layer, ...]


def serial(*layers: Layer) -> Layer:
    """The layers one after the other: a net, which is a layer too."""
    init, apply = partial(serial_init, layers), partial(serial_apply, layers)
    return Layer(init, apply, partial(serial_backward, layers))


def serial_init(layers: Layers, key: Key, in_shape: Shape) -> Initialised:
    params = []
    for i, layer in enumerate(layers):
        its_params, in_shape = layer.init((*key, i), in_shape)
        params.append(its_params)
    return tuple(params), in_shape


def serial_apply(layers: Layers, params: Tree, x: Array) -> Applied:
    residuals = []
    for layer, its_params in zip(layers, params, strict=True):
        x, its_residuals = layer.apply(its_params, x)
        residuals.append(its_residuals)
    return x, tuple(residuals)


def serial_backward(layers: Layers, params: Tree, residuals: Tree, dy: Array) -> Gradients:
    gradients = []
    for i in reversed(range(len(layers))):
        its_gradients, dy = layers[i].backward(params[i], residuals[i], dy)
        gradients.append(its_gradients)
    return tuple(reversed(gradients)), dy


# --- The loss -------------------------------------------------------------------------------------------------


def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """The mean of -log p[label], with p = softmax(logits), and its gradient in the logits."""
    n = len(labels)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    dlogits = np.exp(log_p)
    dlogits[np.arange(n), labels] -= 1
    return float(-log_p[np.arange(n), labels].mean()), dlogits / n


# --- Adam -----------------------------------------------------------------------------------------------------


def tree_map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """A function of each leaf, and of the leaves at the same place in other trees."""
    if tree is None:
        return None
    if isinstance(tree, tuple):
        return tuple(tree_map(function, *each) for each in zip(tree, *others, strict=True))
    return function(tree, *others)


Updated = tuple[Tree, Tree]  # params, opt_state


class Optimizer(NamedTuple):
    """Two pure functions."""

    init: Callable[[Tree], Tree]  # (params) -> opt_state
    update: Callable[[Tree, Tree, Tree, int], Updated]  # (gradients, opt_state, params, step)


class AdamSettings(NamedTuple):
    lr: float
    b1: float
    b2: float
    epsilon: float


def adam(lr: float, b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """Steps of about lr: a running mean of gradients, over the root of one of their squares."""
    return Optimizer(adam_init, partial(adam_update, AdamSettings(lr, b1, b2, epsilon)))


def adam_init(params: Tree) -> Tree:
    zeros = tree_map(np.zeros_like, params)
    return zeros, zeros


def adam_update(
    settings: AdamSettings,
    gradients: Tree,
    opt_state: Tree,
    params: Tree,
    step: int,
) -> Updated:
    lr, b1, b2, epsilon = settings
    mean, square = opt_state
    mean = tree_map(lambda m, g: b1 * m + (1 - b1) * g, mean, gradients)
    square = tree_map(lambda v, g: b2 * v + (1 - b2) * g * g, square, gradients)
    sum_m = 1 - b1 ** (step + 1)  # of the weights that all gradients so far have in the mean
    sum_v = 1 - b2 ** (step + 1)

    def moved(w: Array, m: Array, v: Array) -> Array:
        return w - lr * (m / sum_m) / (np.sqrt(v / sum_v) + epsilon)

    return tree_map(moved, params, mean, square), (mean, square)


# --- Training -------------------------------------------------------------------------------------------------


Batch = tuple[Array, Array]  # x, labels


class State(NamedTuple):
    """All that the next step depends on, but for the data."""

    params: Tree
    opt_state: Tree
    step: int
    seed: int


def init_state(net: Layer, optimizer: Optimizer, seed: int, in_shape: Shape) -> State:
    params, _ = net.init((seed, 0), in_shape)
    return State(params, optimizer.init(params), 0, seed)


Stepped = tuple[State, float]  # the state after a step, and the loss of its batch


def train_step(net: Layer, optimizer: Optimizer, state: State, batch: Batch) -> Stepped:
    x, labels = batch
    logits, residuals = net.apply(state.params, x)
    loss, dlogits = softmax_cross_entropy(logits, labels)
    gradients, _ = net.backward(state.params, residuals, dlogits)
    params, opt_state = optimizer.update(gradients, state.opt_state, state.params, state.step)
    return State(params, opt_state, state.step + 1, state.seed), loss


def train(
    net: Layer, optimizer: Optimizer, state: State, data: Batch, epochs: int, batch_size: int
) -> Iterator[Stepped]:
    """Steps from where the state is to the end of the last epoch."""
    x, labels = data
    per_epoch = -(-len(x) // batch_size)
    while state.step < epochs * per_epoch:
        epoch, place = divmod(state.step, per_epoch)
        order = generator((state.seed, 1, epoch)).permutation(len(x))
        chosen = order[place * batch_size : (place + 1) * batch_size]
        state, loss = train_step(net, optimizer, state, (x[chosen], labels[chosen]))
        yield state, loss


def accuracy(net: Layer, params: Tree, data: Batch) -> float:
    x, labels = data
    logits, _ = net.apply(params, x)
    return float((logits.argmax(axis=1) == labels).mean())


# --- Digits ---------------------------------------------------------------------------------------------------


def main(path: str) -> None:
    with np.load(path) as digits:  # images (1797, 8, 8) from 0 to 16, labels (1797,)
        images, labels = digits["images"], digits["labels"]
    order = generator((0, 2)).permutation(len(images))
    x, labels = images[order, ..., None] / 16, labels[order]
    data, test = (x[:1440], labels[:1440]), (x[1440:], labels[1440:])
    net = serial(conv2d(16, 3), relu(), max_pool2d(), flatten(), dense(64), relu(), dense(10))
    optimizer = adam(0.003)
    start = init_state(net, optimizer, 0, (8, 8, 1))
    losses = []
    for state, loss in train(net, optimizer, start, data, epochs=10, batch_size=32):
        losses.append(loss)
        if state.step % 45 == 0:  # 1,440 / 32 steps, an epoch
            epoch, mean = state.step // 45, np.mean(losses[-45:])
            share = accuracy(net, state.params, test)
            print(f"epoch {epoch:2}  loss {mean:.4f}  test accuracy {share:.4f}")


if __name__ == "__main__":
    main(sys.argv[1])

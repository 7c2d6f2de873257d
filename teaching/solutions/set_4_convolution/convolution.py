"""Problem set 4: convolution by strides. README.md has the tasks.

Images are (n, height, width, channels), kernels (size, size, channels, filters). There is no padding: a kernel lies
within the image. No function writes to its arguments.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from funcnn.losses import softmax_cross_entropy

Array = NDArray[Any]


# --- Task 1: windows as a view --------------------------------------------------------------------------------


def out_size(size: int, kernel: int, stride: int) -> int:
    """How many windows of `kernel` pixels there are along a side of `size` pixels, one every `stride` pixels."""
    # task 1
    return (size - kernel) // stride + 1


def windows(x: Array, size: int, stride: int = 1) -> Array:
    """Every window of size × size pixels, as a view: (n, h, w, c) -> (n, oh, ow, size, size, c).

        windows[n, i, j, k, l, c] = x[n, i · stride + k, j · stride + l, c]

    oh and ow are those of `out_size`. Nothing is copied, and the view is read-only. x may be a view itself, such as
    every second image of an array: take its strides from `x.strides`.
    """
    # task 1
    n, h, w, c = x.shape
    image, row, column, channel = x.strides
    shape = n, out_size(h, size, stride), out_size(w, size, stride), size, size, c
    return as_strided(x, shape, (image, row * stride, column * stride, row, column, channel), writeable=False)


# --- Task 2: forward ------------------------------------------------------------------------------------------


def conv_apply(weight: Array, bias: Array, x: Array, stride: int = 1) -> Array:
    """x (n, h, w, c), weight (size, size, c, filters), bias (filters,) -> y (n, oh, ow, filters), in x's dtype.

    y[n, i, j, f] = bias[f] + Σ_{k, l, c} windows[n, i, j, k, l, c] · weight[k, l, c, f]
    """
    # task 2
    y: Array = np.einsum("nijklc,klcf->nijf", windows(x, len(weight), stride), weight, optimize=True) + bias
    return y


# --- Task 3: the gradients of the params ----------------------------------------------------------------------


def conv_params_gradient(x: Array, dy: Array, size: int, stride: int = 1) -> tuple[Array, Array]:
    """x (n, h, w, c), dy (n, oh, ow, filters) -> (dweight, dbias): (size, size, c, filters) and (filters,).

    dy is the gradient of the loss in y; dweight and dbias are its gradients in the weight and the bias.
    """
    # task 3
    dweight = np.einsum("nijklc,nijf->klcf", windows(x, size, stride), dy, optimize=True)
    return dweight, dy.sum(axis=(0, 1, 2))


# --- Task 4: the gradient of the images -----------------------------------------------------------------------


def conv_input_gradient(dy: Array, weight: Array, in_size: tuple[int, int], stride: int = 1) -> Array:
    """dy (n, oh, ow, filters), weight (size, size, c, filters), in_size (h, w) -> dx (n, h, w, c).

    A pixel gets the sum over all windows that it lies in; one that lies in none gets 0.
    """
    # task 4
    size, _, channels, _ = weight.shape
    n, oh, ow, _ = dy.shape
    dx = np.zeros((n, *in_size, channels), dy.dtype)
    for k in range(size):
        for l in range(size):  # noqa: E741
            rows, columns = slice(k, k + oh * stride, stride), slice(l, l + ow * stride, stride)
            dx[:, rows, columns] += dy @ weight[k, l].T  # the cell under one tap is another pixel in each window
    return dx


# --- Task 5: max pooling --------------------------------------------------------------------------------------


def max_pool_apply(x: Array, size: int) -> tuple[Array, Any]:
    """The largest pixel of each size × size block, channel by channel: (n, h, w, c) -> (y, residuals).

    y (n, h / size, w / size, c); h and w are multiples of size, and the blocks do not overlap. The residuals are what
    `max_pool_backward` will need; what is in them is yours to choose.
    """
    # task 5
    n, h, w, c = x.shape
    oh, ow = h // size, w // size
    blocks = x.reshape(n, oh, size, ow, size, c).transpose(0, 1, 3, 5, 2, 4).reshape(n, oh, ow, c, size * size)
    winner = blocks.argmax(axis=-1)[..., None]
    return np.take_along_axis(blocks, winner, axis=-1)[..., 0], (winner, size)


def max_pool_backward(residuals: Any, dy: Array) -> Array:
    """dy (n, h / size, w / size, c) -> dx (n, h, w, c): dy at each block's largest pixel, and 0 at all others.

    Of several equal largest pixels, the first in reading order (row by row, from the left) gets all.
    """
    # task 5
    winner, size = residuals
    n, oh, ow, c = dy.shape
    blocks = np.zeros((n, oh, ow, c, size * size), dy.dtype)
    np.put_along_axis(blocks, winner, dy[..., None], axis=-1)
    blocks = blocks.reshape(n, oh, ow, c, size, size).transpose(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, oh * size, ow * size, c)


# --- Task 6: a convolutional net ------------------------------------------------------------------------------


class Params(NamedTuple):
    """kernel (3, 3, 1, filters), bias1 (filters,), weight (9 · filters, 10), bias2 (10,)."""

    kernel: Array
    bias1: Array
    weight: Array
    bias2: Array


def init(seed: int, filters: int = 8) -> Params:
    """Params of the net for the digits, which have 8 × 8 pixels: 6 × 6 after the kernel, 3 × 3 after the pool."""
    draw = np.random.default_rng(seed)
    kernel = draw.normal(0, np.sqrt(2 / 9), (3, 3, 1, filters))
    weight = draw.normal(0, np.sqrt(2 / (9 * filters)), (9 * filters, 10))
    return Params(kernel, np.zeros(filters), weight, np.zeros(10))


def net_apply(params: Params, x: Array) -> tuple[Array, Any]:
    """x (n, 8, 8, 1) -> (logits, residuals), logits (n, 10).

    Convolution by kernel and bias1 with stride 1, relu, max pooling of 2 × 2, flattened in the order in which NumPy
    reshapes, then · weight + bias2.
    """
    # task 6
    z = conv_apply(params.kernel, params.bias1, x)
    pooled, winners = max_pool_apply(np.maximum(z, 0), 2)
    features = pooled.reshape(len(x), -1)
    return features @ params.weight + params.bias2, (x, z, winners, pooled.shape, features)


def net_backward(params: Params, residuals: Any, dlogits: Array) -> Params:
    """dlogits (n, 10) -> the gradients of the params, as Params."""
    # task 6
    x, z, winners, pooled_shape, features = residuals
    dpooled = (dlogits @ params.weight.T).reshape(pooled_shape)
    dz = max_pool_backward(winners, dpooled) * (z > 0)
    kernel, bias1 = conv_params_gradient(x, dz, len(params.kernel))
    return Params(kernel, bias1, features.T @ dlogits, dlogits.sum(axis=0))


# --- See it work: python convolution.py -----------------------------------------------------------------------


def fit(params: Params, x: Array, labels: Array, *, epochs: int, lr: float = 0.1, batch_size: int = 32) -> Params:
    """The params after some epochs of descent with momentum 0.9 on softmax cross-entropy."""
    velocity = Params(*map(np.zeros_like, params))
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(len(x))
        for first in range(0, len(x), batch_size):
            batch = order[first : first + batch_size]
            logits, residuals = net_apply(params, x[batch])
            _, dlogits, *_ = softmax_cross_entropy(logits, labels[batch])
            gradients = net_backward(params, residuals, dlogits)
            velocity = Params(*[0.9 * v - lr * g for v, g in zip(velocity, gradients, strict=True)])
            params = Params(*[leaf + v for leaf, v in zip(params, velocity, strict=True)])
    return params


def accuracy(params: Params, x: Array, labels: Array) -> float:
    """The share of examples whose largest logit is that of their label."""
    logits, _ = net_apply(params, x)
    return float((logits.argmax(axis=1) == labels).mean())


def main() -> None:
    """Train the net of task 6 on the digits."""
    from funcnn.data import load

    data = load("digits")
    x, labels = data.train.take(slice(None))
    test = data.test.take(slice(None)) if data.test is not None else (x, labels)
    params = init(0)
    for epoch in range(8):
        params = fit(params, x, labels, epochs=1)
        print(f"epoch {epoch + 1}  train {accuracy(params, x, labels):.4f}  test {accuracy(params, *test):.4f}")


if __name__ == "__main__":
    main()

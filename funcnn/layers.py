"""Every layer constructor, by family; the layers themselves are in `funcnn.nn`.

Shapes in the docstrings carry the batch axis n; images are (n, height, width, channels).
"""

from funcnn.nn.activations import (
    elementwise,
    elu,
    gelu,
    identity,
    leaky_relu,
    relu,
    scale,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from funcnn.nn.batch_norm import batch_norm
from funcnn.nn.convolution import conv2d
from funcnn.nn.dense import dense, position_bias
from funcnn.nn.normalization import l2_normalize
from funcnn.nn.pools import avg_pool2d, global_avg_pool2d, max_pool2d
from funcnn.nn.reshape import flatten, reshape
from funcnn.nn.softmax import log_softmax, softmax
from funcnn.nn.stochastic import dropout, gaussian_noise

__all__ = [
    "avg_pool2d", "batch_norm", "conv2d", "dense", "dropout", "elementwise", "elu", "flatten", "gaussian_noise", "gelu",
    "global_avg_pool2d", "identity", "l2_normalize", "leaky_relu", "log_softmax", "max_pool2d", "position_bias", "relu",
    "reshape", "scale", "sigmoid", "silu", "softmax", "softplus", "tanh",
]  # fmt: skip

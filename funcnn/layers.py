"""Every layer constructor, by family; the layers themselves are in `funcnn.nn`.

Shapes in the docstrings carry the batch axis n; images are (n, height, width, channels).
"""

from funcnn.nn.activations import elementwise, identity, scale
from funcnn.nn.attention import cross_attention, self_attention
from funcnn.nn.batch_norm import batch_norm
from funcnn.nn.conv_transpose import conv_transpose2d
from funcnn.nn.convolution import conv2d
from funcnn.nn.dense import dense, position_bias
from funcnn.nn.depthwise import depthwise_conv2d, separable_conv2d
from funcnn.nn.embedding import embedding, position_embedding, sinusoidal_positions, unembedding
from funcnn.nn.gated import geglu, glu, maxout, swiglu
from funcnn.nn.group_norm import group_norm, instance_norm
from funcnn.nn.layer_norm import layer_norm, rms_norm
from funcnn.nn.normalization import l2_normalize
from funcnn.nn.one_dimension import conv1d, conv_transpose1d
from funcnn.nn.piecewise import (
    hard_shrink,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    leaky_relu,
    prelu,
    relu,
    relu6,
    soft_shrink,
)
from funcnn.nn.pools import avg_pool2d, global_avg_pool2d, global_max_pool2d, max_pool2d
from funcnn.nn.pools_1d import avg_pool1d, global_avg_pool1d, global_max_pool1d, max_pool1d
from funcnn.nn.recurrent import gru, lstm, rnn
from funcnn.nn.resample import crop2d, pixel_shuffle, pixel_unshuffle, upsample2d, zero_pad2d
from funcnn.nn.reshape import flatten, reshape
from funcnn.nn.smooth import (
    celu,
    elu,
    gelu,
    log_sigmoid,
    mish,
    selu,
    sigmoid,
    silu,
    softplus,
    softsign,
    tanh,
    tanh_shrink,
)
from funcnn.nn.softmax import log_softmax, softmax
from funcnn.nn.stochastic import (
    alpha_dropout,
    drop_path,
    dropout,
    gaussian_noise,
    gaussian_sample,
    spatial_dropout,
)
from funcnn.nn.transformer import transformer_block

__all__ = [
    "alpha_dropout", "avg_pool1d", "avg_pool2d", "batch_norm", "celu", "conv1d", "conv2d", "conv_transpose1d",
    "conv_transpose2d", "crop2d", "cross_attention", "dense", "depthwise_conv2d", "drop_path", "dropout", "elementwise",
    "elu", "embedding", "flatten", "gaussian_noise", "gaussian_sample", "geglu", "gelu", "global_avg_pool1d",
    "global_avg_pool2d", "global_max_pool1d", "global_max_pool2d", "glu", "group_norm", "gru", "hard_shrink",
    "hard_sigmoid", "hard_swish", "hard_tanh", "identity", "instance_norm", "l2_normalize", "layer_norm", "leaky_relu",
    "log_sigmoid", "log_softmax", "lstm", "max_pool1d", "max_pool2d", "maxout", "mish", "pixel_shuffle",
    "pixel_unshuffle", "position_bias", "position_embedding", "prelu", "relu", "relu6", "reshape", "rms_norm", "rnn",
    "scale", "self_attention", "selu", "separable_conv2d", "sigmoid", "silu", "sinusoidal_positions", "soft_shrink",
    "softmax", "softplus", "softsign", "spatial_dropout", "swiglu", "tanh", "tanh_shrink", "transformer_block",
    "unembedding", "upsample2d", "zero_pad2d",
]  # fmt: skip

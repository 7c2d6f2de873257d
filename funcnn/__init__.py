"""funcnn: neural networks as pure functions on NumPy arrays.

>>> from funcnn import Key, serial
>>> from funcnn.layers import dense, relu
>>> net = serial(dense(32), relu(), dense(10))
>>> params, state, out_shape = net.init(Key(0), (64,))
>>> out_shape
(10,)
"""

from funcnn.checks import LayerError, ShapeError
from funcnn.keys import Key, fold_in, generator, split
from funcnn.layer import Layer
from funcnn.nn.serial import serial

__all__ = ["Key", "Layer", "LayerError", "ShapeError", "__version__", "fold_in", "generator", "serial", "split"]

__version__ = "0.1.0"

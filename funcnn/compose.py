"""Every combinator: layers made of layers, with the same signature."""

from funcnn.nn.carried import carried
from funcnn.nn.dense_connections import dense_connections
from funcnn.nn.frozen import frozen
from funcnn.nn.joining import join
from funcnn.nn.parallel import branches, parallel
from funcnn.nn.remat import remat
from funcnn.nn.repeat import repeat
from funcnn.nn.serial import serial
from funcnn.nn.tied import tied
from funcnn.nn.wrapping import chunked, residual

__all__ = [
    "branches", "carried", "chunked", "dense_connections", "frozen", "join", "parallel", "remat", "repeat", "residual",
    "serial", "tied",
]  # fmt: skip

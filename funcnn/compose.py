"""Every combinator: layers made of layers, with the same signature."""

from funcnn.nn.parallel import parallel
from funcnn.nn.serial import serial
from funcnn.nn.wrapping import chunked, residual

__all__ = ["chunked", "parallel", "residual", "serial"]

"""Nets and weights from other libraries and for them: PyTorch's state dicts, ONNX files, arrays of your own."""

from funcnn.interop.from_onnx import from_onnx
from funcnn.interop.matching import WeightsError
from funcnn.interop.put import put
from funcnn.interop.to_onnx import to_onnx
from funcnn.interop.torch import from_torch, to_torch

__all__ = ["WeightsError", "from_onnx", "from_torch", "put", "to_onnx", "to_torch"]

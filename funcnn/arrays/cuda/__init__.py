"""Faster forms of the plain arithmetic for CuPy's arrays: kernels in CUDA C, in the files ``.cu`` beside the modules.

`funcnn.arrays.plain` asks a module here whether it `fits`, and computes by itself where it does not. What every module
does is said there and in `funcnn.arrays`; here is how a GPU does it fast. Arrays lie in C order, images as NHWC; sums
are always made in one order, so the same call gives the same bits. CuPy is imported when a kernel is first compiled.
"""

__all__: list[str] = []

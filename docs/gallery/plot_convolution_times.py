"""
Four ways to one convolution
============================

16 images of 26 × 26 × 32 and 64 kernels of 3 × 3, in float32 on one thread: an einsum over the view of the windows;
one product of a copy of all windows; products of overlapping views, with images row after row in memory; Winograd's
tiles. All give the same numbers but for rounding. Each is timed in turn with the others; the bars are medians of nine
turns.
"""

import time

import numpy as np
from _save import BLUE, INK, save, subplots

from funcnn import conv_strided
from funcnn.arrays import conv_rows, conv_winograd
from funcnn.arrays.geometry import geometry
from funcnn.arrays.layout import images
from funcnn.arrays.threads import single_blas_thread, single_thread

rng = np.random.default_rng(0)
geo = geometry((26, 26), (3, 3), (1, 1), (1, 1), "valid")
by_image = rng.standard_normal((16, 26, 26, 32), np.float32)  # image after image
by_row = images(np.ascontiguousarray(by_image.transpose(1, 3, 2, 0)))  # the same values, row after row
weight = rng.standard_normal((3, 3, 32, 64), np.float32)


def copied_windows(x, weight, geo):
    """One product: (every window, 3 · 3 · 32) · (3 · 3 · 32, 64)."""
    matrix = conv_strided.windows(x, geo).reshape(-1, 3 * 3 * 32)
    return (matrix @ weight.reshape(-1, 64)).reshape(16, 24, 24, 64)


ways = {
    "einsum of the windows": (conv_strided.conv_forward, by_image),
    "windows copied, one product": (copied_windows, by_image),
    "rows: windows as views": (conv_rows.conv_forward, by_row),
    "rows, and Winograd's tiles": (conv_winograd.conv_forward, by_row),
}
with single_thread(), single_blas_thread():
    results = [way(x, weight, geo) for way, x in ways.values()]
    samples = np.empty((9, len(ways)))
    for turn in samples:
        for which, (way, x) in enumerate(ways.values()):
            start = time.perf_counter()
            way(x, weight, geo)
            turn[which] = 1000 * (time.perf_counter() - start)
assert all(np.allclose(result, results[0], atol=1e-3) for result in results)
times = np.median(samples, axis=0)
for name, milliseconds in zip(ways, times, strict=True):
    print(f"{name:30} {milliseconds:8.1f} ms")

figure, axes = subplots(height=2.3)
axes.barh(list(ways), times, color=BLUE)
axes.set(xlim=(0, 1.15 * times.max()), xlabel="milliseconds")
axes.invert_yaxis()
for place, milliseconds in enumerate(times):
    axes.text(milliseconds, place, f" {milliseconds:.1f}", va="center", color=INK)
save(figure, "convolution_times")

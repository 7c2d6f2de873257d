"""What the tests of convolution and of pooling share: drawn settings, and how closely two results must agree."""

from types import ModuleType
from typing import NamedTuple

import numpy as np
from cases import gaussian
from hypothesis import strategies as st
from references import Spec

from funcnn import conv_strided
from funcnn.arrays import threads
from funcnn.arrays.geometry import geometry
from funcnn.arrays.layout import images, rows
from funcnn.layer import Array, Shape

RTOL = 1e-12


def pairs(values: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(values, values)


@st.composite
def in_sizes(draw: st.DrawFn, spec: Spec) -> tuple[int, int]:
    """A size on which at least one window fits, from the smallest upward."""
    size = []
    for axis in (0, 1):
        span = (spec.window[axis] - 1) * spec.dilation[axis] + 1
        if spec.padding == "same":
            span = 1
        elif isinstance(spec.padding, int):
            span -= 2 * spec.padding
        elif spec.padding != "valid":
            span -= sum(spec.padding[axis])
        size.append(max(span, 1) + draw(st.integers(0, 4)))
    return size[0], size[1]


def by_rows(x: Array) -> Array:
    return images(np.ascontiguousarray(rows(x)))


class Conv(NamedTuple):
    """A convolution to try: its settings, and the shapes of its arrays."""

    spec: Spec
    x_shape: Shape
    weight_shape: Shape
    groups: int

    def arrays(self) -> tuple[Array, Array, Array, Array]:
        """x, weight, bias and dy."""
        out = geometry(self.x_shape[1:3], *self.spec).out_size
        shapes = self.x_shape, self.weight_shape, self.weight_shape[3:], (self.x_shape[0], *out, self.weight_shape[3])
        x, weight, bias, dy = [gaussian(shape, np.float64, name) for shape, name in zip(shapes, "xwbd", strict=True)]
        return x, weight, bias, dy

    def by(self, module: ModuleType, dtype: type = np.float64, *, sizes: bool = False) -> tuple[Array, Array, Array]:
        """y, dweight and dx, as a module computes them; or of the absolute values, the sizes of their sums."""
        x, weight, bias, dy = [(np.abs(each) if sizes else each).astype(dtype) for each in self.arrays()]
        geo = self.spec.on(x)
        return (
            module.conv_forward(x, weight, geo, self.groups, bias),
            module.conv_weight_gradient(x, dy, geo, self.groups),
            module.conv_input_gradient(dy, weight, geo, self.groups),
        )

    def check_memory(self, module: ModuleType) -> None:
        """Assert that no result of a module lies in scratch memory, which is used again."""
        results = self.by(module)
        before = [result.copy() for result in results]
        for buffer in threads._scratch.buffers.values():
            buffer[...] = 255
        for have, want in zip(results, before, strict=True):
            np.testing.assert_array_equal(have, want)

    def check(self, results: tuple[Array, Array, Array], rtol: float) -> None:
        """Assert that y, dweight and dx are the plain convolution's, to `rtol` of the largest of these sizes."""
        sizes = self.by(conv_strided, sizes=True)
        for have, want, size in zip(results, self.by(conv_strided), sizes, strict=True):
            assert have.shape == want.shape
            np.testing.assert_allclose(have, want, rtol=0, atol=rtol * size.max(initial=0))


@st.composite
def convolutions(draw: st.DrawFn, *, many: int = 100) -> Conv:
    """Settings of every kind; inner = 1 with several groups is a depthwise convolution."""
    spec = Spec(
        window=draw(pairs(st.integers(1, 3))),
        stride=draw(pairs(st.integers(1, 3))),
        dilation=draw(pairs(st.integers(1, 2))),
        padding=draw(st.sampled_from(["valid", "same"]) | st.integers(0, 2) | pairs(pairs(st.integers(0, 2)))),
    )
    groups, inner, filters = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    n = draw(st.integers(1, 3) | st.just(many))
    return Conv(spec, (n, *draw(in_sizes(spec)), groups * inner), (*spec.window, inner, groups * filters), groups)


def inner_product(a: Array, b: Array) -> float:
    return float(np.vdot(a, b))

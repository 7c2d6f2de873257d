"""What the tests of convolution and of pooling share: drawn settings, and how closely two results must agree."""

import numpy as np
from hypothesis import strategies as st
from references import Spec

from funcnn.layer import Array

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


def inner_product(a: Array, b: Array) -> float:
    return float(np.vdot(a, b))

"""Element-wise functions on a GPU: one launch, one reading and one writing for each, whatever the formula.

`ACTIVATIONS` has the formulas of funcnn.nn.piecewise and funcnn.nn.smooth in C. R is the type that is computed in,
float also for float16. A comparison is written such that what is not a number goes through.
"""

import math
from typing import NamedTuple

import numpy as np

from funcnn.arrays.cuda import kernels
from funcnn.tree import Array

__all__ = ["ACTIVATIONS", "Formula", "activate", "activate_back", "fits", "line", "masked"]


class Formula(NamedTuple):
    """y of x, and dx of dy and of what is kept for backward: y, or where there is a `dy_dx` that slope, as y."""

    y: str
    dx: str = "dx = y * dy"
    dy_dx: str = ""
    settings: tuple[str, ...] = ()


_LAMBDA, _ALPHA = "R(1.0507009873554804934)", "R(1.6732632423543772848)"  # selu's
_ROOT, _CUBE = f"R({math.sqrt(2 / math.pi)!r})", "R(0.044715)"  # the gelu's
_SIGMOID = "const R e = exp(-fabs(x)), s = (x >= R(0) ? R(1) : e) / (R(1) + e); "
_NEAR = (
    "const R near = x < R(-10) ? R(-10) : x > R(10) ? R(10) : x, square = near * near; "
    f"const R t = tanh(near * (square * {_ROOT} * {_CUBE} + {_ROOT})), h = R(0.5) * t + R(0.5); "
)
_SIXTH = "const R sixth = x * R(1.0 / 6) + R(0.5), r = sixth < R(0) ? R(0) : sixth > R(1) ? R(1) : sixth; "
_CLIP = "y = x < {0} ? {0} : x > {1} ? {1} : x"
_INSIDE = "dx = y > {0} && y < {1} ? dy : R(0)"

ACTIVATIONS = {
    # --- piecewise ---
    "relu": Formula("y = x < R(0) ? R(0) : x", "dx = y > R(0) ? dy : R(0)"),
    "leaky_relu": Formula("y = slope * x > x ? slope * x : x", "dx = y > R(0) ? dy : slope * dy", settings=("slope",)),
    "relu6": Formula(_CLIP.format("R(0)", "R(6)"), _INSIDE.format("R(0)", "R(6)")),
    "hard_tanh": Formula(_CLIP.format("low", "high"), _INSIDE.format("low", "high"), settings=("low", "high")),
    "hard_sigmoid": Formula(_SIXTH + "y = r", "dx = y > R(0) && y < R(1) ? R(1.0 / 6) * dy : R(0)"),
    "hard_swish": Formula(_SIXTH + "y = x * r", dy_dx="dy_dx = r > R(0) && r < R(1) ? r + R(1.0 / 6) * x : r"),
    "soft_shrink": Formula(
        "y = x > threshold ? x - threshold : x < -threshold ? x + threshold : x - x",
        "dx = y != R(0) ? dy : R(0)",
        settings=("threshold",),
    ),
    "hard_shrink": Formula(
        "y = fabs(x) <= threshold ? R(0) : x", "dx = y != R(0) ? dy : R(0)", settings=("threshold",)
    ),
    # --- smooth ---
    "elu": Formula("y = x > R(0) ? x : alpha * expm1(x)", "dx = y > R(0) ? dy : (y + alpha) * dy", settings=("alpha",)),
    "selu": Formula(
        f"y = {_LAMBDA} * (x > R(0) ? x : {_ALPHA} * expm1(x))",
        f"dx = y > R(0) ? {_LAMBDA} * dy : (y + {_LAMBDA} * {_ALPHA}) * dy",
    ),
    "celu": Formula(
        "y = x > R(0) ? x : alpha * expm1(x / alpha)",
        "dx = y > R(0) ? dy : (y / alpha + R(1)) * dy",
        settings=("alpha",),
    ),
    "sigmoid": Formula(_SIGMOID + "y = s", "dx = dy * y * (R(1) - y)"),
    "log_sigmoid": Formula("y = (x < R(0) ? x : R(0)) - log1p(exp(-fabs(x)))", "dx = -expm1(y) * dy"),
    "tanh": Formula("y = tanh(x)", "dx = dy * (R(1) - y * y)"),
    "tanh_shrink": Formula("const R t = tanh(x); y = x - t", dy_dx="dy_dx = t * t"),
    "softplus": Formula("y = (x > R(0) ? x : R(0)) + log1p(exp(-fabs(x)))", "dx = -expm1(-y) * dy"),
    "softsign": Formula("y = x / (R(1) + fabs(x))", "const R left = R(1) - fabs(y); dx = left * left * dy"),
    "silu": Formula(_SIGMOID + "y = x * s", dy_dx="dy_dx = s + x * s * (R(1) - s)"),
    "mish": Formula(
        "const R near = x > R(20) ? R(20) : x, e = exp(near), m = e * (e + R(2)), below = m + R(2); "
        "y = x * (m / below)",
        dy_dx="dy_dx = (m + R(4) * near * e * (R(1) + e) / below) / below",
    ),
    "gelu": Formula(
        _NEAR + "y = x * h",
        dy_dx=f"dy_dx = h * (R(1) + near * (R(3) * {_ROOT} * {_CUBE} * square + {_ROOT}) * (R(1) - t))",
    ),
    "gelu_exact": Formula(
        f"const R phi = R(0.5) * erfc(x * R({-math.sqrt(0.5)!r})); y = x * phi",
        dy_dx=f"dy_dx = phi + x * R({1 / math.sqrt(2 * math.pi)!r}) * exp(R(-0.5) * x * x)",
    ),
    "scale": Formula("y = factor * x", "dx = factor * dy", settings=("factor",)),
}


def fits(x: Array) -> bool:
    """Whether the functions here are for an array: of floats, in C order, that an int counts."""
    return x.dtype.char in "efd" and bool(x.flags.c_contiguous) and x.size <= kernels.LARGEST


def activate(name: str, x: Array, *, keep_slope: bool = False, **settings: float) -> tuple[Array, Array | None]:
    """y = f(x), and with `keep_slope` dy/dx of the activations that keep it; None for the others."""
    formula = ACTIVATIONS[name]
    dtype, real, c = _types(x)
    keeps = keep_slope and bool(formula.dy_dx)
    inputs, outputs = [f"{dtype} x_in"], [f"{dtype} y_out"]
    code = [f"typedef {c} R;", "R x = R(x_in);", "R y;", f"{formula.y};", "y_out = y;"]
    if keeps:
        outputs.append(f"{dtype} slope_out")
        code += ["R dy_dx;", f"{formula.dy_dx};", "slope_out = dy_dx;"]
    inputs += [f"{real} {each}" for each in formula.settings]
    function = kernels.elementwise(", ".join(inputs), ", ".join(outputs), " ".join(code), f"funcnn_{name}")
    made = function(x, *[settings[each] for each in formula.settings])
    return made if keeps else (made, None)


def activate_back(name: str, kept: Array, dy: Array, **settings: float) -> Array:
    """dx of dy and what forward has kept, y or the slope."""
    formula = ACTIVATIONS[name]
    dtype, real, c = _types(dy)
    used = [each for each in formula.settings if each in formula.dx]
    inputs = [f"{dtype} kept", f"{dtype} dy_in", *[f"{real} {each}" for each in used]]
    code = f"typedef {c} R; const R y = R(kept), dy = R(dy_in); R dx; {formula.dx}; dx_out = dx;"
    function = kernels.elementwise(", ".join(inputs), f"{dtype} dx_out", code, f"funcnn_{name}_back")
    made: Array = function(kept, dy, *[settings[each] for each in used])
    return made


def masked(x: Array, mask: Array, factor: float) -> Array:
    """x · factor where the mask, booleans of the shape of x, is true, and 0 elsewhere: dropout, and its gradient."""
    dtype, real, c = _types(x)
    code = f"typedef {c} R; y = mask ? R(x) * factor : R(0);"
    made: Array = kernels.elementwise(f"{dtype} x, bool mask, {real} factor", f"{dtype} y", code, "funcnn_masked")(
        x, mask, factor
    )
    return made


def line(x: Array, factor: Array, constant: Array) -> Array:
    """factor · x + constant, with two numbers for each channel: x (..., channels)."""
    dtype, _, c = _types(x)
    code = (
        f"typedef {c} R; const unsigned at = unsigned(i) % unsigned(channels); "
        "y = R(factor[at]) * R(x) + R(constant[at]);"
    )
    inputs = f"{dtype} x, raw {dtype} factor, raw {dtype} constant, int32 channels"
    made: Array = kernels.elementwise(inputs, f"{dtype} y", code, "funcnn_line")(
        x, factor, constant, np.int32(len(factor))
    )
    return made


def _types(x: Array) -> tuple[str, str, str]:
    """The dtype of an array, the dtype that is computed in, and that in C."""
    real = "float64" if x.dtype.char == "d" else "float32"
    return x.dtype.name, real, "double" if real == "float64" else "float"

"""Why funcnn/arrays/elementwise.py and adaptive.py are as they are: where numexpr pays, and how Adam is fastest.

    python benchmarks/elementwise.py

1. `fused` by NumPy and by numexpr over sizes: numexpr passes over memory once, and pays for it at every call and in
   slower arithmetic. The threshold in elementwise.py is where it begins to win.
2. Adam on one leaf: plain NumPy, numexpr, and the kernel: NumPy in place over blocks that stay in cache.
3. The kernel at other sizes of block.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import measure
import numexpr
import numpy as np

from funcnn.arrays import adaptive, elementwise
from funcnn.arrays.threads import set_threads

FORMULAS = ("dy * y * (1 - y)", "dy * s * (1 + x * (1 - s))")  # sigmoid's gradient, and silu's
SIZES = tuple(2**power for power in (12, 14, 16, 18, 20, 21, 22, 23))
PARAMETERS = 1_638_400  # a dense layer of 3,200 to 512, the largest leaf of the benchmarks' nets
BLOCKS = tuple(2**power for power in (11, 13, 14, 15, 16, 17, 19, 21))
ADAM = {"rate": 1e-3, "b1": 0.9, "b2": 0.999, "epsilon": 1e-8, "step": 9}


@contextmanager
def setting(name: str, value: int) -> Iterator[None]:
    """A setting of funcnn/arrays/elementwise.py changed for a while."""
    before = getattr(elementwise, name)
    setattr(elementwise, name, value)
    try:
        yield
    finally:
        setattr(elementwise, name, before)


def with_setting(name: str, value: int, call: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with setting(name, value):
            return call()

    return run


# --- fused ----------------------------------------------------------------------------------------------------


def measure_fused(formula: str, size: int, rounds: int) -> dict[str, list[float]]:
    rng = np.random.default_rng(0)
    names = sorted(set(compile(formula, "<formula>", "eval").co_names))
    arrays = {name: rng.standard_normal(size, np.float32) for name in names}
    call = partial(elementwise.fused, formula, **arrays)
    by_numpy = with_setting("_NUMEXPR_FROM", size + 1, call)
    by_numexpr = with_setting("_NUMEXPR_FROM", 0, call)
    np.testing.assert_allclose(by_numpy(), by_numexpr(), rtol=1e-5, atol=1e-5)
    return measure.interleaved({"NumPy": by_numpy, "numexpr": by_numexpr}, rounds)


def fused_rows(rounds: int) -> Iterator[dict[str, Any]]:
    # glibc maps memory afresh, page by page, for arrays larger than any that was freed before. A training process
    # soon has freed large ones, so this one does too; 32 MB is as far as it goes.
    np.empty(31 * 2**20, np.uint8)
    for formula in FORMULAS:
        for size in SIZES:
            others = measure.Others()
            spreads = {name: measure.Spread.of(each) for name, each in measure_fused(formula, size, rounds).items()}
            chosen = "numexpr" if size >= elementwise._NUMEXPR_FROM else "NumPy"
            yield {
                "formula": formula,
                "size": size,
                **spreads,
                "chosen": chosen,
                "cores_taken_by_others": others.cores(),
            }


# --- Adam -----------------------------------------------------------------------------------------------------


def adam_numpy(w: Any, g: Any, m: Any, v: Any, *, rate: float, b1: float, b2: float, epsilon: float, step: int) -> Any:
    """The equations as one would write them down; every operation makes an array."""
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    m_hat = m / (1 - b1 ** (step + 1))
    v_hat = v / (1 - b2 ** (step + 1))
    return w - rate * m_hat / (np.sqrt(v_hat) + epsilon), m, v


def adam_numexpr(
    w: Any, g: Any, m: Any, v: Any, *, rate: float, b1: float, b2: float, epsilon: float, step: int
) -> Any:
    """One pass over memory for each of the three results; constants are float32, or numexpr computes in float64."""
    constants = {
        "b1": b1, "c1": 1 - b1, "b2": b2, "c2": 1 - b2, "epsilon": epsilon,
        "factor": rate / (1 - b1 ** (step + 1)), "correction": 1 / (1 - b2 ** (step + 1)),
    }  # fmt: skip
    names: dict[str, Any] = {name: np.float32(value) for name, value in constants.items()} | {"g": g, "w": w}
    m = numexpr.evaluate("b1 * m + c1 * g", local_dict=names | {"m": m}, global_dict={})
    v = numexpr.evaluate("b2 * v + c2 * g * g", local_dict=names | {"v": v}, global_dict={})
    update = "w - factor * m / (sqrt(v * correction) + epsilon)"
    return numexpr.evaluate(update, local_dict=names | {"m": m, "v": v}, global_dict={}), m, v


def measure_adam(rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """The three forms, and the kernel at every size of block."""
    rng = np.random.default_rng(0)
    w, g, m = rng.standard_normal((3, PARAMETERS), np.float32)
    v = rng.random(PARAMETERS, np.float32)
    forms = {
        name: partial(form, w, g, m, v, **ADAM)
        for name, form in (("NumPy", adam_numpy), ("numexpr", adam_numexpr), ("NumPy in blocks", adaptive.adam_update))
    }
    for form in forms.values():
        for ours, naive in zip(form(), forms["NumPy"](), strict=True):
            np.testing.assert_allclose(ours, naive, rtol=1e-5, atol=1e-6)
    blocks = {str(size): with_setting("BLOCK", size, forms["NumPy in blocks"]) for size in BLOCKS}
    return measure.interleaved(forms, rounds), measure.interleaved(blocks, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Time the forms that element-wise work could have, interleaved in one run."
    )
    parser.add_argument("--rounds", type=int, default=15, help="samples of each (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for numexpr and for blocks (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    numexpr.set_num_threads(options.threads)
    set_threads(options.threads)

    fused = list(fused_rows(options.rounds))
    rows = [
        [
            each["formula"],
            str(each["size"]),
            each["NumPy"].show(digits=3),
            each["numexpr"].show(digits=3),
            f"{each['NumPy'].median / each['numexpr'].median:.2f}",
            each["chosen"],
            measure.show_cores(each["cores_taken_by_others"]),
        ]
        for each in fused
    ]
    header = ["fused", "elements", "NumPy ms (p10–p90)", "numexpr ms (p10–p90)", "NumPy / numexpr", "chosen", "others"]
    measure.print_table(header, rows)

    others = measure.Others()
    forms, blocks = (
        {name: measure.Spread.of(each) for name, each in part.items()} for part in measure_adam(options.rounds)
    )
    print()
    header = [f"Adam, {PARAMETERS} parameters", "ms (p10–p90)", "by the kernel's"]
    kernel = forms["NumPy in blocks"].median
    rows = [[name, each.show(), f"{each.median / kernel:.2f}"] for name, each in forms.items()]
    measure.print_table(header, rows)
    print()
    usual = blocks[str(elementwise.BLOCK)].median
    rows = [[name, each.show(), f"{each.median / usual:.2f}"] for name, each in blocks.items()]
    measure.print_table(["elements in a block", "ms (p10–p90)", f"by {elementwise.BLOCK}'s"], rows)
    taken = others.cores()
    print(f"\ncores of others: {measure.show_cores(taken)}")
    environment = measure.environment() | {"threads": options.threads}
    results = {"fused": fused, "adam": forms, "blocks": blocks, "cores_taken_by_others": taken}
    measure.write_json(options.json, {"environment": environment} | results)


if __name__ == "__main__":
    main()

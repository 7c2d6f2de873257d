"""Writes `cupy_names.txt`: what CuPy has, and what each function takes. Run where CuPy is installed; no GPU is asked.

python tests/standin/introspect.py > tests/standin/cupy_names.txt
"""

import inspect
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "cupy_names.txt"
MODULES = ("linalg", "lib.stride_tricks")


def parameters(function: Any) -> str:
    """A function's parameters as in a lambda, every default None: enough to tell what may be given."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # compiled, without a signature
        return "*args, **kwargs"
    plain = [
        parameter.replace(
            annotation=inspect.Parameter.empty,
            default=parameter.default if parameter.default is inspect.Parameter.empty else None,
        )
        for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(plain))[1:-1]


def lines(cupy: ModuleType) -> list[str]:
    """Every public name, its kind, and for a function what it takes; then the names of an array's attributes."""
    found = [
        f"# CuPy {cupy.__version__} beside NumPy {np.__version__}: "
        "name, kind, what it takes (a ufunc: its name inside, inputs, outputs, .at)"
    ]
    for prefix in ("", *MODULES):
        module: Any = cupy
        for part in filter(None, prefix.split(".")):
            module = getattr(module, part)
        for name in sorted(n for n in dir(module) if not n.startswith("_")):
            thing = getattr(module, name)
            full = f"{prefix}.{name}" if prefix else name
            if isinstance(thing, cupy.ufunc):
                at = getattr(thing, "_scatter_op", None) or "-"
                found.append(f"{full}\tufunc\t{thing.name} {thing.nin} {thing.nout} {at}")
            elif inspect.isroutine(thing) or type(thing).__name__ == "_GUFunc":
                found.append(f"{full}\tfunction\t{parameters(thing)}")
            elif inspect.ismodule(thing) or inspect.isclass(thing):
                found.append(f"{full}\t{'module' if inspect.ismodule(thing) else 'class'}\t")
            else:
                found.append(f"{full}\tconstant\t")
    found += [f"ndarray.{name}\tattribute\t" for name in sorted(dir(cupy.ndarray))]
    return found


if __name__ == "__main__":
    import cupy as installed  # type: ignore[import-not-found]

    warnings.simplefilter("ignore")  # names that NumPy will drop
    print("\n".join(lines(installed)))

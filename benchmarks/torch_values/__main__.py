"""funcnn's values against PyTorch's: every part of this folder compares its own, in float64.

    python -m benchmarks.torch_values
    python benchmarks/torch_values conv losses

Each module here has a function ``compare()``, which gives the largest absolute difference for each thing that it
compares, over outputs, input gradients and parameter gradients. The exit status is 1 if one is above 1e-9 or no number.
"""

import argparse
import importlib
import sys
from pathlib import Path

LIMIT = 1e-9
FOLDER = Path(__file__).parent


def main() -> None:
    parts = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    parser = argparse.ArgumentParser(description="Compare funcnn's values with PyTorch's, in float64.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these of: {', '.join(parts)}")
    chosen = parser.parse_args().parts or parts
    if unknown := sorted(set(chosen) - set(parts)):
        parser.error(f"no such part: {', '.join(unknown)}")
    sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]  # the parts, and what the benchmarks share
    count, wrong = 0, 0
    for part in chosen:
        print(f"{part}:")
        for name, difference in importlib.import_module(part).compare().items():
            close = difference <= LIMIT  # not so for NaN
            print(f"  {difference:8.1e}  {name}{'' if close else f'    ABOVE {LIMIT:g}'}")
            count, wrong = count + 1, wrong + (not close)
    print(f"{count - wrong} of {count} agree to {LIMIT:g}")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()

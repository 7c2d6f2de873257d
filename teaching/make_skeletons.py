"""Make the files that students fill in from their solutions: python teaching/make_skeletons.py

In a solution the comment `# task N` begins what students write: from there to the end of the function, a skeleton has
`raise NotImplementedError("task N")`. So a problem is changed in one place, and a test holds the two equal.
"""

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent


def skeleton(solution: str) -> str:
    """A solution's text without its answers.

    >>> print(skeleton("def one() -> int:\\n    # task 1\\n    return 1\\n\\n\\nTWO = 2\\n"), end="")
    def one() -> int:
        raise NotImplementedError("task 1")
    <BLANKLINE>
    <BLANKLINE>
    TWO = 2
    """
    kept: list[str] = []
    within: int | None = None  # the indentation of the answer that is left out
    for line in solution.splitlines():
        indent = len(line) - len(line.lstrip())
        if within is not None and line.strip() and indent < within:
            while not kept[-1]:
                kept.pop()
            kept += ["", ""] if indent == 0 else [""]
            within = None
        if within is not None:
            if not line:
                kept.append(line)
            continue
        mark = re.fullmatch(r" +# (task \d+)", line)
        if mark:
            within = indent
            kept.append(f'{" " * indent}raise NotImplementedError("{mark[1]}")')
        else:
            kept.append(line)
    while not kept[-1]:
        kept.pop()
    return "\n".join(kept) + "\n"


def pairs() -> list[tuple[Path, Path]]:
    """Every solution, and the skeleton that is made of it."""
    return [(path, HERE / path.parent.name / path.name) for path in sorted(HERE.glob("solutions/set_*/*.py"))]


if __name__ == "__main__":
    for source, target in pairs():
        target.write_text(skeleton(source.read_text("utf-8")), "utf-8")
        print(target.relative_to(HERE))

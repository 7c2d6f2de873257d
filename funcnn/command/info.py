"""``funcnn info``: what is in the file of a trained net, or in a checkpoint."""

import json
import math
from pathlib import Path
from typing import Any

from funcnn import checkpoint, tree
from funcnn.experiment.options import new_parser, read_arguments
from funcnn.model_file import Trained, load_trained
from funcnn.report.table import count_parameters, layer_table
from funcnn.settings import as_code
from funcnn.system.text import Text, cut, printable, show, text_table
from funcnn.trained import model_path, trained_models

__all__ = ["main"]

_DESCRIPTION = """What is in the file of a trained net, or in a checkpoint.

    {0} mnist_cnn                               a net that comes along
    {0} runs/digits_cnn/model.safetensors       one that was trained here
    {0} runs/digits_cnn/checkpoint.safetensors  where a run has got to"""

_LINE = 100  # characters of a value


def main(arguments: list[str], prog: str) -> None:
    """Show a file."""
    parser = new_parser(_DESCRIPTION.format(prog), prog)
    parser.add_argument(
        "file",
        metavar="FILE",
        help=f"a model.safetensors, a checkpoint.safetensors, or one of {', '.join(trained_models())}",
    )
    path = model_path(read_arguments(parser, arguments).file)
    description = checkpoint.read_description(path)
    if isinstance(description, dict) and {"net", "in_shape", "classes"} <= description.keys():
        trained = load_trained(path)
        what, table, facts = "trained net", layer_table(trained.net, trained.in_shape), _facts_of_net(trained)
    else:
        numbers, table = _content(path)
        what, facts = "checkpoint", numbers | _facts_of_data(description)
    show(f"{printable(path)}: a {what}, {path.stat().st_size:,} bytes\n\n{table}\n")
    width = max(map(len, facts))
    show("\n".join(f"{name:{width}}  {cut(printable(value), _LINE)}" for name, value in facts.items()))


def _facts_of_net(trained: Trained) -> dict[str, str]:
    """What is known of a net beside its layers, by name."""
    dtypes = sorted({str(leaf.dtype) for leaf in tree.flatten(trained.model.params)})
    return {
        "parameters": f"{count_parameters(trained.model.params):,}, {' and '.join(dtypes) or 'none'}",
        "input": "x".join(map(str, trained.in_shape)),
        "preprocess": "none" if trained.preprocess is None else as_code(trained.preprocess),
        "prepare": "none, images are resized" if trained.prepare is None else as_code(trained.prepare),
        "familiar logit": _text(trained.familiar_logit),
        "classes": f"{len(trained.classes)}: {', '.join(trained.classes)}",
        **_facts_of_data(trained.about),
    }


def _facts_of_data(value: Any) -> dict[str, str]:
    """JSON data, by the names that it has."""
    facts = value if isinstance(value, dict) and value else {"about": value}
    return {printable(name).replace("_", " "): _text(each) for name, each in facts.items()}


def _text(value: Any) -> str:
    """JSON data on one line; a part's description as the call that makes the part."""
    if isinstance(value, dict):
        name = str(value.get("name", value.get("function", "")))
        settings = [f"{key}={_text(each)}" for key, each in value.items() if key not in ("name", "function")]
        return name if "function" in value and not settings else f"{name}({', '.join(settings)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value)


def _content(path: Path) -> tuple[dict[str, str], Text]:
    """The numbers in a checkpoint, and a table of its parts, whose arrays are not read."""
    from safetensors import safe_open

    counts: dict[str, list[int]] = {}
    with safe_open(path, "numpy") as file:
        for name in file.keys():  # noqa: SIM118 (it is no dictionary)
            shape = file.get_slice(name).get_shape()
            part = counts.setdefault(name.partition(".")[0] or "-", [0, 0])
            part[0] += 1
            part[1] += math.prod(shape)
        numbers = json.loads(file.metadata()["funcnn"])["numbers"]
    rows = [(part, f"{arrays:,}", f"{values:,}") for part, (arrays, values) in sorted(counts.items())]
    return {printable(name): _text(each) for name, each in numbers.items()}, text_table(
        ("part", "arrays", "numbers"), rows, left=1
    )

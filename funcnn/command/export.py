"""``funcnn export``: a trained net as other libraries read it."""

import io
from pathlib import Path

import numpy as np

from funcnn import tree
from funcnn.command import mendable, net_name
from funcnn.experiment.options import folder, new_parser, read_arguments
from funcnn.model_file import Trained, load_trained
from funcnn.system.files import write_bytes
from funcnn.system.text import printable, show
from funcnn.train import Model
from funcnn.trained import model_path, trained_models

__all__ = ["main"]

_DESCRIPTION = """A trained net as other libraries read it.

    {0} mnist_cnn --to onnx                                         a net that comes along
    {0} runs/photos/model.safetensors --to onnx --out photos.onnx   one that was trained here

onnx   a net that predicts by itself, in any runtime of ONNX: images as they are stored in, logits out
torch  a state dict in PyTorch's layouts: module.load_state_dict(safetensors.torch.load_file(FILE))
npz    the arrays by their paths, and the names of the classes: numpy.load(FILE)"""

_ENDINGS = {"onnx": ".onnx", "torch": ".torch.safetensors", "npz": ".npz"}


def main(arguments: list[str], prog: str) -> None:
    """Write a net to a file, which appears whole or not at all."""
    parser = new_parser(_DESCRIPTION.format(prog), prog)
    parser.add_argument("file", metavar="FILE", help=f"a model.safetensors, or one of {', '.join(trained_models())}")
    parser.add_argument("--to", required=True, choices=tuple(_ENDINGS), help="the form to write")
    parser.add_argument(
        "--out", type=folder, metavar="FILE", help="the file to write, or to replace (default: the net's name, here)"
    )
    options = read_arguments(parser, arguments)
    source = model_path(options.file)
    out = options.out or Path(f"{net_name(source)}{_ENDINGS[options.to]}")
    if out.exists() and out.samefile(source):
        parser.error(f"--out {out}: it is the net itself. Choose another file")
    trained = load_trained(source)
    with mendable(ImportError, ValueError):  # an extra that is not installed, a layer that the form has not
        {"onnx": _to_onnx, "torch": _to_torch, "npz": _to_npz}[options.to](trained, out)
    show(f"{printable(out)}: {out.stat().st_size:,} bytes")


def _to_onnx(trained: Trained, out: Path) -> None:
    from funcnn.interop.to_onnx import to_onnx

    to_onnx(trained, out)


def _to_torch(trained: Trained, out: Path) -> None:
    from safetensors.numpy import save

    from funcnn.interop import to_torch

    write_bytes(out, save({name: np.asarray(array, order="C") for name, array in to_torch(trained).items()}))


def _to_npz(trained: Trained, out: Path) -> None:
    model = Model(trained.model.params, trained.model.state)
    arrays = dict(zip(tree.paths(model), tree.flatten(model), strict=True))
    content = io.BytesIO()
    np.savez(content, classes=np.array(trained.classes, str), **arrays)
    write_bytes(out, content.getvalue())

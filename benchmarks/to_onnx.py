"""Prediction, funcnn against onnxruntime on the file that `to_onnx` writes: from stored examples to logits.

    python benchmarks/to_onnx.py
    python benchmarks/to_onnx.py --batches 1 64 --rounds 15 --threads 1 --json to_onnx.json

The nets are those in funcnn/trained and three more, at their initial values. funcnn runs a
`predictor` on what the preprocessing gives, onnxruntime (CPUExecutionProvider) the file with it inside, both in this
process on as many threads, turn by turn (see `measure.interleaved`). The error is the largest of all outputs' by the
largest output. pip install onnxruntime "funcnn[onnx]".
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measure
import numpy as np

from funcnn import Key
from funcnn.arrays.threads import set_threads
from funcnn.compose import serial
from funcnn.interop.to_onnx import to_onnx
from funcnn.layer import Array, Layer
from funcnn.layers import dense, embedding, lstm
from funcnn.model_file import Trained, load_trained
from funcnn.models import convnet, gpt
from funcnn.train import Model, predictor

HEADER = ["net", "batch", "error", "funcnn ms (p10–p90)", "onnxruntime ms (p10–p90)", "onnxruntime / funcnn", "others"]


def nets() -> Iterator[tuple[str, Trained]]:
    """Names and nets."""
    for path in sorted(Path(str(files("funcnn") / "trained")).glob("*.safetensors")):
        yield path.stem, load_trained(path)
    characters = serial(embedding(65, 64), lstm(128), dense(65, per_position=True))
    yield "convnet, batch norm", untrained(convnet([32, 64], [256], 10, batch_norm=True), (32, 32, 3))
    yield "gpt of 4 blocks", untrained(gpt(65, 64, layers=4, heads=4, features=128), (64,))
    yield "lstm of 128", untrained(characters, (64,))


def untrained(net: Layer, in_shape: tuple[int, ...]) -> Trained:
    params, state, _ = net.init(Key(0), in_shape)
    return Trained(net, Model(params, state), in_shape, ())


def stored(trained: Trained, batch: int) -> Array:
    """Examples as they are stored: bytes, whole numbers or floats."""
    rng, shape, words = np.random.default_rng(0), (batch, *trained.in_shape), trained.net.config.vocabulary
    if words is not None:
        return rng.integers(0, words, shape)
    return rng.integers(0, 256, shape, np.uint8) if trained.preprocess else rng.standard_normal(shape, np.float32)


def session(trained: Trained, threads: int) -> Any:
    """The file in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with TemporaryDirectory() as folder:
        to_onnx(trained, f"{folder}/net.onnx")
        return onnxruntime.InferenceSession(f"{folder}/net.onnx", options, providers=["CPUExecutionProvider"])


def main() -> int:
    parser = argparse.ArgumentParser(description="Time predictions of funcnn and of its exported files in one run.")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64], help="default: 1 64")
    measure.add_options(parser, rounds=15)
    options = parser.parse_args()
    set_threads(options.threads)
    rows = []
    for name, trained in nets():
        exported = session(trained, options.threads)
        logits = predictor(trained.net, trained.model.params, trained.model.state)
        prepare: Callable[[Array], Array] = trained.preprocess or (lambda x: x)
        for batch in options.batches:
            x = stored(trained, batch)
            given = {"input": x if x.dtype.kind == "i" else x.astype(np.float32)}
            want, got = logits(prepare(x)), exported.run(None, given)[0]
            others = measure.Others()
            samples = measure.interleaved(
                {
                    "funcnn": lambda logits=logits, prepare=prepare, x=x: logits(prepare(x)),
                    "onnxruntime": lambda exported=exported, given=given: exported.run(None, given),
                },
                options.rounds,
            )
            spreads = [measure.Spread.of(each).show(digits=3) for each in samples.values()]
            ratio = measure.ratio(samples["onnxruntime"], samples["funcnn"]).show(unit=1, digits=2)
            error = f"{abs(got - want).max() / abs(want).max():.0e}"
            rows.append([name, str(batch), error, *spreads, ratio, measure.show_cores(others.cores())])
            print(f"measured {name} at batch {batch}", file=sys.stderr)
    measure.print_table(HEADER, rows)
    environment = measure.environment("onnx", "onnxruntime") | {"threads": options.threads}
    results = [dict(zip(HEADER, row, strict=True)) for row in rows]
    measure.write_json(options.json, {"environment": environment, "results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())

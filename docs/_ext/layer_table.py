"""The table of all layers and of all combinators: what each needs and costs, asked of the library itself."""

from typing import Any, NamedTuple

from funcnn import Key, Layer, compose, layers, tree
from funcnn.checks import ShapeError, is_several
from funcnn.layer import Shape
from funcnn.report.table import layer_rows

ROW, SEQUENCE, IMAGE = (16,), (8, 16), (8, 8, 16)


class Example(NamedTuple):
    """A call, and the shape of the examples to show it on."""

    call: str
    in_shape: Shape

    @property
    def layer(self) -> Layer:
        return eval(self.call, vars(layers) | vars(compose))


# The calls, by constructor, where it needs arguments or other examples than images.
LAYERS = {
    "dense": Example("dense(32)", ROW),
    "position_bias": Example("position_bias()", IMAGE),
    "embedding": Example("embedding(1000, 32)", (8,)),
    "unembedding": Example("unembedding(1000)", (8, 32)),
    "position_embedding": Example("position_embedding()", SEQUENCE),
    "sinusoidal_positions": Example("sinusoidal_positions()", SEQUENCE),
    "conv2d": Example("conv2d(32, 3)", IMAGE),
    "depthwise_conv2d": Example("depthwise_conv2d(3)", IMAGE),
    "separable_conv2d": Example("separable_conv2d(32, 3)", IMAGE),
    "conv_transpose2d": Example("conv_transpose2d(32, 4, stride=2)", IMAGE),
    "conv1d": Example("conv1d(32, 3)", SEQUENCE),
    "conv_transpose1d": Example("conv_transpose1d(32, 4, stride=2)", SEQUENCE),
    "max_pool2d": Example("max_pool2d(2)", IMAGE),
    "avg_pool2d": Example("avg_pool2d(2)", IMAGE),
    "max_pool1d": Example("max_pool1d(2)", SEQUENCE),
    "avg_pool1d": Example("avg_pool1d(2)", SEQUENCE),
    "global_avg_pool1d": Example("global_avg_pool1d()", SEQUENCE),
    "global_max_pool1d": Example("global_max_pool1d()", SEQUENCE),
    "upsample2d": Example("upsample2d(2)", IMAGE),
    "zero_pad2d": Example("zero_pad2d(1)", IMAGE),
    "crop2d": Example("crop2d(1)", IMAGE),
    "pixel_shuffle": Example("pixel_shuffle(2)", IMAGE),
    "pixel_unshuffle": Example("pixel_unshuffle(2)", IMAGE),
    "reshape": Example("reshape((64, 16))", IMAGE),
    "rnn": Example("rnn(32)", SEQUENCE),
    "lstm": Example("lstm(32)", SEQUENCE),
    "gru": Example("gru(32)", SEQUENCE),
    "self_attention": Example("self_attention(4)", SEQUENCE),
    "cross_attention": Example("cross_attention(4)", (SEQUENCE, SEQUENCE)),
    "transformer_block": Example("transformer_block(16, 4)", SEQUENCE),
    "layer_norm": Example("layer_norm()", SEQUENCE),
    "rms_norm": Example("rms_norm()", SEQUENCE),
    "group_norm": Example("group_norm(4)", IMAGE),
    "maxout": Example("maxout(2)", IMAGE),
    "scale": Example("scale(0.5)", IMAGE),
    "dropout": Example("dropout(0.5)", IMAGE),
    "spatial_dropout": Example("spatial_dropout(0.5)", IMAGE),
    "alpha_dropout": Example("alpha_dropout(0.5)", IMAGE),
    "drop_path": Example("drop_path(0.5)", IMAGE),
    "gaussian_noise": Example("gaussian_noise(0.5)", IMAGE),
}
COMBINATORS = {
    "serial": Example("serial(dense(16), relu())", ROW),
    "residual": Example("residual(dense(16))", ROW),
    "parallel": Example("parallel(dense(16), tanh())", ROW),
    "branches": Example("branches(dense(16), tanh())", (ROW, ROW)),
    "join": Example('join("concat")', (ROW, ROW)),
    "dense_connections": Example("dense_connections(dense(16), dense(16))", ROW),
    "repeat": Example("repeat(dense(16), 3)", ROW),
    "remat": Example("remat(serial(dense(16), relu()))", ROW),
    "chunked": Example("chunked(dense(16), 8)", ROW),
    "frozen": Example("frozen(dense(16))", ROW),
    "tied": Example('tied(serial(dense(16), dense(16)), {"1": "0"})', ROW),
    "carried": Example("carried(lstm(32))", (SEQUENCE, (32,), (32,))),
}
MADE_OF_FUNCTIONS = {"elementwise"}  # no example fits into a cell


def examples(kind: str) -> dict[str, Example]:
    """An example of every layer, or of every combinator, by its constructor's name."""
    if kind == "combinators":
        return {name: COMBINATORS[name] for name in compose.__all__}
    names = [name for name in layers.__all__ if name not in MADE_OF_FUNCTIONS]
    return {name: LAYERS.get(name, Example(f"{name}()", IMAGE)) for name in names}


def table(kind: str, names: dict[str, str]) -> list[str]:
    """The table, in Markdown."""
    lines = [
        "{.layers}",
        "| layer | takes | in | out | parameters | MACs | kept | |",
        "|:--|:--|:--|:--|--:|--:|--:|:--|",
    ]
    for name, example in examples(kind).items():
        shown = f"{{py:obj}}`{example.call} <{names[name]}>`"
        lines.append(f"| {' | '.join([shown, takes(example), *costs(example), notes(example)])} |")
    return lines


def takes(example: Example) -> str:
    """The kinds of examples that a layer takes."""
    layer = example.layer
    if is_several(example.in_shape):
        return "a tuple"
    if layer.config.vocabulary is not None:
        return "whole numbers"
    kinds = {"rows": ROW, "sequences": SEQUENCE, "images": IMAGE}
    taken = [kind for kind, shape in kinds.items() if fits(layer, shape)]
    return "any shape" if len(taken) == 3 else ", ".join(taken) or "that shape"


def fits(layer: Layer, shape: Shape) -> bool:
    """Whether a layer takes examples of a shape."""
    try:
        layer.init(Key(0), shape)
    except (ShapeError, ValueError):
        return False
    return True


def costs(example: Example) -> list[str]:
    """Shapes in and out, parameters, multiply-adds, and the bytes that training keeps of an example."""
    rows = layer_rows(example.layer, example.in_shape)
    counts = (sum(getattr(row, name) for row in rows) for name in ("parameters", "macs", "residual_bytes"))
    out_shape = example.layer.config.out_shape(example.in_shape)
    return [size(example.in_shape), size(out_shape), *(f"{count:,}" if count else "–" for count in counts)]


def size(shape: Any) -> str:
    """A shape as one says it."""
    return ", ".join(map(size, shape)) if is_several(shape) else "×".join(map(str, shape)) or "()"


def notes(example: Example) -> str:
    """What else is to be known: state, randomness, coupled examples, chunks."""
    settings = example.layer.config
    state = example.layer.init(Key(0), example.in_shape).state
    said = {
        "state": bool(tree.flatten(state)),
        "key": settings.stochastic,
        "coupled": settings.couples_examples,
        "whole batch": not settings.by_chunks and not settings.couples_examples,
    }
    return ", ".join(word for word, true in said.items() if true)

"""Nets written by `to_onnx` against their own `apply`: what onnxruntime makes of the files, and what is refused."""

import json
import re
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import own
import pytest
from cases import Case, inputs, message
from onnx_files import assert_same, cube_to_onnx, run, trained

from funcnn import compose, layers, tree
from funcnn.checks import LayerError
from funcnn.compose import (
    branches,
    carried,
    repeat,
    residual,
    serial,
)
from funcnn.data.preprocess import rescale, standardise, subtract_mean_image, unit_norm
from funcnn.interop.onnx_graph import Graph, Value
from funcnn.interop.to_onnx import OPSET, to_onnx
from funcnn.layer import Applied, Gradients, Layer, config, make_layer
from funcnn.layers import (
    batch_norm,
    conv2d,
    dense,
    elementwise,
    flatten,
    global_avg_pool2d,
    gru,
    max_pool2d,
    relu,
)
from funcnn.model_file import load_trained, probabilities
from funcnn.models import convnet, fully_connected, gpt
from funcnn.nn.combining import Wrapped, init_wrapped
from funcnn.train import Model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
TRAINED = sorted((Path(__file__).parents[2] / "funcnn" / "trained").glob("*.safetensors"))


# --- Whole nets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "in_shape"),
    [
        (fully_connected([32, 16], 10, batch_norm=True, dropout=0.2), (28, 28, 1)),
        (convnet([8, 16], [32], 10, batch_norm=True), (32, 32, 3)),
        (gpt(65, 32, layers=2, heads=4, features=32, dropout=0.1), (32,)),
    ],
    ids=["fully_connected", "convnet", "gpt"],
)
def test_the_nets_of_models(net: Layer, in_shape: Any, tmp_path: Any) -> None:
    made = trained(net, in_shape)
    to_onnx(made, tmp_path / "net.onnx")
    x = inputs(Case(net, in_shape), 3, np.float32)
    assert_same(run(tmp_path / "net.onnx", x), net.apply(made.model.params, made.model.state, x).y)


@pytest.mark.parametrize("path", TRAINED, ids=[path.stem for path in TRAINED])
def test_the_trained_models_give_the_same_probabilities(path: Any, tmp_path: Any) -> None:
    model = load_trained(path)
    to_onnx(model, tmp_path / "net.onnx", softmax=True)
    stored = np.random.default_rng(0).integers(0, 256, (5, *model.in_shape), dtype=np.uint8)
    (shares,) = run(tmp_path / "net.onnx", stored.astype(np.float32))
    np.testing.assert_allclose(shares, probabilities(model, stored), rtol=0, atol=1e-5)


def nodes(path: Any) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_images_are_transposed_once_and_batch_norm_is_gone(tmp_path: Any) -> None:
    block = residual(
        serial(conv2d(4, 3, padding="same"), batch_norm(), relu(), conv2d(4, 3, padding="same"), batch_norm())
    )
    net = serial(conv2d(4, 3), batch_norm(), relu(), repeat(block, 2), max_pool2d(2), global_avg_pool2d(), dense(3))
    to_onnx(trained(net, (9, 9, 3)), tmp_path / "net.onnx")
    found = nodes(tmp_path / "net.onnx")
    assert found == {
        "Transpose": 1, "Conv": 5, "Relu": 3, "Add": 2, "MaxPool": 1, "ReduceMean": 1, "Gemm": 1, "Identity": 1,
    }  # fmt: skip


def test_tied_weights_are_in_the_file_once(tmp_path: Any) -> None:
    net = gpt(50, 8, layers=1, heads=1, features=8)
    to_onnx(trained(net, (8,)), tmp_path / "net.onnx")
    shapes = [tuple(each.dims) for each in onnx.load(tmp_path / "net.onnx").graph.initializer]
    assert shapes.count((50, 8)) == 1
    assert (8, 50) not in shapes


# --- Preprocessing and metadata -------------------------------------------------------------------------------

STORED = np.random.default_rng(1).integers(0, 256, (20, 5, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "preprocess",
    [rescale(255), standardise(STORED), subtract_mean_image(STORED, divisor=100), unit_norm(), unit_norm(epsilon=2000)],
    ids=lambda each: each.name,
)
@pytest.mark.parametrize("net", [serial(flatten(), dense(3)), serial(conv2d(2, 3), flatten(), dense(3))], ids=str)
def test_preprocessing_is_in_the_file(preprocess: Any, net: Layer, tmp_path: Any) -> None:
    model = trained(net, (5, 4, 3), preprocess=preprocess)
    stored = np.concatenate([STORED[:3], np.zeros((1, 5, 4, 3), np.uint8)])
    want = net.apply(model.model.params, model.model.state, preprocess(stored)).y
    to_onnx(model, tmp_path / "net.onnx")
    assert_same(run(tmp_path / "net.onnx", stored.astype(np.float32)), want)
    to_onnx(model, tmp_path / "bare.onnx", preprocess=False)
    assert_same(run(tmp_path / "bare.onnx", preprocess(stored)), want)


def test_what_the_file_says_of_itself(tmp_path: Any) -> None:
    about = {"epochs": 3, "rate": 0.1}
    model = trained(dense(2), (4,), classes=("Katze", "犬"), about=about)
    to_onnx(model, tmp_path / "net.onnx")
    file = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(file, full_check=True)
    metadata = {each.key: json.loads(each.value) for each in file.metadata_props}
    assert metadata == {"classes": ["Katze", "犬"], "in_shape": [4], "about": about}
    assert (file.opset_import[0].version, file.producer_name) == (OPSET, "funcnn")
    assert file.graph.doc_string == "dense(units=2)"
    (given,), (made,) = file.graph.input, file.graph.output
    assert (given.name, made.name) == ("input", "output")
    assert [each.dim_param or each.dim_value for each in given.type.tensor_type.shape.dim] == ["batch", 4]


def test_several_inputs_and_outputs_are_numbered(tmp_path: Any) -> None:
    to_onnx(trained(carried(gru(3)), ((2, 2), (3,))), tmp_path / "net.onnx")
    file = onnx.load(tmp_path / "net.onnx").graph
    assert [each.name for each in file.input] == ["input_0", "input_1"]
    assert [each.name for each in file.output] == ["output_0", "output_1"]


# --- Parts of one's own ---------------------------------------------------------------------------------------


@config
class Doubled(Wrapped):
    """A combinator of one's own: twice what its layer gives."""

    name = "doubled"


def doubled_apply(
    settings: Doubled, params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False
) -> Applied:
    return Applied(2 * settings.layer.apply(params, state, x).y, state, None)


def doubled_backward(settings: Doubled, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> Gradients:
    raise NotImplementedError


def doubled_to_onnx(graph: Graph, settings: Doubled, params: Any, state: Any, x: Value) -> Value:
    y = graph.net(settings.layer, params, state, x)
    return graph.node("Add", y, y)


def test_a_layer_of_ones_own_is_refused_by_name_with_the_fix(tmp_path: Any) -> None:
    model = trained(serial(dense(3), own.cube()), (4,))
    said = message(LayerError, to_onnx, model, tmp_path / "net.onnx")
    assert said.startswith("serial[1] cube(): to_onnx cannot know how a layer of your own is written in ONNX. ")
    assert 'exporters={"cube": function}, with function(graph, settings, params, state, x) -> y' in said
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_has_the_name_of_one_of_the_librarys_is_not_taken_for_it(tmp_path: Any) -> None:
    false = elementwise(np.sin, np.cos, name="relu")
    assert "relu(): to_onnx cannot know" in message(LayerError, to_onnx, trained(false, (4,)), tmp_path / "net.onnx")


def test_a_combinator_of_ones_own(tmp_path: Any) -> None:
    net = make_layer(Doubled(serial(dense(3), batch_norm())), doubled_apply, doubled_backward, init_wrapped)
    model = trained(net, (4,))
    to_onnx(model, tmp_path / "net.onnx", exporters={"doubled": doubled_to_onnx})
    x = np.ones((2, 4), np.float32)
    assert_same(run(tmp_path / "net.onnx", x), net.apply(model.model.params, model.model.state, x).y)
    assert nodes(tmp_path / "net.onnx") == {"Gemm": 1, "Add": 1, "Identity": 1}  # the batch norm in it is folded


def halve_to_onnx(graph: Graph, function: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Mul", x, graph.number(0.5, x))


def test_a_preprocessing_of_ones_own(tmp_path: Any) -> None:
    model = trained(dense(3), (4,), preprocess=own.halve)
    said = message(LayerError, to_onnx, model, tmp_path / "net.onnx")
    assert said.startswith("halve: to_onnx cannot know how a preprocessing of your own is written in ONNX. ")
    assert 'exporters={"halve": function}' in said
    to_onnx(model, tmp_path / "net.onnx", exporters={"halve": halve_to_onnx})
    x = np.ones((2, 4), np.float32)
    want = dense(3).apply(model.model.params, model.model.state, x / 2).y
    assert_same(run(tmp_path / "net.onnx", x), want)
    to_onnx(model, tmp_path / "bare.onnx", preprocess=False)
    assert_same(run(tmp_path / "bare.onnx", x / 2), want)
    as_partial = attrs.evolve(model, preprocess=partial(own.halve))
    to_onnx(as_partial, tmp_path / "net.onnx", exporters={"halve": halve_to_onnx})
    assert_same(run(tmp_path / "net.onnx", x), want)


def wrong_shape(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Flatten", x, shape=(7,))


def nothing(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> None:
    return None


def false_shape(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Concat", x, x, axis=-1)  # twice as wide as it says


@pytest.mark.parametrize(
    ("exporter", "error", "part"),
    [
        (wrong_shape, LayerError, "cube(): expected its exporter to give a value of shape (4,), got (7,). Give graph."),
        (nothing, LayerError, "cube(): expected its exporter to give a value of shape (4,), got NoneType"),
        (false_shape, onnx.shape_inference.InferenceError, "8"),
    ],
)
def test_a_wrong_exporter_leaves_the_file_as_it_was(exporter: Any, error: Any, part: str, tmp_path: Any) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"before")
    assert part in message(error, to_onnx, trained(own.cube(), (4,)), path, exporters={"cube": exporter})
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"before"]


# --- Errors ---------------------------------------------------------------------------------------------------


def test_what_is_refused(tmp_path: Any) -> None:
    model = trained(serial(dense(3), relu()), (4,))
    assert "trained must be a Trained" in message(ValueError, to_onnx, model.net, tmp_path / "net.onnx")
    wrong = attrs.evolve(model, model=Model(tree.replace(model.model.params, "0.weight", np.ones((5, 3))), None))
    assert "serial" in message(LayerError, to_onnx, wrong, tmp_path / "net.onnx")
    several = trained(branches(dense(2), dense(3)), ((3,), (4,)))
    assert "softmax is for a net that gives logits" in message(
        ValueError, to_onnx, several, tmp_path / "net.onnx", softmax=True
    )
    assert 'a dictionary of functions such as {"square": square_to_onnx}' in message(
        ValueError, to_onnx, model, tmp_path / "net.onnx", exporters=[cube_to_onnx]
    )
    assert list(tmp_path.iterdir()) == []


def test_a_net_that_is_too_large_for_one_file(monkeypatch: Any, tmp_path: Any) -> None:
    monkeypatch.setattr(sys.modules["funcnn.interop.to_onnx"], "_LARGEST", 100)
    said = message(ValueError, to_onnx, trained(dense(2), (30,)), tmp_path / "net.onnx")
    assert re.fullmatch(r"to_onnx: the net has \d+ bytes, and one ONNX file holds 100", said)
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_the_extra_is_named(monkeypatch: Any, tmp_path: Any) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    said = message(ModuleNotFoundError, to_onnx, trained(dense(2), (3,)), tmp_path / "net.onnx")
    assert 'pip install "funcnn[onnx]"' in said


def test_the_package_is_loaded_where_it_is_used() -> None:
    program = "import sys, funcnn.interop; print({'onnx', 'onnxruntime', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# --- The document ---------------------------------------------------------------------------------------------

SECTION = (
    (Path(__file__).parents[2] / "docs" / "interop.md").read_text("utf-8").split("\n## ONNX\n")[1].split("\n## ")[0]
)


def test_the_examples_of_the_document_run(monkeypatch: Any, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "interop.md", "exec"), namespace)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cube.onnx", "mnist.onnx"]


def test_the_document_says_what_every_layer_becomes() -> None:
    table = SECTION.split("### What each layer becomes")[1]
    named = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert named == {*layers.__all__, *compose.__all__}

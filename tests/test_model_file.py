"""Trained nets in files: they come back whole, predict the same, and nothing else is taken for one."""

import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from cases import assert_close, gaussian, message
from own import Centred, counting, cube, diagonal, halve, power
from safetensors import numpy as safetensors

from funcnn import Key, checkpoint, serial, tree
from funcnn.checkpoint import CheckpointError
from funcnn.compose import carried
from funcnn.data import load, rescale, standardise, subtract_mean_image, unit_norm
from funcnn.data.handwriting import centred_drawing
from funcnn.data.preprocess import Preprocess
from funcnn.init import lecun_normal
from funcnn.layer import Array, Layer, LayerError
from funcnn.layers import conv1d, conv2d, dense, depthwise_conv2d, elementwise, flatten, gru, max_pool2d, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.model_file import Trained, familiar_logit, load_trained, logits_of, probabilities, save_trained
from funcnn.models import convnet, fully_connected
from funcnn.optimizers import adam
from funcnn.train import Model, Problem, init_state, make_step, predict

DIGITS = load("digits")
IMAGES = DIGITS.train.inputs[:50]
DENSE = fully_connected([8], 10)
CONVNET = convnet([4, 6], [8], 10, batch_norm=True, dropout=0.3)
SMALL = serial(conv2d(3, 3, weight_init=lecun_normal()), relu(), max_pool2d(2), flatten(), dense(10))


def trained(net: Layer, preprocess: Preprocess | None, dtype: type = np.float32, *, steps: int = 3) -> Trained:
    """A net after a few steps, so that nothing of it is as it was at first."""
    problem = Problem(net, softmax_cross_entropy, adam(0.01))
    state, step = init_state(problem, Key(0), DIGITS.in_shape, dtype), make_step(problem)
    inputs = preprocess(IMAGES) if preprocess else IMAGES.astype(dtype)
    for _ in range(steps):
        state, _ = step(state, (inputs, DIGITS.train.targets[:50]))
    about = {"epoch": 3, "loss": {"name": "softmax_cross_entropy"}, "share": 0.1}
    return Trained(net, state, DIGITS.in_shape, DIGITS.classes, preprocess, about)


KINDS = {
    "dense": trained(DENSE, rescale(16)),
    "convolution with batch norm": trained(CONVNET, standardise(IMAGES)),
    "float64": trained(CONVNET, subtract_mean_image(IMAGES, dtype=np.float64), np.float64),
    "another initialiser": trained(SMALL, unit_norm()),
    "without preprocessing": trained(serial(flatten(), dense(10)), None),
    "with a preparation": attrs.evolve(trained(DENSE, rescale(16)), prepare=DIGITS.prepare, familiar_logit=-1.5),
}
every_kind = pytest.mark.parametrize("net", KINDS.values(), ids=KINDS)


def stored(net: Trained, n: int = 20) -> Array:
    images = DIGITS.test.inputs[:n]
    return images if net.preprocess else images.astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


# --- What comes back ------------------------------------------------------------------------------------------


@every_kind
def test_everything_comes_back(net: Trained, path: Path) -> None:
    save_trained(path, net)
    again = load_trained(path)
    assert isinstance(again.model, Model)
    assert tree.equal(again.model, Model(net.model.params, net.model.state))
    for field in ("net", "in_shape", "classes", "preprocess", "about", "prepare", "familiar_logit", "columns"):
        value = getattr(again, field)
        assert type(value) is type(getattr(net, field))
        if field != "preprocess" or not net.preprocess:
            assert value == getattr(net, field)
    for batch_size in (1, 7, 256):
        shares = (probabilities(each, stored(net), batch_size=batch_size) for each in (net, again))
        assert next(shares).tobytes() == next(shares).tobytes()


@every_kind
def test_saving_what_was_loaded_gives_the_same_file(net: Trained, path: Path) -> None:
    save_trained(path, net)
    whole = path.read_bytes()
    save_trained(path, load_trained(path))
    assert path.read_bytes() == whole
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_path_may_be_text_and_the_rest_may_be_left_out(path: Path) -> None:
    net = KINDS["dense"]
    save_trained(str(path), Trained(net.net, net.model, net.in_shape, ("π", "b")))
    again = load_trained(str(path))
    assert (again.preprocess, again.about, again.classes) == (None, None, ("π", "b"))
    assert (again.prepare, again.familiar_logit) == (None, None)


def test_classes_may_be_named_by_numbers(path: Path) -> None:
    net = KINDS["dense"]
    for classes in (range(10), tuple(np.arange(10)), [True] * 10, np.arange(10.0)):
        save_trained(path, attrs.evolve(net, classes=classes, in_shape=tuple(np.array(net.in_shape))))
        again = load_trained(path)
        assert (again.classes, again.in_shape) == (tuple(map(str, classes)), (8, 8, 1))


def test_a_layer_whose_first_array_is_no_float_does_not_set_the_dtype(path: Path) -> None:
    net = serial(counting(), dense(3))
    params, state, _ = net.init(Key(0), (4,), np.float64)
    save_trained(path, Trained(net, Model(params, state), (4,), ("a", "b", "c")))
    assert checkpoint.read_description(path)["dtype"] == "float64"
    assert tree.equal(load_trained(path, layers=[counting]).model.params, params)


def test_a_net_is_loaded_as_large_as_one_asks_for(path: Path) -> None:
    net = KINDS["dense"]
    save_trained(path, net)
    with pytest.raises(CheckpointError) as caught:
        load_trained(path, largest=50)
    text = str(caught.value)
    assert text.startswith(f"{path}: flatten(): an example has 64 values there, more than the 50 of which a net is")
    advised = eval(f"dict({text.rpartition('pass ')[2]})")
    assert load_trained(path, **advised).net == net.net


@pytest.mark.parametrize(
    ("net", "in_shape", "values"),
    [
        (depthwise_conv2d(1, stride=1000, padding=1000), (1, 1, 20), 2001 * 2001 * 20),
        (conv1d(1, 1, stride=2**18, padding=2**18), (1, 200), (2**19 + 1) * 200),
        (carried(serial(conv1d(1, 1, stride=2**18, padding=2**18), gru(2))), ((1, 200), (2,)), (2**19 + 1) * 200),
    ],
    ids=str,
)
def test_padding_counts_to_the_size_of_a_net(net: Layer, in_shape: Any, values: int, path: Path) -> None:
    """A small file must not make a net whose examples fill the memory, though inputs and outputs are small."""
    params, state, _ = net.init(Key(0), in_shape)
    save_trained(path, Trained(net, Model(params, state), in_shape, ("a", "b")))
    assert f"an example has {values:,} values there, more than the {2**26:,} of which" in refused(path)
    assert load_trained(path, largest=values).net == net


def test_a_net_without_parameters_comes_back_too(path: Path) -> None:
    save_trained(path, Trained(flatten(), Model(None, None), (1, 2, 1), ("a", "b")))
    shares = probabilities(load_trained(path), np.zeros((3, 1, 2, 1), np.float32))
    np.testing.assert_array_equal(shares, np.full((3, 2), 0.5, np.float32), strict=True)


# --- Parts of one's own ---------------------------------------------------------------------------------------

OWN = serial(flatten(), dense(5, weight_init=diagonal(0.5)), cube(), power(2, activation=halve), dense(10))
MAKERS = [diagonal, cube, power, halve, Centred]


def test_parts_of_ones_own_are_named_in_the_file_and_in_what_loads_it(path: Path) -> None:
    net = trained(OWN, Centred(8))
    save_trained(path, net)
    assert checkpoint.read_description(path)["own"] == ["diagonal", "cube", "power", "halve", "centred"]
    for layers in ([], MAKERS[:-1]):
        with pytest.raises(CheckpointError) as caught:
            load_trained(path, layers=layers)
        call = f"load_trained('{path}', layers=[diagonal, cube, power, halve, centred])"
        assert str(caught.value) == f"{path}: saved with parts of your own. Pass what makes them: {call}"
    names = {maker.__name__: maker for maker in MAKERS} | {"centred": Centred, "load_trained": load_trained}
    again = eval(call, names)
    assert (again.net, again.preprocess) == (net.net, net.preprocess)
    assert probabilities(again, stored(net)).tobytes() == probabilities(net, stored(net)).tobytes()


def test_a_function_of_ones_own_is_a_preprocessing(path: Path) -> None:
    save_trained(path, trained(DENSE, halve))
    assert checkpoint.read_description(path)["own"] == ["halve"]
    assert load_trained(path, layers=iter([halve])).preprocess is halve


def test_what_could_not_be_loaded_is_refused_and_nothing_written(path: Path) -> None:
    net = trained(DENSE, halve)
    for changed, place in (
        ({"preprocess": lambda images: images / 2}, "preprocessing: a lambda has no name"),
        (
            {"net": serial(elementwise(abs, lambda x: x, name="size"), DENSE)},
            "layer serial.layers[0] size.df: a lambda",
        ),
        ({"net": serial(elementwise(abs, abs, name="relu"), DENSE)}, "layer serial.layers[0] relu: relu is also the"),
    ):
        with pytest.raises(LayerError, match=f"^{re.escape(place)}"):
            save_trained(path, attrs.evolve(net, **changed))
    assert list(path.parent.iterdir()) == []


def test_layers_that_are_none_are_refused_before_the_file_is_looked_at(path: Path) -> None:
    with pytest.raises(
        TypeError, match=r"^layers: expected constructors, got cube\(\). Pass cube, without the brackets$"
    ):
        load_trained(path, layers=[cube()])


def test_a_file_from_before_there_were_own_parts_or_preparations_is_loaded(path: Path) -> None:
    net = KINDS["with a preparation"]
    save_trained(path, net)
    description = checkpoint.read_description(path)
    for later in ("own", "prepare", "familiar_logit", "columns"):
        del description[later]
    checkpoint.save(path, Model(net.model.params, net.model.state), description=description)
    again = load_trained(path)
    assert (again.net, again.preprocess, again.prepare, again.familiar_logit) == (net.net, net.preprocess, None, None)


def test_the_nets_of_the_package_are_as_the_table_of_them_says() -> None:
    models = Path(__file__).parents[1] / "funcnn" / "trained"
    nets = {each.stem: load_trained(each) for each in models.glob("*.safetensors")}
    assert set(nets) == set(re.findall(r"^\| `(\w+)\.safetensors`", (models / "README.md").read_text(), re.MULTILINE))
    assert {name for name, each in nets.items() if each.prepare is not None} == {"digits_cnn", "mnist_cnn"}
    for each in nets.values():
        assert each.familiar_logit is not None
        assert len(each.classes) == 10


def test_a_preparation_of_ones_own_is_named_like_any_part(path: Path) -> None:
    net = attrs.evolve(KINDS["dense"], prepare=halve)
    save_trained(path, net)
    assert checkpoint.read_description(path)["own"] == ["halve"]
    assert load_trained(path, layers=[halve]).prepare is halve
    with pytest.raises(LayerError, match=r"^preparation: a lambda has no name"):
        save_trained(path, attrs.evolve(net, prepare=lambda image: image))


@pytest.mark.parametrize("prepare", [centred_drawing(), 3], ids=repr)
@pytest.mark.parametrize("holder", [KINDS["with a preparation"], DIGITS], ids=lambda each: type(each).__name__)
def test_a_preparation_that_no_file_could_be_loaded_with_is_refused_at_once(holder: Any, prepare: Any) -> None:
    text = message(ValueError, attrs.evolve, holder, prepare=prepare)
    kind = r"one that makes images of in_shape, \(8, 8, 1\), not \(28, 28, 1\)" if callable(prepare) else "a function"
    assert re.match(f"{type(holder).__name__}: prepare must be {kind}.* got ", text)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("prepare", {"name": "centred_drawing"}, "does not make images of shape (8, 8, 1)"),
        ("prepare", {"name": "centred_drawing", "size": 10**9, "box": 5}, "does not make images of shape (8, 8, 1)"),
        ("prepare", {"name": "centred_drawing", "size": "8"}, "size must be a positive int"),
        ("prepare", {"name": "rescale", "divisor": 2}, "does not make images of shape (8, 8, 1)"),
        ("prepare", {"function": "softmax_cross_entropy"}, "does not make images of shape (8, 8, 1)"),
        ("prepare", {"name": "relu"}, "expected the description of a preparation"),
        ("prepare", [1], "expected the description of a preparation"),
        ("prepare", {"name": "eval"}, "no part of this library is called 'eval'"),
        ("familiar_logit", "high", "familiar_logit must be a finite number, or None, got 'high'"),
        ("familiar_logit", True, "familiar_logit must be a finite number, or None, got True"),
        ("familiar_logit", float("inf"), ""),
        ("columns", "age", "expected a list of str, got 'age'"),
        ("columns", ["age"], "1 columns of examples of shape (8, 8, 1)"),
    ],
    ids=str,
)
def test_a_hostile_preparation_is_refused(field: str, value: Any, text: str, path: Path) -> None:
    assert text in damaged(path, (field,), value)


def test_a_familiar_logit_is_what_nearly_all_images_exceed() -> None:
    net = KINDS["convolution with batch norm"]
    logits = np.sort(logits_of(net, DIGITS.test.inputs).max(axis=1))
    for share in (0, 0.01, 0.5, 1):
        least = familiar_logit(net, DIGITS.test.inputs, share=share)
        assert least == logits[int(share * (len(logits) - 1))]
    assert familiar_logit(net, DIGITS.test.inputs[:1]) is not None
    params = tree.map(lambda leaf: leaf * np.float32(np.nan), net.model.params)
    assert familiar_logit(attrs.evolve(net, model=Model(params, net.model.state)), DIGITS.test.inputs) is None
    with pytest.raises(ValueError, match=r"^familiar_logit: share must be from 0 to 1, got 2"):
        familiar_logit(net, DIGITS.test.inputs, share=2)
    with pytest.raises(ValueError, match=r"^familiar_logit: stored must be images, at least one"):
        familiar_logit(net, DIGITS.test.inputs[:0])


# --- Probabilities --------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("batch_size", [1, 7, 20, 256])
def test_probabilities_are_the_softmax_of_what_is_predicted(net: Trained, batch_size: int) -> None:
    images = stored(net)
    inputs = net.preprocess(images) if net.preprocess else images
    logits = predict(net.net, net.model, inputs).astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = probabilities(net, images, batch_size=batch_size)
    single = inputs.dtype == np.float32
    assert (shares.shape, shares.dtype) == ((20, 10), inputs.dtype)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6 if single else 1e-14)
    assert_close(shares.astype(np.float64), powers / powers.sum(axis=1, keepdims=True), 1e-5 if single else 1e-13)


def test_an_image_alone_has_the_probabilities_that_it_has_among_others() -> None:
    net = KINDS["float64"]
    together = probabilities(net, stored(net))
    alone = np.concatenate([probabilities(net, stored(net)[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(alone, together, rtol=1e-12)


@every_kind
def test_no_images_have_no_rows(net: Trained) -> None:
    assert probabilities(net, stored(net)[:0]).shape == (0, 10)


def test_the_images_stay_as_they_are() -> None:
    for net in KINDS.values():
        images = stored(net).copy()
        before = images.copy()
        probabilities(net, images)
        np.testing.assert_array_equal(images, before, strict=True)


@pytest.mark.parametrize(
    ("shape", "fix"),
    [
        ((5, 8, 8, 3), "resize them, or convert their channels"),
        ((5, 7, 8, 1), "resize them, or convert their channels"),
        ((5, 64), "resize them, or convert their channels"),
        ((), "resize them, or convert their channels"),
        ((5, 8, 8), "give them a channel axis: stored[..., None]"),
        ((8, 8, 1), "give a single one a batch axis: stored[None]"),
    ],
    ids=str,
)
def test_images_of_another_shape_are_refused_and_their_axes_mended(shape: tuple[int, ...], fix: str) -> None:
    images = np.zeros(shape, np.uint8)
    text = f"probabilities: the net takes images of shape (8, 8, 1), got {shape[1:]}; {fix}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        probabilities(KINDS["dense"], images)
    if "axis" in fix:
        mended = eval(fix.rpartition(": ")[2], {"stored": images})
        assert probabilities(KINDS["dense"], mended).shape == (len(mended), 10)


def test_images_are_an_array_or_what_is_surely_one() -> None:
    images = stored(KINDS["dense"])
    assert tree.equal(probabilities(KINDS["dense"], images.tolist()), probabilities(KINDS["dense"], images))
    for wild, text in ((None, "stored must be an array"), (np.ma.masked_equal(images, 0), "masked values")):
        with pytest.raises(ValueError, match=f"probabilities.*{text}"):
            probabilities(KINDS["dense"], wild)
    for size in (0, 2.5, True, "many"):
        with pytest.raises(ValueError, match=f"probabilities: batch_size must be a positive int, got {size!r}"):
            probabilities(KINDS["dense"], images, batch_size=size)


def test_a_frame_of_several_dtypes_is_taken_column_by_column() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"age": [30, 60], "income": [1.5, 2.5], "in_bern": [True, False]})
    rows = np.array([[30, 1.5, 1], [60, 2.5, 0]])
    net = serial(dense(2))
    model = Model(*net.init(Key(0), (3,))[:2])
    for preprocess in (None, standardise(rows)):
        trained = Trained(net, model, (3,), ("no", "yes"), preprocess)
        assert tree.equal(probabilities(trained, table), probabilities(trained, rows.astype(np.float32)))
    with pytest.raises(ValueError, match="probabilities: column 'city' holds no numbers"):
        probabilities(trained, table.assign(city="Bern"))


def test_a_frame_of_other_columns_than_it_was_trained_on_is_refused(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"age": [30, 60], "income": [1.5, 2.5], "in_bern": [True, False]})
    net = serial(dense(2))
    model = Model(*net.init(Key(0), (3,))[:2])
    save_trained(tmp_path / "buyers", Trained(net, model, (3,), ("no", "yes"), columns=table.columns))
    trained = load_trained(tmp_path / "buyers")
    assert trained.columns == ("age", "income", "in_bern")
    expected = probabilities(trained, table)
    for names in (["income", "age", "in_bern"], ["age", "in_bern"]):
        other = table[names].assign(seen=1)
        told = f"the columns are {', '.join(names)}, seen, and the net was trained on age, income, in_bern. Pass those"
        with pytest.raises(ValueError, match=told):
            probabilities(trained, other)
        other = other.assign(income=table["income"])
        assert tree.equal(probabilities(trained, other[list(trained.columns)]), expected)  # what the message says
    few = table.drop(columns="in_bern").reindex(columns=trained.columns, fill_value=0)
    assert tree.equal(probabilities(trained, few), probabilities(trained, table.assign(in_bern=False)))
    with pytest.raises(ValueError, match=r"probabilities: the net takes examples of shape .*give each the features"):
        probabilities(trained, np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"Trained: columns must be names of the features of an example \(3,\), got"):
        Trained(net, model, (3,), ("no", "yes"), columns=("age",))


# --- What is refused ------------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_trained(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    return text


def advice(path: Path) -> str:
    return f"expected a file that save_trained wrote, as model.safetensors in the folder {path.parent} of an experiment"


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(str(path))}: no such checkpoint file$"):
        load_trained(path)


def test_a_file_cut_short_or_of_another_kind_is_refused(path: Path) -> None:
    save_trained(path, KINDS["dense"])
    whole = path.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], b"", b"\x89PNG\r\n\x1a\n" * 9):
        path.write_bytes(content)
        assert "damaged or cut short, or no safetensors file" in refused(path)


def test_another_writers_safetensors_are_refused(path: Path) -> None:
    safetensors.save_file({"weight": np.ones(3)}, path)
    assert "not one that funcnn wrote" in refused(path)


def test_a_checkpoint_is_no_model_and_the_advice_leads_to_one(path: Path) -> None:
    """What a user may well confuse: the two files of an experiment's folder. The advice names the other."""
    other = path.parent / "checkpoint.safetensors"
    net = KINDS["dense"]
    checkpoint.save(other, net.model, description={"net": {"name": "serial"}, "in_shape": [8, 8, 1]})
    save_trained(path, net)
    text = refused(other)
    assert text.startswith(f"{other}: no trained net that can be rebuilt (")
    assert text.endswith(advice(other))
    folder = re.search(r"as (\S+) in the folder (.+) of an experiment$", text)
    assert load_trained(Path(folder[2]) / folder[1]).net == net.net


@pytest.mark.parametrize("description", [None, [], {}, "a net", 3], ids=repr)
def test_a_file_that_describes_no_net_is_refused(description: Any, path: Path) -> None:
    model = KINDS["dense"].model
    checkpoint.save(path, Model(model.params, model.state), description=description)
    text = refused(path)
    assert text.endswith(advice(path))
    assert ("it describes no net" in text) == (not isinstance(description, dict))


def test_an_unknown_layer_is_named(path: Path) -> None:
    assert "no part of this library is called 'denser'" in damaged(path, ("net", "layers", 1, "name"), "denser")
    assert "unit" in damaged(path, ("net", "layers", 1), {"name": "dense", "unit": 8})


@pytest.mark.parametrize("key", ["net", "in_shape", "dtype", "classes", "preprocess", "about"])
def test_a_missing_key_is_named(key: str, path: Path) -> None:
    assert f"(description: it has no {key})" in damaged(path, (key,), MISSING)


MISSING = object()


def replaced(description: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The description with another value in one place, or without it."""
    if not place:
        return value
    changed = copy.deepcopy(description)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return changed


def damaged(path: Path, place: tuple[Any, ...], value: Any) -> str:
    """The error of a model whose description has another value in one place."""
    save_trained(path, KINDS["dense"])
    model = KINDS["dense"].model
    description = replaced(checkpoint.read_description(path), place, value)
    checkpoint.save(path, Model(model.params, model.state), description=description)
    text = refused(path)
    assert text.endswith(advice(path))
    return text


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in JSON data, the whole first."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from places(each, (*place, key))


def test_damage_anywhere_in_the_description_is_refused_or_does_no_harm(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a name, a loss that is only told: then the net comes back. It is never another error."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # hundreds of files need not outlast a power cut
    net = KINDS["convolution with batch norm"]
    model = Model(net.model.params, net.model.state)
    save_trained(path, net)
    description = checkpoint.read_description(path)
    refusals, loads = 0, 0
    for place in places(description):
        for value in (None, "x", 7, -1, 2.5, True, [], {}, [[]], {"name": "x"}, *([MISSING] if place else [])):
            checkpoint.save(path, model, description=replaced(description, place, value))
            try:
                again = load_trained(path)
            except CheckpointError:
                refusals += 1
            else:
                assert tree.equal(again.model, model)
                loads += 1
    assert refusals > 2 * loads


def test_parameters_of_another_net_are_refused(path: Path) -> None:
    save_trained(path, attrs.evolve(KINDS["dense"], net=fully_connected([9], 10)))
    assert "float32 (64, 8) in the file, float32 (64, 9) in what is to be restored" in refused(path)
    save_trained(path, attrs.evolve(KINDS["dense"], net=CONVNET))
    assert "saved from another net" in refused(path)


def test_a_net_that_does_not_take_the_images_is_refused(path: Path) -> None:
    save_trained(path, attrs.evolve(KINDS["convolution with batch norm"], in_shape=(8, 8)))
    assert refused(path).endswith(advice(path))


def test_no_code_of_a_file_is_run(path: Path) -> None:
    """Only what the library lists as a part, or the caller passes, is ever called."""
    for name in ("eval", "exec", "print", "builtins.eval", "__import__", "rebuild", "load_trained", "os.system"):
        for place in (("net", "layers", 1), ("preprocess",)):
            for damage in ({"name": name, "layers": ["print(1)"]}, {"function": name, "*": ["print(1)"]}):
                assert f"no part of this library is called {name!r}" in damaged(path, place, damage)


def test_nothing_is_written_where_nothing_can_be(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OSError, match=re.escape(path.name)):
        save_trained(path, KINDS["dense"])
    assert list(path.iterdir()) == []


def test_gaussian_inputs_need_no_preprocessing(path: Path) -> None:
    params, state, _ = dense(3).init(Key(0), (4,), np.float64)
    save_trained(path, Trained(dense(3), Model(params, state), (4,), ("a", "b", "c")))
    inputs = gaussian((6, 4))
    assert_close(probabilities(load_trained(path), inputs).sum(axis=1), np.ones(6), 1e-14)

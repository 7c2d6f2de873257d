"""What is fuzzed: every file that the library reads, every public function's arguments, every array that it takes."""

import gzip
import inspect
import io
import json
import shutil
import tarfile
import tempfile
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from cases import CASES, Case, several
from optimizer_cases import OPTIMIZERS
from PIL import Image

import funcnn
from funcnn import (
    Key,
    checkpoint,
    compose,
    init,
    keys,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    schedules,
    train,
    tree,
)
from funcnn import data as data_module
from funcnn import sweep as sweep_module
from funcnn.arrays.threads import set_threads
from funcnn.data import download, load, load_folder, read_class_folders, read_images
from funcnn.data.formats import read_cifar10, read_idx
from funcnn.layers import batch_norm, conv2d, dense, flatten, relu
from funcnn.model_file import Trained, load_trained, save_trained
from funcnn.rebuild import rebuild
from funcnn.report.history import read_history
from funcnn.sweep.results import ResultsFile
from funcnn.train import Model
from fuzz.engine import Target
from fuzz.wild import Rng, array, choose, mutated, value

__all__ = ["TARGETS"]


# --- Files ----------------------------------------------------------------------------------------------------


@cache
def _good(kind: str) -> bytes:
    """A whole file of a kind."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        if kind in ("checkpoint", "model"):
            net = funcnn.serial(conv2d(2, 3), batch_norm(), relu(), flatten(), dense(2))
            params, state, _ = net.init(Key(0), (4, 4, 1))
            if kind == "model":
                preparing = data_module.rescale(255), {"epoch": 1}, data_module.centred_drawing(4, 3), 0.5
                trained = Trained(net, Model(params, state), (4, 4, 1), ("a", "b"), *preparing)
                save_trained(path, trained)
            else:
                checkpoint.save(path, Model(params, state), description={"net": "a"})
            return path.read_bytes()
        if kind == "results":
            trial = _trial
            list(
                sweep_module.sweep(
                    trial, sweep_module.grid(lr=[0.1, 0.2]), executor=sweep_module.InProcess(), out=folder
                )
            )
            return (Path(folder) / "results.jsonl").read_bytes()
    if kind == "idx":
        return b"\x00\x00\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (3, 4, 5)) + bytes(range(60))
    if kind == "idx.gz":
        return gzip.compress(_good("idx"), 1)
    if kind == "cifar":
        return bytes(3073) * 2
    if kind in ("png", "jpeg"):
        out = io.BytesIO()
        Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(out, kind)
        return out.getvalue()
    raise AssertionError(kind)


def _trial(config: Any, seed: int) -> dict[str, float]:
    return {"accuracy": config.lr + seed}


def _reading(kind: str, name: str, read: Callable[[Path], Any]) -> Target:
    def target(rng: Rng) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(mutated(rng, _good(kind)))
            read(path)

    return target


def _like() -> Model:
    params, state, _ = funcnn.serial(conv2d(2, 3), batch_norm(), relu(), flatten(), dense(2)).init(Key(0), (4, 4, 1))
    return Model(params, state)


def _resume_sweep(path: Path) -> None:
    executor = sweep_module.InProcess()
    list(sweep_module.sweep(_trial, sweep_module.grid(lr=[0.1, 0.2]), executor=executor, out=path.parent))


def _history(rng: Rng) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.csv"
        path.write_bytes(mutated(rng, _HISTORY))
        read_history(path)


_HISTORY = Path(__file__).with_name("history.csv").read_bytes()


def _class_folder(kind: str) -> Target:
    good = Image.new("RGB", (10, 10))

    def target(rng: Rng) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name in ("cat", "dog"):
                (Path(folder) / name).mkdir()
                for i in range(2):
                    good.save(Path(folder) / name / f"{i}.png")
            (Path(folder) / "cat" / f"x.{kind}").write_bytes(mutated(rng, _good(kind)))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of images that are left out
                choose(rng, (read_class_folders, load_folder))(folder)

    return target


def _archive(rng: Rng) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        for i in range(6):
            name = f"cifar-10-batches-bin/{f'data_batch_{i + 1}' if i < 5 else 'test_batch'}.bin"
            part = tarfile.TarInfo(name)
            part.size = 3073
            tar.addfile(part, io.BytesIO(bytes(3073)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tar.gz"
        path.write_bytes(mutated(rng, out.getvalue()))
        download._unpack(download.Source("a.tar.gz", 1, "md5:0", (), "cifar-10-batches-bin"), path)


def _mnist(rng: Rng) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for part in ("train", "t10k"):
            images = b"\x00\x00\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (20, 28, 28)) + bytes(20 * 784)
            labels = b"\x00\x00\x08\x01" + (20).to_bytes(4, "big") + bytes(i % 10 for i in range(20))
            for name, content in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
                changed = mutated(rng, content) if rng.integers(3) == 0 else content
                (Path(folder) / f"{part}-{name}").write_bytes(changed)
        load("mnist", data_dir=folder)


FILES: dict[str, Target] = {
    "checkpoint": _reading("checkpoint", "c.safetensors", lambda path: checkpoint.load(path, _like())),
    "model": _reading("model", "m.safetensors", load_trained),
    "results": _reading("results", "results.jsonl", lambda path: ResultsFile(path).read()),
    "sweep": _reading("results", "results.jsonl", _resume_sweep),
    "history": _history,
    "idx": _reading("idx", "images-idx3-ubyte", read_idx),
    "idx.gz": _reading("idx.gz", "images-idx3-ubyte.gz", read_idx),
    "images": _reading("png", "a.png", lambda path: read_images(path.parent)),
    "cifar": _reading("cifar", "data_batch_1.bin", read_cifar10),
    "png": _class_folder("png"),
    "jpeg": _class_folder("jpeg"),
    "cifar.tar.gz": _archive,
    "mnist": _mnist,
}


# --- Arguments ------------------------------------------------------------------------------------------------

# Functions that wait for a network, a terminal or other processes, or run for long, are fuzzed in other ways.
_LEFT_OUT = {"node", "load", "load_text", "sweep", "halving", "Processes", "train", "load_folder", "read_class_folders"}
_USUAL: dict[str, Callable[[Rng], Any]] = {
    "key": lambda rng: Key(0), "in_shape": lambda rng: (4, 4, 2), "shape": lambda rng: (2, 3), "units": lambda rng: 3,
    "filters": lambda rng: 2, "kernel_size": lambda rng: 3, "window": lambda rng: 2, "rate": lambda rng: 0.5,
    "lr": lambda rng: 0.1, "x": lambda rng: array(rng, (3, 4, 4, 2)), "outputs": lambda rng: array(rng, (5, 3)),
    "logits": lambda rng: array(rng, (5, 3)), "scores": lambda rng: array(rng, (5, 3)), "hidden": lambda rng: [4],
    "labels": lambda rng: np.array([0, 1, 2, 1, 0]), "targets": lambda rng: array(rng, (5, 3)),
    "classes": lambda rng: 3,
    "images": lambda rng: array(rng, (3, 6, 6, 1)), "tree": lambda rng: (np.ones(2), (None, np.zeros((2, 3)))),
    "params": lambda rng: (np.ones(2), None), "step": lambda rng: 3, "n": lambda rng: 2, "batch_size": lambda rng: 2,
    "mask": lambda rng: choose(rng, (None, lambda path, leaf: True, 3)), "name": lambda rng: "own",
    "update": lambda rng: choose(rng, (lambda *given: tuple(given[::2]), 3)), "f": lambda rng: np.sin,
    "init": lambda rng: choose(rng, (None, lambda *given: None, 3)), "df": lambda rng: np.cos,
    "layer": lambda rng: dense(3),
}  # fmt: skip


# What a function raises that `map` is given is the function's own, and passes through.
_NEVER_WILD = {"fn": lambda rng: choose(rng, (lambda *leaves: leaves[0], None, 3))}


def _functions(*modules: ModuleType) -> dict[str, Callable[..., Any]]:
    found = {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in modules
        for name in module.__all__
        if callable(getattr(module, name)) and name not in _LEFT_OUT
    }
    return {name: each for name, each in found.items() if inspect.isfunction(each)}


def _arguments(rng: Rng, function: Callable[..., Any]) -> Any:
    positional, named = [], {}
    for name, parameter in inspect.signature(function).parameters.items():
        usual = _USUAL.get(name)
        if parameter.default is not inspect.Parameter.empty and rng.integers(3) == 0:
            continue
        given = usual(rng) if usual is not None and rng.integers(4) else value(rng)
        given = _NEVER_WILD[name](rng) if name in _NEVER_WILD else given
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional += [choose(rng, (dense(3), relu(), given)) for _ in range(int(rng.integers(3)))]
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            named[name] = given
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named |= {str(choose(rng, ("lr", "depth", "seed", "_x"))): choose(rng, ([0.1, 0.2], given))}
        else:
            positional.append(given)
    made = function(*positional, **named)
    return list(made) if inspect.isgenerator(made) else made


def _call(functions: dict[str, Callable[..., Any]], rng: Rng) -> None:
    """A call, and if a layer or an optimizer comes out, it is used."""
    made = _arguments(rng, functions[choose(rng, list(functions))])
    repr(made)
    if isinstance(made, funcnn.Layer):
        shape = choose(rng, ((4,), (4, 4, 2), (), (6, 6, 1), value(rng)))
        params, state, _ = made.init(Key(0) if rng.integers(4) else value(rng), shape)
        made.apply(params, state, array(rng, (2, *shape)), key=Key(1), train=True)
        rebuild(json.loads(json.dumps(funcnn.layer.describe(made))))


def _path_function(rng: Rng) -> None:
    """Functions that take a path, and are given something else."""
    folder = tempfile.mkdtemp()
    try:
        path = choose(rng, (folder, f"{folder}/none", Path(folder), value(rng)))
        function = choose(rng, (load_trained, read_idx, read_cifar10, read_class_folders, load_folder, read_history))
        function(path)
    finally:
        shutil.rmtree(folder)


ARGUMENTS: dict[str, Target] = {
    "layers": partial(_call, _functions(layers, compose)),
    "values": partial(_call, _functions(init, schedules, models, keys)),
    "optimizers": partial(_call, _functions(optimizers)),
    "losses": partial(_call, _functions(losses, metrics)),
    "trees": partial(_call, _functions(tree)),
    "training": partial(_call, _functions(train)),
    "data": partial(_call, _functions(data_module)),
    "grids": partial(_call, _functions(sweep_module)),
    "threads": lambda rng: set_threads(choose(rng, (1, value(rng)))),
    "paths": _path_function,
}


# --- Arrays ---------------------------------------------------------------------------------------------------


@cache
def _ready(case: Case) -> tuple[Any, ...]:
    params, state, out_shape = case.layer.init(Key(0), case.in_shape)
    return params, state, out_shape


def _layer(rng: Rng) -> None:
    case = choose(rng, CASES)
    params, state, out_shape = _ready(case)
    n = int(rng.integers(4))
    good = _batches(lambda shape: rng.standard_normal(shape).astype("f4"), n, case.in_shape)
    x = _batches(partial(array, rng), n, case.in_shape) if rng.integers(2) else good
    if rng.integers(8) == 0:
        params, state = choose(rng, ((value(rng), state), (params, value(rng)), (state, params)))
    with np.errstate(all="ignore"):
        y, _, kept = case.layer.apply(params, state, x, key=Key(1), train=bool(rng.integers(3)))
        if not isinstance(y, tuple if several(out_shape) else np.ndarray):
            raise AssertionError(f"{case.layer} gives {type(y)}")
        dy = _batches(partial(array, rng), n, out_shape)
        case.layer.backward(params, value(rng) if rng.integers(10) == 0 else kept, dy)


def _batches(make: Callable[[tuple[int, ...]], Any], n: int, shape: Any) -> Any:
    """A batch of examples of a shape; of several shapes, a tuple of batches."""
    return tuple([_batches(make, n, each) for each in shape]) if several(shape) else make((n, *shape))


def _loss(rng: Rng) -> None:
    n, classes = int(rng.integers(4)), int(rng.integers(1, 4))
    outputs = array(rng, (n, classes))
    labels = choose(rng, (rng.integers(0, max(1, classes), n), array(rng, (n, classes)), rng.integers(-2, 5, n)))
    functions = _functions(losses, metrics)
    name = choose(rng, [each for each in functions if not each.endswith(("check_labels", "default_metric"))])
    more = {"k": choose(rng, (1, 2, value(rng)))} if name.endswith("top_k_accuracy") else {}
    with np.errstate(all="ignore"):
        functions[name](outputs, labels, **more)


def _optimizer(rng: Rng) -> None:
    optimizer = choose(rng, OPTIMIZERS)
    params: Any = (rng.standard_normal((3, 2)).astype("f4"), None, rng.standard_normal(2).astype("f4"))
    grads: Any = (array(rng, (3, 2)), None, array(rng, (2,)))
    with np.errstate(all="ignore"):
        state = optimizer.init(params)
        twist = int(rng.integers(5))
        if twist == 0:
            state = value(rng)
        elif twist == 1:
            grads = value(rng)
        elif twist == 2:
            params = value(rng)
        optimizer.update(grads, state, params, int(rng.integers(5)) if rng.integers(4) else value(rng))


def _examples(rng: Rng) -> None:
    """Data sets of wild arrays, batches of them."""
    n = int(rng.integers(5))
    part = data_module.Part(
        array(rng, (n, 4, 4, 1)), choose(rng, (rng.integers(0, 3, n), array(rng, (n,)), value(rng)))
    )
    part.take(choose(rng, (slice(0, 2), np.arange(len(part)), value(rng))))
    list(train.batches(part, 2, key=Key(0)))


ARRAYS: dict[str, Target] = {"layer": _layer, "loss": _loss, "optimizer": _optimizer, "examples": _examples}

TARGETS: dict[str, Target] = FILES | ARGUMENTS | ARRAYS

"""Layer table, histories, progress, options and pictures; and whole experiments made of them, in this process."""

import argparse
import io
import json
import re
import shlex
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import attrs
import numpy as np
import pytest

from funcnn import Key, checkpoint, serial, train, tree
from funcnn.checkpoint import CheckpointError
from funcnn.compose import parallel, rebuild, residual
from funcnn.data import flip_horizontally, load, shifted_crop, standardise
from funcnn.layer import Applied, Config, Gradients, make_layer
from funcnn.layer import config as layer_config
from funcnn.layers import conv2d, dense, flatten, max_pool2d, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam, sgd
from funcnn.report.experiment import load_data, parse_options, run, steps_per_epoch
from funcnn.report.history import Row, best_row, read_history, row_of, write_history
from funcnn.report.options import positive
from funcnn.report.pictures import draw_confusion, draw_curves, draw_filters, draw_samples
from funcnn.report.progress import epoch_line, progress, step_line
from funcnn.report.results import first_filters
from funcnn.report.table import count_parameters, layer_rows, layer_table, text_table
from funcnn.schedules import piecewise_constant
from funcnn.train import Epoch, Metrics, Model, Problem, Step
from funcnn.trained import load_trained
from funcnn.tree import TreeError

NET = serial(serial(conv2d(4, 3), relu()), max_pool2d(2), flatten(), residual(dense(36)), parallel(dense(2), dense(3)))


def step(number, accuracy=0.5, batches=2):
    epoch, batch = divmod(number - 1, batches)
    return Step(number, 1 + epoch, 1 + batch, batches, 0.5, accuracy, 0.6, accuracy and 0.625, 0.1)


def epoch(number, epochs=2, validation=None, **parts):
    return Epoch(number, epochs, None, Metrics(0.5, 0.75), validation, 0.1, 1.5, **parts)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_rows_add_up_to_the_net():
    rows = layer_rows(NET, (8, 8, 1))
    params, state, out_shape = NET.init(Key(0), (8, 8, 1))
    assert [row.place for row in rows] == ["0.0", "0.1", "1", "2", "3", "4"]
    assert rows[-1].out_shape == out_shape == (5,)
    assert sum(row.parameters for row in rows) == count_parameters(params)
    assert sum(row.macs for row in rows) == NET.config.macs((8, 8, 1))
    _, _, residuals = NET.apply(params, state, np.zeros((2, 8, 8, 1), np.float32), train=True)
    # The table counts what views show by the memory they show, which flatten's and dense's residuals share.
    assert sum(row.residual_bytes for row in rows) == tree.nbytes(residuals) // 2


def test_table_is_aligned():
    lines = layer_table(NET, (8, 8, 1)).splitlines()
    assert lines[0].split()[:2] == ["layer", "output"]
    assert "total" in lines[-1]
    assert len({len(line) for line in lines}) == 1


def test_table_of_an_empty_net():
    assert "total" in layer_table(serial(), (3,))


def test_text_tables_align_words_to_the_left_and_numbers_to_the_right():
    rows = [("a", 12, 0.5, None), ("long", 7, 2 / 3, 1.0)]
    assert text_table(("name", "count", "share", "rest"), rows, left=1).splitlines() == [
        "name  count   share    rest",
        "a        12  0.5000       -",
        "long      7  0.6667  1.0000",
    ]
    assert text_table(("a", "b"), [], left=1) == "a  b"


# --- Histories ------------------------------------------------------------------------------------------------


def row(number, accuracy=None, loss=None, **others):
    """An epoch's row by what it has on the validation part."""
    values = {field.name: None for field in attrs.fields(Row)} | {"epoch": number, "seconds": 0.1, "learning_rate": 0.1}
    return Row(**values | {"running_loss": 0.5, "validation_accuracy": accuracy, "validation_loss": loss} | others)


def test_history_round_trip(tmp_path):
    full = Row(1, 0.1, 1e-3, 1 / 3, 0.5, 2 / 3, 0.25, 1e-300, 1.0, 0.7, 0.1)
    rows = [full, row(2), row(3, 0.1 + 0.2, 0.0)]
    write_history(tmp_path / "history.csv", rows)
    assert read_history(tmp_path / "history.csv") == rows
    header = (tmp_path / "history.csv").read_text().splitlines()[0]
    assert header == ",".join(
        [
            *["epoch", "seconds", "learning_rate", "train_loss", "train_accuracy", "validation_loss"],
            *["validation_accuracy", "test_loss", "test_accuracy", "running_loss", "running_accuracy"],
        ]
    )


def test_the_row_of_an_epoch_has_every_measure_in_its_place():
    event = Epoch(
        *(4, 9, None, Metrics(0.7, 0.1), Metrics(0.5, 0.3), 0.01, 2.5), subset=Metrics(0.4, 0.6), test=Metrics(0.8, 0.2)
    )
    assert row_of(event) == Row(
        epoch=4, seconds=2.5, learning_rate=0.01, train_loss=0.4, train_accuracy=0.6, validation_loss=0.5,
        validation_accuracy=0.3, test_loss=0.8, test_accuracy=0.2, running_loss=0.7, running_accuracy=0.1,
    )  # fmt: skip
    without = row_of(attrs.evolve(event, validation=None, subset=None, test=None, train=Metrics(0.7, None)))
    measured = {key: value for key, value in attrs.asdict(without).items() if value is not None}
    assert measured == {"epoch": 4, "seconds": 2.5, "learning_rate": 0.01, "running_loss": 0.7}


BEST = {
    "the highest accuracy": ([row(1, 0.5, 0.1), row(2, 0.9, 0.7), row(3, 0.8, 0.2)], 2),
    "of equals the lowest loss": ([row(1, 0.9, 0.3), row(2, 0.9, 0.2), row(3, 0.9, 0.25)], 2),
    "of equals in both the first": ([row(1, 0.5, 0.2), row(2, 0.9, 0.2), row(3, 0.9, 0.2)], 2),
    "no accuracy ever": ([row(1, 0.0, 2.5), row(2, 0.0, 2.4), row(3, 0.0, 2.6)], 2),
    "without a metric the lowest loss": ([row(1, None, 0.4), row(2, None, 0.2), row(3, None, 0.3)], 2),
    "without a metric of equals the first": ([row(1, None, 0.2), row(2, None, 0.2)], 1),
    "without a validation part the last": ([row(1), row(2), row(3)], 3),
    "one row": ([row(7, 0.0, 5.0)], 7),
}


@pytest.mark.parametrize(("rows", "best"), BEST.values(), ids=BEST)
def test_the_best_row_is(rows, best):
    assert best_row(rows).epoch == best
    # What the other parts say never matters: here, that every other row is better.
    others = ({"train_accuracy": 1 - here, "test_accuracy": 1 - here} for here in (each.epoch == best for each in rows))
    assert best_row([attrs.evolve(each, **values) for each, values in zip(rows, others, strict=True)]).epoch == best


def test_the_best_of_no_rows_is_refused():
    with pytest.raises(ValueError, match=r"^best_row: expected at least one row, got none$"):
        best_row([])


def test_history_of_other_columns_is_refused(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss\n1,2\n")
    with pytest.raises(ValueError, match=r"expected the columns epoch, seconds, .* got \['epoch', 'loss'\]"):
        read_history(tmp_path / "history.csv")


def test_history_that_is_not_there_is_empty(tmp_path):
    assert read_history(tmp_path / "history.csv") == []


# --- Progress -------------------------------------------------------------------------------------------------


def events():
    parts = {"subset": Metrics(0.3, 0.9), "test": Metrics(0.6, 0.7)}
    return [step(1), step(2), epoch(1, validation=Metrics(0.4, 0.8), **parts), step(3), step(4), epoch(2)]


def shown(given, stream=None, **settings):
    """What progress shows of these events."""
    stream = stream or io.StringIO()
    list(progress(given, **{"epochs": 2, "stream": stream} | settings))
    return stream.getvalue()


@pytest.mark.parametrize("settings", [{}, {"print_every": 1}, {"quiet": True}], ids=str)
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_progress_passes_every_event_on_unchanged(settings, stream):
    given = events()
    passed = list(progress(iter(given), epochs=2, stream=stream(), **settings))
    assert [id(event) for event in passed] == [id(event) for event in given]


def test_progress_without_a_terminal_is_a_line_per_epoch():
    first, second = shown(events()).splitlines()
    parts = "train 0.9000  validation 0.8000  test 0.7000"
    assert first == f"epoch 1/2  loss 0.5000 accuracy 0.7500  {parts}  lr 0.1  1.50 s  0:00 left"
    assert second == "epoch 2/2  loss 0.5000 accuracy 0.7500  lr 0.1  1.50 s"


def test_an_epochs_line_has_losses_where_there_is_no_metric():
    event = attrs.evolve(epoch(9, epochs=12, validation=Metrics(0.4, None)), train=Metrics(0.5, None))
    assert epoch_line(event, 0) == "epoch  9/12  loss 0.5000  validation 0.4000  lr 0.1  1.50 s  0:00 left"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.7, "1:00"), (61, "1:01"), (3599, "59:59"), (3725, "1:02:05")]
)
def test_an_epochs_line_has_the_time_that_is_left(seconds, text):
    assert epoch_line(epoch(1), seconds).endswith(f"  {text} left")


@pytest.mark.parametrize(("done", "left"), [(0, ["4:00", "2:00"]), (1, ["2:00"])], ids=["from the start", "resumed"])
def test_the_time_that_is_left_is_that_of_the_epochs_so_far(done, left, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    module = sys.modules[progress.__module__]  # whose name in its package is the function's
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def slow():
        for number in range(2 * done + 1, 7):
            clock.now += 60
            yield step(number)
            if number % 2 == 0:
                yield epoch(number // 2, epochs=3)

    assert re.findall(r"(\S+) left", shown(slow(), epochs=3)) == left


def test_a_steps_line_has_its_place_loss_and_accuracy():
    assert step_line(step(1234, batches=1000)) == "step 1,234 (23% of epoch 2)  loss 0.5000 accuracy 0.5000"
    assert step_line(step(2, accuracy=None)) == "step 2 (100% of epoch 1)  loss 0.5000"


@pytest.mark.parametrize("first", [0, 3, 7, 8], ids=lambda first: f"after step {first}")
@pytest.mark.parametrize("every", [1, 3, 4, 100])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_there_is_a_line_for_every_kth_step_of_the_run(first, every, stream):
    """The number of a step is that in the run, so that a run that goes on prints the lines it would have printed."""
    given = [step(number, batches=7) for number in range(first + 1, 15)]
    printed = re.findall(r"(?:^|[\r\n])step (\d+) ", shown(given, stream(), print_every=every))
    assert [int(number) for number in printed] == [number for number in range(first + 1, 15) if number % every == 0]


def test_without_print_every_no_step_has_a_line():
    assert "step" not in shown(events())


@pytest.mark.parametrize("first", [1, 3], ids=["from the start", "resumed"])
def test_progress_on_a_terminal_has_the_epochs_share_loss_accuracy_and_time_left(first):
    given = [event for event in events() if not isinstance(event, Step) or event.step >= first]
    frames = shown(given, Terminal(), print_every=1).split("\r")
    for number in range(first, 5):
        place = f"epoch {(number + 1) // 2}/2 {100 - number % 2 * 50:3}%, run {number * 25:3}%|"
        (drawn, *_) = [frame for frame in frames if frame.startswith(place)]
        assert "loss 0.5000, accuracy 0.500, epoch's 0.6250 " in drawn
        assert re.search(r" \[\d\d:\d\d so far, \d\d:\d\d left\]$", drawn)


def test_the_bar_is_gone_when_the_run_is_done():
    last = shown(events(), Terminal()).split("\r")[-2:]
    assert [each.strip() for each in last] == ["", ""]


def test_progress_on_a_terminal_without_tqdm_says_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    stream = Terminal()
    list(progress(events(), epochs=2, stream=stream))
    assert stream.getvalue().startswith('For a progress bar: pip install "funcnn[progress]"')
    assert "epoch 2/2" in stream.getvalue()


def test_progress_without_a_metric():
    printed = shown([step(1, accuracy=None)], Terminal(), print_every=1)
    assert "accuracy" not in printed
    assert "loss 0.5000" in printed


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_quiet_progress_shows_nothing(stream, capsys):
    assert shown(events(), stream(), quiet=True, print_every=1) == ""
    assert capsys.readouterr() == ("", "")


# --- Pictures -------------------------------------------------------------------------------------------------


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") and path.stat().st_size > 2000


def test_pictures_of_ordinary_and_of_odd_input(tmp_path):
    rows = [row(1)]
    draw_curves(rows, tmp_path / "curves.png", title="one epoch, no metric")
    draw_curves([], tmp_path / "empty.png", title="no epoch")
    draw_confusion(np.array([[0, 0], [1, 3]]), ("long name", "b"), tmp_path / "confusion.png", title="an empty class")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (3, 5, 5, 3), np.uint8), np.array([0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]])
    draw_samples(images, labels, probabilities, ("a", "b"), tmp_path / "samples.png", title="three in colour")
    draw_filters(rng.normal(size=(3, 5, 1, 70)), tmp_path / "grey.png", title="more than are drawn, of one channel")
    draw_filters(np.zeros((2, 2, 3, 1), np.float32), tmp_path / "colour.png", title="one, in colour, all zero")
    names = ("curves.png", "empty.png", "confusion.png", "samples.png", "grey.png", "colour.png")
    assert all(is_picture(tmp_path / name) for name in names)


def test_drawing_filters_leaves_them_as_they_are(tmp_path):
    weight = np.random.default_rng(0).normal(size=(3, 3, 1, 2))
    before = weight.copy()
    draw_filters(weight, tmp_path / "filters.png", title="float64, as the drawing computes")
    np.testing.assert_array_equal(weight, before)


def weights(layer, in_shape):
    return layer.init(Key(0), in_shape).params.weight


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_filters_are_the_first_layers_weights(channels):
    in_shape = (6, 5, channels)
    net = serial(serial(conv2d(4, (3, 2)), relu()), conv2d(2, 3), flatten(), dense(3))
    params = net.init(Key(0), in_shape).params
    np.testing.assert_array_equal(first_filters(params, in_shape), params[0][0].weight)
    # A unit's weights, by the pixel that each is for: laid on an image, they give the unit's value.
    params = serial(flatten(), dense(3)).init(Key(0), in_shape).params
    image = np.random.default_rng(0).normal(size=in_shape)
    filters = first_filters(params, in_shape)
    assert filters.shape == (*in_shape, 3)
    np.testing.assert_allclose(np.einsum("hwc,hwcf->f", image, filters), image.reshape(-1) @ params[1].weight)


@pytest.mark.parametrize(
    ("net", "in_shape"),
    [
        (dense(3), (4,)),
        (serial(flatten(), dense(3)), (2, 2, 2)),  # two channels are neither grey nor colours
        (conv2d(3, 1), (4, 4, 3)),  # filters of one pixel are no pictures
        (relu(), (4, 4, 1)),
        (conv2d(6, 3, groups=3), (4, 4, 3)),
    ],
    ids=str,
)
def test_weights_that_are_no_images_are_no_filters(net, in_shape):
    assert first_filters(net.init(Key(0), in_shape).params, in_shape) is None


# --- Options --------------------------------------------------------------------------------------------------

RECIPES = {"original": 0.1, "ours": 0.2}


def add_own(parser):
    parser.add_argument("--num-layers", type=positive(int), default=2)
    parser.add_argument("--data-sets", nargs="+", default=["one"])
    parser.add_argument("--num-epochs", dest="epochs", type=positive(int))


def parsed(*arguments, **settings):
    usual = {"name": "demo_{num_layers}", "epochs": 9, "batch_size": 32, "lr": RECIPES, "add": add_own}
    return parse_options("Train.", **usual | settings, arguments=list(arguments))


def test_options_have_the_scripts_defaults():
    options = parsed()
    assert attrs.asdict(options) == {
        "epochs": 9, "batch_size": 32, "lr": 0.1, "recipe": "original", "seed": 0, "data_dir": None,
        "out": Path("runs/demo_2"), "resume": False, "quick": False, "quiet": False, "print_every": 0, "plots": True,
        "validation": True, "own": argparse.Namespace(num_layers=2, data_sets=["one"]),
    }  # fmt: skip


def test_options_have_the_users_values():
    options = parsed(
        *["--epochs", "3", "--batch-size", "8", "--lr", "0.5", "--recipe", "ours", "--seed", "4", "--data-dir", "data"],
        *["--out", "there", "--resume", "--quick", "--quiet", "--print-every", "10", "--no-plots", "--num-layers", "5"],
        "--no-validation",
    )
    assert attrs.asdict(options) == {
        "epochs": 3, "batch_size": 8, "lr": 0.5, "recipe": "ours", "seed": 4, "data_dir": "data",
        "out": Path("there"), "resume": True, "quick": True, "quiet": True, "print_every": 10, "plots": False,
        "validation": False, "own": argparse.Namespace(num_layers=5, data_sets=["one"]),
    }  # fmt: skip


def test_every_recipe_has_its_rate_unless_the_user_has_one():
    assert [parsed("--recipe", recipe).lr for recipe in RECIPES] == [0.1, 0.2]
    assert parsed("--recipe", "ours", "--lr", "0.3").lr == 0.3


def test_a_script_of_one_recipe_has_no_such_option(capsys):
    assert parsed(lr=0.7).recipe == ""
    assert parsed(lr=0.7).lr == 0.7
    with pytest.raises(SystemExit):
        parsed("--recipe", "ours", lr=0.7)
    assert "unrecognized arguments: --recipe" in capsys.readouterr().err


def test_a_quick_run_has_its_own_number_of_epochs_unless_the_user_has_one():
    assert parsed("--quick").epochs == 1
    assert parsed("--quick", quick_epochs=3).epochs == 3
    assert parsed("--quick", "--epochs", "5").epochs == 5


def test_a_scripts_own_options_are_in_own_and_in_the_folders_name():
    options = parsed("--num-layers", "7", "--data-sets", "mnist", "fashion_mnist")
    assert (options.own.num_layers, options.own.data_sets) == (7, ["mnist", "fashion_mnist"])
    assert options.out == Path("runs/demo_7")


def test_a_scripts_own_name_for_a_common_option_sets_that():
    options = parsed("--num-epochs", "4")
    assert options.epochs == 4
    assert not hasattr(options.own, "epochs")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--batch_size", "8", "--num_layers", "5", "--print_every", "3", "--no_plots"],
        ["--batch_size=8", "--num_layers=5", "--print_every=3", "--no-plots"],
        ["--batch-size", "8", "--num-layers=5", "--print-every", "3", "--no_plots"],
    ],
    ids=str,
)
def test_words_of_an_option_are_joined_by_hyphens_or_underscores(arguments):
    options = parsed(*arguments)
    assert (options.batch_size, options.own.num_layers, options.print_every, options.plots) == (8, 5, 3, False)


def test_underscores_of_values_stay():
    assert parsed("--out", "my_folder", "--data_dir=my_data").out == Path("my_folder")
    assert parsed("--data_dir=my_data", "--data_sets", "a_b").data_dir == "my_data"
    assert parsed("--data_sets", "a_b").own.data_sets == ["a_b"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--print-every", "0"], "argument --print-every: must be more than 0, got 0"),
        (["--lr", "nan"], "argument --lr: must be more than 0, got nan"),
        (["--lr", "inf"], "argument --lr: must be finite, got inf"),
        (["--seed", "-1"], "argument --seed: must be from 0 to 2**63 - 1, got -1"),
        (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["--recipe", "mine"], "argument --recipe: invalid choice: 'mine'"),
        (["--num-layers", "two"], "argument --num-layers: invalid int value: 'two'"),
        (["--num", "2"], "unrecognized arguments: --num 2"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments, text, capsys):
    with pytest.raises(SystemExit) as stopped:
        parsed(*arguments)
    assert stopped.value.code == 2
    assert text in capsys.readouterr().err


def test_help_tells_the_defaults(capsys):
    with pytest.raises(SystemExit) as stopped:
        parsed("--help", quick_epochs=3)
    assert stopped.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    for part in ("default 9; 3 if --quick", "default 0.1 in original or 0.2 in ours", "default 32", "--num-layers"):
        assert part in told


# --- Whole experiments, in this process -----------------------------------------------------------------------


@pytest.fixture
def options(tmp_path):
    arguments = ["--quick", "--no-plots", "--out", str(tmp_path / "run")]
    return parse_options("Train.", name="demo", epochs=9, batch_size=256, lr=0.01, quick_epochs=2, arguments=arguments)


def problem(optimizer=adam(0.01)):  # noqa: B008  (it is a value)
    return Problem(fully_connected([16], 10), partial(softmax_cross_entropy, label_smoothing=0.1), optimizer)


DIGITS = load("digits")
STEPS = 6  # of 256 of the 1,294 images


def without_times(folder):
    """A run's history and metrics, but for what another run of the same settings may take another time for."""
    metrics = json.loads((folder / "metrics.json").read_text())
    rows = [attrs.evolve(each, seconds=0.0) for each in read_history(folder / "history.csv")]
    return rows, {
        key: metrics[key] for key in metrics.keys() - {"train_seconds", "images_per_second", "peak_memory_mb"}
    }


def fresh(problem):
    return train.init_state(problem, Key(0), DIGITS.in_shape)


def epochs_of(problem, epochs):
    """The epochs of a run without files."""
    events = train.train(problem, fresh(problem), DIGITS, epochs=epochs, batch_size=256)
    return [event for event in events if isinstance(event, Epoch)]


def saved_state(folder):
    return checkpoint.load(folder / "checkpoint.safetensors", fresh(problem()))


def assert_same_results(folder, other):
    for name in ("model.safetensors", "checkpoint.safetensors"):
        assert (folder / name).read_bytes() == (other / name).read_bytes()
    assert without_times(folder) == without_times(other)


def test_a_run_returns_what_it_writes_and_prints_how_it_went(options, capsys):
    metrics = run(problem(), load("digits"), options)
    assert json.loads((options.out / "metrics.json").read_text()) == metrics
    config = json.loads((options.out / "config.json").read_text())
    assert config["loss"] == {"name": "softmax_cross_entropy", "label_smoothing": 0.1}
    assert rebuild(config["net"]) == problem().net
    printed = capsys.readouterr().out
    assert "loss       softmax_cross_entropy(label_smoothing=0.1)" in printed
    assert f"test accuracy {metrics['test_accuracy']:.4f}" in printed


def test_more_epochs_go_on_from_the_checkpoint(options, capsys):
    data = load("digits")
    run(problem(), data, options)
    run(problem(), data, attrs.evolve(options, epochs=3, resume=True))
    assert "going on after epoch 2" in capsys.readouterr().out
    assert [row.epoch for row in read_history(options.out / "history.csv")] == [1, 2, 3]
    alone = attrs.evolve(options, epochs=3, quiet=True, out=options.out.parent / "alone")
    run(problem(), data, alone)
    saved = (folder / "model.safetensors" for folder in (options.out, alone.out))
    assert next(saved).read_bytes() == next(saved).read_bytes()


def test_fewer_epochs_than_it_has_are_no_resumption(options):
    run(problem(), DIGITS, options)
    before = (options.out / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"it has 2 epochs behind it\. Pass --epochs 2 or more"):
        run(problem(), DIGITS, attrs.evolve(options, epochs=1, resume=True))
    assert (options.out / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda path: path.unlink(), "it lacks some of the 2 epochs that the checkpoint has"),
        (lambda path: path.write_text("".join(path.read_text().splitlines(True)[:2])), "it lacks some of the 2 epochs"),
        (lambda path: path.write_text(path.read_text().replace("\n2,", "\nx,")), "line 3: not a row of a history"),
    ],
    ids=["gone", "cut", "damaged"],
)
def test_a_history_that_is_not_whole_is_no_resumption(damage, text, options):
    run(problem(), DIGITS, options)
    kept = (options.out / "model.safetensors").read_bytes()
    damage(options.out / "history.csv")
    with pytest.raises(CheckpointError, match=text) as raised:
        run(problem(), DIGITS, attrs.evolve(options, epochs=3, resume=True))
    assert "history.csv" in str(raised.value)
    assert "--resume" in str(raised.value)
    assert (options.out / "model.safetensors").read_bytes() == kept


def test_a_problem_without_a_metric_is_refused_before_training(options):
    with pytest.raises(ValueError, match="run: expected a problem with a metric"):
        run(attrs.evolve(problem(), metric=None), DIGITS, options)
    assert not options.out.exists()


def test_resuming_before_there_is_a_checkpoint_starts_anew(options, capsys):
    run(problem(), load("digits"), attrs.evolve(options, resume=True))
    assert f"no checkpoint in {options.out} yet: starting anew" in capsys.readouterr().out


def test_a_checkpoint_of_other_settings_is_refused(options):
    run(problem(), load("digits"), options)
    other = Problem(problem().net, softmax_cross_entropy, adam(0.02))
    config = (options.out / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"saved with another loss, optimizer\. Resume with the settings"):
        run(other, load("digits"), attrs.evolve(options, resume=True))
    assert (options.out / "config.json").read_bytes() == config  # what the message says to resume with


def test_an_interrupt_keeps_the_finished_epochs_and_says_how_to_go_on(options, capsys, monkeypatch):
    def interrupted(events, **_):
        for event in events:
            yield event
            if isinstance(event, Epoch):
                raise KeyboardInterrupt

    monkeypatch.setattr("funcnn.report.experiment.progress", interrupted)
    with pytest.raises(SystemExit) as stopped:
        run(problem(), load("digits"), options)
    assert stopped.value.code == 130
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"Stopped after epoch 1. To go on: {shlex.quote(sys.orig_argv[0])} ")
    assert last.endswith("--resume")
    assert (options.out / "checkpoint.safetensors").exists()


# A rate that is right for two epochs, and then so high that they are undone.
SPOILT = adam(piecewise_constant([2 * STEPS], [0.01, 10.0]))


def test_the_net_of_the_best_epoch_is_kept(options):
    metrics = run(problem(SPOILT), DIGITS, attrs.evolve(options, epochs=4, quiet=True))
    rows = read_history(options.out / "history.csv")
    accuracies = [row.validation_accuracy for row in rows]
    best = accuracies.index(max(accuracies))
    assert best == 1
    assert metrics["best_epoch"] == best + 1
    for measure in ("validation_accuracy", "test_accuracy", "test_loss"):
        assert metrics[measure] == getattr(rows[best], measure) != getattr(rows[-1], measure)
    trained = load_trained(options.out / "model.safetensors")
    states = [event.state for event in epochs_of(problem(SPOILT), 4)]
    assert tree.equal(trained.model, Model(states[best].params, states[best].state))
    assert (trained.net, trained.classes, trained.in_shape) == (problem().net, DIGITS.classes, DIGITS.in_shape)
    assert trained.preprocess == DIGITS.test.preprocess
    about = {key: trained.about[key] for key in ("epoch", "validation_accuracy", "batch_size", "seed")}
    assert about == {"epoch": 2, "validation_accuracy": accuracies[best], "batch_size": 256, "seed": 0}
    # The checkpoint goes on from the last epoch, whichever was the best.
    assert tree.equal(saved_state(options.out), states[-1])


def test_every_part_is_measured_after_each_epoch(options):
    run(problem(), DIGITS, attrs.evolve(options, quiet=True))
    for row, event in zip(read_history(options.out / "history.csv"), epochs_of(problem(), 2), strict=True):
        parts = {"train": DIGITS.train.thin(1000), "validation": DIGITS.validation, "test": DIGITS.test}
        for name, part in parts.items():
            metrics = train.evaluate(problem(), event.state, part)
            assert (getattr(row, f"{name}_loss"), getattr(row, f"{name}_accuracy")) == attrs.astuple(metrics)
        assert (row.running_loss, row.running_accuracy) == attrs.astuple(event.train)
        assert row.learning_rate == 0.01


class Killed(BaseException):
    """What ends a run in the midst, as no handler of exceptions knows it."""


def killed_at(write, monkeypatch, *arguments):
    """Whether a run was ended before a file, counted from 0, was put in its place."""
    replace, count = Path.replace, 0

    def last(path, target):
        nonlocal count
        count += 1
        if count > write:
            raise Killed
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", last)
        try:
            run(*arguments)
        except Killed:
            return True
    return False


def test_killed_before_any_of_its_files_a_run_goes_on_to_the_same_end(options, monkeypatch):
    alone = attrs.evolve(options, epochs=4, quiet=True)
    run(problem(SPOILT), DIGITS, alone)
    write = 0
    while True:
        ended = attrs.evolve(alone, out=options.out.parent / f"killed_{write}")
        if not killed_at(write, monkeypatch, problem(SPOILT), DIGITS, ended):
            break
        run(problem(SPOILT), DIGITS, attrs.evolve(ended, resume=True))
        assert_same_results(ended.out, alone.out)
        write += 1
    assert write == 13  # the probe, the settings, 4 histories and checkpoints, 2 models that were the best, the metrics


def test_a_run_may_be_killed_again_and_again(options, monkeypatch):
    alone = attrs.evolve(options, epochs=4, quiet=True)
    run(problem(SPOILT), DIGITS, alone)
    ended = attrs.evolve(alone, out=options.out.parent / "killed", resume=True)
    kills = 0
    while killed_at(5, monkeypatch, problem(SPOILT), DIGITS, ended):  # enough for one epoch's files each time
        kills += 1
    assert kills > 2
    assert_same_results(ended.out, alone.out)


@pytest.mark.parametrize("every", [4, 5])
def test_lines_for_steps_are_printed_on_wish(every, options, capsys):
    run(problem(), DIGITS, attrs.evolve(options, print_every=every))
    printed = re.findall(
        r"^step (\d+) \((\d+)% of epoch (\d)\)  loss \S+ accuracy ", capsys.readouterr().out, re.MULTILINE
    )
    wanted = [number for number in range(1, 2 * STEPS + 1) if number % every == 0]
    assert [int(number) for number, _, _ in printed] == wanted
    assert [int(epoch) for _, _, epoch in printed] == [1 + (number - 1) // STEPS for number in wanted]
    # After the first epoch, a run that goes on prints those of the second.
    run(problem(), DIGITS, attrs.evolve(options, print_every=every, epochs=3, resume=True))
    printed = re.findall(r"^step (\d+) ", capsys.readouterr().out, re.MULTILINE)
    assert [int(number) for number in printed] == [n for n in range(2 * STEPS + 1, 3 * STEPS + 1) if n % every == 0]


def test_a_quiet_run_prints_nothing(options, capsys):
    run(problem(), DIGITS, attrs.evolve(options, quiet=True, print_every=1))
    assert capsys.readouterr() == ("", "")


def test_a_run_may_start_from_a_trained_model(options):
    run(problem(), DIGITS, attrs.evolve(options, quiet=True))
    initial = load_trained(options.out / "model.safetensors").model
    again = attrs.evolve(options, quiet=True, epochs=1, out=options.out.parent / "again")
    run(problem(sgd(0.0)), DIGITS, again, initial=initial)
    assert tree.equal(load_trained(again.out / "model.safetensors").model, initial)
    # A state gives its parameters alone: the steps are counted anew, in this run's order, from the optimizer's start.
    state = saved_state(options.out)
    run(problem(), DIGITS, again, initial=state)
    saved = saved_state(again.out)
    assert (saved.step, saved.seed) == (STEPS, 0)
    start = attrs.evolve(fresh(problem()), params=state.params, state=state.state)
    (*_, last) = train.train(problem(), start, DIGITS, epochs=1, batch_size=256)
    assert tree.equal(saved, last.state)


def test_an_initial_model_of_another_net_is_refused_before_anything_is_written(options):
    other = fully_connected([17], 10)
    with pytest.raises(TreeError, match="the initial model"):
        run(problem(), DIGITS, options, initial=Model(*other.init(Key(0), DIGITS.in_shape)[:2]))
    assert list(options.out.iterdir()) == []


def test_augmentation_is_told_and_makes_another_run(options, capsys):
    run(problem(), DIGITS, options)
    plain = capsys.readouterr().out
    augmented = attrs.evolve(problem(), augment=(flip_horizontally, partial(shifted_crop, pad=1)))
    with pytest.raises(CheckpointError, match="saved with another augment"):
        run(augmented, DIGITS, attrs.evolve(options, resume=True))
    capsys.readouterr()
    model = (options.out / "model.safetensors").read_bytes()
    run(augmented, DIGITS, options)
    assert "augment    flip_horizontally, shifted_crop(pad=1)" in capsys.readouterr().out
    assert "augment  " not in plain
    assert json.loads((options.out / "config.json").read_text())["augment"] == [
        "flip_horizontally",
        {"name": "shifted_crop", "pad": 1},
    ]
    assert (options.out / "model.safetensors").read_bytes() != model


def test_another_preprocessing_is_another_run(options):
    run(problem(), DIGITS, attrs.evolve(options, quiet=True))
    other = DIGITS.prepared(standardise(DIGITS.train.inputs))
    with pytest.raises(CheckpointError, match="saved with another preprocess"):
        run(problem(), other, attrs.evolve(options, resume=True))
    run(problem(), other, attrs.evolve(options, quiet=True))
    assert load_trained(options.out / "model.safetensors").preprocess == other.train.preprocess


def half(stored):
    return stored.astype(np.float32) / 8


@layer_config
class Doubled(Config):
    name = "doubled"


def doubled_apply(config, params, state, x, *, key=None, train=False):
    return Applied(2 * x, state, ())


def doubled_backward(config, params, residuals, dy, *, need_dx=True):
    return Gradients(None, 2 * dy)


DOUBLED = make_layer(Doubled(), doubled_apply, doubled_backward)
OWN = {
    "layer": (serial(DOUBLED, fully_connected([16], 10)), DIGITS),
    "preprocessing": (fully_connected([16], 10), DIGITS.prepared(half)),
}


@pytest.mark.parametrize(("net", "data"), OWN.values(), ids=OWN)
def test_a_run_with_a_part_of_the_users_own_ends_as_any_other(net, data, options):
    """A file cannot rebuild what this library does not know: nothing that a run needs may depend on it."""
    metrics = run(attrs.evolve(problem(), net=net), data, attrs.evolve(options, quiet=True))
    assert (
        metrics["test_accuracy"] == read_history(options.out / "history.csv")[metrics["best_epoch"] - 1].test_accuracy
    )


def test_a_quick_run_takes_a_slice_of_the_data(options):
    data = load_data("digits", attrs.evolve(options, quick=True))
    assert (len(data.train), len(data.validation), len(data.test)) == (1294, 144, 359)  # all of what is so small
    assert steps_per_epoch(data, options) == STEPS
    assert steps_per_epoch(data, attrs.evolve(options, batch_size=1294)) == 1
    assert steps_per_epoch(data, attrs.evolve(options, batch_size=1293)) == 2


def test_a_run_without_a_validation_part_trains_on_all_and_keeps_the_last_epoch(options):
    options = attrs.evolve(options, validation=False, plots=True)
    data = load_data("digits", options)
    assert (len(data.train), data.validation) == (1438, None)
    metrics = run(problem(), data, options)
    rows = read_history(options.out / "history.csv")
    assert (metrics["best_epoch"], metrics["validation_accuracy"]) == (options.epochs, None)
    assert metrics["test_accuracy"] == rows[-1].test_accuracy
    assert {row.validation_accuracy for row in rows} == {None}
    assert (options.out / "curves.png").exists()


def test_a_run_draws_its_pictures(options, capsys):
    run(problem(), load("digits"), attrs.evolve(options, plots=True, quiet=True))
    assert capsys.readouterr() == ("", "")
    assert all(is_picture(options.out / name) for name in ("curves.png", "confusion.png", "samples.png", "filters.png"))


def test_a_run_without_validation_or_matplotlib(options, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    data = attrs.evolve(load("digits"), validation=None)
    run(problem(), data, attrs.evolve(options, plots=True))
    printed = capsys.readouterr().out
    assert 'matplotlib is not installed. For pictures: pip install "funcnn[plots]"' in printed
    assert "validate" not in printed
    assert read_history(options.out / "history.csv")[0].validation_loss is None

"""A script's options: defaults, the user's values, what is refused."""

import argparse
from pathlib import Path

import attrs
import pytest

from funcnn.experiment import parse_options
from funcnn.experiment.options import positive

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
        "validation": True, "workers": 1, "shards": None, "epoch_steps": None,
        "data": None, "size": None, "channels": None, "device": "cpu",
        "own": argparse.Namespace(num_layers=2, data_sets=["one"]),
    }  # fmt: skip


def test_options_have_the_users_values():
    options = parsed(
        *["--epochs", "3", "--batch-size", "8", "--lr", "0.5", "--recipe", "ours", "--seed", "4", "--data-dir", "data"],
        *["--out", "there", "--resume", "--quick", "--quiet", "--print-every", "10", "--no-plots", "--num-layers", "5"],
        *["--no-validation", "--workers", "2", "--shards", "4", "--epoch-steps", "6"],
    )
    assert attrs.asdict(options) == {
        "epochs": 3, "batch_size": 8, "lr": 0.5, "recipe": "ours", "seed": 4, "data_dir": "data",
        "out": Path("there"), "resume": True, "quick": True, "quiet": True, "print_every": 10, "plots": False,
        "validation": False, "workers": 2, "shards": 4, "epoch_steps": 6,
        "data": None, "size": None, "channels": None, "device": "cpu",
        "own": argparse.Namespace(num_layers=5, data_sets=["one"]),
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


def test_the_users_home_may_be_written_short(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    options = parsed("--out=~/runs/a", "--data_dir=~/data")
    assert (options.out, options.data_dir) == (Path("/home/me/runs/a"), "/home/me/data")
    assert parsed("--out", "a~").out == Path("a~")


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

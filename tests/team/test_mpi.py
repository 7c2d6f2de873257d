"""A run on MPI's ranks: one net, the bits of one machine, and an end for all where one of them fails."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from run_of_digits import assert_same_results

pytest.importorskip("mpi4py", reason="mpi4py is not installed")
MPIRUN = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
pytestmark = pytest.mark.skipif(MPIRUN is None, reason="mpirun is not installed")
SCRIPT = Path(__file__).parents[2] / "experiments" / "digits_cnn.py"


def on_ranks(number: int, *command: str | Path) -> subprocess.CompletedProcess[str]:
    # As root too, and on fewer cores than ranks.
    start = [] if number == 1 else [str(MPIRUN), "--allow-run-as-root", "--oversubscribe", "-n", str(number)]
    return subprocess.run([*start, sys.executable, *command], capture_output=True, text=True, timeout=120, check=False)


def test_ranks_train_one_net_to_the_bits_of_one_process(tmp_path: Path) -> None:
    settings = ["--quick", "--no-plots", "--shards", "4"]
    printed = []
    for number in (1, 2, 4):
        done = on_ranks(number, SCRIPT, *settings, "--out", tmp_path / str(number))
        assert (done.returncode, done.stderr) == (0, "")
        printed.append([line for line in done.stdout.splitlines() if line.startswith("workers")])
        assert_same_results(tmp_path / str(number), tmp_path / "1")
    assert printed == [[f"workers    {number}, each batch in 4 shards"] for number in (1, 2, 4)]


def test_more_ranks_than_shards_are_told_what_to_do(tmp_path: Path) -> None:
    done = on_ranks(2, SCRIPT, "--quick", "--no-plots", "--shards", "1", "--out", tmp_path)
    assert done.returncode == 1
    assert "error: 2 ranks of MPI share 1 shards of a batch: start fewer, or pass --shards 2\n" in done.stderr
    assert "Traceback" not in done.stderr


PROGRAM = """
import numpy as np
from funcnn import Key, serial, tree
from funcnn.data import Part
from funcnn.layers import batch_norm, dense
from funcnn.losses import mean_squared_error
from funcnn.optimizers import adamw, chain, clip_by_global_norm, weights_only
from funcnn.team.mpi import MpiTeam, ranks, serving
from funcnn.train import Problem, evaluate, init_state, make_step, predict

def failing(outputs, targets):
    if (targets > 1).any():
        raise ArithmeticError("the moon is full")
    return mean_squared_error(outputs, targets)

net = serial(dense(5), batch_norm(), dense(2))
x = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
targets = x[:, :2] / 4
with serving():
    print(ranks(), "ranks")
    # By leaf, then by the first alone; a state of the team's, and one that is given anew.
    for optimizer in (adamw(0.01, mask=weights_only), chain(clip_by_global_norm(0.1), adamw(0.01))):
        problem = Problem(net, failing, optimizer, metric=None)
        state = expected = init_state(problem, Key(0), (3,))
        team = MpiTeam(shards=4)
        for n in (9, 3, 1):
            state, metrics = make_step(problem, team=team)(state, (x[:n], targets[:n]))
            expected, its_metrics = make_step(problem, shards=4)(expected, (x[:n], targets[:n]))
            assert tree.equal(state, expected) and metrics == its_metrics
        again, _ = make_step(problem, team=team)(expected, (x, targets))
        assert tree.equal(again, make_step(problem, shards=4)(expected, (x, targets))[0])
        assert tree.equal(state, expected)
        targets_of_the_last = targets.copy()
        targets_of_the_last[-1] = 9
        try:
            make_step(problem, team=team)(state, (x, targets_of_the_last))
        except ArithmeticError as error:
            print(error)
        team.close()
        part = Part(x, targets)
        assert evaluate(problem, state, part, batch_size=2, workers=3) == evaluate(problem, state, part, batch_size=2)
        outputs = predict(net, state, x, batch_size=2, workers=3)
        assert tree.equal(outputs, predict(net, state, x, batch_size=2))
print("the first goes on")
"""


def test_a_team_of_ranks_takes_steps_and_says_what_fails(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    done = on_ranks(3, script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["3 ranks", *["the moon is full"] * 2, "the first goes on"]

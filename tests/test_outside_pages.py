"""The pages that look outside: page 11's script on workers, and the tables of names of page 12."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import funcnn
from funcnn import (
    checkpoint,
    compose,
    data,
    init,
    inspection,
    interop,
    keys,
    layer,
    layers,
    losses,
    metrics,
    model_file,
    models,
    optimizers,
    report,
    schedules,
    train,
)

LEARN = Path(__file__).parents[1] / "docs" / "learn"
EVERYWHERE = (LEARN / "11_everywhere.md").read_text("utf-8")
IN_AND_OUT = (LEARN / "12_in_and_out.md").read_text("utf-8")
PEERS = ("PyTorch", "Keras", "stax", "scikit-learn")


# --- Page 11 --------------------------------------------------------------------------------------------------


def recorded(command: str) -> str:
    """What the page shows that a command prints."""
    found = re.search(rf"^\$ {re.escape(command)}\n((?:\d.*\n)+)", EVERYWHERE, re.MULTILINE)
    assert found, f"page 11 shows no output of {command}"
    return found[1]


def numbers(text: str) -> list[float]:
    return [float(each) for each in text.split()]


def test_the_script_prints_the_same_digits_with_one_and_two_workers(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", EVERYWHERE, re.DOTALL | re.MULTILINE)
    (script,) = [block for block in blocks if 'if __name__ == "__main__":' in block]
    path = tmp_path / "digits_everywhere.py"
    path.write_text(script, "utf-8")
    printed = []
    for workers in ("1", "2"):
        command = [sys.executable, str(path), workers, "2"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
        assert done.stderr == ""
        printed.append(done.stdout)
    assert printed[0] == printed[1]
    shown = recorded("python digits_everywhere.py 2 2")
    assert numbers(printed[0]) == pytest.approx(numbers(shown), rel=1e-3)  # of another processor by rounding


def test_the_page_shows_the_same_digits_for_workers_and_ranks() -> None:
    shown = recorded("python digits_everywhere.py 1 2")
    assert shown == recorded("python digits_everywhere.py 2 2")
    assert shown == recorded("mpirun -n 2 python digits_everywhere.py 2 2")


# --- Page 12 --------------------------------------------------------------------------------------------------


def rows_of_names(peer: str) -> list[list[str]]:
    """The rows of the table of names of a library: there, here, what to mind."""
    table = re.search(rf"^\| {peer} \| funcnn \| mind \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", IN_AND_OUT, re.MULTILINE)
    assert table, f"page 12 has no table of {peer}'s names"
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[1].splitlines()]


def names_in(cell: str) -> list[str]:
    return re.findall(r"`(\w+)", cell)


def public_names() -> set[str]:
    rooms = [
        funcnn, checkpoint, compose, data, init, inspection, interop, keys, layer, layers, losses, metrics,
        model_file, models, optimizers, report, schedules, train,
    ]  # fmt: skip
    return {name for room in rooms for name in room.__all__}


@pytest.mark.parametrize("peer", PEERS)
def test_every_name_of_funcnn_in_the_tables_exists(peer: str) -> None:
    rows = rows_of_names(peer)
    assert len(rows) >= 10
    there = public_names()
    if peer == "scikit-learn":
        there |= set(pytest.importorskip("funcnn.sklearn").__all__)
    for row in rows:
        assert len(row) == 3, row
        assert names_in(row[1]), row
        assert set(names_in(row[1])) - there == set(), row


@pytest.mark.parametrize("peer", PEERS)
def test_calls_of_funcnn_in_the_remarks_can_be_made(peer: str) -> None:
    calls = [call for _, _, remark in rows_of_names(peer) for call in re.findall(r"`(\w+\([^`]*\))`", remark)]
    namespace = {name: getattr(room, name) for room in (layers, compose, optimizers, models) for name in room.__all__}
    namespace |= {"f": layers.relu()}
    ours = [call for call in calls if call.split("(")[0] in namespace]
    assert ours, f"no remark on {peer} shows a call"
    for call in ours:
        eval(call, dict(namespace))


def test_scikit_learn_has_the_names_of_its_table() -> None:
    pytest.importorskip("sklearn")
    from sklearn import metrics, model_selection, neural_network, preprocessing

    modules = (metrics, model_selection, neural_network, preprocessing)
    known = {name for module in modules for name in dir(module)}
    known |= set(neural_network.MLPClassifier().get_params()) | set(dir(neural_network.MLPClassifier))
    assert {name for row in rows_of_names("scikit-learn") for name in names_in(row[0])} - known == set()


def test_a_table_with_a_name_that_is_gone_would_fail() -> None:
    assert {"dense", "adam", "train", "save_trained"} <= public_names()
    assert "Dense" not in public_names()
    assert names_in("`dense` `conv2d(16, 3)` and more") == ["dense", "conv2d"]

"""Values as text: short ones on a line, long ones on several, and tables; and streams that show what they can."""

import io
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from funcnn.system.text import Screen, Text, call_text, columns, cut, printable, show, text_table


def test_tables_align_words_to_the_left_and_numbers_to_the_right() -> None:
    rows = [("a", 12, 0.5, None), ("long", 7, 2 / 3, 1.0)]
    assert text_table(("name", "count", "share", "rest"), rows, left=1).splitlines() == [
        "name  count   share    rest",
        "a        12  0.5000       -",
        "long      7  0.6667  1.0000",
    ]
    assert text_table(("a", "b"), [], left=1) == "a  b"


def test_tables_are_aligned_and_safe_whatever_is_in_them() -> None:
    names = ["\x1b[31mred\n", "猫", "e\u0301", "bad\udce9", "\u202eturned", "می\u200cخواهم"]
    values = [1e300, -0.0, np.float32(0.5), float("nan"), -1e-9, True]
    assert text_table(("name", "value"), list(zip(names, values, strict=True)), left=1).splitlines() == [
        "name" + "value".rjust(22),
        "\\x1b[31mred\\n" + "1.0000e+300".rjust(13),
        "猫" + "0.0000".rjust(24),
        "e\u0301" + "0.5000".rjust(25),
        "bad\\udce9" + "nan".rjust(17),
        "\\u202eturned" + "0.0000".rjust(14),
        "می\u200cخواهم" + "True".rjust(19),
    ]


@pytest.mark.parametrize("row", [(), ("a",), ("a", 1, 2)], ids=len)
def test_a_row_of_another_length_is_refused(row: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=rf"expected 2 cells in each row, as in the header, got {len(row)} in row 1"):
        text_table(("name", "value"), [("fine", 1), row], left=1)


def test_a_text_is_a_string_that_prints_as_it_reads() -> None:
    text = Text("one\ntwo")
    assert (repr(text), str(text), text) == ("one\ntwo",) * 3
    assert repr(pickle.loads(pickle.dumps(text))) == "one\ntwo"


@pytest.mark.parametrize(
    ("width", "expected"),
    [(12, "a long story"), (11, "a long s..."), (9, "a long..."), (3, "..."), (2, ".."), (0, ""), (-1, "")],
)
def test_what_is_cut_says_so_and_fits(width: int, expected: str) -> None:
    assert cut("a long story", width) == expected


@pytest.mark.parametrize("width", range(12))
def test_what_is_wide_is_cut_by_columns(width: int) -> None:
    shown = cut("猫と犬と鳥", width)
    assert columns(shown) <= width
    assert shown == "猫と犬と鳥" if width >= 10 else shown.endswith("..."[:width])


def test_nothing_printable_is_changed() -> None:
    texts = ["plain", "größer", "שלום", "a\u3000b", "👩\u200d🔬", "\\n"]
    assert list(map(printable, texts)) == texts


def test_calls_within_calls_are_indented() -> None:
    inner = call_text("Inner", {"a": "1" * 60, "b": "2" * 60})
    assert call_text("Outer", {"x": "0", "y": inner}).splitlines() == [
        *["Outer(", "    x=0,", "    y=Inner(", f"        a={'1' * 60},", f"        b={'2' * 60},", "    ),", ")"]
    ]
    assert call_text("Bare", {}) == "Bare()"
    assert "\n" not in call_text("Name", {"a": "1" * 92})  # 100 characters
    assert "\n" in call_text("Name", {"a": "1" * 93})


# --- Streams --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "± 3×4 … 猫 \\udce9"),
        ("cp1252", "± 3×4 … \\u732b \\udce9"),
        ("latin-1", "± 3×4 ... \\u732b \\udce9"),
        ("ascii", "+- 3x4 ... \\u732b \\udce9"),
    ],
)
def test_what_an_encoding_lacks_is_shown_in_ascii(encoding: str, expected: str) -> None:
    held = io.BytesIO()
    screen = Screen(io.TextIOWrapper(held, encoding=encoding))
    print("± 3×4 … 猫 \udce9", file=screen, flush=True)
    assert held.getvalue().decode(encoding) == expected + "\n"


class Failing:
    """A stream of one's own, without most of what streams have."""

    encoding = "no such encoding"

    def write(self, text: str) -> None:
        raise RuntimeError("the widget is gone")


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize(
    "stream", [None, Failing(), closed(), object()], ids=["none", "failing", "closed", "no stream"]
)
def test_a_stream_that_shows_nothing_ends_nothing(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(stream)
    screen.write("± lost")
    screen.flush()
    assert screen.isatty() is False
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream)
    show("± lost")
    show("± lost", error=True)


LONG = """
import sys
from funcnn.system.text import show
for _ in range(20_000):
    show("± a line of a long run")
open(sys.argv[1], "w").write("the rest")
"""


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell closes the streams")
@pytest.mark.parametrize("where", [">&-", "2>&- >&-", "| head -n 1", "| true", "> /dev/null"])
def test_a_long_run_reaches_its_end_without_a_reader(where: str, tmp_path: Any) -> None:
    command = f'"$PYTHON" -c "$CODE" rest.txt {where}; echo "${{PIPESTATUS[0]}}" > status.txt'
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "CODE": LONG,
        "PYTHONIOENCODING": "ascii",
        "PYTHONUNBUFFERED": "",
    }
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (tmp_path / "status.txt").read_text().strip() == "0"
    assert (tmp_path / "rest.txt").read_text() == "the rest"
    assert done.stderr == ""
    assert done.stdout == ("+- a line of a long run\n" if "head" in where else "")

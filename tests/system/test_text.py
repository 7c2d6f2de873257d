"""Values as text: short ones on a line, long ones on several, and tables."""

import pickle

import pytest

from funcnn.system.text import Text, call_text, cut, text_table


def test_tables_align_words_to_the_left_and_numbers_to_the_right() -> None:
    rows = [("a", 12, 0.5, None), ("long", 7, 2 / 3, 1.0)]
    assert text_table(("name", "count", "share", "rest"), rows, left=1).splitlines() == [
        "name  count   share    rest",
        "a        12  0.5000       -",
        "long      7  0.6667  1.0000",
    ]
    assert text_table(("a", "b"), [], left=1) == "a  b"


def test_a_text_is_a_string_that_prints_as_it_reads() -> None:
    text = Text("one\ntwo")
    assert (repr(text), str(text), text) == ("one\ntwo",) * 3
    assert repr(pickle.loads(pickle.dumps(text))) == "one\ntwo"


@pytest.mark.parametrize(
    ("width", "expected"), [(12, "a long story"), (11, "a long s..."), (9, "a long..."), (3, "..."), (2, ".."), (0, "")]
)
def test_what_is_cut_says_so_and_fits(width: int, expected: str) -> None:
    assert cut("a long story", width) == expected


def test_calls_within_calls_are_indented() -> None:
    inner = call_text("Inner", {"a": "1" * 60, "b": "2" * 60})
    assert call_text("Outer", {"x": "0", "y": inner}).splitlines() == [
        *["Outer(", "    x=0,", "    y=Inner(", f"        a={'1' * 60},", f"        b={'2' * 60},", "    ),", ")"]
    ]
    assert call_text("Bare", {}) == "Bare()"
    assert "\n" not in call_text("Name", {"a": "1" * 92})  # 100 characters
    assert "\n" in call_text("Name", {"a": "1" * 93})

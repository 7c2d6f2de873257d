"""Trees: structure, order, errors that name both sides, read-only leaves."""

import pickle
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from cases import message
from hypothesis import given
from hypothesis import strategies as st

from funcnn import tree
from funcnn.tree import TreeError, node


@node
class Pair:
    left: Any
    right: Any


@node
class Empty:
    pass


TREE = (Pair(np.ones((2, 3)), None), (), Pair(5, (np.zeros(2),)), Empty())
TREE_PATHS = ["0.left", "2.left", "2.right.0"]

trees = st.recursive(
    st.none() | st.integers() | st.builds(Empty),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.builds(Pair, inner, inner),
)


# --- Flattening -----------------------------------------------------------------------------------------------


def test_leaves_come_depth_first_and_paths_in_their_order() -> None:
    leaves = tree.flatten(TREE)
    assert leaves[0] is TREE[0].left
    assert leaves[1] == 5
    assert leaves[2] is TREE[2].right[0]
    assert tree.paths(TREE) == TREE_PATHS


@pytest.mark.parametrize("empty", [None, (), (None, ((), None)), Empty()])
def test_empty_trees_have_no_leaves(empty: Any) -> None:
    assert tree.flatten(empty) == []
    assert tree.paths(empty) == []


def test_a_lone_leaf_has_the_empty_path() -> None:
    assert tree.flatten(7) == [7]
    assert tree.paths(7) == [""]


@given(trees)
def test_unflatten_undoes_flatten(value: Any) -> None:
    leaves = tree.flatten(value)
    assert tree.equal(tree.unflatten(value, leaves), value)
    assert len(tree.paths(value)) == len(set(tree.paths(value))) == len(leaves)


@given(trees)
def test_map_takes_every_leaf_once_in_order(value: Any) -> None:
    seen: list[int] = []
    negated = tree.map(lambda leaf: seen.append(leaf) or -leaf, value)
    assert seen == tree.flatten(value)
    assert tree.flatten(negated) == [-leaf for leaf in seen]
    tree.check_like(value, negated)


@pytest.mark.parametrize("leaves", [[], [1, 2], [1, 2, 3, 4], [1, 2, 3, None]])
def test_unflatten_wants_exactly_one_leaf_each(leaves: list[int | None]) -> None:
    assert message(TreeError, tree.unflatten, TREE, leaves) == f"3 leaves expected, got {len(leaves)}"


def test_unflatten_takes_none_as_a_leaf() -> None:
    assert tree.unflatten((1, 2), [None, 3]) == (None, 3)


def test_map_joins_trees_leaf_by_leaf() -> None:
    joined = tree.map(lambda a, b, c: a + b * c, (1, Pair(2, None)), (10, Pair(20, None)), (3, Pair(4, None)))
    assert tree.equal(joined, (31, Pair(82, None)))


# --- What a tree cannot hold ----------------------------------------------------------------------------------

Point = namedtuple("Point", "x y")


@pytest.mark.parametrize("value", [[1], {"a": 1}, {1}, Point(1, 2)], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "fn", [tree.flatten, tree.paths, tree.read_only, tree.nbytes, tree.show], ids=lambda fn: fn.__name__
)
def test_mutable_containers_and_named_tuples_are_refused(fn: Any, value: Any) -> None:
    expected = f"a tree cannot hold a {type(value).__name__}: use a tuple, or a class made by @node"
    assert message(TreeError, fn, (1, Pair(2, value))) == expected


def test_the_advice_for_a_refused_container_works() -> None:
    assert tree.flatten((1, Pair(2, (1,)))) == [1, 2, 1]


# --- Nodes ----------------------------------------------------------------------------------------------------


def test_nodes_are_frozen_slotted_and_compared_by_identity() -> None:
    pair = Pair(1, 2)
    with pytest.raises(AttributeError):
        pair.left = 3
    with pytest.raises(AttributeError):
        pair.other = 3
    assert pair != Pair(1, 2)


def test_nodes_pickle() -> None:
    assert tree.equal(pickle.loads(pickle.dumps(TREE)), TREE)


# --- Comparing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        ((1, 2), (1, 2, 3), "trees differ at their root: params has a tuple of 2, gradients has a tuple of 3"),
        ((1, (2, 3)), (1, (2, None)), "trees differ at '1.1': params has a leaf (int), gradients has None"),
        ((1, None), (1, ()), "trees differ at '1': params has None, gradients has a tuple of 0"),
        (
            (Pair(1, np.zeros((2, 3))),),
            (Pair(1, (1,)),),
            "trees differ at '0.right': params has an array of shape (2, 3), gradients has a tuple of 1",
        ),
        ((Empty(),), ((),), "trees differ at '0': params has the node Empty, gradients has a tuple of 0"),
        (
            (Pair(1, (2, 3)), 4),
            (Pair(1, Pair(2, 3)), Pair(4, 5)),  # the first of two differences
            "trees differ at '0.right': params has a tuple of 2, gradients has the node Pair",
        ),
    ],
)
def test_a_mismatch_names_both_sides_and_the_first_path_that_differs(first: Any, second: Any, difference: str) -> None:
    assert message(TreeError, tree.check_like, first, second, names=("params", "gradients")) == difference
    unnamed = difference.replace("params", "the first tree").replace("gradients", "the second")
    assert message(TreeError, tree.map, max, first, second) == unnamed
    assert not tree.equal(first, second)


def test_shapes_are_compared_on_request() -> None:
    first, second = (Pair(np.zeros(3), np.zeros((2, 3))), (Pair(np.zeros(3), np.zeros((3, 2)))))
    tree.check_like(first, second)
    assert message(TreeError, tree.check_like, first, second, shapes=True) == (
        "trees differ at 'right': the first tree has an array of shape (2, 3), the second has an array of shape (3, 2)"
    )
    tree.check_like(first, tree.map(np.ones_like, first), shapes=True)


@given(trees)
def test_a_tree_is_like_itself_whatever_its_leaves(value: Any) -> None:
    tree.check_like(value, tree.map(str, value))
    assert tree.equal(value, tree.map(lambda leaf: leaf, value))


@pytest.mark.parametrize(
    ("leaf", "other", "same"),
    [
        (np.zeros(2), np.zeros(2), True),
        (np.array([np.nan]), np.array([np.nan]), True),  # bits, so that a run can be compared that went wrong
        (np.array([0.0]), np.array([-0.0]), False),
        (np.zeros(2), np.zeros(2, np.float32), False),
        (np.zeros(2), np.zeros(2, np.int64), False),  # the same bits
        (np.zeros((1, 2)), np.zeros((2, 1)), False),
        (np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2).T, False),
        (np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), True),
        (np.zeros(()), 0.0, False),
        (1, 1.0, False),
        ("a", "a", True),
    ],
)
def test_equal_means_type_dtype_shape_and_bits(leaf: Any, other: Any, same: bool) -> None:
    assert tree.equal((leaf,), (other,)) is same


# --- Replacing ------------------------------------------------------------------------------------------------


def test_replace_changes_one_leaf_and_shares_the_rest() -> None:
    bias = np.ones(4)
    changed = tree.replace(TREE, "2.right.0", bias)
    np.testing.assert_array_equal(changed[2].right[0], bias)
    assert changed[0] is TREE[0]
    assert TREE[2].right[0].tolist() == [0.0, 0.0]


def test_replace_takes_subtrees_and_the_root() -> None:
    assert tree.equal(tree.replace((1, Pair(2, 3)), "1", None), (1, None))
    assert tree.equal(tree.replace((1, Pair(2, 3)), "1.left", (4, 5)), (1, Pair((4, 5), 3)))
    assert tree.replace((1, 2), "", 3) == 3


def test_a_replaced_array_is_read_only_and_the_callers_is_not() -> None:
    mine = np.ones(2)
    changed = tree.replace((0,), "0", mine)
    with pytest.raises(ValueError, match="read-only"):
        changed[0][0] = 2.0
    mine[0] = 2.0


@pytest.mark.parametrize("path", ["0.weight", "4", "-1", "0.left.0", "0..left"])
def test_a_path_that_leads_nowhere_lists_the_nearest(path: str) -> None:
    text = message(TreeError, tree.replace, TREE, path, 1)
    start = f"no path {path!r} in this tree; nearest: "
    assert text.startswith(start)
    for near in text.removeprefix(start).split(", "):
        tree.replace(TREE, near, 1)


def test_a_misspelt_field_finds_its_neighbour_first() -> None:
    text = message(TreeError, tree.replace, TREE, "2.rihgt.0", 1)
    assert text.startswith("no path '2.rihgt.0' in this tree; nearest: 2.right.0")


def test_an_empty_tree_has_no_path() -> None:
    assert message(TreeError, tree.replace, (), "0", 1) == "no path '0' in this tree (it is empty)"


# --- Arrays ---------------------------------------------------------------------------------------------------


def test_read_only_makes_every_stray_write_fail() -> None:
    value = (Pair(np.zeros(2), 1), np.zeros((2, 2)))
    assert tree.read_only(value) is value
    for leaf in (value[0].left, value[1]):
        with pytest.raises(ValueError, match="read-only"):
            leaf += 1
        with pytest.raises(ValueError, match="read-only"):
            np.add(leaf, 1, out=leaf)


def test_nbytes_counts_a_shared_array_once() -> None:
    shared = np.zeros(10)
    assert tree.nbytes((shared, Pair(shared, None), np.zeros(3, np.float32), 5)) == 80 + 12
    assert tree.nbytes((shared, shared.copy())) == 160
    assert tree.nbytes(()) == 0


# --- Printing -------------------------------------------------------------------------------------------------

SMALL, LARGE = np.zeros((2, 3), np.float32), np.zeros((1000, 200))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Pair(1, "a"), "Pair(left=1, right='a')"),
        (Pair(SMALL, None), "Pair(left=float32 (2, 3), right=None)"),
        (Pair(np.array(0.5), np.float32(0.5)), "Pair(left=float64 (), right=np.float32(0.5))"),
        (Pair((SMALL,), ()), "Pair(left=<1 array of float32: 6 numbers, 24 bytes>, right=())"),
        (Pair((1, 2), Empty()), "Pair(left=(1, 2), right=Empty())"),
        (Pair((None,) * 99, [1]), f"Pair(left=({'None, ' * 9}No..., right=[1])"),
        (Pair(([1], SMALL[0, :1]), None), "Pair(left=([1], array([0.], dtype=float32)), right=None)"),  # no tree
        (
            Pair((SMALL, Pair(LARGE, (SMALL, 5))), Pair(LARGE, SMALL)),
            "Pair(\n"
            "    left=<2 arrays of float32/float64: 200,006 numbers, 1,600,024 bytes>,\n"  # one is there twice
            "    right=Pair(left=float64 (1000, 200), right=float32 (2, 3)),\n"
            ")",
        ),
    ],
    ids=str,
)
def test_a_node_prints_its_arrays_dtypes_and_shapes_and_counts_its_tuples(value: Any, text: str) -> None:
    assert repr(value) == text


def test_a_node_may_print_in_a_way_of_its_own() -> None:
    class Own:
        value: Any

        def __repr__(self) -> str:
            return "own"

    class Heir(node(Own)):  # type: ignore[misc]
        other: Any

    assert (repr(node(Own)(1)), repr(node(Heir)(1, 2))) == ("own", "own")


SHOWN = {
    "a tree, an array in it twice": (
        (Pair(SMALL, (LARGE, None)), 5, (SMALL, np.array(True), "word")),
        "path       shape            dtype        bytes\n"
        "0.left     (2, 3)           float32         24\n"
        "0.right.0  (1000, 200)      float64  1,600,000\n"
        "1          -                int              -\n"
        "2.0        (2, 3)           float32         24\n"
        "2.1        ()               bool             1\n"
        "2.2        -                str              -\n"
        "total      200,007 numbers           1,600,025",
    ),
    "a leaf": (
        SMALL,
        "path   shape      dtype    bytes\n"  # a lone leaf's path is empty
        "       (2, 3)     float32     24\n"
        "total  6 numbers              24",
    ),
    "nothing": (
        (None, ()),
        "path   shape      dtype  bytes\n"
        "total  0 numbers             0",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("value", "table"), SHOWN.values(), ids=SHOWN)
def test_show_is_a_table_of_every_leaf_with_the_totals(value: Any, table: str) -> None:
    assert tree.show(value) == table
    assert repr(tree.show(value)) == table  # at a prompt


# --- Wild arguments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [np.zeros((3, 2)), np.zeros((2, 3), np.float32), np.zeros((2, 3)).view(np.memmap), 0.0, None, (np.zeros((2, 3)),)],
    ids=["shape", "dtype", "type", "number", "None", "tuple"],
)
def test_a_form_is_of_structure_types_shapes_and_dtypes(other: Any) -> None:
    array = np.zeros((2, 3))
    assert tree.form((array, None)) == tree.form((array + 1, None))
    assert tree.form((array, None)) != tree.form((other, None))


@pytest.fixture(scope="module")
def deep() -> Any:
    """A tree of ten thousand levels."""
    value: Any = 1
    for _ in range(10_000):
        value = (value,)
    return value


def test_a_tree_that_is_nested_too_deep_is_refused(deep: Any) -> None:
    other = ((deep,),)
    for use in (
        lambda: tree.flatten(deep),
        lambda: tree.paths(deep),
        lambda: tree.map(abs, deep),
        lambda: tree.form(deep),
        lambda: tree.rows(deep, other),
        lambda: tree.unflatten(deep, [1]),
        lambda: tree.check_like(deep[0], other),
        lambda: tree.equal(deep, other),
        lambda: tree.replace(deep, ".".join(["0"] * 10_000), 2),
        lambda: tree.nbytes(deep),
        lambda: tree.read_only(deep),
        lambda: tree.show(deep),
    ):
        assert message(TreeError, use).startswith("the tree is nested too deep, by hundreds of levels. Use one tuple")


def test_arguments_of_another_kind_are_named() -> None:
    assert message(TypeError, tree.unflatten, (1,), 5) == "unflatten: leaves must be a list, got int"
    assert (
        message(TypeError, tree.map, (1,), abs)
        == "map: fn must be a function of a leaf, got tuple. It comes before the tree"
    )
    assert message(TypeError, tree.replace, (1,), 0, 2) == "replace: path must be a text such as '2.weight', got 0"

"""The house rules that can be read off the source: what lives where, and what is nowhere."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import funcnn
from funcnn import compose, layers

PACKAGE = Path(funcnn.__file__).parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {module: ast.parse(source) for module, source in SOURCES.items()}
every_module = pytest.mark.parametrize("module", SOURCES)


def calls(module: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a module, with what is called as it is written there."""
    for part in ast.walk(TREES[module]):
        if isinstance(part, ast.Call):
            yield ast.unparse(part.func), part


def imports(module: str) -> Iterator[str]:
    """The dotted name of everything that a module imports, at its top or inside a function."""
    for part in ast.walk(TREES[module]):
        if isinstance(part, ast.Import):
            yield from (each.name for each in part.names)
        elif isinstance(part, ast.ImportFrom):
            yield from (f"{part.module}.{each.name}" for each in part.names)


# --- What lives where -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("homes", "names"),
    [
        # Kept together, these are what another array library would have to take over.
        (("arrays/", "conv_strided.py"), {"as_strided", "sliding_window_view"}),
        (("arrays/elementwise.py",), {"numexpr"}),
        (("keys.py",), {"Generator", "default_rng", "SeedSequence", "RandomState"}),
    ],
    ids=["stride tricks", "numexpr", "random generators"],
)
def test_used_in_one_place_alone(homes: tuple[str, ...], names: set[str]) -> None:
    users = {
        module
        for module in SOURCES
        if names
        & {
            each.split(".")[-1]
            for each in (*imports(module), *(called for called, _ in calls(module)))
            if each != "collections.abc.Generator"  # a coroutine's type, not a source of random numbers
        }
    }
    assert users
    assert [user for user in users if not user.startswith(homes)] == []


def test_numpys_global_generator_is_never_touched() -> None:
    attributes = [part for tree in TREES.values() for part in ast.walk(tree) if isinstance(part, ast.Attribute)]
    used = {part.attr for part in attributes if ast.unparse(part.value) in ("np.random", "numpy.random", "random")}
    assert used == {"Generator", "SFC64", "SeedSequence"}


# --- The floors: who knows whom -------------------------------------------------------------------------------


def known_to(module: str) -> set[str]:
    """The files of the library that a module imports, at its top or inside a function: no circle can hide there."""
    dotted = {
        f"funcnn.{each.removesuffix('.py').replace('/', '.')}".removesuffix(".__init__"): each for each in SOURCES
    }
    found = set()
    for name in imports(module):
        while name and name not in dotted:
            name = name.rpartition(".")[0]
        if name == "funcnn" and module != "__init__.py":
            continue  # ``from funcnn import __version__``, where it is needed
        found |= {dotted[name]} if name else set()
    return found


KNOWN = {module: known_to(module) for module in SOURCES}


def reached(module: str) -> set[str]:
    """All that a module imports, by whatever way."""
    found: set[str] = set()
    todo = [module]
    while todo:
        new = KNOWN[todo.pop()] - found
        found |= new
        todo += new
    return found


def test_no_import_leads_back() -> None:
    assert "keys.py" in KNOWN["layer.py"]
    assert list(graphlib.TopologicalSorter(KNOWN).static_order())  # raises CycleError


@pytest.mark.parametrize(
    ("room", "strangers"),
    [
        ("arrays/", ("layer.py", "settings.py", "nn/", "train.py")),  # arithmetic knows no layer
        ("nn/", ("train.py", "data/", "sweep/", "experiment/", "report/", "optimizers/", "losses/")),
        ("report/", ("experiment/", "nn/")),
        ("data/", ("train.py", "nn/", "sweep/", "experiment/", "report/")),
        ("sweep/", ("report/", "experiment/")),
        ("system/", ("layer.py", "nn/", "arrays/", "train.py")),
    ],
)
def test_a_room_does_not_know_those_above_it(room: str, strangers: tuple[str, ...]) -> None:
    known = {each for module in SOURCES if module.startswith(room) for each in KNOWN[module]}
    assert sorted(each for each in known if each.startswith(strangers)) == []


def test_the_library_needs_no_room_of_the_scripts() -> None:
    # What a net is made of and trained by can be used without sweeps, experiments, reports and data sets.
    for module in ("train.py", "optimizers/__init__.py", "layers.py", "compose.py", "losses/__init__.py"):
        assert [
            each for each in reached(module) if each.startswith(("sweep/", "experiment/", "report/", "data/"))
        ] == []


def test_the_drawing_of_the_floors_is_true() -> None:
    """docs/architecture.md: every file stands on one floor, and knows none above its own."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")
    drawing = text.split("## The house")[1].split("```")[1]
    floors = {}
    for height, floor in enumerate(reversed(re.split(r"─+\n", drawing))):
        for word in re.findall(r"\w+/?", floor):
            inside = [each for each in SOURCES if each == f"{word}.py" or (word[-1] == "/" and each.startswith(word))]
            assert not set(inside) & set(floors), f"{word} stands on two floors"
            floors |= dict.fromkeys(inside, height)
    assert set(SOURCES) - set(floors) == {"__init__.py"}
    up = [(module, each) for module in floors for each in KNOWN[module] if floors.get(each, 0) > floors[module]]
    assert up == []


def test_reports_draw_and_train_nothing() -> None:
    trains = {"funcnn.train.train", "funcnn.train.make_step", "funcnn.train.evaluate", "funcnn.train.init_state"}
    for module in SOURCES:
        if module.startswith("report/"):
            assert trains.isdisjoint(imports(module)), module


def test_few_files_stand_at_the_top() -> None:
    assert len([module for module in SOURCES if "/" not in module]) <= 22


def test_every_constructor_of_a_family_is_in_an_index() -> None:
    """What a file of nn/ exports in lower case and gives a layer is found in `funcnn.layers` or `funcnn.compose`."""
    constructors = {
        name
        for module in SOURCES
        if module.startswith("nn/")
        for name, part in public(module).items()
        if isinstance(part, ast.FunctionDef) and part.returns is not None and ast.unparse(part.returns) == "Layer"
    }
    listed = {*layers.__all__, *compose.__all__, "make_coupled"}
    assert constructors - listed == set(), "name it in funcnn/layers.py or funcnn/compose.py, and in their __all__"
    assert listed - constructors == set(), "it is in no __all__ of funcnn/nn"


# --- What is nowhere ------------------------------------------------------------------------------------------


# They load what they have pickled themselves: a layer, to see that it can be; what processes of this library are told.
_OWN_PICKLES = {"contract/candidate.py", "sweep/pool.py", "team/meeting.py", "team/shared.py", "team/team.py"}


@every_module
def test_nothing_slow_or_unsafe(module: str) -> None:
    # np.add.at is many times slower than adding by slices; unpickling a file can run anything that is in it.
    refused = {"np.add.at", "pickle.load", "pickle.loads", "exec", "os.system"}
    if module in _OWN_PICKLES:
        refused.remove("pickle.loads")
    assert refused.isdisjoint(called for called, _ in calls(module))
    options = [option for _, call in calls(module) for option in call.keywords if option.arg == "allow_pickle"]
    assert {ast.unparse(option.value) for option in options} <= {"False"}


@every_module
def test_zip_says_what_it_does_with_unequal_lengths(module: str) -> None:
    zips = [call for called, call in calls(module) if called == "zip"]
    assert [ast.unparse(call) for call in zips if "strict" not in {option.arg for option in call.keywords}] == []


@every_module
def test_no_file_is_too_long_to_read(module: str) -> None:
    count = len(SOURCES[module].splitlines())
    assert count <= 400, f"funcnn/{module} has {count} lines, at most 400: move a part of it to a file of its own"


# --- Public names ---------------------------------------------------------------------------------------------


def public(module: str) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    """The functions and classes that a module both defines and names in ``__all__``."""
    assigned = [part for part in TREES[module].body if isinstance(part, (ast.Assign, ast.AnnAssign))]
    targets = [part.target if isinstance(part, ast.AnnAssign) else part.targets[0] for part in assigned]
    exported = [
        ast.literal_eval(part.value)
        for part, target in zip(assigned, targets, strict=True)
        if part.value is not None and ast.unparse(target) == "__all__"
    ]
    assert len(exported) == 1, f"{module} needs one __all__"
    defined = [part for part in TREES[module].body if isinstance(part, (ast.FunctionDef, ast.ClassDef))]
    return {part.name: part for part in defined if part.name in exported[0]}


@every_module
def test_everything_public_has_a_docstring(module: str) -> None:
    assert ast.get_docstring(TREES[module])
    assert [name for name, part in public(module).items() if not ast.get_docstring(part)] == []


@pytest.mark.parametrize("module", [each for each in SOURCES if each.startswith(("nn/", "optimizers/"))] + ["init.py"])
def test_every_constructor_shows_an_example(module: str) -> None:
    made = ("Layer", "Initializer", "Optimizer", "Transform")
    constructors = [
        part
        for part in public(module).values()
        if isinstance(part, ast.FunctionDef) and part.returns is not None and ast.unparse(part.returns) in made
    ]
    missing = [part.name for part in constructors if ">>> " not in str(ast.get_docstring(part))]
    assert [name for name in missing if not name.startswith("make_")] == []


# --- Importing ------------------------------------------------------------------------------------------------


def test_importing_the_library_loads_no_extra() -> None:
    program = (
        "import sys, funcnn, funcnn.layers, funcnn.losses, funcnn.optimizers\n"
        "print(*{'tqdm', 'matplotlib', 'pooch', 'PIL', 'scipy', 'pandas'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert (run.stdout.strip(), run.stderr) == ("", "")

"""The house rules that can be read off the source: what lives where, and what is nowhere."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import funcnn

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
    ("home", "names"),
    [
        # Kept together, these are what another array library would have to take over.
        ("conv_", {"as_strided", "sliding_window_view"}),
        ("kernels.py", {"numexpr"}),
        ("keys.py", {"Generator", "default_rng", "SeedSequence", "RandomState"}),
    ],
    ids=["stride tricks", "numexpr", "random generators"],
)
def test_used_in_one_place_alone(home: str, names: set[str]) -> None:
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
    assert [user for user in users if not user.startswith(home)] == []


def test_numpys_global_generator_is_never_touched() -> None:
    attributes = [part for tree in TREES.values() for part in ast.walk(tree) if isinstance(part, ast.Attribute)]
    used = {part.attr for part in attributes if ast.unparse(part.value) in ("np.random", "numpy.random", "random")}
    assert used == {"Generator", "SFC64", "SeedSequence"}


def test_no_import_leads_back() -> None:
    # Each file knows only those above it: an import inside a function would hide a circle, and counts.
    dotted = {module: "funcnn." + module.removesuffix(".py").replace("/", ".") + "." for module in SOURCES}
    graph = {}
    for module in SOURCES:
        imported = [f"{name}." for name in imports(module)]
        graph[module] = {known for known in SOURCES if any(name.startswith(dotted[known]) for name in imported)}
    assert "keys.py" in graph["layer.py"]
    assert list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


# --- What is nowhere ------------------------------------------------------------------------------------------


@every_module
def test_nothing_slow_or_unsafe(module: str) -> None:
    # np.add.at is many times slower than adding by slices; unpickling a file can run anything that is in it.
    refused = {"np.add.at", "pickle.load", "pickle.loads", "exec", "os.system"}
    assert refused.isdisjoint(called for called, _ in calls(module))
    options = [option for _, call in calls(module) for option in call.keywords if option.arg == "allow_pickle"]
    assert {ast.unparse(option.value) for option in options} <= {"False"}


@every_module
def test_zip_says_what_it_does_with_unequal_lengths(module: str) -> None:
    zips = [call for called, call in calls(module) if called == "zip"]
    assert [ast.unparse(call) for call in zips if "strict" not in {option.arg for option in call.keywords}] == []


@every_module
def test_no_file_is_too_long_to_read(module: str) -> None:
    assert len(SOURCES[module].splitlines()) <= 450


# --- Public names ---------------------------------------------------------------------------------------------


def public(module: str) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    """The functions and classes that a module both defines and names in ``__all__``."""
    assigned = [part for part in TREES[module].body if isinstance(part, ast.Assign)]
    exported = [ast.literal_eval(part.value) for part in assigned if ast.unparse(part.targets[0]) == "__all__"]
    assert len(exported) == 1, f"{module} needs one __all__"
    defined = [part for part in TREES[module].body if isinstance(part, (ast.FunctionDef, ast.ClassDef))]
    return {part.name: part for part in defined if part.name in exported[0]}


@every_module
def test_everything_public_has_a_docstring(module: str) -> None:
    assert ast.get_docstring(TREES[module])
    assert [name for name, part in public(module).items() if not ast.get_docstring(part)] == []


@pytest.mark.parametrize(
    "module", ["init", "convolution", "activations", "normalization", "stochastic", "layers", "compose"]
)
def test_every_constructor_shows_an_example(module: str) -> None:
    constructors = [part for part in public(f"{module}.py").values() if isinstance(part, ast.FunctionDef)]
    assert [part.name for part in constructors if ">>> " not in str(ast.get_docstring(part))] == []


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

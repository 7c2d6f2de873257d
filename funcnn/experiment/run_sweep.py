"""A whole sweep from the command line: options, executor, progress, table, CSV, pictures, a page with all of them.

What the scripts ``experiments/sweep_*.py`` have in common. A script says its question, its axes, what a trial trains,
and which pictures answer the question; `run_sweep` does the rest.
"""

import difflib
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from funcnn.arrays.threads import cores
from funcnn.experiment.device import add_device, check_alone
from funcnn.experiment.executors import executor_for
from funcnn.experiment.options import (
    add_data,
    folder,
    new_parser,
    positive,
    printer,
    read_arguments,
    same_command,
    warn,
)
from funcnn.experiment.sweep_data import data_axes
from funcnn.report.figures import can_draw
from funcnn.report.page import page
from funcnn.report.summary import metric_of, results_csv, summaries, summary_rows
from funcnn.sweep.grid import Configuration, SweepError, grid, shown
from funcnn.sweep.halving import halving
from funcnn.sweep.results import HALVING, Result, ResultsFile
from funcnn.sweep.sweep import sweep
from funcnn.sweep.training import TrainingTrial
from funcnn.sweep.trials import Trial, trial_name
from funcnn.system.files import make_folder, write_text
from funcnn.system.interrupts import heeded
from funcnn.system.text import Screen, cut, printable, text_table

__all__ = ["SweepOptions", "parse_sweep_options", "run_sweep"]

Draw = Callable[[Sequence[Result], Path], None]
_IN_TERMINAL, _ON_PAGE = 20, 500  # rows of the table


@attrs.frozen
class SweepOptions:
    """What the command line of every sweep sets."""

    data: str
    data_dir: str | None
    size: tuple[int, int] | None
    channels: int | None
    epochs: int
    seeds: int
    axes: dict[str, tuple[Any, ...]]
    jobs: int | None
    workers: int
    shards: int
    device: str
    scheduler: str | None
    mpi: bool
    halving: bool
    out: Path
    quick: bool
    quiet: bool
    plots: bool
    report: bool
    mix: bool
    retry: bool


def parse_sweep_options(
    description: str | None,
    *,
    name: str,
    axes: dict[str, Sequence[Any]],
    quick: dict[str, Sequence[Any]],
    epochs: int,
    seeds: int = 3,
    halving: bool = False,
    arguments: list[str] | None = None,
) -> SweepOptions:
    """The options of a sweep from its command line; `axes` are the script's, and `quick` those that a quick run has.

    With `halving` there is an option ``--halving``: for a `TrainingTrial` whose trainings have as many epochs.

    >>> options = parse_sweep_options("Rates.", name="demo", axes={"lr": [1, 2, 3]}, quick={"lr": [1]}, epochs=9,
    ...                               arguments=["--axis", "lr=0.1,0.2"])
    >>> options.axes
    {'lr': (0.1, 0.2)}

    Ends the program with a message for an axis that the script does not have, or a name that is none of its values.
    """
    parser = new_parser(description)
    option = parser.add_argument
    add_data(parser, "digits")
    option("--epochs", type=positive(int), help=f"passes over the data in a trial (default {epochs}; 2 if --quick)")
    option("--seeds", type=positive(int), help=f"trials of each configuration (default {seeds}; 1 if --quick)")
    option("--axis", action="append", default=[], metavar="NAME=V1,V2", help=f"other values for: {', '.join(axes)}")
    jobs = "processes on this machine (default: one for each core; 1 with a --device)"
    option("--jobs", type=positive(int), help=jobs)
    each = "processes that train a trial together, on this machine (default %(default)s)"
    option("--workers", type=positive(int), default=1, metavar="N", help=each)
    parts = "parts of a batch that they share, from which a result follows (default: --workers)"
    option("--shards", type=positive(int), metavar="N", help=parts)
    add_device(parser)
    where = parser.add_mutually_exclusive_group().add_argument
    where("--scheduler", metavar="ADDRESS", help="run on the workers of a Dask scheduler, as tcp://host:8786")
    where("--mpi", action="store_true", help="run on the ranks of: mpirun -n N python -m mpi4py.futures SCRIPT --mpi")
    if halving:
        option("--halving", action="store_true", help="stop hopeless trials early (one seed): see docs/sweeps.md")
    option("--out", type=folder, default=Path("runs") / name, help="the folder for results (default %(default)s)")
    option("--resume", action="store_true", help="go on with the sweep in --out: that is always so")
    option("--mix", action="store_true", help="count results of an earlier version of the trial")
    option("--retry", action="store_true", help="run trials again that failed or were lost")
    option("--report", action="store_true", help="run nothing: table, pictures and page from the results in --out")
    option("--quick", action="store_true", help="a small grid, to see that everything works")
    option("--quiet", action="store_true", help="print nothing but errors")
    option("--no-plots", dest="plots", action="store_false", help="draw no pictures")
    parser.set_defaults(halving=False)
    values = vars(read_arguments(parser, arguments))
    values.pop("resume")
    chosen = {key: tuple(each) for key, each in (axes | quick if values["quick"] else axes).items()}
    for given in values.pop("axis"):
        axis, equals, text = given.partition("=")
        if axis not in axes or not equals:
            parser.error(f"--axis {given}: expected NAME=V1,V2 with a name out of {', '.join(axes)}")
        chosen[axis] = tuple(_value(each.strip()) for each in text.split(","))
        unknown = [each for each in chosen[axis] if each not in axes[axis]]
        if unknown and all(isinstance(each, str) for each in axes[axis]):
            parser.error(f"--axis {given}: {axis} is one of {', '.join(map(repr, axes[axis]))}, not {unknown[0]!r}")
    values["axes"] = chosen
    check_alone(values["device"], values["workers"], values["shards"], parser.error)
    if values["device"] != "cpu":
        if values["mpi"] or values["scheduler"]:
            parser.error(f"--device {values['device']}: that is this machine's. Leave out --scheduler and --mpi")
        values["jobs"] = values["jobs"] or 1  # more take turns on one device, and each has memory of its own there
    values["shards"] = values["shards"] or values["workers"]
    if values["shards"] < values["workers"]:
        parser.error(f"--shards {values['shards']}: at least one for each of the {values['workers']} workers")
    if values["workers"] > 1:
        if values["mpi"] or values["scheduler"]:
            parser.error("--workers: a trial on a cluster has one process. Pass --shards alone for the same results")
        values["jobs"] = _jobs_beside(values["jobs"], values["workers"], parser.error)
    values["epochs"] = values["epochs"] or (2 if values["quick"] else epochs)
    values["seeds"] = values["seeds"] or (1 if values["quick"] else seeds)
    return SweepOptions(**values)


def _jobs_beside(jobs: int | None, workers: int, error: Callable[[str], Any]) -> int:
    """How many trials at a time leave each its workers' cores; an error for more than there are."""
    there = cores()
    if (jobs or 1) * workers > there:
        trials = f"{_count(jobs or 1, 'trial')} at a time with {workers} workers each"
        error(f"--workers {workers}: {trials} would take {(jobs or 1) * workers} cores, and there are {there}")
    return jobs or there // workers


def _value(text: str) -> Any:
    """A value as it is written: a truth value, a number, or a name."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def run_sweep(
    trial: Trial, options: SweepOptions, *, question: str | None, draw: Draw | Sequence[Draw],
    metric: str = "validation_accuracy", also: Sequence[str] = ("test_accuracy",),
) -> list[Result]:  # fmt: skip
    """Run a sweep over the options' axes, and leave its answer in ``options.out``; returns the results.

    Every configuration also has what the data are (`data_axes`), the options' `epochs`, `shards` if more than one, and
    the `device` if that is not the CPU, so that it says all that its trial needs. Writes results.jsonl as trials
    finish, at the end results.csv, the pictures of `draw` (one function or several, each of the results and the
    folder), and report.html, a page that needs no other file. If one of these fails, it is said, and the others are
    made. With `report` it runs no trial. On Ctrl-C it says how to go on, and exits.

    Raises SweepError and OSError as `sweep`, SweepError if a scheduler cannot be reached, for a report of another
    sweep's results, and at last if no trial has ended well, OSError at last if the disk failed what is left, DataError
    if the data cannot be loaded, and TypeError for an argument of another type.
    """
    draws = tuple(draw) if isinstance(draw, (list, tuple)) else (draw,)
    _check(trial, draws, metric, also)
    say = printer(options.quiet)
    if options.shards > 1:
        if not isinstance(trial, TrainingTrial):
            raise SweepError("--workers, --shards: this sweep's trials measure more than a training, on one core")
        trial = attrs.evolve(trial, workers=options.workers, shards=options.shards)
    how: dict[str, list[Any]] = {"shards": [options.shards]} if options.shards > 1 else {}  # a result follows from it
    if options.device != "cpu":
        if not isinstance(trial, TrainingTrial):
            raise SweepError("--device: this sweep's trials measure more than a training, on the CPU")
        trial, how = attrs.evolve(trial, device=options.device), {"device": [options.device]}
    folder = make_folder(options.out)
    started = time.perf_counter()
    if options.report:
        results = ResultsFile(folder / "results.jsonl").read()
        if not results:
            raise SweepError(f"{folder / 'results.jsonl'}: no results to report. Run the sweep first, without --report")
        if results[0].trial.removesuffix(HALVING) != trial_name(trial):
            raise SweepError(f"{folder / 'results.jsonl'}: it has results of {results[0].trial}. Choose another --out")
        results = list(_with_metric(iter(results), metric))
    else:
        # The data are loaded here too, since without them each trial would fail.
        chosen = grid(**options.axes, **data_axes(options), epochs=[options.epochs], **how)
        results = _run(trial, chosen, options, metric, folder, say)
    _leave(results, options, question, draws, (metric, *also), folder, say)
    names = ", ".join(sorted(printable(path.name) for path in folder.iterdir() if not path.name.startswith(".")))
    say(f"results in {printable(folder)} after {time.perf_counter() - started:.1f} s: {names}")
    if not any(each.status == "done" for each in results):
        raise SweepError(f"no trial has ended well: {folder / 'results.jsonl'} says why. --retry runs them again")
    return results


def _check(trial: Any, draws: Sequence[Any], metric: Any, also: Any) -> None:
    """What can be known before hours of work."""
    wanted = [
        ("trial", trial, callable(trial), "a function of (config, seed)"),
        ("draw", draws, all(map(callable, draws)), "a function of (results, folder), or several"),
        ("metric", metric, isinstance(metric, str), "a name"),
        ("also", also, isinstance(also, (list, tuple)) and all(isinstance(each, str) for each in also), "names"),
    ]
    for name, value, fits, what in wanted:
        if not fits:
            raise TypeError(f"run_sweep: {name} must be {what}, got {shown(value)}")


def _run(
    trial: Trial,
    chosen: tuple[Configuration, ...],
    options: SweepOptions,
    metric: str,
    folder: Path,
    say: Callable[[str], None],
) -> list[Result]:
    seeds = range(options.seeds)
    total = None if options.halving else len(chosen) * len(seeds)
    how = "halved as they go" if total is None else f"each with {_count(len(seeds), 'seed')}: {_count(total, 'trial')}"
    say(f"{_count(len(chosen), 'configuration')} {how}")
    with executor_for(options.jobs, options.scheduler, mpi=options.mpi) as executor:
        if options.halving:
            if not isinstance(trial, TrainingTrial):
                raise SweepError("--halving: this sweep's trials measure more than a training, and run to the end")
            found = halving(
                trial, chosen, epochs=options.epochs,
                executor=executor, out=folder, mix=options.mix, retry=options.retry,
            )  # fmt: skip
        else:
            found = sweep(
                trial, chosen, seeds=seeds, executor=executor, out=folder, mix=options.mix, retry=options.retry
            )
        results: list[Result] = []
        try:
            with closing(found), heeded("SIGINT", "SIGTERM", "SIGHUP") as heed:
                for result in _progress(_with_metric(found, metric), total, metric, quiet=options.quiet):
                    results.append(result)
                    heed()
        except KeyboardInterrupt:
            say(f"\nStopped with {len(results)} results. To go on: {same_command()}")
            raise SystemExit(130) from None
    return results


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s'[: number != 1]}"


def _with_metric(results: Iterator[Result], metric: str) -> Iterator[Result]:
    """Pass results on. Raises SweepError at the first that has metrics, if none has the name of the one asked for."""
    for result in results:
        if result.status == "done" and metric not in (*result.metrics, "seconds"):
            names = {name.lower(): name for name in result.metrics}
            near = difflib.get_close_matches(metric.lower(), names, n=1)
            hint = f"did you mean {names[near[0]]!r}? " if near else ""
            raise SweepError(
                f"run_sweep: no metric is called {metric!r}: {hint}The trial gives "
                f"{', '.join(map(repr, result.metrics)) or 'none'}. Its results are kept: ask for one of these"
            )
        yield result


def _progress(results: Iterator[Result], total: int | None, metric: str, *, quiet: bool) -> Iterator[Result]:
    """Pass results on, showing how many there are, the time remaining and the best so far."""
    if quiet:
        yield from results
        return
    screen = Screen(sys.stdout)
    bar = _bar(total, screen)
    best: float | None = None
    for count, result in enumerate(results, start=1):
        value = metric_of(result, metric)
        if value is not None and (best is None or value > best):
            best = value
        text = "none has ended well yet" if best is None else f"best {printable(metric.replace('_', ' '))} {best:.4f}"
        if bar is not None:
            with suppress(Exception):  # of another version of tqdm
                bar.set_postfix_str(text, refresh=False)
                bar.update()
        elif count % max(1, (total or 100) // 10) == 0:
            print(f"{count}{f' of {total}' if total else ''} trials, {text}", file=screen, flush=True)
        yield result
    if bar is not None:
        with suppress(Exception):
            bar.close()


def _bar(total: int | None, screen: Screen) -> Any:
    if not screen.isatty():
        return None
    form = "{n}/{total} trials {percentage:3.0f}%|{bar:24}|{postfix} [{elapsed} so far, {remaining} left]"
    if total is None:
        form = "{n} trials {postfix} [{elapsed} so far]"
    try:
        from tqdm import tqdm

        return tqdm(total=total, file=screen, bar_format=form, leave=False, dynamic_ncols=True)
    except Exception:  # it is not installed, or fails with what the environment sets
        return None


# --- What is left ---------------------------------------------------------------------------------------------


def _leave(
    results: list[Result],
    options: SweepOptions,
    question: str | None,
    draws: Sequence[Draw],
    metrics: Sequence[str],
    folder: Path,
    say: Callable[[str], None],
) -> None:
    """Table, CSV, pictures and page, each made whatever becomes of the others: the work of hours is behind them.

    Raises OSError at last, if one was the disk's.
    """
    failed: list[Exception] = []
    with _apart("results.csv", failed):
        write_text(folder / "results.csv", results_csv(results))
    header, rows = ["configuration"], [[repr(each.config)] for each in results]  # for the page, should the table fail
    with _apart("table", failed):
        found = [summaries(results, name) for name in metrics]
        header, rows = summary_rows(found[0], dict(zip(metrics, found, strict=True)))
        say("\n" + text_table(header, rows[:_IN_TERMINAL], left=len(header) - 1 - len(metrics)))
        say(f"the best {_IN_TERMINAL} of {len(rows)} configurations\n" if len(rows) > _IN_TERMINAL else "")
    for status in ("diverged", "failed", "lost"):
        bad = [each for each in results if each.status == status]
        if bad:
            last = printable(bad[0].error.strip().splitlines()[-1]) if bad[0].error.strip() else ""
            say(f"{len(bad)} {status}, as {bad[0].config}, seed {bad[0].seed}: {last}")
    pictures: set[Path] = set()
    if options.plots and can_draw(say) and any(each.status == "done" for each in results):
        for draw in draws:
            before = _pictures(folder)
            with _apart(f"picture of {getattr(draw, '__name__', 'draw')}", failed):
                draw(results, folder)
            pictures |= {path for path, state in _pictures(folder).items() if before.get(path) != state}
    command = shlex.join(["python", *(each for each in sys.argv if each not in ("--report", "--retry"))])
    with _apart("report.html", failed):
        text = page(question, sorted(pictures), (header, rows[:_ON_PAGE]), results, command=command)
        write_text(folder / "report.html", text)
    for error in failed:
        if isinstance(error, OSError):
            raise error


@contextmanager
def _apart(what: str, failed: list[Exception]) -> Iterator[None]:
    """Say what fails in the block, and why, and go on."""
    try:
        yield
    except Exception as error:
        failed.append(error)
        reason = f"{type(error).__name__}: {cut(printable(error), 300)}"
        warn(f"no {what}: {reason}. The results are in results.jsonl: --report makes all from them again")


def _pictures(folder: Path) -> dict[Path, tuple[int, int]]:
    """The pictures in the folder, whoever drew them, and what changes when one is drawn again."""
    return {path: (state.st_ino, state.st_mtime_ns) for path in folder.glob("*.png") for state in [path.lstat()]}

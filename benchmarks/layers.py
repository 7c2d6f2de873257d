"""Each kind of layer by itself, funcnn against PyTorch: forward and backward in training, at batch 64.

    python benchmarks/layers.py
    python benchmarks/layers.py --layers conv2d dense --rounds 30 --json layers.json
    python benchmarks/layers.py --inside --threads 1
    python benchmarks/layers.py --workers 2

Most shapes are those of the nets in nets.py. A layer stands alone in a `serial`, which is what spreads work over
threads. Images, and gradients of images, lie in memory as funcnn's convolutions leave them, PyTorch's in its default
and in its channels-last layout, the faster of which is its figure in each direction. Layers marked "first" are a
net's first: their images lie as data sets have them, and their input needs no gradient.

Alone, a layer pays for cutting the batch into chunks and joining them again, which between the layers of a net costs
nothing. With ``--inside``, it is given the chunks, each an array of its own, as the layers before and after would.

At the end stand forward and backward together, and the geometric mean of their ratios over all layers. The layers are
those of catalogue.py: what of the library PyTorch has too, but for layers of several inputs.

Both run in this process on as many threads, turn by turn (see `measure.interleaved`). For layers with products, the
limit is the time that these alone would take at the rate of a square matrix product measured in the same rounds. The
last column says how many cores other programs took meanwhile, as in training_step.py.
"""

import argparse
import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from typing import Any, NamedTuple

import measure
import numpy as np
from catalogue import BATCH, CASES, Case
from nets import as_torch, import_torch, layout

from funcnn import Key, serial
from funcnn.arrays.layout import images, rows
from funcnn.arrays.products import whole
from funcnn.losses import mean_squared_error
from funcnn.nn.chunks import add_up, cut
from funcnn.nn.coupled import Coroutine, alone, apply_chunk, backward_chunk, resume, together
from funcnn.nn.stages import chunk_sizes
from funcnn.optimizers import sgd
from funcnn.system.memory import keep_freed_memory
from funcnn.team import Team
from funcnn.team.calls import add_to
from funcnn.team.member import Member
from funcnn.team.memory import write
from funcnn.team.step import add_up as add_up_shards
from funcnn.team.step import shard_slices
from funcnn.train import Problem, TrainState

TIMES = 8  # a layer's calls by a team between two meetings
TURN = 0.25  # seconds for processes, which need some calls to have their caches again
DIRECTIONS = ("forward", "backward")


# --- The calls ------------------------------------------------------------------------------------------------


Calls = dict[str, Callable[[], Any]]


def gaussian(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(0).standard_normal((BATCH, *shape), np.float32)


def inputs_of(case: Case) -> Any:
    """A batch of examples: of whole numbers for a layer that has a vocabulary."""
    vocabulary = case.funcnn.config.vocabulary
    if vocabulary is not None:
        return np.random.default_rng(0).integers(vocabulary, size=(BATCH, *case.in_shape))
    return gaussian(case.in_shape)


def by_rows(x: Any) -> Any:
    """Images as funcnn's convolutions leave them in memory; anything else as it is."""
    return images(np.ascontiguousarray(rows(x))) if x.ndim == 4 else x


def funcnn_calls(case: Case) -> Calls:
    """Forward and backward by funcnn, the layer alone in a net."""
    net = serial(case.funcnn)
    params, state, out_shape = net.init(Key(0), case.in_shape)
    x, dy = inputs_of(case), by_rows(gaussian(out_shape))
    forward = partial(net.apply, params, state, x if case.first else by_rows(x), key=Key(1), train=True)
    residuals = forward().residuals
    return {"forward": forward, "backward": partial(net.backward, params, residuals, dy, need_dx=not case.first)}


class Share:
    """Some of a case's batch, in the chunks that `serial` would make, and what it keeps between the directions."""

    def __init__(self, case: Case, part: slice = slice(BATCH)) -> None:
        self.layer, self.need_dx = case.funcnn, not case.first
        self.params, self.state, out_shape = self.layer.init(Key(0), case.in_shape)
        x, dy = inputs_of(case)[part], gaussian(out_shape)[part]
        settings = self.layer.config
        in_chunks = settings.by_chunks or settings.couples_examples  # a dense layer takes all
        sizes = chunk_sizes(len(x), max(x.size, dy.size) // len(x)) if in_chunks else (len(x),)
        self.xs = [chunk if case.first else by_rows(chunk) for chunk in cut(x, sizes)]
        self.dys = [by_rows(chunk) for chunk in cut(dy, sizes)]
        self.kept: list[Any] = []

    def forward(self) -> Coroutine:
        """All chunks through the layer, on all threads: their residuals are kept."""
        chunks = enumerate(self.xs)
        ways = [apply_chunk(self.layer, self.params, self.state, x, key=Key(i), train=True) for i, x in chunks]
        made = yield from together(ways)
        self.kept = [each.residuals for each in made]

    def backward(self) -> Coroutine:
        """All chunks back: the sum of their gradients."""
        pairs = zip(self.kept, self.dys, strict=True)
        ways = [backward_chunk(self.layer, self.params, *pair, need_dx=self.need_dx) for pair in pairs]
        tasks = [partial(resume, way) for way in ways]
        if self.layer.config.couples_examples:
            made = yield from together(ways)
            tasks = [partial(tuple, each) for each in made]
        sums, _ = add_up([partial(by_position, task) for task in tasks])
        return sums[0]


def by_position(task: Callable[[], Any]) -> tuple[dict[int, Any], Any]:
    """Gradients and dx as `add_up` takes them, for a net of one layer."""
    gradients, dx = task()
    return {0: gradients}, dx


def inside_calls(case: Case) -> Calls:
    """Forward and backward by funcnn, as `serial` takes the layer among others: the batch is in chunks already."""
    share = Share(case)
    calls: Calls = {"forward": lambda: alone(share.forward()), "backward": lambda: alone(share.backward())}
    calls["forward"]()  # backward needs what it keeps
    return calls


# --- By workers -----------------------------------------------------------------------------------------------


class LayerCall(NamedTuple):
    """Forward or backward of a case by a team, some times: it ends when all are there.

    A step of a net meets at its end and where a layer couples the examples, and so does this.
    """

    case: str
    direction: str

    def run(self, member: Member) -> None:
        share = share_of(self.case, *member.part)
        meets = share.layer.config.couples_examples
        way = share.forward if self.direction == "forward" else partial(self._back, share, member)
        with whole(True):  # as in a step
            for _ in range(TIMES):
                (member.meet if meets else alone)(way())
        member.room.gather(None)

    def _back(self, share: Share, member: Member) -> Coroutine:
        """Gradients go to this member's row, and its share of all rows, new or old, is added up."""
        write((yield from share.backward()), member.rows[member.room.rank])
        add_up_shards(member.row_shares, add_to)


@cache
def share_of(name: str, rank: int, size: int) -> Share:
    """A member's part of the batch."""
    return Share(next(case for case in CASES if case.name == name), shard_slices(BATCH, size)[rank])


def workers_calls(case: Case, team: Team) -> Calls:
    """Forward and backward by a team."""
    params, state, _ = case.funcnn.init(Key(0), case.in_shape)
    problem = Problem(case.funcnn, mean_squared_error, sgd(0.0), metric=None)  # whose gradients have memory then
    team.begin(problem, TrainState(params, state, problem.optimizer.init(params), 0, 0))
    calls: Calls = {direction: partial(team.run, LayerCall(case.name, direction)) for direction in DIRECTIONS}
    calls["forward"]()
    return calls


# --- PyTorch --------------------------------------------------------------------------------------------------


def torch_calls(case: Case, *, channels_last: bool) -> Calls:
    """Forward and backward by PyTorch."""
    torch = import_torch()
    module = case.torch(torch).to(memory_format=layout(channels_last)).train()
    inputs, dy = (
        as_torch(each.swapaxes(1, 2).copy() if case.turned else each, channels_last=channels_last)
        for each in (inputs_of(case), gaussian(case.funcnn.config.out_shape(case.in_shape)))
    )
    x = inputs if case.first else inputs.requires_grad_()
    y = module(x)
    if y.shape != dy.shape:
        raise ValueError(f"{case.name}: PyTorch gives {tuple(y.shape)}, funcnn {tuple(dy.shape)}")
    wanted = [*module.parameters(), *([] if case.first else [x])]
    backward = partial(torch.autograd.grad, y, wanted, dy, retain_graph=True)
    return {"forward": partial(module, x), "backward": backward}


def measure_case(case: Case, rounds: int, *, inside: bool, team: Team | None) -> list[dict[str, Any]]:
    """A row for each direction, with the samples behind it."""
    ours = workers_calls(case, team) if team else inside_calls(case) if inside else funcnn_calls(case)
    calls = {"funcnn": ours, "default": torch_calls(case, channels_last=False)}
    if len(case.in_shape) == 3:
        calls["channels last"] = torch_calls(case, channels_last=True)
    results = []
    for direction in DIRECTIONS:
        others = measure.Others()
        contestants = {name: each[direction] for name, each in calls.items()} | {"gemm": measure.gemm()}
        samples = measure.interleaved(contestants, rounds, turn=TURN if team else 0.06)
        if team:
            samples["funcnn"] = [seconds / TIMES for seconds in samples["funcnn"]]
        result = measure.compare(samples, case.operations(direction))
        result |= {"layer": case.name, "direction": direction, "cores_taken_by_others": others.cores()}
        results.append(result)
    print(f"measured {case.name}", file=sys.stderr)
    return results


def both_directions(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Forward and backward of each layer as one figure, of the medians."""
    found = []
    for forward, backward in zip(results[::2], results[1::2], strict=True):
        funcnn, torch = (forward[name].median + backward[name].median for name in ("funcnn", "torch"))
        found.append({"layer": forward["layer"], "funcnn": funcnn, "torch": torch, "ratio": funcnn / torch})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Time single layers of funcnn and PyTorch, interleaved in one run.")
    parser.add_argument("--layers", nargs="+", metavar="TEXT", help="only layers whose name has one of these in it")
    parser.add_argument("--inside", action="store_true", help="give layers the batch in chunks, as inside a net")
    parser.add_argument("--workers", type=int, metavar="N", help="by so many processes, PyTorch on as many threads")
    measure.add_options(parser, rounds=15)
    options = parser.parse_args()
    cases = [case for case in CASES if any(text in case.name for text in options.layers or [""])]
    if not cases:
        parser.error(f"--layers: none of these: {'; '.join(case.name for case in CASES)}")
    keep_freed_memory()  # as the scripts in experiments/ do; it serves PyTorch too
    torch = import_torch()
    threads = options.workers or options.threads
    with measure.using_threads(threads, torch), Team(threads) if options.workers else nullcontext() as team:
        made = [measure_case(case, options.rounds, inside=options.inside, team=team) for case in cases]
    results = [result for each in made for result in each]
    lines = [[each["layer"], each["direction"], *measure.comparison(each, digits=3)] for each in results]
    measure.print_table(["layer", "direction", *measure.COMPARISON], lines)
    both = both_directions(results)
    mean = math.exp(sum(math.log(each["ratio"]) for each in both) / len(both))
    print("\nforward and backward together")
    lines = [
        [each["layer"], f"{1e3 * each['funcnn']:.3f}", f"{1e3 * each['torch']:.3f}", f"{each['ratio']:.2f}"]
        for each in both
    ]
    measure.print_table(["layer", "funcnn ms", "PyTorch ms", "funcnn / PyTorch"], lines)
    print(f"geometric mean of {len(both)} layers: {mean:.3f}")
    environment = measure.environment("torch") | {"threads": threads, "batch": BATCH, "inside": options.inside}
    environment |= {"workers": options.workers}
    measure.write_json(options.json, {"environment": environment, "results": results, "both": both, "mean": mean})


if __name__ == "__main__":
    main()

"""A training step of a small GPT, funcnn against PyTorch eager: nanoGPT's setting for a CPU.

    python benchmarks/gpt_step.py
    python benchmarks/gpt_step.py --rounds 30 --threads 1 --json gpt_step.json
    python benchmarks/gpt_step.py --parts
    python benchmarks/gpt_step.py --memory

4 layers, 4 heads, 128 features, context 64, batch 12, vocabulary 65, no biases, no dropout, tied scores: 804,096
parameters; cross-entropy over all positions, backward, AdamW with decay on weights alone. Both run on as many cores,
turn by turn (see `measure.interleaved`): PyTorch's threads, and funcnn's better of its threads and as many workers that
share the batch (`funcnn.team`). PyTorch's net is written as one would: one product for
queries, keys and values, `scaled_dot_product_attention`, fused AdamW; it is timed with both forms of gelu, and the
faster counts. The limit is the time that products alone would take.

With ``--parts`` its layers follow, forward and backward, and attention on other shapes. With ``--memory``: what a layer
of attention keeps for backward, and what it takes at most, by the sequence's length; both grow as that does, and not as
its square.
"""

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import measure
import numpy as np
from nets import import_torch

from funcnn import Key, Layer, tree
from funcnn.layers import dense, gelu, layer_norm, self_attention
from funcnn.losses import softmax_cross_entropy
from funcnn.models import gpt
from funcnn.optimizers import adamw, weights_only
from funcnn.system.memory import keep_freed_memory
from funcnn.team import Team
from funcnn.train import Problem, init_state, make_step

LAYERS, HEADS, FEATURES, CONTEXT, BATCH, VOCABULARY = 4, 4, 128, 64, 12, 65
RATE, BETA2, DECAY = 1e-3, 0.99, 0.1
BATCHES = 4
TIMES = (512, 1024, 2048, 4096)

Calls = dict[str, Callable[[], Any]]


def texts() -> list[tuple[Any, Any]]:
    """Batches of random numbers and those that come next."""
    draw = np.random.default_rng(0)
    whole = [draw.integers(0, VOCABULARY, (BATCH, CONTEXT + 1)) for _ in range(BATCHES)]
    return [(each[:, :-1].copy(), each[:, 1:].copy()) for each in whole]


# --- PyTorch's --------------------------------------------------------------------------------------------------


def torch_attention(torch: Any, features: int, heads: int, *, causal: bool, bias: bool) -> Any:
    """Self-attention as one writes it around `scaled_dot_product_attention`."""

    class Attention(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.qkv = torch.nn.Linear(features, 3 * features, bias=bias)
            self.out = torch.nn.Linear(features, features, bias=bias)

        def forward(self, x: Any) -> Any:
            n, time, _ = x.shape
            q, k, v = (
                each.view(n, time, heads, features // heads).transpose(1, 2)
                for each in self.qkv(x).split(features, dim=2)
            )
            o = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
            return self.out(o.transpose(1, 2).contiguous().view(n, time, features))

    return Attention()


def torch_gpt(torch: Any, approximate: str) -> Any:
    """The whole net."""
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = (nn.LayerNorm(FEATURES, bias=False) for _ in range(2))
            self.attention = torch_attention(torch, FEATURES, HEADS, causal=True, bias=False)
            self.mlp = nn.Sequential(
                nn.Linear(FEATURES, 4 * FEATURES, bias=False),
                nn.GELU(approximate=approximate),
                nn.Linear(4 * FEATURES, FEATURES, bias=False),
            )

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.first(x))
            return x + self.mlp(self.second(x))

    class Gpt(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, FEATURES)
            self.position = nn.Embedding(CONTEXT, FEATURES)
            self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
            self.norm = nn.LayerNorm(FEATURES, bias=False)
            self.scores = nn.Linear(FEATURES, VOCABULARY, bias=False)
            self.scores.weight = self.embedding.weight

        def forward(self, x: Any) -> Any:
            positions = torch.arange(x.shape[1], device=x.device)
            return self.scores(self.norm(self.blocks(self.embedding(x) + self.position(positions))))

    return Gpt()


def torch_step(torch: Any, approximate: str) -> Callable[[], float]:
    """A call that takes a step and gives its loss."""
    net = torch_gpt(torch, approximate)
    parameters = list(net.parameters())
    groups = [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": DECAY},
        {"params": [each for each in parameters if each.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, BETA2), fused=True)
    batches = [tuple(map(torch.from_numpy, each)) for each in texts()]
    turns = [0]

    def step() -> float:
        x, targets = batches[turns[0] % BATCHES]
        turns[0] += 1
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(net(x).view(-1, VOCABULARY), targets.view(-1))
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


# --- funcnn's ---------------------------------------------------------------------------------------------------


def funcnn_step(team: Team | None = None) -> Callable[[], float]:
    """A call that takes a step, by a team if there is one, and gives its loss."""
    net = gpt(VOCABULARY, CONTEXT, layers=LAYERS, heads=HEADS, features=FEATURES, use_bias=False)
    problem = Problem(net, softmax_cross_entropy, adamw(RATE, b2=BETA2, weight_decay=DECAY, mask=weights_only))
    take, states, batches = make_step(problem, team=team), [init_state(problem, Key(0), (CONTEXT,))], texts()
    turns = [0]

    def step() -> float:
        turns[0] += 1
        states[0], metrics = take(states[0], batches[turns[0] % BATCHES])
        return metrics.loss

    return step


def operations() -> int:
    """Floating-point operations of a step's products, three for each of forward's."""
    net = gpt(VOCABULARY, CONTEXT, layers=LAYERS, heads=HEADS, features=FEATURES, use_bias=False)
    return 2 * 3 * BATCH * net.config.macs((CONTEXT,))


def compare_step(torch: Any, rounds: int, team: Team | None) -> dict[str, Any]:
    """The row of the whole step."""
    others = measure.Others()
    calls: Calls = {"funcnn, threads": funcnn_step(), "gemm": measure.gemm()}
    if team:
        calls["funcnn, workers"] = funcnn_step(team)
    calls |= {f"gelu {form}": torch_step(torch, form) for form in ("tanh", "none")}
    result = measure.compare(measure.interleaved(calls, rounds, turn=0.25), operations())
    return result | {"part": "whole step", "cores_taken_by_others": others.cores()}


# --- Parts ------------------------------------------------------------------------------------------------------


def parts(torch: Any) -> dict[str, tuple[Layer, Any, tuple[int, ...]]]:
    """A layer, PyTorch's, and the shape of a batch."""
    nn, batch = torch.nn, (BATCH, CONTEXT, FEATURES)
    wide = (*batch[:2], 4 * FEATURES)

    def attention(shape: tuple[int, ...], *, causal: bool) -> tuple[Layer, Any, tuple[int, ...]]:
        ours = self_attention(HEADS, causal=causal)
        return ours, torch_attention(torch, shape[-1], HEADS, causal=causal, bias=True), shape

    return {
        "attention 12×64, causal": attention(batch, causal=True),
        "attention 8×256": attention((8, 256, FEATURES), causal=False),
        "attention 1×2048, causal": attention((1, 2048, FEATURES), causal=True),
        "layer norm": (layer_norm(), nn.LayerNorm(FEATURES), batch),
        "dense 128→512": (dense(512, per_position=True), nn.Linear(FEATURES, 512), batch),
        "gelu": (gelu(), nn.GELU(approximate="tanh"), wide),
        "dense 512→128": (dense(FEATURES, per_position=True), nn.Linear(512, FEATURES), wide),
    }


def compare_part(torch: Any, name: str, layer: Layer, module: Any, shape: tuple[int, ...], rounds: int) -> Any:
    """The row of a part: forward in training, and backward."""
    draw = np.random.default_rng(0)
    params, state, out_shape = layer.init(Key(0), shape[1:])
    x, dy = (draw.standard_normal(each, np.float32) for each in (shape, (shape[0], *out_shape)))
    tensor, slopes = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)
    wanted = [*module.parameters(), tensor]

    def ours() -> Any:
        return layer.backward(params, layer.apply(params, state, x, train=True).residuals, dy)

    others = measure.Others()
    calls: Calls = {"funcnn": ours, "gemm": measure.gemm()}
    calls["torch"] = lambda: torch.autograd.grad(module(tensor), wanted, slopes)
    result = measure.compare(measure.interleaved(calls, rounds), 6 * shape[0] * layer.config.macs(shape[1:]))
    return result | {"part": name, "cores_taken_by_others": others.cores()}


# --- Memory -----------------------------------------------------------------------------------------------------


def memory_of(time: int) -> None:
    """Print what attention of one sequence keeps, and the most memory of this process before and after, in MB."""
    layer = self_attention(HEADS, causal=True)
    params, state, _ = layer.init(Key(0), (time, FEATURES))
    x = np.random.default_rng(0).standard_normal((1, time, FEATURES), np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = layer.apply(params, state, x, train=True)
    layer.backward(params, made.residuals, x)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(tree.nbytes(made.residuals) / 2**20, (after - before) / 2**10)


def show_memory() -> None:
    """The table of lengths, each in a process of its own."""
    rows = []
    for time in TIMES:
        told = subprocess.run(
            [sys.executable, __file__, "--memory-of", str(time)], capture_output=True, text=True, check=True
        )
        kept, most = map(float, told.stdout.split())
        weights = HEADS * time * time * 4 / 2**20
        rows.append([str(time), f"{kept:.1f}", f"{most:.1f}", f"{weights:.0f}"])
    measure.print_table(["time", "kept for backward, MB", "taken at most, MB", "all weights would be, MB"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a training step of a small GPT in funcnn and PyTorch.")
    parser.add_argument("--parts", action="store_true", help="also its layers, and attention on other shapes")
    parser.add_argument("--memory", action="store_true", help="only: the memory of attention, by length")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    measure.add_options(parser, rounds=20)
    options = parser.parse_args()
    if options.memory_of:
        memory_of(options.memory_of)
        return
    if options.memory:
        show_memory()
        return
    keep_freed_memory()  # as the scripts in experiments/ do; it serves PyTorch too
    torch = import_torch()
    start_team = Team(options.threads) if options.threads > 1 else nullcontext()
    with start_team as team, measure.using_threads(options.threads, torch):
        results = [compare_step(torch, options.rounds, team)]
        if options.parts:
            compared = partial(compare_part, torch, rounds=options.rounds)
            results += [compared(name, *each) for name, each in parts(torch).items()]
    measure.print_table(["part", *measure.COMPARISON], [[each["part"], *measure.comparison(each)] for each in results])
    environment = measure.environment("torch") | {"threads": options.threads}
    measure.write_json(options.json, {"environment": environment, "results": results})


if __name__ == "__main__":
    main()

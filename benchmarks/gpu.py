"""On a GPU: training steps and predictions of funcnn beside PyTorch eager, and kernels beside the plain forms.

    python benchmarks/gpu.py                                  a few minutes
    python benchmarks/gpu.py --quick --json gpu.json          about one
    python benchmarks/gpu.py --parts steps --nets mlp         a part of it
    python benchmarks/gpu.py --dry                            without a GPU, to see that every line runs: no timings

It needs numpy, cupy, torch, attrs, safetensors and threadpoolctl, and runs from the repository's root without the
package being installed. Both libraries compute on the same GPU, turn by turn: a turn is as many steps as fit into it,
one after the other without waiting, and then waits for the GPU once. The batches lie on the GPU, but for the rows "from
the host". PyTorch runs in its default and its channels-last layout, with fused Adam, and the faster counts; its
convolutions use TF32, which is its default, and in the column "exact" they do not, as funcnn's never do. Memory is
CuPy's pool after some steps, and PyTorch's peak of what it allocated and of what it reserved.
"""

import argparse
import itertools
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import attrs
import gpt_step
import gpu_kernels
import measure
import numpy as np
from gpu_machine import Machine
from nets import CIFAR10_MODEL_2, NETS, Net, as_torch, check_parameters, data, layout

from funcnn import Key
from funcnn.data import Dataset, flip_horizontally, shifted_crop, standardise
from funcnn.device import to_device
from funcnn.losses import softmax_cross_entropy
from funcnn.models import gpt
from funcnn.optimizers import adam, adamw, weights_only
from funcnn.train import Model, Problem, Step, init_state, make_step, predict, train

PARTS = ("steps", "gpt", "predict", "cifar10", "kernels")
TARGETS = {"mlp": 0.7, "gpt": 1.2}  # of PyTorch's time; the others' 1.3
MEMORY_STEPS, WIDE = 8, 256  # steps, after which memory is looked at; examples of a prediction

Calls = dict[str, Callable[[], Any]]


# --- Training steps -------------------------------------------------------------------------------------------


def ours(
    machine: Machine, problem: Problem, in_shape: Any, batches: list[Any], *, from_host: bool
) -> Callable[[], Any]:
    """A call that takes a step of funcnn's, and gives the state after it; nothing waits."""
    step, state = make_step(problem), to_device(init_state(problem, Key(0), in_shape), machine.device)
    batches = batches if from_host else to_device(tuple(batches), machine.device)
    turn = itertools.count()

    def call() -> Any:
        nonlocal state
        state, metrics = step(state, batches[next(turn) % len(batches)])
        return metrics

    return call


def theirs(
    machine: Machine, module: Any, optimizer: Any, batches: list[Any], loss_of: Callable[[Any, Any], Any],
    *, tf32: bool = True, from_host: bool = False,
) -> Callable[[], Any]:  # fmt: skip
    """A call that takes a step of PyTorch's, and gives its loss; nothing waits."""
    torch = machine.torch
    if from_host:
        batches = [tuple(each.pin_memory() if machine.is_real else each for each in batch) for batch in batches]
    else:
        batches = [tuple(each.to(machine.torch_device) for each in batch) for batch in batches]
    turn = itertools.count()

    def call() -> Any:
        torch.backends.cudnn.allow_tf32 = tf32
        x, targets = batches[next(turn) % len(batches)]
        if from_host:
            x, targets = (each.to(machine.torch_device, non_blocking=True) for each in (x, targets))
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(module(x), targets)
        loss.backward()
        optimizer.step()
        return loss

    return call


def step_contestants(machine: Machine, net: Net, batch: int) -> Calls:
    """A step of a net by funcnn, and by PyTorch in all forms."""
    problem = Problem(net.funcnn, softmax_cross_entropy, adam(1e-3), metric=None)
    batches = data(net.in_shape, batch)
    calls: Calls = {
        "funcnn": ours(machine, problem, net.in_shape, batches, from_host=False),
        "funcnn from the host": ours(machine, problem, net.in_shape, batches, from_host=True),
    }
    if machine.torch is None:
        return calls
    torch = machine.torch
    for last in (False, True) if net.has_images else (False,):
        for kind in ("", " exact", " from the host"):
            if kind == " exact" and not net.has_images:
                continue
            module = net.torch(torch).to(machine.torch_device, memory_format=layout(last)).train()
            optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)
            tensors = [(as_torch(x, channels_last=last), as_torch(labels)) for x, labels in batches]
            name = f"{'channels last' if last else 'default'}{kind}"
            calls[name] = theirs(
                machine, module, optimizer, tensors, torch.nn.functional.cross_entropy,
                tf32=kind != " exact", from_host=kind == " from the host",
            )  # fmt: skip
    return calls


def gpt_contestants(machine: Machine) -> Calls:
    """A step of the small GPT of gpt_step.py."""
    net = gpt(
        gpt_step.VOCABULARY, gpt_step.CONTEXT, layers=gpt_step.LAYERS, heads=gpt_step.HEADS,
        features=gpt_step.FEATURES, use_bias=False,
    )  # fmt: skip
    rule = adamw(gpt_step.RATE, b2=gpt_step.BETA2, weight_decay=gpt_step.DECAY, mask=weights_only)
    problem, batches = Problem(net, softmax_cross_entropy, rule, metric=None), gpt_step.texts()
    calls: Calls = {
        "funcnn": ours(machine, problem, (gpt_step.CONTEXT,), batches, from_host=False),
        "funcnn from the host": ours(machine, problem, (gpt_step.CONTEXT,), batches, from_host=True),
    }
    if machine.torch is None:
        return calls
    torch = machine.torch
    for form, from_host in (("none", False), ("tanh", False), ("none", True)):
        module = gpt_step.torch_gpt(torch, form).to(machine.torch_device)
        weights, others = ([p for p in module.parameters() if (p.ndim > 1) == wide] for wide in (True, False))
        groups = [{"params": weights, "weight_decay": gpt_step.DECAY}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=gpt_step.RATE, betas=(0.9, gpt_step.BETA2), fused=True)

        def loss_of(scores: Any, targets: Any) -> Any:
            return torch.nn.functional.cross_entropy(scores.view(-1, gpt_step.VOCABULARY), targets.view(-1))

        tensors = [tuple(map(torch.from_numpy, each)) for each in batches]
        name = f"gelu {form}{' from the host' if from_host else ''}"
        calls[name] = theirs(machine, module, optimizer, tensors, loss_of, from_host=from_host)
    return calls


def memory_of(machine: Machine, make: Callable[[Machine], Calls]) -> dict[str, float]:
    """What the steps of each take on the GPU, in MiB, each alone."""

    def some(call: Callable[[], Any]) -> None:
        for _ in range(MEMORY_STEPS if machine.is_real else 1):
            call()

    memory = {"funcnn_pool": machine.our_memory(lambda: some(make(attrs.evolve(machine, torch=None))["funcnn"]))}
    if machine.torch is not None:
        memory |= machine.torch_memory(lambda: some(next(c for n, c in make(machine).items() if "funcnn" not in n)))
    return memory


def compare(machine: Machine, name: str, calls: Calls, options: argparse.Namespace) -> dict[str, Any]:
    """Samples of each, and the fastest of PyTorch's by kind."""
    samples = machine.interleaved(calls, options.rounds, options.turn)
    median = {each: statistics.median(times) for each, times in samples.items()}

    def best(kind: str) -> tuple[str, float] | None:
        kinds = (" exact", " from the host")
        of_kind = [
            each
            for each in median
            if "funcnn" not in each and (each.endswith(kind) if kind else not each.endswith(kinds))
        ]
        return min(((each, median[each]) for each in of_kind), key=lambda each: each[1], default=None)

    result: dict[str, Any] = {"name": name, "funcnn": median["funcnn"], "samples": samples}
    pairs = {
        "torch": ("funcnn", ""),
        "torch_exact": ("funcnn", " exact"),
        "torch_host": ("funcnn from the host", " from the host"),
    }
    for key, (own, kind) in pairs.items():
        found = best(kind)
        if found is not None and own in samples:
            result |= {key: found[1], f"{key}_form": found[0], f"{key}_ratio": _ratio(samples[own], samples[found[0]])}
    if "funcnn from the host" in median:
        result["funcnn_host"] = median["funcnn from the host"]
    return result


def _ratio(samples: list[float], others: list[float]) -> float:
    """The median of the ratios of each round: a round's samples share the pace that the machine had."""
    return statistics.median(one / other for one, other in zip(samples, others, strict=True))


# --- Parts ----------------------------------------------------------------------------------------------------


def steps(machine: Machine, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The eight rows of training_step.py, and model 2 on CIFAR-10."""
    rows = [(name, NETS[name], batch) for name in NETS for batch in NETS[name].batches]
    rows.append(("cifar10_model_2", CIFAR10_MODEL_2, 200))
    for name, net, batch in rows:
        if options.nets and name not in options.nets:
            continue
        if options.quick and (name, batch) not in (("mlp", 64), ("batch_norm_cnn", 200), ("dropout_cnn", 64)):
            continue
        batch = batch if machine.is_real else 2

        def row(name: str = name, net: Net = net, batch: int = batch) -> dict[str, Any]:
            if machine.torch is not None:
                check_parameters(net)
            memory = memory_of(machine, lambda its: step_contestants(its, net, batch))
            made = compare(machine, f"{name} {batch}", step_contestants(machine, net, batch), options)
            return made | {"target": TARGETS.get(name, 1.3), "memory_mib": memory}

        yield guarded(f"step {name} {batch}", row)


def gpt_steps(machine: Machine, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The GPT of gpt_step.py."""

    def row() -> dict[str, Any]:
        memory = memory_of(machine, gpt_contestants)
        made = compare(machine, "gpt 12", gpt_contestants(machine), options)
        return made | {"target": TARGETS["gpt"], "memory_mib": memory}

    yield guarded("step gpt", row)


def predictions(machine: Machine, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Predictions of 256 examples: there and back from the host, and on the GPU alone."""
    for name, net in NETS.items():
        if (options.nets and name not in options.nets) or (options.quick and name != "dropout_cnn"):
            continue

        def row(name: str = name, net: Net = net) -> dict[str, Any]:
            params, state, _ = net.funcnn.init(Key(0), net.in_shape)
            x = data(net.in_shape, WIDE if machine.is_real else 2)[0][0]
            model = to_device(Model(params, state), machine.device)
            there = to_device(x, machine.device)
            calls: Calls = {
                "funcnn": lambda: net.funcnn.apply(model.params, model.state, there).y,
                "funcnn from the host": lambda: predict(net.funcnn, model, x),
            }
            if machine.torch is not None:
                torch, module = machine.torch, net.torch(machine.torch).to(machine.torch_device).eval()
                tensor = as_torch(x)
                on_gpu = tensor.to(machine.torch_device)

                def inferred(given: Any, *, back: bool) -> Any:
                    with torch.inference_mode():
                        made = module(given.to(machine.torch_device))
                        return made.cpu() if back else made

                calls["default"] = lambda: inferred(on_gpu, back=False)
                calls["default from the host"] = lambda: inferred(tensor, back=True)
            return compare(machine, f"predict {name} {WIDE}", calls, options) | {"target": 1.3}

        yield guarded(f"predict {name}", row)


def cifar10(machine: Machine, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Whole trainings of CIFAR-10's model 2, augmentations and batches from bytes on the host included.

    The images are noise of CIFAR-10's size and number: the time does not depend on what they show.
    """

    many, batch = (5000 if options.quick else 45_000, 200) if machine.is_real else (12, 2)

    def rate(device: str, steps: int) -> float:
        """Images a second over some steps, after the first five, which compile kernels."""
        draw = np.random.default_rng(0)
        images, labels = draw.integers(0, 256, (many, 32, 32, 3), np.uint8), draw.integers(0, 10, many)
        prepare = standardise(images[:1000])
        made = Dataset.from_arrays(images, labels, classes=range(10), validation=None, test=None, preprocess=prepare)
        augment = (flip_horizontally, partial(shifted_crop, pad=4))
        rule = adamw(2e-3, weight_decay=0.05)
        problem = Problem(CIFAR10_MODEL_2.funcnn, softmax_cross_entropy, rule, augment=augment)
        state = to_device(init_state(problem, Key(0), (32, 32, 3)), device)
        events = (each for each in train(problem, state, made, epochs=2, batch_size=batch) if isinstance(each, Step))
        for _ in itertools.islice(events, 5):
            pass
        machine.wait()
        begun = time.perf_counter()
        for _ in itertools.islice(events, steps):
            pass
        machine.wait()
        return steps * batch / (time.perf_counter() - begun)

    def row() -> dict[str, Any]:
        rates = {
            device: rate(device, min(steps, many // batch)) for device, steps in ((machine.device, 225), ("cpu", 15))
        }
        times = rates[machine.device] / rates["cpu"]
        return {"name": "cifar10 model 2, images a second", "images_per_second": rates, "times_the_cpu": times}

    yield guarded("cifar10", row)


def guarded(name: str, row: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A row, or what went wrong with it: the others go on."""
    try:
        made = row()
    except Exception as error:
        traceback.print_exc()
        made = {"name": name, "error": f"{type(error).__name__}: {error}"}
    print(f"measured {name}", file=sys.stderr, flush=True)
    return made


# --- What is printed ------------------------------------------------------------------------------------------

HEADER = [
    "", "funcnn ms", "PyTorch ms", "its form", "ratio", "target", "exact ms", "ratio", "from the host", "its", "ratio",
    "funcnn MiB", "PyTorch MiB (reserved)",
]  # fmt: skip


def cells(result: dict[str, Any]) -> list[str]:
    """A result of `compare` as a row."""

    def ms(key: str) -> str:
        return f"{1e3 * result[key]:.3f}" if key in result else ""

    def ratio(key: str) -> str:
        return f"{result[key]:.2f}" if key in result else ""

    memory = result.get("memory_mib", {})
    torchs = f"{memory['torch_allocated']:.0f} ({memory['torch_reserved']:.0f})" if "torch_allocated" in memory else ""
    return [
        result["name"], ms("funcnn"), ms("torch"), result.get("torch_form", ""), ratio("torch_ratio"),
        f"{result['target']}", ms("torch_exact"), ratio("torch_exact_ratio"), ms("funcnn_host"), ms("torch_host"),
        ratio("torch_host_ratio"), f"{memory['funcnn_pool']:.0f}" if memory else "", torchs,
    ]  # fmt: skip


def show(results: list[dict[str, Any]]) -> None:
    """The tables."""
    compared = [each for each in results if "funcnn" in each]
    if compared:
        measure.print_table(HEADER, map(cells, compared))
    for each in results:
        if "images_per_second" in each:
            rates = ", ".join(f"{rate:,.0f} on {device}" for device, rate in each["images_per_second"].items())
            print(f"{each['name']}: {rates} ({each['times_the_cpu']:.1f} times as many)")
        if "error" in each:
            print(f"{each['name']}: FAILED: {each['error']}")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    add("--nets", nargs="+", choices=[*NETS, "cifar10_model_2"], help="of steps and predict (default: all)")
    add("--rounds", type=int, default=9, help="samples of each (default %(default)s)")
    add("--turn", type=float, default=0.08, help="seconds of a sample (default %(default)s)")
    add("--quick", action="store_true", help="three nets, fewer and shorter samples: about a minute")
    add("--dry", action="store_true", help="tests/standin in CuPy's place, PyTorch on the CPU: to try this script out")
    add("--json", type=Path, help="also write the results here, with their samples; after each row anew")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.turn = 5, 0.05
    if options.dry:
        options.rounds, options.turn = 1, 0.0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    machine = Machine.dry() if options.dry else Machine.real()
    facts = machine.facts()
    print("\n".join(f"{key}: {value}" for key, value in facts.items()), flush=True)
    if options.dry:
        print("DRY: nothing below is a measurement of a GPU")
    results: dict[str, list[dict[str, Any]]] = {}
    of_part = {
        "steps": steps, "gpt": gpt_steps, "predict": predictions, "cifar10": cifar10, "kernels": gpu_kernels.kernels,
    }  # fmt: skip
    for part in options.parts:
        print(f"\n--- {part}\n", flush=True)
        rows = results.setdefault(part, [])
        try:
            for row in of_part[part](machine, options):
                rows.append(row)
                measure.write_json(options.json, {"environment": facts, "results": results})
        except KeyboardInterrupt:
            sys.exit("ended before its time")
        finally:  # also where a time limit ends it
            (gpu_kernels.show if part == "kernels" else show)(rows)
    failed = [each["name"] for some in results.values() for each in some if "error" in each]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

"""Optimizers, averages, schedules and rates that follow a metric against ``torch.optim``, in float64.

    python benchmarks/torch_values/optimizers.py

Each optimizer goes 20 steps by the same gradients, of a matrix and a vector; the difference is the largest between the
params of any step. Muon's is that of a step to the one in bfloat16 which PyTorch takes: it is no rounding error.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from funcnn.optimizers import (
    Optimizer,
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    add_decayed_weights,
    averaged,
    chain,
    clip_by_value,
    lbfgs,
    momentum,
    muon,
    nadam,
    plateau,
    radam,
    rmsprop,
    sgd,
)
from funcnn.schedules import (
    cosine,
    cosine_restarts,
    cyclic,
    exponential_decay,
    inverse_time_decay,
    join_schedules,
    linear,
    one_cycle,
    polynomial,
)
from funcnn.team.step import Metrics

STEPS = 20
SHAPES = ((4, 3), (5,))

# Ours, PyTorch's constructor and its options.
OPTIMIZERS: dict[str, tuple[Optimizer, Any, dict[str, Any]]] = {
    "sgd": (sgd(0.1), torch.optim.SGD, {"lr": 0.1}),
    "sgd, L2": (chain(add_decayed_weights(0.1), sgd(0.1)), torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.1}),
    "momentum": (momentum(0.1), torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "nesterov": (momentum(0.1, nesterov=True), torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "rmsprop": (rmsprop(0.1), torch.optim.RMSprop, {"lr": 0.1}),
    "adagrad": (adagrad(0.1), torch.optim.Adagrad, {"lr": 0.1}),
    "adagrad, initial, decay": (
        adagrad(inverse_time_decay(0.1, 0.2), initial=0.5), torch.optim.Adagrad,
        {"lr": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.5},
    ),
    "adadelta": (adadelta(), torch.optim.Adadelta, {}),
    "adadelta, options": (adadelta(0.5, 0.8, 1e-3), torch.optim.Adadelta, {"lr": 0.5, "rho": 0.8, "eps": 1e-3}),
    "adam": (adam(0.1), torch.optim.Adam, {"lr": 0.1}),
    "adam, amsgrad": (
        adam(0.1, 0.8, 0.9, amsgrad=True), torch.optim.Adam, {"lr": 0.1, "betas": (0.8, 0.9), "amsgrad": True}
    ),
    "adamw": (adamw(0.1), torch.optim.AdamW, {"lr": 0.1}),
    "adamw, amsgrad": (
        adamw(0.1, amsgrad=True, weight_decay=0.2), torch.optim.AdamW,
        {"lr": 0.1, "weight_decay": 0.2, "amsgrad": True},
    ),
    "adamax": (adamax(0.1), torch.optim.Adamax, {"lr": 0.1}),
    "nadam": (nadam(0.1), torch.optim.NAdam, {"lr": 0.1}),
    "nadam, options": (
        nadam(0.1, 0.8, 0.9, momentum_decay=0.1), torch.optim.NAdam,
        {"lr": 0.1, "betas": (0.8, 0.9), "momentum_decay": 0.1},
    ),
    "radam": (radam(0.1), torch.optim.RAdam, {"lr": 0.1}),
    "radam, rectified late": (radam(0.1, 0.9, 0.9), torch.optim.RAdam, {"lr": 0.1, "betas": (0.9, 0.9)}),
    "adafactor": (adafactor(0.1), torch.optim.Adafactor, {"lr": 0.1}),
    "adafactor, options": (
        adafactor(0.5, 0.5, epsilon=1e-3, least_scale=0.1, clip=1.5, weight_decay=0.1), torch.optim.Adafactor,
        {"lr": 0.5, "beta2_decay": -0.5, "eps": (1e-3, 0.1), "d": 1.5, "weight_decay": 0.1},
    ),
}  # fmt: skip


def draws() -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """The params, and the gradients of each step, each at a scale of its own."""
    rng = np.random.default_rng(0)
    params = [rng.normal(size=shape) for shape in SHAPES]
    return params, [[10.0 ** (i - 1) * rng.normal(size=shape) for i, shape in enumerate(SHAPES)] for _ in range(STEPS)]


def differences(
    ours: Optimizer,
    make: Callable[..., Any],
    options: dict[str, Any],
    *,
    prepare: Callable[[Any], Any] = lambda theirs: None,
) -> float:
    """The largest difference between the params of any step; `prepare` is called before each of PyTorch's."""
    start, gradients = draws()
    theirs = [torch.nn.Parameter(torch.tensor(each)) for each in start]
    optimizer = make(theirs, **options)
    params: Any = tuple(start)
    opt_state, largest = ours.init(params), 0.0
    for step, grads in enumerate(gradients):
        params, opt_state = ours.update(tuple(grads), opt_state, params, step)
        for parameter, grad in zip(theirs, grads, strict=True):
            parameter.grad = torch.tensor(grad)
        prepare(theirs)
        optimizer.step()
        for mine, other in zip(params, theirs, strict=True):
            largest = max(largest, float(np.abs(mine - other.detach().numpy()).max()))
    return largest


def averages() -> Iterator[tuple[str, float]]:
    """`averaged` against ``AveragedModel``."""
    swa = torch.optim.swa_utils
    kinds = {"ema": (0.9, swa.get_ema_multi_avg_fn(0.9)), "swa": (None, swa.get_swa_multi_avg_fn())}
    for name, (decay, average) in kinds.items():
        start, gradients = draws()
        net = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(each)) for each in start])
        model = swa.AveragedModel(net, multi_avg_fn=average)
        optimizer, ours = torch.optim.SGD(net.parameters(), lr=0.1), averaged(sgd(0.1), decay)
        params: Any = tuple(start)
        opt_state, largest = ours.init(params), 0.0
        for step, grads in enumerate(gradients):
            params, opt_state = ours.update(tuple(grads), opt_state, params, step)
            for parameter, grad in zip(net, grads, strict=True):
                parameter.grad = torch.tensor(grad)
            optimizer.step()
            model.update_parameters(net)
            for mine, other in zip(ours.evaluated(params, opt_state), model.module, strict=True):
                largest = max(largest, float(np.abs(mine - other.detach().numpy()).max()))
        yield name, largest


def schedules() -> Iterator[tuple[str, float]]:
    """Our schedules' values over 60 steps."""
    of = torch.optim.lr_scheduler
    kinds: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "exponential_decay": (exponential_decay(0.1, 0.9), lambda o: of.ExponentialLR(o, 0.9)),
        "exponential_decay, staircase": (
            exponential_decay(0.1, 0.5, every=7, staircase=True), lambda o: of.StepLR(o, 7, 0.5)
        ),
        "linear": (linear(0.02, 0.1, 13), lambda o: of.LinearLR(o, 0.2, 1.0, 13)),
        "polynomial": (polynomial(0.1, 40, 2.0), lambda o: of.PolynomialLR(o, 40, 2.0)),
        "cosine": (cosine(0.1, 60, end=0.01), lambda o: of.CosineAnnealingLR(o, 60, 0.01)),
        "cosine_restarts": (cosine_restarts(0.1, 7, end=0.01), lambda o: of.CosineAnnealingWarmRestarts(o, 7, 1, 0.01)),
        "cosine_restarts, growing": (cosine_restarts(0.1, 5, 2), lambda o: of.CosineAnnealingWarmRestarts(o, 5, 2)),
        "cyclic": (cyclic(0.1, 0.5, 7, 4), lambda o: of.CyclicLR(o, 0.1, 0.5, 7, 4, cycle_momentum=False)),
        "cyclic, halved": (
            cyclic(0.1, 0.5, 6, factor=0.5),
            lambda o: of.CyclicLR(o, 0.1, 0.5, 6, mode="triangular2", cycle_momentum=False),
        ),
        "one_cycle": (one_cycle(0.5, 60), lambda o: of.OneCycleLR(o, 0.5, 60, cycle_momentum=False)),
        "one_cycle, options": (
            one_cycle(0.5, 60, rise=0.45, start_factor=0.1, end_factor=0.01),
            lambda o: of.OneCycleLR(
                o, 0.5, 60, pct_start=0.45, div_factor=10, final_div_factor=100, cycle_momentum=False
            ),
        ),
        "join_schedules": (
            join_schedules([linear(0.01, 0.1, 10), exponential_decay(0.1, 0.9)], [10]),
            lambda o: of.SequentialLR(o, [of.LinearLR(o, 0.1, 1.0, 10), of.ExponentialLR(o, 0.9)], [10]),
        ),
    }  # fmt: skip
    for name, (ours, make) in kinds.items():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        scheduler, largest = make(optimizer), 0.0
        for step in range(60):
            largest = max(largest, abs(ours(step) - optimizer.param_groups[0]["lr"]))
            optimizer.step()
            if step < 59:
                scheduler.step()
        yield name, largest


def plateaus() -> Iterator[tuple[str, float]]:
    """`plateau` against ``ReduceLROnPlateau`` over 80 epochs of a metric that wanders."""
    values = np.random.default_rng(3).normal(size=80).cumsum() * 0.1 + 3
    for options in (
        {},
        {"patience": 2, "cooldown": 3, "threshold": 0.01},
        {"mode": "max", "patience": 1, "factor": 0.5},
    ):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **{"factor": 0.1, **options}, eps=0)
        ours = plateau(sgd(0.1), **options)  # type: ignore[arg-type]
        opt_state, largest = ours.init(()), 0.0
        for value in values:
            scheduler.step(value)
            opt_state = ours.observe(opt_state, Metrics(float(value), None))
            largest = max(largest, abs(ours.learning_rate(0, opt_state) - optimizer.param_groups[0]["lr"]))
        yield f"plateau {options or ''}".strip(), largest


def compare() -> dict[str, float]:
    """The largest differences by name.

    Clipping by the norm is not among them: PyTorch's adds 1e-6 to the norm.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # in which NAdam keeps its product of momenta, and SWA its count
    try:
        return dict(_all())
    finally:
        torch.set_default_dtype(before)


def _all() -> Iterator[tuple[str, float]]:
    for name, kind in OPTIMIZERS.items():
        yield name, differences(*kind)
    clipped = chain(clip_by_value(0.3), sgd(0.1))
    clip = partial(torch.nn.utils.clip_grad_value_, clip_value=0.3)
    yield "clip_by_value", differences(clipped, torch.optim.SGD, {"lr": 0.1}, prepare=clip)
    yield from averages()
    yield from schedules()
    yield from plateaus()


def muon_step() -> float:
    """The largest difference of a step of Muon, relative to its largest number: PyTorch computes in bfloat16."""
    start, gradients = draws()
    matrix, gradient = start[0], gradients[0][0]
    theirs = torch.nn.Parameter(torch.tensor(matrix))
    optimizer = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    theirs.grad = torch.tensor(gradient)
    optimizer.step()
    ours = muon(0.1, mask=None)
    params, _ = ours.update((gradient,), ours.init((matrix,)), (matrix,), 0)
    moved = theirs.detach().numpy() - matrix
    return float(np.abs(params[0] - matrix - moved).max() / np.abs(moved).max())


def lbfgs_minimum() -> tuple[float, float, int, int]:
    """Rosenbrock's function of ten numbers: the values after 60 iterations, ours and PyTorch's, and evaluations."""

    def rosenbrock(x: Any) -> Any:
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    calls = [0, 0]

    def loss(params: Any) -> tuple[float, Any]:
        calls[0] += 1
        x = torch.tensor(params[0], requires_grad=True)
        value = rosenbrock(x)
        value.backward()
        return value.item(), (x.grad.numpy(),)

    start, ours = np.full(10, -1.0), lbfgs()
    params: Any = (start,)
    opt_state = ours.init(params)
    for step in range(60):
        value, grads = loss(params)
        params, opt_state = ours.update(grads, opt_state, params, step, value=value, loss=loss)
    calls[0] -= 60  # those for the params that a step begins with, which the search before has made
    x = torch.nn.Parameter(torch.tensor(start))
    theirs = torch.optim.LBFGS(
        [x], max_iter=60, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=0, tolerance_change=0
    )

    def closure() -> Any:
        calls[1] += 1
        theirs.zero_grad()
        value = rosenbrock(x)
        value.backward()
        return value

    theirs.step(closure)
    return loss(params)[0], float(rosenbrock(x.detach())), calls[0], calls[1]


if __name__ == "__main__":
    for name, difference in compare().items():
        print(f"{name:45} {difference:.1e}")
    print(f"{'muon, a step in bfloat16':45} {muon_step():.1e}")
    print(
        "lbfgs, 60 iterations, Rosenbrock: ours {:.1e}, PyTorch {:.1e}; {} and {} evaluations".format(*lbfgs_minimum())
    )

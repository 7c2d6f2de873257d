"""Schedules: functions of the step, counted from 0, that return a learning rate.

An optimizer takes one wherever it takes a learning rate: ``adam(exponential_decay(1e-3, 0.95, every=500))``.

Any function of the step is a schedule, ``sgd(lambda step: 0.1 / (1 + step))``. A frozen value that prints, compares,
pickles and describes itself, as the schedules here do, is a class of settings with a call:

>>> from funcnn.settings import Described, check_not_negative, config, number
>>> @config
... class Root(Described):
...     name = "root"
...     start: float = number(check_not_negative)
...
...     def __call__(self, step: int) -> float:
...         return self.start / (1 + step) ** 0.5
>>> rate = Root(0.1)
>>> rate, rate(3)
(root(start=0.1), 0.05)
"""

from funcnn.schedules.cycles import cosine, cosine_restarts, cyclic, one_cycle, warmup_cosine
from funcnn.schedules.decays import (
    exponential_decay,
    inverse_time_decay,
    linear,
    piecewise_constant,
    polynomial,
)
from funcnn.schedules.schedule import Rate, Schedule, constant, join_schedules, scaled, value_at, warmup

__all__ = [
    "Rate", "Schedule", "constant", "cosine", "cosine_restarts", "cyclic", "exponential_decay", "inverse_time_decay",
    "join_schedules", "linear", "one_cycle", "piecewise_constant", "polynomial", "scaled", "value_at", "warmup",
    "warmup_cosine",
]  # fmt: skip

"""What the scripts in ``experiments/`` share: their options, a whole run or sweep, and what it leaves."""

from funcnn.experiment.options import Options, parse_options
from funcnn.experiment.run import load_data, run, run_script, steps_per_epoch
from funcnn.experiment.run_sweep import SweepOptions, parse_sweep_options, run_sweep
from funcnn.experiment.sweep_data import sweep_data

__all__ = [
    "Options", "SweepOptions", "load_data", "parse_options", "parse_sweep_options", "run", "run_script", "run_sweep",
    "steps_per_epoch", "sweep_data",
]  # fmt: skip

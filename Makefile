# `make demo` and `make test` need nothing but Python 3.11.4 or newer: they set up .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
QUICK ?=

.PHONY: demo test lint bench fuzz clean

demo: $(VENV)/installed
	$(BIN)/python experiments/digits_cnn.py $(if $(QUICK),--quick)

test: $(VENV)/installed lint
	$(BIN)/python -m pytest -q --cov --cov-report=term --cov-fail-under=95

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The peer that the benchmarks compare with is installed by hand: .venv/bin/pip install torch==2.13.0
bench: $(VENV)/installed
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/layers.py
	$(BIN)/python benchmarks/memory.py --torch
	$(BIN)/python benchmarks/startup.py --torch
	$(BIN)/python benchmarks/originals.py
	$(BIN)/python benchmarks/algorithms.py
	$(BIN)/python benchmarks/elementwise.py
	$(BIN)/python benchmarks/calls.py
	$(BIN)/python benchmarks/sweeps.py

# Seeded wild input of every kind; CASES=1000000 for a long run.
CASES ?= 100000
fuzz: $(VENV)/installed
	$(BIN)/python tests/fuzz --cases $(CASES)

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[all,dev]"
	touch $@

clean:
	rm -rf $(VENV) build runs .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info

# These need nothing but Python 3.11.4 or newer: they set up .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
QUICK ?=

.PHONY: demo test test-lowest test-pythons test-sdist lint bench fuzz docs dist release clean

demo: $(VENV)/installed
	$(BIN)/funcnn demo $(if $(QUICK),--quick)

test: $(VENV)/installed lint
	$(BIN)/python -m pytest -q -n 2 --dist worksteal --cov --cov-report=term --cov-fail-under=95

# uv makes each of these environments in build/. What an old version of another package warns of is not for us to mend.
UV := $(BIN)/uv
OLD := -W default::DeprecationWarning -W default::PendingDeprecationWarning
ARGS ?= -q

# With the lowest version of everything that pyproject.toml names; ARGS="tests/sweep -x" for a part of the tests.
test-lowest: $(VENV)/installed
	$(UV) venv --clear --python $(BIN)/python build/lowest
	$(UV) pip install --quiet --python build/lowest --resolution lowest-direct --editable ".[all,dev]"
	build/lowest/bin/python -m pytest $(OLD) $(ARGS)

# With each of these that is found; PYTHONS="3.12 /path/to/python" for others.
PYTHONS ?= 3.11 3.12 3.13 3.14
test-pythons: $(VENV)/installed
	@tested=; failed=; for each in $(PYTHONS); do \
		if $(UV) venv --quiet --clear --no-python-downloads --python $$each build/python; then \
			build/python/bin/python --version; tested=yes; \
			$(UV) pip install --quiet --python build/python --editable ".[all,dev]" && \
				build/python/bin/python -m pytest $(ARGS) || failed="$$failed $$each"; \
		else echo "Python $$each is not here: not tested"; fi; \
	done; test "$$tested" -a -z "$$failed" || { echo "failed:$${failed:- none was found}"; exit 1; }

# The site, in build/site, from nothing: whatever is wrong with a page is an error.
docs: $(VENV)/installed-docs
	rm -rf build/site docs/reference/api docs/project
	$(BIN)/python -m sphinx -q -E -W --keep-going -j auto -d build/doctrees docs build/site
	@echo "The site is built: open build/site/index.html"

# Builds and checks both distributions and the site; it never uploads.
release: $(VENV)/installed
	$(BIN)/python release.py

dist: $(VENV)/installed
	rm -rf dist
	$(UV) build --quiet

# The tests that come with the source distribution, on what was unpacked.
test-sdist: dist
	rm -rf build/sdist && mkdir -p build/sdist && tar xzf dist/*.tar.gz -C build/sdist --strip-components 1
	$(UV) venv --clear --python $(BIN)/python build/sdist/.venv
	$(UV) pip install --quiet --python build/sdist/.venv --editable "build/sdist[all,dev]"
	cd build/sdist && .venv/bin/python -m pytest $(ARGS)

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

# What the site needs, beside whatever is there.
$(VENV)/installed-docs: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

clean:
	rm -rf docs/reference/api docs/pictures docs/project
	rm -rf $(VENV) build dist runs .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info

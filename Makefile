# Two commands do everything from nothing: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Processes that share the tests, file by file; each takes up to 3 GB.
WORKERS ?= 2
# pip would compile thousands of modules that nobody imports: each is when it first is.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test check lint types warm pytest fuzz ops-table ops-check test-net bench bench-peers clean

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "spuvm needs Python 3.11 or newer; set PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile -c requirements.lock -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/spuvm demo

# Each process of the tests would compile the kernels, and mypy takes but one core.
test: $(STAMP)
	$(MAKE) -j 2 types warm lint
	$(MAKE) pytest

check: lint types

warm: $(STAMP)
	$(BIN)/python -c 'from spuvm.kernels.warm import ensure_compiled; ensure_compiled(ring=128)'

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

pytest: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-net: $(STAMP)
	SPUVM_NET=long $(BIN)/python -m pytest tests/net/test_wan.py

fuzz: $(STAMP) ops-check
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m 'not ray' --timeout=0

ops-table: $(STAMP)
	$(BIN)/python tests/conformance/ops_table.py $(ARGS)

ops-check: $(STAMP)
	$(BIN)/python tests/conformance/ops_table.py --check

bench: $(STAMP)
	$(BIN)/python -m benchmarks.run

bench-peers: $(STAMP)
	$(BIN)/python -m benchmarks.peers

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

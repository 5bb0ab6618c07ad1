# A newcomer needs `make serve` and `make test`; a contributor runs `make quick` before each commit. Each target sets up
# .venv first; a second call installs nothing.
# Another interpreter: make PYTHON=python3.12 serve. Arguments: make serve ARGS="--port 9000"; make test ARGS="-k bundle".
# Tests run in as many processes as there are cores, four at most; ARGS="-n 0" runs them in one, for a debugger.

PYTHON ?= python3
ARGS ?=
# `make quick` fails when it takes longer than this. A slow machine may allow more: make quick QUICK_SECONDS=400.
QUICK_SECONDS ?= 270
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4
INSTALLED := $(VENV)/.installed
# onnxruntime and onnxruntime-gpu hold the same module: exactly one of them is installed.
ACCELERATOR := $(if $(findstring GPU,$(shell nvidia-smi -L 2>/dev/null)),gpu,cpu)

# Without its bytecode beside them, each of the suite's many processes would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install serve test quick unit numerics check lint types format docs

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Set up .venv with everything that serving, training and testing need

serve: $(INSTALLED) ## Serve the bundles in artifacts/ on 127.0.0.1:8000; settings come from RECALL_* and ARGS
	@exec $(BIN)/recall-server serve $(ARGS)

test: check ## Run every check and the whole test suite
	$(PYTEST) $(ARGS)

quick: $(INSTALLED) ## Run every check, and the tests that start no server, browser or other process, in a few minutes
	@began=$$(date +%s); \
	$(MAKE) --no-print-directory lint && $(MAKE) --no-print-directory -j 2 types unit; status=$$?; \
	seconds=$$(($$(date +%s) - began)); echo "make quick took $$seconds s; QUICK_SECONDS allows $(QUICK_SECONDS) s"; \
	test $$status -eq 0 && test $$seconds -le $(QUICK_SECONDS)

unit: $(INSTALLED) ## Run the tests that start no server, browser or other process
	$(PYTEST) -m "not process" $(ARGS)

numerics: $(INSTALLED) ## Run the numerical tests with each instruction set of this processor
	$(BIN)/python -m tests.numerics -n auto --maxprocesses 4 $(ARGS)

check: lint types ## Lint, formatting, import contracts and types

lint: $(INSTALLED) ## Lint, formatting and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(INSTALLED) ## Types
	$(BIN)/mypy

docs: $(INSTALLED) ## Build the documentation from docs/ into build/site, strictly
	$(BIN)/zensical build --strict

format: $(INSTALLED) ## Put every file into the house's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

$(INSTALLED): pyproject.toml clients/python/pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here: install Python 3.11 or newer, or name one with PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(PYTHON) is Python %d.%d: this needs 3.11 or newer; name one with PYTHON=" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[server,trainer,$(ACCELERATOR),dev,docs]' -e clients/python
	@touch $@

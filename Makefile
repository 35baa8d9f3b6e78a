# `make` alone explains the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up

.DEFAULT_GOAL := help
.PHONY: help setup demo up test chaos check lint types format clean

help:  ## Explain the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)$$/  make \1|\2/' | column -t -s '|'

setup: $(STAMP)  ## Make .venv with everything in it (about 6 GB: PyTorch)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)  ## Start a yard, train on handwritten digits, predict, stop
	$(BIN)/trainyard demo

up: $(STAMP)  ## Start queue, worker and API; Ctrl-C stops them
	$(BIN)/trainyard up

test: $(STAMP)  ## Run the tests
	$(BIN)/pytest

chaos: $(STAMP)  ## Run the tests that take minutes and break a yard in many ways
	$(BIN)/pytest -m chaos

check: $(STAMP) lint types test  ## Format check, lint, types and tests: what CI runs

lint: $(STAMP)  ## Check format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)  ## Check types
	$(BIN)/mypy

format: $(STAMP)  ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove .venv and caches; a yard's data stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info

# `make` alone explains the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up

# An index of PyTorch's wheels for CPUs, where the 4 GB of CUDA's libraries are not wanted.
TORCH_FROM := $(if $(PYTORCH_INDEX_URL),--extra-index-url $(PYTORCH_INDEX_URL))

.DEFAULT_GOAL := help
# Tests that run at a time: more than two cores, as many wait for a yard rather than compute.
AT_A_TIME ?= 4
TOGETHER := -n $(AT_A_TIME) --dist loadfile --no-loadscope-reorder
BESIDE_OTHERS := not alone and not chaos and not browser and not documentation
ALONE := alone and not chaos and not browser and not documentation
# To collect all tests for the few that run alone takes longer than some of them.
FILES_ALONE = $$(grep -rl --include='test_*.py' 'pytest\.mark\.alone' tests)
.PHONY: help setup page demo up docs test slow test-all test-browser test-docs web chaos coverage check lint spelling types format openapi client constraints clean

help:  ## Explain the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)$$/  make \1|\2/' | column -t -s '|'

setup: $(STAMP)  ## Make .venv with everything in it (about 6 GB: PyTorch), and build the page
	@$(BIN)/python web/build.py --optional

page:  ## Build the page that the API serves at /: api/page/
	@$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) web/build.py

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt $(TORCH_FROM) --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)  ## Start a yard, train on handwritten digits, predict, stop
	$(BIN)/trainyard demo

up: $(STAMP)  ## Start queue, worker and API; Ctrl-C stops them
	$(BIN)/trainyard up

docs: $(STAMP)  ## Make the documentation's site: build/docs/index.html
	$(BIN)/python -m sphinx -W --keep-going -n -q -j auto -a -E -c docs/site docs build/docs

test: $(STAMP)  ## Run the tests, several at a time, but for those that take long
	$(BIN)/pytest $(TOGETHER) -m '$(BESIDE_OTHERS) and not slow'

slow: $(STAMP) page  ## Run the tests that take long, likewise; then those that need the cores to themselves
	$(BIN)/pytest $(TOGETHER) -m '$(BESIDE_OTHERS) and slow'
	$(BIN)/pytest -m '$(ALONE)' $(FILES_ALONE)

test-all: $(STAMP) page  ## Run what `make test` and `make slow` run, in one go
	$(BIN)/pytest $(TOGETHER) -m '$(BESIDE_OTHERS)'
	$(BIN)/pytest -m '$(ALONE)' $(FILES_ALONE)

test-browser: $(STAMP) page  ## Run the tests of the page, in Chromium on a real yard
	$(BIN)/pytest -n 2 --dist loadfile -m 'browser and not chaos and not documentation' tests/browser

test-docs: $(STAMP) page  ## Run the commands of README and docs on real yards: minutes, and best on an idle machine
	$(BIN)/pytest -n 2 --dist loadfile -m 'documentation and not chaos' tests/documentation

web: page  ## Check the page's format and types, and run the tests of its parts
	$(BIN)/python web/build.py --run npm run --silent lint
	$(BIN)/python web/build.py --run npm run --silent check
	$(BIN)/python web/build.py --run npm test --silent

chaos: $(STAMP)  ## Run the tests that take minutes and break a yard in many ways
	$(BIN)/pytest -m chaos

coverage: $(STAMP)  ## Run what `make test` runs, processes of yards included, and report the lines that none reached
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(TOGETHER) -m '$(BESIDE_OTHERS) and not slow'
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(STAMP)  ## Format check, lint, spelling, types and all tests but chaos and test-docs: what CI runs
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint spelling types web
	@$(MAKE) --no-print-directory test-all test-browser

spelling: $(STAMP)  ## Check spelling
	$(BIN)/codespell

lint: $(STAMP)  ## Check format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)  ## Check types
	$(BIN)/mypy

format: $(STAMP)  ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python web/build.py --run npm run --silent format

openapi: $(STAMP)  ## Write web/openapi.json, which the page's types and the client's models are made from
	$(BIN)/python -m api.openapi_document web/openapi.json
	$(BIN)/python -m generation.client_models

client: $(STAMP)  ## Write the parts of the Python client that follow from others: its models and the client that does not await
	$(BIN)/python -m generation.client_models
	$(BIN)/python -m generation.synchronous_client

constraints: $(STAMP)  ## Choose the newest versions that pyproject.toml allows, for the next `make setup`
	$(BIN)/pip install --dry-run --ignore-installed --quiet --report - '.[dev,wandb]' | $(BIN)/python -c "$$WRITE" > constraints.new
	mv constraints.new constraints.txt

define WRITE
import json, sys
for item in sorted(json.load(sys.stdin)["install"], key=lambda item: item["metadata"]["name"].lower()):
    name, version = item["metadata"]["name"], item["metadata"]["version"].partition("+")[0]
    if name != "trainyard":
        print(f"{name}=={version}")
endef
export WRITE

clean:  ## Remove .venv and caches; a yard's data stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage build *.egg-info api/page web/node_modules web/.node

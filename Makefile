# One command each, on a machine with Python (3.11 or newer, with venv) and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The versions that these targets install; without the file's name, the newest ones.
CONSTRAINTS ?= constraints.txt
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=--constraint %) --editable

.DEFAULT_GOAL := help
.PHONY: help demo test lint types pytest soak bench clean

help:  ## Say what there is.
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

demo: $(VENV)/.demo  ## Start the demo service on 127.0.0.1:8080.
	@exec $(BIN)/hotconf demo

test: lint types pytest  ## Lint, check types, run the tests.

lint: $(VENV)/.dev  ## Lint and check the format.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## Check the types.
	$(BIN)/mypy

pytest: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not soak" -n auto --maxprocesses 4 --dist loadfile

soak: $(VENV)/.dev  ## Run the long tests.
	$(BIN)/python -m pytest -m soak -n auto --maxprocesses 4 --dist load

bench: $(VENV)/.dev $(VENV)/.bench  ## Measure, side by side with the peers.
	$(BIN)/python -m benchmarks

clean:  ## Remove what the targets made.
	rm -rf $(VENV) .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.demo: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	@touch $@

$(VENV)/.dev: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) ".[dev]"
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: $(VENV)/.dev
	$(INSTALL) ".[dev,bench]"
	@touch $@

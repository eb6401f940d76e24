# make demo: install, then the whole flow at a small size.  make test: install, then lint, types and tests.  make docs: docs/ as a site.
# The newest suitable Python is taken; PYTHON=python3.11 chooses another. An existing .venv keeps its own.
ifndef PYTHON
PYTHON := $(shell for name in python3.13 python3.12 python3.11; do $$name -c 'import ensurepip' 2>/dev/null && echo $$name && break; done)
endif
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs

.PHONY: demo test lint format install docs clean

install: $(STAMP)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed, with venv: install it, or name it with PYTHON=..."; exit 2; }
	@echo "using $$($(PYTHON) --version), $$(command -v $(PYTHON))"
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $(STAMP)

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	@touch $(DOCS_STAMP)

demo: install
	$(BIN)/ground demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: lint
	$(BIN)/pytest

docs: $(DOCS_STAMP)
	$(BIN)/python docs/generate_cli.py
	$(BIN)/python docs/generate_tables.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

clean:
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache

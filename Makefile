# The commands of this project. They run in .venv, which the first of them makes; `make help` lists them.

SHELL := bash
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: help run test bench lint viz mlflow clean
.DEFAULT_GOAL := help

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(INSTALLED) ## run the four pipelines on made-up scans
	$(BIN)/kedro run

test: $(INSTALLED) ## run all tests
	$(BIN)/python -m pytest

bench: $(INSTALLED) ## time training steps against their goals; needs an idle machine
	$(BIN)/python -m pytest benchmarks -o pythonpath="tests/networks benchmarks" --benchmark-columns=min,median,rounds

lint: $(INSTALLED) ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

viz: $(INSTALLED) ## show pipelines and results in Kedro-Viz
	$(BIN)/kedro viz run

mlflow: $(INSTALLED) ## show runs in MLflow, at http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db --port 5000

clean: ## remove .venv and caches; data and results stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .viz build src/*.egg-info

# The stamp is written last, so an installation that was cut short is taken up again. pip says nothing while it
# unpacks, so a clock ticks beside it.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or later is needed, $(PYTHON) is not. Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; \
	  exit 1; }
	@echo "Installing this project and its dependencies into .venv: once, some minutes."
	$(PYTHON) -m venv .venv
	@trap 'kill $$clock' EXIT; \
	  { while sleep 8 >/dev/null 2>&1 && kill -0 $$$$ 2>/dev/null; do echo "… installing, $$SECONDS s"; done; } & \
	  clock=$$!; \
	  $(BIN)/python -m pip install -e ".[dev]"
	@touch $@

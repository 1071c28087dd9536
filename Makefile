# `make help` lists the targets. CI runs the same ones.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PINNED := --constraint deploy/constraints.txt
SDK := tests/sdk

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test lint format bench config proto constraints clean system

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.runtime ## the server with its embedded log; with RABBITMQ=amqp://user:password@host/ with that broker
ifdef RABBITMQ
run: export NOTIFIER_LOG__KIND := rabbitmq
run: export NOTIFIER_RABBITMQ__URL := $(RABBITMQ)
endif
run:
	exec $(BIN)/notifier serve --dev $(ARGS)

test: $(VENV)/.dev $(SDK)/node_modules/.stamp system ## all tests; ARGS="tests/unit -k words" for some of them
	$(BIN)/pytest $(ARGS)

lint: $(VENV)/.dev ## style, types and the order of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## put the source into its one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev system ## the load test; ARGS="--help" for what it can do
	$(BIN)/python -m loadtest $(ARGS)

config: $(VENV)/.runtime ## renew config/notifier.toml: every key with its description and default
	$(BIN)/python -c 'from notifier.config import reference; print(reference(), end="")' > config/notifier.toml

proto: $(VENV)/.dev ## renew notifier/protocol/client_pb2.py: the classes of client.proto
	$(BIN)/python -m grpc_tools.protoc --proto_path=. --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
		--python_out=. --mypy_out=. notifier/protocol/client.proto

constraints: ## renew deploy/constraints.txt: the newest versions that pyproject.toml allows
	deploy/constraints.sh

clean: ## remove what the other targets made
	rm -rf $(VENV) $(SDK)/node_modules build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make a second run instant; each stands for one layer of the environment.

$(VENV)/.base: deploy/constraints.txt
	deploy/bootstrap.sh venv
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --quiet $(PINNED) pip
	@touch $@

$(VENV)/.runtime: $(VENV)/.base pyproject.toml
	$(PIP) install --quiet $(PINNED) --build-constraint deploy/constraints.txt --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) install --quiet $(PINNED) --group dev
	@touch $@

system:
	@deploy/bootstrap.sh test

$(SDK)/node_modules/.stamp: $(SDK)/package.json $(SDK)/package-lock.json | system
	@if command -v npm >/dev/null; then \
		echo "npm ci in $(SDK)"; cd $(SDK) && npm ci --ignore-scripts --no-audit --no-fund && touch node_modules/.stamp; \
	else \
		echo "npm is missing: the tests of the JavaScript SDK will be skipped" >&2; \
	fi

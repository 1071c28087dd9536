# `make help` lists the targets. CI runs the same ones.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PINNED := --constraint deploy/constraints.txt
SDK := tests/sdk
DIST := dist
# The time of the commit: who builds it again gets the same bytes. None without git.
EPOCH = $(shell git log -1 --format=%ct 2>/dev/null)
DATED = $(if $(EPOCH),SOURCE_DATE_EPOCH=$(EPOCH))
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' notifier/__init__.py)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-optimized audit fuzz mutants lint format bench bench-core soak docs pictures
.PHONY: config metrics proto constraints dist sbom release-notes clean system

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.runtime ## the server with its embedded log; with RABBITMQ=amqp://user:password@host/ with that broker
ifdef RABBITMQ
run: export NOTIFIER_LOG__KIND := rabbitmq
run: export NOTIFIER_RABBITMQ__URL := $(RABBITMQ)
endif
run:
	exec $(BIN)/notifier serve --dev $(ARGS)

# Most tests wait for other processes, so that more of them than there are cores may run at a time. Those that take
# longest stand first, so the files are given out in their order.
test: $(VENV)/.dev $(SDK)/node_modules/.stamp system ## all tests; ARGS="tests/unit -k words" for some of them
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

# The servers that tests start inherit it. A check that was an assertion is none then (CVE-2025-69227 was one).
test-optimized: export PYTHONOPTIMIZE := 1
test-optimized: $(VENV)/.dev $(SDK)/node_modules/.stamp system ## the tests of the server with python -O
	$(BIN)/pytest --numprocesses 3 --dist loadfile $(or $(ARGS),tests/unit tests/security tests/integration)

audit: $(VENV)/.dev ## look for known weaknesses in what is pinned (asks the package index)
	$(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement deploy/constraints.txt

fuzz: $(VENV)/.dev ## look for input that breaks something; ARGS="TARGET --seconds 600", or --help
	$(BIN)/python -m tests.fuzz $(ARGS)

mutants: $(VENV)/.dev ## whether tests notice small changes to history and recovery; ARGS="--sample 40", or --help
	$(BIN)/python -m tests.mutants $(ARGS)

lint: $(VENV)/.dev ## style, types and the order of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## put the source into its one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev system ## the load test; ARGS="--help" for what it can do
	-@deploy/bootstrap.sh bench
	$(BIN)/python -m loadtest $(ARGS)

bench-core: $(VENV)/.dev ## instructions of the core's hot paths, against the parent commit (needs valgrind)
	$(BIN)/python -m loadtest.instructions $(ARGS)

soak: $(VENV)/.dev system ## faults against real nodes, then the checker; SIZE=ci, long or soak, SEED=n, ARGS="--help"
	$(BIN)/python -m tests.soak --size $(or $(SIZE),ci) --seed $(or $(SEED),1) $(ARGS)

docs: $(VENV)/.dev ## build/docs: the documentation as a site
	$(BIN)/sphinx-build -c docs -b html -n -W --keep-going --quiet . build/docs
	@echo "build/docs/index.html"

pictures: $(VENV)/.dev system ## renew docs/pictures: the console with demo traffic, in Chromium (two minutes)
	$(BIN)/python -m tests.pictures

config: $(VENV)/.runtime ## renew config/notifier.toml and docs/configuration.md: every key, its default and meaning
	$(BIN)/python -c 'from notifier.config import reference; print(reference(), end="")' > config/notifier.toml
	$(BIN)/python -c 'from notifier.operator.reference import reference; print(reference(), end="")' > docs/configuration.md

metrics: $(VENV)/.runtime ## renew docs/metrics.md: every metric with its labels and meaning
	$(BIN)/python -c 'from notifier.telemetry.reference import reference; print(reference(), end="")' > docs/metrics.md

proto: $(VENV)/.dev ## renew notifier/protocol/client_pb2.py: the classes of client.proto
	$(BIN)/python -m grpc_tools.protoc --proto_path=. --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
		--python_out=. --mypy_out=. notifier/protocol/client.proto

constraints: ## renew deploy/constraints.txt: the newest versions that pyproject.toml allows
	deploy/constraints.sh

dist: $(VENV)/.release ## the wheel and the source archive, into dist/
	$(DATED) $(BIN)/hatchling build --directory $(DIST)

# An environment with the wheel and what it needs, and nothing else, is what the list is made of.
sbom: dist ## what a release runs with (deploy/constraints.txt), as a CycloneDX list in dist/
	$(PYTHON) -m venv --clear --without-pip $(DIST)/.sbom
	$(PIP) --python $(DIST)/.sbom/bin/python install --quiet $(PINNED) $(DIST)/notifier-$(VERSION)-py3-none-any.whl
	sed 's/^dynamic = \["version"\]$$/version = "$(VERSION)"/' pyproject.toml > $(DIST)/.sbom/pyproject.toml
	$(DATED) $(BIN)/cyclonedx-py environment --output-reproducible --mc-type application \
		--pyproject $(DIST)/.sbom/pyproject.toml --output-file $(DIST)/notifier-$(VERSION).cdx.json $(DIST)/.sbom
	rm -rf $(DIST)/.sbom

release-notes: ## the section of CHANGELOG.md of TAG=v1.2.3, or what is missing for that release
	@$(PYTHON) deploy/release/notes.py "$(TAG)"

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

$(VENV)/.release: $(VENV)/.base
	$(PIP) install --quiet $(PINNED) --group release
	@touch $@

system:
	@deploy/bootstrap.sh test

$(SDK)/node_modules/.stamp: $(SDK)/package.json $(SDK)/package-lock.json | system
	@if command -v npm >/dev/null; then \
		echo "npm ci in $(SDK)"; cd $(SDK) && npm ci --ignore-scripts --no-audit --no-fund && touch node_modules/.stamp; \
	else \
		echo "npm is missing: the tests of the JavaScript SDK will be skipped" >&2; \
	fi

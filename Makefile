# `make demo` and `make test` do everything on a fresh machine; the others are their parts.
.PHONY: help setup demo test lint fmt bench e2e docs chart golden clean cluster-up cluster-down cluster-shell
.DEFAULT_GOAL := help

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# One more than there are processors, since many tests wait for processes and clocks.
WORKERS := $(shell n=$$(nproc); echo $$((n < 8 ? n + 1 : 8)))
# Two clusters side by side: nearly all of that time is spent waiting for pods, leases and timeouts.
PYTEST_CLUSTER := $(PYTEST) -n 2 --dist loadfile -m "cluster or systemd"

help: ## show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | column -t -s "$$(printf '\t')"

setup: ## make .venv and install everything, system packages included where possible
	@tools/setup.sh

demo: setup ## snapshot this machine twice, prove that nothing drifted; then a fleet of processes, its odd nodes found
	@$(BIN)/python -m tools.demo

test: setup lint ## lint, then every test that can run on this machine
	$(PYTEST) -n $(WORKERS) -m "not cluster and not systemd" $(PYTEST_ARGS)
	$(PYTEST_CLUSTER) $(PYTEST_ARGS)

lint: setup ## ruff, mypy --strict, import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

fmt: setup ## format and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## measure; prints a table, writes build/bench.json
	@$(BIN)/python -m tests.bench

e2e: setup ## only the tests on the real cluster and the real systemd
	$(PYTEST_CLUSTER) $(PYTEST_ARGS)

docs: setup ## regenerate what is generated in docs/
	$(BIN)/python -m tools.reference > docs/cli.md

chart: setup ## write the Helm chart's templates anew from manifests/fleet
	$(BIN)/python -m tools.chart

golden: setup ## rewrite the golden files after a change that is meant
	$(PYTEST) --update-golden tests/hosts tests/agent

cluster-up: setup ## start the real Kubernetes of the tests and leave it running
	$(BIN)/python -m tests.cluster up

cluster-down: setup ## stop it and remove what it left
	$(BIN)/python -m tests.cluster down

cluster-shell: setup ## a shell with kubectl pointed at it
	$(BIN)/python -m tests.cluster shell

clean: ## remove what was built here; caches outside the checkout stay
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

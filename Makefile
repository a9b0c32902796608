# Everything is installed into .venv; nothing else of the machine is touched.
#   make demo     a real pipeline through the market, three times, and its bill
#   make up       Dagster's UI on loopback with the same project
#   make check    format, lint, types, import contracts, fast tests
#   make test     every test that needs no server
#   make test-postgres  the deployments of the tests, and the ledger, on PostgreSQL
#   make test-kubernetes  steps in pods of the cluster that KUBECONFIG names

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo up test test-postgres test-kubernetes check clean \
	bench-step-start bench-select bench-sim bench-workflows bench-scale bench-ledger bench-launch \
	bench-pods bench-channel bench-demand bench-live bench-sharing

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

install: $(STAMP)

# Stale when what is to be installed has changed; the package itself is installed as it stands here.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("Python %d.%d: 3.11, 3.12 or 3.13 is needed; make PYTHON=python3.12 ..." % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/cu-market demo

up: $(STAMP)
	$(BIN)/cu-market up

test: $(STAMP)
	$(BIN)/python -m pytest -q -n $(WORKERS) tests -m "not server and not kubernetes and not by_hand and not alone"
	$(BIN)/python -m pytest -q tests -m alone

# Dagster itself, its deployments in the tests and the ledger on PostgreSQL, by whoever has its
# binaries: each test session starts a server of its own.
test-postgres: $(STAMP)
	$(BIN)/python -m pytest -q -n $(WORKERS) tests/integration tests/contract --storage postgres \
		-m "(postgres or pgbouncer) and not kubernetes and not by_hand and not alone" $(ARGS)

# Steps in pods of the cluster that KUBECONFIG names; tests/servers/kubernetes_cluster.py says what
# else is to be set. One process: the tests share the cluster's room. What says itself who sells
# does not heed --steps, and a lease grows on this machine alone: make test runs those.
test-kubernetes: $(STAMP)
	$(BIN)/python -m pytest -q tests/integration/kubernetes tests/integration/executor \
		--ignore tests/integration/executor/test_executor_accounts.py \
		--ignore tests/integration/executor/test_executor_postgres.py \
		--ignore tests/integration/executor/test_executor_growth.py \
		--ignore tests/integration/executor/test_executor_renting.py \
		--ignore tests/integration/executor/test_executor_terms.py \
		--ignore tests/integration/executor/test_executor_together.py \
		--steps kubernetes $(ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n $(WORKERS) tests/unit tests/property tests/oracle -m "not by_hand"

bench-step-start bench-select bench-sim bench-workflows bench-scale bench-ledger bench-launch bench-pods bench-channel bench-demand \
		bench-live bench-sharing: bench-%: $(STAMP)
	@$(BIN)/python tests/benchmarks/bench_$(subst -,_,$*).py $(ARGS)

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Everything here works in a fresh clone on Debian 12 with python3, its venv module, git and make:
# `scripts/setup` makes .venv first, or says what to install.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
# Extra arguments for the command: make dev ARGS='--port 8080', make test ARGS='-k relay'.
ARGS ?=
# The trigger mode of make demo and make dev: http, db, cloud-tasks.
MODE ?=

.PHONY: help
help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## make .venv and install the locked requirements (the others do this first)
	@scripts/setup

.PHONY: demo
demo: setup ## post examples/stocks.csv, watch its jobs, get report.html; then stop everything (MODE=cloud-tasks)
	@exec $(BIN)/outboxkit demo $(if $(MODE),--mode $(MODE)) $(ARGS)

.PHONY: dev
dev: setup ## run Postgres, web, relay and worker round the sample application until Ctrl-C (MODE=cloud-tasks)
	@exec $(BIN)/outboxkit dev --app outboxkit_reports --branch reports $(if $(MODE),--mode $(MODE)) $(ARGS)

.PHONY: test
test: lint ## lint, then every test
	$(BIN)/python -m pytest -n 2 $(ARGS)

.PHONY: test-contract
test-contract: setup ## the protocol from both sides: worker, relay, web, tables, conformance suite (a part of make test)
	$(BIN)/python -m pytest -n 2 tests/contract $(ARGS)

.PHONY: lint-openapi
lint-openapi: ## redocly over openapi/*.yaml, warnings are errors (needs npm, or brings it)
	@scripts/lint-openapi

.PHONY: lint
lint: setup ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: bench
bench: setup ## measure enqueue, relay and worker against their floors; N=jobs ROUNDS=3 ONLY=scene
	@exec $(BIN)/python -m benchmarks $(if $(N),--jobs $(N)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(if $(ONLY),--only $(ONLY)) $(ARGS)

.PHONY: chaos
chaos: setup ## attack real processes with every fault there is; SEED=7 MINUTES=20
	@cd tests && exec ../$(BIN)/python -m chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

.PHONY: chaos-mutants
chaos-mutants: setup ## take one mechanism after the other out of a copy: make chaos must notice each
	@cd tests && exec ../$(BIN)/python -m chaos.mutants $(ARGS)

.PHONY: model
model: ## have spin search the model of the protocol within large bounds (minutes, gigabytes)
	@docs/model/check.py --long $(ARGS)

.PHONY: docs
docs: setup ## write openapi/web.yaml and docs/environment-variables.md anew from the code
	$(BIN)/python scripts/generate-docs

.PHONY: lock
lock: ## write requirements.txt anew from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo 'make lock needs uv on PATH' >&2; exit 1; }
	uv pip compile pyproject.toml --all-extras --group test --universal --generate-hashes \
	  --python-version 3.11 -o requirements.txt $(ARGS)

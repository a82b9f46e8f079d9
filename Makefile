# The one list of what can be done here; CI and the README call these targets. `make help` prints it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
CLUSTER := $(BIN)/python -m hack.cluster
READY := .venv/.ready
E2E_CLUSTER := e2e
API_CLUSTER := api
RANGE_CLUSTER := range
FAULTS_CLUSTER := faults
AUDIT_LOG := $(CURDIR)/.cluster/$(E2E_CLUSTER)/logs/audit.log

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-down test check lint types arrows unit test-monitoring test-dataplane test-range test-range-part test-api lane-1 lane-2 test-faults test-e2e bench format golden generate release docs image sbom lock cluster cluster-down clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## the Python environment in .venv, as locked

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --no-deps --editable .
	@$(BIN)/python -m compileall -q src
	@touch $@

demo: setup ## a cluster, the operator, a Memcached with 2 pods, a value read back from each
	@$(BIN)/python -m hack.demo

demo-down: cluster-down ## end the demo and its cluster

test: setup ## everything CI runs, in two lanes of about the same length: the second mostly waits for pods
	@$(MAKE) --no-print-directory -j2 --output-sync=target --keep-going lane-1 lane-2

lane-1: PARTS := test-api test-faults
lane-2: PARTS := check unit test-monitoring test-dataplane test-e2e
lane-1 lane-2: # one failure does not keep the rest from being known
	@code=0; for part in $(PARTS); do $(MAKE) --no-print-directory $$part || code=$$?; done; exit $$code

check: lint types arrows ## ruff, mypy, import-linter

lint: setup ## ruff: rules and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: setup ## mypy, strict
	@$(BIN)/mypy

arrows: setup ## who may import whom (docs/architecture.md)
	@$(BIN)/lint-imports --no-cache

unit: setup ## unit tests, on virtual time
	@$(BIN)/pytest tests/unit

test-monitoring: setup ## alerts and dashboards, by promtool
	@$(BIN)/pytest -n 2 tests/monitoring

test-dataplane: setup ## the proxies' configurations against real proxies and memcacheds, on loopback
	@$(BIN)/pytest -n 2 --dist worksteal tests/dataplane

test-api: setup ## tests against a real API server (level 1, no root needed)
	@$(CLUSTER) up --level 1 --name $(API_CLUSTER)
	@code=0; $(CLUSTER) exec --name $(API_CLUSTER) -- $(BIN)/pytest tests/apiserver || code=$$?; \
	  $(CLUSTER) down --name $(API_CLUSTER); exit $$code

test-range: RANGE_TESTS := tests/apiserver
test-range: ## test-api, against the oldest and the newest API server that memop supports
test-range-part: RANGE_TESTS := tests/apiserver/test_crd.py tests/apiserver/test_no_op_writes_nothing.py
test-range-part: ## what of it CI has time for: definitions, their rules, and that nothing is written twice
test-range test-range-part: setup
	@for version in oldest newest; do \
	  $(CLUSTER) up --level 1 --kubernetes $$version --name $(RANGE_CLUSTER); \
	  code=0; $(CLUSTER) exec --name $(RANGE_CLUSTER) -- $(BIN)/pytest $(RANGE_TESTS) || code=$$?; \
	  $(CLUSTER) down --name $(RANGE_CLUSTER); \
	  [ $$code = 0 ] || exit $$code; \
	done

test-faults: setup ## trouble of every kind between memop and a real API server (level 2, no root needed)
	@$(CLUSTER) up --level 2 --name $(FAULTS_CLUSTER)
	@code=0; $(CLUSTER) exec --name $(FAULTS_CLUSTER) -- $(BIN)/pytest -n 2 --dist loadfile --durations=12 tests/faults || code=$$?; \
	  $(CLUSTER) down --name $(FAULTS_CLUSTER); exit $$code

test-e2e: setup ## tests against real pods (root on Linux; they reach pods by address, which kind does not allow)
	@$(CLUSTER) up --level 3 --provider binaries --name $(E2E_CLUSTER) \
	  --apiserver-arg audit-policy-file=$(CURDIR)/tests/e2e/audit-policy.yaml --apiserver-arg audit-log-path=$(AUDIT_LOG)
	@$(BIN)/python -m hack.tools helm prometheus promtool >/dev/null # a node's network leads nowhere
	@$(BIN)/python -m hack.image build --load $(E2E_CLUSTER)
	@code=0; MEMOP_TEST_AUDIT_LOG=$(AUDIT_LOG) $(CLUSTER) exec --name $(E2E_CLUSTER) -- $(BIN)/pytest --durations=25 tests/e2e || code=$$?; \
	  $(CLUSTER) down --name $(E2E_CLUSTER); exit $$code

golden: setup ## rewrite the golden pod templates and docs/fields.md; read the diff: an upgrade that changes a template rolls pods
	MEMOP_REWRITE_GOLDEN=1 $(BIN)/pytest -q tests/unit/reconcilers/memcached/test_golden.py tests/unit/reconcilers/memcached/test_fields.py \
	  tests/unit/reconcilers/cluster tests/unit/test_convert.py

image: setup ## memop's image, by the shipped Dockerfile (root, buildah), and what is in it; PLATFORM=linux/arm64
	@$(BIN)/python -m hack.image build $(if $(PLATFORM),--platform $(PLATFORM))

sbom: setup ## the image's bill of materials, CycloneDX, into dist/
	@mkdir -p dist && $(BIN)/python -m hack.image sbom --output dist/memop.cdx.json

bench: setup ## what an operator costs: time, CPU, memory, requests; N=1000, BENCH_ARGS="--help"
	@$(BIN)/python -m hack.bench --n $(or $(N),1000) $(BENCH_ARGS)

format: setup ## ruff: mend what can be mended
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format

generate: setup ## all that is generated and checked in, but the golden files: manifests/, docs/reference
	@$(BIN)/python -m hack.dashboard
	@$(BIN)/python -m hack.manifests
	@$(BIN)/python -m hack.reference docs/reference

release: setup ## all of a release but publishing it, into dist/ (docs/releasing.md); RELEASE_ARGS=--no-image
	@$(BIN)/python -m hack.release $(RELEASE_ARGS)

docs: setup ## the documentation as a site in site/; broken links are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --no-header \
  --python-version 3.11 --quiet

lock: setup ## requirements.lock and, for the image, requirements-image.lock from pyproject.toml; LOCK_ARGS=--upgrade for newest
	@$(COMPILE) --group dev $(LOCK_ARGS) --output-file requirements.lock
	@$(COMPILE) --constraint requirements.lock --output-file requirements-image.lock
	@echo hatchling | $(BIN)/uv pip compile - --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --python-version 3.11 --quiet --output-file hack/image/build.lock

cluster: setup ## a Kubernetes on this machine; LEVEL=1|2|3, NAME=…
	@$(CLUSTER) up $(if $(LEVEL),--level $(LEVEL)) $(if $(NAME),--name $(NAME))

cluster-down: setup ## end it, leaving nothing behind
	@$(CLUSTER) down $(if $(NAME),--name $(NAME))

clean: ## forget the Python environment and its caches (clusters: make cluster-down)
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

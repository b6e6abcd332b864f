# Everything that a developer runs. Needs Python 3.11+, pip and make; all else is installed into .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
# What the build reads; names with blanks would be two to make.
RUNTIME_SOURCES := $(shell git ls-files runtime/src runtime/*.json runtime/*.mjs demo api/docs-assets 2>/dev/null) hatch_build.py
PROTOS := $(wildcard proto/sanfran_proto/*.proto)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## what there is to run
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.packages: requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "SanFran needs Python 3.11 or newer; make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@# Debian's python3 comes without venv: virtualenv does the same, from PyPI.
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) 2>/dev/null || { \
		rm -rf $(VENV) && $(PYTHON) -m pip install -q --target .bootstrap virtualenv && \
		PYTHONPATH=.bootstrap $(PYTHON) -m virtualenv -q $(VENV) && rm -rf .bootstrap; }
	$(BIN)/python -m pip install -q --require-hashes -r requirements/dev.txt
	@touch $@

$(READY): $(VENV)/.packages pyproject.toml $(RUNTIME_SOURCES)
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(READY) ## install everything into .venv, build the Node runtime

.PHONY: run
run: $(READY) ## the engine on this machine with the demo functions; Ctrl-C stops it
	@exec $(BIN)/sanfran up --data .sanfran --demo

.PHONY: test
test: check ## what CI runs: the checks, then every test
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

.PHONY: check
check: $(READY) ## ruff, mypy strict, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(READY) ## let ruff format and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(READY) ## measure, each figure beside its reference from the same run
	$(BIN)/python -m bench

.PHONY: chaos
chaos: $(READY) ## for two minutes under load, everything that may go wrong; prints what it cost
	@exec $(BIN)/python -m tests.chaos

.PHONY: e2e
e2e: $(READY) ## end-to-end tests on the cluster that KUBECONFIG names (E2E_IMAGE_REGISTRY=, E2E_IMAGE_TAG=, E2E_PULL_POLICY=)
	@SANFRAN_E2E=1 $(BIN)/python -m pytest -q tests/e2e

.PHONY: proto
proto: $(READY) ## generate the Python code of the contracts
	$(BIN)/python proto/generate.py proto/sanfran_proto

.PHONY: docs
docs: $(READY) ## write what follows from the services' settings and the chart's values
	$(BIN)/python docs/generate_settings.py
	$(BIN)/python docs/generate_chart.py

.PHONY: lock
lock: $(READY) ## choose new exact versions for requirements/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python requirements/lock.py

.PHONY: images
images: ## build the container images, with docker, podman or buildah (REGISTRY=, TAG=)
	@images/build.sh

.PHONY: minikube
minikube: ## build the images into minikube and install the chart there
	@{ command -v minikube && command -v helm; } >/dev/null || { echo "make minikube needs minikube and helm; see docs/kubernetes.md" >&2; exit 1; }
	@ENGINE=minikube images/build.sh
	helm upgrade --install sanfran helm-chart/sanfran --set api.publicUrl=http://127.0.0.1:8080 --kube-context "$${MINIKUBE_PROFILE:-minikube}" --wait --timeout 5m

.PHONY: clean
clean: ## remove what was installed and built; functions in .sanfran stay
	rm -rf $(VENV) .bootstrap runtime/node_modules demo/*/node_modules \
		sidecar/sanfran_sidecar/node api/sanfran_api/static

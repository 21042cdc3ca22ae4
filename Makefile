# Thin on purpose: the work is in scripts/. Every target sets up what it needs.
PYTHON ?= python3
VENV := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup test test-long test-containerd lint demo demo-containerd bench bench-quick bench-lazy bench-service stubs docs clean

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## Debian packages (as root), .venv with core, plugins and tools
	@$(PYTHON) scripts/setup.py

test: setup ## all tests but the long ones
	@$(VENV) -m pytest -q -n 2 --dist loadgroup -m "not long and not containerd"

test-long: setup ## the long tests alone, about an hour
	@$(VENV) -m pytest -q -n 2 --dist loadgroup -m long

test-containerd: ## containerd's own tests, and containerd itself, on `snapcore serve` (root)
	@$(PYTHON) scripts/setup.py --containerd
	@$(VENV) -m pytest -q -m containerd tests/containerd

lint: setup ## ruff and mypy
	@$(VENV) -m ruff check .
	@$(VENV) -m ruff format --check --quiet .
	@$(VENV) -m mypy

demo: setup ## a real image through every backend this host can do
	@$(VENV) -m examples.demo

demo-containerd: ## a container on the overlay backend, by a containerd of its own (root)
	@$(PYTHON) scripts/setup.py --containerd
	@$(VENV) -m examples.containerd

bench: ## unpacking beside containerd, umoci, skopeo and tar: three rounds (root)
	@$(PYTHON) scripts/setup.py --bench
	@$(VENV) -m benchmarks.unpack

bench-quick: ## the same with a tenth of the image, as many rounds as two minutes allow
	@$(PYTHON) scripts/setup.py --bench
	@$(VENV) -m benchmarks.unpack --image quick --within 120

bench-lazy: setup ## starting a program of an image behind a slow link (root)
	@$(VENV) -m benchmarks.lazy

bench-service: ## calls to `snapcore serve` beside containerd's own snapshotters (root)
	@$(PYTHON) scripts/setup.py --bench
	@$(VENV) -m benchmarks.service

stubs: ## generate snapcore/service/proto anew
	@$(PYTHON) scripts/stubs.py

docs: setup ## the documents as a site, in build/docs
	@$(VENV) -m sphinx -q -W -E -b html docs build/docs

clean: ## remove .venv, caches and built test images
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

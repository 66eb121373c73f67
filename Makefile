# make demo   the bug and the cure, on an embedded strict registry
# make test   all tests but the slow ones, in less than five minutes; skips what needs root or a missing program, with the reason
# make test-slow  the tests marked `slow`, about ten minutes; CI runs both
# make test-pythons   unit and TLS tests on every other Python that the machine has, and on the image's
# make run    the proxy with config/default.yaml; CONFIG=... takes another file
# make lint   style, types, import contracts
# make bench  scope-proxy, nginx and docker-registry against one origin: table, JSON, plot; BENCH_ARGS=--quick is short
# make fuzz   ten minutes of generated input for each parser; FUZZ_SECONDS=... for another time
# make soak   two workers under a mixed load with faults and reloads for two hours, which must stay flat; SECONDS=... for another time
# make baseline  REV=... in a virtual environment of its own in dist/, which `make bench BENCH_ARGS="--baseline ..."` compares with
# make image  the container image with buildah, and its archive in dist/; IMAGE_ARGS="--build-arg BASE=..." for another base
# make sbom   what is in the image, as CycloneDX, in dist/
# make reference   the settings in docs/configuration.md and the chart's README, schema and icon, from the models and values.yaml
# make tools  what tests use and no package manager has: Helm, the OCI conformance suite, the base of the image test
.PHONY: demo test test-slow test-pythons run lint bench soak fuzz baseline image sbom reference tools format lock clean

SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= config/default.yaml
PYTEST_ARGS ?=
BENCH_ARGS ?=
SECONDS ?= 7200
FUZZ_SECONDS ?= 600
SOAK_ARGS ?=
REV ?= HEAD
IMAGE_ARGS ?=
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# The tools that build our wheel are in the same lock and in no image.
BUILD_TOOLS = editables hatchling packaging pathspec pluggy trove-classifiers
IMAGE = localhost/scope-proxy:$(VERSION)

demo: $(VENV)/.installed
	$(BIN)/scope-proxy demo

run: $(VENV)/.installed
	$(BIN)/scope-proxy serve --config "$(CONFIG)"

# Each test is in exactly one of these two selections: tests/tools/test_selections.py collects both.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow -n auto --dist loadfile $(PYTEST_ARGS)

test-pythons: $(VENV)/.installed-dev
	tests/pythons.sh $(BIN)/python

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev
	PYTHONPATH=. $(BIN)/python -m benchmarks --output dist/benchmarks $(BENCH_ARGS)

fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 0 -s --timeout 0 tests/fuzz --fuzz-seconds "$(FUZZ_SECONDS)" $(PYTEST_ARGS)

soak: $(VENV)/.installed-dev
	PYTHONPATH=. $(BIN)/python -m benchmarks.soak --seconds "$(SECONDS)" --output dist/soak $(SOAK_ARGS)

baseline: | $(VENV)/bin/python
	@benchmarks/baseline.sh $(BIN)/python "$(REV)" dist/baselines

# The archive is what `ctr images import` reads, and k3s from its images directory.
image:
	buildah bud --format docker $(IMAGE_ARGS) --build-arg VERSION=$(VERSION) --tag $(IMAGE) \
		--build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(git show --no-patch --format=%cI HEAD) .
	@mkdir -p dist && rm -f dist/scope-proxy-$(VERSION).tar
	buildah push $(IMAGE) docker-archive:dist/scope-proxy-$(VERSION).tar:$(IMAGE)

# What the image is made of is installed as the image does it, and looked at.
sbom: $(VENV)/.installed-dev
	rm -rf dist/sbom && $(PYTHON) -m venv --without-pip dist/sbom
	$(BIN)/python -m pip --python dist/sbom/bin/python install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip --python dist/sbom/bin/python install --quiet --disable-pip-version-check --no-deps --no-build-isolation .
	$(BIN)/python -m pip --python dist/sbom/bin/python uninstall --quiet --disable-pip-version-check --yes $(BUILD_TOOLS)
	$(BIN)/cyclonedx-py environment dist/sbom/bin/python --pyproject pyproject.toml --output-reproducible --output-format JSON \
		--output-file dist/scope-proxy-$(VERSION).cdx.json
	rm -rf dist/sbom

reference: $(VENV)/.installed-dev
	PYTHONPATH=. $(BIN)/python -m scripts.reference

tools: $(VENV)/.installed-dev
	$(BIN)/python -m tests.tools.build

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "scope-proxy needs Python 3.11 or newer: apt-get install python3 python3-venv"; exit 1; }
	@# Debian keeps venv in a package of its own; root can install it here, other users get the command.
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq python3-venv; } \
		|| { echo "python3-venv is missing: sudo apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# Locks hold hashes and no address: `--universal` makes one file good for every Python and platform.
lock: $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --upgrade pyproject.toml --all-extras --group build -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --upgrade pyproject.toml --all-extras --group build --group dev -c requirements.lock -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --upgrade pyproject.toml --all-extras --group build --group test -c requirements-dev.lock -o requirements-test.lock

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

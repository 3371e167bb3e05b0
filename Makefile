# Needs Python 3.11 or newer and nothing else; every target makes what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## Make .venv with everything: service, training, tests

CHECK_PYTHON := @$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("residual needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; name another one: make setup PYTHON=python3.12")'

$(READY): pyproject.toml requirements/dev.txt requirements/uv.txt
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps --editable .
	@touch $@

demo: setup  ## Fit a model, serve it, score a normal and an anomalous digit
	@$(BIN)/python deploy/demo.py

test: setup  ## Run the tests on all cores, e.g. make test ARGS="-m 'not docker'"
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup  ## Check formatting, lint rules and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The tools of one target, in an environment of its own: .venv-docs from requirements/docs.txt.
.venv-%/.ready: requirements/%.txt
	$(CHECK_PYTHON)
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

docs: .venv-docs/.ready  ## Build the documentation in build/site; a broken link or anchor is an error
	.venv-docs/bin/sphinx-build -b html -c docs -d build/doctrees -E -q -W --keep-going . build/site

LOCKS := $(wildcard requirements/*.txt)

audit: .venv-audit/.ready  ## Look up known vulnerabilities of what the locks pin, e.g. make audit LOCKS=requirements/service.txt
	@for lock in $(LOCKS); do \
		echo "$$lock"; \
		.venv-audit/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r $$lock || failed=1; \
	done; test -z "$$failed"

sbom: .venv-audit/.ready  ## Write build/sbom/*.json: what each image installs, in CycloneDX
	@mkdir -p build/sbom
	for image in service service-arrow training; do \
		.venv-audit/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --validate \
			--output-file build/sbom/$$image.json requirements/$$image.txt || exit; \
	done

fit: setup  ## Fit a model, e.g. make fit DATA=my.csv NAME=pumps ARGS="--label-column fault"
	@$(BIN)/python -m training.fit --data $(or $(DATA),digits) --name $(or $(NAME),digits) $(ARGS)

serve: setup  ## Serve the models in models/ on http://127.0.0.1:8000
	@$(BIN)/gunicorn -c deploy/gunicorn.conf.py

image:  ## Build the Docker images
	docker build --target service --tag residual-service .
	docker build --target service-arrow --tag residual-service-arrow .
	docker build --target training --tag residual-training .

LOCKED := $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-annotate --no-header
LOCK   := $(LOCKED) --universal

lock: setup  ## Bring the locks up to date, e.g. make lock ARGS=--upgrade
	$(LOCK) $(ARGS) --extra service pyproject.toml -o requirements/service.txt
	$(LOCK) $(ARGS) --extra service --extra arrow --constraint requirements/service.txt pyproject.toml -o requirements/service-arrow.txt
	$(LOCK) $(ARGS) --extra training pyproject.toml -o requirements/training.txt
	$(LOCK) $(ARGS) --extra service --extra training --extra client --group dev pyproject.toml -o requirements/dev.txt
	echo uv | $(LOCK) $(ARGS) - -o requirements/uv.txt
	$(LOCK) --python-version 3.11 $(ARGS) requirements/clients.in -o requirements/clients.txt
	$(LOCKED) --no-deps --python-version 3.11 --python-platform x86_64-manylinux_2_28 $(ARGS) requirements/perf-analyzer.in -o requirements/perf-analyzer.txt
	$(LOCK) --python-version 3.11 $(ARGS) requirements/openapi-generator.in -o requirements/openapi-generator.txt
	for group in docs audit; do $(LOCK) --fork-strategy fewest $(ARGS) --group $$group -o requirements/$$group.txt || exit; done
	for list in requirements/bench-*.in; do $(LOCKED) --python-version 3.11 $(ARGS) $$list -o $${list%.in}.txt || exit; done

clean:  ## Remove the environments and what tests and builds left
	rm -rf $(VENV) .venv-docs .venv-audit .pytest_cache .hypothesis .ruff_cache .mypy_cache build dist
	find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help setup demo test lint docs audit sbom fit serve image lock clean

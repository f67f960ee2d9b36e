# Everything that people and CI do here. All of it runs in .venv, which `make setup` fills from pinned, hashed packages.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint bench build deploy clean

BIN := .venv/bin
READY := .venv/ready
BUILT := .aws-sam/build/template.yaml
# The folders too: their time tells of a file that was removed.
BUILT_FROM = template.yaml $(shell find functions layers pipelines -name __pycache__ -prune -o -print)
CHECKOV := build/checkov/bin/checkov
REGIONS := us-east-1 us-west-2 eu-west-1 eu-central-1 ap-northeast-1 ap-southeast-1 cn-north-1 cn-northwest-1
TYPED := layers/baton/baton functions local/baton_local cli/baton_cli pipelines/steps/baton_steps tools
# python3.13 and so on may be there by name only (pyenv's shims are), so each is asked for its version.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	"$$name" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& { echo "$$name"; break; }; done)
RUNTIME = $$($(BIN)/python -c 'import sys; print("python%d.%d" % sys.version_info[:2])')

help: ## Say what there is
	@echo "make <target>:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 12

setup: $(READY) ## Make .venv with everything, and the baton command in it

$(READY): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Baton needs Python 3.11, 3.12 or 3.13 with its venv module; set PYTHON to one."; exit 1; }
	@echo "Installing into .venv: this takes a few minutes, once."
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	@# setuptools warns of every editable installation, and has no other way to say that it went well.
	@PYTHONWARNINGS="ignore:Editable installation" $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-build-isolation --no-deps --editable .
	@test -x $(BIN)/baton || { echo "The baton command did not get installed."; exit 1; }
	@touch $@

demo: setup ## Run the whole story on this machine, from upload to clean-up
	$(BIN)/baton local run

# Many processes run the same code, so it is compiled once whatever the environment says.
test: export PYTHONDONTWRITEBYTECODE :=
test: setup ## Run every test
	$(BIN)/python -m pytest -n 4 --dist loadgroup --no-loadscope-reorder $(PYTEST_ARGS)

lint: setup tools/lint/node_modules $(CHECKOV) ## Check style, types, template, state machines, event patterns
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/python tools/lint/asl.py
	$(BIN)/python tools/lint/iam.py
	$(BIN)/python tools/lint/sizes.py
	$(BIN)/python -m pytest tests/contract/test_event_rules.py
	$(BIN)/cfn-lint --template template.yaml --regions $(REGIONS)
	AWS_DEFAULT_REGION=us-east-1 SAM_CLI_TELEMETRY=0 $(BIN)/sam validate --lint --template template.yaml
	$(CHECKOV) --file template.yaml --framework cloudformation --compact --quiet --skip-download

# Checkov pins what .venv has in other versions, so it has an environment of its own.
$(CHECKOV): requirements/checkov.txt | $(READY)
	$(BIN)/python -m venv build/checkov
	build/checkov/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/checkov.txt
	@touch $@

tools/lint/node_modules: tools/lint/package-lock.json
	@if command -v npm >/dev/null; then npm ci --prefix tools/lint --silent && touch $@; fi

bench: setup ## Measure what is fast on purpose
	@for benchmark in benchmarks/bench_*.py; do PYTHONPATH=layers/baton $(BIN)/python "$$benchmark"; done

build: $(BUILT) ## Build the deployment with SAM, where something has changed

$(BUILT): $(READY) $(BUILT_FROM)
	@rm -f $@
	@PATH="$$PWD/$(BIN):$$PATH" SAM_CLI_TELEMETRY=0 $(BIN)/sam build --parameter-overrides "Runtime=$(RUNTIME)"
	@$(BIN)/python -m tools.built_runtime write "$(RUNTIME)"

deploy: build ## Deploy to your account on AWS (CONFIG=default, prod or cn)
	@$(BIN)/python -m tools.built_runtime check $(or $(CONFIG),default)
	SAM_CLI_TELEMETRY=0 $(BIN)/sam deploy --config-env $(or $(CONFIG),default)

clean: ## Remove what was built, but not .venv and .cache (data, functions)
	rm -rf .aws-sam .baton build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis tools/lint/node_modules
	find . -path ./.venv -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

# Everything a fresh clone needs; `make` alone lists it.
PYTHON ?= python3
BIN := .venv/bin
OUT := egress-out
SECONDS ?= 60
SEED ?= 1
DEMO := tests/data/demo
PYTEST := $(BIN)/pytest
FAST := not slow and not corpus and not service and not bench

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install demo broker test fast check bench chaos fuzz docs services clean

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: .venv/installed ## make .venv with the project, all extras and the development tools in it

# The stamp is newer than what decides what is installed, so a second run does nothing.
.venv/installed: pyproject.toml .ci/venv
	@bash .ci/venv "$(PYTHON)"
	@touch $@

demo: install ## replay a small capture of a real exfiltration and show what is found
	@mkdir -p $(OUT)
	@rm -rf $(OUT)/store $(OUT)/findings.jsonl $(OUT)/flows.parquet
	$(BIN)/egress replay $(DEMO)/*.pcap --config $(DEMO)/egress.toml \
		--store $(OUT)/store --findings $(OUT)/findings.jsonl --flows $(OUT)/flows.parquet
	@echo
	@echo "Look further:"
	@echo "  $(BIN)/egress findings list --store $(OUT)/store"
	@echo "  $(BIN)/egress ledger show --store $(OUT)/store"

broker: install services ## start an Apache Kafka for this desk, until Ctrl-C
	@$(BIN)/python tests/services/broker.py $(OUT)/broker

test: install services check ## everything: static checks and the whole suite
	$(PYTEST) -m "not bench"

fast: install ## the tests that need nothing but Python, in seconds
	POLARS_MAX_THREADS=1 $(PYTEST) -q -n auto -m "$(FAST)" --hypothesis-profile=fast

check: install ## lint, format, types and the map of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install services ## speed against other meters, in one run on this machine
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench
	$(PYTEST) -m bench -s -p no:randomly

chaos: install services ## kill and freeze everything around a stream: SECONDS=1800 for longer, SEED=7 for another one
	EGRESS_CHAOS_SECONDS=$(SECONDS) EGRESS_CHAOS_SEED=$(SEED) $(PYTEST) tests/chaos -s -p no:randomly

fuzz: install ## look for inputs that break a reader: SECONDS=60 for each target
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group fuzz
	$(BIN)/python tests/fuzz/fuzz.py $(SECONDS)

docs: install ## write the generated pages and the picture in docs/
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/picture.py

services:
	@bash .ci/services

clean: ## remove .venv, caches and what the demo left
	rm -rf .venv $(OUT) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

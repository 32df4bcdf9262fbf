# Everything a clone needs: `make demo` to look, `make check` and `make test` to prove, `make kafka` to run for real.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
BENCH_INSTALLED := .venv/.installed-bench
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check
UV := 0.13.9
ATHERIS := 3.0.0
MINUTES := 10
COMPILE := pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock'

.PHONY: help check test faults bench demo kafka kafka-stop format diagrams lock fuzz clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

demo: $(INSTALLED) ## Central, three charge points and two drivers at work, on the embedded trial broker
	@$(BIN)/evcharge demo

check: $(INSTALLED) ## format, lint, types, import rules and unit tests; two minutes on two cores
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q --numprocesses 4 tests/unit

test: $(INSTALLED) check ## all tests, against a real Apache Kafka
	$(BIN)/pytest -q --numprocesses 2 tests/e2e tests/faults

faults: $(INSTALLED) ## break real networks and compare the books; RUNS=20, SEED=, BREAKS=kill-central,…
	$(BIN)/python tests/faults/run.py --runs $(or $(RUNS),20) $(if $(SEED),--seed $(SEED)) $(if $(BREAKS),--breaks $(BREAKS))

bench: $(BENCH_INSTALLED) ## measure evcharge beside what limits it; QUICK=1, ONLY=readings,latency
	@PYTHONPATH=bench:scripts:tests/e2e $(BIN)/python bench/main.py $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

kafka: $(INSTALLED) ## a single-node Apache Kafka on localhost:9092
	@$(BIN)/python scripts/kafka_broker.py start

kafka-stop: $(INSTALLED) ## stop it
	@$(BIN)/python scripts/kafka_broker.py stop

format: $(INSTALLED) ## format and sort, in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

diagrams: $(INSTALLED) ## draw docs/states.md anew from the transition tables
	$(BIN)/python scripts/draw_states.py

lock: ## pin what pyproject.toml asks for, with hashes, for all platforms; what is pinned stays as it is
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(PYTHON) -m venv "$$folder" \
	&& "$$folder/bin/pip" install --quiet --disable-pip-version-check uv==$(UV) \
	&& "$$folder/bin/uv" $(COMPILE) --extra dev -o requirements.lock pyproject.toml \
	&& "$$folder/bin/uv" $(COMPILE) --constraint requirements.lock -o requirements-runtime.lock pyproject.toml \
	&& "$$folder/bin/uv" $(COMPILE) --constraint requirements.lock --extra bench -o requirements-bench.lock pyproject.toml

fuzz: ## feed the decoder and the line parser with whatever breaks them, for MINUTES (10) each
	test -x .fuzz/venv/bin/python || $(PYTHON) -m venv .fuzz/venv
	.fuzz/venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-runtime.lock
	.fuzz/venv/bin/pip install --quiet --disable-pip-version-check atheris==$(ATHERIS)
	for target in messages lines; do PYTHONPATH=src .fuzz/venv/bin/python fuzz/fuzz_$$target.py .fuzz/$$target \
	  -max_total_time=$$(($(MINUTES) * 60)) -artifact_prefix=.fuzz/$$target- -verbosity=0 -print_final_stats=1 || exit 1; done

clean: ## remove what the other targets have made
	rm -rf .venv .kafka .fuzz .bench .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(INSTALLED): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "evcharge needs Python 3.11 or newer; \
	set PYTHON=/path/to/it, this one is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) --require-hashes -r requirements.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(BENCH_INSTALLED): $(INSTALLED) requirements-bench.lock
	$(PIP_INSTALL) --require-hashes -r requirements-bench.lock
	@touch $@

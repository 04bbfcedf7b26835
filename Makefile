# Ringledger in one command each. Needs Python 3.11 or newer; everything else is installed into .venv.

PYTHON ?= python3
PY := .venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run demo test reliability bench check nightly

run: .venv/installed
	@$(PY) -m config.serve

demo: .venv/installed
	@$(PY) -m config.serve --demo

test: .venv/installed-dev
	$(PY) -m pytest -q -n 2 --ignore=tests/reliability
	$(PY) -m pytest -q -n 2 --database=postgresql tests/calls tests/webhooks tests/api
	$(PY) -m pytest -q tests/reliability

# What `make test` does for seconds, for minutes: every process killed 20 times, databases away for 30 seconds.
reliability: .venv/installed-dev
	RELIABILITY=long $(PY) -m pytest -v tests/reliability

# The property tests with many more cases.
nightly: .venv/installed-dev
	HYPOTHESIS_PROFILE=nightly $(PY) -m pytest -q -n 2 tests/calls tests/webhooks tests/api
	HYPOTHESIS_PROFILE=nightly $(PY) -m pytest -q -n 2 --database=postgresql tests/calls tests/webhooks tests/api

bench: .venv/installed-bench
	@$(PY) -m bench

# What has to be clean before the tests: format, lint, types, layers, migrations, deployment settings, API schema.
PRODUCTION := PUBLIC_URL=https://calls.example.com ALLOWED_HOSTS=calls.example.com DATA_DIR=/tmp/ringledger-check
check: .venv/installed-dev
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PY) manage.py makemigrations --check --dry-run
	env $(PRODUCTION) $(PY) manage.py check --deploy --fail-level WARNING
	$(PY) manage.py spectacular --validate --fail-on-warn --file /dev/null

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing what Ringledger needs into .venv (once; one or two minutes) ..."
	@test -x $(PY) || $(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "Python's venv module is needed (Debian: apt-get install python3-venv)." >&2; exit 1; }
	@$(PY) -m pip install --quiet --require-hashes -r requirements.txt
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	@echo "Installing what the tests need into .venv (once; one or two minutes) ..."
	@$(PY) -m pip install --quiet --require-hashes -r requirements-dev.txt
	@touch $@

.venv/installed-bench: .venv/installed-dev requirements-bench.txt
	@echo "Installing what the benchmarks compare with into .venv (once) ..."
	@$(PY) -m pip install --quiet --require-hashes -r requirements-bench.txt
	@touch $@

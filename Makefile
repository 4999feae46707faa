# The two commands: make lab, make test. Both install what is missing first.
PODWAY := .venv/bin/podway
PYTHON := .venv/bin/python
# -m, not .venv/bin/NAME: a script's first line can't hold a long path
.PHONY: help setup setup-test lab test test-guest soak docs bench lint shell clean lock

help:
	@echo "make lab    one host, host-gw, VXLAN and BGP side by side on this machine, every pair reached"
	@echo "make test   all tests, lint, types, import contracts"
	@echo "make test-guest   what needs IPIP, WireGuard, SCTP or netem, in a guest with Debian's kernel"
	@echo "make soak   the thousands of cases"
	@echo "make bench  Podway beside what you would pick instead"
	@echo "make docs   what docs/transports.md shows of labs, anew"
	@echo "make shell  a shell with podway on PATH"
	@echo "make lint / make clean / make lock"

setup:
	@scripts/setup

setup-test:
	@scripts/setup test

lab: setup
	@$(PODWAY) lab demo

lint: setup
	@$(PYTHON) -m ruff check --no-cache src tests bench
	@$(PYTHON) -m ruff format --no-cache --check -q src tests bench
	@$(PYTHON) -m mypy
	@.venv/bin/lint-imports --no-cache

test: setup-test lint
	@$(PYTHON) scripts/leftovers $(PYTHON) -m pytest -m "not soak and not guest" -rfEs

test-guest: setup-test
	@$(PYTHON) scripts/guest -m "guest and not soak" -rfEs tests/guest

soak: setup-test
	@$(PYTHON) -m pytest -m "soak and not guest"
	@$(PYTHON) scripts/guest -m "guest and soak" tests/guest

docs: setup-test
	@$(PYTHON) tests/lab/transports_page.py

bench: setup-test
	@$(PYTHON) -m bench

shell: setup
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $${SHELL:-/bin/sh}

lock:
	@uv pip compile --generate-hashes --no-header --no-emit-index-url --extra dev -o requirements.lock pyproject.toml requirements-build.in

clean:
	@rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis src/podway.egg-info src/podway/cni/shim/podway-cni
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# superezio: what a developer types. `make help` lists it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The lock files carry hashes for every wheel; pip checks them.
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
# What is built is built with the tools of requirements-build.lock, installed before.
LOCKED := --require-hashes --no-build-isolation --use-pep517
WHEEL_VENV := build/wheel-venv
PREFIX := /opt/superezio
DESTDIR :=
override DESTDIR := $(abspath $(DESTDIR))
# The version of systemd to install for, where it is not this machine's.
SYSTEMD :=
# What superezio is measured beside is no dependency of it, and stays out of .venv.
BENCH_VENV := .venv-bench
BENCH_PIP  := $(BENCH_VENV)/bin/python -m pip --disable-pip-version-check --quiet
# Nor is what it is fuzzed with, nor what looks its dependencies up.
FUZZ_VENV := .venv-fuzz
FUZZ_PIP  := $(FUZZ_VENV)/bin/python -m pip --disable-pip-version-check --quiet
AUDIT_VENV := .venv-audit
# What the tests that compute printed, while others ran beside them.
COMPUTED := build/computed.txt
# A source is compiled once, not by each of the thousands of processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup dev demo docs test waiting computing lint unit system debian13 soak outage exhaustion faults kill-points wheel-test coverage bench bench-placement bench-resilience bench-short lock install uninstall clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(VENV)/.runtime: requirements.lock requirements-build.lock pyproject.toml
	@echo "setting up $(VENV) (the first time takes a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r requirements-build.lock
	@$(PIP) install $(LOCKED) -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q $(VENV)/lib daemon ctl || true
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	@$(PIP) install $(LOCKED) -r requirements-dev.lock
	@touch $@

setup: $(VENV)/.runtime ## install the daemon and superezioctl into .venv

dev: $(VENV)/.dev ## install what the tests need, too

demo: $(VENV)/.runtime ## the main job on simulated GPUs, on one screen
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh docs/demo.sh

docs: $(VENV)/.runtime ## write the generated pages, manual pages and the journal's catalog anew from the sources
	mkdir -p build
	$(BIN)/python -m supereziod.config.example >build/superezio.toml
	$(BIN)/python -m supereziod.config.json_schema >build/superezio.schema.json
	$(BIN)/python -m supereziod.rpc.reference docs/rpc-examples.json >build/rpc.md
	$(BIN)/python -m supereziod.rpc.metrics_page >build/metrics.md
	$(BIN)/python -m supereziod.catalog.page >build/superezio.catalog
	mkdir -p build/man
	$(BIN)/python -m superezioctl.manual >build/man/superezioctl.1
	$(BIN)/python -m supereziod.manual >build/man/supereziod.8
	$(BIN)/python -m supereziod.config.manual >build/man/superezio.toml.5
	$(BIN)/python -m supereziod.rpc.manual docs/rpc-examples.json >build/man/superezio-rpc.7
	mv build/man/* packaging/man/
	mv build/superezio.toml build/superezio.schema.json build/rpc.md build/metrics.md docs/
	mv build/superezio.catalog systemd/

lint: $(VENV)/.dev ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Daemons and machines mostly wait, unit tests and the soak mostly compute: they run beside each
# other, and what computes gives way, so that what is timed has a processor. It is printed at the
# end, as it would be lost among the rest; a failure of either is one of all, and both are printed.
test: lint ## everything this machine can run; says what it could not and why
	@mkdir -p build
	rm -f .coverage .coverage.* $(COMPUTED)
	@$(MAKE) --no-print-directory -j2 waiting computing; status=$$?; \
	  if [ -e $(COMPUTED) ]; then cat $(COMPUTED); fi; exit $$status
	@$(MAKE) --no-print-directory coverage bench-short

# Whatever is not in `computing`: a new folder of tests is here by itself. What calls make in a
# test gets none of the flags of this one.
waiting: $(VENV)/.dev
	env -u MAKEFLAGS -u MFLAGS $(BIN)/coverage run -m pytest --ignore=tests/unit --ignore=tests/soak
	@$(MAKE) --no-print-directory wheel-test
	@echo "what computes ends by itself, and is printed then: tail -f $(COMPUTED)"

# The soak without coverage, which would take as long again.
computing: $(VENV)/.dev $(FUZZ_VENV)/.ready
	@{ nice -n 5 $(BIN)/coverage run -m pytest tests/unit && nice -n 5 $(BIN)/pytest tests/soak && \
	  nice -n 5 $(MAKE) --no-print-directory fuzz-short; } \
	  >$(COMPUTED) 2>&1 </dev/null

coverage:
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=90

unit: $(VENV)/.dev ## the quick tests
	$(BIN)/pytest tests/unit

system: $(VENV)/.dev ## the tests in a booted systemd (root)
	$(BIN)/pytest tests/system

# A minute and 310 MB, once. The tests wait for one that is being made, and are told why there is
# none; what was begun is no tree.
debian13: ## as root: a Debian 13 in build/, whose systemd 257 tests/system tries, too
	@mkdir -p build
	@flock build/debian13.lock sh tests/system/debian13.sh build/trixie build/debian13.why

faults: $(VENV)/.dev ## as root: every fault, on each systemd, in one table (make debian13 for the other)
	$(BIN)/pytest tests/system/faults

soak: $(VENV)/.dev ## a simulated month of leases, in minutes (DAYS=, SEED=, HARDSHIP=)
	cd tests && PYTHONHASHSEED=0 ../$(BIN)/python -m soak \
	  $(if $(DAYS),--days $(DAYS)) $(if $(SEED),--seed $(SEED)) $(if $(HARDSHIP),--hardship $(HARDSHIP))

outage: $(VENV)/.dev ## a service is down for a minute, and 50 processes share a breaker (SECONDS=)
	cd tests && ../$(BIN)/python -m outage $(if $(SECONDS),--seconds $(SECONDS))

exhaustion: $(VENV)/.dev ## as root: one user takes all of each kind, another is served (SECONDS=)
	cd tests && ../$(BIN)/python -m exhaustion $(if $(SECONDS),--seconds $(SECONDS))

kill-points: $(VENV)/.dev ## kill -9 at every system call of acquire, attach and release
	SUPEREZIO_KILL_POINTS=all $(BIN)/pytest -s tests/integration/test_kill_points.py

# The tree itself has been tested; that it was packed as it is, and that what depends on where a
# thing is installed works from there, is all that a wheel can add.
wheel-test: $(VENV)/.dev
	rm -rf build/wheel $(WHEEL_VENV)
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements-build.lock
	$(WHEEL_VENV)/bin/python -m pip --disable-pip-version-check --quiet install $(LOCKED) -r requirements-dev.lock
	$(WHEEL_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --no-deps build/wheel/superezio-*.whl
	SUPEREZIO_TEST_INSTALLED=1 $(WHEEL_VENV)/bin/pytest tests/integration -m "installed and not slow"

bench: $(VENV)/.dev ## measure the budgets (SHORT=1: a quick look)
	cd tests && ../$(BIN)/python -m bench $(if $(SHORT),--short)

bench-placement: $(VENV)/.dev ## our placement beside first-fit, most-free and round-robin, on one trace
	@cd tests && ../$(BIN)/python -m bench.placement

$(BENCH_VENV)/.ready: tests/bench/requirements-resilience.txt requirements.lock requirements-build.lock pyproject.toml
	@echo "setting up $(BENCH_VENV)"
	@test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	@$(BENCH_PIP) install --require-hashes -r requirements-build.lock
	@$(BENCH_PIP) install $(LOCKED) -r requirements.lock -r tests/bench/requirements-resilience.txt
	@$(BENCH_PIP) install --no-deps --no-build-isolation -e .
	@touch $@

bench-resilience: $(BENCH_VENV)/.ready ## our breaker, rate limiter and cache beside others (SHORT=1: a quick look)
	@cd tests && ../$(BENCH_VENV)/bin/python -m bench.resilience $(if $(SHORT),--short)

bench-short: $(VENV)/.dev $(BENCH_VENV)/.ready
	@cd tests && ../$(BIN)/python -m bench --short
	@cd tests && ../$(BENCH_VENV)/bin/python -m bench.resilience --short

# Fuzzing has packages for some versions of Python alone; with others it says that it is skipped.
$(FUZZ_VENV)/.ready: tests/fuzz/requirements.txt requirements.lock requirements-build.lock pyproject.toml
	@echo "setting up $(FUZZ_VENV)"
	@test -x $(FUZZ_VENV)/bin/python || $(PYTHON) -m venv $(FUZZ_VENV)
	@$(FUZZ_PIP) install --require-hashes -r requirements-build.lock
	@$(FUZZ_PIP) install $(LOCKED) -r requirements.lock
	@$(FUZZ_PIP) install --no-deps --no-build-isolation -e .
	@if $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; then \
	  $(FUZZ_PIP) install --require-hashes --only-binary :all: -r tests/fuzz/requirements.txt; fi
	@touch $@

fuzz: $(FUZZ_VENV)/.ready ## an hour of inputs that no client would send, guided by coverage (MINUTES=)
	@cd tests && nice -n 5 ../$(FUZZ_VENV)/bin/python -m fuzz --seconds $$(( $(or $(MINUTES),60) * 60 )) --keep

fuzz-short: $(FUZZ_VENV)/.ready
	@cd tests && ../$(FUZZ_VENV)/bin/python -m fuzz --seconds 60

$(AUDIT_VENV)/.ready: requirements-audit.lock
	@echo "setting up $(AUDIT_VENV)"
	@test -x $(AUDIT_VENV)/bin/python || $(PYTHON) -m venv $(AUDIT_VENV)
	@$(AUDIT_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --only-binary :all: -r requirements-audit.lock
	@touch $@

audit: $(AUDIT_VENV)/.ready ## ask PyPI for known vulnerabilities of all that is pinned
	@PATH="$(CURDIR)/$(AUDIT_VENV)/bin:$$PATH" sh packaging/audit.sh requirements*.lock tests/*/requirements*.txt

lock: ## write the lock files anew from pyproject.toml (needs uv)
	uv pip compile --quiet --no-header --generate-hashes --python-version 3.11 pyproject.toml -o requirements.lock
	uv pip compile --quiet --no-header --generate-hashes --python-version 3.11 --group build -o requirements-build.lock
	uv pip compile --quiet --no-header --generate-hashes --python-version 3.11 --group dev pyproject.toml -o requirements-dev.lock
	uv pip compile --quiet --no-header --generate-hashes --python-version 3.11 -c requirements.lock -c requirements-build.lock \
	  tests/bench/requirements-resilience.in -o tests/bench/requirements-resilience.txt
	uv pip compile --quiet --no-header --generate-hashes --python-version 3.11 \
	  tests/fuzz/requirements.in -o tests/fuzz/requirements.txt
	uv pip compile --quiet --no-header --generate-hashes --python-version 3.11 --group audit -o requirements-audit.lock

# With tools of its own: the Python of .venv may be another one, and its owner another user. With
# DESTDIR a package is filled, and nothing of this system is touched; what is compiled there knows
# the files by the names they will have.
install: TOOLS := build/install/tools/bin/python -m pip --disable-pip-version-check --quiet
install: ## as root: the daemon, its commands and units, for systemd; again: an upgrade (PREFIX=, DESTDIR=)
	rm -rf build/install
	$(PYTHON) -m venv build/install/tools
	$(TOOLS) install --require-hashes -r requirements-build.lock
	$(TOOLS) wheel $(LOCKED) --wheel-dir build/install -r requirements.lock
	$(TOOLS) wheel --no-deps --no-build-isolation --wheel-dir build/install .
	umask 022 && $(PYTHON) -m venv --clear $(DESTDIR)$(PREFIX)
	$(DESTDIR)$(PREFIX)/bin/python -m pip --disable-pip-version-check --quiet install --no-index --find-links build/install superezio
ifneq ($(DESTDIR),)
	find $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/pyvenv.cfg -type f -exec sed -i 's|$(DESTDIR)$(PREFIX)|$(PREFIX)|g' {} +
	$(DESTDIR)$(PREFIX)/bin/python -m compileall -q -f -s $(DESTDIR) -p / $(DESTDIR)$(PREFIX)/lib
endif
	chmod -R go+rX $(DESTDIR)$(PREFIX)
	rm -rf build/install
	umask 022 && DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) SYSTEMD=$(SYSTEMD) sh packaging/files.sh lay-down
ifeq ($(DESTDIR),)
	umask 022 && PREFIX=$(PREFIX) sh packaging/files.sh settle
endif

uninstall: ## as root: all that make install has put there; what the daemon has stored stays
	sh packaging/files.sh stop
	PREFIX=$(PREFIX) sh packaging/files.sh remove
	rm -rf $(PREFIX)
	journalctl --update-catalog
	systemctl daemon-reload

clean: ## remove what was built
	rm -rf build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache

# The verbs of this project. Each does all its own set-up; see README.md.
PYTHON ?= python3
BIN := .venv/bin
# Programs that the tests run beside us are taken from there, once they are unpacked.
export PATH := $(CURDIR)/build/debian/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install run test test-deep test-redis test-containers chaos alarms rehearsal check format documents release-documents bench lock \
	audit sbom programs clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

install: .venv/installed ## make .venv/ with the locked dependencies and the partyline command

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "partyline needs Python 3.11 or newer (make PYTHON=python3.12)")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: install ## start the receiver (without a partyline.toml: try it out)
	@if [ -f partyline.toml ] || [ -n "$$PARTYLINE_CONFIG" ]; then exec $(BIN)/partyline serve; else exec $(BIN)/partyline try; fi

test: install ## run the whole test suite against a real Redis it starts itself
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-deep: install programs ## thousands of random histories, a thousand new groups under zombies, consumers killed, a million callbacks
	PARTYLINE_HYPOTHESIS=deep PARTYLINE_HISTORIES=5000 PARTYLINE_FIRST_GROUPS=1000 $(BIN)/python -m pytest -q --timeout=3600 \
		tests/test_history.py tests/test_ledger.py tests/test_merging.py tests/test_first_callbacks.py
	NPM_VALIDATORS=1 $(BIN)/python -m pytest -q tests/test_async_api.py tests/test_examples.py tests/test_documents.py
	NPM_VALIDATORS=1 REAL_PROGRAMS=1 $(BIN)/python -m pytest -q tests/test_proxies.py tests/test_containers.py tests/test_alerts.py
	PARTYLINE_KILLS=200 PARTYLINE_KILL_EVENTS=100000 $(BIN)/python -m pytest -q -s --timeout=3600 \
		tests/test_subscribe_kills.py
	$(BIN)/python -m tests.simulation --callbacks 1000000 --seed 7

# What is different from one Redis to the next: rights, what is on disk, what a restart and a failover keep, scripts.
test-redis: install build/redis/unpacked ## the tests that a newer Redis may fail, on Debian's
	PATH="$(CURDIR)/build/redis/bin:$$PATH" $(BIN)/python -m pytest -q -n 2 --dist loadfile $(addprefix tests/test_,acl.py deploy.py \
		doctor.py durability.py failover.py namespace.py retention.py state.py store.py tls.py trim.py)

test-containers: install ## build the image and run compose.yaml with a real docker (it fetches the base images)
	CONTAINER_ENGINE=1 $(BIN)/python -m pytest -q tests/test_container_engine.py

chaos: install ## everything that may go wrong, done to real processes under load: 20 minutes; some of it takes root
	$(BIN)/python -m tests.chaos

rehearsal: install ## deploy/README.md followed to the letter on a fresh Debian with systemd (5 minutes; takes root)
	REHEARSAL=1 $(BIN)/python -m pytest -q -s tests/test_rehearsal.py

alarms: install programs ## every alert raised by its fault, with the rules as they are shipped and a real Prometheus: a quarter of an hour
	$(BIN)/python -m tests.alarms

check: install ## lint, formatting, strict types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## bring the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

documents: install ## write schemas/documents/ anew from the code
	$(BIN)/python -m receiver.documents
	$(BIN)/python -m tests.provider_readings

release-documents: install ## the same, and promise them: from then on nothing in them may be taken away
	$(BIN)/python -m receiver.documents --release

bench: install ## measure against the floor (bare Starlette that only verifies), what growth, replays and subscribers cost
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.growth
	$(BIN)/python -m tests.bench.replaying
	$(BIN)/python -m tests.bench.subscribers

lock: install ## resolve the dependencies anew and write requirements.lock and .ci/audit.lock
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-strip-extras \
		--python-version 3.11 --extra embedded --extra dev --output-file requirements.lock --upgrade pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-strip-extras \
		--python-version 3.11 --output-file .ci/audit.lock --upgrade .ci/audit.in

# An environment of their own, so that what we lock and install for the program and its tests need not hold these tools.
build/audit/installed: .ci/audit.lock
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 --require-hashes -r .ci/audit.lock
	@touch $@

audit: build/audit/installed ## hold every locked package against known vulnerabilities (asks an advisory service)
	$(PYTHON) .ci/audit.py build/audit/bin/pip-audit requirements.lock .ci/audit.lock

sbom: build/audit/installed ## write build/sbom.cdx.json: every locked package with its hashes (CycloneDX)
	build/audit/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-format JSON \
		--output-file build/sbom.cdx.json requirements.lock

programs: build/debian/unpacked build/redis/unpacked ## unpack Debian's nginx, Caddy, Prometheus and Redis for the tests; nothing is installed

build/debian/unpacked: .ci/unpack
	.ci/unpack build/debian nginx caddy prometheus -- usr/sbin/nginx usr/bin/caddy usr/bin/prometheus usr/bin/promtool
	@touch $@

# Not on the PATH of all tests: what comes as a wheel is older, and has to do as well.
build/redis/unpacked: .ci/unpack
	.ci/unpack build/redis redis-server redis-tools libjemalloc2 liblzf1 -- usr/bin/redis-server usr/bin/redis-cli
	@touch $@

clean: ## remove what the verbs made
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

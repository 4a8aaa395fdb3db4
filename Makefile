# Leeward's commands. Each does its own set-up on a bare Debian 12 with Python 3.11, as root.
# Everything that is kept lies in the ignored folders .venv, .cache and .build.

PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin
DEBIAN_PACKAGES := dosfstools fonts-dejavu-core gcc git gpg gpg-agent libc6-dev make mtools python3-venv softhsm2 swtpm

.PHONY: help node-possible demo test unit lint bench lock clean fuzz
.PHONY: bench-bundles bench-delta bench-parity bench-gateway bench-ansible campaign-bundles campaign-gateway soak-gateway
.PHONY: campaign-secure-boot campaign-kernel-pair campaign-families
.DEFAULT_GOAL := help

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@tests/support/require.sh $(DEBIAN_PACKAGES)
	test -x $(RUN)/python || $$(command -v $(PYTHON) || command -v python3) -m venv $(VENV)
	# The lock is whole, so pip needs to resolve nothing; it would stumble over extras of pinned packages.
	$(RUN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Asked before anything is changed.
node-possible:
	@. /etc/os-release && test "$$(id -u) $$ID $$VERSION_ID" = "0 debian 12" || { \
		echo "make demo needs root on Debian 12; this is $$(id -un) on $$PRETTY_NAME. Nothing was changed." >&2; exit 2; }

## make demo   the main job from end to end on a real node without a network
demo: node-possible $(VENV)/.ready
	$(RUN)/python -m tests.e2e.demo

## make test   lint, then every test, the real-node test included
test: lint
	$(RUN)/pytest

## make unit   the quick tests only (no root, no node)
unit: $(VENV)/.ready
	$(RUN)/pytest -m "not node"

## make lint   ruff, mypy, import contracts, ansible-lint
lint: $(VENV)/.ready
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports
	cd playbooks && PATH="$(CURDIR)/$(RUN):$$PATH" ansible-lint --offline --profile production

## make bench  benchmarks; they print ratios
bench: $(VENV)/.ready
	for bench in tests/bench/*_bench.py; do $(RUN)/python -m tests.bench.$$(basename $$bench .py) || exit 1; done

## make bench-bundles, bench-delta, bench-parity, bench-gateway, bench-ansible  one benchmark alone
bench-bundles bench-delta bench-parity bench-gateway bench-ansible: bench-%: $(VENV)/.ready
	$(RUN)/python -m tests.bench.$(patsubst bundles,bundle,$*)_bench

## make campaign-bundles  thousands of seeded faults against verification and import
campaign-bundles: $(VENV)/.ready
	$(RUN)/python -m tests.campaign.bundles

## make campaign-gateway  thousands of requests while gateway and engine are killed and the disk fills up
campaign-gateway: $(VENV)/.ready
	$(RUN)/python -m tests.campaign.gateway

## make soak-gateway  512 streams for ten minutes: flat memory, no record lost or doubled
soak-gateway: $(VENV)/.ready
	$(RUN)/python -m tests.campaign.gateway_soak

## make campaign-secure-boot, campaign-kernel-pair, campaign-families  drivers where only a booted kernel or a strange node shows them
campaign-secure-boot campaign-kernel-pair campaign-families: campaign-%: $(VENV)/.ready
	$(RUN)/python -m tests.campaign.$(subst -,_,$*)

## make fuzz   search for bytes that a reader of media does not survive
fuzz: $(VENV)/.ready
	TMPDIR=/dev/shm $(RUN)/python -m tests.fuzz.search --seconds 300

## make clean  remove what was built here, nodes included
clean:
	-test -x $(RUN)/python && $(RUN)/python -m tests.lab sweep
	rm -rf .build $(VENV)

## make lock   pin the dependency sets again from pyproject.toml
LOCK := $(RUN)/uv pip compile pyproject.toml --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-emit-index-url --no-annotate --no-header -q
lock:
	$(LOCK) --all-extras --group dev -o requirements/dev.txt
	$(LOCK) --extra node -o requirements/node.txt

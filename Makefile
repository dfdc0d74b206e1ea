# make demo      run the quickstart notebook and write it to demo-output/
# make test      what a change must pass, within 8 minutes on two cores once everything is installed
# make test-all  everything: all tests, the demo, every version of IPython, the frameworks, the types of the front end
# make test-latest  make test with the newest release of every package, in an environment of its own
# make fuzz      new examples for the property tests, until one fails or MINUTES (60) are over
# make lock      choose the newest versions that fit together and write them into the lock files
# make matrix    the kernel tests with each pair of IPython and ipykernel in tests/matrix (a part of test-all)
# make frameworks  agent frameworks, LLM clients and MCP, traced in a real kernel (a part of test-all)
# make bench     the budgets, as ratios to the plain OpenTelemetry SDK in one run
# make node      the types in the front end's comments, and a Node program that sends spans (a part of test-all; needs npm)
# make release-check  build sdist and wheel, check them, and try each in empty environments of Python 3.11, 3.12 and 3.13
# make docs      the documentation as a site, into build/docs
# make lint      ruff, mypy, import contracts
# make format    let ruff format the code
# make screenshots  every state of the inline view as a picture, into screenshots/
# make readme    write the tables of README and manual anew from the code
# make notebooks run the notebooks of the manual, and store the outputs that have changed
# make pictures  take the manual's pictures in JupyterLab
# make clean     remove what these made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Beside $(VENV), which the tests themselves run in: one environment for the kernels of each pair.
MATRIX := .venv-matrix
FRAMEWORKS := .venv-frameworks
NODE := .venv-node
LATEST := .venv-latest
LOCKER := .venv-lock
RELEASE := .venv-release
# Every installation takes its versions from a lock file; `LOCKED=` does without.
LOCKED ?= 1
LOCK := requirements.lock
pins = $(if $(LOCKED),--constraint $(1) --build-constraint $(LOCK))
PIP_INSTALL := -m pip install --quiet
UPGRADE_PIP := $(PIP_INSTALL) --upgrade $(if $(LOCKED),--constraint $(LOCK)) "pip>=25.3"
PAIRS := $(patsubst tests/matrix/%.txt,%,$(wildcard tests/matrix/*.txt))
# Tests wait about as much as they compute: three workers share two cores well.
WORKERS ?= 3
MINUTES ?= 60
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# The tests start thousands of processes: they compile the package once, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := test
.PHONY: demo test test-all all-demo all-tests all-alone test-latest fuzz lock matrix frameworks bench docs node release-check lint format \
	readme screenshots notebooks pictures chromium clean

demo: $(VENV)/.demo-installed
	$(BIN)/python notebooks/demo.py

test: lint chromium
	$(PYTEST) -m "not slow"

# A step that fails does not keep the next ones from running.
test-all: lint chromium $(VENV)/.cluster-installed $(VENV)/.docs-installed
	$(MAKE) --keep-going all-demo all-tests all-alone $(if $(shell command -v npm),node) matrix frameworks
	@echo "make test-all: the demo, all tests, every version of IPython and all frameworks passed"

all-demo:
	$(BIN)/python notebooks/demo.py --no-lab

all-tests:
	$(PYTEST) -m "not alone"

all-alone:
	$(BIN)/python -m pytest -m alone

test-latest:
	rm -rf $(LATEST)
	$(MAKE) test VENV=$(LATEST) LOCKED=

fuzz: $(VENV)/.dev-installed
	$(BIN)/python -m tests.fuzz $(MINUTES)

matrix: $(PAIRS:%=matrix-%)

matrix-%: $(MATRIX)/%/.installed $(VENV)/.dev-installed
	KERNEL_PYTHON=$(CURDIR)/$(MATRIX)/$*/bin/python $(PYTEST) tests/kernel

frameworks: $(FRAMEWORKS)/.installed $(VENV)/.dev-installed
	WITH_FRAMEWORKS=1 KERNEL_PYTHON=$(CURDIR)/$(FRAMEWORKS)/bin/python $(PYTEST) tests/frameworks

bench: $(VENV)/.dev-installed
	$(BIN)/python -m tests.benchmarks

# Every warning is an error, also a link that leads nowhere. The first page has the name under which a server looks for it.
docs: $(VENV)/.docs-installed
	rm -rf build/docs
	$(BIN)/sphinx-build -q -E -W --keep-going -c notebooks/site . build/docs
	cp build/docs/README.html build/docs/index.html

node: $(NODE)/.installed $(VENV)/.dev-installed
	$(BIN)/python -m pytest tests/js tests/kernel/test_listen.py -k "js or node"

release-check: $(RELEASE)/.installed
	$(RELEASE)/bin/python -m tests.release_check $(call pins,$(LOCK))

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(VENV)/.dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshots: $(VENV)/.dev-installed chromium
	$(BIN)/python -m tests.browser.screenshots screenshots

readme: $(VENV)/.dev-installed
	$(BIN)/python -m tests.readme_tables --write

notebooks: $(VENV)/.dev-installed readme
	$(BIN)/python notebooks/demo.py --store

pictures: $(VENV)/.dev-installed chromium
	$(BIN)/python -m tests.browser.manual_pictures

$(VENV)/.pip-ready: $(LOCK)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(UPGRADE_PIP)
	touch $@

$(VENV)/.demo-installed: $(VENV)/.pip-ready pyproject.toml
	$(BIN)/python $(PIP_INSTALL) $(call pins,$(LOCK)) --editable ".[openai]" --group demo
	touch $@

$(VENV)/.dev-installed: $(VENV)/.pip-ready pyproject.toml
	$(BIN)/python $(PIP_INSTALL) $(call pins,$(LOCK)) --editable ".[openai]" --group test --group lint
	touch $@ $(VENV)/.demo-installed

$(MATRIX)/%/.installed: tests/matrix/%.txt tests/matrix/%.lock pyproject.toml
	$(PYTHON) -m venv $(MATRIX)/$*
	$(MATRIX)/$*/bin/python $(UPGRADE_PIP)
	$(MATRIX)/$*/bin/python $(PIP_INSTALL) $(call pins,tests/matrix/$*.lock) \
		--editable ".[openai]" --group clients --requirement $<
	touch $@

$(FRAMEWORKS)/.installed: $(wildcard tests/frameworks/*.txt tests/frameworks/*.lock) pyproject.toml
	$(PYTHON) -m venv $(FRAMEWORKS)
	$(FRAMEWORKS)/bin/python $(UPGRADE_PIP)
	$(FRAMEWORKS)/bin/python $(PIP_INSTALL) $(call pins,tests/frameworks/requirements.lock) \
		--editable . --requirement tests/frameworks/requirements.txt
	$(FRAMEWORKS)/bin/python $(PIP_INSTALL) --no-deps --upgrade --target $(FRAMEWORKS)/anthropic-0 \
		$(call pins,tests/frameworks/anthropic-0.lock) --requirement tests/frameworks/anthropic-0.txt
	touch $@

$(RELEASE)/.installed: $(LOCK) pyproject.toml
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python $(UPGRADE_PIP)
	$(RELEASE)/bin/python $(PIP_INSTALL) $(call pins,$(LOCK)) --group build
	touch $@

$(VENV)/.cluster-installed: $(VENV)/.dev-installed
	$(BIN)/python $(PIP_INSTALL) $(call pins,$(LOCK)) --group cluster
	touch $@

$(VENV)/.docs-installed: $(VENV)/.demo-installed
	$(BIN)/python $(PIP_INSTALL) $(call pins,$(LOCK)) --group docs
	touch $@

# One lock file for each environment: universal, so that it serves every Python from 3.11 on and every platform.
COMPILE = $(LOCKER)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate \
	--custom-compile-command "make lock" --output-file

lock:
	$(PYTHON) -m venv $(LOCKER)
	$(LOCKER)/bin/python $(PIP_INSTALL) --upgrade uv
	$(COMPILE) $(LOCK) --extra openai --group dev --group cluster --group docs --group build pyproject.toml
	for pair in $(PAIRS); do $(COMPILE) tests/matrix/$$pair.lock \
		--extra openai --group clients pyproject.toml tests/matrix/$$pair.txt || exit 1; done
	$(COMPILE) tests/frameworks/requirements.lock pyproject.toml tests/frameworks/requirements.txt
	$(COMPILE) tests/frameworks/anthropic-0.lock --no-deps tests/frameworks/anthropic-0.txt

$(NODE)/.installed:
	npm install --prefix $(NODE) --no-audit --no-fund --loglevel error typescript@5.9 @opentelemetry/api@1 @opentelemetry/sdk-node@0.223
	touch $@

chromium:
	@.ci/install-chromium

clean:
	rm -rf $(VENV) $(MATRIX) $(FRAMEWORKS) $(NODE) $(LATEST) $(LOCKER) $(RELEASE) demo-output build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

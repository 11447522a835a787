# Inside BERT. The two commands: `make lab` and `make test`; `make help` lists the others.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COLAB_VENV := .venv-colab
LESSON ?= 00_setup.ipynb

# JupyterLab asks the network for news and updates of its own; a course that works without one does not.
LAB_SETTINGS := $(VENV)/share/jupyter/lab/settings
QUIET_LAB := '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}'

# On Linux the torch of PyPI carries CUDA (several GB). Where no NVIDIA driver is found and PyTorch's own index can be
# reached, its CPU build of the same version is taken instead.
CPU_TORCH ?= https://download.pytorch.org/whl/cpu

define install_cpu_torch
	@if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1 && timeout 10 $(1)/bin/python -c \
	  "import urllib.request; urllib.request.urlopen('$(CPU_TORCH)/torch/', timeout=5)" 2>/dev/null; then \
	  $(1)/bin/python -m pip install --quiet --no-deps --index-url $(CPU_TORCH) "$$(grep '^torch==' requirements.lock)"; fi
endef

.DEFAULT_GOAL := help
.PHONY: help lab test test-offline test-browser test-colab test-full test-card test-thrice outputs lock clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

lab: $(VENV)/.ready  ## set everything up and open JupyterLab on the lessons (BROWSER=none: serve only)
	$(BIN)/jupyter lab --ServerApp.root_dir=notebooks --LabApp.default_url=/lab/tree/$(LESSON) \
	  $(if $(filter none,$(BROWSER)),--no-browser) $(if $(filter 0,$(shell id -u)),--allow-root)

test: $(VENV)/.ready  ## set everything up and run unit tests, all lessons (outputs compared) and meta-tests
	$(BIN)/python -m pytest $(ARGS)

test-offline: $(VENV)/.ready  ## the same, in a network namespace without any network (Linux)
	$(BIN)/python tests/ways/offline.py $(ARGS)

test-browser: $(VENV)/.browser  ## lesson 03 in headless Chromium, no network: every view drawn and used (Linux)
	@if ! command -v chromedriver >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  export DEBIAN_FRONTEND=noninteractive; apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core || \
	  echo "apt-get could not install Chromium"; fi
	$(BIN)/python tests/ways/browser.py $(ARGS)

test-colab: $(VENV)/.ready $(COLAB_VENV)/.ready  ## all lessons as Colab opens them: only the .ipynb, Colab's versions
	$(BIN)/python tests/ways/colab.py --environment $(COLAB_VENV)
	$(BIN)/python tests/ways/full.py --environment $(COLAB_VENV)

test-full: $(VENV)/.ready  ## all lessons in the full way, against a hub on this machine with stand-in weights
	$(BIN)/python tests/ways/full.py

test-card: $(VENV)/.ready  ## measure the embedded model again: does every figure of its card come out? (10 minutes)
	$(BIN)/python tests/ways/card.py $(ARGS)

test-thrice: $(VENV)/.ready  ## all lessons three times in a row: is any cell flaky?
	for turn in 1 2 3; do $(BIN)/python -m pytest notebooks || exit 1; done

outputs: $(VENV)/.ready  ## run the lessons from top to bottom and store their outputs
	$(BIN)/python tests/ways/outputs.py $(LESSONS)

lock: $(VENV)/.ready  ## resolve requirements.lock anew, for Python 3.10 to 3.13
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra lab --universal --python-version 3.10 --no-header --quiet --no-annotate \
	  --constraint <(grep '^torch==' requirements.lock) --output-file requirements.lock.new
	{ sed -n '/^#/p' requirements.lock; grep -vE '^(nvidia-|cuda-|triton)' requirements.lock.new; } > requirements.lock.tmp
	rm requirements.lock.new && mv requirements.lock.tmp requirements.lock
lock: SHELL := /bin/bash

clean:  ## remove the virtual environments
	rm -rf $(VENV) $(COLAB_VENV)

$(VENV)/.ready: requirements.lock requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 13) or sys.exit("Inside BERT needs Python \
	3.10 to 3.13, and this is %d.%d. Name another one: make lab PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(call install_cpu_torch,$(VENV))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@mkdir -p $(LAB_SETTINGS) && printf '%s\n' $(QUIET_LAB) > $(LAB_SETTINGS)/overrides.json
	@touch $@

$(VENV)/.browser: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock "$$($(BIN)/python -I -c \
	  "import importlib.metadata as m; print(*(r.split(';')[0] for r in m.requires('inside-bert') if 'browser' in r))")"
	@touch $@

$(COLAB_VENV)/.ready: tests/ways/colab-versions.txt requirements.lock
	$(PYTHON) -m venv --clear $(COLAB_VENV)
	$(call install_cpu_torch,$(COLAB_VENV))
	$(COLAB_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/ways/colab-versions.txt
	@touch $@

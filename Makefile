# Two commands set everything up: `make serve` and `make test`. With
# EXTRAS=tests,pretrained,peers,triton they install real weights, the transformers library and Triton
# too, and the tests that need them run.
PYTHON ?= python3.11
PORT ?= 8000
EXTRAS ?= tests
DEVICE ?= cpu
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export NO_MKDOCS_2_WARNING := 1

.PHONY: again help serve test check labs site bench lock clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

INSTALLED := $(shell cat .venv/installed 2>/dev/null)
.venv/installed: pyproject.toml constraints.txt $(if $(filter $(EXTRAS),$(INSTALLED)),,again)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@echo $(EXTRAS) > $@

serve: .venv/installed  ## build the site and serve it, rebuilt on every save; PORT=8001 for another port
	$(BIN)/mkdocs serve --dev-addr 127.0.0.1:$(PORT)

test: .venv/installed  ## every test, on every core
	$(BIN)/pytest -n auto

check: .venv/installed  ## lint, types and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto -m "not site and not browser"

labs: .venv/installed  ## run again the labs whose source or package code has changed
	$(BIN)/python -m attnbook.book.labs

site: .venv/installed  ## build the site into site/, strictly
	$(BIN)/mkdocs build --strict

bench: .venv/installed  ## time everything against its peers, for the benchmark page; DEVICE=cuda on a GPU
	$(BIN)/python -m attnbook.bench run --device $(DEVICE) --save

lock: .venv/installed  ## write constraints.txt from the versions installed now
	@grep -q pretrained,peers,triton .venv/installed || (echo 'lock with EXTRAS=tests,pretrained,peers,triton'; exit 1)
	(sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//') > constraints.new
	mv constraints.new constraints.txt

clean:  ## remove what the commands made
	rm -rf .venv .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache site

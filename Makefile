# `make demo` and `make test` are all that a newcomer needs; both make `.venv` when it is missing.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(CURDIR)/$(VENV)/bin
WORKERS ?= 2
export TF_CPP_MIN_LOG_LEVEL ?= 3
# An advertisement of the theme, printed at every build.
export NO_MKDOCS_2_WARNING := 1

.PHONY: help demo test soak check lint types doctest docs bench clean

help:
	@echo "make demo    the playbook on handwritten digits: a study, its pictures, a trained model"
	@echo "make test    the tests"
	@echo "make check   formatting, types of the installed wheel, doctests, documentation"
	@echo "make docs    the documentation into site/"
	@echo "make bench   the benchmarks (BENCH='--quick' for their short form)"
	@echo "make soak    the long fault campaigns"

# One stamp for each extra: installing again happens only when the requirements have changed.
$(VENV)/.installed-%: setup.cfg pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing tfplaybook[$*] into $(VENV). The first time this downloads TensorFlow."
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -e '.[$*]' \
		| awk '/^ *(Collecting|Downloading|Building|Installing)/ \
			{ printf "\r\033[K%s", substr($$0, 1, 78); fflush() } END { printf "\r\033[K" }'
	@touch $@

demo: $(VENV)/.installed-demo
	@$(BIN)/python examples/tune_digits.py

# The order of the files is that of tests/conftest.py.
test: $(VENV)/.installed-test
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not soak"

soak: $(VENV)/.installed-test
	@$(BIN)/python -m pytest -n $(WORKERS) -m soak

check: lint types doctest docs

lint: $(VENV)/.installed-check
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

# On the wheel, not on the checkout, so that what users install has its types and its files.
types: $(VENV)/.installed-check
	@scratch=$$(mktemp -d)
	trap 'rm -rf "$$scratch"' EXIT
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w "$$scratch" .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--target "$$scratch/site" "$$scratch"/*.whl
	cp pyproject.toml "$$scratch"
	cd "$$scratch"
	MYPYPATH="$$scratch/site" $(BIN)/mypy --cache-dir "$(CURDIR)/.mypy_cache"

doctest: $(VENV)/.installed-check
	@$(BIN)/python -m pytest -q --doctest-modules --doctest-glob="*.md" \
		tfplaybook pipelines docs README.md tests/test_public_names.py

docs: $(VENV)/.installed-check
	@$(BIN)/python -m mkdocs build --quiet --strict
	@echo "documentation: site/index.html"

bench: $(VENV)/.installed-bench
	@for benchmark in benchmarks/bench_*.py; do
		echo "== $$benchmark"
		$(BIN)/python "$$benchmark" $(BENCH)
	done

clean:
	rm -rf $(VENV) site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

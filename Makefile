# Two commands: `make demo` and `make test`. Both need Python 3.11 to 3.13 and make, nothing else.
PYTHON ?= python3
VENV ?= .venv
RUNS ?= runs/demo
BIN := $(VENV)/bin

.PHONY: demo test test-all lint types lock clean

demo: $(VENV)/runtime.stamp
	$(BIN)/python launch/train.py --config=configs/gfz_digits.py --workdir=$(RUNS)/gfz
	$(BIN)/python launch/train.py --config=configs/cnn_digits.py --workdir=$(RUNS)/cnn
	$(BIN)/python launch/evaluate.py --config=configs/attacks/fgsm_pgd_digits.py --workdir=$(RUNS)/gfz
	$(BIN)/python launch/evaluate.py --config=configs/attacks/fgsm_pgd_digits.py --workdir=$(RUNS)/cnn
	$(BIN)/python launch/report.py --workdirs=$(RUNS)/gfz,$(RUNS)/cnn --name=fgsm_pgd --out=$(RUNS)/report

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp
	$(BIN)/pyright --pythonpath $(BIN)/python

# The lock files hold every version with its hashes; `pip` refuses anything else.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else f"gencls needs Python 3.11 to 3.13, {sys.executable} is {v[0]}.{v[1]}; choose one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime.stamp: requirements/runtime.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/runtime.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/dev.stamp: requirements/dev.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@ $(VENV)/runtime.stamp

# Needs uv. The runtime lock is a subset of the dev lock, so both fit one environment.
COMPILE := uv pip compile pyproject.toml requirements/build.in --universal --fork-strategy fewest \
	--python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet
lock:
	$(COMPILE) --extra dev --extra tfds -o requirements/dev.lock
	grep -E '^[A-Za-z0-9_.-]+==' requirements/dev.lock | sed 's/ \\//' > requirements/constraints.tmp
	$(COMPILE) -c requirements/constraints.tmp -o requirements/runtime.lock
	rm requirements/constraints.tmp

clean:
	rm -rf $(RUNS) .pytest_cache .ruff_cache

# make demo | make test | make lint. PYTHON=python3.12 make test picks an interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2] if sys.version_info >= (3, 11) else "")')
RUN := $(VENV)/installed-$(VERSION)
DEV := $(VENV)/installed-dev-$(VERSION)

.PHONY: demo test lint clean

demo: $(RUN)
	rm -rf workdirs/demo
	$(BIN)/python -m experiments.sweep --config=configs/inception_digits.py --sweep=bottleneck \
	  --config.train.epochs=5.0 --workdir=workdirs/demo

test: $(DEV)
	$(BIN)/python -m pytest -n 2

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) workdirs/demo

# One environment a time: another interpreter, or changed requirements, make it anew.
$(RUN): requirements.txt
	@test -n "$(VERSION)" || { echo "error: PYTHON=$(PYTHON): accepted is Python 3.11 or newer" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(DEV): requirements-dev.txt requirements-search.txt $(RUN)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

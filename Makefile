# make demo | make test | make lint | make oldest | make bench. PYTHON=python3.12 make test picks an interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2] if sys.version_info >= (3, 11) else "")')
RUN := $(VENV)/installed-$(VERSION)
DEV := $(VENV)/installed-dev-$(VERSION)
BENCH_VENV := .venv-bench
BENCH := $(BENCH_VENV)/installed-$(VERSION)
BENCHMARK = $(BENCH_VENV)/bin/python -m benchmarks.$(1) --json workdirs/bench/$(1).json

.PHONY: demo test lint oldest bench clean

demo: $(RUN)
	rm -rf workdirs/demo
	$(BIN)/python -m experiments.sweep --config=configs/inception_digits.py --sweep=bottleneck \
	  --config.train.epochs=5.0 --workdir=workdirs/demo

test: $(DEV)
	$(BIN)/python -m pytest -n 2 --dist=loadfile

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The oldest versions that the requirements accept, in an environment of its own, with a Python of its own choice.
oldest:
	python=$$(.ci/interpreter) && "$$python" .ci/oldest.py

# One after the other, on a machine with nothing else to do.
bench: $(BENCH)
	$(call BENCHMARK,throughput) --tuned_pytorch
	$(call BENCHMARK,ops) --precisions float32 bfloat16
	$(call BENCHMARK,input)
	$(call BENCHMARK,startup)

clean:
	rm -rf $(VENV) $(BENCH_VENV) .venv-oldest workdirs/demo workdirs/oldest workdirs/bench

# One environment a time: another interpreter, or changed requirements, make it anew.
$(RUN): requirements.txt
	@test -n "$(VERSION)" || { echo "error: PYTHON=$(PYTHON): accepted is Python 3.11 or newer" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(DEV): requirements-dev.txt requirements-search.txt $(RUN)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(BENCH): requirements.txt requirements-bench.txt
	@test -n "$(VERSION)" || { echo "error: PYTHON=$(PYTHON): accepted is Python 3.11 or newer" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	@touch $@

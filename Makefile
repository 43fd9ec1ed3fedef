# make quickstart   set up .venv and run the main job on a real model
# make test         set up .venv and run the tests (no network once installed)
# make check        ruff, mypy, layers and sizes
# make bench        speed against TRL, transformers, llama.cpp and others, in an environment of their own (bench-tune, bench-score, ...; minutes)
# make acceptance   the real model on real data (minutes; ../shared/data where present)
# make acceptance-gpu   the same numbers on your GPU, and the speed expected of it (docs/scaling.md)

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: quickstart test check format acceptance acceptance-gpu bench bench-tune bench-score bench-read bench-curate bench-metrics bench-ask bench-serve bench-sandbox clean

quickstart: .venv/installed
	$(BIN)/etude run recipes/quickstart.yaml

test: .venv/installed-dev
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

check: .venv/installed-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py tests/test_sizes.py

format: .venv/installed-dev
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

acceptance: .venv/installed-dev
	$(BIN)/python -m pytest -m slow --durations=0

acceptance-gpu: .venv/installed-dev
	$(BIN)/python -m pytest tests/test_acceptance_gpu.py -m slow -rs -s

.venv/made:
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "etude needs Python 3.11 or newer; none was found. Install it, or say make PYTHON=/path/to/python"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) has no ensurepip, so it cannot make a virtual environment." \
		"On Debian or Ubuntu: apt install python3-venv. Or say make PYTHON=/path/to/another/python"; exit 2; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/made pyproject.toml constraints.txt
	@echo "installing (torch is 200 MB; a few minutes on the first run) ..."
	$(PIP) install --quiet --constraint constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# the peers have an environment of their own: their versions must not be ours
.venv-bench/installed: .venv/made constraints.txt benchmarks/peers.txt
	$(BIN)/python -m venv .venv-bench
	.venv-bench/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	.venv-bench/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt --requirement benchmarks/peers.txt
	@touch $@

bench-tune: .venv/installed .venv-bench/installed
	$(BIN)/python benchmarks/tune.py

bench-score: .venv/installed .venv-bench/installed
	$(BIN)/python benchmarks/score.py

bench-read: .venv/installed
	$(BIN)/python benchmarks/read.py

bench-curate: .venv/installed-dev
	$(BIN)/python benchmarks/curate.py

bench-metrics: .venv/installed-dev
	$(BIN)/python benchmarks/metrics.py

bench-ask: .venv/installed-dev
	$(BIN)/python benchmarks/ask.py

bench-serve: .venv/installed-dev
	$(BIN)/python benchmarks/serve.py

bench-sandbox: .venv/installed-dev
	$(BIN)/python benchmarks/sandbox.py

bench: bench-tune bench-score bench-read bench-curate bench-metrics bench-ask bench-serve bench-sandbox

clean:
	rm -rf .venv .venv-bench runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

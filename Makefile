# Everything a fresh checkout needs: `make run` opens the studio, `make test` runs the tests.
# Both install what is missing first, into .venv, and are quick the second time.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Spinning OpenMP threads slow a busy machine down tenfold and more.
export OMP_WAIT_POLICY = passive

.PHONY: run test check lint types contracts tour bench bench-gpu matrix clean

run: $(READY)
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname)" = Darwin ]; then \
	    $(BIN)/secateur sample:digits-resnet; \
	else \
	    echo "No display here: running the tour offscreen instead."; \
	    QT_QPA_PLATFORM=offscreen $(BIN)/secateur tour --out out/tour && \
	    echo "Its pictures, project, exports and report are in out/tour"; \
	fi

# The CUDA sources run on the CPU here, through a C++ compiler.
test: $(READY)
	sh installers/system-packages.sh g++
	$(BIN)/pytest

check: lint types contracts test

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The package is this folder under the name secateur; a link gives it that name for the checker.
types: $(READY)
	mkdir -p .venv/tree && ln -sfn ../.. .venv/tree/secateur
	cd .venv/tree && ../bin/mypy --config-file ../../pyproject.toml -p secateur

contracts: $(READY)
	$(BIN)/lint-imports

tour: $(READY)
	QT_QPA_PLATFORM=offscreen $(BIN)/secateur tour --out out/tour

bench: $(READY)
	for script in $(filter-out %/bench_gpu.py,$(wildcard tests/bench/bench_*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# At most 8 minutes on a machine with an NVIDIA GPU, without a display.
bench-gpu: $(READY)
	$(BIN)/python tests/bench/bench_gpu.py --out tests/bench/results/gpu.md

# Takes most of an hour, so it is no part of `make bench`.
matrix: $(READY)
	$(BIN)/python tests/bench/matrix.py

clean:
	rm -rf .venv build dist out *.egg-info

$(READY): pyproject.toml constraints.txt installers/system-packages.sh
	sh installers/system-packages.sh
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	    --editable '.[test]'
	rm -rf build
	touch $(READY)

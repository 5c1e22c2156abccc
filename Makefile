.PHONY: install run test lint bench

PORT ?= 9292
BIN = .venv/bin

install: .venv/installed

.venv/installed: pyproject.toml
	python3 -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[dev-server]' --group dev
	$(BIN)/python -m compileall -q src
	touch $@

# the identity service that tests start
.venv-keystone/installed: tests/kit/keystone.txt | .venv/installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-keystone
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-keystone/bin/python --requirement $<
	touch $@

run: install
	$(BIN)/tidegate dev --port $(PORT)

# more processes than cores, since many tests wait for something
test: install .venv-keystone/installed
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder $(TESTS)

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: install
	mkdir -p benchmarks/results
	$(BIN)/tidegate bench --scale 0.25 --repeat 3 --json benchmarks/results/bench.json --picture benchmarks/results/bench.svg
	$(BIN)/python benchmarks/core.py --json benchmarks/results/core.json --picture benchmarks/results/core.svg

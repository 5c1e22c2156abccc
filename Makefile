.PHONY: install run test lint bench

PORT ?= 9292
BIN = .venv/bin

install: .venv/installed

.venv/installed: pyproject.toml
	python3 -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[dev-server]' --group dev
	touch $@

run: install
	$(BIN)/tidegate dev --port $(PORT)

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# make demo   set everything up, run the whole journey on made images of ships
# make test   set everything up, pass the tests
# make check  what a commit must pass: format, lint, strict types, tests
# make bench  benchmarks, one claim each
# make lock   resolve requirements.txt anew from pyproject.toml (needs uv)

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test check bench lock clean

demo: $(READY)
	$(BIN)/segsmith demo demo

test: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

bench: $(READY)
	$(BIN)/python benchmarks/full_size_index.py

lock:
	uv pip compile -q --generate-hashes --universal --no-emit-index-url --group dev pyproject.toml -o requirements.txt

clean:
	rm -rf .venv demo

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "segsmith needs Python 3.11 or newer, not " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

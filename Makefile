# make demo   set everything up, run the whole journey on made images of ships
# make test   set everything up, pass the tests
# make check  what a commit must pass: format, lint, strict types, tests
# make bench  the benchmarks that need no data of others, one claim each (half an hour on two idle cores)
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
	for claim in full_size_index.py run_lengths.py augment_chain.py augment_libraries.py feeding.py training_speed.py \
	    "raster_speed.py bench/raster" export_cpu.py \
	    "growth.py bench/growth --sizes 100 1000 10000 --page bench/growth.html"; do \
	  echo "== $$claim"; $(BIN)/python benchmarks/$$claim || exit 1; \
	done

lock:
	uv pip compile -q --generate-hashes --universal --no-emit-index-url --group dev pyproject.toml -o requirements.txt

clean:
	rm -rf .venv demo bench

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "segsmith needs Python 3.11 or newer, not " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

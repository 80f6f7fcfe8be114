# Two commands on a fresh machine: `make demo` and `make test`. Each sets up what it needs in .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast golden check format bench bench-gpu docs pictures screenshots clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

# uv installs the pinned packages several times as fast as pip does; it comes by pip itself.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nonet needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[cpu,dev,docs]'
	@touch $@

demo: $(READY)  ## the whole story on drawn cells: report in demo/run/evaluation/report.html
	$(BIN)/nonet demo demo

# Two at a time: a test and the processes that it starts take a core each at most. A file's tests stay together, as they
# share what they train. Bytecode is written even where the environment says otherwise, as in many containers: else every
# process that a test starts would compile torch and timm again, for ten seconds and more.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

test: $(READY)  ## the tests
	$(PYTEST) -n 2 --dist loadfile

test-fast: $(READY)  ## the quick tests: no training, no killing, nothing end to end
	$(PYTEST) -n 2 --dist loadfile -m "not training and not kill and not end_to_end and not slow"

golden: $(READY)  ## store the words of the report and the cards as they are now; then read the difference in Git
	$(PYTEST) tests/unit/report/test_golden_page.py --renew-golden

check: $(READY)  ## lint, format, layers and types, without changing anything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(READY)  ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## how fast it predicts, trains, prepares and starts on this machine, in 20 minutes; results in benchmarks/
	$(BIN)/python benchmarks/predict.py --num-images 150 --ways '`openvino`' '`openvino-int8`' --out benchmarks/predict_drawn.md
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/prepare.py
	$(BIN)/python benchmarks/startup.py

bench-gpu: $(READY)  ## how near prediction and training come to a GPU's limit; result in benchmarks/gpu.md
	$(BIN)/python benchmarks/gpu.py

docs: $(READY)  ## the documentation, in docs/_build/html; fails on a broken link or an undocumented public name
	rm -rf docs/_build docs/reference/api
	$(BIN)/python docs/make_reference.py
	$(BIN)/python docs/check.py
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs docs/_build/html
	$(BIN)/python docs/check.py docs/_build/html
	@echo docs/_build/html/index.html

pictures: demo  ## draw the pictures of docs/images again
	$(BIN)/python docs/make_contact_sheet.py
	$(BIN)/python docs/make_result.py

screenshots: demo  ## take the pictures of the review page again; needs Chromium
	$(BIN)/python docs/make_screenshots.py

clean:  ## remove the environment, the demo and the documentation that was built
	rm -rf $(VENV) demo docs/_build docs/benchmarks docs/reference/api

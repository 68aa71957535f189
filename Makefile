# make demo | test | test-slow | check | format | figures | bench | study-NAME — each makes .venv itself when it is missing.
PYTHON ?= python3
BIN := .venv/bin
# Tests by as many processes as there are cores, up to four: each may need some GiB. One thread for each, also in BLAS.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal
export LANDSCAPE_DATA

.PHONY: demo test test-slow check format figures bench study-digits study-dependence

demo: .venv/.core
	$(BIN)/landscape demo

test: .venv/.dev
	$(PYTEST) -m "not slow"

# The rest of the tests: searches with many restarts, killed runs, wheels.
test-slow: .venv/.dev
	$(PYTEST) -m slow

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(PYTEST)

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

figures: .venv/.core
	$(BIN)/python -m landscape_figures.gallery figures/data figures/gallery figures/tables

# Trains 36 networks and measures them: about ten minutes. `make figures` draws the result.
study-digits: .venv/.core
	OMP_NUM_THREADS=1 $(BIN)/python -m landscape.study_digits studies/digits figures/data/correlation.safetensors

# The study of studies/NAME.toml, in JOBS processes, into figures/data/study-NAME.safetensors, and then what the commands
# of studies/NAME.sh make of its runs. It goes on where it was.
JOBS ?= 2
study-%: .venv/.core
	@test -e studies/$*.toml -o -e studies/$*.sh || { echo "no study $*: see studies/"; exit 2; }
	export OMP_NUM_THREADS=1 PATH="$(abspath $(BIN)):$$PATH"; set -e; if test -e studies/$*.toml; then \
	  landscape study studies/$*.toml --jobs $(JOBS); \
	  cp studies/$*/study.safetensors figures/data/study-$*.safetensors; fi; \
	if test -e studies/$*.sh; then bash studies/$*.sh studies/$* figures/data; fi

# How Keskar's φ depends on its settings: about five minutes.
study-dependence: .venv/.core
	$(BIN)/python -m landscape.study_keskar studies/dependence figures/data/keskar-dependence.safetensors

bench: .venv/.peers
	$(BIN)/python -m benchmarks.run

.venv/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/.dev: .venv/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# Peers to compare with. They pull in torchvision, which does not import beside a CPU build of torch and which
# none of them uses here; transformers would try to.
.venv/.peers: .venv/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --pre --editable '.[peers]'
	$(BIN)/python -m pip uninstall --quiet --yes torchvision
	touch $@

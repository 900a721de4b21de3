# The commands of the README. Each does all the set-up it needs, in .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
# Idle threads of torch must not spin while other processes want the cores.
export GOMP_SPINCOUNT ?= 3000

.PHONY: demo test check fuzz setup lock clean

demo: $(READY)
	$(BIN)/sonarium demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --no-loadscope-reorder

check: $(READY)
	$(BIN)/ruff check src tests scripts examples
	$(BIN)/ruff format --check src tests scripts examples
	$(BIN)/pyright
	$(BIN)/pytest -q tests/test_imports.py tests/test_house.py

# 20,000 damaged sound files of each format: twenty minutes on one core.
fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/fuzz_sounds.py --inputs 20000

setup: $(READY)

$(READY): requirements.lock pyproject.toml scripts/setup.sh
	PYTHON=$(PYTHON) sh scripts/setup.sh
	touch $@

# Pin what is installed now, after changing pyproject.toml and installing by hand.
lock:
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build

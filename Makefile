# Every target makes its own virtual environment in .venv, with the versions of constraints.txt.
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test quick base soak soak-disk soak-readers soak-network soak-processes soak-runs coverage lowest hashes check docs bench gpu clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# One arena that keeps its memory: threads of trials would otherwise give large tensors back and fault their pages in again,
# which takes a seventh of the time.
demo: export MALLOC_ARENA_MAX = 1
demo: export MALLOC_TRIM_THRESHOLD_ = 1000000000
demo: export MALLOC_MMAP_THRESHOLD_ = 1000000000
demo: $(VENV)/.installed  ## pull three cells, compose them, run photographs, validate one, draw a picture
	$(BIN)/python examples/demo.py

# One thread per worker, one worker per processor. An idle worker takes tests from the end of another's list, so that most files,
# and the fixtures their tests share, stay with one worker. Bytecode is kept even under
# PYTHONDONTWRITEBYTECODE: it halves collection.
PARALLEL := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n logical --dist worksteal --tb=short

test: $(VENV)/.installed  ## the whole test suite, and its dearest tests
	$(PARALLEL) --durations=25

quick: $(VENV)/.installed  ## the first case of every test not marked slow
	$(PARALLEL) --quick --durations=5

base:  ## tests of the wheel without extras, in .venv-base
	.ci/base

soak: soak-disk soak-readers soak-network soak-processes soak-runs  ## the long forms of the fault-injection tests

SOAK := BATTERIES_SOAK=1 OMP_NUM_THREADS=1 $(BIN)/pytest --durations=10

soak-disk: $(VENV)/.installed  ## its part of files: kills, failing disks, lost power
	$(SOAK) tests/batteries/io/test_kills.py tests/batteries/io/test_faulty_disk.py tests/batteries/io/test_power_loss.py \
	    tests/batteries/io/test_file_pair.py

soak-readers: $(VENV)/.installed  ## its part of readers: flips and mutants
	$(SOAK) tests/registry/transfer/test_flips.py tests/registry/transfer/test_mutants.py tests/registry/transfer/test_query.py \
	    tests/registry/stores/test_registry_card.py tests/registry/transfer/test_weight_checks.py \
	    tests/registry/catalog/test_version_ranges.py tests/batteries/packaging/test_foreign_checkpoint.py

soak-network: $(VENV)/.installed  ## its part of the network
	$(SOAK) tests/batteries/network/test_transport.py tests/batteries/network/test_transport_time.py \
	    tests/batteries/network/test_hub_repository.py tests/registry/stores/test_hub_faults.py

soak-processes: $(VENV)/.installed  ## its part of many processes and signals
	$(SOAK) tests/registry/stores/test_crowd.py tests/registry/cli/test_interruption.py

soak-runs: $(VENV)/.installed  ## its part of long runs
	$(SOAK) tests/batteries/training/test_training.py tests/batteries/packaging/test_adopted_function.py \
	    tests/registry/cli/test_train_and_validate.py tests/registry/cli/test_engine.py tests/registry/site/test_pages.py \
	    tests/examples/test_wiring.py tests/examples/test_interval_coverage.py tests/registry/viability/test_unhosted.py

# What stores, verifies and parses, by the tests that are about it.
PROVEN := batteries/cell batteries/io batteries/network batteries/packaging \
    registry/catalog registry/stores registry/transfer registry/trust
PROVING := $(PROVEN) $(addprefix tests/,$(PROVEN)) tests/registry/answers tests/registry/adoption tests/project/test_reprs.py \
    tests/registry/cli/test_cli.py tests/registry/cli/test_key.py tests/registry/cli/test_maintenance.py

coverage: $(VENV)/.installed  ## lines and branches of what stores, verifies and parses that no test runs
	rm -rf out/coverage
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -n logical --dist worksteal $(PROVING)
	-$(BIN)/coverage combine --quiet out/coverage  # the data of processes that tests kill may be damaged
	$(BIN)/coverage report

lowest:  ## the fast tests with the lowest versions of all dependencies, in .venv-lowest
	.ci/lowest

hashes:  ## write constraints-hashed.txt anew, from constraints.txt
	.ci/hashes

check: $(VENV)/.installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed  ## build the manual into out/manual, warnings as errors, and check its links
	OMP_NUM_THREADS=1 $(BIN)/python -m manual out/manual

bench: $(VENV)/.installed  ## run the benchmarks and write docs/benchmarks.md
	$(BIN)/python -m benchmarks

gpu: $(VENV)/.installed  ## the tests marked cuda and a short benchmark, if there is a GPU
	@if $(BIN)/python -c "import torch; raise SystemExit(not torch.cuda.is_available())"; then \
	    $(BIN)/pytest -m cuda && $(BIN)/python -m benchmarks.gpu; \
	else \
	    echo "make gpu: no GPU available to torch; nothing was run"; \
	fi

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .venv-base .venv-lowest .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.installed: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

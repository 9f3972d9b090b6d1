# `make sweep` runs the default study, `make test` the tests. Each target installs what it needs into .venv, once: after
# that none needs the package index, but `make bench`, `make pins` and `make test-versions`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

BENCHMARKS := training sweep search turnover tables augmentation residency frozen own_code dry_run gpu

.PHONY: sweep test test-long coverage test-load test-versions faults test-cluster bench reports pins notebook docs check clean help

help:
	@echo "make sweep   run the default study and write its report (installs into $(VENV) first)"
	@echo "make test    run the tests; as root on Debian, installs chromium and LaTeX for some of them first"
	@echo "make test-long   the tests that take a minute each and whose code others cover too"
	@echo "make coverage    the tests again, and which share of each room's lines they run (TESTS=tests/test_cli.py: some of them)"
	@echo "make test-load      the tests beside two processes that do nothing but compute (TIMES=3: so many times)"
	@echo "make test-versions  the tests with the oldest promised versions and with the newest; writes docs/versions.md"
	@echo "make faults  the fault campaign: drivers, workers, nodes, disks, clocks and files, each with what must come of it"
	@echo "make bench   measure the speed of everything beside the alternatives, on a machine with nothing else to do; writes"
	@echo "             benchmarks/results/ and the tables of docs/benchmarks.md (BENCH=--quick: seconds each, and the tables stay)"
	@echo "make check   lint, and check types strictly"
	@echo "make test-cluster   Slurm, nodes with addresses of their own, S3; as root, installs Slurm from Debian's packages"
	@echo "make reports remake the reports of the reference results, and the pictures in README and docs (needs chromium)"
	@echo "make pins    write the installed versions to cluster/constraints.txt"
	@echo "make docs    build the documentation in build/docs, check its links, and run its code blocks"
	@echo "make notebook   execute docs/tables-with-other-tools.md into the notebook beside it"
	@echo "make clean   remove $(VENV)"

sweep: $(INSTALLED)
	$(BIN)/python sweeps/ablation.py

test: $(INSTALLED) $(VENV)/moto/.installed
	tests/debian.sh
	$(BIN)/python -m pytest -n 2

coverage: $(VENV)/.installed-dev $(VENV)/moto/.installed
	rm -rf build/coverage
	-$(BIN)/coverage run -m pytest -n 2 $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage json --quiet
	$(BIN)/python tests/coverage_table.py build/coverage/coverage.json

test-long: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --long -m long

test-load: $(INSTALLED) $(VENV)/moto/.installed
	$(BIN)/python tests/load.py --times $(or $(TIMES),1)

test-versions:
	$(PYTHON) tests/versions/run.py $(VERSIONS)

faults: $(INSTALLED)
	tests/faults/debian.sh
	$(BIN)/python -m pytest tests/faults --faults -n 2 --durations 20

test-cluster: $(INSTALLED) $(VENV)/moto/.installed
	tests/cluster/debian.sh
	$(BIN)/python tests/cluster/run.py --write

# Peers go to folders of their own, which only their own runs see; those that cannot be installed are left out.
bench: $(INSTALLED)
	-$(BIN)/python -m pip install --quiet --upgrade --no-deps --target build/syne-tune syne-tune dill sortedcontainers
	-$(BIN)/python -m pip install --quiet --upgrade --target build/peers smac xgboost-cpu
	-$(BIN)/python -m pip install --quiet --upgrade --no-deps --target build/peers hpbandster netifaces serpent Pyro4 statsmodels patsy
	for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py $(BENCH) || exit 1; done
	[ -n "$(BENCH)" ] || $(BIN)/python docs/generate.py docs/benchmarks.md

pins: $(INSTALLED)
	@echo '# Made by `make pins`: the versions that were tested together, for every node.' > cluster/constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable >> cluster/constraints.txt

# -W: a link that leads nowhere is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m sphinx -W --keep-going --fresh-env --quiet --builder html --conf-dir docs . build/docs
	$(BIN)/python docs/check_site.py build/docs
	$(BIN)/python docs/check_blocks.py

notebook: $(INSTALLED)
	$(BIN)/python docs/make_notebook.py

reports: $(INSTALLED)
	for study in results/reference/*/study.json; do $(BIN)/python sweeps/report.py $$(dirname $$study) || exit 1; done
	$(BIN)/python docs/make_pictures.py results/reference/default

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV)

# Twice quiet: or the build backend warns of folders that are named like packages.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and "need Python 3.11 or newer, got %d.%d; set PYTHON=" % v)'
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch, ray and the rest into $(VENV) (a few minutes, several GB) …"
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --quiet --editable '.[test]'
	@touch $@

# The extras that tests do without.
$(VENV)/.installed-%: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --quiet --editable '.[$*]'
	@touch $@

# An S3 server for tests, in an environment of its own: its packages ask for others than ours.
$(VENV)/moto/.installed: | $(INSTALLED)
	$(BIN)/python -m venv $(VENV)/moto
	$(VENV)/moto/bin/python -m pip install --quiet --requirement tests/moto.txt
	@touch $@

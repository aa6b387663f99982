# Two commands do everything: `make reproduce` and `make test`. `python -m aevb` has the same steps.
PYTHON ?= python3
PROFILE ?= quick
VENV := .venv
RUN := $(VENV)/bin/python -m aevb

.PHONY: reproduce test check book notebooks compare bench data clean

reproduce: $(VENV)/ready  ## data, every chapter, the page, the table of claims
	$(RUN) reproduce --profile $(PROFILE)

test: $(VENV)/ready  ## everything CI runs
	$(RUN) test

check: $(VENV)/ready  ## what to run on every save, in a minute
	$(RUN) check

book: $(VENV)/ready  ## the page, from the committed notebooks
	$(RUN) book

notebooks: $(VENV)/ready  ## execute every chapter and update the committed notebooks
	$(RUN) notebooks

compare: $(VENV)/ready  ## recorded curves minus published ones, and the verdict on each claim
	$(RUN) compare

bench: $(VENV)/ready-to-bench book  ## speed, beside what it is to be compared with
	$(VENV)/bin/python -m benchmarks.training
	$(VENV)/bin/python -m benchmarks.marginal_likelihood
	$(VENV)/bin/python -m benchmarks.explorer
	$(VENV)/bin/python -m benchmarks.in_the_page

data: $(VENV)/ready  ## get and verify the data
	$(RUN) data

clean:  ## forget what this machine computed, and the page
	rm -rf _build results/live results/live-*

# the environment, from the exact pins, once and again whenever they change
$(VENV)/ready: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --requirement requirements.txt
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# the peers, which nothing else needs
$(VENV)/ready-to-bench: benchmarks/requirements.txt $(VENV)/ready
	$(VENV)/bin/python -m pip install --quiet --requirement benchmarks/requirements.txt
	touch $@

